//! Messages for the tests of this folder.

use crate::config::*;
use crate::mail::*;
use std::time::Duration;

/// A message that came at one second past 1970.
pub fn message(sender: &str, to: &[&str]) -> Envelope {
    Envelope {
        id: SessionId::from_u64(42).unwrap().message(1),
        received_at: Timestamp(1_000),
        client: Client {
            address: "192.0.2.1".parse().unwrap(),
            reverse_name: None,
            reverse_confirmed: false,
            helo: "mail.sender.example".into(),
            protocol: Protocol::Esmtp,
            tls: None,
            findings: Vec::new(),
        },
        reverse_path: sender.parse().unwrap(),
        parameters: MailParameters::default(),
        recipients: to.iter().map(|to| Recipient::new(to.parse().unwrap())).collect(),
        size: 100,
    }
}

/// Clean, and decided so for each of `recipients`.
pub fn judged(recipients: usize, decision: Decision) -> Progress {
    let mut progress = Progress::accepted(Origin::Client, recipients, Timestamp(0));
    progress.judgement = Some(Judgement {
        at: Timestamp(0),
        verdict: Verdict::Clean,
        score: 0.0,
        level: SpamLevel::None,
        hits: Vec::new(),
        authentication: Default::default(),
        domains: Vec::new(),
    });
    progress.recipients.iter_mut().for_each(|recipient| recipient.decision = Some(decision.clone()));
    progress
}

/// Settings with these domains; `customer.example` is served when `domains` says so.
pub fn config(domains: &[(&str, Vec<NextHop>)]) -> Config {
    let domain =
        |hops: &Vec<NextHop>| DomainConfig { lifetime: Duration::from_secs(86_400), ..DomainConfig::with_defaults(hops.clone()) };
    let config = Config::with_defaults("mx1.isp.example".parse().unwrap(), "/nowhere".into());
    Config {
        queue: Queue { reserve: 0, ..config.queue },
        notices: Notices { delay_after: None, ..config.notices },
        domains: domains.iter().map(|(name, hops)| (name.parse().unwrap(), domain(hops))).collect(),
        ..config
    }
}
