//! Everything that is computed about a message once DNS has answered: signatures, chain, the authors' policies, and whether the
//! strictest of these asks to reject it. Pure but for the time of day, by which signatures expire.

use std::net::IpAddr;

use mail_auth::arc::ArcError;
use mail_auth::common::crypto::Algorithm;
use mail_auth::dkim::DkimError;
use mail_auth::dmarc::Policy;
use mail_auth::dmarc::verify::DmarcParameters;
use mail_auth::{
    ArcOutput, AuthenticatedMessage, DkimOutput, DkimResult, DmarcOutput, DmarcResult, Error, MessageAuthenticator, Parameters,
    SpfOutput,
};

use super::content::Inquiry;
use super::keys::{Cache, Verifier, at_once};
use super::signed::{self, SIGNATURES_MAX};
use super::spf::{Spf, SpfResult};
use super::{results, trust};
use crate::mail::{Authentication, Domain, ReversePath};

/// What is known beside the content.
pub(super) struct Case {
    pub(super) client: IpAddr,
    pub(super) helo: String,
    pub(super) reverse_path: ReversePath,
    /// SPF of the greeting's name, and of the sender where there is one.
    pub(super) greeting: Spf,
    pub(super) sender: Option<Spf>,
    /// The client is a host of this forwarder.
    pub(super) forwarder: Option<Domain>,
    pub(super) trusted_sealers: Vec<Domain>,
}

impl Case {
    /// Whom SPF speaks about (RFC 7208 §2.4).
    pub(super) fn identity(&self) -> &Spf {
        self.sender.as_ref().unwrap_or(&self.greeting)
    }
}

/// Signatures, chain and policies of one message.
pub(super) struct Verdict<'a> {
    pub(super) dkim: Vec<DkimOutput<'a>>,
    pub(super) arc: ArcOutput<'a>,
    /// Of the author who counts; `None` where there is no author.
    pub(super) dmarc: Option<DmarcOutput>,
    pub(super) authors: usize,
    /// Who vouches for a message that its author's policy speaks against.
    pub(super) voucher: Option<String>,
}

/// `bytes`: the content, or its beginning where it is too large to be verified.
pub(super) fn of(verifier: &Verifier, bytes: &[u8], is_whole: bool, inquiry: &Inquiry, case: &Case) -> Authentication {
    let empty = AuthenticatedMessage::default();
    let parsed = signed::parse(bytes, inquiry.signed.is_beyond);
    let message = parsed.as_ref().unwrap_or(&empty);
    let keys = inquiry.answers.keys();
    let (dkim, arc) = if is_whole {
        (signatures(verifier.library(), message, &keys), chain(verifier.library(), message, &keys))
    } else {
        (unverified(message, DkimOutput::neutral), ArcOutput::default())
    };
    let for_policy = if is_whole { dkim.clone() } else { unverified(message, DkimOutput::temp_err) };
    let dmarc = strictest(
        inquiry
            .signed
            .authors_asked()
            .iter()
            .map(|author| policy(verifier.library(), author, &for_policy, case, &inquiry.answers.policies(author.as_str()))),
    );
    let voucher = dmarc.as_ref().filter(|dmarc| is_failure(dmarc)).and_then(|dmarc| {
        let author = Domain::parse(dmarc.domain()).ok()?;
        trust::voucher(&arc, &author, &case.trusted_sealers, case.forwarder.as_ref())
    });
    let authors = inquiry.signed.authors.len();
    results::of(case, &Verdict { dkim, arc, dmarc, authors, voucher })
}

/// One result for each signature, and for fields that are none, as many as are looked at.
fn signatures<'a>(library: &MessageAuthenticator, message: &'a AuthenticatedMessage<'a>, keys: &'a Cache) -> Vec<DkimOutput<'a>> {
    let parameters = Parameters::new(message).with_txt_cache(keys);
    let mut outputs = at_once(library.verify_dkim(parameters)).unwrap_or_else(|| unverified(message, DkimOutput::temp_err));
    for output in &mut outputs {
        // RFC 6376 §5.4: a signature that does not cover From says nothing about the author.
        let covers_author = |signed: &mail_auth::dkim::Signature| signed.h.iter().any(|name| name.eq_ignore_ascii_case("from"));
        if let (DkimResult::Pass, Some(signature)) = (output.result(), message_signature(message, output))
            && !covers_author(signature)
        {
            *output = DkimOutput::perm_err(Error::MissingParameters).with_signature(signature);
        }
    }
    // Those that can be read come last: they are the ones to keep.
    let surplus = outputs.len().saturating_sub(SIGNATURES_MAX);
    outputs.drain(..surplus);
    outputs
}

/// The signature an output is about, for as long as the message lives.
fn message_signature<'a>(
    message: &'a AuthenticatedMessage<'a>,
    output: &DkimOutput<'a>,
) -> Option<&'a mail_auth::dkim::Signature> {
    let signature = output.signature()?;
    message.dkim_headers.iter().map(|field| &field.header).find(|known| std::ptr::eq(*known, signature))
}

/// Content too large to be verified: the signatures are there, and that is all that is known.
fn unverified<'a>(message: &'a AuthenticatedMessage<'a>, result: impl Fn(Error) -> DkimOutput<'a>) -> Vec<DkimOutput<'a>> {
    let unverified = |field: &'a mail_auth::common::headers::Header<'a, mail_auth::dkim::Signature>| {
        result(Error::Dkim(DkimError::FailedBodyHashMatch)).with_signature(&field.header)
    };
    message.dkim_headers.iter().map(unverified).collect()
}

fn chain<'a>(library: &MessageAuthenticator, message: &'a AuthenticatedMessage<'a>, keys: &'a Cache) -> ArcOutput<'a> {
    match unfit(message) {
        Some(why) => ArcOutput::default().with_result(DkimResult::Fail(why)),
        None => at_once(library.verify_arc(Parameters::new(message).with_txt_cache(keys))).unwrap_or_default(),
    }
}

/// What RFC 8617 wants of a chain and mail-auth does not ask.
fn unfit(message: &AuthenticatedMessage<'_>) -> Option<Error> {
    let sets = [message.ams_headers.len(), message.as_headers.len(), message.aar_headers.len()];
    if sets[0] == 0 && sets.iter().any(|count| *count > 0) {
        return Some(Error::Arc(ArcError::BrokenChain));
    }
    // §4.1.2: a seal is made after the signature, which therefore cannot cover it.
    if message.ams_headers.iter().any(|field| field.header.h.iter().any(|name| name.eq_ignore_ascii_case("arc-seal"))) {
        return Some(Error::Arc(ArcError::HasHeaderTag));
    }
    let algorithms =
        message.ams_headers.iter().map(|field| field.header.a).chain(message.as_headers.iter().map(|field| field.header.a));
    // §4.1.2, by RFC 8301: SHA-1 proves nothing.
    let is_weak = algorithms.into_iter().any(|algorithm| algorithm == Algorithm::RsaSha1);
    is_weak.then_some(Error::Dkim(DkimError::UnsupportedAlgorithm))
}

/// DMARC for one author's domain. mail-auth leaves a message with several authors alone, so each is asked for by itself.
fn policy(
    library: &MessageAuthenticator,
    author: &Domain,
    dkim: &[DkimOutput<'_>],
    case: &Case,
    policies: &Cache,
) -> DmarcOutput {
    let sent_by_author = AuthenticatedMessage { from: vec![format!("author@{author}")], ..AuthenticatedMessage::default() };
    let identity = case.identity();
    let domain = identity.domain.as_ref().map_or("", Domain::as_str);
    let spf = output_of(identity);
    let parameters = Parameters::new(DmarcParameters::new(&sent_by_author, dkim, domain, &spf)).with_txt_cache(policies);
    at_once(library.verify_dmarc(parameters)).unwrap_or_else(|| DmarcOutput::new(author.to_string()))
}

/// SPF's result in mail-auth's words.
pub(super) fn output_of(spf: &Spf) -> SpfOutput {
    let result = match spf.result {
        SpfResult::Pass => mail_auth::SpfResult::Pass,
        SpfResult::Fail => mail_auth::SpfResult::Fail,
        SpfResult::SoftFail => mail_auth::SpfResult::SoftFail,
        SpfResult::Neutral => mail_auth::SpfResult::Neutral,
        SpfResult::None => mail_auth::SpfResult::None,
        SpfResult::PermError => mail_auth::SpfResult::PermError,
        SpfResult::TempError => mail_auth::SpfResult::TempError,
    };
    SpfOutput::new(spf.domain.as_ref().map_or_else(String::new, Domain::to_string)).with_result(result)
}

pub(super) fn is_failure(dmarc: &DmarcOutput) -> bool {
    matches!(dmarc.result(), DmarcResult::Fail(_))
}

/// Of several authors the one against whom most can be said: a stranger may add an author who passes.
fn strictest(outputs: impl Iterator<Item = DmarcOutput>) -> Option<DmarcOutput> {
    outputs.max_by_key(|output| {
        let policy = match output.policy() {
            Policy::Reject => 2,
            Policy::Quarantine => 1,
            Policy::None | Policy::Unspecified => 0,
        };
        match output.result() {
            DmarcResult::Fail(_) => (4, policy),
            DmarcResult::TempError(_) => (3, policy),
            DmarcResult::PermError(_) => (2, policy),
            DmarcResult::None => (1, 0),
            DmarcResult::Pass => (0, 0),
        }
    })
}
