//! `feedgate greylist …`: which hosts must come back, came back, or need not.

use std::net::IpAddr;
use std::str::FromStr;

use clap::Subcommand;
use ipnet::IpNet;

use super::{Context, Failure};
use crate::admin::answers::GreylistReport;
use crate::admin::api::Network;
use crate::admin::output::{Grid, counted, relative};
use crate::checks::GreylistRecord;
use crate::mail::Timestamp;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// What is remembered, newest last
    List {
        /// Show so many at most
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
    },
    /// Let everything from a network pass at once
    Allow { network: GreylistNetwork },
    /// Forget what is remembered of a network
    Forget { network: GreylistNetwork },
}

/// A network as greylisting sees it, IPv4 /24 or IPv6 /64, named by itself or by any address in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GreylistNetwork(IpAddr);

impl FromStr for GreylistNetwork {
    type Err = String;
    fn from_str(text: &str) -> Result<GreylistNetwork, String> {
        if let Ok(address) = text.parse() {
            return Ok(GreylistNetwork(address));
        }
        match text.parse::<IpNet>() {
            Ok(IpNet::V4(network)) if network.prefix_len() == 24 => Ok(GreylistNetwork(network.addr().into())),
            Ok(IpNet::V6(network)) if network.prefix_len() == 64 => Ok(GreylistNetwork(network.addr().into())),
            Ok(_) => Err("greylisting knows networks of /24 (IPv4) and /64 (IPv6); for others set limits.allow".to_owned()),
            Err(_) => Err("neither an address nor a network".to_owned()),
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
        Command::Allow { network: GreylistNetwork(network) } => {
            let report: GreylistReport = context.client()?.post("/v1/greylist/allow", &Network { network }).await?;
            context.show(&report, |_| format!("Mail from the network of {network} passes without waiting.\n"))
        }
        Command::Forget { network: GreylistNetwork(network) } => {
            let report: GreylistReport = context.client()?.post("/v1/greylist/forget", &Network { network }).await?;
            context.show(&report, |report| {
                format!("Forgot {} of the network of {network}.\n", counted(report.forgotten as u64, "record"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_those_of_greylisting() {
        let network = |text: &str| text.parse::<GreylistNetwork>().map(|network| network.0.to_string());
        assert_eq!(network("192.0.2.7").as_deref(), Ok("192.0.2.7"));
        assert_eq!(network("192.0.2.0/24").as_deref(), Ok("192.0.2.0"));
        assert_eq!(network("2001:db8::/64").as_deref(), Ok("2001:db8::"));
        assert!(network("192.0.2.0/16").unwrap_err().contains("limits.allow"));
        assert!(network("sender.example").is_err());
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
}
