//! How long others wait because of one: a day in the life of the schedule, event by event, with a clock of its own.

use std::collections::BinaryHeap;

use super::*;

/// As the settings have it by default.
const PLACES: Limits = Limits { deliveries: 200, deliveries_per_destination: 10, scans: 4 };
/// What the schedule does not decide: how long a delivery takes, in milliseconds.
const DELIVERY: u64 = 300;
/// A host that hangs: until the client gives up.
const HANGS: u64 = 5 * 60 * 1000;
/// Other domains, and how often each gets a message.
const OTHERS: u64 = 50;
const EVERY: u64 = 700;
/// How long mail comes in.
const LASTS: u64 = 20 * 60 * 1000;

/// What the one domain is like that could be in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    None,
    /// 100,000 messages wait from the start.
    Backlog,
    /// It accepts connections and says nothing; 100,000 messages wait.
    Hangs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrives(u64),
    Delivered(QueueId, usize),
    GivesUp(QueueId, usize),
    ProbeGivesUp(usize),
}

/// The median time from arrival to delivery of the other domains' messages, in milliseconds.
fn median_wait(trouble: Trouble) -> u64 {
    let mut schedule = Schedule::new(PLACES);
    let troubled = host("troubled.example");
    let others: Vec<_> = (0..OTHERS).map(|number| host(&format!("other{number}.example"))).collect();
    let mut events = BinaryHeap::new();
    let push = |events: &mut BinaryHeap<_>, at: u64, event| events.push(std::cmp::Reverse((at, event)));
    let mut arrived: HashMap<QueueId, u64> = HashMap::new();
    if trouble != Trouble::None {
        (0..100_000).for_each(|number| schedule.plan(id(10_000_000 + number), &troubled, Some(Timestamp(0))));
    }
    for number in 0..OTHERS * LASTS / EVERY {
        // Not all at the same moment, and always the same.
        push(&mut events, number * EVERY / OTHERS + number * 7_919 % 200, Event::Arrives(number));
    }
    let mut waits = Vec::new();
    while let Some(std::cmp::Reverse((now, event))) = events.pop() {
        let moment = Timestamp(now);
        match event {
            Event::Arrives(number) => {
                arrived.insert(id(number), now);
                schedule.plan(id(number), &others[(number % OTHERS) as usize], Some(moment));
            }
            Event::Delivered(id, slot) => {
                waits.extend(arrived.remove(&id).map(|arrived| now - arrived));
                schedule.answered(slot, moment);
                schedule.give_back(id, slot, Back::Settled, true);
            }
            Event::GivesUp(id, slot) => {
                schedule.failed(slot, away(moment + wait(1), moment), moment, wait);
                schedule.give_back(id, slot, Back::Unsettled(moment + wait(1)), true);
            }
            Event::ProbeGivesUp(slot) => {
                probed(&mut schedule, slot, ProbeEnd::Failed("no answer".into()), moment);
            }
        }
        loop {
            match schedule.pick(moment) {
                Picked::Deliver(id, slot) if trouble == Trouble::Hangs && *schedule.host(slot) == troubled => {
                    push(&mut events, now + HANGS, Event::GivesUp(id, slot));
                }
                Picked::Deliver(id, slot) => push(&mut events, now + DELIVERY, Event::Delivered(id, slot)),
                Picked::Probe(slot) => push(&mut events, now + HANGS, Event::ProbeGivesUp(slot)),
                Picked::Scan(_) | Picked::Nothing(_) => break,
            }
        }
        if waits.len() as u64 == OTHERS * LASTS / EVERY {
            break;
        }
    }
    assert_eq!(waits.len() as u64, OTHERS * LASTS / EVERY, "all were delivered");
    waits.sort_unstable();
    waits[waits.len() / 2]
}

#[test]
fn neither_a_backlog_nor_a_host_that_hangs_slows_the_median_of_the_others_by_a_twentieth() {
    let undisturbed = median_wait(Trouble::None);
    assert!(undisturbed >= DELIVERY);
    for trouble in [Trouble::Backlog, Trouble::Hangs] {
        let disturbed = median_wait(trouble);
        assert!(disturbed * 100 < undisturbed * 105, "{trouble:?}: {undisturbed} ms became {disturbed} ms");
    }
}

/// The same where places in all are scarce: 12 of them, and 50 other domains need about 21 at a time at their busiest.
#[test]
fn a_backlog_gets_no_more_turns_than_any_other_when_places_are_scarce() {
    let mut schedule = Schedule::new(Limits { deliveries: 12, ..PLACES });
    let troubled = host("troubled.example");
    (0..100_000).for_each(|number| schedule.plan(id(10_000_000 + number), &troubled, Some(at(0))));
    let mut turns = 0;
    for round in 0..1_000u64 {
        for number in 0..20 {
            schedule.plan(id(round * 20 + number), &host(&format!("other{number}.example")), Some(at(round)));
        }
        for _ in 0..21 {
            let Picked::Deliver(id, slot) = schedule.pick(at(round)) else { panic!("something is due") };
            turns += usize::from(*schedule.host(slot) == troubled);
            schedule.give_back(id, slot, Back::Settled, true);
        }
    }
    assert!((900..=1_100).contains(&turns), "{turns} of 1000 rounds");
}
