//! A scanner that finds the EICAR test text, or says what it was told to say.

use std::collections::VecDeque;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use memchr::memmem;
use tokio::sync::watch;

use crate::mail::Verdict;
use crate::outside::{self, Body, Pending, ScannerHealth};

/// Stands in every EICAR test text. Written in two parts, so that no scanner takes this file for one.
const MARKER: &str = concat!("EICAR-STANDARD-ANTI", "VIRUS-TEST-FILE");

/// A simulated scanner. Share it as `Arc<Scanner>`.
pub struct Scanner {
    script: Mutex<Script>,
    /// Scans wait while this is true.
    held: watch::Sender<bool>,
}

struct Script {
    next: VecDeque<Verdict>,
    health: ScannerHealth,
    scans: usize,
}

impl Scanner {
    /// Up, and honest.
    pub fn new() -> Scanner {
        let health = ScannerHealth::Up { version: "simulated".into() };
        Scanner { script: Mutex::new(Script { next: VecDeque::new(), health, scans: 0 }), held: watch::Sender::new(false) }
    }

    /// Says this at its next scan, whatever it reads; several are said in their order.
    pub fn say_next(&self, verdict: Verdict) {
        self.script().next.push_back(verdict);
    }

    /// Goes away: no verdicts until [`Scanner::come_back`].
    pub fn go_away(&self, why: &str) {
        self.script().health = ScannerHealth::Away { why: why.to_owned() };
    }

    pub fn come_back(&self) {
        self.script().health = ScannerHealth::Up { version: "simulated".into() };
    }

    /// Scans begin but do not end until [`Scanner::go_on`].
    pub fn hold(&self) {
        self.held.send_replace(true);
    }

    pub fn go_on(&self) {
        self.held.send_replace(false);
    }

    /// How many scans were begun.
    pub fn scans(&self) -> usize {
        self.script().scans
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        // A test that panicked while it held the lock has failed already.
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to be said without reading.
    fn scripted(&self) -> Option<Verdict> {
        let mut script = self.script();
        match &script.health {
            ScannerHealth::Away { why } => Some(Verdict::Unavailable(why.clone())),
            ScannerHealth::Up { .. } => script.next.pop_front(),
        }
    }
}

impl Default for Scanner {
    fn default() -> Scanner {
        Scanner::new()
    }
}

impl outside::Scanner for Scanner {
    fn scan<'a>(&'a self, body: &'a Body) -> Pending<'a, Verdict> {
        Box::pin(async move {
            self.script().scans += 1;
            let mut held = self.held.subscribe();
            held.wait_for(|held| !held).await.expect("the sender lives in self");
            if let Some(verdict) = self.scripted() {
                return verdict;
            }
            match holds_marker(body).await {
                Ok(true) => Verdict::Infected("Eicar-Test-Signature".into()),
                Ok(false) => Verdict::Clean,
                Err(error) => Verdict::Unavailable(error.to_string()),
            }
        })
    }

    fn health(&self) -> ScannerHealth {
        self.script().health.clone()
    }
}

/// Reads the body in chunks that overlap by one marker.
async fn holds_marker(body: &Body) -> io::Result<bool> {
    let mut at = 0;
    while at < body.size() {
        let end = body.size().min(at + Body::CHUNK + MARKER.len() as u64);
        if memmem::find(&body.read(at..end).await?, MARKER.as_bytes()).is_some() {
            return Ok(true);
        }
        at += Body::CHUNK;
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::outside::Scanner as _;

    fn body(text: String) -> Body {
        Body::Memory(text.into())
    }

    #[tokio::test]
    async fn eicar_is_found_wherever_it_stands() {
        let scanner = Scanner::new();
        for before in [0, 10, Body::CHUNK as usize - 5, Body::CHUNK as usize] {
            let verdict = scanner.scan(&body(" ".repeat(before) + "$" + MARKER + "!")).await;
            assert_eq!(verdict, Verdict::Infected("Eicar-Test-Signature".into()), "after {before} bytes");
        }
        assert_eq!(scanner.scan(&body("hello".into())).await, Verdict::Clean);
    }

    #[tokio::test]
    async fn the_script_comes_first() {
        let scanner = Arc::new(Scanner::new());
        scanner.say_next(Verdict::Unscannable("encrypted".into()));
        scanner.go_away("simulated");
        assert_eq!(scanner.scan(&body("a".into())).await, Verdict::Unavailable("simulated".into()));
        scanner.come_back();
        scanner.hold();
        let waiting = tokio::spawn({
            let scanner = Arc::clone(&scanner);
            async move { scanner.scan(&body("a".into())).await }
        });
        while scanner.scans() < 2 {
            tokio::task::yield_now().await;
        }
        assert!(!waiting.is_finished());
        scanner.go_on();
        assert_eq!(waiting.await.unwrap(), Verdict::Unscannable("encrypted".into()));
        assert_eq!(scanner.scan(&body("a".into())).await, Verdict::Clean);
    }
}
