//! What is proven about where a message comes from, read out of what SPF, DKIM, DMARC and ARC found. Pure.
//!
//! A name that anybody can write is no proof. Proven is a domain when DMARC passed for it, or when a valid signature or SPF is of
//! its organisation, or when every forwarder that we trust sealed that it was proven when it first came in. It is not here whether
//! a proven sender is a good one.
//!
//! Nothing proven is the answer to everything that is unknown, cut off or not a domain.

use crate::mail::{Domain, Finding};

/// A finding's evidence is cut at 200 bytes, and a cut name may be that of somebody else: what ends that far is not believed.
const WHOLE_MAX: usize = 196;

/// Whose a message is, as far as it is proven.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Proof {
    /// DMARC passed for this author's domain.
    author: Option<Domain>,
    /// By valid DKIM signatures.
    signers: Vec<Domain>,
    /// By SPF: the envelope's sender, or the greeting's name where there is none.
    sender: Option<Domain>,
    /// Sealed by forwarders that we trust, who say that the one author was proven.
    is_sealed: bool,
}

impl Proof {
    /// Of what was found out about a message.
    pub fn of(findings: &[Finding]) -> Proof {
        let all = |id: &str| findings.iter().filter(|finding| finding.id == id).flat_map(domains).collect::<Vec<_>>();
        let has =
            |id: &str, begins: &str| findings.iter().any(|finding| finding.id == id && finding.evidence.starts_with(begins));
        Proof {
            author: all("dmarc-pass").pop(),
            signers: all("dkim-pass"),
            sender: all("spf-pass").pop(),
            // A host that forwards without a seal vouches for the way, and says nothing about the author.
            is_sealed: has("forwarded", "sealed by ") && !has("several-authors", ""),
        }
    }

    /// How it is proven that the envelope's sender is of this domain: `dkim-pass partner.example`.
    pub fn of_sender(&self, domain: &Domain) -> Option<String> {
        let organisation = domain.organisation();
        let is_its = |proven: &&Domain| proven.organisation() == organisation;
        let by = |how: &str, proven: &Domain| format!("{how} {proven}");
        self.author.iter().find(is_its).map(|proven| by("dmarc-pass", proven)).or_else(|| {
            let signed = self.signers.iter().find(is_its).map(|proven| by("dkim-pass", proven));
            signed.or_else(|| self.sender.iter().find(is_its).map(|proven| by("spf-pass", proven)))
        })
    }

    /// The same of an author.
    pub fn of_author(&self, domain: &Domain) -> Option<String> {
        self.of_sender(domain).or_else(|| self.is_sealed.then(|| "sealed by its forwarders".to_owned()))
    }

    /// The organisation that answers for the message: the author's, else who signed it, else who sent it.
    pub fn organisation(&self) -> Option<Domain> {
        let proven = self.author.as_ref().or(self.signers.first()).or(self.sender.as_ref())?;
        Some(proven.organisation()).filter(|organisation| organisation.as_str().contains('.'))
    }
}

/// The domains that a finding names, without one that may have been cut.
fn domains(finding: &Finding) -> Vec<Domain> {
    let mut names: Vec<&str> = finding.evidence.split(", ").collect();
    if finding.evidence.len() > WHOLE_MAX {
        names.pop();
    }
    // Not a single label: it is nobody's.
    names.into_iter().filter_map(|name| Domain::parse(name).ok()).filter(|domain| domain.as_str().contains('.')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(findings: &[(&str, &str)], domain: &str, expected: Option<&str>) {
        let findings: Vec<_> = findings.iter().map(|(id, evidence)| Finding::new(id, evidence)).collect();
        assert_eq!(Proof::of(&findings).of_author(&domain.parse().unwrap()).as_deref(), expected, "{findings:?}");
    }

    #[test]
    fn a_domain_is_proven_by_its_own_organisation_only() {
        let partner = "partner.example";
        check(&[("dmarc-pass", partner)], partner, Some("dmarc-pass partner.example"));
        check(&[("dmarc-pass", partner)], "mail.partner.example", Some("dmarc-pass partner.example"));
        check(&[("dkim-pass", "esp.example, mail.partner.example")], partner, Some("dkim-pass mail.partner.example"));
        check(&[("spf-pass", "bounce.partner.example")], partner, Some("spf-pass bounce.partner.example"));
        check(&[("dmarc-pass", "partner.example.evil.example")], partner, None);
        check(&[("dkim-pass", "esp.example"), ("spf-pass", "esp.example")], partner, None);
        check(&[("dkim-fail", partner), ("spf-fail", partner), ("dmarc-none", partner)], partner, None);
        check(&[("spf-helo-pass", partner)], partner, None);
        check(&[("dkim-pass", "")], partner, None);
        check(&[("dkim-pass", "example")], partner, None);
        check(&[], partner, None);
    }

    #[test]
    fn a_seal_speaks_for_one_author_and_not_for_the_envelope() {
        let sealed = ("forwarded", "sealed by google.com");
        check(&[sealed], "partner.example", Some("sealed by its forwarders"));
        check(&[sealed, ("several-authors", "2 domains in From")], "partner.example", None);
        check(&[("forwarded", "forwarded by improvmx.com")], "partner.example", None);
        let proof = Proof::of(&[Finding::new("forwarded", "sealed by google.com")]);
        assert_eq!(proof.of_sender(&"partner.example".parse().unwrap()), None);
    }

    #[test]
    fn a_name_that_was_cut_proves_nothing() {
        // 200 bytes end exactly behind "partner.example", of a name that goes on.
        let labels = ["x".repeat(60), "x".repeat(60), "x".repeat(60)].join(".");
        let long = format!("{labels}.y.partner.example.evil.example");
        let cut = Finding::new("spf-pass", &long);
        assert!(cut.evidence.ends_with("partner.example"), "{}", cut.evidence);
        assert_eq!(Proof::of(&[cut]), Proof::default());
    }

    #[test]
    fn the_author_answers_before_whoever_signed_or_sent() {
        let case = |findings: &[(&str, &str)]| {
            let findings: Vec<_> = findings.iter().map(|(id, evidence)| Finding::new(id, evidence)).collect();
            Proof::of(&findings).organisation().map(|domain| domain.to_string())
        };
        let (signed, sent) = (("dkim-pass", "mail.shop.example, esp.example"), ("spf-pass", "b.esp.example"));
        assert_eq!(case(&[signed, sent, ("dmarc-pass", "a.partner.example")]).as_deref(), Some("partner.example"));
        assert_eq!(case(&[signed, sent]).as_deref(), Some("shop.example"));
        assert_eq!(case(&[sent]).as_deref(), Some("esp.example"));
        assert_eq!(case(&[("dkim-none", "")]), None);
    }
}
