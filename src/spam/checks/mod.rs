//! Named checks: questions to the facts that no expression can ask. A rule asks them with `check = "name"`.
//!
//! A check answers with what it found, for people, or nothing; it knows no points. Each reads the facts at most a few times.

mod attachments;
mod brands;
mod content;
mod door;
mod headers;
mod html;
mod identity;
mod links;
pub(super) mod lookalike;
mod mime;
mod text;
mod trace;

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
    trace::date_unreadable: "a Date that is no date",
    trace::date_in_future: "a Date more than a day after the message came in",
    trace::date_long_ago: "a Date more than 30 days before the message came in",
    trace::message_id_malformed: "a Message-ID without the form <left@right>",
    identity::from_without_address: "a From field in which something is no address that could be answered",
    identity::from_name_other_address: "a display name that shows another address than the one behind it",
    identity::from_name_brand: "a display name with a well-known brand, from a domain that is not the brand's",
    identity::from_brand_elsewhere: "an author at a well-known brand, sent neither by its host nor with its envelope",
    identity::from_is_recipient: "a message that claims to come from its own recipient",
    identity::from_random_mailbox: "an author's mailbox that looks made by a generator",
    identity::reply_to_freemail: "replies go to a free mailbox, the author's domain is another",
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
    trace::date_zone_impossible: "a Date in a time zone that no place has",
    trace::date_wrong_weekday: "a Date whose weekday is not that of its day",
    trace::date_out_of_range: "a Date with a day or an hour that does not exist",
    trace::date_after_received: "a Date more than six hours after the first Received field",
    trace::date_before_received: "a Date more than four days before the first Received field",
    trace::received_backwards: "Received fields whose times run backwards by more than a day",
    trace::received_impossible_address: "a Received field with an address that cannot be",
    trace::received_from_recipient: "a stranger's message that claims to have begun at the recipient's own server",
    trace::received_missing: "no Received field and no signature of anybody",
    trace::message_id_bare_host: "a Message-ID whose host is no full name",
    trace::message_id_host_address: "a Message-ID whose host is an IP address",
    trace::message_id_of_recipient: "a stranger's Message-ID below the recipient's domain",
    trace::message_id_of_other_provider: "the Message-ID of a large provider on mail that never was there",
    trace::message_id_unrelated: "a Message-ID made at a domain that has nothing to do with author, sender or way",
    headers::fields_lower_case: "From, To, Subject or Date written in small letters",
    headers::fields_tight: "no blank behind the colon of From, To, Subject, Date or Message-ID",
    headers::to_empty: "a To field without anything in it",
    headers::to_is_from: "a message to its author alone, delivered to others",
    headers::charsets_mixed: "encoded words of several character sets in one field",
    headers::subject_charset_unneeded: "a subject in an Asian or Cyrillic character set without a letter of it",
    headers::from_encoded_ascii: "an author's name hidden in base64 although all of it is ASCII",
    headers::encoded_word_broken: "an encoded word in From or Subject that cannot be decoded",
    identity::from_name_other_domain: "a display name that shows another domain than that of the address",
    identity::from_name_emoji: "an emoji in the display name",
    identity::from_mailbox_brand: "a well-known brand in the author's mailbox, at another domain",
    identity::from_brand_unsigned: "an author at a well-known brand, neither through its hosts nor with its signature",
    identity::from_government_unsigned: "an author at a government's domain, neither through its hosts nor with its signature",
    identity::from_name_decorated: "signs in the display name that draw the eye",
    identity::from_freemail: "an author at a free mailbox",
    identity::freemail_from_elsewhere: "an author at a large free mailbox whose message never was on its hosts",
    identity::reply_to_elsewhere: "replies go to another organisation than the author's, and no list or service says so, free mailboxes apart",
    identity::reply_to_other_freemail: "author and replies at two different providers of free mailboxes",
    identity::sender_field_elsewhere: "a Sender field of another organisation than the author, and no list or service",
    identity::envelope_elsewhere: "an envelope sender of another organisation than the author, and no list or service",
    identity::authenticated_elsewhere: "a login at another domain than the author's, as the first server wrote it down",
    identity::from_domain_digits: "four or more digits in the author's domain",
    identity::from_domain_hyphens: "three or more hyphens in the author's domain",
    identity::from_domain_random: "an author's domain that looks made by a generator",
    identity::from_own_domain: "an author at the recipients' own domain, sent by an outsider, without proof",
    identity::from_name_own_domain: "a display name with the recipients' own domain, from elsewhere",
    identity::from_name_own_organisation: "a display name with the first word of the recipients' domain, from elsewhere",
    identity::from_lookalike_brand: "an author's, reply or envelope domain that looks like a well-known brand's",
    identity::from_lookalike_own: "an author's, reply or envelope domain that looks like the recipients' own",
    identity::from_own_name_other_ending: "an author's domain that is the recipients' with another ending",
    identity::subject_brand: "a well-known brand in the subject, from elsewhere",
    content::html_without_text: "HTML without a plain alternative",
    content::image_instead_of_text: "HTML with images, a link and hardly a word",
    content::body_empty: "no letter, no image and no attachment",
    content::hidden_text: "much text that the reader does not see",
    content::links_at_sharing_service: "links, all of them to where documents are shared",
    content::password_form: "HTML that asks for a password",
    content::form: "an HTML form in the message",
    content::script: "a script or a frame in the message",
    content::beyond_bounds: "more text, more links or a longer header than is looked at",
    content::mime_too_deep: "MIME parts nested or counted beyond all use",
    content::mime_without_boundary: "a multipart message without its boundary",
    content::mime_damaged_base64: "characters in base64 that do not belong there",
    content::mime_contradictions: "two different Content-Type fields, or an encoded multipart",
    content::mime_version_missing: "MIME parts without a MIME-Version field",
    content::invisible_letters: "invisible characters within words",
    content::mixed_alphabets: "words written with look-alike letters of another alphabet",
    content::styled_letters: "sentences in mathematical or full-width letters",
    html::html_parted_words: "words parted by comments, nonsense tags or hidden letters",
    html::html_nonsense_tags: "several tags that no HTML has",
    html::html_numbered_letters: "plain letters written as numbers",
    html::html_camouflaged: "text of the colour it stands on",
    html::html_comments: "more comment than text",
    html::html_handlers: "attributes that run code",
    html::html_refresh: "HTML that leads elsewhere by itself",
    html::html_base: "HTML whose short links lead elsewhere than they say",
    html::html_map: "an image with places that are links",
    html::html_pixel: "an image of one pixel",
    html::html_fragment: "HTML without `<html>` and `<body>`",
    html::html_unfinished: "HTML that ends within a tag or a comment",
    mime::mime_never_closed: "parts that begin and never end",
    mime::mime_odd_boundary: "a boundary with characters, or of a length, that no boundary has",
    mime::mime_same_boundary: "parts within parts with the same boundary",
    mime::mime_text_between_parts: "sentences before the first or after the last part",
    mime::mime_one_alternative: "an alternative with nothing to choose from",
    mime::mime_file_as_alternative: "a file where another form of the text should be",
    mime::mime_content_elsewhere: "a part of a message, or content that lies elsewhere",
    mime::mime_wrong_charset: "a text that is not in the charset it names",
    mime::mime_no_charset: "bytes beyond ASCII in no charset",
    mime::mime_unknown_encoding: "a transfer encoding that does not exist",
    mime::mime_encoded_ascii: "plain ASCII text hidden in base64",
    mime::mime_quoted_letters: "plain letters written as numbers in quoted-printable",
    mime::mime_bare_cr: "a carriage return within a line",
    mime::mime_nul: "NUL characters in the text",
    mime::mime_long_line: "a line twice as long as allowed",
    text::text_shouts: "a text of which much is in capitals",
    text::text_exclaims: "an exclamation mark in nearly every sentence",
    text::text_repeated_marks: "!!!, ??? or $$$ several times",
    text::text_unpronounceable: "several words that nobody could say",
    text::text_ends_in_noise: "a text that ends in a word made by a generator",
    text::text_word_salad: "a long run of words without any grammar",
    text::text_spaced_letters: "a word with its letters spaced out",
    text::text_dotted_letters: "a word with a mark after every letter",
    text::text_sliced: "a text cut into columns of single letters",
    text::text_below_screen: "text below very many empty lines",
    text::text_overlaid_letters: "letters struck through one by one",
    text::text_turned: "characters that turn the direction of Latin text",
    text::text_smuggled: "code characters that no screen shows, more than flags need",
    text::text_greets_address: "a greeting with the recipient's address, or its local part, for a name",
    text::text_contradicts_html: "a plain text that has hardly a word of the HTML beside it",
    text::text_empty_beside_html: "an empty plain text beside much HTML",
    text::hidden_noise: "hidden text that makes no sentence",
    attachments::attachment_double_extension: "a document's extension in front of a program's",
    attachments::attachment_disguised_program: "a program or shortcut under the name or type of a document or an image",
    attachments::attachment_active_page: "an attached web page with a form or a script",
    attachments::attachment_locked_archive: "an archive that needs a password which the text tells",
    attachments::attachment_encrypted: "an archive that needs a password",
    attachments::attachment_encrypted_document: "an Office document that needs a password",
    attachments::attachment_locked_document: "an Office document that needs a password which the text tells",
    attachments::attachment_disguised_archive: "an archive or disk image under the name of a document or an image",
    attachments::attachment_disguised_page: "a web page under the name of a PDF or an image",
    attachments::attachment_other_type: "a name for one kind of file and a Content-Type for another",
    attachments::attachment_lying_name: "a name with turned direction, or with its end pushed out of sight",
    attachments::attachment_packed_program: "a program in an archive of at most four files",
    attachments::attachment_packed_script: "a script or shortcut in an archive of at most four files",
    attachments::attachment_packed_image: "a disk image in an archive of at most four files",
    attachments::attachment_packed_page: "a web page alone in an archive",
    attachments::attachment_tiny_program: "a program in an archive that is hardly large enough for one",
    attachments::attachment_macros: "an Office document with macros, by its content",
    attachments::attachment_auto_macros: "macros that run when the document is opened or closed",
    attachments::attachment_old_macros: "a workbook with Excel 4.0 macro sheets",
    attachments::attachment_remote_template: "a document that fetches its template or an object from elsewhere",
    attachments::attachment_active_object: "a document with an object that is started when it is opened",
    attachments::attachment_notebook_file: "a file other than an image or PDF in a OneNote notebook",
    attachments::attachment_pdf_script: "a PDF with a script",
    attachments::attachment_pdf_launch: "a PDF that starts a program",
    attachments::attachment_pdf_opens_site: "a PDF that leads to a site when it is opened",
    attachments::attachment_pdf_program: "a PDF with a program attached to it",
    attachments::attachment_pdf_encrypted: "an encrypted PDF",
    attachments::attachment_pdf_disguised: "a PDF with keywords written as numbers",
    attachments::attachment_smuggling: "an attached page that builds a file or another page out of encoded text",
    attachments::attachment_password_page: "an attached page that asks for a password",
    attachments::attachment_redirect: "an attached page that leads to a site by itself",
    attachments::attachment_active_image: "an SVG image with a script",
    attachments::attachment_bound: "more names, levels or unpacked bytes than are looked at",
    attachments::attachment_bomb: "an archive that unpacks to more than it says",
    links::link_shows_other_host: "a link that shows one host and leads to another",
    links::link_to_address: "a link to an IP address that is not an inner one",
    links::link_odd_port: "a link to an unusual port",
    links::link_with_user: "a link with a name in front of the host",
    links::link_lookalike_host: "a link to a host in look-alike letters",
    links::link_brand_host: "a link to a host that only begins like a brand's",
    links::link_data: "a link that carries a whole page in itself",
    links::link_shortener: "a link through a public shortener",
    links::link_free_hosting: "a link to a page that anybody can put up without a name",
    links::link_names_recipient: "a link, not to the author's, that carries the recipient's address",
    links::link_fragment_recipient: "a link, not to the author's, that carries the recipient's address behind a #",
    links::link_alone: "up to three links and hardly a word beside them",
    links::link_own_lookalike: "a link to a host that looks like the recipients' own domain",
    links::link_encoded_host: "a link whose host is written with percent signs",
    links::link_random_host: "a link to a host that looks made by a generator",
    links::link_cheap_ending: "a link to a host with an ending that costs next to nothing",
    links::link_calming_host: "a link to a host named with words like login and secure",
    links::link_numbered_host: "a link to a host with four or more digits in its name",
    links::link_stored_page: "a link to a web page that lies in a file storage",
    links::link_free_form: "a link to a form that anybody can put up",
    links::link_unstoppable: "a link to a gateway to networks where nothing can be taken down",
    links::link_tunnel: "a link to a name for computers at home, or to a tunnel",
    links::image_at_strangers: "an image that lies where anybody drops pictures",
    links::image_in_bucket: "an image that lies in a file storage without a name",
    links::link_encoded_recipient: "a link, not to the author's, that carries the recipient's address in base64 or hexadecimal",
    links::link_brand_path: "a brand and a word like login in the path of somebody else's host",
    links::link_open_redirect: "a link through a well-known redirector to somebody else",
    links::link_never_to_author: "links of which none leads to the author's organisation",
    links::link_all_the_same: "four or more links that all lead to the same page",
    links::link_in_code: "a QR code with a link that is not the author's",
    links::link_to_program: "a link to a program",
    links::link_to_archive: "a link to a packed file that is not the author's",
    links::link_hyphened_host: "a link to a host with three or more hyphens in its name",
    links::link_many_organisations: "links to more than forty organisations",
    links::link_only_in_code: "a QR code with the only link, which is not the author's",
    links::link_script: "a link that runs a script or opens a file",
    door::helo_is_recipient: "a client that greets with the recipient's own domain",
    door::client_lookalike: "a client whose name or greeting looks like a well-known brand's or the recipients' own",
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
