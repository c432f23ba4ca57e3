//! `feedgate greylist …`: who must come back, came back, never did, or need not; and what all that costs.

use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use clap::Subcommand;
use ipnet::IpNet;

use super::{Context, Failure};
use crate::admin::answers::GreylistReport;
use crate::admin::api::Whom;
use crate::admin::output::{Grid, counted, moment, relative, span};
use crate::checks::{GreylistDay, GreylistRecord, GreylistStatistics, LostTry};
use crate::mail::{Domain, Timestamp};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// What is remembered, newest last
    List {
        /// Show so many at most
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
    },
    /// How much mail was delayed, for how long, and what never came back, by day of the first try
    Stats {
        /// The last so many days
        #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=90))]
        days: u16,
    },
    /// First tries that never came back, newest first, and how to let their senders pass
    Lost {
        /// Show so many at most
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
        /// Also those of suspicious clients: most are spam
        #[arg(long)]
        all: bool,
    },
    /// Let everything from a network, or from all hosts of an organisation, pass at once
    Allow {
        #[arg(value_name = "NETWORK|DOMAIN")]
        whom: GreylistWhom,
    },
    /// Forget what is remembered of a network or organisation
    Forget {
        #[arg(value_name = "NETWORK|DOMAIN")]
        whom: GreylistWhom,
    },
}

/// Whom greylisting counts as one: a network, IPv4 /24 or IPv6 /64, named by itself or by any address in it; or an organisation,
/// named by a domain of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GreylistWhom {
    Network(IpAddr),
    Organisation(Domain),
}

impl FromStr for GreylistWhom {
    type Err = String;
    fn from_str(text: &str) -> Result<GreylistWhom, String> {
        if let Ok(address) = text.parse() {
            return Ok(GreylistWhom::Network(address));
        }
        match text.parse::<IpNet>() {
            Ok(IpNet::V4(network)) if network.prefix_len() == 24 => Ok(GreylistWhom::Network(network.addr().into())),
            Ok(IpNet::V6(network)) if network.prefix_len() == 64 => Ok(GreylistWhom::Network(network.addr().into())),
            Ok(_) => Err("greylisting knows networks of /24 (IPv4) and /64 (IPv6); for others set limits.allow".to_owned()),
            Err(_) => match Domain::parse(text) {
                Ok(domain) if text.contains('.') => Ok(GreylistWhom::Organisation(domain)),
                _ => Err("neither an address, nor a network, nor a domain".to_owned()),
            },
        }
    }
}

impl From<GreylistWhom> for Whom {
    fn from(whom: GreylistWhom) -> Whom {
        match whom {
            GreylistWhom::Network(network) => Whom { network: Some(network), organisation: None },
            GreylistWhom::Organisation(domain) => Whom { network: None, organisation: Some(domain) },
        }
    }
}

pub async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::List { limit } => {
            // One more than is shown tells whether there are more.
            let asked = (limit + 1).min(1000);
            let mut records: Vec<GreylistRecord> = context.client()?.get(&format!("/v1/greylist?limit={asked}")).await?;
            let more = records.len() > usize::from(limit);
            records.truncate(limit.into());
            context.show(&records, |records| list_text(records, more, context.now(), context.width))
        }
        Command::Stats { days } => {
            let statistics: GreylistStatistics = context.client()?.get(&format!("/v1/greylist/stats?days={days}")).await?;
            context.show(&statistics, |statistics| stats_text(statistics, context.width))
        }
        Command::Lost { limit, all } => {
            let path = format!("/v1/greylist/lost?limit={limit}&all={all}");
            let lost: Vec<LostTry> = context.client()?.get(&path).await?;
            context.show(&lost, |lost| lost_text(lost, all, context.width))
        }
        Command::Allow { whom } => {
            let report: GreylistReport = context.client()?.post("/v1/greylist/allow", &Whom::from(whom)).await?;
            context.show(&report, |report| format!("Mail from {} passes without waiting.\n", report.identity))
        }
        Command::Forget { whom } => {
            let report: GreylistReport = context.client()?.post("/v1/greylist/forget", &Whom::from(whom)).await?;
            context.show(&report, |report| {
                format!("Forgot {} of {}.\n", counted(report.forgotten as u64, "record"), report.identity)
            })
        }
    }
}

fn list_text(records: &[GreylistRecord], more: bool, now: Timestamp, width: Option<usize>) -> String {
    if records.is_empty() {
        return "Nothing is remembered.\n".to_owned();
    }
    let mut grid = Grid::new(&["STATE", "NETWORK", "TRIES", "LAST SEEN", "EXPIRES", "FROM", "TO"], &["FROM", "TO"]);
    for record in records {
        let whole = record.recipient.is_empty() && record.sender.is_empty();
        let sender = if whole {
            "any"
        } else if record.sender.is_empty() {
            "<>"
        } else {
            &record.sender
        };
        grid.row([
            record.state.clone(),
            record.network.clone(),
            record.attempts.to_string(),
            relative(record.last_seen, now),
            relative(record.expires, now),
            sender.to_owned(),
            if record.recipient.is_empty() { "any".to_owned() } else { record.recipient.clone() },
        ]);
    }
    let hint = if more { "more: --limit shows up to 1000\n" } else { "" };
    format!("{}{hint}", grid.render(width, 0))
}

fn stats_text(statistics: &GreylistStatistics, width: Option<usize>) -> String {
    if statistics.days.is_empty() {
        return "Nothing has been greylisted in these days.\n".to_owned();
    }
    let header = &["DAY", "RECIPIENTS", "DELAYED", "CAME BACK", "NEVER", "WAITING", "MEDIAN", "95 %"];
    let mut grid = Grid::new(header, &[]);
    let total = GreylistDay { day: "all".to_owned(), ..statistics.total.clone() };
    for day in statistics.days.iter().chain([&total]) {
        let delay = |seconds: Option<u64>| seconds.map_or("-".to_owned(), |seconds| span(Duration::from_secs(seconds)));
        grid.row([
            day.day.clone(),
            day.mail.to_string(),
            format!("{} ({})", day.delayed, share(day.delayed, day.mail)),
            day.came_back.to_string(),
            day.lost.to_string(),
            day.delayed.saturating_sub(day.came_back).saturating_sub(day.lost).to_string(),
            delay(day.median_delay_seconds),
            delay(day.p95_delay_seconds),
        ]);
    }
    let hint = if statistics.total.lost > 0 { "`feedgate greylist lost` shows whose mail never came back.\n" } else { "" };
    format!("{}{hint}", grid.render(width, 0))
}

fn share(part: u64, whole: u64) -> String {
    if whole == 0 { "-".to_owned() } else { format!("{:.1} %", part as f64 * 100.0 / whole as f64) }
}

fn lost_text(lost: &[LostTry], all: bool, width: Option<usize>) -> String {
    let hint = if all { "" } else { "First tries of suspicious clients are not shown: --all shows them.\n" };
    if lost.is_empty() {
        return format!("Nothing was lost by waiting.\n{hint}");
    }
    let mut grid = Grid::new(&["FIRST TRY", "TRIES", "CLIENT", "NAME", "FROM", "TO"], &["NAME", "FROM", "TO"]);
    let mut commands: Vec<(&str, u64)> = Vec::new();
    for one in lost {
        grid.row([
            moment(one.first_try),
            one.attempts.to_string(),
            one.client.to_string(),
            one.reverse_name.clone().unwrap_or_else(|| "-".to_owned()),
            one.sender.clone(),
            one.recipient.clone(),
        ]);
        match commands.iter_mut().find(|(whom, _)| *whom == one.allow) {
            Some((_, count)) => *count += 1,
            None => commands.push((&one.allow, 1)),
        }
    }
    let longest = commands.iter().map(|(whom, _)| whom.len()).max().unwrap_or_default();
    let command = |(whom, count): &(&str, u64)| {
        let whom = format!("{whom:longest$}");
        format!("  feedgate greylist allow {whom}  # {}\n", counted(*count, "mail"))
    };
    let commands: String = commands.iter().map(command).collect();
    format!("{}{hint}\nTo let them pass at once from now on:\n{commands}", grid.render(width, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_and_organisations_are_those_of_greylisting() {
        let whom = |text: &str| {
            text.parse::<GreylistWhom>().map(|whom| match whom {
                GreylistWhom::Network(network) => network.to_string(),
                GreylistWhom::Organisation(domain) => domain.to_string(),
            })
        };
        assert_eq!(whom("192.0.2.7").as_deref(), Ok("192.0.2.7"));
        assert_eq!(whom("192.0.2.0/24").as_deref(), Ok("192.0.2.0"));
        assert_eq!(whom("2001:db8::/64").as_deref(), Ok("2001:db8::"));
        assert_eq!(whom("Mail.Sender.example").as_deref(), Ok("mail.sender.example"));
        assert!(whom("192.0.2.0/16").unwrap_err().contains("limits.allow"));
        assert!(["sender", "a..b", "300.1.1.1", "joe@sender.example", ""].into_iter().all(|text| whom(text).is_err()));
    }

    #[test]
    fn a_whole_network_and_a_null_sender_look_different() {
        let record = |sender: &str, recipient: &str| GreylistRecord {
            state: "passed".to_owned(),
            network: "192.0.2.0/24".to_owned(),
            sender: sender.to_owned(),
            recipient: recipient.to_owned(),
            first_seen: Timestamp(0),
            last_seen: Timestamp(0),
            attempts: 2,
            expires: Timestamp(60_000),
        };
        let text = list_text(&[record("", ""), record("", "joe@customer.example")], false, Timestamp(0), None);
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[1].ends_with("now        in 1 min  any   any"), "{text}");
        assert!(lines[2].ends_with("<>    joe@customer.example"), "{text}");
    }

    #[test]
    fn statistics_show_shares_and_delays() {
        let day = GreylistDay {
            day: "2026-11-20".to_owned(),
            mail: 200,
            delayed: 15,
            came_back: 9,
            lost: 4,
            median_delay_seconds: Some(304),
            p95_delay_seconds: Some(4000),
        };
        let text = stats_text(&GreylistStatistics { days: vec![day.clone()], total: day }, None);
        let lines: Vec<_> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(lines[1], "2026-11-20 200 15 (7.5 %) 9 4 2 5 min 1 h", "{text}");
        assert!(lines[2].starts_with("all 200"), "{text}");
        assert!(stats_text(&GreylistStatistics::default(), None).starts_with("Nothing"));
        assert_eq!(share(0, 0), "-");
    }

    #[test]
    fn what_was_lost_comes_with_the_command_that_helps() {
        let lost = |allow: &str, name: Option<&str>| LostTry {
            first_try: Timestamp(1_795_214_160_000),
            last_try: Timestamp(1_795_214_160_000),
            attempts: 1,
            sender: "joe@sender.example".to_owned(),
            recipient: "ann@customer.example".to_owned(),
            client: "192.0.2.7".parse().unwrap(),
            reverse_name: name.map(str::to_owned),
            suspicious: false,
            allow: allow.to_owned(),
        };
        let lost = [lost("pool.example", Some("mx1.pool.example")), lost("192.0.2.0/24", None), lost("pool.example", None)];
        let text = lost_text(&lost, true, None);
        assert!(text.contains("mx1.pool.example  joe@sender.example  ann@customer.example"), "{text}");
        assert!(
            text.ends_with(
                "  feedgate greylist allow pool.example  # 2 mails\n  feedgate greylist allow 192.0.2.0/24  # 1 mail\n"
            )
        );
        assert!(lost_text(&[], false, None).contains("--all"));
    }
}
