//! The decision: pure, from a closed list, with its reason. Who acts on it is `flow`.

use crate::config::{CheckMode, DomainConfig, LevelPolicy, Unscannable};
use crate::mail::{Action, Decision, Judgement, Reply, Verdict};

/// Whether a refusal can still reach the sender's server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// The reply to the end of data is still owed.
    Waits,
    /// It was answered 250: the message is ours.
    Gone,
}

/// In front of the subject of a message that could not be scanned to its end.
const UNSCANNED_TAG: &str = "[NOT SCANNED] ";

/// What becomes of a message for the recipients of one domain. `policy`: `None` for a domain that is not configured (any more):
/// then nothing is asked for, and mail is delivered as it came.
pub fn decide(judgement: &Judgement, policy: Option<&DomainConfig>, sender: Sender) -> Decision {
    let rejected =
        policy.filter(|domain| domain.checks.dmarc == CheckMode::Reject).and(judgement.authentication.dmarc_reject.as_ref());
    if let Some(author) = rejected.filter(|_| !matches!(judgement.verdict, Verdict::Infected(_))) {
        return match sender {
            Sender::Waits => Decision::Reject { reply: Reply::dmarc(author) },
            Sender::Gone => Decision::Quarantine { why: format!("rejected by the DMARC policy of {author}") },
        };
    }
    let wish = policy.filter(|domain| domain.spam.enabled).and_then(|domain| domain.spam.at(judgement.level));
    match &judgement.verdict {
        Verdict::Infected(name) if sender == Sender::Waits => Decision::Reject { reply: Reply::infected(name) },
        // Too late to refuse: kept away from everybody, and never released (queue::steer).
        Verdict::Infected(name) => Decision::Quarantine { why: format!("infected: {name}") },
        Verdict::Unscannable(why) => unscannable(why, policy, by_level(judgement, policy, wish, sender)),
        Verdict::Clean => by_level(judgement, policy, wish, sender),
        Verdict::Unavailable(why) => unreachable!("without a verdict there is no judgement: {why}"),
    }
}

/// Spam that goes away anyway stays away; the rest follows the domain's policy for what cannot be scanned.
fn unscannable(why: &str, policy: Option<&DomainConfig>, by_level: Decision) -> Decision {
    let tagged = policy.is_some_and(|domain| domain.unscannable == Unscannable::DeliverTagged);
    match by_level {
        Decision::Reject { .. } | Decision::Delete { .. } | Decision::Quarantine { .. } => by_level,
        _ if !tagged => Decision::Quarantine { why: format!("unscannable: {why}") },
        Decision::DeliverTagged { text } => Decision::DeliverTagged { text: format!("{UNSCANNED_TAG}{text}") },
        Decision::Deliver | Decision::DeliverMarked => Decision::DeliverTagged { text: UNSCANNED_TAG.to_owned() },
    }
}

fn by_level(judgement: &Judgement, policy: Option<&DomainConfig>, wish: Option<&LevelPolicy>, sender: Sender) -> Decision {
    let Some(LevelPolicy { action, text }) = wish else {
        let judged = policy.is_some_and(|domain| domain.spam.enabled);
        return if judged { Decision::DeliverMarked } else { Decision::Deliver };
    };
    let why = || format!("spam level {}, score {:.1}", judgement.level, judgement.score);
    match (action, sender) {
        (Action::None, _) => Decision::Deliver,
        (Action::Header, _) => Decision::DeliverMarked,
        (Action::Subject, _) => Decision::DeliverTagged { text: text.clone() },
        (Action::Quarantine, _) => Decision::Quarantine { why: why() },
        (Action::Reject, Sender::Waits) => Decision::Reject { reply: Reply::spam() },
        (Action::Delete, _) | (Action::Reject, Sender::Gone) => Decision::Delete { why: why() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{SpamLevel, Timestamp};

    fn domain(enabled: bool, action: Action, unscannable: Unscannable) -> DomainConfig {
        let mut domain = DomainConfig::with_defaults(vec!["203.0.113.5".parse().unwrap()]);
        let policy = LevelPolicy { action, text: "[S] ".into() };
        domain.unscannable = unscannable;
        domain.spam =
            crate::config::Spam { enabled, low: policy.clone(), med: policy.clone(), high: policy, ..Default::default() };
        domain
    }

    #[track_caller]
    fn check(verdict: Verdict, level: SpamLevel, action: Action, sender: Sender, expected: &str) {
        let judgement = Judgement {
            at: Timestamp(0),
            verdict,
            score: 7.0,
            level,
            hits: Vec::new(),
            authentication: Default::default(),
            domains: Vec::new(),
        };
        let decision = decide(&judgement, Some(&domain(true, action, Unscannable::Quarantine)), sender);
        assert_eq!(shown(&decision), expected);
    }

    fn shown(decision: &Decision) -> String {
        match decision {
            Decision::Deliver | Decision::DeliverMarked => decision.as_str().to_owned(),
            Decision::DeliverTagged { text } => format!("tagged {text}"),
            Decision::Quarantine { why } => format!("quarantine {why}"),
            Decision::Delete { why } => format!("delete {why}"),
            Decision::Reject { reply } => reply.to_string(),
        }
    }

    #[test]
    fn the_table_of_decisions() {
        use Action as A;
        use Sender::{Gone, Waits};
        use SpamLevel as L;
        let clean = || Verdict::Clean;
        check(clean(), L::None, A::Reject, Waits, "deliver-marked");
        check(clean(), L::Low, A::None, Waits, "deliver");
        check(clean(), L::Low, A::Header, Waits, "deliver-marked");
        check(clean(), L::Med, A::Subject, Gone, "tagged [S] ");
        check(clean(), L::Med, A::Quarantine, Waits, "quarantine spam level med, score 7.0");
        check(clean(), L::High, A::Delete, Waits, "delete spam level high, score 7.0");
        check(clean(), L::High, A::Reject, Waits, "550 5.7.1 Message refused as spam");
        check(clean(), L::High, A::Reject, Gone, "delete spam level high, score 7.0");
        let infected = || Verdict::Infected("Eicar".into());
        check(infected(), L::None, A::None, Waits, "554 5.7.1 Virus found: Eicar");
        check(infected(), L::High, A::Delete, Gone, "quarantine infected: Eicar");
        let locked = || Verdict::Unscannable("Heuristics.Encrypted.Zip".into());
        check(locked(), L::None, A::None, Waits, "quarantine unscannable: Heuristics.Encrypted.Zip");
        check(locked(), L::High, A::Delete, Waits, "delete spam level high, score 7.0");
        check(locked(), L::Low, A::Subject, Waits, "quarantine unscannable: Heuristics.Encrypted.Zip");
    }

    #[test]
    fn what_cannot_be_scanned_is_delivered_tagged_where_the_domain_says_so() {
        let judgement = |level| Judgement {
            at: Timestamp(0),
            verdict: Verdict::Unscannable("x".into()),
            score: 0.0,
            level,
            hits: Vec::new(),
            authentication: Default::default(),
            domains: Vec::new(),
        };
        let policy = domain(true, Action::Subject, Unscannable::DeliverTagged);
        assert_eq!(shown(&decide(&judgement(SpamLevel::None), Some(&policy), Sender::Gone)), "tagged [NOT SCANNED] ");
        assert_eq!(shown(&decide(&judgement(SpamLevel::Low), Some(&policy), Sender::Gone)), "tagged [NOT SCANNED] [S] ");
    }

    #[test]
    fn spam_is_only_judged_where_it_was_asked_for() {
        let judgement = Judgement {
            at: Timestamp(0),
            verdict: Verdict::Clean,
            score: 99.0,
            level: SpamLevel::High,
            hits: Vec::new(),
            authentication: Default::default(),
            domains: Vec::new(),
        };
        assert_eq!(
            decide(&judgement, Some(&domain(false, Action::Reject, Unscannable::Quarantine)), Sender::Waits),
            Decision::Deliver
        );
        assert_eq!(decide(&judgement, None, Sender::Waits), Decision::Deliver);
    }

    #[test]
    fn a_dmarc_policy_is_followed_where_the_domain_says_so() {
        let check = |verdict: Verdict, mode: CheckMode, sender, expected: &str| {
            let author = "bank.example".parse().unwrap();
            let authentication = crate::mail::Authentication { dmarc_reject: Some(author), ..Default::default() };
            let judgement = Judgement {
                at: Timestamp(0),
                verdict,
                score: 0.0,
                level: SpamLevel::None,
                hits: Vec::new(),
                authentication,
                domains: Vec::new(),
            };
            let mut policy = domain(false, Action::None, Unscannable::DeliverTagged);
            policy.checks.dmarc = mode;
            assert_eq!(shown(&decide(&judgement, Some(&policy), sender)), expected);
        };
        let refused = "550 5.7.26 Message rejected by the DMARC policy of bank.example";
        check(Verdict::Clean, CheckMode::Reject, Sender::Waits, refused);
        check(Verdict::Clean, CheckMode::Reject, Sender::Gone, "quarantine rejected by the DMARC policy of bank.example");
        check(Verdict::Unscannable("x".into()), CheckMode::Reject, Sender::Waits, refused);
        check(Verdict::Infected("Eicar".into()), CheckMode::Reject, Sender::Gone, "quarantine infected: Eicar");
        check(Verdict::Infected("Eicar".into()), CheckMode::Reject, Sender::Waits, "554 5.7.1 Virus found: Eicar");
        check(Verdict::Clean, CheckMode::Score, Sender::Waits, "deliver");
        check(Verdict::Clean, CheckMode::Off, Sender::Gone, "deliver");
    }
}
