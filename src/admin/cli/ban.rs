//! `feedgate ban …`: which clients are turned away for a while, and why.

use clap::Subcommand;
use ipnet::IpNet;

use super::{Context, Failure};
use crate::admin::answers::BanReport;
use crate::admin::api::{BanOrder, LiftOrder};
use crate::admin::output::{Grid, counted, relative};
use crate::admin::selection::{any_network, duration};
use crate::checks::Ban;
use crate::mail::Timestamp;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Who is banned, newest last
    List {
        /// Show so many at most
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
    },
    /// Turn an address or a network away for a while
    Add {
        #[arg(value_name = "ADDRESS|NETWORK", value_parser = any_network)]
        network: IpNet,
        /// For how long: 1h, 7d
        #[arg(long = "for", value_name = "DURATION", value_parser = length)]
        length: String,
        /// Why, for the list
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
    },
    /// Let somebody in again: an address, all addresses of a network, or --all
    Lift {
        #[arg(value_name = "ADDRESS|NETWORK", value_parser = any_network, required_unless_present = "all")]
        network: Option<IpNet>,
        /// Every ban
        #[arg(long, conflicts_with = "network")]
        all: bool,
    },
}

/// Checked here, sent as it was written.
fn length(text: &str) -> Result<String, String> {
    duration(text).map(|_| text.to_owned())
}

pub async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::List { limit } => {
            // One more than is shown tells whether there are more.
            let asked = (limit + 1).min(1000);
            let mut bans: Vec<Ban> = context.client()?.get(&format!("/v1/bans?limit={asked}")).await?;
            let more = bans.len() > usize::from(limit);
            bans.drain(..bans.len().saturating_sub(limit.into()));
            context.show(&bans, |bans| list_text(bans, more, context.now(), context.width))
        }
        Command::Add { network, length, reason } => {
            let order = BanOrder { network: network.to_string(), length, reason };
            let ban: Ban = context.client()?.post("/v1/bans/add", &order).await?;
            context.show(&ban, |ban| format!("{} is turned away until {}.\n", shown(&ban.network), ban.until))
        }
        Command::Lift { network, all } => {
            let order = LiftOrder { network: network.map(|network| network.to_string()), all };
            let report: BanReport = context.client()?.post("/v1/bans/lift", &order).await?;
            context.show(&report, lift_text)
        }
    }
}

fn list_text(bans: &[Ban], more: bool, now: Timestamp, width: Option<usize>) -> String {
    if bans.is_empty() {
        return "Nobody is banned.\n".to_owned();
    }
    let mut grid = Grid::new(&["WHO", "SINCE", "UNTIL", "TIMES", "TURNED AWAY", "BY", "WHY"], &["WHY"]);
    for ban in bans {
        grid.row([
            shown(&ban.network),
            relative(ban.since, now),
            relative(ban.until, now),
            ban.times.to_string(),
            ban.turned_away.to_string(),
            if ban.by.is_empty() { "limits".to_owned() } else { ban.by.clone() },
            ban.why.clone(),
        ]);
    }
    let hint = if more { "more: --limit shows up to 1000\n" } else { "" };
    format!("{}{hint}", grid.render(width, 0))
}

fn lift_text(report: &BanReport) -> String {
    match (report.total, &report.lifted[..]) {
        (0, _) => "Nobody there was banned.\n".to_owned(),
        (1, [network]) => format!("{} is let in again.\n", shown(network)),
        (total, _) => format!("Lifted {}.\n", counted(total as u64, "ban")),
    }
}

/// A single address without its length.
fn shown(network: &IpNet) -> String {
    if network.prefix_len() == network.max_prefix_len() { network.addr().to_string() } else { network.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_says_who_how_long_and_why() {
        let ban = Ban {
            network: "192.0.2.7/32".parse().unwrap(),
            why: "more than 60 errors in 1m, at last: 550 5.1.1 No such user here\x1b[2J".to_owned(),
            by: String::new(),
            since: Timestamp(0),
            until: Timestamp(1_200_000),
            times: 2,
            turned_away: 17,
        };
        let network = Ban { network: "2001:db8::/64".parse().unwrap(), by: "alice (uid 0)".to_owned(), ..ban.clone() };
        let text = list_text(&[ban, network], false, Timestamp(600_000), None);
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[1].starts_with("192.0.2.7 ") && lines[1].contains("in 10 min") && lines[1].contains("limits"), "{text}");
        assert!(lines[2].starts_with("2001:db8::/64") && lines[2].contains("alice"), "{text}");
        assert!(!text.contains('\x1b'));
        assert_eq!(list_text(&[], false, Timestamp(0), None), "Nobody is banned.\n");
    }

    #[test]
    fn what_was_lifted_is_said() {
        let report = |networks: &[&str]| {
            let lifted: Vec<IpNet> = networks.iter().map(|network| network.parse().unwrap()).collect();
            lift_text(&BanReport { total: lifted.len(), lifted })
        };
        assert_eq!(report(&[]), "Nobody there was banned.\n");
        assert_eq!(report(&["192.0.2.7/32"]), "192.0.2.7 is let in again.\n");
        assert_eq!(report(&["192.0.2.7/32", "2001:db8::/64"]), "Lifted 2 bans.\n");
    }
}
