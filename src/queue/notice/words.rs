//! The part of a notice that people read, and its subject, in each language.

use mail_parser::DateTime;

use super::{Fate, Kind, Notice, What};
use crate::config::Language;
use crate::mail::Timestamp;

/// Recipients described here; the part for programs names all.
const DESCRIBED_MAX: usize = 50;
/// Of the message's subject, in letters.
const SUBJECT_MAX: usize = 120;

/// For Content-Language.
pub(super) fn tag(language: Language) -> &'static str {
    match language {
        Language::English => "en",
        Language::German => "de",
    }
}

pub(super) fn subject(kind: Kind, language: Language) -> &'static str {
    match (kind, language) {
        (Kind::Failed, Language::English) => "Your message could not be delivered",
        (Kind::Delayed, Language::English) => "Your message has not been delivered yet",
        (Kind::Failed, Language::German) => "Ihre Nachricht konnte nicht zugestellt werden",
        (Kind::Delayed, Language::German) => "Die Zustellung Ihrer Nachricht verzögert sich",
    }
}

/// The whole text. `about`: the subject of the message.
pub(super) fn for_people(notice: &Notice<'_>, language: Language, about: Option<&str>) -> String {
    let words = Words { language };
    let mut text = words.opening(notice);
    for fate in notice.fates.iter().take(DESCRIBED_MAX) {
        text.push_str(&format!("\r\n  {}\r\n", notice.envelope.recipients[fate.recipient].address));
        text.push_str(&words.fate(fate));
        text.push_str(&format!("    {}\r\n", visible(&fate.reply)));
        text.push_str(&words.end(fate));
    }
    if let Some(more @ 1..) = notice.fates.len().checked_sub(DESCRIBED_MAX) {
        text.push_str(&words.more(more));
    }
    text.push_str(&words.closing(notice, about));
    text
}

/// What stands where, in one language.
struct Words {
    language: Language,
}

impl Words {
    fn opening(&self, notice: &Notice<'_>) -> String {
        let is_one = notice.fates.len() == 1;
        let host = notice.hostname;
        match (self.language, notice.kind) {
            (Language::English, Kind::Failed) => {
                let recipients = if is_one { "this recipient" } else { "these recipients" };
                format!(
                    "This is the mail gateway at {host}.\r\n\r\n\
                     I am sorry: your message could not be delivered to {recipients}.\r\n"
                )
            }
            (Language::English, Kind::Delayed) => {
                let recipients = if is_one { "this recipient" } else { "these recipients" };
                format!(
                    "This is the mail gateway at {host}.\r\n\r\n\
                     Your message could not be delivered to {recipients} so far.\r\n\
                     You need not do anything, and need not send it again: delivery goes on\r\n\
                     being tried. Should it fail for good, you will be told.\r\n"
                )
            }
            (Language::German, Kind::Failed) => {
                let recipients = if is_one { "diesen Empfänger" } else { "diese Empfänger" };
                format!(
                    "Dies ist das Mail-Gateway {host}.\r\n\r\n\
                     Ihre Nachricht konnte leider nicht an {recipients} zugestellt werden.\r\n"
                )
            }
            (Language::German, Kind::Delayed) => {
                let recipients = if is_one { "diesen Empfänger" } else { "diese Empfänger" };
                format!(
                    "Dies ist das Mail-Gateway {host}.\r\n\r\n\
                     Ihre Nachricht konnte bisher nicht an {recipients} zugestellt werden.\r\n\
                     Sie brauchen nichts zu tun und sie nicht noch einmal zu senden: Die\r\n\
                     Zustellung wird weiter versucht. Gelingt sie nicht, erhalten Sie eine\r\n\
                     weitere Mitteilung.\r\n"
                )
            }
        }
    }

    /// What leads to the reply.
    fn fate(&self, fate: &Fate) -> String {
        match (self.language, fate.what, &fate.host) {
            (Language::English, What::Expired, _) => {
                "  It was tried again and again, for as long as mail is kept here. The last result:\r\n".to_owned()
            }
            (Language::English, What::Late { .. }, _) => "  The last result:\r\n".to_owned(),
            (Language::English, What::Refused, Some(host)) => {
                format!("  The recipient's mail server, {}, said:\r\n", visible(host))
            }
            (Language::English, What::Refused, None) => "  The reason:\r\n".to_owned(),
            (Language::German, What::Expired, _) => {
                "  Die Zustellung wurde so lange versucht, wie Nachrichten hier aufbewahrt werden.\r\n  \
                 Das letzte Ergebnis:\r\n"
                    .to_owned()
            }
            (Language::German, What::Late { .. }, _) => "  Das letzte Ergebnis:\r\n".to_owned(),
            (Language::German, What::Refused, Some(host)) => {
                format!("  Der Mailserver des Empfängers, {}, hat geantwortet:\r\n", visible(host))
            }
            (Language::German, What::Refused, None) => "  Der Grund:\r\n".to_owned(),
        }
    }

    /// What follows the reply.
    fn end(&self, fate: &Fate) -> String {
        let What::Late { until } = fate.what else { return String::new() };
        match self.language {
            Language::English => format!("  It is tried until {}.\r\n", self.moment(until)),
            Language::German => format!("  Sie wird bis zum {} versucht.\r\n", self.moment(until)),
        }
    }

    fn more(&self, more: usize) -> String {
        match self.language {
            Language::English => format!("\r\n  and {more} more, who are named in the attached report.\r\n"),
            Language::German => format!("\r\n  und {more} weitere, die der angehängte Bericht nennt.\r\n"),
        }
    }

    fn closing(&self, notice: &Notice<'_>, about: Option<&str>) -> String {
        let (arrived, id) = (self.moment(notice.envelope.received_at), notice.envelope.id);
        let about = about.map(visible).filter(|subject| !subject.is_empty());
        let about = about.map(|subject| subject.chars().take(SUBJECT_MAX).collect::<String>());
        match self.language {
            Language::English => {
                let about = about.map(|subject| format!(" with the subject\r\n  {subject}\r\n")).unwrap_or_default();
                let about = if about.is_empty() { " ".to_owned() } else { about };
                format!(
                    "\r\nYour message{about}arrived here on {arrived}\r\n\
                     and has the id {id}; please name it when you ask about it.\r\n\
                     Its headers are attached. This notice was made by a program: nobody reads\r\n\
                     an answer to it.\r\n"
                )
            }
            Language::German => {
                let about = about.map(|subject| format!(" mit dem Betreff\r\n  {subject}\r\n")).unwrap_or_default();
                let about = if about.is_empty() { " ".to_owned() } else { about };
                format!(
                    "\r\nIhre Nachricht{about}ist am {arrived} hier eingetroffen\r\n\
                     und hat die Kennung {id}; bitte nennen Sie diese bei Rückfragen.\r\n\
                     Die Kopfzeilen der Nachricht sind angehängt. Diese Mitteilung hat ein\r\n\
                     Programm erstellt: Eine Antwort darauf liest niemand.\r\n"
                )
            }
        }
    }

    fn moment(&self, at: Timestamp) -> String {
        match self.language {
            Language::English => at.rfc5322(),
            Language::German => {
                let date = DateTime::from_timestamp(i64::try_from(at.unix_seconds()).unwrap_or(i64::MAX));
                let DateTime { year, month, day, hour, minute, .. } = date;
                format!("{day:02}.{month:02}.{year} um {hour:02}:{minute:02} Uhr (UTC)")
            }
        }
    }
}

/// One line that shows what it is: no control letters, and none that change the direction of what follows.
fn visible(text: &str) -> String {
    let is_hidden = |letter: char| {
        letter.is_control()
            || matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    text.trim().chars().map(|letter| if is_hidden(letter) { '?' } else { letter }).collect()
}
