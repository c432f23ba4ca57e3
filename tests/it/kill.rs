//! kill -9 for real: the gateway's own binary, killed under load at random moments, while it starts and while it gives up
//! old segments. `FEEDGATE_KILLS=n` says how often; `tests/run` does it 200 times, with the optimised binary
//! (`FEEDGATE_RELEASE_BIN`).

use std::path::Path;
use std::time::{Duration, Instant};

use crate::clamd::Clamd;
use crate::gateway::{Life, prepare, serve_release};
use crate::load::{Account, Clients, Customers, Random, rounds};

#[test]
fn kill_9_at_any_moment_loses_nothing_that_was_answered_250() {
    let (account, clamd, mut random) = (Account::default(), Clamd::start(), Random(1));
    let customers = Customers::start(&account);
    let directory = prepare(clamd.socket(), &[], &customers.sections());
    let spool = directory.path().join("data/spool");
    let kills = rounds("FEEDGATE_KILLS", 20);
    let (mut in_start, mut in_compaction) = (0, 0);
    for round in 0..kills {
        account.begin_life();
        customers.set_away(round % 4 != 1);
        let mut life = Life::begin(&mut serve_release(directory.path()));
        if round % 4 == 3 {
            std::thread::sleep(Duration::from_millis(random.below(80)));
            in_start += u64::from(life.listens_on().is_none());
            end(life, &account, round);
            continue;
        }
        let smtp = life.wait_until_it_listens();
        let clients = Clients::start(&account, smtp, 8);
        if round % 4 == 1 {
            in_compaction += u64::from(wait_for_compaction(&spool, &mut random));
        } else {
            std::thread::sleep(Duration::from_millis(random.below(500)));
        }
        end(life, &account, round);
        clients.end();
    }
    let oldest = oldest_segment(&spool);
    let sums = customers.finish(&mut serve_release(directory.path()), directory.path());
    println!("{kills} kills, {in_start} while starting, {in_compaction} after a segment was given up; {sums}");
    sums.assert_good();
    assert!(in_start > 0 && in_compaction > 0 && oldest > 1, "the load must bring it about");
}

/// Kills it. Until then it lived, and had nothing to tell an operator.
fn end(mut life: Life, account: &Account, round: u64) {
    let has_ended = life.has_ended();
    let log = life.kill();
    assert!(!has_ended, "life {round} ended by itself: {log:#?}");
    account.end_life(&log);
    let errors: Vec<_> = log.iter().filter(|line| line.contains("\"ERROR\"")).collect();
    assert!(errors.is_empty(), "life {round}: {errors:#?}");
}

/// Waits until a segment was given up; the next is usually being carried then. `false`: none was for two seconds.
fn wait_for_compaction(spool: &Path, random: &mut Random) -> bool {
    let (before, started) = (oldest_segment(spool), Instant::now());
    while started.elapsed() < Duration::from_secs(2) {
        if oldest_segment(spool) > before {
            std::thread::sleep(Duration::from_micros(random.below(5000)));
            return true;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    false
}

fn oldest_segment(spool: &Path) -> u32 {
    let names = std::fs::read_dir(spool).into_iter().flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names.filter_map(|name| name.strip_suffix(".seg")?.parse().ok()).min().unwrap_or_default()
}
