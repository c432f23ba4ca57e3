//! What holds when a key is not written. `deploy/feedgate.toml` shows the same values, and a test holds the two together.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::*;

const SECOND: u64 = 1;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

pub(super) const DATA_DIR: &str = "/var/lib/feedgate";

impl Config {
    /// Everything at its default, and no domain: what a file that only says `hostname` and `data_dir` means.
    pub fn with_defaults(hostname: Domain, data_dir: PathBuf) -> Config {
        Config {
            hostname,
            data_dir,
            postmaster: None,
            smtp: Smtp::default(),
            dns: Dns::default(),
            clamav: ClamAv::default(),
            admin: Admin::default(),
            log: Log::default(),
            queue: Queue::default(),
            notices: Notices::default(),
            quarantine: Quarantine::default(),
            checks: Checks::default(),
            greylist: Greylist::default(),
            limits: Limits::default(),
            alerts: Alerts::default(),
            spam: Spam::default(),
            reports: Reports::default(),
            rules: None,
            rules_local: None,
            domains: BTreeMap::new(),
        }
    }
}

impl DomainConfig {
    /// Everything at its default; stands in no file.
    pub fn with_defaults(deliver_to: Vec<NextHop>) -> DomainConfig {
        DomainConfig {
            file: PathBuf::new(),
            deliver_to,
            checks: CheckModes::default(),
            greylist: Greylisting::Always,
            recipients: Recipients::default(),
            relay_from: Vec::new(),
            lifetime: Queue::default().lifetime,
            retry: Queue::default().retry,
            outage_lifetime_max: None,
            unscannable: Unscannable::Quarantine,
            spam: Spam::default(),
            origins: Origins::default(),
        }
    }
}

impl Default for Smtp {
    fn default() -> Smtp {
        Smtp {
            listen: vec![SocketAddr::from((Ipv4Addr::UNSPECIFIED, 25)), SocketAddr::from((Ipv6Addr::UNSPECIFIED, 25))],
            size_max: 50 << 20,
            header_max: 256 << 10,
            text_line_max: 64 << 10,
            verdict_wait: Duration::from_secs(10),
            // RFC 5321 §4.5.3.2.7: at least five minutes.
            idle_timeout: Duration::from_secs(5 * MINUTE),
            session_timeout: Duration::from_secs(30 * MINUTE),
            tls: None,
            proxy_from: Vec::new(),
            xclient_from: Vec::new(),
        }
    }
}

impl Default for Dns {
    fn default() -> Dns {
        Dns { servers: Vec::new(), timeout: Duration::from_secs(5) }
    }
}

impl Default for ClamAv {
    fn default() -> ClamAv {
        ClamAv {
            addresses: vec![ClamdAddress::Unix(PathBuf::from("/run/clamav/clamd.ctl"))],
            connect_timeout: Duration::from_secs(5),
            // clamd's own MaxScanTime is 2 minutes.
            scan_timeout: Duration::from_secs(2 * MINUTE),
            scans_max: 20,
        }
    }
}

impl Default for Admin {
    fn default() -> Admin {
        Admin { listen: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 8025))), public_url: None }
    }
}

impl Default for Log {
    fn default() -> Log {
        Log { format: LogFormat::Text, filter: "info".to_owned() }
    }
}

impl Default for Queue {
    fn default() -> Queue {
        Queue {
            lifetime: Duration::from_secs(2 * DAY),
            retry: [1, 2, 5, 10, 15].map(|minutes| Duration::from_secs(minutes * MINUTE)).to_vec(),
            deliveries_per_domain: 10,
            deliveries: 200,
            reserve: 256 << 20,
            history: Duration::from_secs(14 * DAY),
        }
    }
}

impl Default for Notices {
    fn default() -> Notices {
        Notices {
            delay_after: Some(Duration::from_secs(4 * HOUR)),
            delay_in_outage: false,
            per_sender: Rate { count: 50, per: Duration::from_secs(HOUR) },
            language: Language::English,
        }
    }
}

impl Default for Quarantine {
    fn default() -> Quarantine {
        Quarantine { keep: Duration::from_secs(30 * DAY) }
    }
}

impl Default for Checks {
    fn default() -> Checks {
        Checks {
            modes: CheckModes::default(),
            early_talker_wait: Duration::from_secs(2),
            lists: Vec::new(),
            uri_lists: Vec::new(),
            trusted_sealers: Vec::new(),
        }
    }
}

impl Default for CheckModes {
    fn default() -> CheckModes {
        CheckModes {
            reverse_dns: CheckMode::Reject,
            forward_confirmed: CheckMode::Score,
            dynamic_name: CheckMode::Score,
            helo: CheckMode::Score,
            dmarc: CheckMode::Reject,
        }
    }
}

impl Default for Recipients {
    fn default() -> Recipients {
        Recipients {
            check: RecipientCheck::Any,
            list: RecipientList::Here(Vec::new()),
            callout_port: None,
            unseen: Unseen::Accept,
        }
    }
}

impl Default for Greylist {
    fn default() -> Greylist {
        Greylist {
            delay: Duration::from_secs(5 * MINUTE),
            window: Duration::from_secs(2 * DAY),
            remember: Duration::from_secs(36 * DAY),
        }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 10_000,
            connections_per_client: 50,
            recipients_per_message: 1_000,
            errors_per_session: 20,
            sessions_per_client: Rate { count: 300, per: Duration::from_secs(MINUTE) },
            messages_per_client: Rate { count: 600, per: Duration::from_secs(MINUTE) },
            recipients_per_client: Rate { count: 6_000, per: Duration::from_secs(MINUTE) },
            errors_per_client: Rate { count: 60, per: Duration::from_secs(MINUTE) },
            network_factor: 4,
            messages_per_sender_domain: Rate { count: 6_000, per: Duration::from_secs(MINUTE) },
            tarpit: Duration::from_secs(5),
            ban: Duration::from_secs(10 * MINUTE),
            ban_max: Duration::from_secs(DAY),
            allow: Vec::new(),
        }
    }
}

impl Default for Spam {
    fn default() -> Spam {
        let level = |action, text: &str| LevelPolicy { action, text: text.to_owned() };
        Spam {
            enabled: false,
            low: level(Action::Subject, "[SPAM: low] "),
            med: level(Action::Subject, "[SPAM: med] "),
            high: level(Action::Reject, "[SPAM: high] "),
            share: crate::spam::SHARE_DEFAULT,
            people: Vec::new(),
            lists: Lists::default(),
        }
    }
}
