//! `feedgate recipient …`: which addresses exist, and how that is known.

use clap::{Subcommand, value_parser};

use super::{Context, Failure};
use crate::admin::api::Recipients;
use crate::admin::client::encoded;
use crate::admin::output::{Grid, counted, relative};
use crate::admin::recipients::{RecipientList, RecipientReport, RecipientVerdict};
use crate::mail::{Address, Domain, Timestamp};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// The addresses of a domain that are listed, and what its server told of others
    List {
        domain: Domain,
        /// Show so many at most
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = value_parser!(u16).range(1..=1000))]
        limit: u16,
    },
    /// Put addresses on the list of their domain; * stands for any letters
    Add {
        #[arg(required = true, value_name = "ADDRESS")]
        addresses: Vec<Address>,
    },
    /// Take out addresses that were added by command
    Remove {
        #[arg(required = true, value_name = "ADDRESS")]
        addresses: Vec<Address>,
    },
    /// Whether an address exists, and why; asks the customer's server when nobody else knows
    Check { address: Address },
    /// Forget what the customer's server told of addresses, so that it is asked again
    Forget {
        #[arg(required = true, value_name = "ADDRESS")]
        addresses: Vec<Address>,
    },
}

pub async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    let client = context.client()?;
    match command {
        Command::List { domain, limit } => {
            let target = format!("/v1/recipients?domain={}&limit={limit}", encoded(domain.as_str()));
            let list: RecipientList = client.get(&target).await?;
            context.show(&list, |list| list_text(list, &domain, context.now(), context.width))
        }
        Command::Add { addresses } => {
            let report: RecipientReport = client.post("/v1/recipients/add", &Recipients { addresses }).await?;
            context.show(&report, |report| report_text("Added", report))
        }
        Command::Remove { addresses } => {
            let report: RecipientReport = client.post("/v1/recipients/remove", &Recipients { addresses }).await?;
            context.show(&report, |report| report_text("Removed", report))
        }
        Command::Forget { addresses } => {
            let report: RecipientReport = client.post("/v1/recipients/forget", &Recipients { addresses }).await?;
            context.show(&report, |report| report_text("Forgot", report))
        }
        Command::Check { address } => {
            let target = format!("/v1/recipients/check?address={}", encoded(&address.to_string()));
            let verdict: RecipientVerdict = client.get(&target).await?;
            context.show(&verdict, verdict_text)
        }
    }
}

fn report_text(done: &str, report: &RecipientReport) -> String {
    let note = if report.note.is_empty() { String::new() } else { format!("{}.\n", report.note) };
    let what = match report.changed {
        1 => "1 address".to_owned(),
        count => format!("{count} addresses"),
    };
    format!("{done} {what}.\n{note}")
}

fn verdict_text(verdict: &RecipientVerdict) -> String {
    let answer = match verdict.answer.as_str() {
        "exists" => "taken",
        "unknown" => "refused, 550 5.1.1",
        _ => "asked to come back, 450 4.4.3",
    };
    format!("{}: {answer}: {}\n", verdict.address, verdict.why)
}

fn list_text(list: &RecipientList, domain: &Domain, now: Timestamp, width: Option<usize>) -> String {
    let mut text = match list.check.as_str() {
        "any" => format!("{domain} takes every address (recipients = \"any\").\n"),
        "list" => format!(
            "{domain} takes the addresses of its list: {}.\n",
            counted(list.listed as u64, "entry").replace("entrys", "entries")
        ),
        _ if list.takes_everything => format!("{domain} asks its server, which takes every address: all are taken.\n"),
        _ => format!("{domain} asks its server for addresses that are not listed.\n"),
    };
    if list.recipients.is_empty() {
        return text;
    }
    let mut grid = Grid::new(&["ADDRESS", "STATE", "SOURCE", "TOLD", "EXPIRES", "REPLY"], &["ADDRESS", "REPLY"]);
    let time = |moment: Option<Timestamp>| moment.map_or("-".to_owned(), |moment| relative(moment, now));
    for line in &list.recipients {
        let cells = [&line.address, &line.state, &line.source, &time(line.at), &time(line.expires), &line.reply];
        grid.row(cells);
    }
    text.push('\n');
    text.push_str(&grid.render(width, 0));
    if list.more {
        text.push_str("more: --limit shows up to 1000\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::recipients::RecipientLine;

    #[test]
    fn a_list_says_what_counts_and_who_told() {
        let line = |address: &str, state: &str, source: &str, at: Option<u64>, reply: &str| RecipientLine {
            address: address.to_owned(),
            state: state.to_owned(),
            source: source.to_owned(),
            at: at.map(Timestamp),
            expires: at.map(|at| Timestamp(at + 7_200_000)),
            reply: reply.to_owned(),
        };
        let list = RecipientList {
            check: "callout".to_owned(),
            listed: 1,
            recipients: vec![
                line("*-team@customer.example", "exists", "added", None, ""),
                line("eve@customer.example", "unknown", "callout", Some(0), "550 5.1.1 User unknown"),
            ],
            ..RecipientList::default()
        };
        let domain: Domain = "customer.example".parse().unwrap();
        let text = list_text(&list, &domain, Timestamp(3_600_000), None);
        assert!(text.starts_with("customer.example asks its server for addresses that are not listed.\n"), "{text}");
        assert!(text.contains("1 h ago"), "{text}");
        assert!(text.ends_with("in 1 h   550 5.1.1 User unknown\n"), "{text}");
        let empty = RecipientList { check: "list".to_owned(), ..RecipientList::default() };
        assert_eq!(
            list_text(&empty, &domain, Timestamp(0), None),
            "customer.example takes the addresses of its list: 0 entries.\n"
        );
    }

    #[test]
    fn a_check_says_what_a_client_would_hear() {
        let verdict = RecipientVerdict {
            address: "eve@customer.example".to_owned(),
            answer: "unknown".to_owned(),
            ground: "list".to_owned(),
            why: "it stands in no list".to_owned(),
        };
        assert_eq!(verdict_text(&verdict), "eve@customer.example: refused, 550 5.1.1: it stands in no list\n");
        let report = RecipientReport { changed: 1, note: "x".to_owned() };
        assert_eq!(report_text("Added", &report), "Added 1 address.\nx.\n");
    }
}
