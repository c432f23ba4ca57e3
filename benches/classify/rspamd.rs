//! rspamd on the same files, for the ratio: a process of its own with its rules as they are shipped, but without what asks the
//! network or keeps state (DNS lists, authentication, Redis, Bayes), on a unix socket in a scratch directory.
//!
//! What is counted is the CPU time of its worker, as the kernel counts it in `/proc`. Where rspamd is not installed or does not
//! start, that is said and nothing is compared.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use feedgate::admin::cli::spam::manifest::Item;

/// Messages that are sent first: it compiles expressions and scripts.
const WARM: usize = 200;
const AT_ONCE: usize = 16;
const STARTS_WITHIN: Duration = Duration::from_secs(60);
/// It compiles expressions in the background, and answers slowly until that is done.
const SETTLES_WITHIN: Duration = Duration::from_secs(180);
/// Clock ticks of `/proc/PID/stat`, in microseconds: the kernel's interface has 100 a second.
const TICK: f64 = 10_000.0;

const CONFIGURATION: &str = r#"
.include "/etc/rspamd/common.conf"
options {
  pidfile = "DIR/pid"; url_tld = "/usr/share/rspamd/effective_tld_names.dat"; filters = "chartable,regexp";
  dns { nameserver = ["127.0.0.1:1"]; timeout = 0.05s; retransmits = 0; sockets = 1; }
  control_socket = "DIR/control mode=0600"; cache_file = "DIR/cache"; hs_cache_dir = "DIR"; rrd = "";
  history_file = "DIR/history"; stats_file = "DIR/stats";
}
logging { type = "file"; filename = "DIR/log"; level = "error"; }
worker "normal" { bind_socket = "DIR/socket mode=0600"; count = 1; }
.include(priority=10,duplicate=merge) "DIR/off.conf"
"#;
/// What asks the network or keeps state.
const OFF: [&str; 22] = [
    "rbl",
    "spf",
    "dkim",
    "dmarc",
    "arc",
    "surbl",
    "asn",
    "fuzzy_check",
    "mx_check",
    "greylist",
    "ratelimit",
    "replies",
    "history_redis",
    "neural",
    "bayes_expiry",
    "dkim_signing",
    "url_redirector",
    "hfilter",
    "elastic",
    "milter_headers",
    "reputation",
    "known_senders",
];

pub fn compare(items: &[Item], ours: f64) {
    match measure(items) {
        Ok(theirs) => println!(
            "rspamd's worker: {theirs:.0} µs CPU a message; ours {ours:.0} µs, that is {:.2} of it ({:.1} times as fast)",
            ours / theirs,
            theirs / ours
        ),
        Err(why) => println!("no comparison with rspamd: {why}"),
    }
}

fn measure(items: &[Item]) -> Result<f64, String> {
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    let running = Running::start(directory.path())?;
    let warm = &items[..items.len().min(WARM)];
    running.check_all(warm)?;
    let children = || running.children();
    let worker = children().into_iter().find(|(_, name)| name.contains("normal")).ok_or("its worker was not found")?.0;
    settle(&children);
    running.check_all(warm)?;
    let (before, started) = (ticks(worker), Instant::now());
    let answered = running.check_all(items)?;
    let used = (ticks(worker).saturating_sub(before)) as f64 * TICK;
    println!(
        "rspamd answered {answered} of {} messages in {:.1} s, with {:.1} s CPU and {} MiB in its worker",
        items.len(),
        started.elapsed().as_secs_f64(),
        used / 1e6,
        resident(worker) >> 10
    );
    if answered == 0 || used == 0.0 { Err("it answered nothing".to_owned()) } else { Ok(used / answered as f64) }
}

/// Until nothing runs in the background.
fn settle(children: &impl Fn() -> Vec<(u32, String)>) {
    let started = Instant::now();
    let used = || children().iter().map(|(process, _)| ticks(*process)).sum::<u64>();
    let mut before = used();
    while started.elapsed() < SETTLES_WITHIN {
        std::thread::sleep(Duration::from_secs(3));
        let now = used();
        if now <= before + 5 {
            return;
        }
        before = now;
    }
}

struct Running {
    process: Child,
    socket: std::path::PathBuf,
}

impl Running {
    fn start(directory: &Path) -> Result<Running, String> {
        let off: String = OFF.iter().map(|module| format!("{module} {{ enabled = false; }}\n")).collect();
        let rest =
            "classifier \"bayes\" { enabled = false; }\nphishing { openphish_enabled = false; phishtank_enabled = false; }\n";
        let text = CONFIGURATION.replace("DIR", &directory.display().to_string());
        std::fs::write(directory.join("off.conf"), off + rest).map_err(|error| error.to_string())?;
        let configuration = directory.join("rspamd.conf");
        std::fs::write(&configuration, text).map_err(|error| error.to_string())?;
        let mut command = Command::new("rspamd");
        command.args(["-f", "-i", "-c"]).arg(&configuration).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => "rspamd is not installed".to_owned(),
            _ => format!("rspamd does not start: {error}"),
        })?;
        let running = Running { process, socket: directory.join("socket") };
        let started = Instant::now();
        while UnixStream::connect(&running.socket).is_err() {
            if started.elapsed() > STARTS_WITHIN {
                return Err(std::fs::read_to_string(directory.join("log")).unwrap_or_else(|_| "rspamd does not start".to_owned()));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(running)
    }

    /// Was the message answered?
    fn check(&self, item: &Item) -> Result<bool, String> {
        let Ok((_, content)) = item.message() else { return Ok(false) };
        let mut head =
            format!("POST /checkv2 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n", content.len());
        for (field, column) in [("IP", "ip"), ("Helo", "helo"), ("Hostname", "rdns"), ("From", "mailfrom")] {
            let value: String = item.cell(column).chars().filter(|letter| !letter.is_control()).collect();
            head += &if value.is_empty() { String::new() } else { format!("{field}: {value}\r\n") };
        }
        let failed = |error: std::io::Error| format!("its socket: {error}");
        let mut stream = UnixStream::connect(&self.socket).map_err(failed)?;
        stream.set_read_timeout(Some(STARTS_WITHIN)).map_err(failed)?;
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(b"\r\n")).map_err(failed)?;
        stream.write_all(&content).map_err(failed)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).map_err(failed)?;
        Ok(answer.starts_with(b"HTTP/1.1 200"))
    }

    /// How many were answered. Several at once: it waits for names that nobody resolves, which costs no processor.
    fn check_all(&self, items: &[Item]) -> Result<usize, String> {
        let some = |first: usize| {
            items.iter().skip(first).step_by(AT_ONCE).map(|item| self.check(item).map(usize::from)).sum::<Result<usize, String>>()
        };
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..AT_ONCE).map(|first| scope.spawn(move || some(first))).collect();
            clients.into_iter().map(|client| client.join().expect("a client does not panic")).sum::<Result<usize, String>>()
        })
    }

    /// Its processes with their names.
    fn children(&self) -> Vec<(u32, String)> {
        let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let processes = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let ours = processes.filter(|process| stat(*process, 1) == Some(u64::from(self.process.id())));
        ours.map(|process| (process, std::fs::read_to_string(format!("/proc/{process}/cmdline")).unwrap_or_default())).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It ends its workers itself when it is asked to.
        if let Some(process) = rustix::process::Pid::from_raw(self.process.id().cast_signed()) {
            let _ = rustix::process::kill_process(process, rustix::process::Signal::TERM);
        }
        let started = Instant::now();
        while matches!(self.process.try_wait(), Ok(None)) && started.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A number of `/proc/PID/stat`, counted from the state behind the name.
fn stat(process: u32, place: usize) -> Option<u64> {
    let line = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    line.rsplit_once(')')?.1.split_whitespace().nth(place)?.parse().ok()
}

/// CPU time in user space and in the kernel.
fn ticks(process: u32) -> u64 {
    stat(process, 11).unwrap_or_default() + stat(process, 12).unwrap_or_default()
}

/// In kilobytes, of pages of 4.
fn resident(process: u32) -> u64 {
    stat(process, 21).unwrap_or_default() * 4
}
