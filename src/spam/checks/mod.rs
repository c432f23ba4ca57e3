//! Named checks: questions to the facts that no expression can ask. A rule asks them with `check = "name"`.
//!
//! A check answers with what it found, for people, or nothing; it knows no points. Each reads the facts at most a few times.

mod brands;
mod content;
mod door;
mod headers;
mod links;

use super::facts::Facts;

/// A question with a name.
pub(super) struct Check {
    pub name: &'static str,
    /// What it finds, as docs/RULES.md lists it.
    pub finds: &'static str,
    /// What was found, if anything.
    pub run: fn(&Facts) -> Option<String>,
}

macro_rules! checks {
    ($($module:ident::$name:ident: $finds:literal),* $(,)?) => {
        /// All checks there are.
        pub(super) const ALL: &[Check] =
            &[$(Check { name: stringify!($name), finds: $finds, run: $module::$name }),*];
    };
}

checks! {
    headers::date_unreadable: "a Date that is no date",
    headers::date_in_future: "a Date more than a day after the message came in",
    headers::date_long_ago: "a Date more than 30 days before the message came in",
    headers::message_id_malformed: "a Message-ID without the form <left@right>",
    headers::from_without_address: "a From field in which something is no address that could be answered",
    headers::from_name_other_address: "a display name that shows another address than the one behind it",
    headers::from_name_brand: "a display name with a well-known brand, from a domain that is not the brand's",
    headers::from_brand_elsewhere: "an author at a well-known brand, sent neither by its host nor with its envelope",
    headers::from_is_recipient: "a message that claims to come from its own recipient",
    headers::from_random_mailbox: "an author's mailbox that looks made by a generator",
    headers::reply_to_freemail: "replies go to a free mailbox, the author's domain is another",
    headers::subject_capitals: "a subject in capitals",
    headers::subject_shouts: "several exclamation or currency marks in the subject",
    headers::subject_spaced_letters: "words with their letters spaced out in the subject",
    headers::subject_disguised: "letters of other alphabets or invisible characters within words of the subject or display name",
    headers::subject_names_recipient: "the recipient's address, or its local part as a word, in the subject",
    headers::subject_random_word: "a word in the subject that looks made by a generator",
    headers::subject_reply_without_thread: "Re: in the subject, but no reference to a message",
    headers::subject_encoded_ascii: "a subject hidden in base64 although all of it is ASCII",
    headers::fields_doubled: "From, Subject, Date, Message-ID, To or Reply-To more than once",
    headers::fields_beyond_use: "more header fields, or more Received fields, than honest mail has",
    headers::fields_eight_bit: "raw bytes beyond ASCII in the header that are not UTF-8",
    content::html_without_text: "HTML without a plain alternative",
    content::image_instead_of_text: "HTML with images, a link and hardly a word",
    content::body_empty: "no letter, no image and no attachment",
    content::hidden_text: "much text that the reader does not see",
    content::password_form: "HTML that asks for a password",
    content::form: "an HTML form in the message",
    content::script: "a script or a frame in the message",
    content::mime_too_deep: "MIME parts nested or counted beyond all use",
    content::mime_without_boundary: "a multipart message without its boundary",
    content::mime_damaged_base64: "characters in base64 that do not belong there",
    content::mime_contradictions: "two different Content-Type fields, or an encoded multipart",
    content::mime_version_missing: "MIME parts without a MIME-Version field",
    content::invisible_letters: "invisible characters within words",
    content::mixed_alphabets: "words written with look-alike letters of another alphabet",
    content::styled_letters: "sentences in mathematical or full-width letters",
    content::attachment_double_extension: "a document's extension in front of a program's",
    content::attachment_disguised_program: "a Windows program under another name",
    content::attachment_active_page: "an attached web page with a form or a script",
    content::attachment_locked_archive: "an archive that needs a password which the text tells",
    links::link_shows_other_host: "a link that shows one host and leads to another",
    links::link_to_address: "a link to an IP address",
    links::link_odd_port: "a link to an unusual port",
    links::link_with_user: "a link with a name in front of the host",
    links::link_lookalike_host: "a link to a host in look-alike letters",
    links::link_brand_host: "a link to a host that only begins like a brand's",
    links::link_data: "a link that carries a whole page in itself",
    links::link_shortener: "a link through a public shortener",
    links::link_free_hosting: "a link to a page that anybody can put up without a name",
    links::link_names_recipient: "a link that carries the recipient's address",
    links::link_fragment_recipient: "a link that carries the recipient's address behind a # or in base64",
    links::link_alone: "up to three links and hardly a word beside them",
    door::helo_is_recipient: "a client that greets with the recipient's own domain",
    door::sender_elsewhere: "an envelope sender of another organisation than the author, with a free mailbox as author",
}

/// Domains where anybody has a mailbox within a minute.
pub(super) fn is_freemail(domain: &str) -> bool {
    const NAMES: [&str; 29] = [
        "gmail",
        "googlemail",
        "yahoo",
        "ymail",
        "rocketmail",
        "hotmail",
        "outlook",
        "live",
        "msn",
        "aol",
        "gmx",
        "web",
        "mail",
        "inbox",
        "list",
        "bk",
        "yandex",
        "protonmail",
        "proton",
        "tutanota",
        "zoho",
        "icloud",
        "t-online",
        "freenet",
        "qq",
        "163",
        "126",
        "sina",
        "rediffmail",
    ];
    // `web` and the like are only free mailboxes right below their country.
    let (name, rest) = domain.split_once('.').unwrap_or((domain, ""));
    let plain = matches!(
        rest,
        "com"
            | "de"
            | "net"
            | "fr"
            | "it"
            | "es"
            | "ru"
            | "me"
            | "at"
            | "ch"
            | "co.uk"
            | "co.jp"
            | "com.br"
            | "in"
            | "cn"
            | "co.in"
            | "ca"
    );
    plain && NAMES.contains(&name)
}
