//! Settings of the door: the checks of clients and senders, their limits, and which recipients exist.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use toml::de::DeValue;

use super::origins::{self, Written};
use super::reader::{Fault, Table};
use super::values::*;
use super::*;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// A list's points are never more than this, either way.
const POINTS_MAX: f64 = 100.0;
/// Entries of a list in the settings themselves; longer ones stand in a file.
const ENTRIES_MAX: usize = 10_000;

pub(super) fn checks(mut table: Table<'_>, written: &mut Written) -> Checks {
    written.note(&table, &origins::CHECK_KEYS);
    let default = Checks::default();
    let mut checks = Checks {
        modes: read_modes(&mut table, default.modes),
        early_talker_wait: table.get("early_talker_wait", default.early_talker_wait, |value| duration_or_zero(value, MINUTE)),
        lists: Vec::new(),
        uri_lists: Vec::new(),
        trusted_sealers: table.set("trusted_sealers", default.trusted_sealers, domain_value),
    };
    let lists = table.table("lists", "checks.lists");
    for (zone, bytes, table) in lists.named_tables("checks.lists.\"…\"") {
        match full_domain(zone) {
            Ok(zone) => checks.lists.extend(list(zone, table)),
            Err(why) => {
                table.refuse_name(bytes, Fault::new(why).help("the zone that is asked, in quotes: lists.\"zen.lists.example\""))
            }
        }
    }
    let lists = table.table("uri_lists", "checks.uri_lists");
    for (zone, bytes, table) in lists.named_tables("checks.uri_lists.\"…\"") {
        match full_domain(zone) {
            Ok(zone) => checks.uri_lists.extend(uri_list(zone, table)),
            Err(why) => table
                .refuse_name(bytes, Fault::new(why).help("the zone that is asked, in quotes: uri_lists.\"dbl.lists.example\"")),
        }
    }
    table.finish();
    checks
}

/// A domain's own words for the checks; what it does not say is as for all.
pub(super) fn modes(mut table: Table<'_>, default: CheckModes) -> CheckModes {
    let modes = read_modes(&mut table, default);
    table.finish();
    modes
}

fn read_modes(table: &mut Table<'_>, default: CheckModes) -> CheckModes {
    let mut get = |key, default| table.get(key, default, mode);
    CheckModes {
        reverse_dns: get("reverse_dns", default.reverse_dns),
        forward_confirmed: get("forward_confirmed", default.forward_confirmed),
        dynamic_name: get("dynamic_name", default.dynamic_name),
        helo: get("helo", default.helo),
        dmarc: get("dmarc", default.dmarc),
    }
}

fn mode(value: &DeValue<'_>) -> Result<CheckMode, Fault> {
    choice(value, &[("off", CheckMode::Off), ("score", CheckMode::Score), ("reject", CheckMode::Reject)])
}

fn list(zone: Domain, mut table: Table<'_>) -> Option<ListZone> {
    let points = table.required("points", "5.0", points);
    let codes = table.list("codes", vec![whole_range()], code_range);
    table.refuse_empty("codes", &codes, "like [\"127.0.0.2-11\"]");
    let shadow = table.get("shadow", false, flag);
    table.finish();
    Some(ListZone { zone, points: points?, codes, shadow })
}

fn uri_list(zone: Domain, mut table: Table<'_>) -> Option<UriZone> {
    let points = table.required("points", "4.0", points);
    let codes = table.list("codes", vec![whole_range()], code_range);
    table.refuse_empty("codes", &codes, "like [\"127.0.1.2-99\"]");
    let bits = table.list("bits", Vec::new(), bit);
    if table.has("bits") {
        table.refuse_empty("bits", &bits, "like [8, 64]");
        if table.has("codes") {
            table.refuse("bits", Fault::new("stands beside `codes`; answers are read by the one or by the other"));
        }
    }
    let ask = table.get("ask", UriAsk::Domain, |value| choice(value, &[("domain", UriAsk::Domain), ("host", UriAsk::Host)]));
    let test = table.get("test", None, |value| parsed(value, "the entry that the list has for tests, like \"test\"").map(Some));
    let shadow = table.get("shadow", false, flag);
    table.finish();
    let counts = match bits.iter().fold(0, |all, bit| all | bit) {
        0 => UriCodes::Ranges(codes),
        bits => UriCodes::Bits(bits),
    };
    let test = test.or_else(|| Domain::parse("test").ok())?;
    Some(UriZone { zone, points: points?, counts, ask, test, shadow })
}

/// 1 alone is how such lists refuse an answer.
fn bit(value: &DeValue<'_>) -> Result<u8, Fault> {
    let bit = count(value, 2..=128)?;
    u8::try_from(bit)
        .ok()
        .filter(|bit| bit.is_power_of_two())
        .ok_or_else(|| Fault::new(format!("is {bit}, which is no bit")).help("2, 4, 8, 16, 32, 64 or 128"))
}

/// RFC 5782 §2.1: any 127.0.0.0/8; 127.255.255.x says that the question was refused and is never a listing.
fn whole_range() -> (Ipv4Addr, Ipv4Addr) {
    (Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(127, 255, 254, 255))
}

fn points(value: &DeValue<'_>) -> Result<f32, Fault> {
    let number = match value {
        DeValue::Float(float) => float.as_str().parse::<f64>().ok(),
        DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix()).ok().map(|number| number as f64),
        other => return Err(Fault::kind("a number", other)),
    };
    match number {
        Some(number) if number.abs() <= POINTS_MAX => Ok(number as f32),
        _ => Err(Fault::new(format!("must be from -{POINTS_MAX} to {POINTS_MAX}"))),
    }
}

/// `127.0.0.4`, `127.0.0.2-11` or `127.0.0.2-127.0.1.255`.
fn code_range(value: &DeValue<'_>) -> Result<(Ipv4Addr, Ipv4Addr), Fault> {
    let written = text(value)?;
    let wrong = || {
        Fault::new(format!("is {written:?}, which is not an answer of a list or a range of them"))
            .help("like \"127.0.0.4\", \"127.0.0.2-11\" or \"127.0.0.2-127.0.1.255\"")
    };
    let (first, last) = written.split_once('-').unwrap_or((written, written));
    let first: Ipv4Addr = first.trim().parse().map_err(|_| wrong())?;
    let octet =
        |last: &str| last.parse().ok().map(|last| Ipv4Addr::new(first.octets()[0], first.octets()[1], first.octets()[2], last));
    let last: Ipv4Addr = last.trim().parse().ok().or_else(|| octet(last.trim())).ok_or_else(wrong)?;
    if !first.is_loopback() || !last.is_loopback() {
        return Err(Fault::new(format!("is {written:?}; lists answer with addresses in 127.0.0.0/8")));
    }
    if last < first {
        return Err(Fault::new(format!("is {written:?}, which ends before it begins")));
    }
    Ok((first, last))
}

pub(super) fn limit(value: &DeValue<'_>) -> Result<Rate, Fault> {
    rate(value, 1..=10_000_000, DAY)
}

fn domain_value(value: &DeValue<'_>) -> Result<Domain, Fault> {
    let written = text(value)?;
    full_domain(written).map_err(|why| Fault::new(format!("is {written:?}, which {why}")))
}

/// `true` and `false` are what it was called before there were three.
pub(super) fn greylisting(value: &DeValue<'_>) -> Result<Greylisting, Fault> {
    const WORDS: [(&str, Greylisting); 3] =
        [("always", Greylisting::Always), ("suspicious", Greylisting::Suspicious), ("off", Greylisting::Off)];
    match value {
        DeValue::Boolean(true) => Ok(Greylisting::Always),
        DeValue::Boolean(false) => Ok(Greylisting::Off),
        DeValue::String(_) => choice(value, &WORDS),
        other => Err(Fault::kind("true, false or a word", other).help("\"always\", \"suspicious\" or \"off\"")),
    }
}

/// The keys about recipients in a domain's table.
pub(super) fn recipients(table: &mut Table<'_>, base: &Path) -> Recipients {
    let default = Recipients::default();
    let checks = [("any", RecipientCheck::Any), ("list", RecipientCheck::List), ("callout", RecipientCheck::Callout)];
    let check = table.get("recipients", default.check, |value| choice(value, &checks));
    let list = table.get("recipient_list", default.list, |value| recipient_list(value, base));
    if check == RecipientCheck::List && !table.has("recipient_list") {
        table.missing("recipient_list", "[\"sales@customer.example\", \"*@customer.example\"]");
    }
    let unseen = [("accept", Unseen::Accept), ("defer", Unseen::Defer)];
    Recipients {
        check,
        list,
        callout_port: table.optional("callout_port", |value| count(value, 1..=65_535).map(|port| port as u16)),
        unseen: table.get("recipients_unseen", default.unseen, |value| choice(value, &unseen)),
    }
}

fn recipient_list(value: &DeValue<'_>, base: &Path) -> Result<RecipientList, Fault> {
    let help = "a list of addresses, or { file = \"recipients.txt\" }";
    match value {
        DeValue::Array(entries) if entries.len() > ENTRIES_MAX => {
            Err(Fault::new(format!("has {} entries; the most is {ENTRIES_MAX}", entries.len())).help("put them into a file"))
        }
        DeValue::Array(entries) => {
            entries.iter().map(|entry| recipient_pattern(entry.get_ref())).collect::<Result<_, _>>().map(RecipientList::Here)
        }
        DeValue::Table(entries) if entries.len() == 1 => match entries.get("file") {
            Some(file) => path(file.get_ref(), base).map(RecipientList::File),
            None => Err(Fault::new("has another key than `file`").help(help)),
        },
        other => Err(Fault::kind("a list or a file", other).help(help)),
    }
}

/// `jane@customer.example`, `*+*@customer.example`.
fn recipient_pattern(value: &DeValue<'_>) -> Result<String, Fault> {
    let written = text(value)?;
    let is_pattern = Address::parse(&written.replace('*', "x")).is_ok() && !written.contains(char::is_whitespace);
    let wrong = || {
        Fault::new(format!("is {written:?}, which is not an address"))
            .help("like \"sales@customer.example\" or \"*@customer.example\"")
    };
    if is_pattern { Ok(written.to_lowercase()) } else { Err(wrong()) }
}

pub(super) fn public_url(value: &DeValue<'_>) -> Result<String, Fault> {
    let help = "like \"https://mail.isp.example\": what stands in links in front of /why/…";
    let url: hyper::Uri = parsed(value, help)?;
    match (url.scheme_str(), url.host(), url.query()) {
        (Some("http" | "https"), Some(host), None) if !host.is_empty() => Ok(text(value)?.trim_end_matches('/').to_owned()),
        _ => Err(Fault::new("must begin with https:// or http:// and the name of a host, and have no question mark").help(help)),
    }
}
