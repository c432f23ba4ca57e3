//! Domains whose mail an operator keeps for longer, also the mail still to come: `queue extend customer.example 5d`.
//!
//! One moment for each domain until which its mail is tried at least. It lasts as long as the outage it was granted for: it ends
//! when the domain's mail was delivered again and nothing waits for it any more, when its moment has passed, or when an operator
//! ends it. Kept in a note of the store, written before the operator is answered; it survives a restart.
//!
//! On failure: what cannot be written is an error for the operator and is not in force. A note that cannot be read at the start
//! is set aside and reported, and mail goes on with the domains' own lifetimes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::state::{Pages, Shared};
use super::{Queue, Selector, retry};
use crate::mail::{Domain, Host, Status, Timestamp};
use crate::store::{Store, StoreError};

/// The note's name.
const NOTE: &str = "extensions";
/// How often a domain that gets its mail again is looked at, whether anything still waits.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// What an operator granted to a domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extension {
    pub domain: Domain,
    /// Its mail is tried until then at least.
    pub until: Timestamp,
    pub at: Timestamp,
    /// The operator's name.
    pub by: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// By how much an operator extends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Longer {
    /// So much longer than planned so far.
    By(Duration),
    /// At least until then.
    Until(Timestamp),
}

/// The extensions in force.
#[derive(Default)]
pub(super) struct Extensions {
    known: Mutex<BTreeMap<Domain, Known>>,
    /// Held, on threads that may block, from reading what is in force to having written what comes after it.
    writing: Mutex<()>,
}

struct Known {
    extension: Extension,
    /// Something was delivered since, and when it was last looked whether anything still waits.
    delivered: Option<Timestamp>,
}

impl Extensions {
    /// Reads what the runs before granted. Blocks.
    pub(super) fn load(&self, store: &Store) {
        let read = store.note(NOTE).map(|bytes| bytes.unwrap_or_else(|| b"[]".to_vec()));
        let parsed = read.map(|bytes| (serde_json::from_slice::<Vec<Extension>>(&bytes), bytes));
        match parsed {
            Ok((Ok(extensions), _)) => {
                let known = extensions.into_iter().map(|extension| (extension.domain.clone(), Known::new(extension)));
                *self.known() = known.collect();
            }
            Ok((Err(error), bytes)) => {
                let kept = store.keep_note("extensions-damaged", &bytes).is_ok();
                tracing::error!(%error, set_aside = kept, "the domains' extensions are damaged; grant them again");
            }
            Err(error) => tracing::error!(%error, "the domains' extensions could not be read; grant them again"),
        }
    }

    /// Until when the mail of this destination is tried at least, whatever its lifetime says.
    pub(super) fn until(&self, destination: &Host) -> Option<Timestamp> {
        let Host::Domain(domain) = destination else { return None };
        self.known().get(domain).map(|known| known.extension.until)
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<Domain, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the extensions durably: first the note, then what is in force. `change` says what a domain has afterwards. Blocks.
    fn change(
        &self,
        store: &Store,
        domain: &Domain,
        change: impl FnOnce(Option<&Extension>) -> Option<Extension>,
    ) -> Result<Option<Extension>, StoreError> {
        let _turn = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = self.known().values().map(|known| known.extension.clone()).collect();
        let before = all.iter().position(|extension| extension.domain == *domain).map(|place| all.remove(place));
        let after = change(before.as_ref());
        if after == before {
            return Ok(after);
        }
        all.extend(after.clone());
        store.keep_note(NOTE, &serde_json::to_vec(&all).expect("extensions can be written as JSON"))?;
        let mut known = self.known();
        known.remove(domain);
        known.extend(after.clone().map(|extension| (domain.clone(), Known::new(extension))));
        Ok(after)
    }
}

impl Known {
    fn new(extension: Extension) -> Known {
        Known { extension, delivered: None }
    }
}

impl Queue {
    /// What operators granted to domains and has not passed.
    pub fn extensions(&self) -> Vec<Extension> {
        let now = self.shared.clock.now();
        let known = self.shared.extensions.known();
        known.values().map(|known| &known.extension).filter(|extension| extension.until > now).cloned().collect()
    }

    /// What was granted to this domain.
    pub fn extension(&self, domain: &Domain) -> Option<Extension> {
        self.extensions().into_iter().find(|extension| extension.domain == *domain)
    }

    /// What [`Queue::extend_domain`] would grant.
    pub fn extension_to_be(&self, domain: &Domain, longer: Longer, by: &str, reason: &str) -> Extension {
        let now = self.shared.clock.now();
        granted(self.extension(domain).as_ref(), domain, longer, self.shared.planned_end(domain, now), now, by, reason)
    }

    /// Keeps the domain's mail for longer, also the mail still to come during this outage. It never takes time back.
    pub async fn extend_domain(&self, domain: &Domain, longer: Longer, by: &str, reason: &str) -> Result<Extension, StoreError> {
        let shared = Arc::clone(&self.shared);
        let (domain, by, reason) = (domain.clone(), by.to_owned(), reason.to_owned());
        let granted = blocking(move || {
            let now = shared.clock.now();
            let planned = shared.planned_end(&domain, now);
            let grant = |before: Option<&Extension>| {
                let before = before.filter(|extension| extension.until > now);
                Some(granted(before, &domain, longer, planned, now, &by, &reason))
            };
            shared.extensions.change(&shared.store, &domain, grant)
        });
        let extension = granted.await?.expect("a grant is an extension");
        let Extension { domain, until, by, reason, .. } = &extension;
        tracing::info!(%domain, %until, by, reason, "a domain's mail is kept for longer, also what is still to come");
        Ok(extension)
    }

    /// Ends it; returns what was in force.
    pub async fn end_extension(&self, domain: &Domain, by: &str, reason: &str) -> Result<Option<Extension>, StoreError> {
        let before = self.extension(domain);
        let (shared, ended) = (Arc::clone(&self.shared), domain.clone());
        blocking(move || shared.extensions.change(&shared.store, &ended, |_| None)).await?;
        tracing::info!(%domain, by, reason, "a domain's mail is no longer kept for longer");
        Ok(before)
    }
}

/// What a domain has after it was granted more.
fn granted(
    before: Option<&Extension>,
    domain: &Domain,
    longer: Longer,
    planned: Timestamp,
    now: Timestamp,
    by: &str,
    reason: &str,
) -> Extension {
    let before = before.map_or(planned, |extension| extension.until.max(planned));
    let until = match longer {
        Longer::By(longer) => before + longer,
        Longer::Until(until) => before.max(until),
    };
    Extension { domain: domain.clone(), until, at: now, by: by.to_owned(), reason: reason.to_owned() }
}

impl Shared {
    /// Until when a message that arrives now would be tried, nothing being granted: longer while the clock of the domain's mail
    /// stands still.
    fn planned_end(&self, domain: &Domain, now: Timestamp) -> Timestamp {
        let (config, host) = (self.config.load(), Host::Domain(domain.clone()));
        let end = now + retry::lifetime(&config, &host);
        let state = self.state();
        retry::with_stops(end, now, &config, &host, state.schedule.outage(&host), None)
    }

    /// Something was delivered there: an extension may have done its work. Looks at most once a minute.
    pub(super) fn delivered_to(self: &Arc<Self>, destination: &Host) {
        let Host::Domain(domain) = destination else { return };
        let now = self.clock.now();
        {
            let mut known = self.extensions.known();
            let Some(known) = known.get_mut(domain) else { return };
            if known.delivered.is_some_and(|last| now < last + LOOK_EVERY) {
                return;
            }
            known.delivered = Some(now);
        }
        // Nobody waits for this: it may have to read the whole queue.
        let (shared, domain) = (Arc::clone(self), domain.clone());
        tokio::spawn(async move { shared.end_when_over(&domain, now).await });
    }

    /// Ends the extensions whose moment has passed, or whose domain has its mail. Called hourly.
    pub(super) async fn end_extensions(self: &Arc<Self>) {
        let now = self.clock.now();
        let due: Vec<Domain> = {
            let known = self.extensions.known();
            let may_be_over = |known: &&Known| known.delivered.is_some() || known.extension.until <= now;
            known.values().filter(may_be_over).map(|known| known.extension.domain.clone()).collect()
        };
        for domain in due {
            self.end_when_over(&domain, now).await;
        }
    }

    async fn end_when_over(self: &Arc<Self>, domain: &Domain, now: Timestamp) {
        let passed = self.extensions.until(&Host::Domain(domain.clone())).is_some_and(|until| until <= now);
        let over = if passed { Ok(true) } else { self.has_its_mail(domain).await };
        let ended = match over {
            Ok(false) => return,
            Ok(true) => {
                let (shared, ended) = (Arc::clone(self), domain.clone());
                blocking(move || shared.extensions.change(&shared.store, &ended, |_| None)).await
            }
            Err(error) => Err(error),
        };
        match ended {
            Ok(_) => tracing::info!(%domain, passed, "a domain's extension has ended"),
            Err(error) => tracing::error!(%domain, %error, "a domain's extension could not be ended; trying again in an hour"),
        }
    }

    /// Nothing waits for the domain, nor is held for it.
    async fn has_its_mail(&self, domain: &Domain) -> Result<bool, StoreError> {
        let selector = Selector { domain: Some(domain.clone()), ..Selector::default() };
        let mut pages = Pages::new(&self.store, &selector, None);
        while let Some(page) = pages.next().await? {
            let waits = |status: &Status| matches!(status, Status::Waiting | Status::Held { .. });
            let waiting = page.iter().any(|entry| {
                let mut meant = selector.recipients(&entry.envelope, &entry.progress);
                meant.any(|index| waits(&entry.progress.recipients[index].status))
            });
            if waiting {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, StoreError> + Send + 'static) -> Result<T, StoreError> {
    let cut_short = |error| StoreError::Io { what: "writing an extension".to_owned(), source: std::io::Error::other(error) };
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(cut_short(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn each_grant_goes_on_from_the_one_before_and_none_takes_time_back() {
        let domain: Domain = "customer.example".parse().unwrap();
        let (now, planned) = (Timestamp(0), Timestamp(0) + 2 * DAY);
        let grant = |before: Option<&Extension>, longer| granted(before, &domain, longer, planned, now, "ops", "why");
        let first = grant(None, Longer::By(5 * DAY));
        assert_eq!(first.until, now + 7 * DAY);
        assert_eq!(grant(Some(&first), Longer::By(DAY)).until, now + 8 * DAY);
        assert_eq!(grant(Some(&first), Longer::Until(now + DAY)).until, now + 7 * DAY);
        assert_eq!(grant(None, Longer::Until(now + 30 * DAY)).until, now + 30 * DAY);
    }
}
