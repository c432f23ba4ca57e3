//! What was found out about a client, a greeting or a sender before the content was judged: facts, on which others act.

use serde::{Deserialize, Serialize};

/// One fact. Rules ask for it by its id; a finding with points of its own (a DNS list's) adds them to the score itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// In lower case with hyphens, as rules and pages name it: `no-reverse-name`, `helo-mismatch`, `listed`, `spf-fail`.
    pub id: String,
    /// Zero for most: the rules give points.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub points: f32,
    /// What it was, in words for people; printable, at most 200 bytes. May be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub evidence: String,
}

impl Finding {
    const EVIDENCE_MAX: usize = 200;

    /// `evidence` may come from a peer: it is made printable and cut.
    pub fn new(id: &str, evidence: &str) -> Finding {
        let mut printable: String = evidence.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect();
        let end = (0..=Finding::EVIDENCE_MAX.min(printable.len())).rev().find(|end| printable.is_char_boundary(*end));
        printable.truncate(end.unwrap_or_default());
        Finding { id: id.to_owned(), points: 0.0, evidence: printable }
    }

    pub fn with_points(self, points: f32) -> Finding {
        Finding { points, ..self }
    }
}

// serde hands it a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(points: &f32) -> bool {
    *points == 0.0
}

/// What SPF, DKIM, DMARC and ARC say about a message.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Authentication {
    /// The results as `Authentication-Results` shows them after our name and the client's reverse name (RFC 8601 §2.2): each begins
    /// with a semicolon and a folded line; harmless. Empty: nobody asked.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub results: String,
    /// The author's domain, when its DMARC policy asks to reject the message and nobody we trust vouches for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dmarc_reject: Option<super::Domain>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_is_printable_and_short() {
        assert_eq!(Finding::new("listed", "a\r\nb").evidence, "a??b");
        assert!(Finding::new("listed", &"ä".repeat(1000)).evidence.len() <= 200);
    }
}
