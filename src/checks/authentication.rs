//! Who the sender is: SPF, DKIM, DMARC and ARC, with all DNS through the seam.
//!
//! ```text
//! spf       of MAIL FROM, or of the greeting where there is no sender; remembered, also for greylisting
//! content   its header section is looked through for signatures and authors (signed), then all keys and policies are asked
//!           for at once (questions), then everything is computed from the answers on a thread of its own (verdict)
//! trust     who vouches for a message that its author's policy would have rejected: ARC sealers, known forwarders
//! ```
//!
//! mail-auth reads records and signatures and does the cryptography. It asks no DNS here: it finds every answer in a cache that
//! was filled before. Its walk through an SPF record cannot be fed that way (its caches hold no "there is no such record"), so
//! that walk is ours (`spf`), over records that mail-auth has parsed.
//!
//! It is not here: what a failure costs. Rules give points, the domain's settings say whether a DMARC policy is followed, and
//! SPF alone refuses nobody. What DNS does not answer is a temporary error, which is never a failure.

mod content;
mod keys;
mod questions;
mod results;
mod signed;
mod spf;
mod trust;
mod verdict;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OnceCell, Semaphore};

use crate::mail::{Authentication, Domain, Envelope, ReversePath, Timestamp};
use crate::outside::{Body, Clock, Resolver};
use keys::Verifier;
use questions::Questions;
use verdict::Case;

pub use spf::{Spf, SpfResult};

/// For all questions of one message or one SPF check. RFC 7208 §4.6.4 asks for at least 20 seconds.
const PATIENCE: Duration = Duration::from_secs(20);
/// Questions of one SPF check: the RFC's limits allow 10 terms with 10 names each; what is honest needs far fewer.
const SPF_QUESTIONS_MAX: usize = 40;
/// How long an SPF result is used: over the tries of a session and of the next one.
const REMEMBER: Duration = Duration::from_secs(5 * 60);
/// The same where DNS did not answer: long enough that a broken DNS is not asked for each message of a busy sender.
const REMEMBER_FAILURE: Duration = Duration::from_secs(15);
/// Results remembered; when there are more, all are forgotten.
const KNOWN_MAX: usize = 10_000;
/// Messages whose signatures are verified at a time. Each holds at most [`content::CONTENT_MAX`] in memory.
const AT_A_TIME: usize = 6;

/// Asks and remembers. Cloning shares it.
#[derive(Clone)]
pub struct Authenticator {
    resolver: Arc<dyn Resolver>,
    clock: Arc<dyn Clock>,
    known: Arc<Mutex<HashMap<Identity, Known>>>,
    verifier: Verifier,
    places: Arc<Semaphore>,
}

/// What an SPF result depends on.
type Identity = (IpAddr, String, ReversePath);

#[derive(Clone)]
struct Known {
    until: Timestamp,
    answer: Arc<OnceCell<Spf>>,
}

impl Authenticator {
    pub fn new(resolver: Arc<dyn Resolver>, clock: Arc<dyn Clock>) -> Authenticator {
        let places = Arc::new(Semaphore::new(AT_A_TIME));
        Authenticator { resolver, clock, known: Arc::default(), verifier: Verifier::new(), places }
    }

    /// All that can be said about the message. `trusted_sealers`: whose ARC seals vouch, besides those that we ship. Never an
    /// error: what DNS does not answer is a temporary result, which speaks neither for nor against the message.
    pub async fn message(&self, envelope: &Envelope, body: &Body, trusted_sealers: &[Domain]) -> Authentication {
        let client = &envelope.client;
        let greeting = self.spf(client.address, &client.helo, &ReversePath::Null);
        let sender = async {
            match &envelope.reverse_path {
                ReversePath::Null => None,
                path => Some(self.spf(client.address, &client.helo, path).await),
            }
        };
        let (greeting, sender, inquiry) = tokio::join!(greeting, sender, self.inquire(envelope, body));
        let case = Case {
            client: client.address.to_canonical(),
            helo: client.helo.clone(),
            reverse_path: envelope.reverse_path.clone(),
            greeting,
            sender,
            forwarder: trust::forwarder(client),
            trusted_sealers: trusted_sealers.to_vec(),
        };
        self.conclude(case, inquiry, envelope, body).await
    }

    /// SPF of a sender, or of the greeting's name where there is none (RFC 7208 §2.4). One evaluation for a client, greeting and
    /// sender however many ask, and for a few minutes; one that DNS did not let come to its end for a few seconds.
    pub async fn spf(&self, client: IpAddr, helo: &str, reverse_path: &ReversePath) -> Spf {
        let identity = (client.to_canonical(), helo.to_owned(), reverse_path.clone());
        let cell = self.cell(&identity);
        let evaluate = || async {
            let questions = self.questions(SPF_QUESTIONS_MAX);
            spf::evaluate(&questions, identity.0, helo, reverse_path).await
        };
        let answer = cell.get_or_init(evaluate).await.clone();
        if answer.result == SpfResult::TempError {
            self.forget_soon(&identity, &cell);
        }
        answer
    }

    fn questions(&self, at_most: usize) -> Questions {
        Questions::new(Arc::clone(&self.resolver), Arc::clone(&self.clock), PATIENCE, at_most)
    }

    fn cell(&self, identity: &Identity) -> Arc<OnceCell<Spf>> {
        let now = self.clock.now();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        let new = || Known { until: now + REMEMBER, answer: Arc::default() };
        let entry = known.entry(identity.clone()).or_insert_with(new);
        if entry.until <= now {
            *entry = new();
        }
        Arc::clone(&entry.answer)
    }

    fn forget_soon(&self, identity: &Identity, cell: &Arc<OnceCell<Spf>>) {
        let soon = self.clock.now() + REMEMBER_FAILURE;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // Unless somebody has begun anew meanwhile.
        if let Some(entry) = known.get_mut(identity).filter(|entry| Arc::ptr_eq(&entry.answer, cell)) {
            entry.until = entry.until.min(soon);
        }
    }
}

#[cfg(test)]
mod tests;
