//! Who vouches for a message whose author's policy says "reject": whoever forwarded it broke what would have proved it.
//!
//! Two kinds are believed. A sealer on the list below, or of the settings, who says in an ARC chain that the message was proved
//! when it first came in (RFC 8617 §7.2.1); every seal of the chain must be by one of them, since each could have changed all
//! that came before. And the hosts of a few forwarding services that do not seal. A voucher does not make a message good: it is
//! scored instead of rejected.

use mail_auth::{ArcOutput, DkimResult};

use crate::mail::{Client, Domain};

/// By the `d=` of their seals. Each checks SPF, DKIM and DMARC itself and says truthfully what it found. Whoever else does is
/// for `checks.trusted_sealers`.
const SEALERS: [&str; 13] = [
    "google.com",           // Gmail, Google Workspace, Google Groups
    "microsoft.com",        // Outlook.com, Hotmail, Microsoft 365
    "outlook.com",          // the same, under the domain of their hosts
    "yahoo.com",            // Yahoo Mail, AOL
    "aol.com",              // AOL, under its own name
    "icloud.com",           // iCloud Mail, Hide My Email
    "messagingengine.com",  // Fastmail, Pobox
    "fastmail.com",         // Fastmail, under its own name
    "zoho.com",             // Zoho Mail
    "zohomail.com",         // the same, under the domain of their hosts
    "cloudflare-email.net", // Cloudflare Email Routing
    "forwardemail.net",     // Forward Email
    "groups.io",            // Groups.io, mailing lists
];

/// By the organisation of their hosts' confirmed names: they forward for their customers without changing the author, and not
/// all that they send is sealed.
const FORWARDERS: [&str; 4] = [
    "registrar-servers.com", // Namecheap's forwarding (eforward*.registrar-servers.com)
    "improvmx.com",          // ImprovMX
    "forwardemail.net",      // Forward Email
    "cloudflare-email.net",  // Cloudflare Email Routing
];

/// The forwarder whose host this client is.
pub(super) fn forwarder(client: &Client) -> Option<Domain> {
    let organisation = client.reverse_name.as_ref().filter(|_| client.reverse_confirmed)?.organisation();
    FORWARDERS.contains(&organisation.as_str()).then_some(organisation)
}

/// Who vouches, in words for people.
pub(super) fn voucher(
    arc: &ArcOutput<'_>,
    author: &Domain,
    more_sealers: &[Domain],
    forwarder: Option<&Domain>,
) -> Option<String> {
    let by_chain = || {
        let sealers: Vec<&str> = arc.sets().iter().map(|set| set.seal.header.d.as_str()).collect();
        let first = arc.sets().first()?;
        let is_believed = *arc.result() == DkimResult::Pass
            && sealers.iter().all(|sealer| is_trusted(sealer, more_sealers))
            && was_proved(first.results.value, author);
        is_believed.then(|| format!("sealed by {}", sealers.join(", ")))
    };
    by_chain().or_else(|| forwarder.map(|forwarder| format!("forwarded by {forwarder}")))
}

fn is_trusted(sealer: &str, more: &[Domain]) -> bool {
    let Ok(sealer) = Domain::parse(sealer) else { return false };
    let shipped = SEALERS.iter().any(|trusted| Domain::parse(trusted).is_ok_and(|trusted| sealer.is_within(&trusted)));
    shipped || more.iter().any(|trusted| sealer.is_within(trusted))
}

/// Whether an ARC-Authentication-Results says that this author was proved: by DMARC, or by SPF or DKIM of its organisation.
fn was_proved(results: &[u8], author: &Domain) -> bool {
    let text = without_comments(results);
    let organisation = author.organisation();
    let is_authors = |value: &str| {
        let domain = value.trim_matches('"').rsplit('@').next().unwrap_or_default();
        Domain::parse(domain).is_ok_and(|domain| domain.organisation() == organisation)
    };
    // The first two parts are the instance and who checked.
    text.split(';').skip(2).any(|result| {
        let mut words = result.split_ascii_whitespace();
        let properties: &[&str] = match words.next() {
            Some("dmarc=pass") => &["header.from="],
            Some("dkim=pass") => &["header.d=", "header.i="],
            Some("spf=pass") => &["smtp.mailfrom=", "smtp.mfrom="],
            _ => return false,
        };
        words.any(|word| properties.iter().any(|property| word.strip_prefix(property).is_some_and(is_authors)))
    })
}

/// In lower case and without what people may write between parentheses; of a quoted text only that it is there. Linear.
fn without_comments(field: &[u8]) -> String {
    let (mut text, mut depth, mut quoted) = (String::new(), 0_u32, false);
    let mut bytes = field.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' if depth > 0 || quoted => drop(bytes.next()),
            b'"' if depth == 0 => quoted = !quoted,
            b'(' if !quoted => depth += 1,
            b')' if !quoted => depth = depth.saturating_sub(1),
            b' '..=b'~' if depth == 0 && !quoted => text.push(byte.to_ascii_lowercase() as char),
            _ if depth == 0 && !quoted => text.push(' '),
            _ => {}
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(results: &str, proved: bool) {
        assert_eq!(was_proved(results.as_bytes(), &Domain::parse("news.bank.example").unwrap()), proved, "{results}");
    }

    #[test]
    fn a_first_hop_proves_the_author_or_does_not() {
        check(" i=1; mx.google.com;\r\n\tdmarc=pass (p=REJECT sp=REJECT) header.from=bank.example", true);
        check("i=1; mx.microsoft.com 1; spf=pass smtp.mailfrom=Bank.Example; dmarc=none", true);
        check("i=1; a; dkim=pass header.i=@mail.bank.example header.s=x", true);
        check("i=1; a; dmarc=pass header.from=other.example; dkim=pass header.d=list.example", false);
        check("i=1; a; dmarc=fail (was dmarc=pass header.from=bank.example) header.from=bank.example", false);
        check("i=1; a; x=y reason=\"; dmarc=pass header.from=bank.example\"; dmarc=fail", false);
        check("i=1; a; dmarc=pass", false);
        check("dmarc=pass header.from=bank.example", false);
        check("i=1; a; (((((", false);
    }

    #[test]
    fn sealers_are_trusted_with_their_subdomains_only() {
        let more = [Domain::parse("list.example").unwrap()];
        assert!(is_trusted("google.com", &[]) && is_trusted("arc.google.com", &[]));
        assert!(!is_trusted("notgoogle.com", &[]) && !is_trusted("list.example", &[]));
        assert!(is_trusted("list.example", &more) && !is_trusted("example", &more) && !is_trusted("", &more));
    }
}
