//! Virus scanning by clamd: several addresses, proved by canaries, and a reading of the reply that takes only "OK" for clean.

// (skeleton: types and signatures)

use std::sync::Arc;

use crate::config::ClamAv;
use crate::mail::Verdict;
use crate::outside::{Body, Clock, Pending, Scanner, ScannerHealth};

/// All configured clamds as one scanner.
pub struct Pool {}

impl Pool {
    pub fn new(settings: &ClamAv, clock: Arc<dyn Clock>) -> Pool {
        let _ = (settings, clock);
        todo!()
    }

    /// Sends the EICAR canary and a clean canary to every address and records the result. Reports changes in the log.
    /// Called at start and every minute.
    pub async fn prove(&self) {
        todo!()
    }
}

impl Scanner for Pool {
    fn scan<'a>(&'a self, body: &'a Body) -> Pending<'a, Verdict> {
        let _ = body;
        todo!()
    }

    fn health(&self) -> ScannerHealth {
        todo!()
    }
}
