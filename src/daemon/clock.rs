//! The system's clock.

use std::time::SystemTime;

use crate::mail::Timestamp;
use crate::outside::{Clock, Pending};

/// The time of day of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock that everybody else is to use")]
    fn now(&self) -> Timestamp {
        Timestamp::from_system(SystemTime::now())
    }

    /// Waits in pieces: a clock that is set back or forward meanwhile costs a minute at most.
    fn sleep_until(&self, moment: Timestamp) -> Pending<'static, ()> {
        Box::pin(async move {
            loop {
                let left = moment.since(SystemClock.now());
                if left.is_zero() {
                    return;
                }
                tokio::time::sleep(left.min(std::time::Duration::from_secs(60))).await;
            }
        })
    }
}
