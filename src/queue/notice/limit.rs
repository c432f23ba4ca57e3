//! How many notices one sender gets: most senders of mail that fails never wrote it, and each notice is one more unwanted
//! message to them. In memory, bounded; a restart begins anew.

use std::collections::HashMap;

use crate::config::Rate;
use crate::mail::{Address, Timestamp};

/// Senders that are counted. Beyond that the one whose count began first is forgotten.
const SENDERS_MAX: usize = 10_000;

/// Notices by sender, counted from the first one for as long as the limit says.
#[derive(Default)]
pub(in crate::queue) struct SenderLimit {
    counts: HashMap<String, Count>,
}

struct Count {
    since: Timestamp,
    notices: u32,
}

impl SenderLimit {
    /// Counts one more for this sender; `false`: it has had enough.
    pub(in crate::queue) fn take(&mut self, sender: &Address, rate: Rate, now: Timestamp) -> bool {
        let sender = key(sender);
        if !self.counts.contains_key(&sender) && self.counts.len() >= SENDERS_MAX {
            self.make_room(rate, now);
        }
        let count = self.counts.entry(sender).or_insert(Count { since: now, notices: 0 });
        if count.since + rate.per <= now {
            *count = Count { since: now, notices: 0 };
        }
        let is_allowed = count.notices < rate.count;
        count.notices += u32::from(is_allowed);
        is_allowed
    }

    /// One that was counted did not come about.
    pub(in crate::queue) fn give_back(&mut self, sender: &Address) {
        if let Some(count) = self.counts.get_mut(&key(sender)) {
            count.notices = count.notices.saturating_sub(1);
        }
    }

    fn make_room(&mut self, rate: Rate, now: Timestamp) {
        self.counts.retain(|_, count| count.since + rate.per > now);
        if self.counts.len() < SENDERS_MAX {
            return;
        }
        let oldest = self.counts.iter().min_by_key(|(_, count)| count.since).map(|(sender, _)| sender.clone());
        oldest.map(|sender| self.counts.remove(&sender));
    }
}

/// Forged senders differ in case too.
fn key(sender: &Address) -> String {
    sender.to_string().to_lowercase()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);
    const RATE: Rate = Rate { count: 2, per: HOUR };

    fn sender(name: &str) -> Address {
        format!("{name}@sender.example").parse().unwrap()
    }

    #[test]
    fn each_sender_has_so_many_in_a_while() {
        let mut limit = SenderLimit::default();
        let mut take = |name: &str, at: u64| limit.take(&sender(name), RATE, Timestamp(at));
        assert!(take("ann", 0) && take("Ann", 1) && !take("ANN", 2));
        assert!(take("joe", 2));
        assert!(!take("ann", 3_599_999));
        assert!(take("ann", 3_600_000) && take("ann", 3_600_001) && !take("ann", 3_600_002));
        limit.give_back(&sender("ann"));
        assert!(limit.take(&sender("ann"), RATE, Timestamp(3_600_003)));
        assert!(!limit.take(&sender("ann"), RATE, Timestamp(3_600_004)));
    }

    #[test]
    fn a_million_forged_senders_take_no_more_room_than_ten_thousand() {
        let mut limit = SenderLimit::default();
        for number in 0..SENDERS_MAX as u64 + 50 {
            assert!(limit.take(&sender(&format!("s{number}")), RATE, Timestamp(number)));
        }
        assert_eq!(limit.counts.len(), SENDERS_MAX);
        assert!(limit.take(&sender("late"), RATE, Timestamp(10 * 3_600_000)));
        assert_eq!(limit.counts.len(), 1);
    }
}
