//! Settings: as written (TOML, `file.rs`) and as used (this file). Everything is parsed once, here; inside the house there is
//! no string that is really a domain, a duration or a size. All mistakes are reported at once, with file, line and caret.
//!
//! Pure but for reading the files: nothing here opens a socket or knows whether a host answers (`feedgate check` asks that).
//! Settings that do not validate are never used in part: [`Config::load`] gives all or nothing.

mod defaults;
mod door;
mod errors;
mod file;
mod hop;
mod load;
mod origins;
mod reader;
mod spam;
pub mod units;
mod values;
mod watch;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::mail::{Action, Address, Domain, SpamLevel};
use crate::spam::{Entry, Label, Lists, Person, Who};

pub use errors::{ConfigError, ConfigErrors};
pub use hop::HopError;
pub use load::keys;
pub use origins::Origins;
pub use watch::{Source, watch};

/// All settings, validated. One value is one state of the files; a reload makes a new one and swaps it in whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Banner, EHLO, `Received`, `Authentication-Results`.
    pub hostname: Domain,
    pub data_dir: PathBuf,
    /// Where mail to `<postmaster>` and `postmaster@hostname` goes; such mail is refused when absent.
    pub postmaster: Option<Address>,
    pub smtp: Smtp,
    pub dns: Dns,
    pub clamav: ClamAv,
    pub admin: Admin,
    pub log: Log,
    pub queue: Queue,
    pub notices: Notices,
    pub quarantine: Quarantine,
    pub checks: Checks,
    pub greylist: Greylist,
    pub limits: Limits,
    pub alerts: Alerts,
    /// Where a domain says nothing else; its lists count for all domains.
    pub spam: Spam,
    pub reports: Reports,
    /// A directory with rules that replaces the built-in ones; `None`: built in.
    pub rules: Option<PathBuf>,
    /// A directory with the local layer on top; `None`: there is none.
    pub rules_local: Option<PathBuf>,
    pub domains: BTreeMap<Domain, DomainConfig>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Smtp {
    pub listen: Vec<SocketAddr>,
    /// Of a message, in bytes.
    pub size_max: u64,
    /// Of the header section, in bytes (Exchange takes 256 KiB).
    pub header_max: u64,
    /// Of one line of text, in bytes without its end; RFC 5321 promises 998 and real mail has longer ones.
    pub text_line_max: u64,
    /// How long the end of DATA may wait for the verdict.
    pub verdict_wait: Duration,
    /// Between two pieces of input.
    pub idle_timeout: Duration,
    /// Of a whole session.
    pub session_timeout: Duration,
    /// Absent: STARTTLS is not offered.
    pub tls: Option<TlsFiles>,
    /// Load balancers in front of us: each connection from there must begin with a PROXY header, version 1 or 2.
    pub proxy_from: Vec<IpNet>,
    /// Who may say with XCLIENT for whom it speaks: for tests and migration.
    pub xclient_from: Vec<IpNet>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct TlsFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Dns {
    /// Empty: the system's.
    pub servers: Vec<SocketAddr>,
    /// For one question with its retries.
    pub timeout: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ClamAv {
    /// At least one.
    pub addresses: Vec<ClamdAddress>,
    /// For connecting.
    pub connect_timeout: Duration,
    /// For one whole scan.
    pub scan_timeout: Duration,
    /// Scans at a time for each address; clamd's MaxThreads times two is a good value (default 20).
    pub scans_max: usize,
}

/// Where a clamd listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ClamdAddress {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    /// HTTP for `/metrics` and `/healthz`; `None` when switched off with `""`.
    pub listen: Option<SocketAddr>,
    /// Where strangers reach the explanation pages, without a final slash: `https://mail.isp.example`. `None`: there are none.
    pub public_url: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    pub format: LogFormat,
    /// As `tracing` reads it: `info`, `debug`, `feedgate=debug`.
    pub filter: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Queue {
    /// How long delivery is tried; a domain may say otherwise.
    pub lifetime: Duration,
    /// Waits between attempts; the last one repeats. At least one.
    pub retry: Vec<Duration>,
    /// Deliveries at a time to one domain (Exchange allows 20 connections an address, so at most 15 is wise; default 10).
    pub deliveries_per_domain: usize,
    /// Deliveries at a time in all.
    pub deliveries: usize,
    /// Below this many free bytes on the spool's disk, new mail is answered 452 4.3.1.
    pub reserve: u64,
    /// How long settled messages can be traced.
    pub history: Duration,
}

/// What senders are told.
#[derive(Clone, Debug, PartialEq)]
pub struct Notices {
    /// A message that is not delivered so long after its arrival is late, and its sender told so; `None`: never.
    pub delay_after: Option<Duration>,
    /// Also when it is late because the host is away.
    pub delay_in_outage: bool,
    /// Of failures and delays together.
    pub per_sender: Rate,
    /// When the message does not tell the sender's.
    pub language: Language,
}

/// So many in a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    pub count: u32,
    pub per: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    English,
    German,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Quarantine {
    /// After this a quarantined message is deleted.
    pub keep: Duration,
}

/// What is asked about a client before its message is read.
#[derive(Clone, Debug, PartialEq)]
pub struct Checks {
    /// Where a domain says nothing else.
    pub modes: CheckModes,
    /// Before the banner, for clients that have not passed before. Zero: nobody waits.
    pub early_talker_wait: Duration,
    pub lists: Vec<ListZone>,
    /// Asked about the hosts in links.
    pub uri_lists: Vec<UriZone>,
    /// Domains whose ARC seals vouch for what they forward, besides those that we ship.
    pub trusted_sealers: Vec<Domain>,
}

/// What is done about each check's finding. A domain may say otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckModes {
    /// No PTR at all.
    pub reverse_dns: CheckMode,
    /// A PTR whose addresses do not lead back.
    pub forward_confirmed: CheckMode,
    /// A PTR that looks like DSL, cable or dial-up.
    pub dynamic_name: CheckMode,
    /// An EHLO name that is none, is ours, or does not resolve to the client.
    pub helo: CheckMode,
    /// What the sender's DMARC policy asks for.
    pub dmarc: CheckMode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckMode {
    /// Not asked.
    Off,
    /// A fact for the spam rules.
    Score,
    Reject,
}

/// A DNS list of clients (RFC 5782).
#[derive(Clone, Debug, PartialEq)]
pub struct ListZone {
    pub zone: Domain,
    /// For a client that is on it; negative: the list speaks for its clients (DNSWL).
    pub points: f32,
    /// Answers that count, each from-to; at least one, all in 127.0.0.0/8.
    pub codes: Vec<(Ipv4Addr, Ipv4Addr)>,
    /// Counted and reported, without any effect.
    pub shadow: bool,
}

/// A DNS list of hosts in links (URIBL, RFC 5782 §2.2).
#[derive(Clone, Debug, PartialEq)]
pub struct UriZone {
    pub zone: Domain,
    /// For a message with a link to a host that is on it.
    pub points: f32,
    pub counts: UriCodes,
    pub ask: UriAsk,
    /// What the list always lists.
    pub test: Domain,
    /// Counted and reported, without any effect.
    pub shadow: bool,
}

/// Which answers are listings.
#[derive(Clone, Debug, PartialEq)]
pub enum UriCodes {
    /// Each from-to; at least one, all in 127.0.0.0/8.
    Ranges(Vec<(Ipv4Addr, Ipv4Addr)>),
    /// 127.0.0.x where x has one of these bits: several lists in one zone.
    Bits(u8),
}

/// What a list of hosts has entries of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UriAsk {
    /// What somebody registered: `shop.co.uk` for `www.shop.co.uk`.
    Domain,
    Host,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Greylist {
    /// From the first try until a retry is taken.
    pub delay: Duration,
    /// From the first try until it is forgotten.
    pub window: Duration,
    /// From the last message of a host that passed until it is forgotten.
    pub remember: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    pub connections: usize,
    pub connections_per_client: usize,
    pub recipients_per_message: usize,
    pub errors_per_session: usize,
    /// New sessions from one address.
    pub sessions_per_client: Rate,
    pub messages_per_client: Rate,
    pub recipients_per_client: Rate,
    /// Commands refused, over all sessions of an address.
    pub errors_per_client: Rate,
    /// A /24 or /48 together may do so many times what one client may.
    pub network_factor: u32,
    pub messages_per_sender_domain: Rate,
    /// How long each refused recipient waits for its answer once a client guesses addresses. Zero: nobody waits.
    pub tarpit: Duration,
    /// The first ban of a client that goes on over its limits; each further one is twice as long. Zero: nobody is banned.
    pub ban: Duration,
    pub ban_max: Duration,
    /// Networks without limits, greylisting and client checks.
    pub allow: Vec<IpNet>,
}

/// Where customers' users send what was judged wrongly.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reports {
    /// Takes what is spam and came through.
    pub spam: Option<Address>,
    /// Takes what was called spam and is wanted.
    pub ham: Option<Address>,
}

impl Reports {
    /// What a report to this address says of the messages attached to it; `None`: it takes no reports.
    pub fn label_of(&self, address: &Address) -> Option<Label> {
        let is_same = |ours: &&Address| ours.host() == address.host() && ours.local().eq_ignore_ascii_case(address.local());
        let spam = self.spam.as_ref().filter(is_same).map(|_| Label::Spam);
        spam.or_else(|| self.ham.as_ref().filter(is_same).map(|_| Label::Ham))
    }
}

/// Who is told of a customer's outage, besides the log.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Alerts {
    /// A program, by its whole path, and its arguments.
    pub command: Option<(PathBuf, Vec<String>)>,
    /// `http:` only.
    pub webhook: Option<hyper::Uri>,
}

/// What one customer's domain asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct DomainConfig {
    /// The file it stands in.
    pub file: PathBuf,
    /// Tried in order; at least one.
    pub deliver_to: Vec<NextHop>,
    pub checks: CheckModes,
    pub greylist: Greylisting,
    pub recipients: Recipients,
    /// From where the customer's own servers send out through us, with sender addresses of this domain only.
    pub relay_from: Vec<IpNet>,
    pub lifetime: Duration,
    /// Waits between attempts; the last one repeats. At least one.
    pub retry: Vec<Duration>,
    /// While its hosts are known to be down, a message's clock stands still until it is so old. Not shorter than `lifetime`.
    pub outage_lifetime_max: Option<Duration>,
    /// For mail that cannot be scanned to the end: over a limit, or encrypted.
    pub unscannable: Unscannable,
    pub spam: Spam,
    /// Where each value stands.
    pub origins: Origins,
}

/// Whom greylisting asks to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Greylisting {
    Always,
    /// Only clients with a blemish: reverse name, greeting, DNS lists, SPF.
    Suspicious,
    Off,
}

/// Which recipients exist.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipients {
    pub check: RecipientCheck,
    /// With [`RecipientCheck::List`] the only ones; with a callout they are not asked for.
    pub list: RecipientList,
    /// Where callouts go, when that is not the port of deliveries.
    pub callout_port: Option<u16>,
    /// What is done about addresses that nobody knows while the customer's server is down.
    pub unseen: Unseen,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecipientCheck {
    /// All: the customer's server says so when the mail is delivered.
    Any,
    List,
    /// Those the customer's server takes.
    Callout,
}

/// Addresses as they are written: with `*` for any letters in the local part.
#[derive(Clone, Debug, PartialEq)]
pub enum RecipientList {
    Here(Vec<String>),
    /// One on a line.
    File(PathBuf),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unseen {
    Accept,
    Defer,
}

/// A customer's server, as the settings name it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NextHop {
    pub host: HopHost,
    pub port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HopHost {
    Address(IpAddr),
    Name(Domain),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unscannable {
    Quarantine,
    /// Deliver with `X-Feedgate-Unscannable` and a tag in the subject.
    DeliverTagged,
}

/// A domain's wishes for each level; only looked at when `enabled`.
#[derive(Clone, Debug, PartialEq)]
pub struct Spam {
    pub enabled: bool,
    pub low: LevelPolicy,
    pub med: LevelPolicy,
    pub high: LevelPolicy,
    /// Of spam in the mail that gets as far as the judgement, from 0.01 to 0.99.
    pub share: f32,
    /// Whose names strangers put on to deceive the domain's people.
    pub people: Vec<Person>,
    /// Of this layer alone: a domain's do not repeat the platform's.
    pub lists: Lists,
}

#[derive(Clone, Debug, PartialEq)]
pub struct LevelPolicy {
    pub action: Action,
    /// For [`Action::Subject`]; printable, without line ends, at most 64 characters.
    pub text: String,
}

impl Spam {
    /// `None` for [`SpamLevel::None`]: nothing is done at that level.
    pub fn at(&self, level: SpamLevel) -> Option<&LevelPolicy> {
        match level {
            SpamLevel::None => None,
            SpamLevel::Low => Some(&self.low),
            SpamLevel::Med => Some(&self.med),
            SpamLevel::High => Some(&self.high),
        }
    }
}

impl Config {
    /// The settings of the domain, when it is served.
    pub fn domain(&self, domain: &Domain) -> Option<&DomainConfig> {
        self.domains.get(domain)
    }

    /// Whether limits and greylisting are waived for this address.
    pub fn allows(&self, address: IpAddr) -> bool {
        // ::ffff:192.0.2.1 is how a socket for both families shows 192.0.2.1.
        let address = address.to_canonical();
        self.limits.allow.iter().any(|network| network.contains(&address))
    }
}

/// The settings in force, swapped whole by a reload. Whoever works on one message loads it once.
pub type Current = std::sync::Arc<arc_swap::ArcSwap<Config>>;
