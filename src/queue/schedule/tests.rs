use super::*;
use crate::mail::{Domain, SessionId};

mod fairness_tests;

const LIMITS: Limits = Limits { deliveries: 100, deliveries_per_destination: 10, scans: 4 };

fn id(number: u64) -> QueueId {
    SessionId::from_u64(number).unwrap().message(1)
}

fn host(name: &str) -> Host {
    Host::Domain(Domain::parse(name).unwrap())
}

fn at(seconds: u64) -> Timestamp {
    Timestamp(seconds * 1000)
}

/// Everything that may start now: how many for each host.
fn started(schedule: &mut Schedule, now: Timestamp) -> HashMap<Host, Vec<(QueueId, usize)>> {
    let mut started: HashMap<Host, Vec<_>> = HashMap::new();
    while let Some(picked) = schedule.pick_delivery(now) {
        let Picked::Deliver(id, slot) = picked else { panic!("{picked:?}") };
        let host = schedule.at(slot).host.clone();
        started.entry(host).or_default().push((id, slot));
    }
    started
}

/// What an attempt says that failed because of the host.
fn away(first_probe: Timestamp, now: Timestamp) -> Failure {
    Failure { since: now, first_probe, why: "refused".to_owned() }
}

/// A probe ends so, and is back.
fn probed(schedule: &mut Schedule, slot: usize, end: ProbeEnd, now: Timestamp) -> Option<OutageState> {
    let state = schedule.probe_over(slot, end, now, wait);
    schedule.probe_back(slot);
    state
}

/// So many minutes after so many failures.
fn wait(failures: u32) -> Duration {
    Duration::from_secs(60) * failures
}

#[test]
fn a_destination_with_a_hundred_thousand_due_delays_nobody() {
    let mut schedule = Schedule::new(LIMITS);
    let big = host("big.example");
    (0..100_000).for_each(|number| schedule.plan(id(number), &big, Some(at(0))));
    for number in 0..50 {
        schedule.plan(id(200_000 + number), &host(&format!("small{number}.example")), Some(at(1)));
    }
    let started = started(&mut schedule, at(2));
    assert_eq!(started[&big].len(), LIMITS.deliveries_per_destination);
    assert_eq!(started.len(), 51, "every small one started too");
}

#[test]
fn who_waits_is_read_in_pieces_in_the_order_of_arrival() {
    let mut schedule = Schedule::new(LIMITS);
    let host = host("a.example");
    // The later it came, the earlier it is due: the last ten go out.
    (0..40).for_each(|number| schedule.plan(id(number), &host, Some(at(100 - number))));
    assert_eq!(started(&mut schedule, at(100))[&host].len(), 10);
    let mut read = Vec::new();
    while let Some(last) = schedule.waiting(&host, read.last().copied(), 7).last() {
        let piece = schedule.waiting(&host, read.last().copied(), 7);
        assert!(piece.len() <= 7 && piece.last() == Some(last));
        read.extend(piece);
    }
    assert_eq!(read, (0..40).map(id).collect::<Vec<_>>());
    assert_eq!(schedule.waiting_count(&host), 40);
}

#[test]
fn places_in_all_are_shared_in_turn() {
    let mut schedule = Schedule::new(Limits { deliveries: 9, ..LIMITS });
    for number in 0..300 {
        schedule.plan(id(number), &host(["a.example", "b.example", "c.example"][number as usize % 3]), Some(at(0)));
    }
    let started = started(&mut schedule, at(0));
    assert!(started.values().all(|of_one| of_one.len() == 3), "{started:?}");
    assert_eq!(schedule.pick(at(0)), Picked::Nothing(None), "a place given back, not time, lets the next one start");
    let (first, slot) = started[&host("a.example")][0];
    schedule.give_back(first, slot, Back::Settled, true);
    assert!(matches!(schedule.pick(at(0)), Picked::Deliver(..)));
}

#[test]
fn oldest_due_goes_first_and_nothing_before_its_time() {
    let mut schedule = Schedule::new(LIMITS);
    schedule.plan(id(1), &host("a.example"), Some(at(30)));
    schedule.plan(id(2), &host("a.example"), Some(at(20)));
    schedule.plan(id(3), &host("b.example"), Some(at(25)));
    assert_eq!(schedule.pick(at(10)), Picked::Nothing(Some(at(20))));
    let Picked::Deliver(first, slot) = schedule.pick(at(40)) else { panic!("due") };
    let Picked::Deliver(second, _) = schedule.pick(at(40)) else { panic!("due") };
    assert_eq!((first, second), (id(2), id(3)), "in turn");
    // Planned anew: earlier, later, or no more.
    schedule.plan(id(1), &host("a.example"), None);
    schedule.give_back(id(2), slot, Back::Unsettled(at(50)), true);
    assert_eq!(schedule.pick(at(45)), Picked::Nothing(Some(at(50))));
    schedule.plan(id(2), &host("a.example"), Some(at(45)));
    assert_eq!(schedule.pick(at(45)), Picked::Deliver(id(2), slot));
}

#[test]
fn what_is_out_is_nobody_elses_and_comes_back_as_it_was_planned_last() {
    let mut schedule = Schedule::new(LIMITS);
    let a = host("a.example");
    schedule.plan(id(1), &a, Some(at(0)));
    let Picked::Deliver(_, slot) = schedule.pick(at(0)) else { panic!("due") };
    schedule.plan(id(1), &a, Some(at(0)));
    assert_eq!(schedule.pick(at(9)), Picked::Nothing(None), "it is out");
    schedule.plan(id(1), &a, Some(at(60)));
    schedule.give_back(id(1), slot, Back::Settled, true);
    assert_eq!(schedule.pick(at(9)), Picked::Nothing(Some(at(60))));
    let Picked::Deliver(_, slot) = schedule.pick(at(60)) else { panic!("due") };
    schedule.plan(id(1), &a, None);
    schedule.give_back(id(1), slot, Back::Settled, true);
    assert_eq!(schedule.pick(at(99)), Picked::Nothing(None));
    assert!(schedule.by_host.is_empty() && schedule.timers.is_empty(), "a destination without messages is forgotten");
}

#[test]
fn a_host_that_is_away_is_probed_for_all_and_its_backlog_drains_oldest_first_and_slowly() {
    let mut schedule = Schedule::new(LIMITS);
    let dead = host("dead.example");
    (0..1000).for_each(|number| schedule.plan(id(number), &dead, Some(at(0))));
    let out = started(&mut schedule, at(0)).remove(&dead).unwrap();
    assert_eq!(out.len(), 10);
    for (number, (id, slot)) in out.into_iter().enumerate() {
        let due = at(60 + number as u64);
        schedule.plan(id, &dead, Some(due));
        schedule.failed(slot, away(due, at(30)), at(30), wait);
        schedule.give_back(id, slot, Back::Settled, true);
        assert!(schedule.pick_same(slot, at(30)).is_none(), "no connection is used again");
    }
    assert_eq!(schedule.pick(at(59)), Picked::Nothing(Some(at(60))));
    let Picked::Probe(slot) = schedule.pick(at(60)) else { panic!("a probe") };
    assert_eq!(schedule.pick(at(60)), Picked::Nothing(None), "one only");
    assert_eq!(probed(&mut schedule, slot, ProbeEnd::Failed("refused".into()), at(62)), Some(OutageState::Suspect));
    assert_eq!(schedule.pick(at(181)), Picked::Nothing(Some(at(182))), "the next wait");
    assert!(schedule.is_behind_outage(id(999), &dead));
    assert_eq!(schedule.pick(at(182)), Picked::Probe(slot));
    assert_eq!(probed(&mut schedule, slot, ProbeEnd::Answered, at(182)), Some(OutageState::Draining));
    assert!(!schedule.is_behind_outage(id(999), &dead));
    // 1, 2, 4, 8, and then full speed, oldest due first.
    let mut order = Vec::new();
    for wave in [1, 2, 4, 8, 10, 10] {
        let out = started(&mut schedule, at(182)).remove(&dead).unwrap();
        assert_eq!(out.len(), wave);
        for (id, slot) in out {
            order.push(id);
            schedule.answered(slot, at(182));
            schedule.give_back(id, slot, Back::Settled, true);
        }
    }
    assert!(order.is_sorted(), "{order:?}");
    assert_eq!(schedule.outage(&dead), None);
}

#[test]
fn probes_take_no_delivery_place_and_are_bounded() {
    let mut schedule = Schedule::new(Limits { deliveries: 2, ..LIMITS });
    for number in 0..150 {
        schedule.plan(id(number), &host(&format!("h{number}.example")), Some(at(0)));
        let Picked::Deliver(id, slot) = schedule.pick(at(0)) else { panic!("due") };
        schedule.plan(id, &host(&format!("h{number}.example")), Some(at(60)));
        schedule.failed(slot, away(at(60), at(0)), at(0), wait);
        schedule.give_back(id, slot, Back::Settled, true);
    }
    let probes = std::iter::repeat_with(|| schedule.pick(at(60))).take_while(|picked| matches!(picked, Picked::Probe(_)));
    assert_eq!(probes.count(), PROBES_MAX);
    assert_eq!(schedule.pick(at(60)), Picked::Nothing(Some(at(70))), "the others a little later");
    schedule.plan(id(1000), &host("fine.example"), Some(at(60)));
    assert!(matches!(schedule.pick(at(60)), Picked::Deliver(..)));
}

#[test]
fn an_operators_retry_probes_at_once() {
    let mut schedule = Schedule::new(LIMITS);
    let dead = host("dead.example");
    schedule.plan(id(1), &dead, Some(at(0)));
    let Picked::Deliver(_, slot) = schedule.pick(at(0)) else { panic!("due") };
    schedule.plan(id(1), &dead, Some(at(900)));
    schedule.failed(slot, away(at(900), at(0)), at(0), wait);
    schedule.give_back(id(1), slot, Back::Settled, true);
    schedule.plan(id(1), &dead, Some(at(5)));
    assert_eq!(schedule.pick(at(5)), Picked::Nothing(Some(at(900))));
    schedule.probe_now(&dead, at(5));
    assert_eq!(schedule.pick(at(5)), Picked::Probe(slot));
    probed(&mut schedule, slot, ProbeEnd::Answered, at(6));
    assert_eq!(schedule.pick(at(6)), Picked::Deliver(id(1), slot));
}

#[test]
fn new_servers_end_an_outage_and_so_does_a_queue_without_mail() {
    for how in [End::NewServers, End::NothingWaits, End::Answers] {
        let mut schedule = Schedule::new(LIMITS);
        let dead = host("dead.example");
        (0..5).for_each(|number| schedule.plan(id(number), &dead, Some(at(0))));
        let Picked::Deliver(first, slot) = schedule.pick(at(0)) else { panic!("due") };
        schedule.plan(first, &dead, Some(at(60)));
        schedule.failed(slot, away(at(60), at(0)), at(0), wait);
        schedule.give_back(first, slot, Back::Settled, true);
        for moment in [at(60), at(200)] {
            assert_eq!(schedule.pick(moment), Picked::Probe(slot));
            probed(&mut schedule, slot, ProbeEnd::Failed("refused".into()), moment);
        }
        let stage = schedule.with_outage(&dead, |outage| outage.alert_due(at(86_400), at(200)));
        assert_eq!(stage, Some(Some(Stage::Began)));
        match how {
            End::NewServers => {
                schedule.has_new_servers(&dead, at(300));
                assert!(matches!(schedule.pick(at(300)), Picked::Deliver(..)));
                assert_eq!(schedule.pick(at(300)), Picked::Nothing(None), "slowly");
            }
            End::NothingWaits => (0..5).for_each(|number| schedule.plan(id(number), &dead, None)),
            End::Answers => {
                schedule.probe_now(&dead, at(300));
                assert_eq!(schedule.pick(at(300)), Picked::Probe(slot));
                probed(&mut schedule, slot, ProbeEnd::Answered, at(300));
                assert_eq!(schedule.take_ended(), [], "an answered probe proves nothing yet");
                schedule.answered(slot, at(300));
            }
        }
        assert_eq!(schedule.take_ended(), [Ended { host: dead, since: at(0), told: Stage::Began, how }]);
    }
}

#[test]
fn a_connection_goes_on_with_the_next_message_in_the_same_place() {
    let mut schedule = Schedule::new(Limits { deliveries: 2, deliveries_per_destination: 1, scans: 1 });
    let a = host("a.example");
    (1..=3).for_each(|number| schedule.plan(id(number), &a, Some(at(0))));
    let Picked::Deliver(_, slot) = schedule.pick(at(0)) else { panic!("due") };
    assert_eq!(schedule.pick_same(slot, at(0)), Some(id(2)));
    schedule.give_back(id(1), slot, Back::Settled, false);
    assert_eq!(schedule.pick(at(0)), Picked::Nothing(None), "its one place is still taken");
    schedule.give_back(id(2), slot, Back::Settled, true);
    assert_eq!(schedule.pick(at(0)), Picked::Deliver(id(3), slot));
    assert_eq!(schedule.running, 1);
}

#[test]
fn a_connection_makes_room_when_others_wait_for_a_place() {
    let mut schedule = Schedule::new(Limits { deliveries: 1, ..LIMITS });
    (1..=3).for_each(|number| schedule.plan(id(number), &host("a.example"), Some(at(0))));
    let Picked::Deliver(_, slot) = schedule.pick(at(0)) else { panic!("due") };
    assert_eq!(schedule.pick_same(slot, at(0)), Some(id(2)), "nobody else waits");
    schedule.plan(id(9), &host("b.example"), Some(at(0)));
    assert_eq!(schedule.pick_same(slot, at(0)), None);
}

#[test]
fn a_reload_changes_the_limits() {
    let mut schedule = Schedule::new(Limits { deliveries_per_destination: 1, ..LIMITS });
    let a = host("a.example");
    (0..10).for_each(|number| schedule.plan(id(number), &a, Some(at(0))));
    assert_eq!(started(&mut schedule, at(0))[&a].len(), 1);
    schedule.set_limits(LIMITS);
    assert_eq!(started(&mut schedule, at(0))[&a].len(), 9);
}

#[test]
fn scans_and_deliveries_take_turns() {
    let mut schedule = Schedule::new(LIMITS);
    (0..4).for_each(|number| schedule.scans.set(id(number), at(0)));
    (10..14).for_each(|number| schedule.plan(id(number), &host("a.example"), Some(at(0))));
    let kinds: String = (0..9)
        .map(|_| match schedule.pick(at(0)) {
            Picked::Scan(_) => 's',
            Picked::Deliver(..) => 'd',
            Picked::Probe(_) => 'p',
            Picked::Nothing(_) => '-',
        })
        .collect();
    assert_eq!(kinds, "sdsdsdsd-");
}

mod random {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Plan(u64, u8, Option<u64>),
        Pick,
        Same(usize),
        Back(usize, bool, Option<u64>),
        Away(usize, u64),
        Answer(usize),
        Probed(usize, bool),
        Wait(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..20u64, 0..4u8, proptest::option::of(0..100u64)).prop_map(|(id, host, due)| Step::Plan(id, host, due)),
            Just(Step::Pick),
            any::<usize>().prop_map(Step::Same),
            (any::<usize>(), any::<bool>(), proptest::option::of(0..100u64)).prop_map(|(n, s, due)| Step::Back(n, s, due)),
            (any::<usize>(), 0..50u64).prop_map(|(n, until)| Step::Away(n, until)),
            any::<usize>().prop_map(Step::Answer),
            (any::<usize>(), any::<bool>()).prop_map(|(n, answers)| Step::Probed(n, answers)),
            (0..30u64).prop_map(Step::Wait),
        ]
    }

    proptest! {
        /// Whatever happens in whatever order: limits hold, nothing is out twice, and all that is planned comes up in the end.
        #[test]
        fn nothing_is_lost_and_no_limit_broken(steps in proptest::collection::vec(step(), 0..200)) {
            let mut schedule = Schedule::new(Limits { deliveries: 5, deliveries_per_destination: 2, scans: 1 });
            let mut now = 0;
            let mut model: HashMap<(QueueId, Host), Option<Timestamp>> = HashMap::new();
            // id, slot, host, has a place
            let mut out: Vec<(QueueId, usize, Host, bool)> = Vec::new();
            let mut probes: Vec<usize> = Vec::new();
            for step in steps {
                match step {
                    Step::Plan(number, name, due) => {
                        let (id, host) = (id(number), host(&format!("h{name}.example")));
                        schedule.plan(id, &host, due.map(at));
                        model.insert((id, host), due.map(at));
                    }
                    Step::Pick => match schedule.pick(at(now)) { Picked::Deliver(id, slot) => {
                        let host = schedule.at(slot).host.clone();
                        prop_assert!(model.insert((id, host.clone()), None).flatten().is_some_and(|due| due <= at(now)));
                        out.push((id, slot, host, true));
                    }
                    Picked::Probe(slot) => probes.push(slot),
                    _ => {}
                    },
                    Step::Same(n) if !out.is_empty() => {
                        let n = n % out.len();
                        if let Some(id) = out[n].3.then(|| schedule.pick_same(out[n].1, at(now))).flatten() {
                            let (_, slot, host, _) = out[n].clone();
                            model.insert((id, host.clone()), None);
                            out[n].3 = false;
                            out.push((id, slot, host, true));
                        }
                    }
                    Step::Back(n, settled, due) if !out.is_empty() => {
                        let (id, slot, host, place) = out.swap_remove(n % out.len());
                        let back = if settled { Back::Settled } else { Back::Unsettled(at(due.unwrap_or(0))) };
                        if let Back::Unsettled(due) = back {
                            model.insert((id, host), Some(due));
                        }
                        schedule.give_back(id, slot, back, place);
                    }
                    Step::Away(n, until) if !out.is_empty() => {
                        let failure = away(at(now + until), at(now));
                        schedule.failed(out[n % out.len()].1, failure, at(now), wait);
                    }
                    Step::Answer(n) if !out.is_empty() => schedule.answered(out[n % out.len()].1, at(now)),
                    Step::Probed(n, answers) if !probes.is_empty() => {
                        let slot = probes.swap_remove(n % probes.len());
                        let end = if answers { ProbeEnd::Answered } else { ProbeEnd::Failed("refused".into()) };
                        probed(&mut schedule, slot, end, at(now));
                    }
                    Step::Wait(seconds) => now += seconds,
                    _ => {}
                }
                let places = out.iter().filter(|(.., place)| *place).count();
                prop_assert_eq!(schedule.running, places);
                prop_assert!(places <= 5);
                prop_assert_eq!(schedule.probing, probes.len());
                for slot in schedule.slots.iter().flatten() {
                    prop_assert!(slot.running <= 2);
                    prop_assert_eq!(slot.due.len(), slot.order.len());
                }
                let distinct: std::collections::HashSet<_> = out.iter().map(|(id, _, host, _)| (*id, host.clone())).collect();
                prop_assert_eq!(distinct.len(), out.len());
            }
            for (id, slot, _, place) in out {
                schedule.give_back(id, slot, Back::Settled, place);
            }
            let end = at(now + 10_000);
            let mut left: std::collections::HashSet<_> =
                model.into_iter().filter(|(_, due)| due.is_some()).map(|(key, _)| key).collect();
            for slot in probes {
                probed(&mut schedule, slot, ProbeEnd::Dropped(end), at(now));
            }
            loop {
                match schedule.pick(end) {
                    Picked::Deliver(id, slot) => {
                        prop_assert!(left.remove(&(id, schedule.at(slot).host.clone())));
                        schedule.answered(slot, end);
                        schedule.give_back(id, slot, Back::Settled, true);
                    }
                    Picked::Probe(slot) => {
                        probed(&mut schedule, slot, ProbeEnd::Answered, end);
                    }
                    _ => break,
                }
            }
            prop_assert!(left.is_empty(), "never came up: {:?}", left);
            prop_assert!(schedule.by_host.is_empty() && schedule.slots.iter().all(Option::is_none));
        }
    }
}

#[test]
fn a_host_with_too_many_connections_slows_down_and_the_last_one_refused_is_an_outage() {
    let mut schedule = Schedule::new(LIMITS);
    let busy = host("busy.example");
    (0..100).for_each(|number| schedule.plan(id(number), &busy, Some(at(0))));
    let mut out = started(&mut schedule, at(0)).remove(&busy).unwrap();
    let refused = |schedule: &mut Schedule, (id, slot): (QueueId, usize)| {
        let is_busy = schedule.refuses_some(slot, "421 4.3.2 too many".to_owned(), at(0));
        schedule.plan(id, &host("busy.example"), Some(at(60)));
        schedule.give_back(id, slot, Back::Settled, true);
        is_busy
    };
    assert!(refused(&mut schedule, out.pop().unwrap()));
    assert_eq!(schedule.pick_same(out[0].1, at(0)), None, "connections end until only half of them are left");
    out.drain(5..).for_each(|(id, slot)| schedule.give_back(id, slot, Back::Settled, true));
    assert_eq!(schedule.pick_delivery(at(0)), None, "half of the places are taken");
    assert!(schedule.pick_same(out[0].1, at(0)).is_some(), "these go on");
    // A place that was handed on is given back with the message that has it now.
    let (last, slot) = (out[0], out[0].1);
    schedule.give_back(last.0, slot, Back::Settled, false);
    for out in out.drain(1..) {
        assert!(refused(&mut schedule, out));
    }
    assert!(!schedule.refuses_some(slot, "421 4.3.2 too many".to_owned(), at(0)), "there is no other that could be too many");
    assert_eq!(schedule.outage(&busy).map(Outage::state), Some(OutageState::Busy), "up to the caller");
}
