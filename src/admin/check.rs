//! `feedgate check`: is this configuration right, and does what it names answer?
//!
//! Mistakes in the files are errors and end with exit code 1. What is looked at live (next hops, scanner, certificates,
//! directory) may be better tomorrow, so it is a warning; `--strict` makes it count. Nothing is changed and no mail is sent:
//! a next hop is connected to, its greeting read, and left with QUIT.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::answers::{DomainView, clamd_text, hop_text};
use super::cli::{Context, Failure, domain, rules};
use super::output::{counted, printable};
use crate::config::{ClamAv, Config, HopHost, NextHop};
use crate::mail::Domain;
use crate::net::{self, Dns, Tcp};
use crate::outside::{Clock, Resolver, Scanner, ScannerHealth, Stream, Transport};
use crate::scan::Pool;
use crate::spam::{Entry, Lists, Who, is_freemail};

/// For connecting to a next hop, and again for its greeting.
const HOP_WAIT: Duration = Duration::from_secs(5);
/// Next hops looked at at the same time.
const HOPS_AT_ONCE: usize = 32;
/// Of one name, so many addresses are tried.
const ADDRESSES_TRIED: usize = 4;
/// Of a greeting, in bytes: a reply line has 512 (RFC 5321 §4.5.3.1.5).
const GREETING_MAX: usize = 512;

#[derive(Debug, Args)]
pub struct CheckArguments {
    /// Only read the files; connect to nothing
    #[arg(long)]
    offline: bool,
    /// Exit with 1 on warnings too
    #[arg(long, conflicts_with = "offline")]
    strict: bool,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub grade: Grade,
    pub about: String,
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Grade {
    Ok,
    Warning,
}

impl Finding {
    fn ok(about: impl Into<String>, text: impl Into<String>) -> Finding {
        Finding { grade: Grade::Ok, about: about.into(), text: text.into() }
    }

    fn warning(about: impl Into<String>, text: impl Into<String>) -> Finding {
        Finding { grade: Grade::Warning, about: about.into(), text: text.into() }
    }
}

#[derive(Debug, Serialize)]
struct Report {
    domains: Vec<DomainView>,
    findings: Vec<Finding>,
}

pub async fn run(context: &Context, arguments: &CheckArguments) -> Result<(), Failure> {
    let config = Config::load(&context.config)?;
    rules::load(&config).map_err(Failure::Configuration)?;
    let domains = domain::views(&config);
    let mut findings = policy(&config);
    if !arguments.offline {
        findings.extend(live(Arc::new(config), Arc::clone(&context.clock)).await);
    }
    let report = Report { domains, findings };
    context.show(&report, |report| {
        let about = format!("{} is valid: {}\n", context.config.display(), counted(report.domains.len() as u64, "domain"));
        format!(
            "{about}\n{}{}",
            domain::list_text(&report.domains, context.now(), context.width),
            findings_text(&report.findings)
        )
    })?;
    let warned = report.findings.iter().any(|finding| finding.grade == Grade::Warning);
    if warned && arguments.strict { Err(Failure::CouldNot("there are warnings".to_owned())) } else { Ok(()) }
}

fn findings_text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding { grade, about, text: found } in findings {
        let word = match grade {
            Grade::Ok => "ok",
            Grade::Warning => "WARNING",
        };
        text += &format!("{word:<8} {}: {}\n", printable(about), printable(found));
    }
    if text.is_empty() { text } else { format!("\n{text}") }
}

/// What is allowed by the settings and probably not meant.
fn policy(config: &Config) -> Vec<Finding> {
    let domains = config.domains.iter().map(|(domain, settings)| (format!("domains.\"{domain}\".spam"), &settings.spam.lists));
    let layers = std::iter::once(("spam".to_owned(), &config.spam.lists)).chain(domains);
    layers.flat_map(|(about, lists)| lists_of(&about, lists)).collect()
}

fn lists_of(about: &str, lists: &Lists) -> Vec<Finding> {
    let mut findings = Vec::new();
    for Entry { who, unauthenticated } in &lists.allow {
        let domain = match who {
            Who::Address(address) => address.domain(),
            Who::Domain(domain) | Who::Within(domain) => Some(domain),
            Who::Network(_) => None,
        };
        if *unauthenticated && domain.is_some_and(is_freemail) {
            let text = format!("allows {who} without proof: anybody can write that name, and many do");
            findings.push(Finding::warning(about, text));
        }
        if lists.block.iter().any(|blocked| blocked.who == *who) {
            findings.push(Finding::warning(about, format!("allows {who} and blocks it: it is blocked")));
        }
    }
    findings
}

/// Looks at everything outside that the configuration names.
async fn live(config: Arc<Config>, clock: Arc<dyn Clock>) -> Vec<Finding> {
    let files = {
        let config = Arc::clone(&config);
        tokio::task::spawn_blocking(move || [data_dir(&config.data_dir), tls(&config)].into_iter().flatten().collect::<Vec<_>>())
    };
    let scanners = scanners(&config.clamav, clock);
    let hops = async {
        match Dns::new(&config.dns) {
            Ok(dns) => next_hops(&config, Arc::new(dns), Arc::new(Tcp::new())).await,
            Err(error) => vec![Finding::warning("dns", format!("cannot be used: {error}"))],
        }
    };
    let (files, scanners, hops) = tokio::join!(files, scanners, hops);
    let files = files.unwrap_or_else(|error| vec![Finding::warning("files", error.to_string())]);
    [files, scanners, hops].concat()
}

/// Whether the spool can be written, or made where it does not exist yet. Blocks.
fn data_dir(directory: &Path) -> Option<Finding> {
    let about = format!("data_dir {}", directory.display());
    let exists = directory.is_dir();
    let place = directory.ancestors().find(|ancestor| ancestor.is_dir())?;
    let probe = place.join(format!(".feedgate-check-{}", std::process::id()));
    let written =
        std::fs::OpenOptions::new().write(true).create_new(true).open(&probe).and_then(|_| std::fs::remove_file(&probe));
    Some(match (written, exists) {
        (Ok(()), true) => Finding::ok(about, "can be written by this user"),
        (Ok(()), false) => Finding::ok(about, "does not exist yet and can be made by this user"),
        (Err(error), true) => Finding::warning(about, format!("cannot be written by this user: {error}")),
        (Err(error), false) => {
            Finding::warning(about, format!("does not exist and cannot be made by this user in {}: {error}", place.display()))
        }
    })
}

/// Whether certificate and key can be read and belong together. Blocks.
fn tls(config: &Config) -> Option<Finding> {
    let files = config.smtp.tls.as_ref()?;
    Some(match net::server_tls(files) {
        Ok(_) => Finding::ok("smtp.tls", format!("{} and its key load", files.certificate.display())),
        Err(why) => Finding::warning("smtp.tls", format!("{why}; STARTTLS cannot be offered")),
    })
}

/// Whether each clamd finds EICAR and passes a clean text.
async fn scanners(settings: &ClamAv, clock: Arc<dyn Clock>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for address in &settings.addresses {
        let about = format!("clamav {}", clamd_text(address));
        let pool = Pool::new(&ClamAv { addresses: vec![address.clone()], ..settings.clone() }, Arc::clone(&clock));
        pool.prove().await;
        findings.push(match pool.health() {
            ScannerHealth::Up { version } => Finding::ok(about, format!("finds EICAR; {version}")),
            // The pool names the address again.
            ScannerHealth::Away { why } => {
                let named = format!("{}: ", clamd_text(address));
                Finding::warning(about, why.strip_prefix(&named).unwrap_or(&why))
            }
        });
    }
    findings
}

/// Looks at every next hop once, several at a time; in the order of the domains.
async fn next_hops(config: &Config, resolver: Arc<dyn Resolver>, transport: Arc<dyn Transport>) -> Vec<Finding> {
    let mut hops: BTreeMap<&NextHop, Vec<&Domain>> = BTreeMap::new();
    for (domain, settings) in &config.domains {
        settings.deliver_to.iter().for_each(|hop| hops.entry(hop).or_default().push(domain));
    }
    let mut order: Vec<_> = hops.into_iter().collect();
    order.sort_by_key(|(_, domains)| domains[0]);

    let places = Arc::new(Semaphore::new(HOPS_AT_ONCE));
    let mut running = JoinSet::new();
    for (place, (hop, domains)) in order.into_iter().enumerate() {
        let more = if domains.len() > 1 { format!(" and {} more", domains.len() - 1) } else { String::new() };
        let about = format!("{} for {}{more}", hop_text(hop), domains[0]);
        let (hop, places) = (hop.clone(), Arc::clone(&places));
        let (resolver, transport) = (Arc::clone(&resolver), Arc::clone(&transport));
        running.spawn(async move {
            let _permit = places.acquire_owned().await.expect("the semaphore is never closed");
            (place, next_hop(&hop, &about, &*resolver, &*transport).await)
        });
    }
    let mut findings: Vec<(usize, Vec<Finding>)> = running.join_all().await;
    findings.sort_by_key(|(place, _)| *place);
    findings.into_iter().flat_map(|(_, findings)| findings).collect()
}

async fn next_hop(hop: &NextHop, about: &str, resolver: &dyn Resolver, transport: &dyn Transport) -> Vec<Finding> {
    let addresses = match &hop.host {
        HopHost::Address(address) => vec![*address],
        HopHost::Name(name) => match resolver.addresses(name).await {
            Ok(addresses) if !addresses.is_empty() => addresses,
            Ok(_) => return vec![Finding::warning(about, "the name has no address")],
            Err(error) => return vec![Finding::warning(about, error.to_string())],
        },
    };
    let mut findings = Vec::new();
    for address in addresses.into_iter().take(ADDRESSES_TRIED) {
        let prefix = match &hop.host {
            HopHost::Address(_) => String::new(),
            HopHost::Name(_) => format!("{address}: "),
        };
        findings.push(match greeting(address, hop.port, transport).await {
            Ok(greeting) => Finding::ok(about, format!("{prefix}{greeting}")),
            Err(why) => Finding::warning(about, format!("{prefix}{why}")),
        });
    }
    findings
}

/// Connects, reads the first line, and says goodbye. `Err`: what is wrong with it, in words.
async fn greeting(address: IpAddr, port: u16, transport: &dyn Transport) -> Result<String, String> {
    let mut stream = transport.connect(SocketAddr::new(address, port), HOP_WAIT).await.map_err(|error| error.to_string())?;
    let line = tokio::time::timeout(HOP_WAIT, first_line(&mut *stream)).await;
    let line = line.map_err(|_| format!("connected, but no greeting in {} s", HOP_WAIT.as_secs()))??;
    let _ = tokio::time::timeout(HOP_WAIT, stream.write_all(b"QUIT\r\n")).await;
    if line.starts_with("220") { Ok(line) } else { Err(format!("greets with: {line}")) }
}

async fn first_line(stream: &mut dyn Stream) -> Result<String, String> {
    let mut greeting = Vec::with_capacity(GREETING_MAX);
    while !greeting.contains(&b'\n') && greeting.len() < GREETING_MAX {
        let mut piece = [0; GREETING_MAX];
        match stream.read(&mut piece).await {
            Ok(0) => return Err("connected, but it hung up without a greeting".to_owned()),
            Ok(count) => greeting.extend_from_slice(&piece[..count]),
            Err(error) => return Err(error.to_string()),
        }
    }
    let line = greeting.split(|byte| *byte == b'\n').next().unwrap_or_default();
    Ok(String::from_utf8_lossy(&line[..line.len().min(GREETING_MAX)]).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outside::{DnsError, MailExchanger, Pending};
    use std::io;

    #[test]
    fn lists_that_are_probably_not_meant_are_warned_of() {
        let text = "hostname = \"mx1.isp.example\"\n\
             [spam]\nallow = [\"gmail.com\", { from = \"joe@gmail.com\", unauthenticated = true }]\nblock = [\"192.0.2.0/24\"]\n\
             [domains.\"customer.example\"]\ndeliver_to = [\"203.0.113.5\"]\n\
             spam.allow = [\"*.a.example\", \"192.0.2.0/24\"]\nspam.block = [\"*.A.example\", \"a.example\"]\n";
        let config = Config::parse(text, Path::new("feedgate.toml")).unwrap_or_else(|errors| panic!("{errors}"));
        let expected = "\nWARNING  spam: allows joe@gmail.com without proof: anybody can write that name, and many do\n\
             WARNING  domains.\"customer.example\".spam: allows *.a.example and blocks it: it is blocked\n";
        assert_eq!(findings_text(&policy(&config)), expected);
    }

    /// A network where every host greets alike.
    struct Greets(Option<&'static [u8]>);

    impl Transport for Greets {
        fn connect<'a>(&'a self, _: SocketAddr, _: Duration) -> Pending<'a, io::Result<Box<dyn Stream>>> {
            Box::pin(async move {
                let (ours, mut theirs) = tokio::io::duplex(4096);
                let words = self.0.ok_or(io::ErrorKind::ConnectionRefused)?;
                theirs.write_all(words).await?;
                if !words.is_empty() {
                    // Stays connected until the other side goes.
                    tokio::spawn(async move { while theirs.read_u8().await.is_ok() {} });
                }
                Ok(Box::new(ours) as Box<dyn Stream>)
            })
        }

        fn start_tls<'a>(&'a self, _: Box<dyn Stream>, _: &'a str, _: Duration) -> Pending<'a, io::Result<Box<dyn Stream>>> {
            Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
        }
    }

    /// Names with two addresses each, or none.
    struct Names(Result<Vec<IpAddr>, DnsError>);

    impl Resolver for Names {
        fn addresses<'a>(&'a self, _: &'a Domain) -> Pending<'a, Result<Vec<IpAddr>, DnsError>> {
            Box::pin(async { self.0.clone() })
        }
        fn mail_exchangers<'a>(&'a self, _: &'a Domain) -> Pending<'a, Result<Vec<MailExchanger>, DnsError>> {
            Box::pin(async { Err(DnsError::NotFound) })
        }
        fn names<'a>(&'a self, _: IpAddr) -> Pending<'a, Result<Vec<Domain>, DnsError>> {
            Box::pin(async { Err(DnsError::NotFound) })
        }
        fn texts<'a>(&'a self, _: &'a Domain) -> Pending<'a, Result<Vec<Vec<u8>>, DnsError>> {
            Box::pin(async { Err(DnsError::NotFound) })
        }
        fn v4_addresses<'a>(&'a self, _: &'a Domain) -> Pending<'a, Result<Vec<std::net::Ipv4Addr>, DnsError>> {
            Box::pin(async { Err(DnsError::NotFound) })
        }
    }

    async fn looked_at(host: HopHost, resolver: Names, transport: Greets) -> Vec<String> {
        let hop = NextHop { host, port: 25 };
        let findings = next_hop(&hop, "hop", &resolver, &transport).await;
        findings.into_iter().map(|finding| format!("{:?} {}", finding.grade, finding.text)).collect()
    }

    fn literal() -> HopHost {
        HopHost::Address("203.0.113.5".parse().unwrap())
    }

    fn name() -> HopHost {
        HopHost::Name(Domain::parse("mail.customer.example").unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_next_hop_is_greeted_by_or_warned_of() {
        let unasked = || Names(Err(DnsError::NotFound));
        assert_eq!(looked_at(literal(), unasked(), Greets(Some(b"220 mail ESMTP\r\n"))).await, ["Ok 220 mail ESMTP"]);
        assert_eq!(looked_at(literal(), unasked(), Greets(Some(b"554 go away\r\n"))).await, ["Warning greets with: 554 go away"]);
        assert_eq!(
            looked_at(literal(), unasked(), Greets(Some(b""))).await,
            ["Warning connected, but it hung up without a greeting"]
        );
        assert_eq!(
            looked_at(literal(), unasked(), Greets(Some(b"220 never ends"))).await,
            ["Warning connected, but no greeting in 5 s"]
        );
        assert_eq!(looked_at(literal(), unasked(), Greets(None)).await, ["Warning connection refused"]);
    }

    #[tokio::test(start_paused = true)]
    async fn every_address_of_a_name_is_looked_at() {
        let addresses = ["203.0.113.5", "2001:db8::5"].map(|address| address.parse().unwrap()).to_vec();
        assert_eq!(
            looked_at(name(), Names(Ok(addresses)), Greets(Some(b"220 mail\r\n"))).await,
            ["Ok 203.0.113.5: 220 mail", "Ok 2001:db8::5: 220 mail"]
        );
        assert_eq!(
            looked_at(name(), Names(Err(DnsError::NotFound)), Greets(None)).await,
            ["Warning no such name or record in DNS"]
        );
    }

    #[tokio::test]
    async fn a_flood_instead_of_a_greeting_is_cut() {
        let flood: &'static [u8] = Box::leak(vec![b'x'; 4000].into_boxed_slice());
        let found = looked_at(literal(), Names(Err(DnsError::NotFound)), Greets(Some(flood))).await;
        assert_eq!(found, [format!("Warning greets with: {}", "x".repeat(GREETING_MAX))]);
    }

    #[test]
    fn a_directory_that_can_be_written_is_left_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(data_dir(directory.path()).unwrap().grade, Grade::Ok);
        assert!(data_dir(&directory.path().join("a/b")).unwrap().text.starts_with("does not exist yet"));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        assert_eq!(data_dir(Path::new("/proc/1")).map(|finding| finding.grade), Some(Grade::Warning));
    }

    #[test]
    fn warnings_stand_out_and_steer_no_terminal() {
        let text = findings_text(&[Finding::ok("a", "220 mail"), Finding::warning("b", "greets with: \u{1b}[2J")]);
        assert_eq!(text, "\nok       a: 220 mail\nWARNING  b: greets with: \\u{1b}[2J\n");
    }
}
