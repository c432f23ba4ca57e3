//! The local layer changes what it says and nothing else; a judgement counted again under the same rules is the same; what is
//! kept of judged mail is found again, and gone when its time is over.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use feedgate::admin::replay::{Levels, ReplayOrder};
use feedgate::mail::{
    Client, Decision, Envelope, IdSource, Judgement, MailParameters, Protocol, Recipient, ReversePath, SpamLevel, Timestamp,
    Verdict,
};
use feedgate::spam::{
    Assessment, Change, Engine, Explanation, Facts, Mode, Rehearsal, Replay, RuleFile, RuleSources, Thresholds, Vector,
};
use feedgate::store::{RealDisk, Store, StoreSettings};

use crate::world::{World, domain};

const NOW: Timestamp = Timestamp(1_795_214_160_000);

const LEVELS: &str = "[thresholds]\nlow = 2.0\nmed = 3.0\nhigh = 4.0\n";

fn rule(id: &str, points: &str, word: &str, more: &str) -> String {
    format!(
        "[[rule]]\nid = \"{id}\"\npoints = {points}\nwhy = \"A word.\"\nwhen = {{ body = '{word}' }}\nhit = [\"{word}\"]\n\
         miss = [\"x\"]\n{more}\n"
    )
}

/// Two families: `words` with a cap of 2.5 (ONE 2.0, TWO 1.5) and `free` (THREE 1.1, FOUR -0.6).
fn sources(local: &[(&str, &str)]) -> RuleSources {
    let file = |(name, text): (&str, String)| RuleFile { name: name.to_owned(), text };
    let words = format!("cap = 2.5\n{}{}", rule("ONE", "2.0", "one", ""), rule("TWO", "1.5", "two", ""));
    let free = format!("{}{}", rule("THREE", "1.1", "three", ""), rule("FOUR", "-0.6", "four", ""));
    RuleSources {
        levels: LEVELS.to_owned(),
        families: vec![file(("words", words)), file(("free", free))],
        local: local.iter().map(|(name, text)| file((name, (*text).to_owned()))).collect(),
    }
}

#[track_caller]
fn engine(local: &str) -> Engine {
    Engine::from_sources(sources(&[("local", local)])).unwrap_or_else(|errors| panic!("{errors}"))
}

fn envelope(at: Timestamp) -> Envelope {
    Envelope {
        id: IdSource::new(None).next(at).message(1),
        received_at: at,
        client: Client {
            address: "192.0.2.1".parse().unwrap(),
            reverse_name: Some("mail.example.net".parse().unwrap()),
            reverse_confirmed: true,
            helo: "mail.example.net".to_owned(),
            protocol: Protocol::Esmtp,
            tls: None,
            findings: Vec::new(),
        },
        reverse_path: "bounce@mail.example.net".parse::<ReversePath>().unwrap(),
        parameters: MailParameters::default(),
        recipients: vec![Recipient::new("joe@customer.example".parse().unwrap())],
        size: 100,
    }
}

fn assess(engine: &Engine, message: &str) -> Assessment {
    engine.assess(&Facts::gather(&envelope(NOW), message.as_bytes()))
}

fn judgement(assessment: &Assessment) -> Judgement {
    Judgement {
        at: NOW,
        verdict: Verdict::Clean,
        score: assessment.score,
        level: assessment.level,
        hits: assessment.hits.clone(),
        authentication: Default::default(),
        domains: Vec::new(),
    }
}

/// As the gateway keeps it.
fn vector(assessment: &Assessment, at: Timestamp) -> Vector {
    let envelope = envelope(at);
    let mut vector = Vector::judged(&envelope, at, assessment);
    vector.decided(&envelope, &judgement(assessment), &[Decision::DeliverMarked]);
    vector
}

/// `hits` as `RULE points` in their order.
#[track_caller]
fn check(local: &str, message: &str, hits: &str, score: f32, level: SpamLevel) {
    let assessment = assess(&engine(local), message);
    let found: Vec<String> = assessment.hits.iter().map(|hit| format!("{} {}", hit.rule, hit.points)).collect();
    assert_eq!((found.join(", ").as_str(), assessment.score, assessment.level), (hits, score, level), "{local}");
}

#[test]
fn the_table_of_local_changes() {
    use SpamLevel::{High, Low, Med, None as Nothing};
    let all = "\r\none two three four";
    check("", all, "ONE 2, THREE 1.1, TWO 0.5, FOUR -0.6", 3.0, Med);
    check("[rule.ONE]\npoints = 1.0", all, "TWO 1.5, THREE 1.1, ONE 1, FOUR -0.6", 3.0, Med);
    check("[rule.ONE]\noff = true", all, "TWO 1.5, THREE 1.1, FOUR -0.6", 2.0, Low);
    check("[rule.ONE]\nshadow = true", all, "TWO 1.5, THREE 1.1, ONE 0, FOUR -0.6", 2.0, Low);
    check("[family.words]\ncap = 9", all, "ONE 2, TWO 1.5, THREE 1.1, FOUR -0.6", 4.0, High);
    check("[levels]\nmed = 3.1", all, "ONE 2, THREE 1.1, TWO 0.5, FOUR -0.6", 3.0, Low);
    check(
        "[rule.FIVE]\npoints = 2\nwhy = \"A word.\"\nwhen = { body = 'five' }\nhit = [\"five\"]\nmiss = [\"x\"]",
        "\r\nfive",
        "FIVE 2",
        2.0,
        Low,
    );
    check(&rule("ONE", "3.0", "uno", "replace = true"), "\r\none", "", 0.0, Nothing);
    check(&rule("ONE", "3.0", "uno", "replace = true"), "\r\nuno", "ONE 2.5", 2.5, Low);
}

#[test]
fn all_mistakes_of_the_local_layer_are_told_at_once() {
    let first = "unknown = 1\n[rule.ONE]\npoints = 1\n[rule.ONEE]\noff = true\n[rule.TWO]\npoints = 5000\n[rule.THREE]\n\
                 [rule.FOUR]\noff = true\nshadow = true\n[family.word]\ncap = 1\n[family.free]\ncap = 0\n[levels]\nlow = 9.0\n";
    let second =
        "[rule.ONE]\npoints = 2\n[rule.NEW]\npoints = 1\nwhen = { body = 'x' }\n[levels]\nlow = 1.0\n[rule.FOUR]\ncolour = 1\n";
    let third = format!("{}{}", rule("TWO", "1", "x", ""), rule("ZWEI", "1", "x", "replace = true"));
    let files = [("a", first), ("b", second), ("c", third.as_str()), ("d", "[rule")];
    let errors = Engine::from_sources(sources(&files)).err().expect("it is full of mistakes").to_string();
    for part in [
        "rules.d/a.toml: unknown key `unknown`",
        "rules.d/a.toml: ONEE: there is no rule of this name; did you mean ONE?",
        "rules.d/a.toml: TWO: points are",
        "rules.d/a.toml: THREE: nothing is changed",
        "rules.d/a.toml: FOUR: is either off or in shadow",
        "rules.d/a.toml: there is no family word; did you mean words?",
        "rules.d/a.toml: family free: cap must be",
        "rules.d/a.toml: levels: thresholds must",
        "rules.d/b.toml: ONE: was already changed in rules.d/a.toml",
        "rules.d/b.toml: NEW: missing field `why`",
        "rules.d/b.toml: levels: was already changed in rules.d/a.toml",
        "rules.d/b.toml: FOUR: unknown field `colour`",
        "rules.d/c.toml: TWO: this id is taken; `replace = true`",
        "rules.d/c.toml: ZWEI: `replace`, but there is no rule",
        "rules.d/d.toml: line 1",
    ] {
        assert!(errors.contains(part), "{part:?} is not among:\n{errors}");
    }
    assert_eq!(errors.lines().count(), 15, "{errors}");
}

#[test]
fn a_list_knows_what_is_local() {
    let rules = engine("[rule.ONE]\npoints = 1.0\n[rule.TWO]\nshadow = true").rules();
    let one = rules.iter().find(|rule| rule.id == "ONE").unwrap();
    assert_eq!((one.points, one.shipped_points, one.local.as_deref()), (1.0, Some(2.0), Some("rules.d/local.toml")));
    assert_eq!(rules.iter().find(|rule| rule.id == "TWO").unwrap().mode, Mode::Shadow);
    assert_eq!(rules.iter().find(|rule| rule.id == "THREE").unwrap().local, None);
}

#[test]
fn a_directory_beside_the_configuration_is_the_local_layer() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("feedgate.toml");
    fs::write(&file, "hostname = \"mx1.isp.example\"\n").unwrap();
    assert_eq!(feedgate::config::Config::load(&file).unwrap().rules_local, None);
    fs::create_dir(directory.path().join("rules.d")).unwrap();
    fs::write(directory.path().join("rules.d/mine.toml"), "[rule.LINK_TO_ADDRESS]\npoints = 1.0\n").unwrap();
    let local = feedgate::config::Config::load(&file).unwrap().rules_local.expect("it is there now");
    let engine = Engine::configured(None, Some(&local)).unwrap_or_else(|errors| panic!("{errors}"));
    assert!(engine.rules().iter().any(|rule| rule.local.as_deref() == Some("rules.d/mine.toml")));
    fs::write(&file, "hostname = \"mx1.isp.example\"\nrules_local = \"elsewhere\"\n").unwrap();
    let named = feedgate::config::Config::load(&file).unwrap().rules_local.unwrap();
    assert!(Engine::configured(None, Some(&named)).is_err(), "one that is named must be there");
}

/// Every sample message, and those with all rules at odds.
fn samples() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mail");
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let messages = paths.filter(|path: &PathBuf| path.extension().is_some_and(|ending| ending == "eml"));
    messages.map(|path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned()).collect()
}

#[test]
fn a_judgement_counted_again_is_the_same() {
    let engine = Engine::builtin();
    let mut rehearsal = Rehearsal::new(engine.clone(), engine.clone(), None, 10);
    let samples = samples();
    for sample in &samples {
        let assessment = assess(&engine, sample);
        let kept = serde_json::to_vec(&vector(&assessment, NOW)).unwrap();
        assert!(kept.len() < 1500, "{} bytes", kept.len());
        let vector: Vector = serde_json::from_slice(&kept).unwrap();
        assert_eq!(engine.recount(&vector.fired()), (assessment.score, assessment.level));
        assert_eq!(engine.recount(&assessment.fired), (assessment.score, assessment.level));
        rehearsal.add(&vector);
        rehearsal.add_judged(&vector, &assessment);
    }
    let replay = rehearsal.finish();
    assert_eq!((replay.messages, replay.drifted), (2 * samples.len() as u64, 0));
    assert!(replay.domains.iter().all(|domain| domain.shifts.is_empty()), "{replay:?}");
}

/// Counting old hits under other numbers is what judging with them would have given.
#[test]
fn a_rehearsal_is_what_judging_would_give() {
    let before = engine("");
    let words = ["one", "two", "three", "four"];
    let locals = [
        "[rule.ONE]\npoints = 0.3\n[rule.FOUR]\npoints = 1.9",
        "[rule.TWO]\noff = true",
        "[rule.TWO]\nshadow = true\n[family.words]\ncap = 1.0",
        "[levels]\nlow = 0.5\nmed = 0.6\nhigh = 0.7",
    ];
    for local in locals {
        let after = engine(local);
        for chosen in 0..16 {
            let said: Vec<&str> = (0..4).filter(|bit| chosen >> bit & 1 == 1).map(|bit| words[bit]).collect();
            let message = format!("\r\n{}", said.join(" "));
            let (then, now) = (assess(&before, &message), assess(&after, &message));
            assert_eq!(after.recount(&vector(&then, NOW).fired()), (now.score, now.level), "{local}: {said:?}");
        }
    }
}

fn rehearse(before: &Engine, after: &Engine, messages: &[&str]) -> Replay {
    let mut rehearsal = Rehearsal::new(before.clone(), after.clone(), None, 10);
    messages.iter().for_each(|message| rehearsal.add(&vector(&assess(before, message), NOW)));
    rehearsal.finish()
}

#[test]
fn a_rehearsal_says_what_changes_and_why() {
    let before = engine("[rule.TWO]\nshadow = true");
    let change = Change { points: vec![("ONE".to_owned(), 1.0)], levels: None };
    let replay = rehearse(&before, &before.changed(&change).unwrap(), &["\r\none", "\r\none two", "\r\nthree"]);
    assert_eq!((replay.messages, replay.domains[0].messages), (3, 3));
    let shift = replay.domains[0].shifts[0];
    assert_eq!((shift.from, shift.to, shift.messages), (SpamLevel::Low, SpamLevel::None, 2));
    let example = &replay.examples[0];
    assert_eq!((example.score_from, example.score_to, example.by.as_slice()), (2.0, 1.0, &["ONE 2 → 1".to_owned()][..]));
    let shadow = &replay.shadow[0];
    assert_eq!((shadow.rule.as_str(), shadow.hits, shadow.changes), ("TWO", 1, 1));
}

#[test]
fn what_cannot_be_rehearsed_is_named() {
    let local = format!("{}{}", rule("ONE", "2.0", "uno", "replace = true"), rule("NEW", "9.0", "new", ""));
    let after = engine(&local);
    let replay = rehearse(&engine("[rule.TWO]\noff = true"), &after, &["\r\none new"]);
    let unknown: Vec<_> = replay.unknown.iter().map(|unknown| unknown.rule.as_str()).collect();
    assert_eq!(unknown, ["ONE", "TWO", "NEW"]);
    // With the message itself it can be.
    let before = engine("");
    let judged = vector(&assess(&before, "\r\none new"), NOW);
    let mut rehearsal = Rehearsal::new(before, after.clone(), None, 10);
    rehearsal.add_judged(&judged, &assess(&after, "\r\none new"));
    let replay = rehearsal.finish();
    assert_eq!(replay.examples[0].by, ["ONE 2 → 0", "NEW 0 → 9"]);
    assert_eq!(replay.examples[0].to, SpamLevel::High);
}

#[test]
fn a_change_that_cannot_be_is_refused() {
    let engine = engine("");
    let points = |id: &str, points| Change { points: vec![(id.to_owned(), points)], levels: None };
    let error = |change: Change| engine.changed(&change).err().expect("a mistake").to_string();
    assert_eq!(error(points("THREEE", 1.0)), "there is no rule THREEE; did you mean THREE?");
    assert!(error(points("ONE", f32::NAN)).contains("points are"));
    let levels = Some(Thresholds { low: 3.0, med: 2.0, high: 4.0 });
    assert!(error(Change { points: Vec::new(), levels }).contains("rise"));
}

#[test]
fn an_explanation_says_what_would_change_the_level() {
    let engine = engine("[rule.FOUR]\nshadow = true");
    let explain = |message: &str| {
        let assessment = assess(&engine, message);
        Explanation::new(&engine, assessment.score, assessment.level, &assessment.hits, Some(&assessment.fired))
    };
    let explained = explain("\r\none two three four");
    assert_eq!((explained.score, explained.level), (3.6, SpamLevel::Med));
    let cut = &explained.cuts[0];
    assert_eq!((cut.family.as_str(), cut.cap, cut.points), ("words", Some(2.5), 1.0));
    assert_eq!(explained.up.map(|up| (up.level, up.points)), Some((SpamLevel::High, 0.4)));
    assert_eq!(explained.down.map(|down| (down.level, down.points)), Some((SpamLevel::Low, 0.61)));
    assert_eq!(explained.turns, ["without any one of ONE, THREE it would be low"]);
    let places: Vec<&str> = explained.reasons.iter().map(|reason| reason.place.as_str()).collect();
    assert_eq!(places, ["body"; 4]);
    assert!(explained.reasons[3].shadow && explained.reasons[3].evidence.starts_with("[shadow -0.6]"), "{explained:?}");
    assert_eq!(
        explain("\r\none four").turns,
        ["without ONE it would be none", "with FOUR, which is in shadow, it would be none"]
    );
    assert!(explain("\r\nx").turns.is_empty());
}

#[tokio::test]
async fn vectors_are_kept_found_and_swept() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_owned();
    let settings = StoreSettings { reserve: 0, ..StoreSettings::default() };
    let open = move || Store::open(&path, Arc::new(RealDisk), settings);
    let (store, _) = tokio::task::spawn_blocking(open).await.unwrap().unwrap();
    let assessment = assess(&engine(""), "From: a@sender.example\r\n\r\none two");
    let ids: Vec<_> = (0..5u64).map(|hour| Timestamp(NOW.0 + hour * 3_600_000)).collect();
    for at in &ids {
        let envelope = envelope(*at);
        store.vectors().judged(Vector::judged(&envelope, *at, &assessment));
        store.vectors().decided(&envelope, &judgement(&assessment), &[Decision::DeliverMarked]);
    }
    let first = envelope(NOW).id;
    let found = store.vectors().get(first).await.expect("it was judged");
    assert_eq!((found.score, found.level, found.domains.len()), (2.5, SpamLevel::Low, 1));
    assert_eq!(found.author.map(|author| author.to_string()).as_deref(), Some("sender.example"));
    let (page, more) = store.vectors().since(ids[1], None, 3).await;
    assert_eq!((page.len(), page[0].at), (3, ids[1]));
    let (rest, end) = store.vectors().since(ids[1], more, 3).await;
    assert_eq!((rest.len(), end), (1, None));
    assert_eq!(store.vectors().sweep(ids[2]).await, 2);
    assert!(store.vectors().get(first).await.is_none());
    tokio::task::spawn_blocking(move || store.close()).await.unwrap();
}

const SPAM: &str = "From: Joe <joe@sender.example>\r\nTo: jane@customer.example\r\nSubject: hello\r\n\r\n\
                    YJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X\r\n";

fn order(change: &[(&str, f32)]) -> ReplayOrder {
    let points = change.iter().map(|(rule, points)| ((*rule).to_owned(), *points)).collect();
    ReplayOrder { since: "7d".to_owned(), examples: 5, points, ..ReplayOrder::default() }
}

#[tokio::test]
async fn a_message_that_went_through_is_explained_and_rehearsed() {
    let spam = "[domains.\"customer.example\".spam]\nenabled = true\nmed = \"quarantine\"\n";
    let world = World::new(&domain("customer.example", &["203.0.113.5"], spam)).await;
    let id = world.take(&["jane@customer.example"], SPAM).await;
    world.until("the quarantine", async || (world.status(id).await == "quarantined").then_some(())).await;
    let operations = world.operations();

    let explained = operations.spam_explain(id).await.unwrap();
    assert_eq!(explained.explanation.level, SpamLevel::Med, "{explained:?}");
    let test = &explained.explanation.reasons[0];
    assert!(test.evidence.starts_with("yjs*c4jdbq") || test.evidence.starts_with("YJS*C4JDBQ"), "{test:?}");
    let domain = &explained.domains[0];
    assert_eq!(domain.decision, "quarantine");
    assert!(domain.setting.starts_with("spam.med = \"quarantine\" (the domain's own, in "), "{}", domain.setting);

    // Judged anew: a new rule that only the message itself can tell about.
    let local = "[rule.HELLO]\npoints = 20\nwhy = \"It greets.\"\nwhen = { subject = 'hello' }\n\
                 hit = [\"Subject: hello\"]\nmiss = [\"Subject: x\"]\n";
    let local = Some(vec![RuleFile { name: "mine".to_owned(), text: local.to_owned() }]);
    let found = operations.spam_replay_queue(ReplayOrder { local, ..order(&[]) }).await.unwrap();
    let example = &found.replay.examples[0];
    assert_eq!((found.replay.messages, found.left_out, example.id, example.to), (1, 0, id, SpamLevel::High), "{found:?}");
    assert!(found.replay.unknown.is_empty(), "with the message itself nothing is unknown");
}

#[tokio::test]
async fn mail_that_is_gone_is_explained_and_rehearsed() {
    let spam = "[domains.\"customer.example\".spam]\nenabled = true\n";
    let world = World::new(&domain("customer.example", &["203.0.113.5"], spam)).await;
    let operations = world.operations();
    let engine = (operations.engine)();
    let assessment = assess(&engine, "From: a@sender.example\r\nSubject: x\r\n\r\nSee http://192.0.2.7/login");
    let envelope = envelope(world.now());
    world.flow().store.vectors().judged(Vector::judged(&envelope, world.now(), &assessment));
    world.flow().store.vectors().decided(&envelope, &judgement(&assessment), &[Decision::DeliverMarked]);

    let explained = operations.spam_explain(envelope.id).await.unwrap();
    assert_eq!((explained.explanation.score, explained.explanation.level), (assessment.score, assessment.level));
    let points = |hits: Vec<(String, f32)>| hits.into_iter().collect::<std::collections::BTreeMap<_, _>>();
    let kept = explained.explanation.reasons.iter().map(|reason| (reason.rule.clone(), reason.points)).collect();
    assert_eq!(points(kept), points(assessment.hits.iter().map(|hit| (hit.rule.clone(), hit.points)).collect()));
    assert!(explained.notes[0].contains("gone"), "{explained:?}");
    assert!(operations.spam_explain(IdSource::new(None).next(NOW).message(9)).await.is_err());

    let found = operations.spam_replay(order(&[("LINK_TO_ADDRESS", 20.0)])).await.unwrap();
    assert_eq!(
        (found.replay.messages, found.replay.drifted, found.replay.examples[0].to),
        (1, 0, SpamLevel::Med),
        "the family's cap is 7: {found:?}"
    );
    let capped = ReplayOrder { levels: Levels { low: Some(100.0), med: Some(200.0), high: Some(300.0) }, ..order(&[]) };
    assert!(
        operations.spam_replay(capped).await.unwrap().replay.domains[0].shifts.iter().all(|shift| shift.to == SpamLevel::None)
    );
    let wrong = operations.spam_replay(order(&[("LINK_TO_ADRESS", 1.0)])).await.unwrap_err().to_string();
    assert_eq!(wrong, "there is no rule LINK_TO_ADRESS; did you mean LINK_TO_ADDRESS?");
    let elsewhere = ReplayOrder { domain: Some("other.example".parse().unwrap()), ..order(&[]) };
    assert!(operations.spam_replay(elsewhere).await.unwrap_err().to_string().contains("not served"));
}
