//! The words of the explanation pages, in English and German. Plain ones: who reads them may never have heard of DNS.

use crate::checks::{Advice, Case, Kind, SpfChange};
use crate::config::Language;
use crate::mail::Timestamp;

use super::page::Tip;

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
    let client = case.client;
    let name = case.name.as_ref().map_or("?", |name| name.as_str());
    let helo = &case.helo;
    let domain = case.domain.as_ref().map_or("?", |domain| domain.as_str());
    let (english, german) = match case.kind {
        Kind::NoReverseName | Kind::NotConfirmed | Kind::Helo if case.reply.is_temporary() => (
            format!("We asked DNS about the name of the sending server, {client}, and got no answer. So we could not decide yet."),
            format!(
                "Wir haben das DNS nach dem Namen des sendenden Servers {client} gefragt und keine Antwort bekommen. \
                 Deshalb konnten wir noch nicht entscheiden."
            ),
        ),
        Kind::NoReverseName => (
            format!("The sending server has no name: DNS knows no PTR record for its address {client}. Mail servers have one."),
            format!(
                "Der sendende Server hat keinen Namen: Das DNS kennt zu seiner Adresse {client} keinen PTR-Eintrag. Mailserver haben einen."
            ),
        ),
        Kind::NotConfirmed => (
            format!(
                "The sending server {client} has the name {name}, but that name does not lead back to this address. \
                 Anybody can give an address any name, so only a name that leads back counts."
            ),
            format!(
                "Der sendende Server {client} heißt {name}, aber dieser Name führt nicht zu der Adresse zurück. \
                 Jeder kann seiner Adresse jeden Namen geben; deshalb zählt nur einer, der zurückführt."
            ),
        ),
        Kind::DynamicName => (
            format!(
                "The name of the sending server {client}, {name}, looks like a subscriber's line (DSL, cable, dial-up). \
                 Mail that comes straight from such lines is nearly always sent by infected computers."
            ),
            format!(
                "Der Name des sendenden Servers {client}, {name}, sieht nach einem Internetanschluss aus (DSL, Kabel, Einwahl). \
                 E-Mail, die direkt von solchen Anschlüssen kommt, stammt fast immer von befallenen Rechnern."
            ),
        ),
        Kind::Helo => (
            format!("In its greeting (EHLO) the sending server {client} called itself {helo}. That is no name that leads to it."),
            format!("Der sendende Server {client} nannte sich in seiner Begrüßung (EHLO) {helo}. Das ist kein Name, der zu ihm führt."),
        ),
        Kind::Listed => (
            format!("The sending server {client} is on a list of servers that send unwanted mail."),
            format!("Der sendende Server {client} steht auf einer Liste von Servern, die unerwünschte E-Mail senden."),
        ),
        Kind::Limits => (
            format!("More came from {client}, or from its network or the sender's domain, than we take in a short time."),
            format!("Von {client}, aus seinem Netz oder von der Domain des Absenders kam mehr, als wir in kurzer Zeit annehmen."),
        ),
        Kind::Banned => (
            format!("The sending server {client} went on over its limits and is blocked for a while. That ends by itself."),
            format!("Der sendende Server {client} ist für eine Weile gesperrt, weil er zu oft zu viel wollte. Das endet von selbst."),
        ),
        Kind::Relay => (
            format!("This server takes mail for the domains it serves and no others. {domain} is not one of them."),
            format!("Dieser Server nimmt nur E-Mail für die Domains an, die er bedient. {domain} gehört nicht dazu."),
        ),
        Kind::Recipient => (
            format!("The address at {domain} that the mail was for does not exist, or cannot be asked for right now."),
            format!("Die Adresse bei {domain}, an die die E-Mail gehen sollte, gibt es nicht, oder sie kann gerade nicht erfragt werden."),
        ),
        Kind::Greylisted => (
            "This server asks senders that it does not know yet to come back once. That is called greylisting. Mail servers do it \
             by themselves, most programs that send spam never do. No mail is lost by it, and nothing has to be done."
                .to_owned(),
            "Dieser Server bittet Absender, die er noch nicht kennt, einmal wiederzukommen. Das heißt Greylisting. Mailserver tun \
             das von selbst, die meisten Spam-Programme nie. Dabei geht keine E-Mail verloren, und niemand muss etwas tun."
                .to_owned(),
        ),
        Kind::Dmarc => (
            "The domain in the From line asks (by its DMARC record) to refuse mail that it did not send itself. Neither SPF nor \
             DKIM shows that it sent this one."
                .to_owned(),
            "Die Domain in der From-Zeile bittet (mit ihrem DMARC-Eintrag) darum, E-Mail abzulehnen, die sie nicht selbst gesendet \
             hat. Weder SPF noch DKIM zeigen, dass diese von ihr kam."
                .to_owned(),
        ),
        Kind::Spam => (
            format!("The content of the mail looked like unwanted mail, and {domain} asked us to refuse such mail."),
            format!("Der Inhalt der E-Mail sah nach unerwünschter Werbung oder Betrug aus, und {domain} möchte solche ablehnen lassen."),
        ),
        Kind::Virus => (
            "The virus scanner found something dangerous in the mail.".to_owned(),
            "Der Virenscanner hat etwas Gefährliches in der E-Mail gefunden.".to_owned(),
        ),
        Kind::Other => (
            "Our server's answer, below, says why.".to_owned(),
            "Den Grund nennt die Antwort unseres Servers, siehe unten.".to_owned(),
        ),
    };
    match language {
        Language::English => english,
        Language::German => german,
    }
}

/// One thing to do, in words, with its records.
pub fn tip(advice: Advice, language: Language) -> Tip {
    let say = |english, german| either(language, english, german);
    let (title, text, records) = match advice {
        Advice::Wait { ready } => {
            let title = say("Nothing has to be done", "Es ist nichts zu tun");
            let at = ready.map(moment).unwrap_or_default();
            let text = match language {
                _ if at.is_empty() => String::new(),
                Language::English => format!("The mail is taken when the server comes back after {at}. Later mail is taken at once."),
                Language::German => {
                    format!("Die E-Mail wird angenommen, wenn der Server nach {at} wiederkommt. Weitere werden sofort angenommen.")
                }
            };
            return Tip { title: title.to_owned(), text, records: Vec::new() };
        }
        Advice::Pointer { records } => (
            say("Give the address a name", "Der Adresse einen Namen geben"),
            say(
                "Ask the provider of the address (who rents you the server or the line) for the first of these records; it is \
                 often called \"reverse DNS\". The second one belongs into your own DNS.",
                "Bitten Sie den Anbieter der Adresse (von dem der Server oder der Anschluss kommt) um den ersten dieser Einträge; er \
                 heißt dort oft „Reverse DNS“. Der zweite gehört in Ihr eigenes DNS.",
            ),
            records,
        ),
        Advice::Forward { records, .. } => (
            say("Let the name lead back to the address", "Den Namen zur Adresse zurückführen"),
            say(
                "Publish this record, or ask the provider of the address to set a PTR with a name that leads to it.",
                "Veröffentlichen Sie diesen Eintrag, oder bitten Sie den Anbieter der Adresse um einen PTR mit einem Namen, der zu ihr führt.",
            ),
            records,
        ),
        Advice::Dynamic { records } => (
            say("Send through your provider's mail server, or get a name of your own", "Über den Mailserver des Anbieters senden, oder einen eigenen Namen"),
            say(
                "From a subscriber's line, send through the mail server of your provider (\"smarthost\"). If this is a mail server with \
                 a fixed address, ask its provider for a name of your own:",
                "Senden Sie von einem Internetanschluss über den Mailserver Ihres Anbieters („Smarthost“). Ist dies ein Mailserver mit \
                 fester Adresse, bitten Sie den Anbieter um einen eigenen Namen:",
            ),
            records,
        ),
        Advice::Helo { say: line, records } => (
            say("Let the server greet with its own name", "Den Server mit seinem eigenen Namen grüßen lassen"),
            say(
                "Set the name that the mail server uses in its greeting (Postfix: myhostname or smtp_helo_name, Exchange: FQDN of the \
                 send connector) to a full name that leads to its address.",
                "Stellen Sie den Namen, mit dem der Mailserver grüßt (Postfix: myhostname oder smtp_helo_name, Exchange: FQDN des \
                 Sendeconnectors), auf einen vollständigen Namen ein, der zu seiner Adresse führt.",
            ),
            [vec![line], records].concat(),
        ),
        Advice::Spf { records, change: SpfChange::New, .. } => (
            say("Say who may send for the domain (SPF)", "Sagen, wer für die Domain senden darf (SPF)"),
            say(
                "There is no SPF record. With this one, only the server above may send; add all others that do.",
                "Es gibt keinen SPF-Eintrag. Mit diesem darf nur der Server oben senden; ergänzen Sie alle anderen, die es tun.",
            ),
            records,
        ),
        Advice::Spf { records, change: SpfChange::Add, .. } => (
            say("Let this server send for the domain (SPF)", "Diesen Server für die Domain senden lassen (SPF)"),
            say(
                "The SPF record does not name this server. If it is yours, publish the record so:",
                "Der SPF-Eintrag nennt diesen Server nicht. Wenn es Ihrer ist, veröffentlichen Sie den Eintrag so:",
            ),
            records,
        ),
        Advice::SpfTwice { domain } => (
            say("Have one SPF record only", "Nur einen SPF-Eintrag haben"),
            say("More than one is an error, and then none counts. Put them together at:", "Mehrere sind ein Fehler, und dann zählt keiner. Fassen Sie sie zusammen bei:"),
            vec![format!("{domain}. TXT")],
        ),
        Advice::Align { .. } => (
            say("Sign with DKIM, or send through the domain's own servers", "Mit DKIM signieren, oder über die Server der Domain senden"),
            say(
                "Let the server that sends sign with DKIM as the domain in the From line (d= that domain), or let the sender's address \
                 (MAIL FROM) be in the same domain and its SPF record name the server. Mailing lists and forwarders: use an address of your \
                 own in the From line, or ARC.",
                "Lassen Sie den sendenden Server mit DKIM im Namen der Domain der From-Zeile signieren (d= diese Domain), oder verwenden Sie \
                 eine Absenderadresse (MAIL FROM) derselben Domain, deren SPF-Eintrag den Server nennt. Für Mailinglisten und \
                 Weiterleitungen: eine eigene Adresse in der From-Zeile, oder ARC.",
            ),
            Vec::new(),
        ),
        Advice::Dmarc { records, .. } => (
            say("Publish a DMARC record", "Einen DMARC-Eintrag veröffentlichen"),
            say(
                "It was not the reason, but many receivers look for it. This one asks for reports and changes nothing else.",
                "Er war nicht der Grund, aber viele Empfänger erwarten ihn. Dieser bittet um Berichte und ändert sonst nichts.",
            ),
            records,
        ),
        Advice::Delist { zone } => (
            say("Ask the list to take the address off", "Die Liste bitten, die Adresse auszutragen"),
            say(
                "First find out why mail that nobody wants left that server. Then ask the keeper of this list; we cannot do it.",
                "Finden Sie zuerst heraus, warum von dem Server unerwünschte E-Mail kam. Bitten Sie dann den Betreiber dieser Liste; wir können es nicht.",
            ),
            vec![zone],
        ),
        Advice::SlowDown => (
            say("Wait, and send more slowly", "Warten und langsamer senden"),
            say(
                "Look whether somebody else uses the server to send. Newsletters go through when they are spread over more time.",
                "Sehen Sie nach, ob jemand anderes über den Server sendet. Rundschreiben kommen durch, wenn sie über mehr Zeit verteilt werden.",
            ),
            Vec::new(),
        ),
        Advice::Recipient => (
            say("Check how the address is written", "Die Schreibweise der Adresse prüfen"),
            say("If it is right, ask the recipient in another way for the address.", "Stimmt sie, fragen Sie den Empfänger auf anderem Weg nach seiner Adresse."),
            Vec::new(),
        ),
        Advice::Relay => (
            say("Send to the servers of the domain", "An die Server der Domain senden"),
            say(
                "The MX records of the domain say where its mail goes. To send mail to others, use the mail server of your own provider.",
                "Die MX-Einträge der Domain sagen, wohin ihre E-Mail geht. Um anderen zu schreiben, nutzen Sie den Mailserver Ihres Anbieters.",
            ),
            Vec::new(),
        ),
        Advice::Virus => (
            say("Look for malware where the mail comes from", "Den Rechner, von dem die E-Mail kommt, auf Schadsoftware prüfen"),
            say(
                "If the file is harmless, send it in another way, for example as a link.",
                "Ist die Datei harmlos, senden Sie sie auf anderem Weg, zum Beispiel als Link.",
            ),
            Vec::new(),
        ),
        Advice::Spam => (
            say("If the mail is wanted", "Wenn die E-Mail erwünscht ist"),
            say(
                "Tell the recipient in another way, so that their provider can let you through. Few links, a plain text and an honest \
                 sender's address help.",
                "Sagen Sie es dem Empfänger auf anderem Weg, damit sein Anbieter Sie durchlassen kann. Wenige Links, einfacher Text und \
                 eine ehrliche Absenderadresse helfen.",
            ),
            Vec::new(),
        ),
        Advice::Ask => (
            say("Ask us", "Fragen Sie uns"),
            say("Write to our postmaster, with the link to this page.", "Schreiben Sie unserem Postmaster, mit dem Link zu dieser Seite."),
            Vec::new(),
        ),
    };
    Tip { title: title.to_owned(), text: text.to_owned(), records }
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
        Language::English => ("This page is over", "Explanations are kept for 30 days, and this one is older, or has been forgotten. A new refusal carries a new link."),
        Language::German => ("Diese Seite gibt es nicht mehr", "Erklärungen werden 30 Tage aufbewahrt; diese ist älter oder wurde vergessen. Eine neue Ablehnung hat einen neuen Link."),
    }
}

pub fn forged(language: Language) -> (&'static str, &'static str) {
    match language {
        Language::English => ("There is no such page", "This link is not one of ours, or a part of it is missing. Copy it whole from the notice that you got."),
        Language::German => ("Diese Seite gibt es nicht", "Dieser Link ist nicht von uns, oder es fehlt ein Stück. Kopieren Sie ihn ganz aus der Mitteilung, die Sie bekommen haben."),
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
