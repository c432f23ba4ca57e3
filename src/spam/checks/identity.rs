//! Checks of who a message claims to be from: names, addresses and domains that do not fit each other.
//!
//! Two domains are one when one organisation registered them. Mailing lists and services that write for others are honest
//! about it in fields of their own and are left alone where a check says so.

use super::brands;
use super::headers::value_of;
use super::is_freemail;
use super::lookalike::{Own, imitates_brand, imitates_own, other_ending};
use super::trace::touched;
use crate::spam::facts::{Facts, Named, organisation};
use crate::spam::text::Folded;

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
    // "Microsoft Outlook" is who signs for Exchange that it could not deliver.
    if is_report(facts) {
        return None;
    }
    // All names of the field: `From: PayPal, Service, <x@evil.example>` is a list of three.
    let names: Vec<&str> = facts.headers.from.iter().flat_map(|from| [from.name.as_str(), unaddressed(&from.address)]).collect();
    let folded = Folded::of(&names.join(" ")).text;
    brands::named_in(&folded)?;
    let owned = brands::all_named_in(&folded).any(|brand| brand.owns(author.domain()));
    // The recipients' own SharePoint or virus scanner writes in its own name.
    let house = Own::of(facts).has(author.domain()) && from_own_domain(facts).is_none();
    (!author.domain().is_empty() && !owned && !house).then(|| format!("{} <{}>", author.name, author.address))
}

/// A report on the delivery of a message: without a return path, and built like one (RFC 3464).
fn is_report(facts: &Facts) -> bool {
    let null_sender = facts.door.as_ref().is_some_and(|door| door.sender_domain.is_none());
    let kind = facts.headers.named("Content-Type").next().map(|field| field.value.to_ascii_lowercase());
    null_sender && kind.is_some_and(|kind| kind.starts_with("multipart/report"))
}

pub(super) fn from_brand_elsewhere(facts: &Facts) -> Option<String> {
    let author = facts.author()?;
    let door = facts.door.as_ref()?;
    let brand = brands::owner_of(author.domain())?;
    let sent_by_brand = [&door.sender_domain, &door.reverse_name].into_iter().flatten().any(|domain| brand.owns(domain));
    // What was on the brand's own servers before it reached a list, a forwarder or an outsourced relay.
    let passed = facts.headers.hops.iter().any(|hop| [&hop.from, &hop.by].into_iter().any(|host| brand.owns(host)));
    (!sent_by_brand && !passed && !relayed(facts) && door.sender_domain.is_some()).then(|| author.address.clone())
}

/// The author is at a well-known brand, but the message neither came through the brand's hosts nor bears a signature of the
/// brand, which all of them put on their mail whoever sends it for them. Whether a signature is valid, findings tell.
pub(super) fn from_brand_unsigned(facts: &Facts) -> Option<String> {
    let author = facts.author()?;
    let brand = brands::owner_of(author.domain())?;
    unproved(facts, |domain| brand.owns(domain)).then(|| author.address.clone())
}

/// The same of a government's domain: `gov`, `gob.es`, `gouv.fr`, `gov.uk`.
pub(super) fn from_government_unsigned(facts: &Facts) -> Option<String> {
    let author = facts.author()?;
    let is_state = |label: &str| matches!(label, "gov" | "gob" | "gouv" | "govt" | "gv");
    let ending = |domain: &str| {
        let mut labels = domain.rsplit('.');
        let last = labels.next().unwrap_or_default();
        last == "gov" || last.len() == 2 && labels.next().is_some_and(is_state)
    };
    (ending(author.domain()) && unproved(facts, ending)).then(|| author.address.clone())
}

/// Nothing of the message's way or signatures is of these domains, and nothing else proves the author.
fn unproved(facts: &Facts, is_theirs: impl Fn(&str) -> bool) -> bool {
    let Some(door) = &facts.door else { return false };
    let signed = facts.headers.named("DKIM-Signature").take(10).any(|field| signer(&field.raw).is_some_and(&is_theirs));
    let hops = facts.headers.hops.iter().flat_map(|hop| [hop.from.as_str(), hop.by.as_str()]);
    let passed = door.reverse_name.as_deref().into_iter().chain(hops).any(&is_theirs);
    !signed && !passed && !relayed(facts) && !facts.found("dmarc-pass")
}

/// The `d=` of a DKIM-Signature.
fn signer(field: &str) -> Option<&str> {
    field.split(';').find_map(|tag| tag.trim().strip_prefix("d=")).map(str::trim)
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
    if local.contains(['#', '=']) || is_report(facts) {
        return None;
    }
    let bytes = local.as_bytes();
    let switches = bytes.windows(2).filter(|two| two[0].is_ascii_digit() != two[1].is_ascii_digit()).count();
    let digits = bytes.iter().filter(|byte| byte.is_ascii_digit()).count();
    // Where millions have mailboxes, numbers tell them apart.
    let numbered = digits >= 5 && !is_freemail(author.domain());
    (local.len() >= 8 && (switches >= 5 || longest_consonants(local) >= 6 || numbered)).then(|| author.address.clone())
}

/// The form on the recipients' own site writes in the site's name, and in the text who filled it in.
fn is_web_form(facts: &Facts, author: &Named, reply_to: &Named) -> bool {
    const MACHINES: [&str; 12] = [
        "wordpress",
        "www",
        "www-data",
        "web",
        "website",
        "webmaster",
        "webform",
        "form",
        "formular",
        "kontaktformular",
        "noreply",
        "no-reply",
    ];
    let text = &facts.folded.text;
    let written = |what: &str| what.chars().count() >= 5 && text.contains(Folded::of(what).text.trim());
    MACHINES.contains(&author.local())
        && Own::of(facts).has(author.domain())
        && (written(&reply_to.name) || written(&reply_to.address))
}

pub(super) fn reply_to_freemail(facts: &Facts) -> Option<String> {
    let (author, reply_to) = (facts.author()?, facts.headers.reply_to.first()?);
    let elsewhere = organisation(author.domain()) != organisation(reply_to.domain()) || author.domain().is_empty();
    let other_mailbox = is_freemail(author.domain()) && author.address != reply_to.address;
    if is_web_form(facts, author, reply_to) {
        return None;
    }
    (is_freemail(reply_to.domain()) && (elsewhere || other_mailbox)).then(|| reply_to.address.clone())
}

/// A domain as the name, or within it, that is not the author's: `www.bank.example`, `Support bank.example`.
pub(super) fn from_name_other_domain(facts: &Facts) -> Option<String> {
    let author = facts.author()?;
    let shown = author.name.to_lowercase();
    let own = organisation(author.domain());
    let domain = shown.split(|letter: char| !letter.is_alphanumeric() && !".-@".contains(letter)).find(|word| is_domain(word))?;
    let registered = organisation(domain);
    // `Example.com` of example.net, and the abbreviation of a long name, are the organisation's own.
    let label = |domain: &str| domain.split('.').next().unwrap_or_default().to_owned();
    let related = author.domain().contains(&label(registered)) || label(registered).contains(&label(own));
    let brand = brands::owner_of(own).is_some_and(|brand| brand.owns(registered));
    (!own.is_empty() && registered != own && !related && !brand).then(|| shown_as(author))
}

/// Does a word have a known ending with a name in front? `node.js` and `e.g.` have not.
fn is_domain(word: &str) -> bool {
    let word = word.trim_matches('.');
    if word.contains('@') || !word.is_ascii() || !word.contains('.') {
        return false;
    }
    let known = psl::suffix(word.as_bytes()).is_some_and(|suffix| suffix.is_known() && suffix.as_bytes().len() < word.len());
    // `St.Petersburg`, `Ph.D.`, `A.I.`: short words that only happen to have a country's ending.
    let (name, ending) = word.rsplit_once('.').unwrap_or_default();
    known && name.len() >= 4 && !ending.is_empty()
}

pub(super) fn from_name_emoji(facts: &Facts) -> Option<String> {
    let author = facts.author()?;
    let emoji = |letter: char| matches!(letter, '\u{1f000}'..='\u{1faff}' | '\u{2600}'..='\u{27bf}' | '\u{2b50}' | '\u{2b55}');
    author.name.contains(emoji).then(|| author.name.clone())
}

/// Signs in the name that draw the eye, or hide a word from filters: `_Parcel_`, `!!Prize!!`.
pub(super) fn from_name_decorated(facts: &Facts) -> Option<String> {
    let author = facts.author()?;
    let name = author.name.trim_matches(['"', '\'', ' ']);
    let rows = ["!!", "||", "**", "__", "##", "==", "~~", ">>", "<<", "$$"];
    let begins = name.starts_with(['_', '#', '*', '!', '|', '=', '~', '$', '%', '^', '>']);
    (begins || rows.iter().any(|row| name.contains(row))).then(|| author.name.clone())
}

/// A brand's name as the mailbox, or a part of it, at somebody else's domain: `paypal-support@example.com`.
pub(super) fn from_mailbox_brand(facts: &Facts) -> Option<String> {
    let author = facts.author()?;
    let brand = brands::imitated_by(&author.local().replace('_', "-"))?;
    (!author.domain().is_empty() && !brand.owns(author.domain())).then(|| author.address.clone())
}

pub(super) fn from_freemail(facts: &Facts) -> Option<String> {
    let author = facts.author()?;
    is_freemail(author.domain()).then(|| author.address.clone())
}

/// Free mailboxes are written from their provider's own hosts.
pub(super) fn freemail_from_elsewhere(facts: &Facts) -> Option<String> {
    const HOSTS: [(&[&str], &[&str]); 9] = [
        (&["gmail", "googlemail"], &["google"]),
        (&["yahoo", "ymail", "rocketmail", "aol", "aim"], &["yahoo", "aol.", "ymail", "btinternet", "sky.com", "sbcglobal"]),
        (&["hotmail", "outlook", "live", "msn"], &["outlook.com", "hotmail", "msn.com", "microsoft", "live.com", "office365"]),
        (&["icloud", "me", "mac"], &["icloud", "apple.com", "mac.com", "me.com"]),
        (&["gmx", "web"], &["gmx", "web.de", "1and1", "kundenserver", "mail.com", "server.lan", "ui-"]),
        (&["yandex"], &["yandex"]),
        (&["qq"], &["qq.com"]),
        (&["163", "126", "yeah"], &["163.com", "126.com", "netease", "mail-m", "yeah.net"]),
        (&["protonmail", "proton"], &["proton"]),
    ];
    let author = facts.author()?;
    facts.door.as_ref()?;
    let label = author.domain().split('.').next().unwrap_or_default();
    let (_, hosts) = HOSTS.iter().find(|(names, _)| names.contains(&label)).filter(|_| is_freemail(author.domain()))?;
    (!relayed(facts) && !touched(facts, hosts)).then(|| author.address.clone())
}

/// A list, a forwarder, or somebody who writes for somebody says so.
fn relayed(facts: &Facts) -> bool {
    const FIELDS: [&str; 9] = [
        "List-Id",
        "List-Post",
        "Mailing-List",
        "X-Mailing-List",
        "X-BeenThere",
        "Resent-From",
        "X-Forwarded-For",
        "Delivered-To",
        "X-Loop",
    ];
    FIELDS.iter().any(|name| facts.headers.has(name))
}

/// Mail to many from one service: it names how to leave.
fn bulk(facts: &Facts) -> bool {
    ["List-Unsubscribe", "List-Id", "Feedback-ID", "Precedence"].iter().any(|name| facts.headers.has(name))
}

/// Answers go to another organisation than the author's, and nothing says that this is a list's or a service's mail. Free
/// mailboxes are a check of their own.
pub(super) fn reply_to_elsewhere(facts: &Facts) -> Option<String> {
    let (author, reply_to) = (facts.author()?, facts.headers.reply_to.first()?);
    let elsewhere = !author.domain().is_empty()
        && reply_to.domain().contains('.')
        && organisation(author.domain()) != organisation(reply_to.domain());
    (elsewhere && !is_freemail(reply_to.domain()) && !relayed(facts) && !bulk(facts))
        .then(|| format!("{} for {}", reply_to.address, author.address))
}

/// Author and answers are at free mailboxes, and not at the same one.
pub(super) fn reply_to_other_freemail(facts: &Facts) -> Option<String> {
    let (author, reply_to) = (facts.author()?, facts.headers.reply_to.first()?);
    let free = is_freemail(author.domain()) && is_freemail(reply_to.domain());
    (free && author.domain() != reply_to.domain() && !relayed(facts)).then(|| reply_to.address.clone())
}

pub(super) fn sender_field_elsewhere(facts: &Facts) -> Option<String> {
    let (author, sender) = (facts.author()?, facts.headers.sender.first()?);
    let elsewhere = sender.domain().contains('.') && organisation(sender.domain()) != organisation(author.domain());
    (elsewhere && !relayed(facts) && !bulk(facts)).then(|| format!("{} for {}", sender.address, author.address))
}

pub(super) fn envelope_elsewhere(facts: &Facts) -> Option<String> {
    let sender = facts.door.as_ref()?.sender_domain.as_ref()?;
    let author = facts.author()?.domain();
    let elsewhere = !author.is_empty() && organisation(sender) != organisation(author);
    (elsewhere && !relayed(facts) && !bulk(facts)).then(|| format!("{sender} for {author}"))
}

/// The server that took the message tells who logged in: somebody at another domain than the author's, whose password was
/// stolen, or who pretends.
pub(super) fn authenticated_elsewhere(facts: &Facts) -> Option<String> {
    const FIELDS: [&str; 5] = ["X-Authenticated-Sender", "X-Authenticated-User", "X-AuthUser", "X-Auth-Sender", "X-SMTPAUTH"];
    let author = facts.author()?;
    let login = FIELDS.iter().flat_map(|name| facts.headers.named(name)).find_map(|field| {
        let words = field.value.split([' ', '<', '>', ':', ';', '(', ')', ',']);
        words.map(str::to_lowercase).find(|word| word.split_once('@').is_some_and(|(_, domain)| domain.contains('.')))
    })?;
    let (_, domain) = login.rsplit_once('@')?;
    (!author.domain().is_empty() && organisation(domain) != organisation(author.domain()))
        .then(|| format!("{login} for {}", author.address))
}

pub(super) fn from_domain_digits(facts: &Facts) -> Option<String> {
    domain_label(facts, |label| label.bytes().filter(u8::is_ascii_digit).count() >= 4)
}

pub(super) fn from_domain_hyphens(facts: &Facts) -> Option<String> {
    domain_label(facts, |label| !label.starts_with("xn--") && label.matches('-').count() >= 3)
}

/// `qzxkvwpt.example`: a run of consonants or changes between letters and digits that no name has.
pub(super) fn from_domain_random(facts: &Facts) -> Option<String> {
    let author = facts.author()?.domain();
    let random = |label: &str| {
        let bytes = label.as_bytes();
        let digit_changes = bytes.windows(2).filter(|two| two[0].is_ascii_digit() != two[1].is_ascii_digit()).count();
        !label.starts_with("xn--") && label.len() >= 7 && (longest_consonants(label) >= 6 || digit_changes >= 4)
    };
    let registered = organisation(author).split('.').next().unwrap_or_default();
    let labels = author.split('.').filter(|label| *label == registered || label.len() >= 9);
    let found = !is_freemail(author) && labels.take(10).any(random);
    found.then(|| author.to_owned())
}

/// `sch` and the like count as one: German has `Angstschweiß`.
pub(super) fn longest_consonants(word: &str) -> usize {
    let word = word.replace("tch", "c").replace("sch", "s").replace("ch", "c").replace("th", "t");
    word.split(|letter: char| !letter.is_ascii_alphabetic() || "aeiouy".contains(letter)).map(str::len).max().unwrap_or(0)
}

fn domain_label(facts: &Facts, is: impl Fn(&str) -> bool) -> Option<String> {
    let domain = facts.author()?.domain();
    let label = organisation(domain).split('.').next().unwrap_or_default();
    (!is_freemail(domain) && is(label)).then(|| domain.to_owned())
}

/// The author is at the recipients' own domain, but an outsider sent the message, and nothing proves that it may.
pub(super) fn from_own_domain(facts: &Facts) -> Option<String> {
    let author = facts.author()?;
    let door = facts.door.as_ref()?;
    let own = Own::of(facts);
    let envelope_own = door.sender_domain.as_ref().is_some_and(|sender| own.has(sender));
    let proved = facts.found("dmarc-pass")
        || facts.found("spf-pass") && envelope_own
        || facts.found("dkim-pass") && !facts.found("dmarc-fail");
    let own_client = facts.found("reverse-name-unconfirmed") || door.reverse_name.as_deref().is_none_or(|name| !own.has(name));
    (own.has(author.domain()) && own_client && !proved && !relayed(facts)).then(|| author.address.clone())
}

/// The name shows the recipients' own domain, the address is somebody else's.
pub(super) fn from_name_own_domain(facts: &Facts) -> Option<String> {
    let (author, own) = (facts.author()?, Own::of(facts));
    let name = author.name.to_lowercase();
    let door = facts.door.as_ref()?;
    let shown = door.recipients.iter().any(|(domain, _)| domain.contains('.') && holds_word(&name, domain));
    (shown && !author.domain().is_empty() && !own.has(author.domain())).then(|| shown_as(author))
}

/// The name holds the first word of the recipients' own domain, as a department of it would.
pub(super) fn from_name_own_organisation(facts: &Facts) -> Option<String> {
    let (author, own) = (facts.author()?, Own::of(facts));
    let name = Folded::of(&author.name).text;
    let label_there = own.labels().any(|(label, _)| holds_word(&name, label));
    // The other half of the name may be the organisation's at a sister domain: `Northwind` of northwind-group.example.
    let sister = own.labels().any(|(label, _)| author.domain().contains(label));
    (label_there && !sister && !author.domain().is_empty() && !own.has(author.domain())).then(|| shown_as(author))
}

fn holds_word(text: &str, word: &str) -> bool {
    let part = |letter: char| letter.is_alphanumeric();
    text.match_indices(word).any(|(at, _)| !text[..at].ends_with(part) && !text[at + word.len()..].starts_with(part))
}

pub(super) fn from_lookalike_brand(facts: &Facts) -> Option<String> {
    claimed_domains(facts).find_map(imitates_brand)
}

pub(super) fn from_lookalike_own(facts: &Facts) -> Option<String> {
    let own = Own::of(facts);
    claimed_domains(facts).find_map(|domain| imitates_own(domain, &own))
}

pub(super) fn from_own_name_other_ending(facts: &Facts) -> Option<String> {
    let (domain, own) = (facts.author()?.domain(), Own::of(facts));
    other_ending(domain, &own).map(|imitated| format!("{domain} for {imitated}"))
}

/// The domains a message claims to come from or to be answered at.
fn claimed_domains(facts: &Facts) -> impl Iterator<Item = &str> {
    let author = facts.author().map(Named::domain);
    let reply_to = facts.headers.reply_to.first().map(Named::domain);
    let envelope = facts.door.as_ref().and_then(|door| door.sender_domain.as_deref());
    [author, reply_to, envelope].into_iter().flatten().filter(|domain| !domain.is_empty())
}

/// A brand in the subject of mail from elsewhere. Half of the world's mail talks of brands: no more than a part of a rule.
pub(super) fn subject_brand(facts: &Facts) -> Option<String> {
    let author = facts.author()?;
    let subject = Folded::of(&facts.headers.subject).text;
    let owned = brands::all_named_in(&subject).any(|brand| brand.owns(author.domain()));
    let brand = brands::named_in(&subject)?;
    (!owned && !author.domain().is_empty()).then(|| format!("{} from {}", brand.name(), author.domain()))
}

fn shown_as(author: &Named) -> String {
    format!("{} <{}>", author.name, author.address)
}
