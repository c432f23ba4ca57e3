//! A clock that stands still until it is moved.

use std::time::Duration;

use tokio::sync::watch;

use crate::mail::Timestamp;
use crate::outside::{self, Pending};

/// Time as a test says. Share it as `Arc<Clock>`.
pub struct Clock {
    now: watch::Sender<Timestamp>,
}

impl Clock {
    /// Stands at 2026-11-20 22:36:00 UTC.
    pub fn new() -> Clock {
        Clock::at(Timestamp(1_795_214_160_000))
    }

    pub fn at(now: Timestamp) -> Clock {
        Clock { now: watch::Sender::new(now) }
    }

    /// Moves on, and wakes who has slept long enough. They run when the test awaits something next.
    pub fn advance(&self, by: Duration) {
        self.now.send_modify(|now| *now = *now + by);
    }

    /// Sets the clock, also backwards, as clocks do.
    pub fn set(&self, now: Timestamp) {
        self.now.send_replace(now);
    }

    /// How many sleep now.
    pub fn sleepers(&self) -> usize {
        self.now.receiver_count()
    }
}

impl Default for Clock {
    fn default() -> Clock {
        Clock::new()
    }
}

impl outside::Clock for Clock {
    fn now(&self) -> Timestamp {
        *self.now.borrow()
    }

    fn sleep_until(&self, moment: Timestamp) -> Pending<'static, ()> {
        let mut now = self.now.subscribe();
        Box::pin(async move {
            if now.wait_for(|now| *now >= moment).await.is_err() {
                // The clock is gone, so that moment never comes.
                std::future::pending().await
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outside::Clock as _;

    #[tokio::test]
    async fn sleepers_wake_when_their_moment_has_come() {
        let clock = Clock::new();
        let start = clock.now();
        let sleeper = tokio::spawn(clock.sleep_until(start + Duration::from_secs(60)));
        assert_eq!(clock.sleepers(), 1);
        clock.advance(Duration::from_secs(59));
        tokio::task::yield_now().await;
        assert!(!sleeper.is_finished());
        clock.advance(Duration::from_secs(1));
        sleeper.await.unwrap();
        assert_eq!(clock.now().since(start), Duration::from_secs(60));
        clock.sleep_until(start).await;
        assert_eq!(clock.sleepers(), 0);
    }
}
