//! Messages for people's eyes: as a list, and one whole.

use crate::admin::answers::{Message, MessageLine, MessageList, RecipientState};
use crate::admin::output::{Grid, counted, elided, moment, moment_and_relative, printable, relative, size};
use crate::mail::{Decision, Judgement, Origin, ReversePath, Status, Steering, Timestamp};
use crate::queue::Away;

/// A line for each message, below it what the next hop last said.
pub fn list_text(list: &MessageList, now: Timestamp, width: Option<usize>, empty: &str) -> String {
    if list.messages.is_empty() {
        return format!("{empty}\n");
    }
    let next = |message: &MessageLine| match message.due {
        Some(due) if due <= now => "now".to_owned(),
        Some(due) => relative(due, now),
        None => "-".to_owned(),
    };
    let mut rows: Vec<[String; 6]> = Vec::new();
    for message in &list.messages {
        let sender = printable(&sender_text(&message.sender)).into_owned();
        let first = message.recipients.first().map(|recipient| printable(&recipient.address).into_owned());
        let states = message.states.join(",");
        let arrived = relative(message.received_at, now);
        rows.push([message.id.to_string(), arrived, states, next(message), sender, first.unwrap_or_default()]);
    }
    cut_addresses(&mut rows, &list.messages, width);
    let mut grid = Grid::new(&["ID", "ARRIVED", "STATE", "NEXT", "FROM", "TO"], &[]);
    rows.iter().for_each(|row| grid.row(row));
    let rendered = grid.render(None, 0);
    let mut lines = rendered.lines();
    let mut text = lines.next().map(|header| format!("{header}\n")).unwrap_or_default();
    for (line, message) in lines.zip(&list.messages) {
        text += &format!("{line}\n");
        for remark in remarks(message) {
            let remark = printable(&remark).into_owned();
            text += &format!("  {}\n", width.map_or(remark.clone(), |width| elided(&remark, width.saturating_sub(2))));
        }
    }
    if list.more > 0 {
        let at_least = if list.more_uncounted { "at least " } else { "" };
        let last = list.messages.last().map(|message| format!(" (--after {})", message.id)).unwrap_or_default();
        text += &format!("{at_least}{} more{last}\n", list.more);
    }
    text
}

fn sender_text(sender: &ReversePath) -> String {
    if sender.is_null() { "<>".to_owned() } else { sender.to_string() }
}

/// Gives the two addresses what the other columns leave of the width, and says how many more recipients there are. A row is
/// one line, always.
fn cut_addresses(rows: &mut [[String; 6]], messages: &[MessageLine], width: Option<usize>) {
    let widest = |rows: &[[String; 6]], column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let more: Vec<String> = messages
        .iter()
        .map(|message| match message.recipients_total.saturating_sub(1) {
            0 => String::new(),
            more => format!(" +{more}"),
        })
        .collect();
    if let Some(width) = width {
        let others: usize = (0..4).map(|column| widest(rows, column).max(7) + 2).sum();
        let left = width.saturating_sub(others + 2).max(24);
        let (sender, recipient) = (widest(rows, 4).max(4), widest(rows, 5) + more.iter().map(String::len).max().unwrap_or(0));
        let sender = if sender + recipient <= left { sender } else { sender.min((left / 2).max(left.saturating_sub(recipient))) };
        for (row, more) in rows.iter_mut().zip(&more) {
            row[4] = elided(&row[4], sender);
            row[5] = elided(&row[5], (left - sender).saturating_sub(more.len()));
        }
    }
    rows.iter_mut().zip(more).for_each(|(row, more)| row[5] += &more);
}

/// Different things the next hops said, or why it is kept; the first two.
fn remarks(message: &MessageLine) -> Vec<String> {
    let mut remarks: Vec<String> = Vec::new();
    if let Some(virus) = &message.virus {
        remarks.push(format!("virus: {virus}"));
    }
    for recipient in message.recipients.iter().filter(|recipient| !recipient.text.is_empty()) {
        if !remarks.contains(&recipient.text) {
            remarks.push(recipient.text.clone());
        }
    }
    remarks.truncate(2);
    remarks
}

/// Everything about one message, in paragraphs. `reason`: what a rule means.
pub fn text(message: &Message, now: Timestamp, width: Option<usize>, reason: impl Fn(&str) -> Option<String>) -> String {
    let mut fields = Fields::default();
    let state = if message.states.is_empty() { "settled".to_owned() } else { message.states.join(", ") };
    fields.add("message", &format!("{}  {state}", message.id));
    fields.add("received", &format!("{}, {}", moment_and_relative(message.received_at, now), size(message.size)));
    fields.add("client", &client_text(message));
    fields.add("sender", &sender_text(&message.sender));
    if let Some(headers) = &message.headers {
        let shown = [("From:", &headers.from), ("Subject:", &headers.subject), ("Message-ID:", &headers.message_id)];
        shown.into_iter().for_each(|(name, value)| fields.add(name, value.as_deref().unwrap_or("-")));
    }
    match (&message.judgement, message.origin) {
        (Some(judgement), _) => fields.add("judged", &judgement_text(judgement)),
        (None, Origin::Gateway) => fields.add("judged", "not needed: made here"),
        (None, Origin::Client) => fields.add("judged", &awaited_text(message, now)),
    }
    let mut text = fields.text;
    if let Some(judgement) = message.judgement.as_ref().filter(|judgement| !judgement.hits.is_empty()) {
        let mut grid = Grid::new(&["POINTS", "RULE", "WHY", "EVIDENCE"], &["WHY", "EVIDENCE"]);
        for hit in &judgement.hits {
            let why = reason(&hit.rule).unwrap_or_default();
            grid.row([format!("{:+.1}", hit.points), hit.rule.clone(), why, hit.evidence.clone()]);
        }
        text += &format!("\n{}", grid.render(width, 2));
    }
    for recipient in &message.recipients {
        text += &format!("\n{}", recipient_text(recipient, &message.steerings, now));
    }
    if !message.steerings.is_empty() {
        let mut grid = Grid::new(&["WHEN", "WHO", "WHAT", "WHY"], &["WHO", "WHAT", "WHY"]);
        let row =
            |steering: &Steering| [moment(steering.at), steering.by.clone(), steering.what.clone(), steering.reason.clone()];
        message.steerings.iter().for_each(|steering| grid.row(row(steering)));
        text += &format!("\nsteered\n{}", grid.render(width, 2));
    }
    text
}

fn client_text(message: &Message) -> String {
    let client = &message.client;
    if message.origin == Origin::Gateway {
        return "this gateway: a notice to a sender".to_owned();
    }
    let name = match (&client.reverse_name, client.reverse_confirmed) {
        (Some(name), true) => name.to_string(),
        (Some(name), false) => format!("{name} (does not lead back)"),
        (None, _) => "no reverse name".to_owned(),
    };
    let tls = client.tls.as_ref().map(|tls| format!(" {tls}")).unwrap_or_default();
    format!("{} {name}, said {}, {}{tls}", client.address, client.helo, client.protocol.as_str())
}

fn judgement_text(judgement: &Judgement) -> String {
    format!("level {}, score {:.1}, {}", judgement.level, judgement.score, judgement.verdict)
}

fn awaited_text(message: &Message, now: Timestamp) -> String {
    let due = message.scan_due.map(|due| moment_and_relative(due, now)).unwrap_or_default();
    let tried = counted(u64::from(message.scan_attempts), "failed scan");
    format!("not yet: {tried}; the scanner is asked at {due}")
}

fn recipient_text(recipient: &RecipientState, steerings: &[Steering], now: Timestamp) -> String {
    let mut fields = Fields::default();
    let (since, detail) = match &recipient.status {
        Status::Waiting => (None, ""),
        Status::Held { since } => (Some(*since), ""),
        Status::Quarantined { since, why } => (Some(*since), why.as_str()),
        Status::Delivered { at, host } => (Some(*at), host.as_str()),
        Status::Bounced { at, why } | Status::Deleted { at, why } => (Some(*at), why.as_str()),
        Status::Rejected { at } => (Some(*at), ""),
    };
    let since = since.map(|since| format!(" {}", moment_and_relative(since, now))).unwrap_or_default();
    let detail = if detail.is_empty() { String::new() } else { format!(": {detail}") };
    fields.add("recipient", &recipient.address);
    fields.add("state", &format!("{}{since}{detail}", recipient.status.as_str()));
    if let Some(decision) = &recipient.decision {
        fields.add("decision", &decision_text(decision));
    }
    let failing = recipient
        .failing_since
        .filter(|_| recipient.away.is_none())
        .map(|since| format!(", host failing since {}", moment_and_relative(since, now)));
    fields.add("attempts", &format!("{}{}", recipient.attempts, failing.unwrap_or_default()));
    if let Some(away) = &recipient.away {
        let probe = away.probe_at.map_or("now".to_owned(), |at| moment_and_relative(at, now));
        fields.add("next try", &format!("when its server answers a probe; the next one: {probe}"));
        let Away { destination, state, since, why, .. } = away;
        fields.add("server", &format!("{destination} is {} since {}: {why}", state.as_str(), moment_and_relative(*since, now)));
    } else if let Some(due) = recipient.due {
        fields.add("next try", &moment_and_relative(due, now));
    }
    if let Some(end) = recipient.lifetime_end {
        fields.add("tried until", &format!("{}{}", moment_and_relative(end, now), extended_text(recipient, end, steerings)));
    }
    if let Some(server) = &recipient.reroute {
        fields.add("rerouted to", server);
    }
    if !recipient.last_reply.is_empty() {
        fields.add("last reply", &recipient.last_reply);
    }
    fields.text
}

/// Who made it longer than planned, and when.
fn extended_text(recipient: &RecipientState, end: Timestamp, steerings: &[Steering]) -> String {
    if let Some(extension) = recipient.extension.as_ref().filter(|extension| extension.until >= end) {
        return format!(", its domain was extended by {} on {}", extension.by, moment(extension.at));
    }
    let by = steerings.iter().rfind(|steering| steering.what.starts_with("extend "));
    match by {
        Some(Steering { by, at, .. }) if recipient.extended => format!(", extended by {by} on {}", moment(*at)),
        _ if recipient.extended => ", extended by an operator".to_owned(),
        _ => String::new(),
    }
}

fn decision_text(decision: &Decision) -> String {
    match decision {
        Decision::Deliver | Decision::DeliverMarked => decision.as_str().to_owned(),
        Decision::DeliverTagged { text } => format!("{} \"{text}\"", decision.as_str()),
        Decision::Quarantine { why } | Decision::Delete { why } => format!("{}: {why}", decision.as_str()),
        Decision::Reject { reply } => format!("{}: {reply}", decision.as_str()),
    }
}

/// Lines of a name and a value.
#[derive(Default)]
struct Fields {
    text: String,
}

impl Fields {
    fn add(&mut self, name: &str, value: &str) {
        self.text += format!("{name:<12} {}", printable(value)).trim_end();
        self.text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::answers::RecipientLine;
    use crate::mail::{Client, IdSource, Protocol, QueueId, RuleHit, SpamLevel, Steering, Verdict};
    use std::time::Duration;

    const NOW: Timestamp = Timestamp(1_795_214_160_000);

    fn id(number: u32) -> QueueId {
        IdSource::new(None).next(NOW).message(number)
    }

    fn line(number: u32) -> MessageLine {
        let recipient = |state: &str, text: &str| RecipientLine {
            address: "a-rather-long-mailbox-name@customer.example".to_owned(),
            state: state.to_owned(),
            text: text.to_owned(),
        };
        MessageLine {
            id: id(number),
            received_at: NOW - Duration::from_secs(3 * 3600),
            size: 12_000,
            sender: ReversePath::Null,
            states: vec!["waiting".to_owned()],
            due: Some(NOW + Duration::from_secs(240)),
            level: None,
            virus: None,
            recipients: vec![recipient("waiting", "451 4.3.2 \u{1b}[31mbusy"), recipient("waiting", "451 4.3.2 \u{1b}[31mbusy")],
            recipients_total: 40,
        }
    }

    #[test]
    fn a_list_fits_in_100_columns_and_says_what_is_left_out() {
        let list = MessageList { messages: vec![line(1), line(2)], more: 1000, more_uncounted: true };
        let text = list_text(&list, NOW, Some(100), "");
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 1 + 2 * 2 + 1, "{text}");
        assert!(
            lines[1].ends_with("3 h ago  waiting  in 4 min  <>    a-rather-long-mailbox-name@customer.example +39"),
            "{text}"
        );
        assert_eq!(lines[2], "  451 4.3.2 \\u{1b}[31mbusy");
        assert_eq!(lines[5], format!("at least 1000 more (--after {})", id(2)));
    }

    #[test]
    fn two_long_addresses_share_what_is_left() {
        let mut long = line(1);
        long.sender = "another-quite-long-mailbox-name@sender.example".parse().unwrap();
        let text = list_text(&MessageList { messages: vec![long], more: 0, more_uncounted: false }, NOW, Some(100), "");
        let row = text.lines().nth(1).unwrap();
        assert!(row.contains("  another-quite-long-mailbox…  a-rather-long-mailbox-… +39"), "{text}");
        assert!(row.chars().count() <= 100, "{text}");
    }

    #[test]
    fn nothing_is_cut_when_nobody_looks() {
        let list = MessageList { messages: vec![line(1)], more: 0, more_uncounted: false };
        assert!(list_text(&list, NOW, None, "").contains("a-rather-long-mailbox-name@customer.example +39\n"));
        let empty = MessageList { messages: vec![], more: 0, more_uncounted: false };
        assert_eq!(list_text(&empty, NOW, None, "The queue is empty."), "The queue is empty.\n");
    }

    #[test]
    fn one_message_is_shown_whole() {
        let message = Message {
            id: id(1),
            received_at: NOW - Duration::from_secs(60),
            size: 2048,
            sender: "joe@sender.example".parse().unwrap(),
            client: Client {
                address: "192.0.2.7".parse().unwrap(),
                reverse_name: None,
                reverse_confirmed: false,
                helo: "mail.sender.example".to_owned(),
                protocol: Protocol::Esmtps,
                tls: Some("TLSv1.3".to_owned()),
                findings: Vec::new(),
            },
            origin: Origin::Client,
            headers: None,
            states: vec!["held".to_owned()],
            judgement: Some(Judgement {
                at: NOW,
                verdict: Verdict::Clean,
                score: 6.4,
                level: SpamLevel::Med,
                hits: vec![RuleHit { rule: "SUBJECT_ALL_CAPS".to_owned(), points: 1.5, evidence: "BUY\u{7}".to_owned() }],
                authentication: Default::default(),
                domains: Vec::new(),
            }),
            scan_due: None,
            scan_attempts: 0,
            recipients: vec![RecipientState {
                address: "sales@customer.example".to_owned(),
                status: Status::Held { since: NOW },
                decision: Some(Decision::DeliverTagged { text: "[SPAM: med] ".to_owned() }),
                attempts: 4,
                due: None,
                lifetime_end: Some(NOW + Duration::from_secs(86_400)),
                extended: true,
                extension: None,
                reroute: Some("203.0.113.5:2525".to_owned()),
                failing_since: None,
                away: None,
                last_reply: "451 busy".to_owned(),
            }],
            steerings: [("extend 1d", "a ticket"), ("hold", "")]
                .map(|(what, reason)| Steering {
                    at: NOW,
                    by: "alice (uid 0)".to_owned(),
                    what: what.to_owned(),
                    reason: reason.to_owned(),
                })
                .to_vec(),
        };
        let text = super::text(&message, NOW, Some(100), |_| Some("shouts".to_owned()));
        let expected = format!(
            "message      {}  held
received     2026-11-20 22:35:00Z (1 min ago), 2.0 KiB
client       192.0.2.7 no reverse name, said mail.sender.example, ESMTPS TLSv1.3
sender       joe@sender.example
judged       level med, score 6.4, clean

  POINTS  RULE              WHY     EVIDENCE
  +1.5    SUBJECT_ALL_CAPS  shouts  BUY\\u{{7}}

recipient    sales@customer.example
state        held 2026-11-20 22:36:00Z (now)
decision     deliver-tagged \"[SPAM: med] \"
attempts     4
tried until  2026-11-21 22:36:00Z (in 24 h), extended by alice (uid 0) on 2026-11-20 22:36:00Z
rerouted to  203.0.113.5:2525
last reply   451 busy

steered
  WHEN                  WHO            WHAT       WHY
  2026-11-20 22:36:00Z  alice (uid 0)  extend 1d  a ticket
  2026-11-20 22:36:00Z  alice (uid 0)  hold
",
            id(1)
        );
        assert_eq!(text, expected);
    }
}
