//! Lessons on a faulty disk: whatever happens, what was answered is there.

use std::collections::BTreeMap;
use std::path::Path;

use super::*;
use crate::sim;
use crate::spam::Tokens;

const DATA: &str = "/data";
const FILE: &str = "/data/lessons/lessons";

fn digest(number: u64) -> Digest {
    let mut bytes = [7; 16];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    Digest(bytes)
}

fn example(number: u64, label: Label, scope: Option<&str>) -> Example {
    let hashes = (0..5 + number as u32 % 300).map(|token| token.wrapping_mul(2_654_435_761).wrapping_add(number as u32));
    let scope = scope.map(|name| Domain::parse(name).unwrap());
    Example { digest: digest(number), label, scope, day: 20_000 + number as u32, tokens: Tokens::from_hashes(hashes.collect()) }
}

fn open(disk: &sim::Disk) -> (Lessons, LessonRecovery) {
    open_bounded(disk, LessonBounds { compact_min: 4096, ..LessonBounds::default() })
}

fn open_bounded(disk: &sim::Disk, bounds: LessonBounds) -> (Lessons, LessonRecovery) {
    Lessons::open_simulated(Path::new(DATA), Arc::new(disk.clone()), bounds).unwrap()
}

fn disk(seed: u64) -> sim::Disk {
    let disk = sim::Disk::new(seed);
    disk.create_dir(Path::new(DATA)).unwrap();
    disk
}

#[test]
fn what_was_learned_outlives_a_power_cut_and_counts_once() {
    let disk = disk(1);
    let (mut lessons, _) = open(&disk);
    let examples =
        [example(1, Label::Spam, None), example(2, Label::Ham, Some("customer.example")), example(1, Label::Spam, None)];
    assert_eq!(lessons.would_learn(&examples), Taught { learned: 2, changed: 0, known: 1 });
    assert_eq!(lessons.learn(&examples).unwrap(), Taught { learned: 2, changed: 0, known: 1 });
    assert_eq!(lessons.learn(&examples).unwrap(), Taught { learned: 0, changed: 0, known: 3 });
    assert_eq!(lessons.learn(&[example(1, Label::Ham, None)]).unwrap(), Taught { learned: 1, changed: 1, known: 0 });
    // The same message in a domain's view is another lesson.
    assert_eq!(lessons.forget(Some(&Domain::parse("customer.example").unwrap()), &[digest(1)]).unwrap(), 0);
    let disk = disk.after_power_cut();
    let (mut lessons, recovery) = open(&disk);
    assert_eq!(recovery, LessonRecovery { examples: 2, torn: 0, damaged: vec![] });
    let expected = [example(2, Label::Ham, Some("customer.example")), example(1, Label::Ham, None)];
    assert_eq!(lessons.examples().unwrap(), (expected.to_vec(), vec![]));
    assert_eq!(lessons.forget(None, &[digest(1), digest(1), digest(9)]).unwrap(), 1);
    let (lessons, recovery) = open(&disk.after_power_cut());
    assert_eq!(recovery.examples, 1);
    let statistics = lessons.statistics();
    let of_domain = ScopeStatistics {
        domain: Some(Domain::parse("customer.example").unwrap()),
        spam: 0,
        ham: 1,
        oldest_day: 20_002,
        newest_day: 20_002,
    };
    assert_eq!(statistics.scopes, [of_domain]);
    assert!(statistics.live_bytes < statistics.bytes);
}

#[test]
fn the_oldest_go_out_first_and_a_start_agrees() {
    let bounds = LessonBounds { platform: 10, domain: 3, bytes: 1 << 20, compact_min: 2048 };
    let disk = disk(2);
    let (mut lessons, _) = open_bounded(&disk, bounds.clone());
    for number in 0..40 {
        let scope = [None, Some("a.example"), Some("b.example")][number as usize % 3];
        lessons.learn(&[example(number, Label::Spam, scope)]).unwrap();
    }
    let counts: Vec<_> = lessons.statistics().scopes.iter().map(|scope| scope.spam).collect();
    assert_eq!(counts, [10, 3, 3]);
    assert!(lessons.knows(None, digest(39)).is_some() && lessons.knows(None, digest(0)).is_none());
    let before = lessons.examples().unwrap();
    let (again, _) = open_bounded(&disk.after_kill(), bounds.clone());
    assert_eq!(again.examples().unwrap(), before);
    // Bytes bound all scopes together.
    let small = LessonBounds { bytes: 3000, ..bounds };
    let (mut lessons, _) = open_bounded(&self::disk(3), small);
    for number in 200..220 {
        lessons.learn(&[example(number, Label::Ham, None)]).unwrap();
    }
    assert!(lessons.statistics().live_bytes <= 3000 && !lessons.is_empty());
}

#[test]
fn what_is_dead_is_given_up() {
    let disk = disk(4);
    let (mut lessons, _) = open(&disk);
    for round in 0..40 {
        let label = if round % 2 == 0 { Label::Spam } else { Label::Ham };
        let examples: Vec<_> = (0..5).map(|number| example(number, label, None)).collect();
        lessons.learn(&examples).unwrap();
    }
    let statistics = lessons.statistics();
    assert!(statistics.bytes <= 2 * statistics.live_bytes.max(4096), "{statistics:?}");
    let before = lessons.examples().unwrap();
    assert_eq!(before.0.len(), 5);
    assert_eq!(open(&disk.after_power_cut()).0.examples().unwrap(), before);
}

#[test]
fn damage_in_the_middle_costs_what_it_hit_and_is_reported() {
    for seed in 0..40 {
        let disk = disk(seed);
        let (mut lessons, _) = open(&disk);
        for number in 0..6 {
            lessons.learn(&[example(number, Label::Spam, None)]).unwrap();
        }
        let spot = *lessons.shelf.spot(&(None, digest(2))).unwrap();
        drop(lessons);
        disk.flip_bit(Path::new(FILE), (spot.at + disk.random(spot.length)) as usize, disk.random(8) as u8);
        let (lessons, recovery) = open(&disk.after_kill());
        assert_eq!((recovery.examples, recovery.torn), (5, 0), "seed {seed}");
        assert_eq!(recovery.damaged, [format!("lessons at {}: {} bytes are damaged", spot.at, spot.length)]);
        assert_eq!(lessons.knows(None, digest(2)), None);
        assert_eq!(lessons.examples().unwrap().0.len(), 5);
    }
}

#[test]
fn a_torn_tail_is_cut_off_and_said() {
    let disk = disk(5);
    let (mut lessons, _) = open(&disk);
    lessons.learn(&[example(1, Label::Spam, None)]).unwrap();
    let end = lessons.end;
    lessons.file.write_at(b"FGl1 half a record", end).unwrap();
    let disk = disk.after_kill();
    let (mut lessons, recovery) = open(&disk);
    assert_eq!(recovery, LessonRecovery { examples: 1, torn: 18, damaged: vec![] });
    lessons.learn(&[example(2, Label::Spam, None)]).unwrap();
    assert_eq!(open(&disk.after_kill()).1, LessonRecovery { examples: 2, torn: 0, damaged: vec![] });
}

#[test]
fn a_full_disk_refuses_and_loses_nothing() {
    let disk = disk(6);
    let (mut lessons, _) = open(&disk);
    lessons.learn(&[example(1, Label::Spam, None)]).unwrap();
    disk.set_capacity(disk.used() + 30);
    assert!(matches!(lessons.learn(&[example(2, Label::Spam, None)]), Err(StoreError::Full)));
    assert_eq!((lessons.len(), lessons.knows(None, digest(2))), (1, None));
    disk.set_capacity(u64::MAX);
    lessons.learn(&[example(3, Label::Spam, None)]).unwrap();
    assert_eq!(open(&disk.after_power_cut()).1.examples, 2);
}

/// What is known of each message, and what else may be found after a crash.
#[derive(Default)]
struct Model {
    answered: BTreeMap<u64, Label>,
    maybe: BTreeMap<u64, Vec<Option<Label>>>,
}

impl Model {
    fn change(&mut self, numbers: &[u64], label: Option<Label>, is_answered: bool) {
        if is_answered {
            self.maybe.clear();
        }
        for number in numbers {
            match (is_answered, label) {
                (true, Some(label)) => drop(self.answered.insert(*number, label)),
                (true, None) => drop(self.answered.remove(number)),
                (false, label) => self.maybe.entry(*number).or_default().push(label),
            }
        }
    }

    /// After a crash, what is found is what is.
    fn check(&mut self, lessons: &Lessons, seed: u64) {
        let mut found = BTreeMap::new();
        for number in 0..NUMBERS {
            let label = lessons.knows(None, digest(number));
            let answered = self.answered.get(&number).copied();
            let is_fine = label == answered || self.maybe.get(&number).is_some_and(|maybe| maybe.contains(&label));
            assert!(is_fine, "seed {seed}: {number} is {label:?}, answered was {answered:?}");
            found.extend(label.map(|label| (number, label)));
        }
        let (examples, damaged) = lessons.examples().unwrap();
        assert!(damaged.is_empty(), "seed {seed}: {damaged:?}");
        assert_eq!(examples.len(), found.len(), "seed {seed}");
        for example in examples {
            let number = u64::from(example.day - 20_000);
            assert_eq!(example, self::example(number, found[&number], None), "seed {seed}");
        }
        *self = Model { answered: found, maybe: BTreeMap::new() };
    }
}

const NUMBERS: u64 = 40;

#[test]
fn what_was_answered_survives_every_crash() {
    (0..600).for_each(history);
}

fn history(seed: u64) {
    let mut disk = disk(seed);
    if disk.random(2) == 0 {
        disk.shorten_reads();
    }
    let mut model = Model::default();
    for _ in 0..5 {
        disk.fail_power_at(disk.steps() + 1 + disk.random(50));
        if let Ok((mut lessons, recovery)) = Lessons::open_simulated(
            Path::new(DATA),
            Arc::new(disk.clone()),
            LessonBounds { compact_min: 3000, ..Default::default() },
        ) {
            assert!(recovery.damaged.is_empty(), "seed {seed}: {recovery:?}");
            // Power that failed with the last step of opening: nothing more happens in this life.
            let operations = if disk.power_failed() { 0 } else { 30 };
            if operations > 0 {
                model.check(&lessons, seed);
            }
            for _ in 0..operations {
                operate(&disk, &mut lessons, &mut model);
                for number in 0..NUMBERS {
                    let known = lessons.knows(None, digest(number));
                    assert_eq!(known, model.answered.get(&number).copied(), "seed {seed}: {number} in this life");
                }
            }
        }
        disk = if disk.random(2) == 0 { disk.after_kill() } else { disk.after_power_cut() };
        disk.set_capacity(u64::MAX);
    }
    let (lessons, recovery) = open(&disk);
    assert!(recovery.damaged.is_empty(), "seed {seed}: {recovery:?}");
    model.check(&lessons, seed);
}

fn operate(disk: &sim::Disk, lessons: &mut Lessons, model: &mut Model) {
    match disk.random(20) {
        0 => disk.fail_syncs(1),
        1 => disk.set_capacity(disk.used() + disk.random(3000)),
        2..5 => disk.set_capacity(u64::MAX),
        _ => {}
    }
    let numbers: Vec<u64> = (0..1 + disk.random(6)).map(|_| disk.random(NUMBERS)).collect();
    match disk.random(4) {
        0 => {
            let digests: Vec<_> = numbers.iter().map(|number| digest(*number)).collect();
            let answered = lessons.forget(None, &digests).is_ok();
            model.change(&numbers, None, answered);
        }
        label => {
            let label = if label == 1 { Label::Ham } else { Label::Spam };
            let examples: Vec<_> = numbers.iter().map(|number| example(*number, label, None)).collect();
            let answered = lessons.learn(&examples).is_ok();
            model.change(&numbers, Some(label), answered);
        }
    }
}
