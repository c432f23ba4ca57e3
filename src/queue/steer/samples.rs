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
    progress.judgement =
        Some(Judgement { at: Timestamp(0), verdict: Verdict::Clean, score: 0.0, level: SpamLevel::None, hits: Vec::new() });
    progress.recipients.iter_mut().for_each(|recipient| recipient.decision = Some(decision.clone()));
    progress
}

/// Settings with these domains; `customer.example` is served when `domains` says so.
pub fn config(domains: &[(&str, Vec<NextHop>)]) -> Config {
    let spam = |action| LevelPolicy { action, text: String::new() };
    let domain = |hops: &Vec<NextHop>| DomainConfig {
        file: "feedgate.toml".into(),
        deliver_to: hops.clone(),
        greylist: true,
        lifetime: Duration::from_secs(86_400),
        retry: Queue::default().retry,
        outage_lifetime_max: None,
        unscannable: Unscannable::Quarantine,
        spam: Spam { enabled: false, low: spam(Action::None), med: spam(Action::None), high: spam(Action::None) },
    };
    Config {
        hostname: "mx1.isp.example".parse().unwrap(),
        data_dir: "/nowhere".into(),
        postmaster: None,
        smtp: Smtp {
            listen: Vec::new(),
            size_max: 50 << 20,
            header_max: 256 << 10,
            text_line_max: 100_000,
            verdict_wait: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(300),
            session_timeout: Duration::from_secs(3600),
            tls: None,
        },
        dns: Dns { servers: Vec::new(), timeout: Duration::from_secs(5) },
        clamav: ClamAv {
            addresses: Vec::new(),
            connect_timeout: Duration::from_secs(5),
            scan_timeout: Duration::from_secs(60),
            scans_max: 20,
        },
        admin: Admin { listen: None },
        log: Log { format: LogFormat::Text, filter: "info".into() },
        queue: Queue {
            lifetime: Duration::from_secs(2 * 86_400),
            retry: [60, 120, 300, 600, 900].map(Duration::from_secs).to_vec(),
            deliveries_per_domain: 10,
            deliveries: 200,
            reserve: 0,
            history: Duration::from_secs(86_400),
        },
        notices: Notices { delay_after: None, ..Notices::default() },
        quarantine: Quarantine { keep: Duration::from_secs(30 * 86_400) },
        greylist: Greylist {
            delay: Duration::from_secs(300),
            window: Duration::from_secs(2 * 86_400),
            remember: Duration::from_secs(36 * 86_400),
        },
        alerts: Alerts::default(),
        limits: Limits {
            connections: 10_000,
            connections_per_client: 50,
            recipients_per_message: 1000,
            errors_per_session: 20,
            allow: Vec::new(),
        },
        rules: None,
        domains: domains.iter().map(|(name, hops)| (name.parse().unwrap(), domain(hops))).collect(),
    }
}
