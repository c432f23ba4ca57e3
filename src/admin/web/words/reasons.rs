//! Why somebody was turned away, in English and German. `{client}`, `{name}`, `{domain}` and `{helo}` stand for what was seen.

use crate::checks::Kind;

pub fn of(kind: Kind, is_temporary: bool) -> [&'static str; 2] {
    match kind {
        Kind::NoReverseName | Kind::NotConfirmed | Kind::Helo if is_temporary => NO_ANSWER,
        Kind::NoReverseName => NO_REVERSE_NAME,
        Kind::NotConfirmed => NOT_CONFIRMED,
        Kind::DynamicName => DYNAMIC_NAME,
        Kind::Helo => HELO,
        Kind::Listed => LISTED,
        Kind::Limits => LIMITS,
        Kind::Banned => BANNED,
        Kind::Relay => RELAY,
        Kind::Recipient => RECIPIENT,
        Kind::Greylisted => GREYLISTED,
        Kind::Dmarc => DMARC,
        Kind::Spam => SPAM,
        Kind::Virus => VIRUS,
        Kind::Other => OTHER,
    }
}

const NO_ANSWER: [&str; 2] = [
    "We asked DNS about the name of the sending server, {client}, and got no answer. So we could not decide yet.",
    "Wir haben das DNS nach dem Namen des sendenden Servers {client} gefragt und keine Antwort bekommen. Deshalb konnten wir noch \
     nicht entscheiden.",
];

const NO_REVERSE_NAME: [&str; 2] = [
    "The sending server has no name: DNS knows no PTR record for its address {client}. Mail servers have one.",
    "Der sendende Server hat keinen Namen: Das DNS kennt zu seiner Adresse {client} keinen PTR-Eintrag. Mailserver haben einen.",
];

const NOT_CONFIRMED: [&str; 2] = [
    "The sending server {client} has the name {name}, but that name does not lead back to this address. Anybody can give an address \
     any name, so only a name that leads back counts.",
    "Der sendende Server {client} heißt {name}, aber dieser Name führt nicht zu der Adresse zurück. Jeder kann seiner Adresse jeden \
     Namen geben; deshalb zählt nur einer, der zurückführt.",
];

const DYNAMIC_NAME: [&str; 2] = [
    "The name of the sending server {client}, {name}, looks like a subscriber's line (DSL, cable, dial-up). Mail that comes straight \
     from such lines is nearly always sent by infected computers.",
    "Der Name des sendenden Servers {client}, {name}, sieht nach einem Internetanschluss aus (DSL, Kabel, Einwahl). E-Mail, die \
     direkt von solchen Anschlüssen kommt, stammt fast immer von befallenen Rechnern.",
];

const HELO: [&str; 2] = [
    "In its greeting (EHLO) the sending server {client} called itself {helo}. That is no name that leads to it.",
    "Der sendende Server {client} nannte sich in seiner Begrüßung (EHLO) {helo}. Das ist kein Name, der zu ihm führt.",
];

const LISTED: [&str; 2] = [
    "The sending server {client} is on a list of servers that send unwanted mail.",
    "Der sendende Server {client} steht auf einer Liste von Servern, die unerwünschte E-Mail senden.",
];

const LIMITS: [&str; 2] = [
    "More came from {client}, or from its network or the sender's domain, than we take in a short time.",
    "Von {client}, aus seinem Netz oder von der Domain des Absenders kam mehr, als wir in kurzer Zeit annehmen.",
];

const BANNED: [&str; 2] = [
    "The sending server {client} went on over its limits and is blocked for a while. That ends by itself.",
    "Der sendende Server {client} ist für eine Weile gesperrt, weil er zu oft zu viel wollte. Das endet von selbst.",
];

const RELAY: [&str; 2] = [
    "This server takes mail for the domains it serves and no others. {domain} is not one of them.",
    "Dieser Server nimmt nur E-Mail für die Domains an, die er bedient. {domain} gehört nicht dazu.",
];

const RECIPIENT: [&str; 2] = [
    "The address at {domain} that the mail was for does not exist, or cannot be asked for right now.",
    "Die Adresse bei {domain}, an die die E-Mail gehen sollte, gibt es nicht, oder sie kann gerade nicht erfragt werden.",
];

const GREYLISTED: [&str; 2] = [
    "This server asks senders that it does not know yet to come back once. That is called greylisting. Mail servers do it by \
     themselves, most programs that send spam never do. No mail is lost by it, and nothing has to be done.",
    "Dieser Server bittet Absender, die er noch nicht kennt, einmal wiederzukommen. Das heißt Greylisting. Mailserver tun das von \
     selbst, die meisten Spam-Programme nie. Dabei geht keine E-Mail verloren, und niemand muss etwas tun.",
];

const DMARC: [&str; 2] = [
    "The domain in the From line asks (by its DMARC record) to refuse mail that it did not send itself. Neither SPF nor DKIM shows \
     that it sent this one.",
    "Die Domain in der From-Zeile bittet (mit ihrem DMARC-Eintrag) darum, E-Mail abzulehnen, die sie nicht selbst gesendet hat. \
     Weder SPF noch DKIM zeigen, dass diese von ihr kam.",
];

const SPAM: [&str; 2] = [
    "The content of the mail looked like unwanted mail, and {domain} asked us to refuse such mail.",
    "Der Inhalt der E-Mail sah nach unerwünschter Werbung oder Betrug aus, und {domain} möchte solche ablehnen lassen.",
];

const VIRUS: [&str; 2] = [
    "The virus scanner found something dangerous in the mail.",
    "Der Virenscanner hat etwas Gefährliches in der E-Mail gefunden.",
];

const OTHER: [&str; 2] = ["Our server's answer, below, says why.", "Den Grund nennt die Antwort unseres Servers, siehe unten."];
