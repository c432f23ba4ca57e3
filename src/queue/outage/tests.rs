use super::*;

const MINUTE: Duration = Duration::from_secs(60);
const FULL: usize = 10;

fn at(seconds: u64) -> Timestamp {
    Timestamp(seconds * 1000)
}

/// So many minutes after so many failures.
fn wait(failures: u32) -> Duration {
    MINUTE * failures
}

fn why() -> String {
    "refused".to_owned()
}

fn begun() -> Outage {
    Outage::begin(at(0), at(60), why())
}

#[derive(Clone, Copy, Debug)]
enum Happens {
    AttemptFails,
    ProbeFails,
    ProbeAnswered,
    Answered,
}

use Happens::*;

#[test]
fn what_happens_leads_from_state_to_state() {
    let table: &[(&[Happens], OutageState, Gate)] = &[
        (&[], OutageState::Suspect, Gate::Probe(at(60))),
        (&[AttemptFails, AttemptFails, AttemptFails], OutageState::Suspect, Gate::Probe(at(60))),
        (&[ProbeFails], OutageState::Suspect, Gate::Probe(at(1000 + 120))),
        (&[ProbeFails, ProbeFails], OutageState::Down, Gate::Probe(at(1000 + 180))),
        (&[ProbeFails, ProbeFails, ProbeFails], OutageState::Down, Gate::Probe(at(1000 + 240))),
        (&[ProbeAnswered], OutageState::Draining, Gate::Places(1)),
        (&[ProbeFails, ProbeFails, ProbeAnswered], OutageState::Draining, Gate::Places(1)),
        // It answers the probe and takes nothing: back pressure. The waits go on growing.
        (&[ProbeAnswered, AttemptFails], OutageState::Suspect, Gate::Probe(at(1000 + 120))),
        (&[ProbeAnswered, AttemptFails, ProbeAnswered, AttemptFails], OutageState::Down, Gate::Probe(at(1000 + 180))),
        // A failure after an answer is another outage.
        (&[ProbeFails, ProbeFails, ProbeAnswered, Answered, AttemptFails], OutageState::Suspect, Gate::Probe(at(60))),
        (&[Answered], OutageState::Draining, Gate::Places(1)),
        (&[ProbeAnswered, Answered], OutageState::Draining, Gate::Places(2)),
        (&[ProbeAnswered, Answered, Answered], OutageState::Draining, Gate::Places(2)),
        (&[ProbeAnswered, Answered, Answered, Answered], OutageState::Draining, Gate::Places(4)),
        // A probe that ends after a delivery was answered for changes nothing.
        (&[Answered, ProbeFails], OutageState::Draining, Gate::Places(1)),
    ];
    for (events, state, gate) in table {
        let mut outage = begun();
        for event in *events {
            match event {
                AttemptFails => outage.attempt_failed(at(1000), at(60), why(), wait),
                ProbeFails => outage.probe_failed(at(1000), why(), wait),
                ProbeAnswered => outage.probe_answered(),
                Answered => {
                    outage.answered(FULL);
                }
            }
        }
        assert_eq!((outage.state(), outage.gate()), (*state, *gate), "after {events:?}");
    }
}

#[test]
fn a_drain_doubles_up_to_full_speed_and_says_once_that_it_is_over() {
    let mut outage = begun();
    outage.probe_answered();
    assert!(!outage.is_over(), "an answered probe proves nothing");
    let answers: Vec<Answer> = std::iter::repeat_with(|| outage.answered(FULL)).take(15).collect();
    assert_eq!(answers.iter().filter(|answer| **answer == Answer::Over).count(), 1);
    // 1 + 2 + 4 + 8
    assert_eq!(answers.iter().position(|answer| *answer == Answer::Up), Some(14));
    let mut single = begun();
    single.probe_answered();
    assert_eq!([single.answered(1), single.answered(1)], [Answer::Over, Answer::Up]);
}

#[test]
fn only_one_probe_is_out_and_an_operator_gets_one_for_one_question() {
    let mut outage = begun();
    outage.probe_now(at(30));
    assert_eq!(outage.gate(), Gate::Probe(at(30)));
    outage.probe_begins(at(30));
    assert_eq!(outage.gate(), Gate::Shut);
    outage.probe_failed(at(31), why(), wait);
    outage.probe_now(at(30));
    assert_eq!(outage.gate(), Gate::Probe(at(31 + 120)), "answered already");
    outage.probe_now(at(40));
    assert_eq!(outage.gate(), Gate::Probe(at(40)));
    outage.probe_later(at(50));
    outage.probe_by(at(45));
    outage.probe_by(at(99));
    assert_eq!(outage.gate(), Gate::Probe(at(45)));
}

#[test]
fn who_asks_while_a_probe_is_out_gets_another_one_after_it() {
    let mut outage = begun();
    outage.probe_begins(at(30));
    outage.probe_now(at(40));
    outage.probe_now(at(40));
    assert_eq!(outage.gate(), Gate::Shut);
    outage.probe_failed(at(60), why(), wait);
    assert_eq!(outage.gate(), Gate::Probe(at(60)));
    outage.probe_begins(at(60));
    outage.probe_now(at(40));
    outage.probe_failed(at(61), why(), wait);
    assert_eq!(outage.gate(), Gate::Probe(at(61 + 180)), "and only one");
}

#[test]
fn alerts_come_once_each_at_the_start_at_half_and_at_nine_tenths() {
    let mut outage = begun();
    let end = at(1000);
    assert_eq!(outage.alert_due(end, at(999)), None, "suspect is no outage yet");
    outage.probe_failed(at(60), why(), wait);
    outage.probe_failed(at(120), why(), wait);
    let told: Vec<_> = (0..=10).map(|tenth| outage.alert_due(end, at(120 + tenth * 88))).collect();
    let came: Vec<_> = told.iter().flatten().collect();
    assert_eq!(came, [&Stage::Began, &Stage::Half, &Stage::Nearly]);
    assert_eq!((told[0], told[4], told[5]), (Some(Stage::Began), None, Some(Stage::Half)));
    assert_eq!(outage.next_alert(end), None);
}

#[test]
fn an_alert_that_is_late_comes_as_the_last_one_that_is_due() {
    let mut outage = Outage::recalled(at(0), at(60), why(), Stage::Began, at(700));
    assert_eq!(outage.state(), OutageState::Down, "it was told of before the restart");
    assert_eq!(outage.next_alert(at(1000)), Some(at(500)));
    assert_eq!(outage.alert_due(at(1000), at(950)), Some(Stage::Nearly));
    assert_eq!(outage.alert_due(at(1000), at(999)), None);
}

#[test]
fn a_short_outage_before_a_restart_is_suspect_and_a_long_one_down() {
    let recalled = |seconds| Outage::recalled(at(0), at(0), why(), Stage::Untold, at(seconds)).state();
    assert_eq!((recalled(60), recalled(3600)), (OutageState::Suspect, OutageState::Down));
}

#[test]
fn a_clock_stands_still_only_while_its_message_waited() {
    let mut stops = Stops::default();
    stops.add(at(100), at(200));
    stops.add(at(300), at(350));
    assert_eq!([0, 150, 250, 320, 400].map(|received| stops.after(at(received)).as_secs()), [150, 100, 50, 30, 0]);
    (0..100).for_each(|number| stops.add(at(1000 + number), at(1000 + number)));
    assert_eq!(stops.after(at(0)), Duration::ZERO, "bounded");
}

#[test]
fn a_busy_host_gets_half_as_many_and_then_one_more_each_time() {
    let mut outage = Outage::busy(at(0), why(), 10);
    assert_eq!((outage.state(), outage.gate()), (OutageState::Busy, Gate::Places(5)));
    // What was out before ends: nothing new.
    assert!(outage.refuses_some(at(1), why(), 9) && outage.refuses_some(at(1), why(), 6));
    assert_eq!(outage.gate(), Gate::Places(5));
    assert!(outage.refuses_some(at(2), why(), 5));
    assert_eq!((outage.gate(), outage.since), (Gate::Places(2), at(0)));
    let gates: Vec<_> = (0..5).map(|_| (outage.answered(4), outage.gate())).collect();
    assert_eq!(gates[..2], [(Answer::Noted, Gate::Places(2)), (Answer::Noted, Gate::Places(3))]);
    assert_eq!(gates[4].0, Answer::Up, "full speed");
    assert!(outage.alert_due(at(9), at(10)).is_none() && !outage.is_known(), "it is not away");
}

#[test]
fn a_host_that_was_away_is_away_whatever_it_says() {
    let mut outage = begun();
    assert!(!outage.refuses_some(at(1), why(), 4));
    outage.probe_answered();
    assert!(!outage.refuses_some(at(1), why(), 4), "back pressure");
    outage.answered(FULL);
    outage.answered(FULL);
    outage.answered(FULL);
    assert_eq!(outage.gate(), Gate::Places(4));
    assert!(outage.refuses_some(at(2), why(), 4));
    assert_eq!((outage.state(), outage.gate()), (OutageState::Busy, Gate::Places(2)), "it drained, and that was too fast");
    outage.attempt_failed(at(3), at(60), why(), wait);
    assert_eq!((outage.state(), outage.gate()), (OutageState::Suspect, Gate::Probe(at(60))));
}

#[test]
fn limits_of_connections_are_told_from_other_troubles() {
    for reply in [
        "421 4.3.2 The maximum number of concurrent connections has exceeded a limit, closing transmission channel",
        "421 4.3.2 Connection rate limit exceeded.",
        "421 4.7.0 mx.customer.example Error: too many connections from 192.0.2.1",
        "421 Too many concurrent SMTP connections; please try again later.",
        "451 4.7.500 Server busy. Please try again later from [192.0.2.1].",
        "554 mx.customer.example too many connections",
    ] {
        assert!(is_too_much(reply), "{reply}");
    }
    for reply in [
        "cannot connect: too many connections",
        "421 4.4.1 Connection timed out",
        "432 4.3.2 STOREDRV.Deliver; recipient thread limit exceeded",
        "452 4.3.1 Insufficient system resources",
        "452 4.5.3 Too many recipients",
        "451 4.7.1 Greylisted",
        "450 4.2.2 mailbox full",
        "",
        "4",
        "\u{fc}\u{fc} too many connections",
    ] {
        assert!(!is_too_much(reply), "{reply}");
    }
}
