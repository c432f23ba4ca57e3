//! What a message is to one domain: the message's score, and what counts for this domain alone. Pure.
//!
//! ```text
//! score of the message + learned, reputation, correspondents (brought by the caller)
//!                      + SHARE (the domain's share of spam) + ALLOWED | BLOCKED | ALLOW_UNPROVEN (its lists) ──▶ score ──▶ level
//! ```
//!
//! Each part is a hit, so that the points of all hits are always the score. Two kinds of hit name the level instead of reaching
//! it: the lists, and a rule that names its level (the test strings), which only an allowing entry overrules.
//!
//! It is not here what is done at a level (`flow::decide`), and no infected message gets this far.

use std::fmt;

use super::engine::{Assessment, Engine};
use super::lists::{Layer, Listing, Who};
use super::scale::rounded;
use crate::mail::{Address, Domain, DomainJudgement, RuleHit, SpamLevel};

/// The lists' hits; as many points as no rules reach, so that score and level agree for whoever reads only one of them.
const LISTED_POINTS: f32 = 100.0;
/// What a domain's share of spam is where nobody says so: a coin's toss, for which the rules were fitted.
pub const SHARE_DEFAULT: f32 = 0.5;

/// Somebody whose name others put on to deceive a domain's people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    pub name: String,
    /// One that is theirs; who has several stands in the settings several times.
    pub address: Address,
}

impl fmt::Display for Person {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} <{}>", self.name, self.address)
    }
}

/// The message as `domain` sees it; `None` where it sees it as everybody does. `share`: of spam in the domain's mail.
/// `extra`: what others found for this domain.
pub fn for_domain(
    engine: &Engine,
    domain: &Domain,
    message: &Assessment,
    share: f32,
    listing: &Listing,
    extra: Vec<RuleHit>,
) -> Option<DomainJudgement> {
    let mut hits = extra;
    hits.extend(share_hit(engine, share));
    hits.extend(listing_hit(listing));
    if hits.is_empty() {
        return None;
    }
    hits.sort_by(|one, other| other.points.total_cmp(&one.points));
    let own: f32 = hits.iter().map(|hit| hit.points).sum();
    let level = match listing {
        Listing::Allowed { .. } => SpamLevel::None,
        Listing::Blocked { .. } => SpamLevel::High,
        Listing::None | Listing::Unproven { .. } => level_with(engine, message, own),
    };
    Some(DomainJudgement { domain: domain.clone(), score: rounded(message.score + own), level, hits })
}

/// What the message's score and `own` points reach together. As in [`Engine::assess`], a rule that names its level decides unless
/// all others reach a higher one.
fn level_with(engine: &Engine, message: &Assessment, own: f32) -> SpamLevel {
    let (mut named, mut others) = (SpamLevel::None, own);
    for hit in &message.hits {
        match engine.named_level(&hit.rule) {
            Some(level) => named = named.max(level),
            None => others += hit.points,
        }
    }
    named.max(engine.level_of(rounded(others)))
}

/// Scores are made for mail of which half is spam. Where it is another part, that is known of each message before it is read.
fn share_hit(engine: &Engine, share: f32) -> Option<RuleHit> {
    let share = share.clamp(0.01, 0.99);
    let points = rounded(engine.points_of_share(share));
    let evidence = || format!("{}% of this domain's mail is spam", percent(share));
    (points != 0.0).then(|| RuleHit { rule: "SHARE".to_owned(), points, evidence: evidence() })
}

/// `20`, `2.5`
pub fn percent(share: f32) -> f32 {
    (share * 1000.0).round() / 10.0
}

fn listing_hit(listing: &Listing) -> Option<RuleHit> {
    let whose = |entry: &Who, layer: &Layer| format!("{entry} ({} list)", layer.as_str());
    let (rule, points, evidence) = match listing {
        Listing::None => return None,
        Listing::Allowed { entry, layer, proof } => {
            let proof = proof.as_ref().map_or_else(String::new, |proof| format!(", {proof}"));
            ("ALLOWED", -LISTED_POINTS, whose(entry, layer) + &proof)
        }
        Listing::Blocked { entry, layer } => ("BLOCKED", LISTED_POINTS, whose(entry, layer)),
        Listing::Unproven { entry, layer } => {
            ("ALLOW_UNPROVEN", 0.0, whose(entry, layer) + ", but nothing proves that it is from there")
        }
    };
    Some(RuleHit { rule: rule.to_owned(), points, evidence })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spam::RuleSources;

    fn hit(rule: &str, points: f32) -> RuleHit {
        RuleHit { rule: rule.to_owned(), points, evidence: String::new() }
    }

    fn message(hits: &[(&str, f32)], level: SpamLevel) -> Assessment {
        let hits: Vec<_> = hits.iter().map(|(rule, points)| hit(rule, *points)).collect();
        Assessment { score: hits.iter().map(|hit| hit.points).sum(), level, hits, ..Assessment::default() }
    }

    fn who(domain: &str) -> Who {
        Who::Domain(domain.parse().unwrap())
    }

    /// With levels of its own, and without a calibration: a point is log-odds.
    fn engine() -> Engine {
        let levels = "[thresholds]\nlow = 4.0\nmed = 6.5\nhigh = 10.0\n".to_owned();
        Engine::from_sources(RuleSources { levels, ..Engine::builtin().sources().clone() }).unwrap()
    }

    /// `score level HIT=points …`; `-`: as everybody sees it.
    #[track_caller]
    fn check(hits: &[(&str, f32)], level: SpamLevel, share: f32, listing: &Listing, extra: &[(&str, f32)], expected: &str) {
        let extra = extra.iter().map(|(rule, points)| hit(rule, *points)).collect();
        let domain = "customer.example".parse().unwrap();
        let own = for_domain(&engine(), &domain, &message(hits, level), share, listing, extra);
        let shown = own.map_or("-".to_owned(), |own| {
            let hits: Vec<_> = own.hits.iter().map(|hit| format!("{}={}", hit.rule, hit.points)).collect();
            format!("{} {} {}", own.score, own.level, hits.join(" "))
        });
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_domain_sees_a_message_with_its_own_hits() {
        use SpamLevel::{High, Low, Med, None};
        let unlisted = &Listing::None;
        check(&[("A", 5.0)], Low, 0.5, unlisted, &[], "-");
        check(&[("A", 5.0)], Low, 0.8, unlisted, &[], "6.39 low SHARE=1.39");
        check(&[("A", 5.0)], Low, 0.2, unlisted, &[], "3.61 none SHARE=-1.39");
        check(&[("A", 5.0)], Low, 0.5, unlisted, &[("LEARNED", 2.0), ("X", 3.5)], "10.5 high X=3.5 LEARNED=2");
        check(&[("GTUBE", 1000.0)], High, 0.2, unlisted, &[("X", -3.0)], "995.61 high SHARE=-1.39 X=-3");
        check(&[("GTUBE_MED", 6.5)], Med, 0.5, unlisted, &[("X", -3.0)], "3.5 med X=-3");
        check(&[("GTUBE_LOW", 4.0), ("A", 6.0)], Low, 0.5, unlisted, &[("X", 1.0)], "11 med X=1");
        let layer = Layer::Domain;
        let allowed = &Listing::Allowed { entry: who("partner.example"), layer, proof: Option::None };
        check(&[("A", 15.0)], High, 0.5, allowed, &[], "-85 none ALLOWED=-100");
        check(&[("GTUBE", 1000.0)], High, 0.5, allowed, &[], "900 none ALLOWED=-100");
        let blocked = &Listing::Blocked { entry: who("partner.example"), layer };
        check(&[("A", -150.0)], None, 0.5, blocked, &[("X", -1.0)], "-51 high BLOCKED=100 X=-1");
        let unproven = &Listing::Unproven { entry: who("partner.example"), layer };
        check(&[("A", 5.0)], Low, 0.5, unproven, &[], "5 low ALLOW_UNPROVEN=0");
    }

    #[test]
    fn evidence_says_which_entry_of_whom() {
        let evidence = |listing: &Listing| listing_hit(listing).unwrap().evidence;
        let (entry, layer) = (who("partner.example"), Layer::Domain);
        let proof = Some("dkim-pass mail.partner.example".to_owned());
        let allowed = Listing::Allowed { entry: entry.clone(), layer, proof };
        assert_eq!(evidence(&allowed), "partner.example (domain list), dkim-pass mail.partner.example");
        let blocked = Listing::Blocked { entry, layer: Layer::Platform };
        assert_eq!(evidence(&blocked), "partner.example (platform list)");
        assert_eq!(share_hit(&engine(), 0.025).unwrap().evidence, "2.5% of this domain's mail is spam");
        assert_eq!(share_hit(&engine(), 0.5), None);
    }
}
