//! Manifests: tables of messages with what the door saw of them, for `spam score` and `spam train`.
//!
//! Tab separated, columns found by the header line: `id` and `path` must be there (`path` is relative to the manifest's folder);
//! `ip`, `helo`, `rdns` and `mailfrom` are used where they are there. What only people know (`label`, `source`) is read by
//! training alone.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use mail_parser::DateTime;

use super::super::Failure;
use super::saved::with_crlf;
use crate::checks::DynamicNames;
use crate::mail::{Client, Domain, Envelope, Finding, MailParameters, Protocol, Recipient, ReversePath, SessionId, Timestamp};

/// One line of a manifest.
pub struct Item {
    pub id: String,
    pub path: PathBuf,
    cells: HashMap<&'static str, String>,
}

/// Columns that are read besides `id` and `path`.
const COLUMNS: [&str; 7] = ["ip", "helo", "rdns", "mailfrom", "label", "source", "year"];

impl Item {
    /// What a column holds; empty where it is not there.
    pub fn cell(&self, column: &str) -> &str {
        self.cells.get(column).map_or("", String::as_str)
    }

    /// The message as it would have come in, and its envelope.
    pub fn message(&self) -> Result<(Envelope, Vec<u8>), String> {
        let content = std::fs::read(&self.path).map_err(|error| format!("{}: {error}", self.path.display()))?;
        let content = with_crlf(&content);
        Ok((self.envelope(&content), content))
    }

    fn envelope(&self, content: &[u8]) -> Envelope {
        let reverse_name: Option<Domain> = self.cell("rdns").parse().ok();
        let address: Option<IpAddr> = self.cell("ip").parse().ok();
        let client = Client {
            findings: address.map_or_else(Vec::new, |address| self.findings(address, reverse_name.as_ref())),
            address: address.unwrap_or(IpAddr::V4([192, 0, 2, 1].into())),
            reverse_confirmed: reverse_name.is_some(),
            reverse_name,
            helo: self.cell("helo").to_owned(),
            // Where nothing is known of the door it must say nothing.
            protocol: if address.is_some() { Protocol::Esmtp } else { Protocol::Local },
            tls: None,
        };
        let recipient = "recipient@feedgate.invalid".parse().expect("an address");
        Envelope {
            id: SessionId::from_u64(0).expect("zero has less than 60 bits").message(1),
            received_at: received_at(content),
            client,
            reverse_path: self.cell("mailfrom").parse().unwrap_or(ReversePath::Null),
            parameters: MailParameters::default(),
            recipients: vec![Recipient::new(recipient)],
            size: content.len() as u64,
        }
    }

    /// What the checks of the door find without asking anybody; the rest stays unknown, so that it says nothing.
    fn findings(&self, address: IpAddr, name: Option<&Domain>) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut found = |id: &str, evidence: &str| findings.push(Finding::new(id, evidence));
        match (name, self.cells.get("rdns")) {
            (None, Some(_)) => found("no-reverse-name", ""),
            (Some(name), _) if DYNAMIC_NAMES.why(name, address).is_some() => found("dynamic-name", name.as_str()),
            _ => {}
        }
        match self.cell("helo") {
            "" => {}
            helo if helo.starts_with('[') => found("helo-literal", helo),
            helo if !helo.contains('.') || helo.parse::<IpAddr>().is_ok() => found("helo-not-a-name", helo),
            _ => {}
        }
        findings
    }
}

static DYNAMIC_NAMES: LazyLock<DynamicNames> = LazyLock::new(DynamicNames::builtin);

/// When the last host took it: the date of the newest Received field; without one, now would be a lie, so the Date's.
fn received_at(content: &[u8]) -> Timestamp {
    let head = &content[..content.len().min(64 << 10)];
    let text = String::from_utf8_lossy(head);
    let section = text.split("\r\n\r\n").next().unwrap_or_default().replace("\r\n\t", " ").replace("\r\n ", " ");
    let date_of = |name: &str, last: bool| {
        let line =
            section.split("\r\n").find(|line| line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name)))?;
        let value = if last { line.rsplit(';').next()? } else { &line[name.len()..] };
        DateTime::parse_rfc822(&format!("{}\n", value.trim())).filter(DateTime::is_valid).map(|date| date.to_timestamp())
    };
    let seconds = date_of("received:", true).or_else(|| date_of("date:", false)).unwrap_or_default();
    Timestamp(u64::try_from(seconds).unwrap_or_default().saturating_mul(1000))
}

/// Reads a manifest. Every line that cannot be used is named at once.
pub fn read(path: &Path) -> Result<Vec<Item>, Failure> {
    let text = std::fs::read(path).map_err(|error| Failure::CouldNot(format!("{}: {error}", path.display())))?;
    let text = String::from_utf8_lossy(&text);
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap_or_default().split('\t').collect();
    let place = |name: &str| header.iter().position(|column| column.trim() == name);
    let (Some(id), Some(file)) = (place("id"), place("path")) else {
        let text =
            format!("{}: the first line must name the columns, `id` and `path` among them, with tabs between", path.display());
        return Err(Failure::CouldNot(text));
    };
    let (mut items, mut wrong) = (Vec::new(), Vec::new());
    for (number, line) in lines.enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let cells: Vec<&str> = line.split('\t').collect();
        let cell = |at: Option<usize>| at.and_then(|at| cells.get(at)).map_or("", |cell| cell.trim());
        if cell(Some(id)).is_empty() || cell(Some(file)).is_empty() {
            wrong.push(format!("{}: line {} has no id or no path", path.display(), number + 2));
            continue;
        }
        items.push(Item {
            id: cell(Some(id)).to_owned(),
            path: folder.join(cell(Some(file))),
            cells: COLUMNS.iter().filter_map(|name| Some((*name, cell(Some(place(name)?)).to_owned()))).collect(),
        });
    }
    if wrong.is_empty() { Ok(items) } else { Err(Failure::CouldNot(wrong.join("\n"))) }
}

/// Does `work` for each item, on all processors, in the order of the items. A bar on standard error tells how far it is, when
/// that is a terminal.
pub fn each<T: Send>(
    items: &[Item],
    what: &'static str,
    work: impl Fn(&Item) -> Result<T, String> + Sync,
) -> Vec<Result<T, String>> {
    let bar = bar(items.len() as u64, what);
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let some = || {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(at) else { return done };
            done.push((at, work(item)));
            bar.inc(1);
        }
    };
    let mut done: Vec<(usize, Result<T, String>)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(some)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("judging does not panic")).collect()
    });
    bar.finish_and_clear();
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

pub fn bar(count: u64, what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}").expect("a template that was tried");
    let bar = ProgressBar::with_draw_target(Some(count), ProgressDrawTarget::stderr()).with_style(style);
    bar.set_message(what);
    bar
}
