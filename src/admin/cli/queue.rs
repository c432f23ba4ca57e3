//! `feedgate queue …`: what waits for delivery.

use std::io::{BufRead, IsTerminal, Write};

use clap::Subcommand;

use super::select::{self, Filters, ListWhich, Target, Which};
use super::{Context, Failure, message, rules, verify};
use crate::admin::answers::{Message, MessageList, SteeringReport};
use crate::admin::api::{Extend, ListQuery, extend_by};
use crate::admin::client::{Client, encoded};
use crate::admin::operations::Selection;
use crate::admin::output::{counted, printable};
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
    /// Keep trying for so much longer than planned
    #[command(override_usage = "feedgate queue extend [OPTIONS] [TARGET] <LONGER>")]
    Extend {
        /// A queue id, domain or address; then how much longer, such as 5d or 36h
        #[arg(num_args = 1..=2, required = true, value_name = "TARGET> <LONGER")]
        words: Vec<String>,
        #[command(flatten)]
        filters: Filters,
        /// Every message; needed when nothing else selects
        #[arg(long)]
        all: bool,
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
        Command::Retry(which) => steer(context, "/v1/queue/retry", which.selection()?, "will be tried now").await,
        Command::Hold(which) => steer(context, "/v1/queue/hold", which.selection()?, "held").await,
        Command::Release(which) => steer(context, "/v1/queue/release", which.selection()?, "released").await,
        Command::Extend { words, filters, all } => extend(context, words, filters, all).await,
        Command::Drop { which, yes } => drop(context, which.selection()?, yes).await,
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
pub async fn steer(context: &Context, target: &str, selection: Selection, done: &str) -> Result<(), Failure> {
    let report: SteeringReport = context.client()?.post(target, &selection).await?;
    conclude(context, &report, done)
}

async fn extend(context: &Context, mut words: Vec<String>, filters: Filters, all: bool) -> Result<(), Failure> {
    let longer = words.pop().expect("clap asks for at least one");
    if longer.parse::<Target>().is_ok() && extend_by(&longer).is_err() {
        return Err(Failure::Usage(format!("how much longer? For example: feedgate queue extend {longer} 5d")));
    }
    extend_by(&longer).map_err(|why| Failure::Usage(format!("{longer}: {why}")))?;
    let target = words.pop().map(|word| word.parse::<Target>().map_err(|why| Failure::Usage(format!("{word}: {why}"))));
    let selection = select::steering(target.transpose()?, filters, all)?;
    let report: SteeringReport = context.client()?.post("/v1/queue/extend", &Extend { selection, longer }).await?;
    conclude(context, &report, "extended")
}

async fn drop(context: &Context, selection: Selection, yes: bool) -> Result<(), Failure> {
    let client = context.client()?;
    if !yes {
        if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
            return Err(Failure::Usage("this deletes mail without telling its senders; say --yes to do it".to_owned()));
        }
        let messages = matching(&client, &selection).await?;
        if !confirmed(&format!("Delete {messages} {} without telling the senders?", select::in_words(&selection))) {
            return Err(Failure::CouldNot("nothing was deleted".to_owned()));
        }
    }
    let report: SteeringReport = client.post("/v1/queue/drop", &selection).await?;
    conclude(context, &report, "deleted")
}

/// How many messages are meant, in words.
async fn matching(client: &Client, selection: &Selection) -> Result<String, Failure> {
    let Selection { id, domain, sender, recipient, state, all: _ } = selection.clone();
    let query = ListQuery { id, domain, sender, recipient, state, after: None, limit: Some(1) };
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
    let ListQuery { id, domain, sender, recipient, state, after, limit } = query;
    let parts = [
        ("id", id.map(|id| id.to_string())),
        ("domain", domain.as_ref().map(ToString::to_string)),
        ("sender", sender.as_ref().map(ToString::to_string)),
        ("recipient", recipient.as_ref().map(ToString::to_string)),
        ("state", state.clone()),
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
        return "No message was changed: none that matches is in a state for this.\n".to_owned();
    }
    text +=
        &format!("{}, {}: {done}\n", counted(report.messages as u64, "message"), counted(report.recipients as u64, "recipient"));
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
