//! All configured clamds as one scanner.
//!
//! Each has a standing:
//!
//! ```text
//! Unproved ──canaries pass──▶ Up ──a scan failed──▶ Doubted ──canaries pass──▶ Up
//!     └──────canaries fail──▶ Away ◀──canaries fail──┘ (from Up too)   Away ──canaries pass──▶ Up
//! ```
//!
//! Only `Up` gets mail. One whose scan failed gets none from that moment on, and its canaries are sent at once in a task of
//! their own: a message that clamd chokes on must not cost the others a minute without a scanner. While they fail it is asked
//! again by each [`Pool::prove`]. The log hears of each change once.
//!
//! Bounds: `scans_max` scans at a time for each clamd, and `scan_timeout` for each scan with its wait for a place and all
//! clamds it tries. Canaries take no place: a scanner that is busy is not away.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::clamd::{Clamd, Trouble};
use crate::config::{ClamAv, ClamdAddress};
use crate::mail::{Timestamp, Verdict};
use crate::outside::{Body, Clock, Pending, Scanner, ScannerHealth};

/// All configured clamds as one scanner. Away until the first proof.
pub struct Pool {
    members: Vec<Arc<Member>>,
    clock: Arc<dyn Clock>,
    scan_timeout: Duration,
}

impl Pool {
    pub fn new(settings: &ClamAv, clock: Arc<dyn Clock>) -> Pool {
        let member = |address: &ClamdAddress| {
            let (address, connect_timeout) = (address.clone(), settings.connect_timeout);
            Arc::new(Member {
                clamd: Clamd { address, connect_timeout, clock: Arc::clone(&clock) },
                scan_timeout: settings.scan_timeout,
                places: Semaphore::new(settings.scans_max.max(1)),
                load: AtomicUsize::new(0),
                standing: Mutex::new(Standing::Unproved),
            })
        };
        let members = settings.addresses.iter().map(member).collect();
        Pool { members, scan_timeout: settings.scan_timeout, clock }
    }

    /// Sends the EICAR canary and a clean canary to every address and records the result. Reports changes in the log.
    /// Called at start and every minute.
    pub async fn prove(&self) {
        let mut proofs: JoinSet<()> = self.members.iter().map(|member| Arc::clone(member).prove()).collect();
        while proofs.join_next().await.is_some() {}
    }

    async fn scan_by(&self, deadline: Timestamp, body: &Body) -> Verdict {
        let mut tried = vec![false; self.members.len()];
        let mut why = None;
        while let Some(place) = self.least_loaded(&tried) {
            tried[place] = true;
            let member = &self.members[place];
            match member.scan(body, deadline).await {
                Ok(verdict) => return verdict,
                Err(Failure::NotAsked(reason)) => why = why.or(Some(reason)),
                Err(Failure::Clamd(reason)) => {
                    why = Some(format!("{member}: {reason}"));
                    member.doubt(reason);
                }
                Err(Failure::Body(reason)) => return Verdict::Unavailable(reason),
            }
        }
        Verdict::Unavailable(why.unwrap_or_else(|| self.why_away()))
    }

    /// Among those that are up and not tried yet; the first in the settings where several have as little to do.
    fn least_loaded(&self, tried: &[bool]) -> Option<usize> {
        let candidates = (0..self.members.len()).filter(|place| !tried[*place] && self.members[*place].is_up());
        candidates.min_by_key(|place| self.members[*place].load.load(Ordering::Relaxed))
    }

    fn why_away(&self) -> String {
        let whys: Vec<_> = self.members.iter().filter_map(|member| Some(format!("{member}: {}", member.why_not_up()?))).collect();
        if whys.is_empty() { "no virus scanner is up".to_owned() } else { whys.join("; ") }
    }
}

impl Scanner for Pool {
    fn scan<'a>(&'a self, body: &'a Body) -> Pending<'a, Verdict> {
        Box::pin(self.scan_by(self.clock.now() + self.scan_timeout, body))
    }

    fn health(&self) -> ScannerHealth {
        match self.members.iter().find_map(|member| member.version()) {
            Some(version) => ScannerHealth::Up { version },
            None => ScannerHealth::Away { why: self.why_away() },
        }
    }
}

/// One clamd with what is known of it.
struct Member {
    clamd: Clamd,
    scan_timeout: Duration,
    places: Semaphore,
    /// Scans that have a place or wait for one.
    load: AtomicUsize,
    standing: Mutex<Standing>,
}

enum Standing {
    Unproved,
    Up {
        version: String,
    },
    /// A scan failed; the canaries are under way. Not reported as away yet.
    Doubted {
        why: String,
    },
    Away {
        why: String,
    },
}

/// Why one member gave no verdict.
enum Failure {
    /// It had no place in time, or went away while we waited: nothing new is known about it.
    NotAsked(String),
    Clamd(String),
    Body(String),
}

impl Member {
    async fn scan(&self, body: &Body, deadline: Timestamp) -> Result<Verdict, Failure> {
        let _load = Load::on(self);
        let Some(place) = self.clamd.before(deadline, self.places.acquire()).await else {
            return Err(Failure::NotAsked(format!("{self}: all {BUSY}")));
        };
        let _place = place.expect("nobody closes the semaphore");
        if let Some(why) = self.why_not_up() {
            return Err(Failure::NotAsked(format!("{self}: {why}")));
        }
        self.clamd.scan(body, deadline).await.map_err(|trouble| match trouble {
            Trouble::Clamd(why) => Failure::Clamd(why),
            Trouble::Body(why) => Failure::Body(why),
        })
    }

    /// A scan failed: no more mail for it until the canaries pass. The one who finds this out sends them.
    fn doubt(self: &Arc<Member>, why: String) {
        let mut standing = self.standing();
        if matches!(*standing, Standing::Up { .. }) {
            tracing::warn!(target: "feedgate", address = %self, why, "a scan failed, sending canaries to the virus scanner");
            *standing = Standing::Doubted { why };
            tokio::spawn(Arc::clone(self).prove());
        }
    }

    async fn prove(self: Arc<Member>) {
        let deadline = self.clamd.clock.now() + self.scan_timeout;
        let proof = self.clamd.prove(deadline).await;
        self.record(proof);
    }

    fn record(&self, proof: Result<String, String>) {
        let mut standing = self.standing();
        match (&*standing, &proof) {
            (Standing::Up { .. }, Ok(_)) => {}
            (Standing::Away { why: known }, Err(why)) if known == why => {}
            (Standing::Unproved, Ok(version)) => {
                tracing::info!(target: "feedgate", address = %self, version, "virus scanner is up");
            }
            (Standing::Doubted { .. } | Standing::Away { .. }, Ok(version)) => {
                tracing::info!(target: "feedgate", address = %self, version, "virus scanner is back");
            }
            (_, Err(why)) => tracing::error!(target: "feedgate", address = %self, why, "virus scanner is away"),
        }
        *standing = match proof {
            Ok(version) => Standing::Up { version },
            Err(why) => Standing::Away { why },
        };
    }

    fn is_up(&self) -> bool {
        matches!(*self.standing(), Standing::Up { .. })
    }

    fn version(&self) -> Option<String> {
        match &*self.standing() {
            Standing::Up { version } => Some(version.clone()),
            _ => None,
        }
    }

    fn why_not_up(&self) -> Option<String> {
        match &*self.standing() {
            Standing::Up { .. } => None,
            Standing::Unproved => Some("not proved yet".to_owned()),
            Standing::Doubted { why } | Standing::Away { why } => Some(why.clone()),
        }
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One scan counted in [`Member::load`], also when its future is dropped half-way.
struct Load<'a>(&'a AtomicUsize);

impl Load<'_> {
    fn on(member: &Member) -> Load<'_> {
        member.load.fetch_add(1, Ordering::Relaxed);
        Load(&member.load)
    }
}

impl Drop for Load<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

const BUSY: &str = "places were taken until the scan timeout";

/// As the settings write it.
impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.clamd.address {
            ClamdAddress::Unix(path) => write!(f, "unix:{}", path.display()),
            ClamdAddress::Tcp(address) => write!(f, "tcp:{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::clamd::eicar;
    use super::super::fake::{Behaviour, Fake, TestClock, nowhere};
    use super::*;

    fn pool(addresses: Vec<ClamdAddress>) -> Arc<Pool> {
        let (connect_timeout, scan_timeout) = (Duration::from_secs(5), Duration::from_secs(60));
        let settings = ClamAv { addresses, connect_timeout, scan_timeout, scans_max: 4 };
        Arc::new(Pool::new(&settings, Arc::new(TestClock::new())))
    }

    async fn proved(addresses: Vec<ClamdAddress>) -> Arc<Pool> {
        let pool = pool(addresses);
        pool.prove().await;
        pool
    }

    fn text() -> Body {
        Body::Memory(bytes::Bytes::from_static(b"Subject: hello\r\n\r\nhello\r\n"))
    }

    fn is_up(pool: &Pool) -> bool {
        matches!(pool.health(), ScannerHealth::Up { .. })
    }

    /// Lets the canaries that a failed scan sent come back.
    async fn until(condition: impl Fn() -> bool) {
        for _ in 0..100_000 {
            if condition() {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("it never came to that");
    }

    #[tokio::test]
    async fn before_the_first_proof_nothing_is_scanned() {
        let fake = Fake::on_unix(Behaviour::Honest);
        let pool = pool(vec![fake.address()]);
        assert!(matches!(pool.health(), ScannerHealth::Away { why } if why.ends_with("not proved yet")));
        assert!(matches!(pool.scan(&text()).await, Verdict::Unavailable(why) if why.ends_with("not proved yet")));
        assert_eq!(fake.scans(), 0);
        pool.prove().await;
        assert_eq!(pool.health(), ScannerHealth::Up { version: "ClamAV 9.9.9/1/Fri Nov 20 22:36:00 2026".to_owned() });
        assert_eq!(pool.scan(&text()).await, Verdict::Clean);
        let infected = Body::Memory(eicar().into());
        assert_eq!(pool.scan(&infected).await, Verdict::Infected("Eicar-Test-Signature".to_owned()));
    }

    #[tokio::test]
    async fn a_scanner_that_passes_eicar_is_away() {
        let fake = Fake::on_unix(Behaviour::Reply("stream: OK\0"));
        let pool = proved(vec![fake.address()]).await;
        assert!(matches!(pool.health(), ScannerHealth::Away { why } if why.contains("does not find EICAR: database missing?")));
        assert!(matches!(pool.scan(&text()).await, Verdict::Unavailable(_)));
        fake.becomes(Behaviour::Honest);
        pool.prove().await;
        assert_eq!(pool.scan(&text()).await, Verdict::Clean);
    }

    #[tokio::test]
    async fn the_next_one_scans_when_one_fails() {
        let (first, second) = (Fake::on_unix(Behaviour::Honest), Fake::on_tcp(Behaviour::Honest).await);
        let pool = proved(vec![first.address(), second.address()]).await;
        for trouble in [Behaviour::Reply(""), Behaviour::CloseAfter(3), Behaviour::Reply("stream: no memory ERROR\0")] {
            first.becomes(trouble);
            let before = second.scans();
            assert_eq!(pool.scan(&text()).await, Verdict::Clean);
            assert_eq!(second.scans(), before + 1);
            first.becomes(Behaviour::Honest);
            pool.prove().await;
        }
        drop(first);
        assert_eq!(pool.scan(&text()).await, Verdict::Clean);
        assert!(is_up(&pool));
    }

    #[tokio::test]
    async fn a_failed_scan_takes_the_scanner_out_until_canaries_pass() {
        let fake = Fake::on_unix(Behaviour::Honest);
        let pool = proved(vec![fake.address()]).await;
        fake.becomes(Behaviour::Reply(""));
        assert!(matches!(pool.scan(&text()).await, Verdict::Unavailable(why) if why.ends_with("without an answer")));
        assert!(!is_up(&pool), "at once");
        until(|| matches!(*pool.members[0].standing(), Standing::Away { .. })).await;
        let asked = fake.scans();
        assert!(matches!(pool.scan(&text()).await, Verdict::Unavailable(_)));
        assert_eq!(fake.scans(), asked, "one that is away gets no mail");
        fake.becomes(Behaviour::Honest);
        pool.prove().await;
        assert!(is_up(&pool));
    }

    #[tokio::test]
    async fn a_message_that_clamd_chokes_on_does_not_stop_the_others() {
        let fake = Fake::on_unix(Behaviour::Honest);
        let pool = proved(vec![fake.address()]).await;
        fake.becomes(Behaviour::Reply("stream: Can't parse ERROR\0"));
        assert!(matches!(pool.scan(&text()).await, Verdict::Unavailable(_)));
        fake.becomes(Behaviour::Honest);
        until(|| is_up(&pool)).await;
        assert_eq!(pool.scan(&text()).await, Verdict::Clean, "without a round of prove()");
    }

    #[tokio::test]
    async fn nobody_answers_anywhere() {
        let directory = tempfile::tempdir().unwrap();
        let pool = proved(vec![nowhere(directory.path()), nowhere(directory.path())]).await;
        let Verdict::Unavailable(why) = pool.scan(&text()).await else { panic!("nobody looked at it") };
        assert_eq!(why.matches("No such file").count(), 2, "{why}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_scan_ends_at_its_timeout() {
        let fake = Fake::on_unix(Behaviour::Honest);
        let pool = proved(vec![fake.address()]).await;
        fake.becomes(Behaviour::Hang);
        let start = pool.clock.now();
        assert!(matches!(pool.scan(&text()).await, Verdict::Unavailable(why) if why.ends_with("gives no answer in time")));
        let took = pool.clock.now().since(start);
        assert!((59..62).contains(&took.as_secs()), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_for_a_place_ends_at_the_timeout_and_doubts_nobody() {
        let fake = Fake::on_unix(Behaviour::Honest);
        let pool = proved(vec![fake.address()]).await;
        let places = pool.members[0].places.acquire_many(4).await.unwrap();
        assert!(matches!(pool.scan(&text()).await, Verdict::Unavailable(why) if why.ends_with(BUSY)));
        assert!(is_up(&pool));
        drop(places);
        assert_eq!(pool.scan(&text()).await, Verdict::Clean);
    }

    #[tokio::test]
    async fn many_scans_stay_within_their_places() {
        let (first, second) = (Fake::on_unix(Behaviour::Honest), Fake::on_tcp(Behaviour::Honest).await);
        let pool = proved(vec![first.address(), second.address()]).await;
        first.hold();
        second.hold();
        let mut scans = JoinSet::new();
        for _ in 0..200 {
            let pool = Arc::clone(&pool);
            scans.spawn(async move { pool.scan(&text()).await });
        }
        until(|| first.open() == 4 && second.open() == 4).await;
        first.go_on();
        second.go_on();
        let verdicts = scans.join_all().await;
        assert_eq!(verdicts, vec![Verdict::Clean; 200]);
        assert_eq!((first.open_max(), second.open_max()), (4, 4));
        assert_eq!((first.scans(), second.scans()), (100 + 2, 100 + 2), "evenly, and two canaries each");
    }
}
