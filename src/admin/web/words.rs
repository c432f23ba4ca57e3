//! The words of the explanation pages, in English and German. Plain ones: who reads them may never have heard of DNS.

mod reasons;
mod tips;

use super::page::Tip;
use crate::checks::{Advice, Case, Kind};
use crate::config::Language;
use crate::mail::{Domain, Timestamp};

/// What stands on every page, whatever it is about.
pub struct Labels {
    pub code: &'static str,
    pub reply: &'static str,
    pub facts: &'static str,
    pub time: &'static str,
    pub client: &'static str,
    pub helo: &'static str,
    pub sender: &'static str,
    pub null_sender: &'static str,
    pub recipient: &'static str,
    pub first_try: &'static str,
    pub ready: &'static str,
    pub lists: &'static str,
    pub also: &'static str,
    pub dns: &'static str,
    pub name: &'static str,
    pub leads_back: &'static str,
    pub helo_leads: &'static str,
    pub then: &'static str,
    pub now: &'static str,
    pub yes: &'static str,
    pub no: &'static str,
    pub none: &'static str,
    pub not_known: &'static str,
    pub no_answer: &'static str,
    pub not_a_name: &'static str,
    pub todo: &'static str,
    pub worth: &'static str,
    pub again: &'static str,
    pub again_note: &'static str,
    pub tested: &'static str,
    pub footer: &'static str,
    pub good: &'static str,
    pub bad: &'static str,
}

const ENGLISH: Labels = Labels {
    code: "en",
    reply: "What our server answered",
    facts: "What was seen",
    time: "Time",
    client: "Address of the sending server",
    helo: "It called itself (EHLO)",
    sender: "Sender's domain",
    null_sender: "none (an automatic message)",
    recipient: "Written to",
    first_try: "First try",
    ready: "Taken from then on",
    lists: "On the lists",
    also: "Also seen",
    dns: "What DNS said",
    name: "Name of the address (PTR)",
    leads_back: "The name leads back to the address",
    helo_leads: "The EHLO name leads to the address",
    then: "then",
    now: "now",
    yes: "yes",
    no: "no",
    none: "none",
    not_known: "not known",
    no_answer: "DNS does not answer",
    not_a_name: "it is no full name",
    todo: "What can be done",
    worth: "Worth having, too",
    again: "Test again",
    again_note: "A new record may take a while to be seen everywhere: as long as the old answer may be kept, often an hour.",
    tested: "DNS was asked at",
    footer: "This page is kept for 30 days. It shows nothing about whom the mail was for but the domain.",
    good: "in order",
    bad: "not in order",
};

const GERMAN: Labels = Labels {
    code: "de",
    reply: "Antwort unseres Servers",
    facts: "Was wir gesehen haben",
    time: "Zeit",
    client: "Adresse des sendenden Servers",
    helo: "Er nannte sich (EHLO)",
    sender: "Domain des Absenders",
    null_sender: "keine (automatische Nachricht)",
    recipient: "Geschrieben an",
    first_try: "Erster Versuch",
    ready: "Angenommen ab",
    lists: "Steht auf den Listen",
    also: "Außerdem aufgefallen",
    dns: "Was das DNS sagte",
    name: "Name der Adresse (PTR)",
    leads_back: "Der Name führt zur Adresse zurück",
    helo_leads: "Der EHLO-Name führt zur Adresse",
    then: "damals",
    now: "jetzt",
    yes: "ja",
    no: "nein",
    none: "keiner",
    not_known: "nicht bekannt",
    no_answer: "das DNS antwortet nicht",
    not_a_name: "es ist kein vollständiger Name",
    todo: "Was Sie tun können",
    worth: "Außerdem sinnvoll",
    again: "Noch einmal prüfen",
    again_note: "Bis ein neuer Eintrag überall gesehen wird, vergeht so viel Zeit, wie die alte Antwort behalten werden darf: oft eine Stunde.",
    tested: "Das DNS wurde gefragt um",
    footer: "Diese Seite wird 30 Tage aufbewahrt. Vom Empfänger zeigt sie nichts außer der Domain.",
    good: "in Ordnung",
    bad: "nicht in Ordnung",
};

pub fn labels(language: Language) -> &'static Labels {
    match language {
        Language::English => &ENGLISH,
        Language::German => &GERMAN,
    }
}

pub fn code(language: Language) -> &'static str {
    labels(language).code
}

/// `20 Nov 2026 22:36 UTC` would need names of months: `2026-11-20 22:36:00 UTC` needs none.
pub fn moment(at: Timestamp) -> String {
    at.rfc3339().replacen('T', " ", 1).replace('Z', " UTC")
}

/// The heading.
pub fn title(case: &Case, language: Language) -> &'static str {
    let (english, german) = match (case.kind, case.reply.is_temporary()) {
        (Kind::Greylisted, _) => ("The mail was asked to wait a little", "Die E-Mail soll kurz warten"),
        (_, true) => ("The mail was not taken yet", "Die E-Mail wurde noch nicht angenommen"),
        (_, false) => ("The mail was not taken", "Die E-Mail wurde nicht angenommen"),
    };
    either(language, english, german)
}

/// Why, and what happens to the mail.
pub fn lead(case: &Case, language: Language) -> Vec<String> {
    let what_happens = match (case.kind, case.reply.is_temporary()) {
        (Kind::Greylisted, _) => return vec![why(case, language)],
        (_, true) => either(
            language,
            "The sending server keeps the mail and tries again by itself.",
            "Der sendende Server behält die E-Mail und versucht es von selbst wieder.",
        ),
        (Kind::Virus | Kind::Recipient, false) => either(
            language,
            "The sending server tells the sender that it was not delivered.",
            "Der sendende Server teilt dem Absender mit, dass sie nicht zugestellt wurde.",
        ),
        (_, false) => either(
            language,
            "The sending server tells the sender that it was not delivered. Send it again when the points below are mended.",
            "Der sendende Server teilt dem Absender mit, dass sie nicht zugestellt wurde. \
             Senden Sie sie noch einmal, wenn die Punkte unten behoben sind.",
        ),
    };
    vec![why(case, language), what_happens.to_owned()]
}

fn why(case: &Case, language: Language) -> String {
    let [english, german] = reasons::of(case.kind, case.reply.is_temporary());
    let name = |name: &Option<Domain>| name.as_ref().map_or("?", Domain::as_str).to_owned();
    // What a stranger said comes last: nothing in it is replaced.
    either(language, english, german)
        .replace("{client}", &case.client.to_string())
        .replace("{name}", &name(&case.name))
        .replace("{domain}", &name(&case.domain))
        .replace("{helo}", &case.helo)
}

/// One thing to do, in words, with its records.
pub fn tip(advice: Advice, language: Language) -> Tip {
    let (title, text, records) = tips::of(advice);
    let say = |[english, german]: [&'static str; 2]| either(language, english, german);
    Tip { title: say(title).to_owned(), text: say(text).to_owned(), records }
}

/// What else was noticed about a client. `None`: it stands among the answers of DNS already.
pub fn finding(id: &str, language: Language) -> Option<String> {
    let (english, german) = match id {
        "no-reverse-name" | "reverse-name-unconfirmed" | "helo-not-a-name" | "helo-mismatch" | "helo-unknown" => return None,
        "dynamic-name" => ("its name looks like a subscriber's line", "sein Name sieht nach einem Internetanschluss aus"),
        "helo-is-ours" => ("it called itself by our name", "er nannte sich mit unserem Namen"),
        "early-talker" => ("it spoke before it was greeted", "er sprach, bevor er begrüßt wurde"),
        "pipelining" => ("it sent commands before it might", "er sandte Befehle, bevor er durfte"),
        other => return Some(other.to_owned()),
    };
    Some(either(language, english, german).to_owned())
}

/// All points are mended.
pub fn all_well(case: &Case, language: Language) -> &'static str {
    match case.reply.is_temporary() {
        true => either(language, "DNS is in order now.", "Im DNS ist jetzt alles in Ordnung."),
        false => either(
            language,
            "DNS is in order now: send the mail again.",
            "Im DNS ist jetzt alles in Ordnung: Senden Sie die E-Mail noch einmal.",
        ),
    }
}

/// Heading and text of a page without a case.
pub fn gone(language: Language) -> (&'static str, &'static str) {
    match language {
        Language::English => (
            "This page is over",
            "Explanations are kept for 30 days, and this one is older, or has been forgotten. A new refusal carries a new link.",
        ),
        Language::German => (
            "Diese Seite gibt es nicht mehr",
            "Erklärungen werden 30 Tage aufbewahrt; diese ist älter oder wurde vergessen. Eine neue Ablehnung hat einen neuen Link.",
        ),
    }
}

pub fn forged(language: Language) -> (&'static str, &'static str) {
    match language {
        Language::English => (
            "There is no such page",
            "This link is not one of ours, or a part of it is missing. Copy it whole from the notice that you got.",
        ),
        Language::German => (
            "Diese Seite gibt es nicht",
            "Dieser Link ist nicht von uns, oder es fehlt ein Stück. Kopieren Sie ihn ganz aus der Mitteilung, die Sie bekommen haben.",
        ),
    }
}

pub fn too_many(language: Language) -> (&'static str, &'static str) {
    match language {
        Language::English => ("One moment, please", "That was a lot in a short time. Try again in a minute."),
        Language::German => ("Einen Moment bitte", "Das war viel in kurzer Zeit. Versuchen Sie es in einer Minute noch einmal."),
    }
}

fn either(language: Language, english: &'static str, german: &'static str) -> &'static str {
    match language {
        Language::English => english,
        Language::German => german,
    }
}
