//! `feedgate queue …`: what waits for delivery.

use std::io::{BufRead, IsTerminal, Write};

use clap::Subcommand;
use serde::Serialize;

use super::select::{self, Filters, How, ListWhich, Target, Which};
use super::{Context, Failure, message, rules, verify};
use crate::admin::answers::{Message, MessageList, SteeringReport};
use crate::admin::api::{Elsewhere, Extend, ListQuery, Refuse};
use crate::admin::client::{Client, encoded};
use crate::admin::operations::Selection;
use crate::admin::output::{counted, printable};
use crate::admin::selection::{bounce_text, duration, moment, reroute};
use crate::mail::QueueId;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Messages in the queue, oldest first
    List(ListWhich),
    /// Everything about one message
    Show { id: QueueId },
    /// Try delivery now
    Retry(Which),
    /// Keep from being delivered until released
    Hold(Which),
    /// Let held messages go on
    Release(Which),
    /// Keep trying for longer than planned; for a domain also the mail still to come while its server is away
    #[command(override_usage = "feedgate queue extend [OPTIONS] [TARGET] <LONGER>\n       \
        feedgate queue extend [OPTIONS] [TARGET] --until <DATE>\n       feedgate queue extend DOMAIN --clear")]
    Extend {
        /// A queue id, domain or address; then how much longer, such as 5d or 36h
        #[arg(num_args = 1..=2, required_unless_present_any = ["until", "clear"], value_name = "TARGET> <LONGER")]
        words: Vec<String>,
        /// Until then at least: a date (to its end, UTC), or a moment such as 2026-12-01T08:00:00Z
        #[arg(long, value_name = "DATE", value_parser = until)]
        until: Option<String>,
        /// End what was granted to a domain
        #[arg(long, conflicts_with = "until")]
        clear: bool,
        #[command(flatten)]
        filters: Filters,
        /// Every message; needed when nothing else selects
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        how: How,
    },
    /// Deliver to another server than the domain's own
    #[command(override_usage = "feedgate queue reroute [OPTIONS] [TARGET] <HOST[:PORT]>\n       \
        feedgate queue reroute [OPTIONS] [TARGET] --clear")]
    Reroute {
        /// A queue id, domain or address; then the server, such as 203.0.113.5:2525 or mail2.customer.example
        #[arg(num_args = 1..=2, required_unless_present = "clear", value_name = "TARGET> <HOST[:PORT]")]
        words: Vec<String>,
        /// To the domain's own servers again
        #[arg(long)]
        clear: bool,
        #[command(flatten)]
        filters: Filters,
        /// Every message; needed when nothing else selects
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        how: How,
    },
    /// Give up, and tell the sender so with this text
    Bounce {
        #[command(flatten)]
        which: Which,
        /// What the sender is told: one line
        #[arg(long, value_parser = bounce_text)]
        text: String,
    },
    /// Delete without telling the sender
    Drop {
        #[command(flatten)]
        which: Which,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Read the whole spool, check every checksum, compare index and ledger; also while the gateway is stopped
    Verify,
}

pub async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    let client = |context: &Context| context.client();
    match command {
        Command::List(which) => {
            let query = which.query()?;
            let list: MessageList = client(context)?.get(&target("/v1/queue", &query)).await?;
            context.show(&list, |list| message::list_text(list, context.now(), context.width, "The queue is empty."))
        }
        Command::Show { id } => show(context, id).await,
        Command::Retry(which) => steer(context, "/v1/queue/retry", which, "will be tried now").await,
        Command::Hold(which) => steer(context, "/v1/queue/hold", which, "held").await,
        Command::Release(which) => steer(context, "/v1/queue/release", which, "released").await,
        Command::Extend { words, until, clear, filters, all, how } => {
            let (target, longer) = extension(words, until.is_some() || clear)?;
            let selection = select::steering(target, filters, all)?;
            let done = if clear { "no longer extended" } else { "extended" };
            send(context, "/v1/queue/extend", &Extend { selection, longer, until, clear }, &how, done).await
        }
        Command::Reroute { words, clear, filters, all, how } => {
            let selected = all || !filters.is_empty();
            let (target, to) = server(words, clear, selected)?;
            let elsewhere = Elsewhere { selection: select::steering(target, filters, all)?, to };
            let done = if clear { "go to their own servers again" } else { "rerouted" };
            send(context, "/v1/queue/reroute", &elsewhere, &how, done).await
        }
        Command::Bounce { which, text } => {
            let (selection, how) = which.read()?;
            send(context, "/v1/queue/bounce", &Refuse { selection, text }, &how, "given up, their senders are told").await
        }
        Command::Drop { which, yes } => drop(context, which, yes).await,
        Command::Verify => verify::run(context).await,
    }
}

/// `queue show`, `quarantine show`
pub async fn show(context: &Context, id: QueueId) -> Result<(), Failure> {
    let message: Message = context.client()?.get(&format!("/v1/queue/{}", encoded(&id.to_string()))).await?;
    let reasons = rules::reasons(context);
    context.show(&message, |shown| message::text(shown, context.now(), context.width, |rule| reasons.get(rule).cloned()))
}

/// Sends a selection and prints what was done. `done`: what happened to the recipients, in words.
pub async fn steer(context: &Context, path: &str, which: Which, done: &str) -> Result<(), Failure> {
    let (selection, how) = which.read()?;
    send(context, path, &selection, &how, done).await
}

/// With more in the query.
pub async fn steer_with(context: &Context, path: &str, which: Which, more: &str, done: &str) -> Result<(), Failure> {
    let (selection, how) = which.read()?;
    let report: SteeringReport = context.client()?.post(&(how.target(path) + more), &selection).await?;
    conclude(context, &report, done)
}

async fn send(context: &Context, path: &str, order: &impl Serialize, how: &How, done: &str) -> Result<(), Failure> {
    let report: SteeringReport = context.client()?.post(&how.target(path), order).await?;
    conclude(context, &report, done)
}

fn until(text: &str) -> Result<String, String> {
    moment(text).map(|_| text.to_owned())
}

/// A target, and by how much; the last word, unless an option says it.
fn extension(mut words: Vec<String>, said: bool) -> Result<(Option<Target>, Option<String>), Failure> {
    if said {
        return Ok((only_target(words, "how much longer is said already")?, None));
    }
    let Some(longer) = words.pop() else {
        return Err(Failure::Usage("how much longer? For example: feedgate queue extend customer.example 5d".to_owned()));
    };
    if longer.parse::<Target>().is_ok() && duration(&longer).is_err() {
        return Err(Failure::Usage(format!("how much longer? For example: feedgate queue extend {longer} 5d")));
    }
    duration(&longer).map_err(|why| Failure::Usage(format!("{longer}: {why}")))?;
    Ok((only_target(words, "")?, Some(longer)))
}

/// A target, and the server to go to: the last word, unless it is to be cleared.
fn server(mut words: Vec<String>, clear: bool, selected: bool) -> Result<(Option<Target>, Option<String>), Failure> {
    if clear {
        return Ok((only_target(words, "--clear needs no server")?, None));
    }
    let example = "where to? For example: feedgate queue reroute customer.example 203.0.113.5:2525";
    let Some(server) = words.pop() else {
        return Err(Failure::Usage(example.to_owned()));
    };
    // A domain alone is what is to go somewhere, not where it is to go.
    if words.is_empty() && !selected {
        return Err(Failure::Usage(format!("which messages, and {example}")));
    }
    reroute(&server).map_err(Failure::Usage)?;
    Ok((only_target(words, "")?, Some(server)))
}

fn only_target(mut words: Vec<String>, too_many: &str) -> Result<Option<Target>, Failure> {
    if words.len() > 1 {
        return Err(Failure::Usage(too_many.to_owned()));
    }
    let target = words.pop().map(|word| word.parse::<Target>().map_err(|why| Failure::Usage(format!("{word}: {why}"))));
    target.transpose()
}

async fn drop(context: &Context, which: Which, yes: bool) -> Result<(), Failure> {
    let (selection, how) = which.read()?;
    let client = context.client()?;
    if !yes && !how.dry_run {
        if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
            return Err(Failure::Usage("this deletes mail without telling its senders; say --yes to do it".to_owned()));
        }
        let messages = matching(&client, &selection).await?;
        if !confirmed(&format!("Delete {messages} {} without telling the senders?", select::in_words(&selection))) {
            return Err(Failure::CouldNot("nothing was deleted".to_owned()));
        }
    }
    send(context, "/v1/queue/drop", &selection, &how, "deleted").await
}

/// How many messages are meant, in words.
async fn matching(client: &Client, selection: &Selection) -> Result<String, Failure> {
    let Selection { id, domain, sender, recipient, state, older_than, newer_than, all: _ } = selection.clone();
    let query = ListQuery { id, domain, sender, recipient, state, older_than, newer_than, after: None, limit: Some(1) };
    let list: MessageList = client.get(&target("/v1/queue", &query)).await?;
    let known = counted((list.messages.len() + list.more) as u64, "message");
    Ok(if list.more_uncounted { format!("more than {known}") } else { known })
}

fn confirmed(question: &str) -> bool {
    let mut terminal = std::io::stderr();
    let _ = write!(terminal, "{question} [y/N] ").and_then(|()| terminal.flush());
    let mut answer = String::new();
    // A terminal line is bounded by the kernel.
    let read = std::io::stdin().lock().read_line(&mut answer);
    read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
}

/// The path with the query that asks for this page.
pub fn target(path: &str, query: &ListQuery) -> String {
    let ListQuery { id, domain, sender, recipient, state, older_than, newer_than, after, limit } = query;
    let parts = [
        ("id", id.map(|id| id.to_string())),
        ("domain", domain.as_ref().map(ToString::to_string)),
        ("sender", sender.as_ref().map(ToString::to_string)),
        ("recipient", recipient.as_ref().map(ToString::to_string)),
        ("state", state.clone()),
        ("older_than", older_than.clone()),
        ("newer_than", newer_than.clone()),
        ("after", after.map(|after| after.to_string())),
        ("limit", limit.map(|limit| limit.to_string())),
    ];
    let pairs = parts.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", encoded(&value?))));
    format!("{path}?{}", pairs.collect::<Vec<_>>().join("&"))
}

fn conclude(context: &Context, report: &SteeringReport, done: &str) -> Result<(), Failure> {
    context.show(report, |report| report_text(report, done))?;
    // Asked for and not done, and never will be: the operator's script should notice.
    if report.infected > 0 { Err(Failure::CouldNot(String::new())) } else { Ok(()) }
}

fn report_text(report: &SteeringReport, done: &str) -> String {
    let mut text = String::new();
    for steered in &report.steered {
        let note = if steered.note.is_empty() { String::new() } else { format!(", {}", printable(&steered.note)) };
        text += &format!("{}  {}{note}\n", steered.id, counted(steered.recipients as u64, "recipient"));
    }
    let unnamed = report.messages - report.steered.len().min(report.messages);
    if unnamed > 0 {
        text += &format!("and {unnamed} more\n");
    }
    for id in &report.infected_ids {
        text += &format!("{id}  infected: stays in quarantine, infected mail is never delivered\n");
    }
    let unnamed = report.infected - report.infected_ids.len().min(report.infected);
    if unnamed > 0 {
        text += &format!("and {unnamed} more infected ones stay\n");
    }
    if report.messages == 0 && report.infected == 0 {
        // What was granted to a domain has ended, or would end.
        if report.note.starts_with("ended: ") || report.note.starts_with("would end: ") {
            return format!("{}\n", printable(&report.note));
        }
        let none = "No message was changed";
        return if report.note.is_empty() { format!("{none}.\n") } else { format!("{none}: {}\n", printable(&report.note)) };
    }
    let dry = if report.dry_run { " (dry run: nothing was changed)" } else { "" };
    let (messages, recipients) = (counted(report.messages as u64, "message"), counted(report.recipients as u64, "recipient"));
    text += &format!("{messages}, {recipients}: {done}{dry}\n");
    if !report.note.is_empty() {
        text += &format!("{}\n", printable(&report.note));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{IdSource, Timestamp};

    fn id(number: u32) -> QueueId {
        IdSource::new(None).next(Timestamp(1_795_214_160_000)).message(number)
    }

    #[test]
    fn a_report_names_what_was_and_what_was_not_done() {
        let steered = |number| crate::queue::Steered { id: id(number), recipients: 2, note: String::new() };
        let report = SteeringReport::new((1..=150).map(steered).collect(), vec![id(200)]);
        let text = report_text(&report, "released");
        assert!(text.contains("\nand 50 more\n"), "{text}");
        assert!(text.contains("infected: stays in quarantine"), "{text}");
        assert!(text.ends_with("150 messages, 300 recipients: released\n"), "{text}");
        assert!(report_text(&SteeringReport::default(), "released").starts_with("No message was changed"));
    }

    #[test]
    fn the_question_to_the_gateway_is_encoded() {
        let query = ListQuery { sender: Some("\"a&b\"@sender.example".parse().unwrap()), limit: Some(5), ..ListQuery::default() };
        assert_eq!(target("/v1/queue", &query), "/v1/queue?sender=a%26b%40sender.example&limit=5");
    }
}
