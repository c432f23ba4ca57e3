//! The verdict in words: for the header field that the customer's server reads, for the rules, and for the decision.

use mail_auth::dmarc::Policy;
use mail_auth::{AuthenticationResults, DkimResult, DmarcResult};

use super::spf::{Spf, SpfResult};
use super::verdict::{Case, Verdict, is_failure, output_of};
use crate::mail::{Authentication, Domain, Finding, ReversePath};

/// One result in the field, in bytes: a line of a header is at most 998 (RFC 5322 §2.1.1). Longer ones lose their details.
const RESULT_MAX: usize = 600;
/// Stands where mail-auth writes who checked, in comments.
const CHECKER: &str = "feedgate";

/// When nothing is known but SPF.
pub(super) fn of_sender(case: &Case) -> Authentication {
    Authentication { results: tidy(&sender_results(case).to_string()), dmarc_reject: None, findings: sender_findings(case) }
}

pub(super) fn of(case: &Case, verdict: &Verdict<'_>) -> Authentication {
    let author = verdict.dmarc.as_ref().map_or("", |dmarc| dmarc.domain());
    let mut results = tidy(&sender_results(case).with_dkim_results(&verdict.dkim, author).to_string());
    if verdict.dkim.is_empty() {
        // The builder writes nothing for no signature, which is a result too (RFC 8601 §2.7.1).
        results.push_str(BETWEEN);
        results.push_str("dkim=none");
    }
    let mut field = AuthenticationResults::new(CHECKER);
    if let Some(dmarc) = &verdict.dmarc {
        field = field.with_dmarc_result(dmarc);
    }
    if *verdict.arc.result() != DkimResult::None {
        field = field.with_arc_result(&verdict.arc, case.client);
    }
    results.push_str(&tidy(&field.to_string()));
    let mut findings = sender_findings(case);
    findings.extend(dkim_findings(verdict));
    findings.extend(dmarc_findings(verdict));
    let rejects = |dmarc: &&mail_auth::DmarcOutput| is_failure(dmarc) && dmarc.policy() == Policy::Reject;
    let dmarc_reject = verdict.dmarc.as_ref().filter(rejects).filter(|_| verdict.voucher.is_none());
    Authentication { results, dmarc_reject: dmarc_reject.and_then(|dmarc| Domain::parse(dmarc.domain()).ok()), findings }
}

fn sender_results(case: &Case) -> AuthenticationResults<'static> {
    let mut field = AuthenticationResults::new(CHECKER);
    if case.sender.is_none() || case.greeting.result != SpfResult::None {
        field = field.with_spf_ehlo_result(&output_of(&case.greeting), case.client, &case.helo);
    }
    if let (Some(spf), ReversePath::Address(address)) = (&case.sender, &case.reverse_path) {
        let sender = address.to_string();
        field = field.with_spf_mailfrom_result(&output_of(spf), case.client, &sender, &case.helo);
    }
    field
}

fn sender_findings(case: &Case) -> Vec<Finding> {
    let said = |spf: &Spf| {
        let domain = spf.domain.as_ref().map_or("", Domain::as_str);
        let explanation = spf.explanation.as_deref().map_or_else(String::new, |text| format!(": {text}"));
        format!("{domain}{explanation}")
    };
    let identity = case.identity();
    let mut findings = vec![Finding::new(&format!("spf-{}", identity.result.as_str()), &said(identity))];
    if case.sender.is_some() && matches!(case.greeting.result, SpfResult::Pass | SpfResult::Fail) {
        findings.push(Finding::new(&format!("spf-helo-{}", case.greeting.result.as_str()), &said(&case.greeting)));
    }
    findings
}

/// One valid signature is enough; without any, one that DNS kept from being verified is not held against the message.
fn dkim_findings(verdict: &Verdict<'_>) -> Vec<Finding> {
    let signers = |wanted: fn(&DkimResult) -> bool| {
        let fitting = verdict.dkim.iter().filter(move |output| wanted(output.result()));
        let domains: Vec<&str> = fitting.map(|output| output.signature().map_or("", |signature| signature.d.as_str())).collect();
        (!domains.is_empty()).then(|| domains.join(", "))
    };
    let found = if let Some(domains) = signers(|result| *result == DkimResult::Pass) {
        Finding::new("dkim-pass", &domains)
    } else if let Some(domains) = signers(|result| matches!(result, DkimResult::TempError(_))) {
        Finding::new("dkim-temperror", &domains)
    } else if let Some(domains) = signers(|_| true) {
        Finding::new("dkim-fail", &domains)
    } else {
        Finding::new("dkim-none", "")
    };
    let sealers = || verdict.arc.sets().iter().map(|set| set.seal.header.d.as_str()).collect::<Vec<_>>().join(", ");
    let arc = match verdict.arc.result() {
        DkimResult::Pass => Some(Finding::new("arc-pass", &sealers())),
        DkimResult::None | DkimResult::TempError(_) => None,
        _ => Some(Finding::new("arc-fail", &sealers())),
    };
    std::iter::once(found).chain(arc).collect()
}

fn dmarc_findings(verdict: &Verdict<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if verdict.authors > 1 {
        findings.push(Finding::new("several-authors", &format!("{} domains in From", verdict.authors)));
    }
    let Some(dmarc) = &verdict.dmarc else { return findings };
    let author = dmarc.domain();
    match (dmarc.result(), dmarc.policy()) {
        (DmarcResult::Pass, _) => findings.push(Finding::new("dmarc-pass", author)),
        (DmarcResult::Fail(_), policy) => {
            findings.push(Finding::new("dmarc-fail", &format!("{author} asks for {policy}")));
            match (&verdict.voucher, policy) {
                (Some(who), _) => findings.push(Finding::new("forwarded", who)),
                (None, Policy::Reject) => findings.push(Finding::new("dmarc-fail-reject", author)),
                (None, Policy::Quarantine) => findings.push(Finding::new("dmarc-fail-quarantine", author)),
                (None, Policy::None | Policy::Unspecified) => {}
            }
        }
        (DmarcResult::TempError(_), _) => findings.push(Finding::new("dmarc-temperror", author)),
        (DmarcResult::PermError(_), _) => findings.push(Finding::new("dmarc-permerror", author)),
        (DmarcResult::None, _) => findings.push(Finding::new("dmarc-none", author)),
    }
    findings
}

/// What follows our name in the field. The builder quotes what strangers wrote; this is the second lock: printable ASCII only,
/// no line that is too long, and line ends nowhere but between results.
fn tidy(field: &str) -> String {
    let results = field.strip_prefix(CHECKER).unwrap_or_default();
    let mut tidied = String::new();
    for result in results.split(BETWEEN).skip(1) {
        let printable = result.chars().map(|letter| if matches!(letter, ' '..='~') { letter } else { '?' });
        let mut printable: String = printable.collect();
        if printable.len() > RESULT_MAX {
            let word = printable.find(' ').unwrap_or(0);
            printable.truncate(word);
        }
        tidied.push_str(BETWEEN);
        tidied.push_str(&printable);
    }
    tidied
}

const BETWEEN: &str = ";\r\n\t";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_breaks_out_of_the_field() {
        assert_eq!(tidy("feedgate;\r\n\tspf=pass (\u{e4}\r\nX: y)"), ";\r\n\tspf=pass (???X: y)");
        assert_eq!(
            tidy(&format!("feedgate;\r\n\tdkim=pass header.i={};\r\n\tarc=fail", "x".repeat(900))),
            ";\r\n\tdkim=pass;\r\n\tarc=fail"
        );
        assert_eq!(tidy("feedgate"), "");
    }
}
