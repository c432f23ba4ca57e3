//! What greylisting costs and brings, by day: how much mail was put off, how long that delayed it, and what never came back.
//!
//! Everything counts for the day of the first try, so that each day's numbers add up: what was put off came back, never came back, or
//! is waited for. Delays are kept in buckets that grow by a tenth: a median or percentile is never flattered, and at most a tenth too
//! long. Written to the store's memory every few seconds while something happens; a crash forgets these seconds.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::mail::Timestamp;
use crate::store::Memory;

/// One day of greylisting, or several.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GreylistDay {
    /// 2026-11-20 (UTC); of several: the first one.
    pub day: String,
    /// Recipients of mail for domains with greylisting: each once, however often it was tried.
    pub mail: u64,
    /// Put off at their first try.
    pub delayed: u64,
    /// Of these: taken later.
    pub came_back: u64,
    /// Of these: not tried again within `greylist.window`.
    pub lost: u64,
    /// From the first try to the one that was taken, half of the time not longer.
    pub median_delay_seconds: Option<u64>,
    /// The same in 95 of 100 cases.
    pub p95_delay_seconds: Option<u64>,
}

/// Day by day, and all of them together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GreylistStatistics {
    /// Oldest first; only days on which something happened.
    pub days: Vec<GreylistDay>,
    pub total: GreylistDay,
}

/// Counts. Cloning shares it.
#[derive(Clone)]
pub(super) struct Statistics {
    memory: Memory,
    unsaved: Arc<Mutex<Unsaved>>,
}

/// What has happened since it was written down.
#[derive(Default)]
struct Unsaved {
    /// By days since 1970; a first try is at most `greylist.window` old, so there are few.
    days: BTreeMap<u64, Counts>,
    saved_at: Timestamp,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Counts {
    /// Taken at the first try.
    #[serde(rename = "p")]
    passed: u64,
    #[serde(rename = "d")]
    delayed: u64,
    #[serde(rename = "b")]
    came_back: u64,
    #[serde(rename = "l")]
    lost: u64,
    /// How many came back by bucket of their delay.
    #[serde(rename = "h")]
    delays: BTreeMap<u8, u64>,
}

const SAVE_EVERY: Duration = Duration::from_secs(10);
const DAY_MILLIS: u64 = 86_400_000;
/// Days kept.
pub const DAYS_MAX: usize = 90;
/// From one bucket to the next.
const GROWTH: f64 = 1.1;
/// Ends at 48 days; `greylist.window` is at most 30. All of them in JSON stay under what a value in memory may have.
const BUCKET_MAX: u8 = 160;

const PREFIX: &[u8] = b"s";

impl Statistics {
    pub fn new(memory: Memory) -> Statistics {
        Statistics { memory, unsaved: Arc::default() }
    }

    pub async fn passed(&self, now: Timestamp) {
        self.count(now, now, |counts| counts.passed += 1).await;
    }

    pub async fn delayed(&self, now: Timestamp) {
        self.count(now, now, |counts| counts.delayed += 1).await;
    }

    pub async fn came_back(&self, first: Timestamp, now: Timestamp) {
        let bucket = bucket(now.since(first));
        let count = |counts: &mut Counts| {
            counts.came_back += 1;
            *counts.delays.entry(bucket).or_default() += 1;
        };
        self.count(first, now, count).await;
    }

    pub async fn lost(&self, first: Timestamp, now: Timestamp) {
        self.count(first, now, |counts| counts.lost += 1).await;
    }

    async fn count(&self, day: Timestamp, now: Timestamp, count: impl FnOnce(&mut Counts)) {
        let is_due = {
            let mut unsaved = self.unsaved.lock().unwrap_or_else(PoisonError::into_inner);
            count(unsaved.days.entry(day.0 / DAY_MILLIS).or_default());
            // A clock that was set back must not keep it from being saved.
            now.since(unsaved.saved_at) >= SAVE_EVERY || unsaved.saved_at > now
        };
        if is_due {
            self.save(now).await;
        }
    }

    /// Writes down what has happened since the last time.
    pub async fn save(&self, now: Timestamp) {
        let days = {
            let mut unsaved = self.unsaved.lock().unwrap_or_else(PoisonError::into_inner);
            unsaved.saved_at = now;
            std::mem::take(&mut unsaved.days)
        };
        for (day, counts) in days {
            let add = move |known: Option<&[u8]>| {
                let mut sum = known.and_then(decode).unwrap_or_default();
                sum.add(&counts);
                Some(serde_json::to_vec(&sum).expect("numbers become JSON"))
            };
            self.memory.update(key(day), add).await;
        }
    }

    /// The last `days` days.
    pub async fn report(&self, days: usize, now: Timestamp) -> GreylistStatistics {
        self.save(now).await;
        let from = (now.0 / DAY_MILLIS).saturating_sub(days.saturating_sub(1) as u64);
        let mut report = GreylistStatistics::default();
        let mut total = Counts::default();
        // Twice as many as are kept: a clock that was wrong may have left some that are to come.
        for (key, value) in self.memory.scan(PREFIX.to_vec(), None, 2 * DAYS_MAX).await {
            if let (Some(day), Some(counts)) = (day_of(&key), decode(&value))
                && day >= from
            {
                total.add(&counts);
                report.days.push(counts.shown(day));
            }
        }
        report.total = GreylistDay { day: report.days.first().map(|day| day.day.clone()).unwrap_or_default(), ..total.shown(0) };
        report
    }

    /// Forgets old days.
    pub async fn sweep(&self, now: Timestamp) {
        self.save(now).await;
        let today = now.0 / DAY_MILLIS;
        for (key, _) in self.memory.scan(PREFIX.to_vec(), None, 4 * DAYS_MAX).await {
            let is_kept = day_of(&key).is_some_and(|day| day + DAYS_MAX as u64 > today && day <= today + 1);
            if !is_kept {
                self.memory.remove(key).await;
            }
        }
    }
}

impl Counts {
    fn add(&mut self, other: &Counts) {
        self.passed = self.passed.saturating_add(other.passed);
        self.delayed = self.delayed.saturating_add(other.delayed);
        self.came_back = self.came_back.saturating_add(other.came_back);
        self.lost = self.lost.saturating_add(other.lost);
        for (bucket, count) in &other.delays {
            let known = self.delays.entry(*bucket).or_default();
            *known = known.saturating_add(*count);
        }
    }

    fn shown(&self, day: u64) -> GreylistDay {
        GreylistDay {
            day: Timestamp(day.saturating_mul(DAY_MILLIS)).rfc3339().chars().take(10).collect(),
            mail: self.passed.saturating_add(self.delayed),
            delayed: self.delayed,
            came_back: self.came_back,
            lost: self.lost,
            median_delay_seconds: self.percentile(50),
            p95_delay_seconds: self.percentile(95),
        }
    }

    /// So many of a hundred delays were not longer, in seconds.
    fn percentile(&self, percent: u64) -> Option<u64> {
        let all: u64 = self.delays.values().sum();
        let wanted = all.saturating_mul(percent).div_ceil(100);
        let mut counted = 0;
        let reaches = |(bucket, count): (&u8, &u64)| {
            counted += count;
            (counted >= wanted).then(|| bucket_end(*bucket))
        };
        self.delays.iter().find_map(reaches)
    }
}

fn bucket(delay: Duration) -> u8 {
    let seconds = delay.as_secs_f64().max(1.0);
    let bucket = (seconds.ln() / GROWTH.ln()).ceil();
    bucket.clamp(0.0, f64::from(BUCKET_MAX)) as u8
}

/// Its longest delay, in seconds.
fn bucket_end(bucket: u8) -> u64 {
    GROWTH.powi(i32::from(bucket)).floor() as u64
}

fn decode(value: &[u8]) -> Option<Counts> {
    serde_json::from_slice(value).ok()
}

/// In the order of days.
fn key(day: u64) -> Vec<u8> {
    format!("s{day:08}").into_bytes()
}

fn day_of(key: &[u8]) -> Option<u64> {
    std::str::from_utf8(key.strip_prefix(PREFIX)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::greylist::testing::Scratch;

    const NOW: Timestamp = Timestamp(1_795_214_160_000);

    #[test]
    fn buckets_are_a_tenth_wide() {
        for seconds in [1, 2, 5, 59, 60, 300, 301, 3600, 86_400, 30 * 86_400] {
            let end = bucket_end(bucket(Duration::from_secs(seconds)));
            assert!(end >= seconds && end as f64 <= seconds as f64 * 1.1 + 1.0, "{seconds} s count as {end} s");
        }
        assert_eq!(bucket(Duration::ZERO), 0);
        assert_eq!(bucket(Duration::MAX), BUCKET_MAX);
    }

    #[test]
    fn percentiles_are_of_what_came_back() {
        let mut counts = Counts::default();
        assert_eq!(counts.percentile(50), None);
        let mut came = |seconds, times| *counts.delays.entry(bucket(Duration::from_secs(seconds))).or_default() += times;
        came(300, 94);
        came(3600, 5);
        came(86_400, 1);
        assert_eq!((counts.percentile(50), counts.percentile(94)), (Some(304), Some(304)));
        assert!(counts.percentile(95).is_some_and(|seconds| (3600..=3960).contains(&seconds)));
        assert!(counts.percentile(100).is_some_and(|seconds| seconds >= 86_400));
    }

    #[test]
    fn a_full_histogram_fits_into_memory() {
        let delays = (0..=BUCKET_MAX).map(|bucket| (bucket, 1_000_000_000)).collect();
        let most = Counts { passed: u64::MAX, delayed: u64::MAX, came_back: u64::MAX, lost: u64::MAX, delays };
        assert!(serde_json::to_vec(&most).unwrap().len() < 4096);
    }

    #[tokio::test]
    async fn days_add_up_and_old_ones_are_forgotten() {
        let scratch = Scratch::new();
        let statistics = Statistics::new(scratch.memory());
        let day = Duration::from_secs(86_400);
        for _ in 0..3 {
            statistics.delayed(NOW).await;
        }
        statistics.passed(NOW).await;
        statistics.came_back(NOW, NOW + day).await;
        statistics.lost(NOW, NOW + 2 * day).await;
        statistics.passed(NOW + 2 * day).await;
        let report = statistics.report(30, NOW + 2 * day).await;
        let [first, last] = &report.days[..] else { panic!("two days: {report:?}") };
        assert_eq!((first.day.as_str(), first.mail, first.delayed, first.came_back, first.lost), ("2026-11-20", 4, 3, 1, 1));
        assert_eq!((last.day.as_str(), last.mail, last.delayed), ("2026-11-22", 1, 0));
        assert_eq!((report.total.day.as_str(), report.total.mail, report.total.delayed), ("2026-11-20", 5, 3));
        assert_eq!(statistics.report(2, NOW + 2 * day).await.days.len(), 1);
        // Another process goes on where this one ended.
        let later = Statistics::new(scratch.memory());
        later.passed(NOW + 2 * day).await;
        assert_eq!(later.report(30, NOW + 2 * day).await.total.mail, 6);
        later.sweep(NOW + 91 * day).await;
        assert_eq!(later.report(365, NOW + 91 * day).await.days.len(), 1);
    }
}
