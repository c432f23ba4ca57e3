//! Settings of the judgement: what is done at each level, whose mail is judged otherwise. `[spam]` holds for all domains, and
//! `[domains."…".spam]` says otherwise key by key; but for the lists, which both count (`spam::listed`).

use toml::de::DeValue;

use super::reader::{Fault, Table};
use super::values::*;
use super::*;

const PERSON_HELP: &str = "like \"Jane Doe <jane@customer.example>\"";
const ENTRY_HELP: &str =
    "an address, a domain, a domain with all below it as \"*.partner.example\", or a network as \"192.0.2.0/24\"";
/// Letters of a name.
const NAME_MAX: usize = 100;

/// Keys that a domain may say, each as it is asked for and as people name it.
pub(super) const KEYS: [(&str, &str); 11] = [
    ("enabled", "spam.enabled"),
    ("low", "spam.low"),
    ("med", "spam.med"),
    ("high", "spam.high"),
    ("low_text", "spam.low_text"),
    ("med_text", "spam.med_text"),
    ("high_text", "spam.high_text"),
    ("share", "spam.share"),
    ("people", "spam.people"),
    ("allow", "spam.allow"),
    ("block", "spam.block"),
];

/// One table; what it does not say is as `above`, the lists left out.
pub(super) fn spam(table: &mut Table<'_>, above: &Spam) -> Spam {
    let mut level = |level: &'static str, text: &'static str, above: &LevelPolicy| LevelPolicy {
        action: table.get(level, above.action, action),
        text: table.get(text, above.text.clone(), subject_text),
    };
    let low = level("low", "low_text", &above.low);
    let med = level("med", "med_text", &above.med);
    let high = level("high", "high_text", &above.high);
    Spam {
        enabled: table.get("enabled", above.enabled, flag),
        low,
        med,
        high,
        share: table.get("share", above.share, share),
        people: table.list("people", above.people.clone(), person),
        lists: Lists {
            allow: table.set("allow", Vec::new(), |value| entry(value, Kind::Allow)),
            block: table.set("block", Vec::new(), |value| entry(value, Kind::Block)),
        },
    }
}

/// `[spam.learn]`: for all domains, since one address serves the users of all.
pub(super) fn reports(mut table: Table<'_>) -> Reports {
    let reports = Reports {
        spam: table.optional("report_spam", |value| report_address(value, "report_spam", "spam")),
        ham: table.optional("report_ham", |value| report_address(value, "report_ham", "ham")),
    };
    if let Some(ham) = &reports.ham
        && (Reports { ham: None, ..reports.clone() }).label_of(ham).is_some()
    {
        let fault = Fault::new(format!("is {ham}, the same address as `report_spam`"));
        table.refuse("report_ham", fault.help("one address is told what is spam, the other what is wanted"));
    }
    table.finish();
    reports
}

fn report_address(value: &DeValue<'_>, key: &str, local: &str) -> Result<Address, Fault> {
    let help = format!("like {key} = \"{local}@report.isp.example\", where the MX of report.isp.example is this gateway");
    let address: Address = parsed(value, &help)?;
    match address.domain() {
        None => Err(Fault::new("must have a domain, not an address in brackets").help(help)),
        // RFC 5321 §4.5.1: mail to it must reach somebody.
        Some(_) if address.is_postmaster() => Err(Fault::new(format!("is {address}, where people must be reached")).help(help)),
        Some(_) => Ok(address),
    }
}

fn action(value: &DeValue<'_>) -> Result<Action, Fault> {
    const ALL: [Action; 6] = [Action::None, Action::Header, Action::Subject, Action::Quarantine, Action::Delete, Action::Reject];
    choice(value, &ALL.map(|action| (action.as_str(), action)))
}

/// `"50%"`
fn share(value: &DeValue<'_>) -> Result<f32, Fault> {
    let help = "like \"50%\"";
    let written = match value {
        DeValue::Integer(number) => return Err(Fault::new(format!("is {number}, which has no % sign")).help(help)),
        DeValue::Float(number) => return Err(Fault::new(format!("is {number}, which has no % sign")).help(help)),
        other => text(other)?,
    };
    let wrong = || Fault::new(format!("is {written:?}, which is no share in percent")).help(help);
    let number = written.strip_suffix('%').ok_or_else(wrong)?.trim();
    let is_plain = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let percent: f32 = if is_plain { number.parse().map_err(|_| wrong())? } else { return Err(wrong()) };
    // Without either kind of mail there would be nothing to judge.
    if (1.0..=99.0).contains(&percent) {
        Ok(percent / 100.0)
    } else {
        Err(Fault::new(format!("is {written:?}; it must be from 1% to 99%")))
    }
}

/// `Jane Doe <jane@customer.example>`
fn person(value: &DeValue<'_>) -> Result<Person, Fault> {
    let written = text(value)?;
    let wrong = |why: &str| Fault::new(format!("is {written:?}, {why}")).help(PERSON_HELP);
    let (name, rest) = written.split_once('<').ok_or_else(|| wrong("which has no address in <brackets>"))?;
    let address = rest.trim_end().strip_suffix('>').ok_or_else(|| wrong("which does not end with a >"))?;
    let address = Address::parse(address).map_err(|error| wrong(&format!("where {error}")))?;
    let name = name.trim().trim_matches('"').trim();
    if name.chars().filter(|letter| letter.is_alphabetic()).count() < 2 {
        return Err(wrong("which names nobody"));
    }
    if name.chars().count() > NAME_MAX || name.chars().any(char::is_control) {
        return Err(wrong("which is no name"));
    }
    Ok(Person { name: name.to_owned(), address })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Allow,
    Block,
}

/// `"partner.example"`, or `{ from = "partner.example", unauthenticated = true }`.
fn entry(value: &DeValue<'_>, kind: Kind) -> Result<Entry, Fault> {
    let DeValue::Table(entries) = value else {
        return Ok(Entry { who: who(text(value)?, kind)?, unauthenticated: false });
    };
    let help = "like { from = \"partner.example\", unauthenticated = true }";
    if let Some(key) = entries.keys().find(|key| !["from", "unauthenticated"].contains(&key.get_ref().as_ref())) {
        return Err(Fault::new(format!("has an unknown key `{}`", key.get_ref().escape_debug())).help(help));
    }
    let from = entries.get("from").ok_or_else(|| Fault::new("does not say `from` whom").help(help))?;
    let who = who(text(from.get_ref())?, kind)?;
    let unauthenticated = match entries.get("unauthenticated").map(|value| value.get_ref()) {
        None => false,
        Some(DeValue::Boolean(flag)) => *flag,
        Some(_) => return Err(Fault::new("has an `unauthenticated` that is neither true nor false").help(help)),
    };
    match who {
        _ if unauthenticated && kind == Kind::Block => Err(Fault::new("has `unauthenticated`, which only allowed senders need")
            .help("who is blocked is never asked for a proof")),
        Who::Network(_) if unauthenticated => {
            Err(Fault::new("has `unauthenticated`, which a network does not need")
                .help("an address of a client is its own proof"))
        }
        who => Ok(Entry { who, unauthenticated }),
    }
}

fn who(written: &str, kind: Kind) -> Result<Who, Fault> {
    let wrong = |why: &str| Fault::new(format!("is {written:?}, {why}")).help(ENTRY_HELP);
    if written.contains('@') {
        let address = Address::parse(written).map_err(|error| wrong(&format!("where {error}")))?;
        return match address.domain() {
            Some(_) => Ok(Who::Address(address)),
            None => Err(wrong("which has no domain")),
        };
    }
    if let Some(domain) = written.strip_prefix("*.") {
        let domain = Domain::parse(domain).map_err(|_| wrong("which is not a domain name"))?;
        // All of a top-level domain may be unwanted; nobody knows all who are in it.
        return match kind {
            Kind::Allow if !domain.as_str().contains('.') => Err(wrong("which is all of a top-level domain")),
            _ => Ok(Who::Within(domain)),
        };
    }
    if let Some(domain) = written.strip_prefix('.') {
        return Err(Fault::new(format!("is {written:?}, which begins with a dot")).help(format!("all below it: \"*.{domain}\"")));
    }
    let is_network = written.parse::<IpAddr>().is_ok() || written.contains('/') || written.contains(':');
    if is_network {
        return network_text(written).map(Who::Network);
    }
    full_domain(written).map(Who::Domain).map_err(|why| wrong(&format!("which {why}")))
}
