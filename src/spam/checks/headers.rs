//! Checks of what stands in the header section.

use super::brands;
use crate::spam::facts::{Facts, HeaderField, Named};
use crate::spam::text::Folded;

pub(super) fn subject_capitals(facts: &Facts) -> Option<String> {
    let subject = without_prefixes(&facts.headers.subject);
    let letters = || subject.chars().filter(|letter| letter.is_alphabetic());
    let capitals = letters().filter(|letter| letter.is_uppercase()).count();
    let words =
        subject.split_whitespace().filter(|word| word.chars().filter(|letter| letter.is_alphabetic()).count() > 2).count();
    // `RECHNUNG 4711`, `PO-12 FREIGABE`: what a book-keeping program writes, not what somebody shouts.
    let is_code = |word: &str| {
        let digits = word.bytes().filter(u8::is_ascii_digit).count();
        !word.contains(['$', '€', '£', '%']) && (digits >= 4 || digits > 0 && word.contains(char::is_alphabetic))
    };
    let code = subject.split_whitespace().any(is_code);
    (capitals >= 10 && words >= 2 && !code && capitals * 10 >= letters().count() * 9).then(|| subject.to_owned())
}

pub(super) fn subject_shouts(facts: &Facts) -> Option<String> {
    let subject = &facts.headers.subject;
    let count = |marks: &[char]| subject.chars().filter(|letter| marks.contains(letter)).count();
    // Monitors write `** PROBLEM … **`.
    let row = ["!!", "?!", "$$", "€€"].iter().any(|row| subject.contains(row));
    (count(&['!', '！']) >= 2 || row || count(&['$', '€', '£']) >= 3).then(|| subject.clone())
}

/// `V I A G R A`, `f.r.e.e`: four or more single letters in a row.
pub(super) fn subject_spaced_letters(facts: &Facts) -> Option<String> {
    let mut run = 0;
    let mut words = facts.headers.subject.split([' ', '.', '-', '_', '*', '|', '/']);
    let found = words.any(|word| {
        let single = word.chars().count() == 1 && word.chars().all(char::is_alphabetic);
        run = if single { run + 1 } else { 0 };
        run >= 5
    });
    found.then(|| facts.headers.subject.clone())
}

pub(super) fn subject_disguised(facts: &Facts) -> Option<String> {
    let name = facts.author().map_or("", |author| author.name.as_str());
    let disguised = |text: &&str| {
        let folded = Folded::of(text);
        folded.invisible_in_words > 0 || folded.mixed_words > 0 || folded.styled_letters >= 3
    };
    [facts.headers.subject.as_str(), name].into_iter().find(disguised).map(str::to_owned)
}

pub(super) fn subject_names_recipient(facts: &Facts) -> Option<String> {
    // A calendar names the guest behind the appointment.
    if facts.mime.attachments.iter().any(|attachment| attachment.has_extension(&["ics"])) {
        return None;
    }
    let subject = without_prefixes(&facts.headers.subject).to_lowercase();
    let subject = subject.as_str();
    let named = |address: &str| {
        let local = address.split('@').next().unwrap_or_default();
        let as_word =
            || subject.split(|letter: char| !letter.is_alphanumeric() && !"._-+".contains(letter)).any(|word| word == local);
        subject.contains(address) || local.len() >= 4 && !brands::is_role(local) && as_word()
    };
    let mut recipients = facts.door.iter().flat_map(|door| door.recipients.iter().map(|(_, address)| address.as_str()));
    recipients.any(named).then(|| facts.headers.subject.clone())
}

/// Small and capital letters and digits that change at almost every second step. `JavaScript` and `iPhone15Pro` stay below.
pub(super) fn subject_random_word(facts: &Facts) -> Option<String> {
    let kind = |byte: u8| (byte.is_ascii_digit(), byte.is_ascii_uppercase());
    let random = |word: &&str| {
        let bytes = word.as_bytes();
        let changes = bytes.windows(2).filter(|two| kind(two[0]) != kind(two[1])).count();
        let small = bytes.iter().filter(|byte| byte.is_ascii_lowercase()).count();
        let capitals = bytes.iter().filter(|byte| byte.is_ascii_uppercase()).count();
        (10..=60).contains(&bytes.len()) && small >= 3 && capitals >= 3 && changes * 5 >= bytes.len() * 2
    };
    facts.headers.subject.split(|letter: char| !letter.is_ascii_alphanumeric()).find(random).map(str::to_owned)
}

pub(super) fn subject_reply_without_thread(facts: &Facts) -> Option<String> {
    let subject = &facts.headers.subject;
    let reply = ["re:", "aw:", "antw:"]
        .iter()
        .any(|prefix| subject.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix)));
    let thread = ["In-Reply-To", "References", "Thread-Index", "X-Mailman-Version"].iter().any(|name| facts.headers.has(name));
    (reply && !thread).then(|| subject.clone())
}

pub(super) fn subject_encoded_ascii(facts: &Facts) -> Option<String> {
    let field = facts.headers.named("Subject").next()?;
    let base64 = field.raw.get(..40.min(field.raw.len())).unwrap_or_default().to_ascii_lowercase().contains("?b?");
    (base64 && field.value.is_ascii() && !field.value.contains("=?")).then(|| field.value.clone())
}

pub(super) fn fields_doubled(facts: &Facts) -> Option<String> {
    const ONCE: [&str; 6] = ["From", "Subject", "Date", "Message-ID", "To", "Reply-To"];
    ONCE.iter().find(|name| facts.headers.named(name).count() > 1).map(|name| format!("{name} twice"))
}

/// Mail that passed Exchange and two filters has about 100 fields and 12 hops.
pub(super) fn fields_beyond_use(facts: &Facts) -> Option<String> {
    let headers = &facts.headers;
    (headers.count > 200 || headers.received > 25).then(|| format!("{} fields, {} Received", headers.count, headers.received))
}

/// RFC 6532 allows UTF-8; other raw bytes are readable to nobody for sure.
pub(super) fn fields_eight_bit(facts: &Facts) -> Option<String> {
    let section = &facts.headers.section;
    (facts.headers.eight_bit && section.contains('\u{fffd}')).then(|| facts.headers.subject.clone())
}

/// Programs write `Subject` and `From`; scripts that nobody tested with a mail client write `subject` and `from`.
pub(super) fn fields_lower_case(facts: &Facts) -> Option<String> {
    const NAMES: [&str; 4] = ["from", "to", "subject", "date"];
    let lower = facts.headers.fields.iter().filter(|field| NAMES.contains(&field.name.as_str()));
    let names: Vec<&str> = lower.map(|field| field.name.as_str()).collect();
    (names.len() >= 2).then(|| names.join(", "))
}

/// `From:joe@example.com`: allowed, and hardly any mail program does it.
pub(super) fn fields_tight(facts: &Facts) -> Option<String> {
    const NAMES: [&str; 5] = ["From", "To", "Subject", "Date", "Message-ID"];
    let tight = |field: &&HeaderField| field.tight && NAMES.iter().any(|name| field.is(name));
    facts.headers.fields.iter().find(tight).map(|field| format!("{}:{}", field.name, field.raw))
}

pub(super) fn to_empty(facts: &Facts) -> Option<String> {
    facts.headers.named("To").any(|field| field.raw.is_empty()).then(String::new)
}

/// The author writes to itself, and to everybody else unseen.
pub(super) fn to_is_from(facts: &Facts) -> Option<String> {
    let author = facts.author()?;
    let to = &facts.headers.to;
    let elsewhere = facts.door.as_ref()?.recipients.iter().all(|(_, address)| *address != author.address);
    // A list may write in its own name.
    if ["List-Id", "List-Post", "Mailing-List"].iter().any(|name| facts.headers.has(name)) {
        return None;
    }
    let alone = !to.is_empty() && to.iter().all(|to| to.address == author.address);
    (alone && elsewhere && author.address.contains('@')).then(|| author.address.clone())
}

/// Encoded words of two character sets in one field. US-ASCII goes with everything, and with UTF-8 as its part.
pub(super) fn charsets_mixed(facts: &Facts) -> Option<String> {
    let fields = facts.headers.fields.iter().filter(|field| ["From", "Subject", "Reply-To"].iter().any(|name| field.is(name)));
    fields.map(|field| charsets(&field.raw)).find(|names| names.len() > 1).map(|names| names.join(", "))
}

/// The character sets of the encoded words of a field, each once, in lower case.
fn charsets(raw: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for word in encoded_words(raw) {
        // With a language behind it (RFC 2231 §5): `utf-8*de`.
        let name = word.charset.split('*').next().unwrap_or_default().to_ascii_lowercase();
        if name != "us-ascii" && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// `=?charset?kind?text?=`
struct EncodedWord<'a> {
    charset: &'a str,
    base64: bool,
    /// `None` when it does not end.
    text: Option<&'a str>,
}

/// The first fifty of a field. What is no encoded word for its beginning is skipped.
fn encoded_words(raw: &str) -> impl Iterator<Item = EncodedWord<'_>> {
    let mut rest = raw;
    let next = move || {
        while let Some(at) = rest.find("=?") {
            rest = &rest[at + 2..];
            let Some((charset, after)) = rest.split_once('?') else { continue };
            let base64 = match after.get(..2) {
                Some("B?" | "b?") => true,
                Some("Q?" | "q?") => false,
                _ => continue,
            };
            if charset.is_empty() || charset.len() > 40 || charset.contains(' ') {
                continue;
            }
            let text = after[2..].split_once("?=").map(|(text, _)| text);
            rest = text.map_or("", |text| &after[2 + text.len() + 2..]);
            return Some(EncodedWord { charset, base64, text });
        }
        None
    };
    std::iter::from_fn(next).take(50)
}

/// A Cyrillic, Chinese, Japanese or Korean character set for a subject that has none of its letters.
pub(super) fn subject_charset_unneeded(facts: &Facts) -> Option<String> {
    const FOREIGN: [&str; 10] =
        ["windows-1251", "koi8", "gb2312", "gbk", "gb18030", "big5", "euc-", "ks_c", "iso-2022", "shift_jis"];
    let field = facts.headers.named("Subject").next()?;
    let foreign = charsets(&field.raw).into_iter().find(|name| FOREIGN.iter().any(|start| name.starts_with(start)))?;
    (!field.value.contains("=?") && field.value.chars().all(|letter| letter < '\u{250}')).then_some(foreign)
}

/// A name in base64 that is plain ASCII: nobody needs it, but it hides the name from those who read the source.
pub(super) fn from_encoded_ascii(facts: &Facts) -> Option<String> {
    let field = facts.headers.named("From").next()?;
    let base64 = encoded_words(&field.raw).any(|word| word.base64);
    let name = facts.author().map_or("", |author: &Named| author.name.as_str());
    (base64 && !name.is_empty() && name.is_ascii() && !name.contains("=?")).then(|| name.to_owned())
}

/// Encoded words that do not end, or with blanks inside: no client decodes them.
pub(super) fn encoded_word_broken(facts: &Facts) -> Option<String> {
    let broken = |field: &&HeaderField| encoded_words(&field.raw).any(|word| word.text.is_none_or(|text| text.contains(' ')));
    let mut fields = facts.headers.fields.iter().filter(|field| field.is("From") || field.is("Subject"));
    fields.find(broken).map(|field| field.raw.clone())
}

pub(super) fn value_of(facts: &Facts, name: &str) -> String {
    facts.headers.named(name).next().map_or_else(String::new, |field| field.value.clone())
}

/// Without `Re:`, `Fwd:` and the `[name]` of a mailing list.
fn without_prefixes(subject: &str) -> &str {
    let mut rest = subject.trim();
    loop {
        let bracket = rest.strip_prefix('[').and_then(|inner| inner.split_once(']')).map(|(_, after)| after.trim_start());
        let prefix = rest
            .split_once(':')
            .filter(|(word, _)| (2..=4).contains(&word.len()) && word.is_ascii())
            .map(|(_, after)| after.trim_start());
        match bracket.or(prefix) {
            Some(shorter) => rest = shorter,
            None => return rest,
        }
    }
}
