//! A message's content on its way to the verdict: its header section is read, the names in it are asked for, then the whole
//! is read and judged on a thread of its own. While DNS is slow nothing large is held.

use std::sync::Arc;

use super::keys::Answers;
use super::signed::{HEAD_MAX, QUESTIONS_MAX, Signed};
use super::verdict::{self, Case};
use super::{Authenticator, results};
use crate::mail::{Authentication, Domain, Envelope, ReversePath};
use crate::outside::Body;

/// Larger content is not verified, in bytes: its signatures are neutral, and DMARC cannot tell.
pub(super) const CONTENT_MAX: u64 = 16 << 20;

/// What the header section says, and what DNS says about it.
pub(super) struct Inquiry {
    pub(super) signed: Signed,
    pub(super) answers: Answers,
}

impl Authenticator {
    /// `None` when the content cannot be read.
    pub(super) async fn inquire(&self, envelope: &Envelope, body: &Body) -> Option<Inquiry> {
        let head = match body.head(HEAD_MAX as u64 + 1).await {
            Ok(head) => head,
            Err(error) => {
                tracing::error!(id = %envelope.id, %error, "a message could not be read to verify its signatures");
                return None;
            }
        };
        let sender = match &envelope.reverse_path {
            ReversePath::Address(address) => address.domain().cloned(),
            ReversePath::Null => Domain::parse(&envelope.client.helo).ok(),
        };
        let signed = Signed::read(&head, sender.as_ref());
        drop(head);
        let questions = self.questions(QUESTIONS_MAX);
        let mut answers = Answers::ask(&questions, signed.names.clone()).await;
        for author in signed.authors_asked() {
            answers.ask_existence(&questions, author.as_str()).await;
        }
        Some(Inquiry { signed, answers })
    }

    /// Signatures cost time and memory in proportion to the content, so a few messages have their turn at a time, on threads
    /// that nobody else waits for.
    pub(super) async fn conclude(
        &self,
        case: Case,
        inquiry: Option<Inquiry>,
        envelope: &Envelope,
        body: &Body,
    ) -> Authentication {
        let of_sender_only = results::of_sender(&case);
        let Some(inquiry) = inquiry else { return of_sender_only };
        let place = Arc::clone(&self.places).acquire_owned().await.expect("nobody closes it");
        let is_whole = body.size() <= CONTENT_MAX;
        let read = body.head(if is_whole { CONTENT_MAX } else { HEAD_MAX as u64 }).await;
        let (verifier, id) = (self.verifier.clone(), envelope.id);
        let judge = move || {
            let read = read.map(|bytes| verdict::of(&verifier, &bytes, is_whole, &inquiry, &case));
            drop(place);
            read
        };
        match tokio::task::spawn_blocking(judge).await {
            Ok(Ok(authentication)) => authentication,
            Ok(Err(error)) => {
                tracing::error!(%id, %error, "a message could not be read to verify its signatures");
                of_sender_only
            }
            Err(error) => {
                tracing::error!(%id, %error, "the signatures of a message could not be verified");
                of_sender_only
            }
        }
    }
}
