//! Next hops whose TLS handshake failed: remembered, so that mail goes in clear text at once next time instead of failing
//! first. rustls knows neither TLS 1.0 nor CBC suites, which old Exchange servers still offer.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use super::TlsUse;
use crate::mail::Timestamp;

/// After this the handshake is tried again: the customer may have renewed his server.
const REMEMBER: Duration = Duration::from_secs(7 * 86_400);
/// Hosts remembered; when there are more, all are forgotten and prove themselves again.
const HOSTS_MAX: usize = 10_000;

/// Which hosts failed, and until when that counts.
#[derive(Default)]
pub struct TlsMemory {
    broken: Mutex<HashMap<SocketAddr, Timestamp>>,
}

impl TlsMemory {
    /// Whether to try TLS with this host.
    pub fn advice(&self, host: SocketAddr, now: Timestamp) -> TlsUse {
        let broken = self.broken.lock().expect("nobody panics while holding this lock");
        if broken.get(&host).is_some_and(|until| *until > now) { TlsUse::Never } else { TlsUse::Opportunistic }
    }

    /// The handshake failed. True when this is news.
    pub fn failed(&self, host: SocketAddr, now: Timestamp) -> bool {
        let mut broken = self.broken.lock().expect("nobody panics while holding this lock");
        if broken.len() >= HOSTS_MAX {
            broken.clear();
        }
        broken.insert(host, now + REMEMBER).is_none_or(|until| until <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_handshake_is_remembered_for_a_week() {
        let memory = TlsMemory::default();
        let host = "203.0.113.5:25".parse().unwrap();
        assert_eq!(memory.advice(host, Timestamp(0)), TlsUse::Opportunistic);
        assert!(memory.failed(host, Timestamp(0)));
        assert!(!memory.failed(host, Timestamp(1)));
        assert_eq!(memory.advice(host, Timestamp(1000)), TlsUse::Never);
        assert_eq!(memory.advice(host, Timestamp(0) + REMEMBER + Duration::from_secs(1)), TlsUse::Opportunistic);
    }
}
