//! When to try again, and for how long. Pure.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use super::outage::{Outage, Stops};
use crate::config::{Config, DomainConfig};
use crate::mail::{Envelope, Host, Progress, Timestamp};

/// How far a wait is stretched or shortened at most, in thousandths: messages that failed together come back apart.
const JITTER: u64 = 100;

/// The wait after the `attempts`th attempt (from 1): the steps one by one, the last one repeats, each up to 10 % longer or
/// shorter. The same id (a message, or a host that is probed) and attempt always get the same wait, so that its recipients stay together.
pub(super) fn wait(steps: &[Duration], id: impl Hash, attempts: u32) -> Duration {
    let place = (attempts.max(1) as usize - 1).min(steps.len().saturating_sub(1));
    // The settings promise at least one step.
    let step = steps.get(place).copied().unwrap_or(Duration::from_secs(15 * 60));
    let mut hasher = DefaultHasher::new();
    (id, attempts).hash(&mut hasher);
    let thousandths = 1000 - JITTER + hasher.finish() % (2 * JITTER + 1);
    let millis = u64::try_from(step.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(millis / 1000 * thousandths + millis % 1000 * thousandths / 1000)
}

/// The waits between attempts at this destination.
pub(super) fn steps<'c>(config: &'c Config, destination: &Host) -> &'c [Duration] {
    served(config, destination).map_or(&config.queue.retry, |domain| &domain.retry)
}

/// How long delivery to this destination is tried.
pub(super) fn lifetime(config: &Config, destination: &Host) -> Duration {
    served(config, destination).map_or(config.queue.lifetime, |domain| domain.lifetime)
}

/// Up to which age the clock of a message may stand still while this destination is down; `None`: it never does.
pub(super) fn outage_lifetime_max(config: &Config, destination: &Host) -> Option<Duration> {
    served(config, destination)?.outage_lifetime_max
}

fn served<'c>(config: &'c Config, destination: &Host) -> Option<&'c DomainConfig> {
    match destination {
        Host::Domain(domain) => config.domain(domain),
        Host::Literal(_) => None,
    }
}

/// The end of a lifetime whose clock stood still while the host was down: never before `end`, and up to the limit that the
/// domain asked for. While it is down the clock stands still until further notice.
pub(super) fn with_stops(
    end: Timestamp,
    received_at: Timestamp,
    config: &Config,
    destination: &Host,
    outage: Option<&Outage>,
    stops: Option<&Stops>,
) -> Timestamp {
    let Some(most) = outage_lifetime_max(config, destination) else { return end };
    let latest = received_at + most;
    if outage.is_some_and(Outage::is_known) {
        return end.max(latest);
    }
    let stood_still = stops.map(|stops| stops.after(received_at)).unwrap_or_default();
    end.max(latest.min(received_at + lifetime(config, destination) + stood_still))
}

/// Until when delivery to this recipient is tried: its domain's lifetime, or what an operator granted when that is later.
pub(super) fn lifetime_end(config: &Config, envelope: &Envelope, progress: &Progress, recipient: usize) -> Timestamp {
    let destination = envelope.recipients[recipient].address.host();
    let planned = envelope.received_at + lifetime(config, destination);
    progress.recipients[recipient].extended_until.map_or(planned, |extended| extended.max(planned))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::SessionId;

    const STEPS: [Duration; 3] = [Duration::from_secs(60), Duration::from_secs(120), Duration::from_secs(900)];

    #[test]
    fn steps_follow_each_other_and_the_last_repeats_within_a_tenth() {
        let expected = [(1, 60), (2, 120), (3, 900), (4, 900), (500, 900)];
        for number in 0..1000 {
            let id = SessionId::from_u64(number).unwrap().message(1);
            for (attempts, seconds) in expected {
                let wait = wait(&STEPS, id, attempts).as_millis() as u64;
                assert!((seconds * 900..=seconds * 1100).contains(&wait), "{attempts}: {wait} ms");
            }
        }
    }

    #[test]
    fn messages_that_failed_together_come_back_apart_and_each_always_alike() {
        let waits: std::collections::HashSet<_> =
            (0..1000).map(|number| wait(&STEPS, SessionId::from_u64(number).unwrap().message(1), 3)).collect();
        assert!(waits.len() > 150, "{}", waits.len());
        let id = SessionId::from_u64(7).unwrap().message(1);
        assert_eq!(wait(&STEPS, id, 2), wait(&STEPS, id, 2));
    }
}
