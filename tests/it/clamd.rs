//! A real clamd for one test: its own configuration, database, directory and unix socket; gone when the test ends.
//!
//! It is up in a tenth of a second, so nothing is shared between tests. A missing clamd is a failure, never a skipped test:
//! `tests/run` installs it.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use feedgate::config::ClamdAddress;
use tempfile::TempDir;

/// A running clamd with the signatures of `tests/clamav`.
pub struct Clamd {
    process: Child,
    directory: TempDir,
    socket: PathBuf,
}

impl Clamd {
    /// As `tests/clamav/clamd.conf.in` says.
    pub fn start() -> Clamd {
        Clamd::start_with(&repository().join("tests/clamav"), "")
    }

    /// With these lines of clamd.conf instead of the template's.
    pub fn start_limited(lines: &str) -> Clamd {
        Clamd::start_with(&repository().join("tests/clamav"), lines)
    }

    /// A scanner that works and finds nothing: its database has one signature, and not that of EICAR.
    pub fn start_blind() -> Clamd {
        let database = tempfile::tempdir().unwrap();
        std::fs::write(database.path().join("nothing.ndb"), "Nothing:0:*:00112233445566778899aabbccddeeff\n").unwrap();
        Clamd::start_with(database.path(), "")
    }

    fn start_with(database: &Path, lines: &str) -> Clamd {
        let directory = tempfile::Builder::new().prefix("feedgate-clamd.").tempdir().unwrap();
        let template = std::fs::read_to_string(repository().join("tests/clamav/clamd.conf.in")).unwrap();
        let filled_in = template
            .replace("@DIRECTORY@", directory.path().to_str().unwrap())
            .replace("@DATABASE@", database.to_str().unwrap())
            .replace("@USER@", &user());
        std::fs::write(directory.path().join("clamd.conf"), with_lines(&filled_in, lines)).unwrap();
        // AppArmor's profile of clamd goes by its path and keeps it out of a scratch directory.
        // Not fs::copy: another test may fork while the copy is open here, and a file open for writing cannot be run.
        let copied = Command::new("cp").arg(program()).arg(directory.path().join("clamd")).status();
        assert!(copied.is_ok_and(|status| status.success()), "clamd can be copied");
        let process = run(directory.path());
        let socket = directory.path().join("clamd.sock");
        let mut clamd = Clamd { process, directory, socket };
        clamd.wait_until_it_answers();
        clamd
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// As the settings name it.
    pub fn address(&self) -> ClamdAddress {
        ClamdAddress::Unix(self.socket.clone())
    }

    /// kill -9. The socket stays behind, and nobody listens.
    pub fn stop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// After [`Clamd::stop`], on the same socket.
    pub fn start_again(&mut self) {
        self.process = run(self.directory.path());
        self.wait_until_it_answers();
    }

    fn wait_until_it_answers(&mut self) {
        let patience = Instant::now() + Duration::from_secs(30);
        while !self.answers() {
            let ended = self.process.try_wait().unwrap();
            if ended.is_some() || Instant::now() > patience {
                let log = std::fs::read_to_string(self.directory.path().join("clamd.log")).unwrap_or_default();
                panic!("clamd does not start ({ended:?}):\n{log}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn answers(&self) -> bool {
        let ping = || {
            let mut stream = UnixStream::connect(&self.socket)?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            stream.write_all(b"zPING\0")?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).map(|_| answer)
        };
        ping().is_ok_and(|answer| answer == b"PONG\0")
    }
}

impl Drop for Clamd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn run(directory: &Path) -> Child {
    let log = std::fs::File::create(directory.join("clamd.log")).unwrap();
    let mut clamd = Command::new(directory.join("clamd"));
    clamd.arg(format!("--config-file={}", directory.join("clamd.conf").display()));
    clamd.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    clamd.spawn().expect("the copy of clamd runs")
}

/// Daemons are not in everybody's path.
fn program() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from));
    let mut candidates = directories.map(|directory| directory.join("clamd"));
    candidates.find(|program| program.is_file()).expect("this test needs clamd (Debian: clamav-daemon); tests/run installs it")
}

/// clamd that is started by root becomes the user of its configuration.
fn user() -> String {
    let id = Command::new("id").arg("-un").output().expect("id runs");
    String::from_utf8(id.stdout).unwrap().trim().to_owned()
}

/// The template without the options that `lines` set, and `lines`: clamd refuses an option that stands there twice.
fn with_lines(template: &str, lines: &str) -> String {
    let option = |line: &str| line.split_whitespace().next().map(str::to_owned);
    let set: Vec<_> = lines.lines().filter_map(option).collect();
    let kept = template.lines().filter(|line| option(line).is_none_or(|option| !set.contains(&option)));
    kept.chain(lines.lines()).map(|line| format!("{line}\n")).collect()
}
