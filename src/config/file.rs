//! Settings as written: every key, what it may be, and what must hold between keys. `docs/CONFIG.md` says the same for people,
//! and a test compares the keys.
//!
//! Nothing here looks outside: whether a certificate can be read, a clamd answers or a host name resolves is found out by
//! whoever uses the setting, and by `feedgate check`.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use toml::de::DeValue;
use tracing_subscriber::EnvFilter;

use super::door;
use super::origins::{self, Platform, Written};
use super::reader::{Fault, Table};
use super::spam;
use super::values::*;
use super::*;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;
/// A message is counted in 32 bits in more than one server that gets it.
const MESSAGE_MAX: u64 = 2 << 30;

/// The main file, with its domains left to be read like those of the other files.
pub(super) struct MainFile<'r> {
    /// `None` only after a mistake was reported.
    pub(super) config: Option<Config>,
    pub(super) surroundings: Surroundings,
    pub(super) domains: Table<'r>,
}

/// What a domain's settings refer to.
pub(super) struct Surroundings {
    hostname: Option<Domain>,
    listen: Vec<SocketAddr>,
    lifetime: Duration,
    retry: Vec<Duration>,
    checks: CheckModes,
    /// The platform's, without its lists: they are not repeated in each domain.
    spam: Spam,
    /// The main file, and what stands in it.
    platform: Arc<Platform>,
}

impl Surroundings {
    /// For domain files beside a main file that could not be read.
    pub(super) fn unknown() -> Surroundings {
        let queue = Queue::default();
        Surroundings {
            hostname: None,
            listen: Vec::new(),
            lifetime: queue.lifetime,
            retry: Vec::new(),
            checks: CheckModes::default(),
            spam: Spam::default(),
            platform: Arc::default(),
        }
    }
}

/// Reads everything but the domains. `base` is the directory where relative paths start.
pub(super) fn main_file<'r>(mut top: Table<'r>, file: &Path, base: &Path) -> MainFile<'r> {
    let hostname = top.required("hostname", "\"mx1.isp.example\"", |value| {
        let help = "the name of this gateway, to which its addresses lead back, like \"mx1.isp.example\"";
        let name = text(value)?;
        full_domain(name).map_err(|why| Fault::new(format!("is {name:?}, which {why}")).help(help))
    });
    let data_dir = top.get("data_dir", PathBuf::from(defaults::DATA_DIR), |value| path(value, base));
    let postmaster = top.optional("postmaster", |value| postmaster(value, hostname.as_ref()));
    let rules = top.optional("rules", |value| path(value, base));
    let rules_local = top.optional("rules_local", |value| path(value, base));
    let smtp = smtp(top.table("smtp", "smtp"), base);
    let dns = dns(top.table("dns", "dns"));
    let clamav = clamav(top.table("clamav", "clamav"), base);
    let admin = admin(top.table("admin", "admin"));
    let log = log(top.table("log", "log"));
    let mut written = Written::default();
    let queue = queue(top.table("queue", "queue"), &mut written);
    let notices = notices(top.table("notices", "notices"));
    let quarantine = quarantine(top.table("quarantine", "quarantine"));
    let greylist = greylist(top.table("greylist", "greylist"));
    let limits = limits(top.table("limits", "limits"));
    let checks = door::checks(top.table("checks", "checks"), &mut written);
    let alerts = alerts(top.table("alerts", "alerts"));
    let (spam, reports) = platform_spam(top.table("spam", "spam"), &mut written);
    let domains = top.table("domains", "domains");
    top.finish();

    let surroundings = Surroundings {
        hostname: hostname.clone(),
        listen: smtp.listen.clone(),
        lifetime: queue.lifetime,
        retry: queue.retry.clone(),
        checks: checks.modes,
        spam: Spam { lists: Lists::default(), ..spam.clone() },
        platform: Arc::new(Platform { file: file.to_owned(), written }),
    };
    let config = hostname.map(|hostname| Config {
        hostname,
        data_dir,
        postmaster,
        smtp,
        dns,
        clamav,
        admin,
        log,
        queue,
        notices,
        quarantine,
        checks,
        greylist,
        limits,
        alerts,
        spam,
        reports,
        rules,
        rules_local,
        domains: BTreeMap::new(),
    });
    MainFile { config, surroundings, domains }
}

fn postmaster(value: &DeValue<'_>, hostname: Option<&Domain>) -> Result<Address, Fault> {
    let address: Address = parsed(value, "like \"postmaster@isp.example\"")?;
    match address.domain() {
        None => Err(Fault::new("must have a domain, not an address in brackets")),
        Some(domain) if Some(domain) == hostname => {
            Err(Fault::new("is an address of this gateway itself, whose mail it would send to itself")
                .help("name a mailbox elsewhere"))
        }
        Some(_) => Ok(address),
    }
}

fn smtp(mut table: Table<'_>, base: &Path) -> Smtp {
    let default = Smtp::default();
    let smtp = Smtp {
        listen: table.set("listen", default.listen, socket),
        size_max: table.get("size_max", default.size_max, |value| size(value, 64 << 10..=MESSAGE_MAX)),
        header_max: table.get("header_max", default.header_max, |value| size(value, 4 << 10..=16 * MIB)),
        // RFC 5321 §4.5.3.1.6 promises 1,000 bytes with the line end.
        text_line_max: table.get("text_line_max", default.text_line_max, |value| size(value, 998..=16 * MIB)),
        verdict_wait: table.get("verdict_wait", default.verdict_wait, |value| duration_or_zero(value, 60 * SECOND)),
        idle_timeout: table.get("idle_timeout", default.idle_timeout, |value| duration(value, HOUR)),
        session_timeout: table.get("session_timeout", default.session_timeout, |value| duration(value, DAY)),
        tls: tls(table.table("tls", "smtp.tls"), base),
        proxy_from: table.set("proxy_from", default.proxy_from, network),
        xclient_from: table.set("xclient_from", default.xclient_from, network),
    };
    table.refuse_empty("listen", &smtp.listen, "like [\"0.0.0.0:25\", \"[::]:25\"]");
    if smtp.session_timeout < smtp.idle_timeout && table.is_sound(&["idle_timeout", "session_timeout"]) {
        let idle = units::show_duration(smtp.idle_timeout);
        table.refuse("session_timeout", Fault::new(format!("is shorter than the idle_timeout of {idle}")));
    }
    table.finish();
    smtp
}

fn tls(mut table: Table<'_>, base: &Path) -> Option<TlsFiles> {
    if !table.is_written() {
        return None;
    }
    let certificate = table.required("certificate", "\"/etc/feedgate/fullchain.pem\"", |value| path(value, base));
    let key = table.required("key", "\"/etc/feedgate/privkey.pem\"", |value| path(value, base));
    table.finish();
    Some(TlsFiles { certificate: certificate?, key: key? })
}

fn dns(mut table: Table<'_>) -> Dns {
    let default = Dns::default();
    let dns = Dns {
        servers: table.set("servers", default.servers, |value| server(value, 53)),
        timeout: table.get("timeout", default.timeout, |value| duration(value, MINUTE)),
    };
    table.finish();
    dns
}

fn clamav(mut table: Table<'_>, base: &Path) -> ClamAv {
    let default = ClamAv::default();
    let help = "like \"unix:/run/clamav/clamd.ctl\" or \"tcp:127.0.0.1:3310\"";
    let absolute = |value: &_| match parsed(value, help)? {
        // Parsed again: with the directory in front it may be too long for a socket.
        ClamdAddress::Unix(path) => format!("unix:{}", base.join(path).display())
            .parse::<ClamdAddress>()
            .map_err(|error| Fault::new(format!("cannot be used: {error}"))),
        tcp => Ok(tcp),
    };
    let clamav = ClamAv {
        addresses: table.set("address", default.addresses, absolute),
        connect_timeout: table.get("connect_timeout", default.connect_timeout, |value| duration(value, MINUTE)),
        scan_timeout: table.get("scan_timeout", default.scan_timeout, |value| duration(value, HOUR)),
        scans_max: table.get("scans_max", default.scans_max, |value| count(value, 1..=1_000)),
    };
    // Promise 2: nothing unscanned is delivered, so without a scanner nothing would ever be.
    table.refuse_empty("address", &clamav.addresses, help);
    table.finish();
    clamav
}

fn admin(mut table: Table<'_>) -> Admin {
    let listen = table.get("listen", Admin::default().listen, |value| match value.as_str() {
        Some("") => Ok(None),
        _ => socket(value).map(Some),
    });
    let public_url = table.optional("public_url", door::public_url);
    table.finish();
    Admin { listen, public_url }
}

fn log(mut table: Table<'_>) -> Log {
    let default = Log::default();
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    let filter = |value: &_| {
        let filter = text(value)?;
        let checked = EnvFilter::builder().parse(filter);
        let help = "like \"info\", \"debug\" or \"info,feedgate::smtp=debug\"";
        checked.map_err(|error| Fault::new(format!("is {filter:?}: {error}")).help(help))?;
        Ok(filter.to_owned())
    };
    let log = Log {
        format: table.get("format", default.format, |value| choice(value, &formats)),
        filter: table.get("filter", default.filter, filter),
    };
    table.finish();
    log
}

fn queue(mut table: Table<'_>, written: &mut Written) -> Queue {
    written.note(&table, &origins::QUEUE_KEYS);
    let default = Queue::default();
    let queue = Queue {
        lifetime: table.get("lifetime", default.lifetime, lifetime_value),
        retry: table.list("retry", default.retry, |value| duration(value, DAY)),
        deliveries_per_domain: table.get("deliveries_per_domain", default.deliveries_per_domain, |value| count(value, 1..=1_000)),
        deliveries: table.get("deliveries", default.deliveries, |value| count(value, 1..=10_000)),
        reserve: table.get("reserve", default.reserve, |value| size(value, MIB..=1_024 * TIB)),
        history: table.get("history", default.history, |value| duration(value, 3_650 * DAY)),
    };
    table.refuse_empty("retry", &queue.retry, "like [\"1m\", \"5m\", \"15m\"]; the last one repeats");
    if let Some(first) = queue.retry.first()
        && *first > queue.lifetime
        && table.is_sound(&["retry", "lifetime"])
    {
        table.refuse("lifetime", never_tried_again(queue.lifetime, *first, "`queue.retry`"));
    }
    table.finish();
    queue
}

fn platform_spam(mut table: Table<'_>, written: &mut Written) -> (Spam, Reports) {
    written.note(&table, &spam::KEYS);
    let settings = spam::spam(&mut table, &Spam::default());
    let reports = spam::reports(table.table("learn", "spam.learn"));
    table.finish();
    (settings, reports)
}

fn lifetime_value(value: &DeValue<'_>) -> Result<Duration, Fault> {
    duration(value, 365 * DAY)
}

fn never_tried_again(lifetime: Duration, first_retry: Duration, whose: &str) -> Fault {
    let [lifetime, first_retry] = [lifetime, first_retry].map(units::show_duration);
    Fault::new(format!("is {lifetime}, shorter than the first wait in {whose}, which is {first_retry}"))
        .help("mail would be sent back after a single try")
}

fn notices(mut table: Table<'_>) -> Notices {
    let default = Notices::default();
    let delay_after = |value: &_| duration_or_zero(value, 365 * DAY).map(|after| (after > Duration::ZERO).then_some(after));
    let languages = [("en", Language::English), ("de", Language::German)];
    let notices = Notices {
        delay_after: table.get("delay_after", default.delay_after, delay_after),
        delay_in_outage: table.get("delay_in_outage", default.delay_in_outage, flag),
        per_sender: table.get("per_sender", default.per_sender, |value| rate(value, 1..=10_000, 30 * DAY)),
        language: table.get("language", default.language, |value| choice(value, &languages)),
    };
    table.finish();
    notices
}

fn quarantine(mut table: Table<'_>) -> Quarantine {
    let keep = table.get("keep", Quarantine::default().keep, |value| duration(value, 3_650 * DAY));
    table.finish();
    Quarantine { keep }
}

fn greylist(mut table: Table<'_>) -> Greylist {
    let default = Greylist::default();
    let greylist = Greylist {
        delay: table.get("delay", default.delay, |value| duration(value, DAY)),
        window: table.get("window", default.window, |value| duration(value, 30 * DAY)),
        remember: table.get("remember", default.remember, |value| duration(value, 366 * DAY)),
    };
    if greylist.window <= greylist.delay && table.is_sound(&["window", "delay"]) {
        let [window, delay] = [greylist.window, greylist.delay].map(units::show_duration);
        let fault = Fault::new(format!("is {window}; it must be longer than the delay of {delay}"));
        table.refuse("window", fault.help("a first try would be forgotten before a retry is taken"));
    }
    table.finish();
    greylist
}

fn limits(mut table: Table<'_>) -> Limits {
    const CONNECTIONS: RangeInclusive<usize> = 1..=1_000_000;
    let default = Limits::default();
    let recipients = default.recipients_per_message;
    let limits = Limits {
        connections: table.get("connections", default.connections, |value| count(value, CONNECTIONS)),
        connections_per_client: table
            .get("connections_per_client", default.connections_per_client, |value| count(value, CONNECTIONS)),
        recipients_per_message: table.get("recipients_per_message", recipients, |value| count(value, 1..=100_000)),
        errors_per_session: table.get("errors_per_session", default.errors_per_session, |value| count(value, 1..=10_000)),
        sessions_per_client: table.get("sessions_per_client", default.sessions_per_client, door::limit),
        messages_per_client: table.get("messages_per_client", default.messages_per_client, door::limit),
        recipients_per_client: table.get("recipients_per_client", default.recipients_per_client, door::limit),
        errors_per_client: table.get("errors_per_client", default.errors_per_client, door::limit),
        network_factor: table.get("network_factor", default.network_factor, |value| count(value, 1..=10_000).map(|n| n as u32)),
        messages_per_sender_domain: table.get("messages_per_sender_domain", default.messages_per_sender_domain, door::limit),
        tarpit: table.get("tarpit", default.tarpit, |value| duration_or_zero(value, MINUTE)),
        ban: table.get("ban", default.ban, |value| duration_or_zero(value, 30 * DAY)),
        ban_max: table.get("ban_max", default.ban_max, |value| duration(value, 365 * DAY)),
        allow: table.set("allow", default.allow, network),
    };
    if limits.ban_max < limits.ban && table.is_sound(&["ban", "ban_max"]) {
        let ban = units::show_duration(limits.ban);
        table.refuse("ban_max", Fault::new(format!("is shorter than the first ban of {ban}")));
    }
    table.finish();
    limits
}

fn alerts(mut table: Table<'_>) -> Alerts {
    let help = "a program by its whole path, then its arguments: [\"/usr/local/bin/page-ops\", \"--urgent\"]";
    let mut words = table.list("command", Vec::new(), |value| match text(value)? {
        text if text.contains('\0') => Err(Fault::new("holds a NUL, which no argument can")),
        text => Ok(text.to_owned()),
    });
    if table.has("command") {
        table.refuse_empty("command", &words, help);
    }
    if words.first().is_some_and(|program| !program.starts_with('/')) {
        let program = words.first().map(String::as_str).unwrap_or_default();
        table.refuse("command", Fault::new(format!("begins with {program:?}, which is not a whole path")).help(help));
    }
    let command = (!words.is_empty()).then(|| (PathBuf::from(words.remove(0)), words));
    let webhook = table.optional("webhook", webhook);
    table.finish();
    Alerts { command, webhook }
}

fn webhook(value: &DeValue<'_>) -> Result<hyper::Uri, Fault> {
    let help = "like \"https://alerts.isp.example/feedgate\"";
    let url: hyper::Uri = parsed(value, help)?;
    let names_user = url.authority().is_some_and(|authority| authority.as_str().contains('@'));
    match (url.scheme_str(), url.host()) {
        // Basic authentication is not spoken; a secret in the path is as good.
        (Some("http" | "https"), _) if names_user => {
            Err(Fault::new("names a user, which is not sent").help("put a secret into the path instead"))
        }
        (Some("http" | "https"), Some(host)) if !host.is_empty() => Ok(url),
        _ => Err(Fault::new("must begin with https:// or http:// and the name of a host").help(help)),
    }
}

/// One `[domains."…"]`. `None` only after a mistake was reported.
pub(super) fn domain(mut table: Table<'_>, surroundings: &Surroundings, file: &Path) -> Option<DomainConfig> {
    let default = DomainConfig::with_defaults(Vec::new());
    let help = "like \"203.0.113.5\", \"[2001:db8::5]:2525\" or \"mail.customer.example\"";
    let is_written = table.has("deliver_to");
    let deliver_to = table.set("deliver_to", default.deliver_to, |value| {
        let hop: NextHop = parsed(value, help)?;
        if surroundings.is_this_gateway(&hop) {
            return Err(Fault::new(format!("names {hop}, which is this gateway itself")).help("mail would go round in circles"));
        }
        Ok(hop)
    });
    if is_written {
        table.refuse_empty("deliver_to", &deliver_to, help);
    } else {
        table.missing("deliver_to", "[\"203.0.113.5\"]");
    }
    let retry = table.list("retry", surroundings.retry.clone(), |value| duration(value, DAY));
    if table.has("retry") {
        table.refuse_empty("retry", &retry, "like [\"1m\", \"5m\", \"15m\"]; the last one repeats");
    }
    let first_retry = retry.first().copied().unwrap_or_default();
    let unscannable = [("quarantine", Unscannable::Quarantine), ("deliver-tagged", Unscannable::DeliverTagged)];
    let base = file.parent().unwrap_or(Path::new("/"));
    let mut written = Written::default();
    written.note(&table, &origins::DOMAIN_KEYS);
    let checks = table.table("checks", "domains.\"…\".checks");
    written.note(&checks, &origins::CHECK_KEYS);
    let mut spam_table = table.table("spam", "domains.\"…\".spam");
    written.note(&spam_table, &spam::KEYS);
    let spam = spam::spam(&mut spam_table, &surroundings.spam);
    spam_table.finish();
    let config = DomainConfig {
        file: file.to_owned(),
        deliver_to,
        checks: door::modes(checks, surroundings.checks),
        greylist: table.get("greylist", default.greylist, door::greylisting),
        recipients: door::recipients(&mut table, base),
        relay_from: table.set("relay_from", default.relay_from, network),
        lifetime: table.get("lifetime", surroundings.lifetime, lifetime_value),
        retry,
        outage_lifetime_max: table.optional("outage_lifetime_max", lifetime_value),
        unscannable: table.get("unscannable", default.unscannable, |value| choice(value, &unscannable)),
        spam,
        origins: Origins::new(&surroundings.platform, written),
    };
    // Without its own lifetime the domain has that of the queue, where the same is said once.
    let says_so = table.has("lifetime") || table.has("retry");
    if says_so && config.lifetime < first_retry && table.is_sound(&["lifetime", "retry"]) {
        let whose = if table.has("retry") { "its `retry`" } else { "`queue.retry`" };
        table.refuse("lifetime", never_tried_again(config.lifetime, first_retry, whose));
    }
    if let Some(most) = config.outage_lifetime_max.filter(|most| *most < config.lifetime)
        && table.is_sound(&["lifetime", "outage_lifetime_max"])
    {
        let [most, lifetime] = [most, config.lifetime].map(units::show_duration);
        let whose = if table.has("lifetime") { "its `lifetime`" } else { "`queue.lifetime`" };
        let fault = Fault::new(format!("is {most}, shorter than {whose}, which is {lifetime}"));
        table.refuse("outage_lifetime_max", fault.help("it is how old mail may become while the domain's servers are down"));
    }
    table.finish();
    (!config.deliver_to.is_empty()).then_some(config)
}

impl Surroundings {
    /// Whether the hop is, by its name or literally, where this gateway listens. Other ways to itself (another name, an
    /// address translated on the way) end at the limit for `Received` fields.
    fn is_this_gateway(&self, hop: &NextHop) -> bool {
        let mut listen = self.listen.iter().filter(|listen| listen.port() == hop.port);
        match &hop.host {
            HopHost::Name(name) => Some(name) == self.hostname.as_ref() && listen.next().is_some(),
            HopHost::Address(address) => listen.any(|listen| reaches(*address, listen.ip())),
        }
    }
}

/// Whether a connection to the address comes out at a socket that listens on `listen`, as far as that can be known here.
fn reaches(address: IpAddr, listen: IpAddr) -> bool {
    address == listen || (address.is_loopback() && listen.is_unspecified() && address.is_ipv4() == listen.is_ipv4())
}
