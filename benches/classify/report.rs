//! What was measured, and how it is told.

use std::time::Duration;

/// Messages named at the end.
const SLOWEST: usize = 3;

/// CPU time of messages.
#[derive(Default)]
pub struct Judged {
    pub unread: usize,
    pub bytes: usize,
    rounds: usize,
    total: Duration,
    /// Of each message, at the median of its rounds.
    each: Vec<(Duration, String)>,
    pub gather: Duration,
    pub rules: Duration,
    pub tokens: Duration,
}

impl Judged {
    pub fn add(&mut self, id: &str, mut times: Vec<Duration>) {
        self.rounds = times.len();
        self.total += times.iter().sum::<Duration>();
        times.sort_unstable();
        self.each.push((times[times.len() / 2], id.to_owned()));
    }

    pub fn and(mut self, mut other: Judged) -> Judged {
        self.unread += other.unread;
        self.bytes += other.bytes;
        self.rounds = self.rounds.max(other.rounds);
        self.total += other.total;
        self.each.append(&mut other.each);
        self.gather += other.gather;
        self.rules += other.rules;
        self.tokens += other.tokens;
        self
    }

    /// Microseconds a message.
    pub fn mean(&self) -> f64 {
        micros(self.total) / (self.each.len() * self.rounds).max(1) as f64
    }

    pub fn print(&self) {
        let mut sorted = self.each.clone();
        sorted.sort();
        let Some(last) = sorted.len().checked_sub(1) else { return println!("no message could be read") };
        let at = |share: f64| micros(sorted[(last as f64 * share) as usize].0);
        println!(
            "{:.0} messages a second and core, {} bytes on average{}",
            1e6 / self.mean(),
            self.bytes / self.each.len(),
            if self.unread > 0 { format!("; {} could not be read", self.unread) } else { String::new() }
        );
        println!("CPU time in µs: mean {:.0}, p50 {:.0}, p99 {:.0}, max {:.0}", self.mean(), at(0.5), at(0.99), at(1.0));
        let stage = |time: Duration| micros(time) / self.each.len() as f64;
        println!(
            "of which in µs: facts {:.0}, rules {:.0}, tokens and model {:.0}",
            stage(self.gather),
            stage(self.rules),
            stage(self.tokens)
        );
        for (time, id) in sorted.iter().rev().take(SLOWEST) {
            println!("{:>10.0} µs  {id}", micros(*time));
        }
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// A line of `/proc/self/status`; 0 where there is none.
pub fn kilobytes(name: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}
