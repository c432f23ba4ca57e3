//! What a message's header section says about who signed and who wrote it, before anything is proved: the names that DNS is
//! asked for.
//!
//! Everything here is bounded, since a stranger wrote it: of signatures, chains and authors so many are looked at, and the
//! fields of a message are few enough that looking for each signed field among all of them stays cheap.

use std::collections::BTreeSet;

use mail_auth::AuthenticatedMessage;
use mail_auth::common::resolver::ToFqdn;
use mail_auth::common::verify::VerifySignature;

use super::keys::policy_name;
use crate::mail::{Domain, HeaderSection};

/// Of a header section, in bytes: twice the default of `smtp.header_max`. In a longer one authors are looked for and no signature.
pub(super) const HEAD_MAX: usize = 512 << 10;
/// Header fields. Among more, authors are looked for and no signature: each signed field would be looked for among all of them.
const FIELDS_MAX: usize = 2_000;
/// DKIM signatures that are verified, from the top. RFC 6376 §6.1 leaves the number to us.
pub(super) const SIGNATURES_MAX: usize = 10;
/// One signature's field, in bytes: it names the signed fields, and each is looked for.
const SIGNATURE_MAX: usize = 8 * 1024;
/// Sets of an ARC chain. RFC 8617 allows 50; honest mail has three or four.
const SETS_MAX: usize = 8;
/// Authors' domains whose policies are asked for.
const AUTHORS_MAX: usize = 5;
/// Names that are asked because somebody of an author's organisation signed or sent, for each author.
const RELATED_MAX: usize = 6;
/// What a message can make us ask at most: keys of signatures, of seals and of the last ARC signature; for each author the
/// tree walk, those related, and two questions whether it exists. What nobody can exceed, nobody can use up on purpose so that
/// a policy is not asked for.
pub(super) const QUESTIONS_MAX: usize = SIGNATURES_MAX + SETS_MAX + 1 + AUTHORS_MAX * (WALK_MAX + RELATED_MAX + 2);
/// RFC 9989 §4.10.
const WALK_MAX: usize = 8;

/// A header section, within the bounds.
#[derive(Debug, Default)]
pub(super) struct Signed {
    /// The domains of all addresses in all From fields, each once.
    pub(super) authors: Vec<Domain>,
    /// Keys of signatures and seals, and the policies that count for the authors; with a final dot.
    pub(super) names: BTreeSet<String>,
    /// The header section is longer than [`HEAD_MAX`].
    pub(super) is_beyond: bool,
}

impl Signed {
    /// `head`: the beginning of the content, up to [`HEAD_MAX`] bytes or a little more.
    pub(super) fn read(head: &[u8], sender: Option<&Domain>) -> Signed {
        let end = HeaderSection::parse(head).end;
        let is_beyond = end > HEAD_MAX;
        let Some(message) = parse(&head[..end], is_beyond) else { return Signed { is_beyond, ..Signed::default() } };
        let authors = authors(&message);
        let signers = message.dkim_headers.iter().filter_map(|field| Domain::parse(&field.header.d).ok());
        let identities: Vec<Domain> = sender.cloned().into_iter().chain(signers).collect();
        let mut names = keys(&message);
        for author in authors.iter().take(AUTHORS_MAX) {
            names.extend(walk(author));
            let organisation = author.organisation();
            let related = identities.iter().filter(|identity| identity.organisation() == organisation).flat_map(walk);
            let new: BTreeSet<String> = related.filter(|name| !names.contains(name)).take(RELATED_MAX).collect();
            names.extend(new);
        }
        Signed { authors, names, is_beyond }
    }

    /// Those whose policies were asked for.
    pub(super) fn authors_asked(&self) -> &[Domain] {
        &self.authors[..self.authors.len().min(AUTHORS_MAX)]
    }
}

/// A message as mail-auth reads it, without what is over the bounds and without what we do not follow. `is_beyond`: its header
/// section is longer than what was looked at.
pub(super) fn parse(message: &[u8], is_beyond: bool) -> Option<AuthenticatedMessage<'_>> {
    let mut parsed = AuthenticatedMessage::parse(message)?;
    if is_beyond || parsed.headers.len() > FIELDS_MAX {
        parsed.dkim_headers.clear();
        parsed.ams_headers.clear();
        parsed.as_headers.clear();
        parsed.aar_headers.clear();
    }
    parsed.dkim_headers.retain(|field| field.value.len() <= SIGNATURE_MAX);
    parsed.dkim_headers.truncate(SIGNATURES_MAX);
    for field in &mut parsed.dkim_headers {
        // Reports of failures (RFC 6651) and signatures by third parties (RFC 6541) would be two more questions each.
        (field.header.r, field.header.atps) = (false, None);
    }
    let is_long = parsed.ams_headers.iter().any(|field| field.value.len() > SIGNATURE_MAX);
    if is_long || parsed.as_headers.len() > SETS_MAX {
        parsed.has_arc_errors = true;
    }
    Some(parsed)
}

fn authors(message: &AuthenticatedMessage<'_>) -> Vec<Domain> {
    let mut authors = Vec::new();
    for address in message.froms().iter().take(10 * AUTHORS_MAX) {
        let domain = address.rsplit_once('@').and_then(|(_, domain)| Domain::parse(domain.trim()).ok());
        authors.extend(domain.filter(|domain| !authors.contains(domain)));
    }
    authors
}

fn keys(message: &AuthenticatedMessage<'_>) -> BTreeSet<String> {
    let signatures = message.dkim_headers.iter().map(|field| field.header.domain_key());
    let mut names: BTreeSet<String> = signatures.map(|name| name.to_fqdn().into_owned()).collect();
    if !message.has_arc_errors {
        // Only the last signature counts (RFC 8617 §5.2), and every seal.
        let last = message.ams_headers.last().map(|field| field.header.domain_key());
        let seals = message.as_headers.iter().map(|field| field.header.domain_key());
        names.extend(last.into_iter().chain(seals).map(|name| name.to_fqdn().into_owned()));
    }
    names
}

/// The names of the tree walk from a domain up (RFC 9989 §4.10): itself, then from seven labels down to one.
fn walk(domain: &Domain) -> Vec<String> {
    let labels: Vec<&str> = domain.as_str().split('.').collect();
    if labels.len() < 2 {
        return Vec::new();
    }
    let shorter = (1..labels.len().min(8)).rev().map(|count| labels[labels.len() - count..].join("."));
    std::iter::once(domain.to_string()).chain(shorter).map(|name| policy_name(&name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(text: &str) -> Domain {
        Domain::parse(text).unwrap()
    }

    #[test]
    fn the_tree_walk_asks_at_most_eight_names() {
        assert_eq!(walk(&domain("a.example.com")), ["_dmarc.a.example.com.", "_dmarc.example.com.", "_dmarc.com."]);
        let names = walk(&domain("a.b.c.d.e.f.g.h.i.example.com"));
        assert_eq!(names.len(), 8);
        assert_eq!(names[1], "_dmarc.e.f.g.h.i.example.com.");
        assert!(walk(&domain("localhost")).is_empty());
    }

    #[test]
    fn all_authors_of_all_fields_are_found() {
        let head = b"From: A <a@one.example>, b@two.example\r\nFrom: \"x@no.example\" <C@One.Example>\r\n\r\n";
        let signed = Signed::read(head, Some(&domain("bounce.one.example")));
        assert_eq!(signed.authors, [domain("one.example"), domain("two.example")]);
        for name in ["_dmarc.one.example.", "_dmarc.two.example.", "_dmarc.example.", "_dmarc.bounce.one.example."] {
            assert!(signed.names.contains(name), "{name} in {:?}", signed.names);
        }
    }

    #[test]
    fn more_than_the_bounds_is_not_looked_at() {
        let signature = "DKIM-Signature: v=1; a=rsa-sha256; d=a.example; s=S; h=from; bh=YQ==; b=YQ==\r\n";
        let many: String = (0..300).map(|number| signature.replace("s=S", &format!("s=s{number}"))).collect();
        let signed = Signed::read((many + "From: a@a.example\r\n\r\n").as_bytes(), None);
        assert_eq!(signed.names.iter().filter(|name| name.contains("_domainkey")).count(), SIGNATURES_MAX);
        let authors: String = (0..1000).map(|number| format!("From: a@a{number}.example\r\n")).collect();
        let signed = Signed::read(authors.as_bytes(), None);
        assert!(signed.names.len() <= 2 * AUTHORS_MAX, "{}", signed.names.len());
        let many = signature.to_owned() + &"A: 1\r\n".repeat(FIELDS_MAX) + "From: a@a.example\r\n\r\n";
        let signed = Signed::read(many.as_bytes(), None);
        assert_eq!(signed.authors, [domain("a.example")], "an author cannot hide behind many fields");
        assert!(!signed.names.iter().any(|name| name.contains("_domainkey")), "{:?}", signed.names);
    }
}
