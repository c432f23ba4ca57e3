//! Checks of what stands in the header section.

use super::brands;
use super::is_freemail;
use crate::spam::facts::{DateField, Facts, organisation};
use crate::spam::text::Folded;

const DAY_SECONDS: i64 = 24 * 60 * 60;

pub(super) fn date_unreadable(facts: &Facts) -> Option<String> {
    (facts.headers.date == DateField::Unreadable).then(|| value_of(facts, "Date"))
}

pub(super) fn date_in_future(facts: &Facts) -> Option<String> {
    (seconds_late(facts)? < -DAY_SECONDS).then(|| value_of(facts, "Date"))
}

pub(super) fn date_long_ago(facts: &Facts) -> Option<String> {
    (seconds_late(facts)? > 30 * DAY_SECONDS).then(|| value_of(facts, "Date"))
}

fn seconds_late(facts: &Facts) -> Option<i64> {
    let DateField::At(date) = facts.headers.date else { return None };
    Some(i64::try_from(facts.received_at.unix_seconds()).ok()?.saturating_sub(date))
}

/// RFC 5322 §3.6.4; no more than its shape, since many honest programs bend the grammar.
pub(super) fn message_id_malformed(facts: &Facts) -> Option<String> {
    let id = &facts.headers.named("Message-ID").next()?.raw;
    let inner = id.strip_prefix('<').and_then(|id| id.strip_suffix('>'));
    let well = inner.is_some_and(|inner| {
        let (left, right) = inner.rsplit_once('@').unwrap_or_default();
        !left.is_empty() && !right.is_empty() && !inner.contains([' ', '<', '>'])
    });
    (!well).then(|| id.clone())
}

pub(super) fn from_without_address(facts: &Facts) -> Option<String> {
    if !facts.headers.has("From") {
        return None;
    }
    // Bounces come from `MAILER-DAEMON` and say so in the envelope.
    if facts.door.as_ref().is_some_and(|door| door.sender_domain.is_none()) {
        return None;
    }
    let from = &facts.headers.from;
    let usable = !from.is_empty() && from.iter().all(|author| author.domain().contains('.') && !author.local().is_empty());
    (!usable).then(|| value_of(facts, "From"))
}

pub(super) fn from_name_other_address(facts: &Facts) -> Option<String> {
    let author = facts.author()?;
    let shown = author.name.to_lowercase();
    let word = shown
        .split([' ', '<', '>', '(', ')', '"', '\'', ',', ';'])
        .find(|word| word.split_once('@').is_some_and(|(local, domain)| !local.is_empty() && domain.contains('.')))?;
    let (_, domain) = word.rsplit_once('@')?;
    (organisation(domain) != organisation(author.domain())).then(|| format!("{} <{}>", author.name, author.address))
}

pub(super) fn from_name_brand(facts: &Facts) -> Option<String> {
    let author = facts.author()?;
    // All names of the field: `From: PayPal, Service, <x@evil.example>` is a list of three.
    let names: Vec<&str> = facts.headers.from.iter().flat_map(|from| [from.name.as_str(), unaddressed(&from.address)]).collect();
    let brand = brands::named_in(&Folded::of(&names.join(" ")).text)?;
    (!author.domain().is_empty() && !brand.owns(author.domain())).then(|| format!("{} <{}>", author.name, author.address))
}

pub(super) fn from_brand_elsewhere(facts: &Facts) -> Option<String> {
    let author = facts.author()?;
    let door = facts.door.as_ref()?;
    let brand = brands::owner_of(author.domain())?;
    let sent_by_brand = [&door.sender_domain, &door.reverse_name].into_iter().flatten().any(|domain| brand.owns(domain));
    (!sent_by_brand && door.sender_domain.is_some()).then(|| author.address.clone())
}

/// An entry of an address list that is no address is read as one without a host.
fn unaddressed(address: &str) -> &str {
    if address.contains('@') { "" } else { address }
}

pub(super) fn from_is_recipient(facts: &Facts) -> Option<String> {
    let author = facts.author()?;
    let door = facts.door.as_ref()?;
    let same = door.recipients.iter().any(|(_, address)| *address == author.address);
    // A client of the recipient's own organisation may well carry mail to oneself.
    let own_client = door.reverse_name.as_deref().is_some_and(|name| organisation(name) == organisation(author.domain()));
    (same && !own_client).then(|| author.address.clone())
}

/// Long runs without a vowel, or digits between letters several times: `xkqzvtrw`, `a83kd92ls`. Machines of mailing
/// services write such names too, but into the envelope, not into From.
pub(super) fn from_random_mailbox(facts: &Facts) -> Option<String> {
    let author = facts.author()?;
    let local = author.local().split('+').next().unwrap_or_default();
    // Mailing services that write their book-keeping into From mark it so.
    if local.contains(['#', '=']) {
        return None;
    }
    let bytes = local.as_bytes();
    let switches = bytes.windows(2).filter(|two| two[0].is_ascii_digit() != two[1].is_ascii_digit()).count();
    let consonants = local.split(|letter: char| !letter.is_ascii_alphabetic() || "aeiouy".contains(letter));
    let longest = consonants.map(str::len).max().unwrap_or(0);
    let digits = bytes.iter().filter(|byte| byte.is_ascii_digit()).count();
    (local.len() >= 8 && (switches >= 5 || longest >= 6 || digits >= 5)).then(|| author.address.clone())
}

pub(super) fn reply_to_freemail(facts: &Facts) -> Option<String> {
    let (author, reply_to) = (facts.author()?, facts.headers.reply_to.first()?);
    let elsewhere = organisation(author.domain()) != organisation(reply_to.domain()) || author.domain().is_empty();
    let other_mailbox = is_freemail(author.domain()) && author.address != reply_to.address;
    (is_freemail(reply_to.domain()) && (elsewhere || other_mailbox)).then(|| reply_to.address.clone())
}

pub(super) fn subject_capitals(facts: &Facts) -> Option<String> {
    let subject = without_prefixes(&facts.headers.subject);
    let letters = || subject.chars().filter(|letter| letter.is_alphabetic());
    let capitals = letters().filter(|letter| letter.is_uppercase()).count();
    let words =
        subject.split_whitespace().filter(|word| word.chars().filter(|letter| letter.is_alphabetic()).count() > 2).count();
    (capitals >= 10 && words >= 2 && capitals * 10 >= letters().count() * 9).then(|| subject.to_owned())
}

pub(super) fn subject_shouts(facts: &Facts) -> Option<String> {
    let subject = &facts.headers.subject;
    let count = |marks: &[char]| subject.chars().filter(|letter| marks.contains(letter)).count();
    let row = ["!!", "?!", "$$", "€€", "**"].iter().any(|row| subject.contains(row));
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

fn value_of(facts: &Facts, name: &str) -> String {
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
