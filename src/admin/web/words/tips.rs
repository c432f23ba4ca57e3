//! What can be done, in English and German: for each advice its heading, its text and its records.

use super::moment;
use crate::checks::{Advice, SpfChange};

type Both = [&'static str; 2];

pub fn of(advice: Advice) -> (Both, Both, Vec<String>) {
    let ((title, text), records) = match advice {
        Advice::Wait { ready } => (WAIT, ready.map(moment).into_iter().collect()),
        Advice::Pointer { records } => (POINTER, records),
        Advice::Forward { records, .. } => (FORWARD, records),
        Advice::Dynamic { records } => (DYNAMIC, records),
        Advice::Helo { say, records } => (HELO, say.into_iter().chain(records).collect()),
        Advice::Spf { records, change: SpfChange::New, .. } => (SPF_NEW, records),
        Advice::Spf { records, change: SpfChange::Add, .. } => (SPF_ADD, records),
        Advice::SpfTwice { domain } => (SPF_TWICE, vec![format!("{domain}. TXT")]),
        Advice::Align => (ALIGN, Vec::new()),
        Advice::Dmarc { records, .. } => (DMARC, records),
        Advice::Delist { zone } => (DELIST, vec![zone]),
        Advice::SlowDown => (SLOW_DOWN, Vec::new()),
        Advice::Recipient => (RECIPIENT, Vec::new()),
        Advice::Relay => (RELAY, Vec::new()),
        Advice::Virus => (VIRUS, Vec::new()),
        Advice::Spam => (SPAM, Vec::new()),
        Advice::Ask => (ASK, Vec::new()),
    };
    (title, text, records)
}

const WAIT: (Both, Both) = (
    ["Nothing has to be done", "Es ist nichts zu tun"],
    [
        "The mail is taken when the server comes back after this time. Later mail from it is taken at once.",
        "Die E-Mail wird angenommen, wenn der Server nach dieser Zeit wiederkommt. Weitere von ihm werden sofort angenommen.",
    ],
);

const POINTER: (Both, Both) = (
    ["Give the address a name", "Der Adresse einen Namen geben"],
    [
        "Ask the provider of the address (who rents you the server or the line) for the first of these records; it is often called \
         \"reverse DNS\". The second one belongs into your own DNS.",
        "Bitten Sie den Anbieter der Adresse (von dem der Server oder der Anschluss kommt) um den ersten dieser Einträge; er heißt \
         dort oft „Reverse DNS“. Der zweite gehört in Ihr eigenes DNS.",
    ],
);

const FORWARD: (Both, Both) = (
    ["Let the name lead back to the address", "Den Namen zur Adresse zurückführen"],
    [
        "Publish this record, or ask the provider of the address to set a PTR with a name that leads to it.",
        "Veröffentlichen Sie diesen Eintrag, oder bitten Sie den Anbieter der Adresse um einen PTR mit einem Namen, der zu ihr führt.",
    ],
);

const DYNAMIC: (Both, Both) = (
    [
        "Send through your provider's mail server, or get a name of your own",
        "Über den Mailserver des Anbieters senden, oder einen eigenen Namen bekommen",
    ],
    [
        "From a subscriber's line, send through the mail server of your provider (\"smarthost\"). If this is a mail server with a fixed \
         address, ask its provider for a name of your own:",
        "Senden Sie von einem Internetanschluss über den Mailserver Ihres Anbieters („Smarthost“). Ist dies ein Mailserver mit fester \
         Adresse, bitten Sie den Anbieter um einen eigenen Namen:",
    ],
);

const HELO: (Both, Both) = (
    ["Let the server greet with a name that leads to it", "Den Server mit einem Namen grüßen lassen, der zu ihm führt"],
    [
        "The name that the mail server uses in its greeting (Postfix: myhostname or smtp_helo_name, Exchange: FQDN of the send \
         connector) has to be a full name that leads to its address.",
        "Der Name, mit dem der Mailserver grüßt (Postfix: myhostname oder smtp_helo_name, Exchange: FQDN des Sendeconnectors), muss \
         ein vollständiger Name sein, der zu seiner Adresse führt.",
    ],
);

const SPF_NEW: (Both, Both) = (
    ["Say who may send for the domain (SPF)", "Sagen, wer für die Domain senden darf (SPF)"],
    [
        "There is no SPF record. With this one, only the server above may send; add all others that do.",
        "Es gibt keinen SPF-Eintrag. Mit diesem darf nur der Server oben senden; ergänzen Sie alle anderen, die es tun.",
    ],
);

const SPF_ADD: (Both, Both) = (
    ["Let this server send for the domain (SPF)", "Diesen Server für die Domain senden lassen (SPF)"],
    [
        "The SPF record does not name this server. If it is yours, publish the record so:",
        "Der SPF-Eintrag nennt diesen Server nicht. Wenn es Ihrer ist, veröffentlichen Sie den Eintrag so:",
    ],
);

const SPF_TWICE: (Both, Both) = (
    ["Have one SPF record only", "Nur einen SPF-Eintrag haben"],
    [
        "More than one is an error, and then none counts. Put them together at:",
        "Mehrere sind ein Fehler, und dann zählt keiner. Fassen Sie sie zusammen bei:",
    ],
);

const ALIGN: (Both, Both) = (
    ["Sign with DKIM, or send through the domain's own servers", "Mit DKIM signieren, oder über die Server der Domain senden"],
    [
        "Let the server that sends sign with DKIM as the domain in the From line (d= that domain), or let the sender's address (MAIL \
         FROM) be in the same domain and its SPF record name the server. Mailing lists and forwarders: use an address of your own in the \
         From line, or ARC.",
        "Lassen Sie den sendenden Server mit DKIM im Namen der Domain der From-Zeile signieren (d= diese Domain), oder verwenden Sie \
         eine Absenderadresse (MAIL FROM) derselben Domain, deren SPF-Eintrag den Server nennt. Für Mailinglisten und Weiterleitungen: \
         eine eigene Adresse in der From-Zeile, oder ARC.",
    ],
);

const DMARC: (Both, Both) = (
    ["Publish a DMARC record", "Einen DMARC-Eintrag veröffentlichen"],
    [
        "It was not the reason, but many receivers look for it. This one asks for reports and changes nothing else.",
        "Er war nicht der Grund, aber viele Empfänger erwarten ihn. Dieser bittet um Berichte und ändert sonst nichts.",
    ],
);

const DELIST: (Both, Both) = (
    ["Ask the list to take the address off", "Die Liste bitten, die Adresse auszutragen"],
    [
        "First find out why mail that nobody wants left that server. Then ask the keeper of this list; we cannot do it.",
        "Finden Sie zuerst heraus, warum von dem Server unerwünschte E-Mail kam. Bitten Sie dann den Betreiber dieser Liste; wir \
         können es nicht.",
    ],
);

const SLOW_DOWN: (Both, Both) = (
    ["Wait, and send more slowly", "Warten und langsamer senden"],
    [
        "Look whether somebody else uses the server to send. Newsletters go through when they are spread over more time.",
        "Sehen Sie nach, ob jemand anderes über den Server sendet. Rundschreiben kommen durch, wenn sie über mehr Zeit verteilt werden.",
    ],
);

const RECIPIENT: (Both, Both) = (
    ["Check how the address is written", "Die Schreibweise der Adresse prüfen"],
    [
        "If it is right, ask the recipient in another way for the address.",
        "Stimmt sie, fragen Sie den Empfänger auf anderem Weg nach seiner Adresse.",
    ],
);

const RELAY: (Both, Both) = (
    ["Send to the servers of the domain", "An die Server der Domain senden"],
    [
        "The MX records of the domain say where its mail goes. To send mail to others, use the mail server of your own provider.",
        "Die MX-Einträge der Domain sagen, wohin ihre E-Mail geht. Um anderen zu schreiben, nutzen Sie den Mailserver Ihres Anbieters.",
    ],
);

const VIRUS: (Both, Both) = (
    ["Look for malware where the mail comes from", "Den Rechner, von dem die E-Mail kommt, auf Schadsoftware prüfen"],
    [
        "If the file is harmless, send it in another way, for example as a link.",
        "Ist die Datei harmlos, senden Sie sie auf anderem Weg, zum Beispiel als Link.",
    ],
);

const SPAM: (Both, Both) = (
    ["If the mail is wanted", "Wenn die E-Mail erwünscht ist"],
    [
        "Tell the recipient in another way, so that their provider can let you through. Few links, a plain text and an honest sender's \
         address help.",
        "Sagen Sie es dem Empfänger auf anderem Weg, damit sein Anbieter Sie durchlassen kann. Wenige Links, einfacher Text und eine \
         ehrliche Absenderadresse helfen.",
    ],
);

const ASK: (Both, Both) = (
    ["Ask us", "Fragen Sie uns"],
    ["Write to our postmaster, with the link to this page.", "Schreiben Sie unserem Postmaster, mit dem Link zu dieser Seite."],
);
