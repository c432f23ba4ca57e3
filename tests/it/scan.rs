//! The scanner against a real clamd: what is found, what cannot be vouched for, and what happens when clamd dies.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use feedgate::config::{ClamAv, ClamdAddress};
use feedgate::mail::{Timestamp, Verdict};
use feedgate::outside::{Body, Clock, Pending, Scanner, ScannerHealth};
use feedgate::scan::Pool;

use crate::clamd::Clamd;

/// The time since the test began.
struct SinceStart(Instant);

impl Clock for SinceStart {
    fn now(&self) -> Timestamp {
        Timestamp(1_795_214_160_000) + self.0.elapsed()
    }

    fn sleep_until(&self, moment: Timestamp) -> Pending<'static, ()> {
        Box::pin(tokio::time::sleep(moment.since(self.now())))
    }
}

async fn pool(addresses: Vec<ClamdAddress>) -> Pool {
    let (connect_timeout, scan_timeout) = (Duration::from_secs(5), Duration::from_secs(60));
    let settings = ClamAv { addresses, connect_timeout, scan_timeout, scans_max: 20 };
    let pool = Pool::new(&settings, Arc::new(SinceStart(Instant::now())));
    pool.prove().await;
    pool
}

async fn scan(pool: &Pool, content: impl Into<Bytes>) -> Verdict {
    pool.scan(&Body::Memory(content.into())).await
}

fn eicar() -> Vec<u8> {
    // Backwards, so that no virus scanner reports this file.
    br"*H+H$!ELIF-TSET-SURIVITNA-DRADNATS-RACIE$}7)CC7)^P(45XZP\4[PA@%P!O5X".iter().rev().copied().collect()
}

fn found() -> Verdict {
    Verdict::Infected("Eicar-Test-Signature.UNOFFICIAL".to_owned())
}

/// A message with one attachment in base64.
fn attached(name: &str, content: &[u8]) -> String {
    let mail = mail_builder::MessageBuilder::new()
        .from("joe@sender.example")
        .to("ann@customer.example")
        .subject("Report")
        .text_body("See the attachment.")
        .attachment("application/octet-stream", name.to_owned(), content.to_owned());
    mail.write_to_string().unwrap()
}

/// A zip with one member, stored (APPNOTE.TXT §4.3); `flags` 1: encrypted.
fn zip(name: &str, content: &[u8], flags: u16) -> Vec<u8> {
    let mut common = Vec::new();
    common.extend([20, 0]);
    common.extend(flags.to_le_bytes());
    common.extend([0; 6]);
    common.extend(crc32fast::hash(content).to_le_bytes());
    common.extend([(content.len() as u32).to_le_bytes(), (content.len() as u32).to_le_bytes()].concat());
    common.extend((name.len() as u16).to_le_bytes());
    common.extend([0; 2]);
    let local = [b"PK\x03\x04", &common[..], name.as_bytes(), content].concat();
    let central = [b"PK\x01\x02\x14\0", &common[..], &[0; 14], name.as_bytes()].concat();
    let sizes = [(central.len() as u32).to_le_bytes(), (local.len() as u32).to_le_bytes()].concat();
    [&local[..], &central, b"PK\x05\x06\0\0\0\0\x01\0\x01\0", &sizes, &[0; 2]].concat()
}

#[tokio::test]
async fn eicar_is_found_plain_attached_and_zipped() {
    let clamd = Clamd::start();
    let pool = pool(vec![clamd.address()]).await;
    assert!(matches!(pool.health(), ScannerHealth::Up { version } if version.starts_with("ClamAV ")));
    assert_eq!(scan(&pool, "Subject: hello\r\n\r\nhello\r\n").await, Verdict::Clean);
    assert_eq!(scan(&pool, "").await, Verdict::Clean);
    assert_eq!(scan(&pool, eicar()).await, found());
    assert_eq!(scan(&pool, [b"Subject: hello\r\n\r\n", &eicar()[..], b"\r\n"].concat()).await, found());
    assert_eq!(scan(&pool, attached("eicar.com", &eicar())).await, found());
    assert_eq!(scan(&pool, zip("eicar.com", &eicar(), 0)).await, found());
    assert_eq!(scan(&pool, attached("report.zip", &zip("eicar.com", &eicar(), 0))).await, found());
    assert_eq!(scan(&pool, attached("report.zip", &zip("report.txt", b"harmless", 0))).await, Verdict::Clean);
}

#[tokio::test]
async fn an_encrypted_zip_is_unscannable() {
    let clamd = Clamd::start();
    let pool = pool(vec![clamd.address()]).await;
    let encrypted = attached("report.zip", &zip("report.txt", &[7; 100], 1));
    assert_eq!(scan(&pool, encrypted).await, Verdict::Unscannable("Heuristics.Encrypted.Zip".to_owned()));
}

#[tokio::test]
async fn over_a_limit_is_unscannable() {
    let clamd = Clamd::start_limited("StreamMaxLength 4M\nMaxFileSize 1M\nMaxScanSize 8M");
    let pool = pool(vec![clamd.address()]).await;
    let unscannable = |why: &str| Verdict::Unscannable(why.to_owned());
    let text = |bytes: usize| b"all work and no play\r\n".iter().copied().cycle().take(bytes).collect::<Vec<u8>>();
    assert_eq!(scan(&pool, text(900_000)).await, Verdict::Clean);
    assert_eq!(scan(&pool, text(2_000_000)).await, unscannable("Heuristics.Limits.Exceeded.MaxFileSize"));
    let over_stream = || unscannable("larger than clamd's StreamMaxLength");
    assert_eq!(scan(&pool, text((4 << 20) + 1)).await, over_stream());
    assert_eq!(scan(&pool, text(40 << 20)).await, over_stream());
    assert!(matches!(pool.health(), ScannerHealth::Up { .. }), "that is the message's fault");
}

#[tokio::test]
async fn a_clamd_without_signatures_is_away() {
    let clamd = Clamd::start_blind();
    let pool = pool(vec![clamd.address()]).await;
    assert!(matches!(pool.health(), ScannerHealth::Away { why } if why.contains("does not find EICAR")));
    assert!(matches!(scan(&pool, "hello").await, Verdict::Unavailable(_)), "although it would say OK");
}

#[tokio::test]
async fn a_killed_clamd_is_away_until_it_is_back() {
    let mut clamd = Clamd::start();
    let pool = pool(vec![clamd.address()]).await;
    clamd.stop();
    assert!(matches!(scan(&pool, "hello").await, Verdict::Unavailable(_)));
    assert!(matches!(pool.health(), ScannerHealth::Away { .. }));
    clamd.start_again();
    pool.prove().await;
    assert_eq!(scan(&pool, "hello").await, Verdict::Clean);
}

#[tokio::test]
async fn the_second_clamd_scans_when_the_first_is_killed() {
    let (mut first, second) = (Clamd::start(), Clamd::start());
    let pool = Arc::new(pool(vec![first.address(), second.address()]).await);
    let content = Bytes::from(vec![b'x'; 1 << 20]);
    let mut scans = tokio::task::JoinSet::new();
    for _ in 0..60 {
        let (pool, content) = (Arc::clone(&pool), content.clone());
        scans.spawn(async move { pool.scan(&Body::Memory(content)).await });
    }
    assert_eq!(scans.join_next().await.unwrap().unwrap(), Verdict::Clean);
    first.stop();
    assert_eq!(scans.join_all().await, vec![Verdict::Clean; 59], "none is lost, none is passed unscanned");
    assert_eq!(scan(&pool, eicar()).await, found());
}

#[tokio::test]
async fn two_hundred_scans_at_once() {
    let clamd = Clamd::start();
    let pool = Arc::new(pool(vec![clamd.address()]).await);
    let mut scans = tokio::task::JoinSet::new();
    for number in 0..200 {
        let pool = Arc::clone(&pool);
        let is_infected = number % 2 == 0;
        let content = if is_infected { eicar() } else { vec![b'x'; 20_000] };
        scans.spawn(async move { (is_infected, scan(&pool, content).await) });
    }
    for (is_infected, verdict) in scans.join_all().await {
        assert_eq!(verdict, if is_infected { found() } else { Verdict::Clean });
    }
}
