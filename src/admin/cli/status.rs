//! `feedgate status` and `feedgate reload`: the gateway as a whole.

use super::{Context, Failure};
use crate::admin::answers::{ReloadReport, Status};
use crate::admin::output::{Grid, counted, moment, printable, relative, size, span};
use crate::mail::Timestamp;
use crate::queue::{OutageState, OutageView};
use crate::store::Account;

/// Domains shown; the ones with the oldest mail come first.
const DOMAINS_SHOWN: usize = 20;
/// Outages shown; the longest come first.
const OUTAGES_SHOWN: usize = 20;

pub async fn run(context: &Context) -> Result<(), Failure> {
    let status: Status = context.client()?.get("/v1/status").await?;
    context.show(&status, |status| text(status, context.width))
}

pub async fn reload(context: &Context) -> Result<(), Failure> {
    let report: ReloadReport = context.client()?.post("/v1/reload", &()).await?;
    context.show(&report, |report| format!("In force: {}\n", report.text))
}

fn text(status: &Status, width: Option<usize>) -> String {
    let now = status.now;
    let mut text = String::new();
    let mut add = |name: &str, value: &str| text += &format!("{name:<10} {}\n", printable(value));
    let up = span(now.since(status.started_at));
    add("feedgate", &format!("{} on {}, up {up} (since {})", status.version, status.hostname, moment(status.started_at)));
    add("sessions", &format!("{} open", status.sessions));
    add("scanner", &format!("{}: {}", if status.scanner.up { "up" } else { "AWAY, mail waits" }, status.scanner.text));
    add("spool", &spool_text(status));
    add("queue", &queue_text(status));
    add("ledger", &ledger_text(&status.ledger));
    for outage in status.outages.iter().take(OUTAGES_SHOWN) {
        let lines = outage_lines(outage, now);
        lines.iter().zip(std::iter::once("outage").chain(std::iter::repeat(""))).for_each(|(line, name)| add(name, line));
    }
    if let Some(more) = status.outages.len().checked_sub(OUTAGES_SHOWN).filter(|more| *more > 0) {
        add("outage", &format!("{more} more domains; --json shows all"));
    }
    for extension in status.extensions.iter().take(DOMAINS_SHOWN) {
        let (domain, until) = (&extension.domain, moment(extension.until));
        text += &format!("{:<10} {domain} until {until}, by {}\n", "extended", printable(&extension.by));
    }
    if !status.queue.per_domain.is_empty() {
        text += &format!("\n{}", domains_text(status, width));
    }
    text
}

fn spool_text(status: &Status) -> String {
    let spool = &status.spool;
    let free = spool.free_bytes.map_or("free space unknown".to_owned(), |free| format!("{} free", size(free)));
    let taking = if spool.accepting { "taking mail" } else { "FULL, new mail is answered 452" };
    format!("{}, {free}, {taking} (reserve {})", spool.data_dir.display(), size(spool.reserve_bytes))
}

fn queue_text(status: &Status) -> String {
    let queue = &status.queue;
    let scan = if queue.awaiting_scan > 0 { format!(", {} awaiting their scan", queue.awaiting_scan) } else { String::new() };
    let recipients = format!("{} waiting, {} held, {} quarantined", queue.waiting, queue.held, queue.quarantined);
    format!("{}{scan}; recipients: {recipients}", counted(queue.messages, "message"))
}

/// Every recipient ever accepted; `queue verify` shows it by domain.
fn ledger_text(account: &Account) -> String {
    let Account { accepted, delivered, bounced, deleted, rejected, .. } = account;
    let here = account.waiting + account.held + account.quarantined;
    let ends = format!("{delivered} delivered, {here} here, {bounced} bounced, {deleted} deleted, {rejected} rejected");
    let balance = match account.missing() {
        0 => String::new(),
        missing => format!("; {missing} MISSING (feedgate queue verify)"),
    };
    format!("{accepted} recipients accepted = {ends}{balance}")
}

/// What an operator needs to know of an outage, and what can be done.
pub(super) fn outage_lines(outage: &OutageView, now: Timestamp) -> Vec<String> {
    let OutageView { domain, state, since, why, messages, first_bounce, probe_at, .. } = outage;
    let waiting = counted(*messages as u64, "message");
    let lasts = span(now.since(*since));
    if *state == OutageState::Draining {
        let lasted = format!("an outage since {} ({lasts})", moment(*since));
        return vec![format!("{domain} is draining: {waiting} waiting after {lasted}")];
    }
    // Nobody is away, and nothing bounces for it.
    if *state == OutageState::Busy {
        let first = format!(
            "{domain} has too many connections since {} ({lasts}): fewer go at a time, {waiting} waiting",
            moment(*since)
        );
        return vec![first, why.clone()];
    }
    let mut text = format!("{domain} is {} since {} ({lasts}), {waiting} waiting", state.as_str(), moment(*since));
    if let Some(first_bounce) = first_bounce {
        text += &format!(", the first bounces {}", relative(*first_bounce, now));
    }
    if let Some(probe_at) = probe_at {
        text += &format!("; next probe {}", relative(*probe_at, now));
    }
    let more_time = (*state == OutageState::Down).then(|| format!("more time: feedgate queue extend {domain} 5d"));
    [text, why.clone()].into_iter().chain(more_time).collect()
}

fn domains_text(status: &Status, width: Option<usize>) -> String {
    let mut domains: Vec<_> = status.queue.per_domain.iter().collect();
    domains.sort_by_key(|counts| (counts.oldest.is_none(), counts.oldest, &counts.domain));
    let mut grid = Grid::new(&["DOMAIN", "WAITING", "HELD", "QUARANTINED", "OLDEST", "LAST REPLY"], &["DOMAIN", "LAST REPLY"]);
    for counts in domains.iter().take(DOMAINS_SHOWN) {
        grid.row([
            counts.domain.clone(),
            counts.waiting.to_string(),
            counts.held.to_string(),
            counts.quarantined.to_string(),
            counts.oldest.map_or("-".to_owned(), |oldest| relative(oldest, status.now)),
            if counts.last_reply.is_empty() { "-".to_owned() } else { counts.last_reply.clone() },
        ]);
    }
    let more = domains.len().saturating_sub(DOMAINS_SHOWN);
    let hint = if more > 0 { format!("{more} more; --json shows all\n") } else { String::new() };
    format!("{}{hint}", grid.render(width, 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::answers::{Scanner, Spool};
    use crate::queue::{Counts, DomainCounts, Extension, Stage};
    use std::time::Duration;

    const NOW: Timestamp = Timestamp(1_795_214_160_000);

    #[test]
    fn the_whole_gateway_on_one_screen_the_worst_first() {
        let domain = |name: &str, hours: u64, reply: &str| DomainCounts {
            domain: name.to_owned(),
            waiting: 3,
            oldest: (hours > 0).then(|| NOW - Duration::from_secs(hours * 3600)),
            last_reply: reply.to_owned(),
            ..DomainCounts::default()
        };
        let status = Status {
            version: "0.1.0".to_owned(),
            hostname: "mx1.isp.example".to_owned(),
            now: NOW,
            started_at: NOW - Duration::from_secs(3 * 86_400),
            sessions: 12,
            scanner: Scanner { up: false, text: "no clamd answers".to_owned() },
            spool: Spool {
                data_dir: "/var/lib/feedgate".into(),
                free_bytes: Some(12 << 30),
                reserve_bytes: 256 << 20,
                index_behind: 0,
                accepting: true,
            },
            queue: Counts {
                messages: 6,
                awaiting_scan: 1,
                waiting: 6,
                per_domain: vec![domain("a.example", 1, ""), domain("b.example", 30, "connect to 203.0.113.5:25: refused")],
                ..Counts::default()
            },
            ledger: Account { accepted: 20, waiting: 6, delivered: 13, bounced: 1, ..Account::default() },
            outages: vec![OutageView {
                domain: "b.example".to_owned(),
                state: OutageState::Down,
                since: NOW - Duration::from_secs(30 * 3600),
                why: "203.0.113.5:25: refused".to_owned(),
                messages: 3,
                first_bounce: Some(NOW + Duration::from_secs(18 * 3600)),
                probe_at: Some(NOW + Duration::from_secs(600)),
                told: Stage::Half,
            }],
            extensions: vec![Extension {
                domain: "b.example".parse().unwrap(),
                until: NOW + Duration::from_secs(86_400),
                at: NOW,
                by: "alice (uid 0)".to_owned(),
                reason: String::new(),
            }],
        };
        let expected = "\
feedgate   0.1.0 on mx1.isp.example, up 3 d (since 2026-11-17 22:36:00Z)
sessions   12 open
scanner    AWAY, mail waits: no clamd answers
spool      /var/lib/feedgate, 12.0 GiB free, taking mail (reserve 256.0 MiB)
queue      6 messages, 1 awaiting their scan; recipients: 6 waiting, 0 held, 0 quarantined
ledger     20 recipients accepted = 13 delivered, 6 here, 1 bounced, 0 deleted, 0 rejected
outage     b.example is down since 2026-11-19 16:36:00Z (30 h), 3 messages waiting, the first bounces in 18 h; next probe in 10 min
           203.0.113.5:25: refused
           more time: feedgate queue extend b.example 5d
extended   b.example until 2026-11-21 22:36:00Z, by alice (uid 0)

DOMAIN     WAITING  HELD  QUARANTINED  OLDEST    LAST REPLY
b.example  3        0     0            30 h ago  connect to 203.0.113.5:25: refused
a.example  3        0     0            1 h ago   -
";
        assert_eq!(text(&status, Some(100)), expected);
    }
}
