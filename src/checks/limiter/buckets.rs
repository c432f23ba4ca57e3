//! Buckets that fill as things are asked for and leak at a steady rate (GCRA, as in ATM Forum TM 4.1 §4.5.2), one for each key and
//! resource.
//!
//! Our own and not those of the `governor` crate: a limiter there has one quota for its life, so that every reload would forget
//! what was counted; it reads its own clock, where here time is passed in; and its keyed store grows with every new key until
//! somebody sweeps it, while keys here are strangers' addresses. What is left of it after that are the ten lines of [`pour`].

use std::collections::HashMap;
use std::hash::Hash;

use crate::config::Rate;
use crate::mail::Timestamp;

/// Keys with `N` buckets each. Bounded: when there is no room, those that are nearest to empty are forgotten.
pub(super) struct Buckets<K, const N: usize> {
    /// When each bucket will be empty, in nanoseconds since 1970.
    empty_at: HashMap<K, [u64; N]>,
    most: usize,
}

/// How much goes into a bucket and how fast it leaks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quota {
    /// One more is one drop of so many nanoseconds.
    drop: u64,
    /// The bucket holds so many nanoseconds.
    holds: u64,
}

impl Quota {
    pub(super) fn new(rate: Rate, factor: u32) -> Quota {
        let holds = u64::try_from(rate.per.as_nanos()).unwrap_or(u64::MAX).max(1);
        let count = u64::from(rate.count) * u64::from(factor);
        Quota { drop: (holds / count.max(1)).max(1), holds }
    }
}

/// The level after one more drop: when the bucket will be empty. `None`: it does not fit.
fn pour(empty_at: u64, quota: Quota, now: u64) -> Option<u64> {
    // A clock that was set back must not leave a bucket fuller than full.
    let level = empty_at.clamp(now, now.saturating_add(quota.holds)) - now;
    let level = level.saturating_add(quota.drop);
    (level <= quota.holds).then(|| now.saturating_add(level))
}

pub(super) fn nanoseconds(now: Timestamp) -> u64 {
    now.0.saturating_mul(1_000_000)
}

impl<K: Copy + Eq + Hash, const N: usize> Buckets<K, N> {
    pub(super) fn new(most: usize) -> Buckets<K, N> {
        Buckets { empty_at: HashMap::new(), most }
    }

    /// What one bucket would be with one more in it; `None`: over its limit. Nothing is changed.
    pub(super) fn with_one_more(&self, key: K, bucket: usize, quota: Quota, now: Timestamp) -> Option<u64> {
        let empty_at = self.empty_at.get(&key).map_or(0, |buckets| buckets[bucket]);
        pour(empty_at, quota, nanoseconds(now))
    }

    /// Keeps what [`Buckets::with_one_more`] said.
    pub(super) fn set(&mut self, key: K, bucket: usize, empty_at: u64, now: Timestamp) {
        if self.empty_at.len() >= self.most && !self.empty_at.contains_key(&key) {
            self.make_room(now);
        }
        self.empty_at.entry(key).or_insert([0; N])[bucket] = empty_at;
    }

    /// Takes one drop out again.
    pub(super) fn take_back(&mut self, key: K, bucket: usize, quota: Quota) {
        if let Some(buckets) = self.empty_at.get_mut(&key) {
            buckets[bucket] = buckets[bucket].saturating_sub(quota.drop);
        }
    }

    /// Forgets who has nothing in any bucket.
    pub(super) fn sweep(&mut self, now: Timestamp) {
        let now = nanoseconds(now);
        self.empty_at.retain(|_, buckets| buckets.iter().any(|empty_at| *empty_at > now));
        self.empty_at.shrink_to(self.empty_at.len() * 2);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.empty_at.len()
    }

    /// At least a tenth of the room, so that the work for one key stays small on average.
    fn make_room(&mut self, now: Timestamp) {
        let of_now = nanoseconds(now);
        self.empty_at.retain(|_, buckets| buckets.iter().any(|empty_at| *empty_at > of_now));
        let keep = self.most - self.most.div_ceil(10);
        if self.empty_at.len() <= keep {
            return;
        }
        let last = |buckets: &[u64; N]| buckets.iter().copied().max().unwrap_or_default();
        let mut ends: Vec<_> = self.empty_at.values().map(last).collect();
        let surplus = ends.len() - keep;
        let (_, newest_to_go, _) = ends.select_nth_unstable(surplus - 1);
        let (newest_to_go, mut to_go) = (*newest_to_go, surplus);
        self.empty_at.retain(|_, buckets| {
            let goes = to_go > 0 && last(buckets) <= newest_to_go;
            to_go -= usize::from(goes);
            !goes
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: Timestamp = Timestamp(1_795_214_160_000);

    fn one_more(buckets: &mut Buckets<u32, 1>, key: u32, quota: Quota, now: Timestamp) -> bool {
        let next = buckets.with_one_more(key, 0, quota, now);
        next.map(|empty_at| buckets.set(key, 0, empty_at, now)).is_some()
    }

    fn quota(count: u32, seconds: u64) -> Quota {
        Quota::new(Rate { count, per: Duration::from_secs(seconds) }, 1)
    }

    #[test]
    fn a_bucket_takes_so_many_at_once_and_then_as_many_as_leak() {
        let mut buckets = Buckets::new(10);
        let quota = quota(6, 60);
        assert_eq!((0..10).filter(|_| one_more(&mut buckets, 1, quota, NOW)).count(), 6);
        let later = NOW + Duration::from_secs(21);
        assert_eq!((0..10).filter(|_| one_more(&mut buckets, 1, quota, later)).count(), 2, "one each ten seconds");
        assert!(one_more(&mut buckets, 2, quota, later), "everybody has a bucket of his own");
        buckets.take_back(1, 0, quota);
        assert!(one_more(&mut buckets, 1, quota, later));
        assert!(!one_more(&mut buckets, 1, quota, later));
    }

    #[test]
    fn a_clock_that_is_set_back_locks_nobody_out_for_long() {
        let mut buckets = Buckets::new(10);
        let quota = quota(6, 60);
        assert!(one_more(&mut buckets, 1, quota, NOW));
        let before = NOW - Duration::from_secs(86_400);
        assert!(!one_more(&mut buckets, 1, quota, before));
        // From full on it leaks again, in the time of the new clock.
        buckets.set(1, 0, nanoseconds(before) + quota.holds, before);
        assert!(one_more(&mut buckets, 1, quota, before + Duration::from_secs(60)));
    }

    #[test]
    fn extreme_rates_neither_overflow_nor_divide_by_nothing() {
        let mut buckets = Buckets::new(10);
        let huge = Quota::new(Rate { count: u32::MAX, per: Duration::from_secs(1) }, u32::MAX);
        assert!((0..1000).all(|_| one_more(&mut buckets, 1, huge, NOW)));
        let slow = Quota::new(Rate { count: 1, per: Duration::from_secs(365 * 86_400) }, 1);
        assert!(one_more(&mut buckets, 2, slow, NOW));
        assert!(!one_more(&mut buckets, 2, slow, NOW + Duration::from_secs(86_400)));
        assert!(one_more(&mut buckets, 3, slow, Timestamp(u64::MAX)));
    }

    #[test]
    fn strangers_without_number_do_not_fill_the_memory_and_the_worst_are_remembered() {
        let mut buckets = Buckets::new(1000);
        let quota = quota(100, 60);
        let now = NOW;
        (0..100).for_each(|_| assert!(one_more(&mut buckets, 0, quota, now)));
        for key in 1..20_000 {
            assert!(one_more(&mut buckets, key, quota, now));
            assert!(buckets.len() <= 1000);
        }
        assert!(!one_more(&mut buckets, 0, quota, now), "who is over its limit is forgotten last");
        buckets.sweep(now + Duration::from_secs(120));
        assert_eq!(buckets.len(), 0);
    }
}
