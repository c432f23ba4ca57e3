//! What a judgement, or a scan in vain, does to a message. Pure.

use super::scans;
use crate::mail::{Decision, Judgement, Progress, RecipientProgress, Status, Timestamp, Verdict};

/// Records judgement and decisions. The first judgement stands; without a verdict there is none.
pub(super) fn judged(progress: &mut Progress, judgement: Judgement, decisions: Vec<Decision>, now: Timestamp) {
    if progress.judgement.is_some() {
        return;
    }
    if let Verdict::Unavailable(_) = judgement.verdict {
        return scan_later(progress, now);
    }
    let mut decisions = decisions.into_iter();
    for recipient in &mut progress.recipients {
        // One decision for each is the caller's promise. Broken, or an infected message let through: kept back, not lost.
        let decision = decisions.next().unwrap_or_else(|| quarantine("no decision was made"));
        let delivers = matches!(decision, Decision::Deliver | Decision::DeliverMarked | Decision::DeliverTagged { .. });
        let decision = match &judgement.verdict {
            Verdict::Infected(name) if delivers => quarantine(&format!("infected: {name}")),
            _ => decision,
        };
        decided(recipient, decision, now);
    }
    progress.judgement = Some(judgement);
}

fn quarantine(why: &str) -> Decision {
    Decision::Quarantine { why: why.to_owned() }
}

/// Who is final stays so (an operator was faster); who is held stays held, unless nothing is to be delivered at all.
fn decided(recipient: &mut RecipientProgress, decision: Decision, now: Timestamp) {
    if recipient.status.is_final() {
        return;
    }
    recipient.due = now;
    match &decision {
        Decision::Deliver | Decision::DeliverMarked | Decision::DeliverTagged { .. } => {}
        Decision::Quarantine { why } => recipient.status = Status::Quarantined { since: now, why: why.clone() },
        Decision::Delete { why } => recipient.status = Status::Deleted { at: now, why: why.clone() },
        Decision::Reject { .. } => recipient.status = Status::Rejected { at: now },
    }
    recipient.decision = Some(decision);
}

/// Nobody looked at it: ask again, later each time.
pub(super) fn scan_later(progress: &mut Progress, now: Timestamp) {
    if progress.awaits_scan() {
        progress.scan_attempts = progress.scan_attempts.saturating_add(1);
        progress.scan_due = now + scans::backoff(progress.scan_attempts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{Origin, Reply, SpamLevel};
    use crate::queue::schedule::deliverable;

    const NOW: Timestamp = Timestamp(5_000);

    fn judgement(verdict: Verdict) -> Judgement {
        Judgement {
            at: NOW,
            verdict,
            score: 0.0,
            level: SpamLevel::None,
            hits: Vec::new(),
            authentication: Default::default(),
            domains: Vec::new(),
        }
    }

    #[track_caller]
    fn check(status: Status, verdict: Verdict, decision: Decision, expected: Status, leaves: bool) {
        let mut progress = Progress::accepted(Origin::Client, 1, Timestamp(0));
        progress.recipients[0].status = status;
        judged(&mut progress, judgement(verdict), vec![decision], NOW);
        assert_eq!(progress.recipients[0].status, expected);
        assert_eq!(deliverable(&progress, 0), leaves);
    }

    fn why() -> String {
        "why".to_owned()
    }

    #[test]
    fn each_decision_has_its_state() {
        let held = Status::Held { since: Timestamp(1) };
        let gone = Status::Deleted { at: Timestamp(2), why: why() };
        let tagged = Decision::DeliverTagged { text: "[SPAM: low] ".into() };
        let quarantine = Decision::Quarantine { why: why() };
        let quarantined = Status::Quarantined { since: NOW, why: why() };
        let deleted = Status::Deleted { at: NOW, why: why() };
        let reject = Decision::Reject { reply: Reply::spam() };
        check(Status::Waiting, Verdict::Clean, Decision::Deliver, Status::Waiting, true);
        check(Status::Waiting, Verdict::Clean, tagged.clone(), Status::Waiting, true);
        check(Status::Waiting, Verdict::Unscannable(why()), tagged, Status::Waiting, true);
        check(Status::Waiting, Verdict::Clean, quarantine.clone(), quarantined.clone(), false);
        check(Status::Waiting, Verdict::Clean, Decision::Delete { why: why() }, deleted.clone(), false);
        check(Status::Waiting, Verdict::Clean, reject.clone(), Status::Rejected { at: NOW }, false);
        check(held.clone(), Verdict::Clean, Decision::DeliverMarked, held.clone(), false);
        check(held.clone(), Verdict::Clean, quarantine.clone(), quarantined, false);
        check(held.clone(), Verdict::Clean, Decision::Delete { why: why() }, deleted, false);
        check(held, Verdict::Clean, reject, Status::Rejected { at: NOW }, false);
        check(gone.clone(), Verdict::Clean, Decision::Deliver, gone.clone(), false);
        check(gone.clone(), Verdict::Clean, quarantine, gone, false);
    }

    #[test]
    fn what_is_infected_is_never_delivered_whatever_was_decided() {
        let expected = Status::Quarantined { since: NOW, why: "infected: Eicar".into() };
        check(Status::Waiting, Verdict::Infected("Eicar".into()), Decision::Deliver, expected, false);
    }

    #[test]
    fn no_verdict_is_no_judgement() {
        let mut progress = Progress::accepted(Origin::Client, 2, Timestamp(0));
        judged(&mut progress, judgement(Verdict::Unavailable("away".into())), vec![Decision::Deliver; 2], NOW);
        assert!(progress.awaits_scan() && progress.recipients.iter().all(|recipient| recipient.decision.is_none()));
        assert_eq!((progress.scan_attempts, progress.scan_due), (1, Timestamp(10_000)));
    }

    #[test]
    fn the_first_judgement_stands() {
        let mut progress = Progress::accepted(Origin::Client, 2, Timestamp(0));
        judged(&mut progress, judgement(Verdict::Clean), vec![Decision::Deliver], NOW);
        assert_eq!(progress.recipients[1].status.as_str(), "quarantined", "without a decision nothing leaves");
        let first = progress.clone();
        judged(&mut progress, judgement(Verdict::Infected("late".into())), vec![Decision::Delete { why: why() }; 2], NOW);
        scan_later(&mut progress, NOW);
        assert_eq!(progress, first);
    }
}
