//! Power cuts for real: the gateway's own binary on a file system that forgets, tears and reorders what was not synced
//! (`forgetful.rs`), cut at a random change of that disk, under load and while starting. After each cut the machine counts as
//! started anew: its boot id is another. `FEEDGATE_CUTS=n` says how often; `tests/run` does it 100 times,
//! with the optimised binary (`FEEDGATE_RELEASE_BIN`).

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use feedgate::sim;

use crate::clamd::Clamd;
use crate::forgetful::Mounted;
use crate::gateway::{Life, prepare, serve_release};
use crate::load::{Account, Clients, Customers, Random, rounds};

#[test]
fn a_power_cut_at_any_moment_loses_nothing_that_was_answered_250() {
    let (account, clamd, mut random) = (Account::default(), Clamd::start(), Random(2));
    let customers = Customers::start(&account);
    let directory = prepare(clamd.socket(), &[], &customers.sections());
    let data = directory.path().join("data");
    std::fs::create_dir(&data).expect("a new directory");
    let cuts = rounds("FEEDGATE_CUTS", 20);
    let (mut disk, mut in_start) = (sim::Disk::new(3), 0);
    for round in 0..cuts {
        account.begin_life();
        customers.set_away(round % 4 != 1);
        let mounted = Mounted::mount(disk, &data);
        let disk_now = mounted.disk.clone();
        let is_in_start = round % 4 == 3;
        if is_in_start {
            disk_now.fail_power_at(disk_now.steps() + random.below(60));
        }
        let mut life = Life::begin(&mut machine(directory.path(), round));
        let clients = if is_in_start {
            wait_for_the_cut(&disk_now);
            in_start += u64::from(life.listens_on().is_none());
            None
        } else {
            let smtp = life.wait_until_it_listens();
            let clients = Clients::start(&account, smtp, 8);
            if round % 8 == 6 {
                // A proper end, and the machine goes down after it; the next start is cut.
                std::thread::sleep(Duration::from_millis(random.below(300)));
                life.terminate();
            } else {
                disk_now.fail_power_at(disk_now.steps() + random.below(1500));
                wait_for_the_cut(&disk_now);
            }
            Some(clients)
        };
        disk_now.fail_power_at(0);
        let log = life.kill();
        clients.into_iter().for_each(Clients::end);
        account.end_life(&log);
        // Greylist and history may be forgotten; their database may say that it is damaged.
        let damage: Vec<_> = log.iter().filter(|line| line.contains("a damaged record")).collect();
        assert!(damage.is_empty(), "nothing was damaged before life {round}: {damage:#?}");
        disk = mounted.after_power_cut();
    }
    let mut mounted = Mounted::mount(disk, &data);
    let sums = customers.finish(&mut machine(directory.path(), cuts), directory.path());
    mounted.unmount().expect("the gateway has ended");
    println!("{cuts} power cuts, {in_start} while starting; {sums}");
    sums.assert_good();
    assert!(in_start > 0, "some must fall into a start");
}

/// Power fails when the disk has made so many changes, or now when it does not come to that.
fn wait_for_the_cut(disk: &sim::Disk) {
    let started = Instant::now();
    while !disk.power_failed() && started.elapsed() < Duration::from_secs(2) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The gateway on a machine that was started for the `round`-th time: `/proc` shows another boot id to it, and to it alone.
fn machine(directory: &Path, round: u64) -> Command {
    let boot = directory.join("boot-id");
    std::fs::write(&boot, format!("{round:08x}-0000-4000-8000-000000000000\n")).expect("it can be written");
    let gateway = serve_release(directory);
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", "mount --bind \"$0\" /proc/sys/kernel/random/boot_id && exec \"$@\""]).arg(boot);
    command.arg(gateway.get_program()).args(gateway.get_args());
    command
}
