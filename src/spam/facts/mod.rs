//! What is known about a message when it is judged: gathered once, then only read.
//!
//! Facts carry no opinion and no points; those are in the rules. They come from the content and from what the door saw;
//! nothing is asked of the network. A message that cannot be parsed still has facts: its bytes, and that it cannot.

mod attachments;
mod decode;
mod headers;
mod html;
mod links;
mod mime;
mod prose;
mod qr;
mod received;

use crate::mail::{Envelope, Finding, Protocol, Timestamp};

use super::text::{Folded, TEXT_MAX, prefix};
use html::Html;
use prose::{Prose, Words};

pub(super) use attachments::{Sign, extension, runs};
pub(super) use headers::{DateField, HeaderField, Headers, Named};
pub(super) use links::{Link, Links, Place, hosting, organisation, redirects, shorteners};
pub(super) use mime::{Flaw, Mime};
pub(super) use received::{DateFlaw, Hop};

/// What is known about a message when it is judged. Gathered once, then only read.
pub struct Facts {
    /// What the checks found out, besides what the door saw.
    pub(super) findings: Vec<Finding>,
    /// Absent for messages made here.
    pub(super) door: Option<Door>,
    pub(super) received_at: Timestamp,
    pub(super) headers: Headers,
    /// The author, one `Name <address>` a line.
    pub(super) from_text: String,
    pub(super) mime: Mime,
    pub(super) html: HtmlFacts,
    pub(super) links: Links,
    /// The URLs, one a line.
    pub(super) urls: String,
    /// The names of attachments and of what is in them, one a line.
    pub(super) attachment_names: String,
    /// Subject and text, folded (see [`Folded`]): what `body` rules match.
    pub(super) folded: Folded,
    /// Letters of text that a reader sees, subject not counted.
    pub(super) text_letters: usize,
    /// How the text is written.
    pub(super) prose: Prose,
}

/// What the session saw of the client.
pub(super) struct Door {
    pub reverse_name: Option<String>,
    pub helo: String,
    /// Domain of the envelope's sender; `None` for the null sender and for literals.
    pub sender_domain: Option<String>,
    /// Domains and addresses of the recipients.
    pub recipients: Vec<(String, String)>,
}

/// Sums over all HTML texts of a message.
#[derive(Default)]
pub(super) struct HtmlFacts {
    pub parts: usize,
    pub images: usize,
    pub forms: usize,
    pub password_inputs: usize,
    pub scripts: usize,
    pub frames: usize,
    /// Letters that a reader does not see.
    pub hidden_letters: usize,
    /// Of HTML that has a plain alternative: letters here and there, words compared, and those that the other has too.
    pub alternative: Option<Alternative>,
    /// How the hidden text is written.
    pub hidden: Prose,
    pub pixels: usize,
    pub handlers: usize,
    pub areas: usize,
    pub refreshes: usize,
    pub base: bool,
    pub tables: usize,
    pub nonsense_tags: usize,
    pub parted_words: usize,
    pub numbered_letters: usize,
    /// Bytes of text in the colour it stands on.
    pub camouflaged: usize,
    /// Bytes of comments.
    pub comments: usize,
    /// Bytes of text below many empty lines.
    pub below_gap: usize,
    /// A text without `<html>` or `<body>`.
    pub fragment: bool,
    pub unfinished: bool,
}

/// HTML beside the plain text that should say the same.
#[derive(Clone, Copy)]
pub(super) struct Alternative {
    pub plain_letters: usize,
    pub html_letters: usize,
    pub compared: usize,
    pub shared: usize,
}

impl Facts {
    /// More than this much of a message is not looked at, in bytes.
    pub const CONTENT_MAX: u64 = 1 << 20;
    /// Recipients looked at; a message to more is compared with the first ones.
    const RECIPIENTS_MAX: usize = 20;

    /// The messages attached to one, decoded, at most `max`. `content`: all of it.
    pub fn attached(content: &[u8], max: usize) -> Vec<Vec<u8>> {
        Mime::attached(content, max)
    }

    /// Reads a message. `content`: the whole message, or its first [`Facts::CONTENT_MAX`] bytes when it is larger.
    pub fn gather(envelope: &Envelope, content: &[u8]) -> Facts {
        let max = usize::try_from(Self::CONTENT_MAX).unwrap_or(usize::MAX);
        let content = &content[..content.len().min(max)];
        let cut = envelope.size > content.len() as u64;
        let headers = Headers::read(content);
        let mut facts = Facts {
            findings: envelope.client.findings.clone(),
            door: (envelope.client.protocol != Protocol::Local).then(|| Door::of(envelope)),
            received_at: envelope.received_at,
            from_text: headers.author_text(),
            headers,
            mime: Mime::walk(content, cut),
            html: HtmlFacts::default(),
            links: Links::default(),
            urls: String::new(),
            attachment_names: String::new(),
            folded: Folded::default(),
            text_letters: 0,
            prose: Prose::default(),
        };
        facts.read_texts();
        facts.links.read_attachments(&facts.mime.attachments);
        facts.links.follow();
        let urls: Vec<&str> = facts.links.all.iter().map(|link| link.url.as_str()).collect();
        facts.urls = prefix(&urls.join("\n"), TEXT_MAX).to_owned();
        let names: Vec<&str> =
            facts.mime.attachments.iter().flat_map(|attachment| &attachment.names).map(String::as_str).collect();
        facts.attachment_names = prefix(&names.join("\n"), TEXT_MAX).to_owned();
        facts
    }

    /// With more that was found out elsewhere.
    pub fn with(mut self, findings: &[Finding]) -> Facts {
        self.findings.extend_from_slice(findings);
        self
    }

    /// The hosts to which the message's links lead, each once, at most a hundred: for lists of such hosts.
    pub fn link_hosts(&self) -> Vec<String> {
        self.links.hosts()
    }

    pub(super) fn found(&self, finding: &str) -> bool {
        self.findings.iter().any(|found| found.id == finding)
    }

    /// The author's mailbox: the first that has an address, since clients show that one.
    pub(super) fn author(&self) -> Option<&Named> {
        let from = &self.headers.from;
        from.iter().find(|mailbox| !mailbox.domain().is_empty()).or(from.first())
    }

    /// The author's domain as written; empty when there is none.
    pub fn author_domain(&self) -> &str {
        self.author().map_or("", Named::domain)
    }

    fn read_texts(&mut self) {
        self.folded.push(&self.headers.subject);
        // Hidden text last: it must neither part the words a reader sees, nor push them out of the bound.
        let mut hidden = String::new();
        let mut plain: Option<(usize, Words)> = None;
        for part in std::mem::take(&mut self.mime.texts) {
            if part.html {
                let html = Html::read(&part.text);
                let letters = self.add_text(&html.visible, Prose::add_html);
                if let Some((plain_letters, words)) = plain.take_if(|_| part.alternative) {
                    let (compared, shared) = words.shared_with(&html.visible);
                    self.html.alternative = Some(Alternative { plain_letters, html_letters: letters, compared, shared });
                }
                hidden.push_str(prefix(&html.hidden, TEXT_MAX.saturating_sub(hidden.len())));
                self.html.add(&html);
                html.links.into_iter().for_each(|link| self.links.push(link));
            } else {
                let letters = self.add_text(&part.text, Prose::add);
                plain = part.alternative.then(|| (letters, Words::of(&part.text)));
            }
        }
        self.text_letters = self.prose.letters;
        self.html.hidden.add_html(&hidden);
        self.html.hidden_letters = self.html.hidden.letters;
        self.folded.push(&hidden);
    }

    /// Returns its letters.
    fn add_text(&mut self, text: &str, count: fn(&mut Prose, &str)) -> usize {
        let before = self.prose.letters;
        count(&mut self.prose, text);
        self.folded.push(text);
        self.links.read_text(text);
        self.prose.letters - before
    }
}

impl HtmlFacts {
    fn add(&mut self, html: &Html) {
        self.parts += 1;
        self.images += html.images;
        self.forms += html.forms;
        self.password_inputs += html.password_inputs;
        self.scripts += html.scripts;
        self.frames += html.frames;
        self.pixels += html.pixels;
        self.handlers += html.handlers;
        self.areas += html.areas;
        self.refreshes += html.refreshes;
        self.base |= html.base;
        self.tables += html.tables;
        self.nonsense_tags += html.nonsense_tags;
        self.parted_words += html.parted_words;
        self.numbered_letters += html.numbered_letters;
        self.camouflaged += html.camouflaged;
        self.comments += html.comments;
        self.below_gap += html.below_gap;
        self.fragment |= !html.document;
        self.unfinished |= html.unfinished;
    }
}

impl Door {
    fn of(envelope: &Envelope) -> Door {
        let client = &envelope.client;
        let address = |recipient: &crate::mail::Recipient| {
            let domain = recipient.address.domain().map_or_else(String::new, |domain| domain.as_str().to_owned());
            (domain, recipient.address.to_string().to_lowercase())
        };
        Door {
            reverse_name: client.reverse_name.as_ref().map(|name| name.as_str().to_owned()),
            helo: client.helo.to_ascii_lowercase(),
            sender_domain: envelope.reverse_path.address().and_then(|a| a.domain()).map(|domain| domain.as_str().to_owned()),
            recipients: envelope.recipients.iter().take(Facts::RECIPIENTS_MAX).map(address).collect(),
        }
    }
}
