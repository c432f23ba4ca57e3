//! What a message consists of, as numbers: its words and pairs of words, names of hosts, header fields and shape, hashed.
//!
//! The token model (`model`) and what was learned here (`learned`) weigh them. No word is kept, so neither can be read back.
//! Nothing in here is an opinion. What names a receiver, a day or a way (addresses of recipients, `Received`, ids) is left out:
//! it would be learned instead of what spam looks like.

mod hashing;

use super::facts::Facts;
use super::learned::is_trace;
use super::text::Folded;
use hashing::{Collector, Section};

/// Of one message. More than this says nothing new, and bounds what a message can cost.
const TOKENS_MAX: usize = 4_000;
/// Words read of a text; what a reader sees comes first.
const WORDS_MAX: usize = 1_500;
/// Header fields and links looked at.
const FIELDS_MAX: usize = 60;
const LINKS_MAX: usize = 40;

/// The hashed tokens of one message, each once, in rising order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tokens {
    hashes: Vec<u32>,
}

impl Tokens {
    pub fn of(facts: &Facts) -> Tokens {
        let mut collector = Collector { hashes: Vec::with_capacity(1024), ..Collector::default() };
        collect(facts, &mut collector);
        Tokens::from_hashes(collector.hashes)
    }

    /// The words behind some of them, as the message has them.
    pub(super) fn named(facts: &Facts, hashes: &[u32]) -> Vec<String> {
        let wanted: Vec<_> = hashes.iter().map(|hash| (*hash, String::new())).collect();
        if wanted.is_empty() {
            return Vec::new();
        }
        let mut collector = Collector { wanted, ..Collector::default() };
        collect(facts, &mut collector);
        collector.wanted.into_iter().map(|(_, words)| words).filter(|words| !words.is_empty()).collect()
    }

    /// As they were stored; in any order.
    pub fn from_hashes(mut hashes: Vec<u32>) -> Tokens {
        hashes.sort_unstable();
        hashes.dedup();
        // The lowest ones: of two similar long messages the same.
        hashes.truncate(TOKENS_MAX);
        Tokens { hashes }
    }

    pub fn hashes(&self) -> &[u32] {
        &self.hashes
    }

    /// What each of them counts: all together have length one, so that a long message weighs no more than a short one.
    pub fn value(&self) -> f32 {
        1.0 / (self.hashes.len().max(1) as f32).sqrt()
    }
}

fn collect(facts: &Facts, collector: &mut Collector) {
    // The folded text begins with the subject, which is read apart.
    let subject = Folded::of(&facts.headers.subject).text;
    collector.text(Section::Body, facts.folded.text.strip_prefix(subject.as_str()).unwrap_or(&facts.folded.text), WORDS_MAX);
    collector.text(Section::Subject, &subject, WORDS_MAX);
    author(facts, collector);
    header(facts, collector);
    links(facts, collector);
    shape(facts, collector);
}

fn author(facts: &Facts, collector: &mut Collector) {
    for from in facts.headers.from.iter().take(3) {
        collector.text(Section::AuthorName, &from.name.to_lowercase(), 20);
        collector.text(Section::AuthorLocal, from.local(), 10);
        collector.host(Section::AuthorHost, from.domain());
    }
    for reply_to in facts.headers.reply_to.iter().take(1) {
        collector.host(Section::ReplyHost, reply_to.domain());
    }
}

/// Without what is added on the way: the copy in a user's mailbox must give the same tokens as the message at our door.
fn header(facts: &Facts, collector: &mut Collector) {
    for field in facts.headers.fields.iter().filter(|field| !is_trace(&field.name)).take(FIELDS_MAX) {
        let name = field.name.to_ascii_lowercase();
        collector.word(Section::FieldName, &name);
        if matches!(
            name.as_str(),
            "x-mailer"
                | "user-agent"
                | "content-type"
                | "mime-version"
                | "x-priority"
                | "importance"
                | "precedence"
                | "content-transfer-encoding"
                | "auto-submitted"
        ) {
            collector.pair_text(Section::FieldValue, &name, &field.value.to_lowercase(), 12);
        }
    }
}

fn links(facts: &Facts, collector: &mut Collector) {
    for link in facts.links.all.iter().take(LINKS_MAX) {
        collector.host(Section::LinkHost, &link.host);
        let path = link.url.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map_or("", |(_, path)| path);
        collector.text(Section::LinkPath, &path.to_lowercase(), 6);
    }
}

fn shape(facts: &Facts, collector: &mut Collector) {
    let bucket = |count: usize| usize::BITS - count.leading_zeros();
    let html = &facts.html;
    for (name, count) in [
        ("letters", facts.text_letters / 8),
        ("links", facts.links.count),
        ("images", html.images),
        ("html", html.parts),
        ("hidden", html.hidden_letters / 8),
        ("parts", facts.mime.parts),
        ("attachments", facts.mime.attachments.len()),
        ("mixed", facts.folded.mixed_words),
        ("invisible", facts.folded.invisible_in_words),
    ] {
        collector.pair_text(Section::Shape, name, &bucket(count).to_string(), 1);
    }
}
