//! Real processes for end-to-end tests: the gateway's own binary, and servers and clients nobody here wrote. Each guard takes
//! its process down when it is dropped. A server that is missing fails the test; nothing is skipped.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long anything may take before a test gives up on it; reached only when something is broken.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Asks again and again until there is an answer.
#[track_caller]
pub fn wait_for<T>(what: &str, mut question: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = question() {
            return answer;
        }
        assert!(started.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A port nobody listens on at this moment.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

pub fn wait_for_port(port: u16) {
    wait_for(&format!("port {port}"), || TcpStream::connect(("127.0.0.1", port)).ok());
}

/// A file of the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A child process that does not outlive its test.
pub struct Process(pub Child);

impl Process {
    #[track_caller]
    pub fn start(command: &mut Command) -> Process {
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.stdin(Stdio::null()).spawn();
        Process(child.unwrap_or_else(|error| panic!("{program} cannot be started ({error}); tests/run installs what tests need")))
    }

    /// SIGKILL, as a power switch would.
    pub fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    pub fn terminate(&mut self) {
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A running gateway with its own data directory.
pub struct Gateway {
    process: Process,
    pub directory: TempDir,
    pub smtp: SocketAddr,
    log: Log,
}

/// What a gateway has said so far.
type Log = Arc<Mutex<Vec<String>>>;

/// Tests send everything from one address.
pub const UNLIMITED: &str = "sessions_per_client = \"10000000/1m\"\nmessages_per_client = \"10000000/1m\"\n\
    recipients_per_client = \"10000000/1m\"\nerrors_per_client = \"10000000/1m\"\nmessages_per_sender_domain = \"10000000/1m\"\n";

/// Tests that are not about checks of the client have none.
pub const UNCHECKED: &str = "[checks]\nreverse_dns = \"off\"\nforward_confirmed = \"off\"\ndynamic_name = \"off\"\n\
    helo = \"off\"\ndmarc = \"off\"\nearly_talker_wait = \"0s\"\n";

/// What every test configuration begins with. DNS leads nowhere, at once.
fn preamble(directory: &Path, clamd: &Path) -> String {
    format!(
        "hostname = \"mx1.isp.test\"\ndata_dir = \"{}\"\npostmaster = \"postmaster@up.test\"\n\
         [smtp]\nlisten = [\"127.0.0.1:0\"]\nsize_max = \"20MiB\"\n\
         [dns]\nservers = [\"127.0.0.1:1\"]\ntimeout = \"1s\"\n\
         [clamav]\naddress = [\"unix:{}\"]\n\
         [admin]\nlisten = \"\"\n[log]\nformat = \"json\"\n\
         [limits]\nconnections_per_client = 500\n{UNLIMITED}{UNCHECKED}",
        directory.join("data").display(),
        clamd.display()
    )
}

/// The section of a domain whose server listens on `port`.
pub fn domain(name: &str, port: u16, more: &str) -> String {
    format!("[domains.\"{name}\"]\ndeliver_to = [\"127.0.0.1:{port}\"]\ngreylist = false\n{more}\n")
}

impl Gateway {
    /// Starts it with these sections after the common ones and waits until it listens.
    pub fn start(clamd: &Path, sections: &str) -> Gateway {
        Gateway::start_with(clamd, &[], sections)
    }

    /// The same with these pieces of the common sections replaced by others.
    #[track_caller]
    pub fn start_with(clamd: &Path, changes: &[(&str, &str)], sections: &str) -> Gateway {
        let directory = prepare(clamd, changes, sections);
        let (process, smtp, log) = launch(directory.path());
        Gateway { process, directory, smtp, log }
    }

    /// Starts it again on the same data, after `kill` or `stop`.
    pub fn restart(&mut self) {
        (self.process, self.smtp, self.log) = launch(self.directory.path());
    }

    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// SIGTERM, and waits for the end; the exit status says whether it was a clean one.
    pub fn stop(&mut self) -> bool {
        self.process.terminate();
        wait_for("the gateway to stop", || self.process.0.try_wait().expect("it can be waited for")).success()
    }

    pub fn reload(&self) {
        let status = Command::new("kill").args(["-HUP", &self.process.0.id().to_string()]).status();
        assert!(status.is_ok_and(|status| status.success()));
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.0.id()
    }

    pub fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    pub fn config(&self) -> PathBuf {
        self.directory.path().join("feedgate.toml")
    }

    /// Lines of the log that contain `text`.
    pub fn logged(&self, text: &str) -> Vec<String> {
        self.log.lock().expect("readable").iter().filter(|line| line.contains(text)).cloned().collect()
    }

    /// Runs a command against it.
    pub fn command(&self, arguments: &[&str]) -> Output {
        command(&self.config(), arguments)
    }

    /// Runs a command that must succeed and returns what it printed.
    #[track_caller]
    pub fn ask(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "feedgate {arguments:?}: {out}{err}");
        out.into_owned()
    }

    /// The same with `--json`.
    #[track_caller]
    pub fn ask_json(&self, arguments: &[&str]) -> serde_json::Value {
        let text = self.ask(&[arguments, &["--json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("feedgate {arguments:?} --json: {error}: {text}"))
    }
}

/// `feedgate --config FILE …`
pub fn command(config: &Path, arguments: &[&str]) -> Output {
    Command::new(binary()).arg("--config").arg(config).args(arguments).stdin(Stdio::null()).output().expect("the binary runs")
}

/// A new directory with a configuration in it.
#[track_caller]
pub fn prepare(clamd: &Path, changes: &[(&str, &str)], sections: &str) -> TempDir {
    let directory = tempfile::tempdir().expect("a scratch directory");
    let mut text = preamble(directory.path(), clamd) + sections;
    for (before, after) in changes {
        assert!(text.contains(before), "{before} is not in {text}");
        text = text.replace(before, after);
    }
    std::fs::write(directory.path().join("feedgate.toml"), text).expect("the configuration can be written");
    directory
}

/// `feedgate serve` in a directory made by [`prepare`].
pub fn serve(directory: &Path) -> Command {
    serve_by(binary(), directory)
}

/// The same by the optimised binary where `FEEDGATE_RELEASE_BIN` names it, as `tests/run` does: crashes are looked for in what
/// operators run.
pub fn serve_release(directory: &Path) -> Command {
    serve_by(std::env::var_os("FEEDGATE_RELEASE_BIN").unwrap_or_else(binary), directory)
}

fn serve_by(binary: OsString, directory: &Path) -> Command {
    let mut command = Command::new(binary);
    command.arg("--config").arg(directory.join("feedgate.toml")).arg("serve");
    command
}

pub fn binary() -> OsString {
    std::env::var_os("FEEDGATE_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_feedgate").into())
}

fn launch(directory: &Path) -> (Process, SocketAddr, Log) {
    let mut life = Life::begin(&mut serve(directory));
    let smtp = life.wait_until_it_listens();
    (life.process, smtp, life.log)
}

/// A gateway from its start on, which tests may cut short.
pub struct Life {
    pub process: Process,
    log: Log,
    /// Copies its stderr to `log`.
    reader: std::thread::JoinHandle<()>,
}

impl Life {
    pub fn begin(command: &mut Command) -> Life {
        let mut process = Process::start(command.stderr(Stdio::piped()));
        let log = Log::default();
        let stderr = BufReader::new(process.0.stderr.take().expect("it is piped"));
        let lines = Arc::clone(&log);
        let reader = std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                lines.lock().expect("writable").push(line);
            }
        });
        Life { process, log, reader }
    }

    /// Kills it; all that it has said.
    pub fn kill(mut self) -> Vec<String> {
        self.process.kill();
        self.reader.join().expect("the reader does not panic");
        std::mem::take(&mut self.log.lock().expect("readable"))
    }

    /// It ended by itself: a start that failed.
    pub fn has_ended(&mut self) -> bool {
        self.process.0.try_wait().expect("it can be waited for").is_some()
    }

    /// SIGTERM, and waits for the end; whether it was a clean one.
    pub fn terminate(&mut self) -> bool {
        self.process.terminate();
        wait_for("the gateway to stop", || self.process.0.try_wait().expect("it can be waited for")).success()
    }

    /// Where it listens for SMTP, once it does. Panics with its log when it ends before, or takes too long.
    #[track_caller]
    pub fn wait_until_it_listens(&mut self) -> SocketAddr {
        let started = Instant::now();
        loop {
            if let Some(smtp) = self.listens_on() {
                return smtp;
            }
            let ended = self.process.0.try_wait().expect("it can be waited for");
            assert!(ended.is_none() && started.elapsed() < PATIENCE, "the gateway did not start: {:#?}", self.log.lock());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// `None`: not yet.
    pub fn listens_on(&self) -> Option<SocketAddr> {
        let log = self.log.lock().expect("readable");
        let line = log.iter().find(|line| line.contains("listening for SMTP"))?;
        let in_text = || line.split("address=").nth(1)?.split(' ').next().map(str::to_owned);
        let in_json = |line: serde_json::Value| line["address"].as_str().map(str::to_owned);
        serde_json::from_str(line).map_or_else(|_| in_text(), in_json)?.parse().ok()
    }
}

/// Postfix's smtp-sink as a customer's server; each message in a file of its own.
pub struct Sink {
    _process: Process,
    pub directory: TempDir,
    pub port: u16,
}

impl Sink {
    pub fn start() -> Sink {
        Sink::start_on(free_port(), &[])
    }

    pub fn start_on(port: u16, options: &[&str]) -> Sink {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let mut command = Command::new(program("smtp-sink"));
        command.current_dir(directory.path()).args(["-u", &user(), "-d", "mail."]).args(options);
        // smtp-sink gives up root: it must be able to write where it runs.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(directory.path(), open).expect("permissions can be set");
        let process = Process::start(command.arg(format!("127.0.0.1:{port}")).arg("500"));
        wait_for_port(port);
        Sink { _process: process, directory, port }
    }

    /// The messages that came in whole, as it wrote them.
    pub fn messages(&self) -> Vec<String> {
        let files = std::fs::read_dir(self.directory.path()).expect("it can be listed").flatten();
        files
            .filter_map(|file| std::fs::read(file.path()).ok())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .collect()
    }

    /// Waits for the message that contains `text`.
    #[track_caller]
    pub fn wait_for_message(&self, text: &str) -> String {
        wait_for(&format!("a message with {text:?}"), || self.messages().into_iter().find(|message| message.contains(text)))
    }
}

/// A program that may live in sbin, which is not on everybody's path.
pub fn program(name: &str) -> PathBuf {
    let places = ["/usr/sbin", "/usr/bin", "/usr/local/bin", "/usr/local/sbin"];
    let found = places.iter().map(|place| Path::new(place).join(name)).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("{name} is missing; tests/run installs what tests need"))
}

/// Whom smtp-sink becomes: it refuses to run as root.
fn user() -> String {
    let output = Command::new("id").arg("-un").output().expect("id runs");
    let name = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if name == "root" { "postfix".to_owned() } else { name }
}
