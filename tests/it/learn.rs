//! Teaching the gateway: by command, with and without a running gateway, by what leaves quarantine, and over a restart.

use std::path::Path;
use std::process::Output;

use feedgate::admin::OperationError;
use feedgate::admin::lessons::Take;
use feedgate::admin::operations::Selection;
use feedgate::queue::{By, Mode, Steer};
use feedgate::spam::{Digest, Label};
use feedgate::store::Taught;

use crate::gateway::{Gateway, command, domain, wait_for};
use crate::world::{self, World};

/// The string for the level med, put together here so that this file is no spam.
pub fn gtube() -> String {
    ["YJS*C4JDBQADN1.NSBN3*2IDNEN*", "GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"].concat()
}

fn mail(number: u32, text: &str) -> String {
    format!(
        "From: Ann <ann@sender.example>\nTo: joe@up.test\nSubject: about {number}\nDate: Mon, 2 Nov 2026 10:00:00 +0000\n\
         Message-ID: <{number}@sender.example>\n\n{text}\n"
    )
}

fn write(directory: &Path, name: &str, content: &str) -> String {
    let path = directory.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, content).unwrap();
    path.display().to_string()
}

#[track_caller]
fn said(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn messages_are_learned_with_and_without_a_running_gateway() {
    let mut gateway = Gateway::start(Path::new("/nowhere/clamd.sock"), &domain("up.test", 1, ""));
    let scratch = tempfile::tempdir().unwrap();
    let spam = scratch.path().join("spam");
    (0..3).for_each(|number| drop(write(&spam, &format!("{number}.eml"), &mail(number, "spins and jackpots"))));
    let spam = spam.display().to_string();
    let boxed = format!("From ann\n{}\nFrom bob\n{}", mail(7, "the minutes"), mail(8, "the budget\n\n>From here on"));
    let mailbox = write(scratch.path(), "ham.mbox", &boxed);

    let learn = |arguments: &[&str]| gateway.ask(&[&["spam", "learn"], arguments].concat());
    assert_eq!(
        learn(&["--spam", "--dry-run", &spam]),
        "would have learned 3 as spam (0 known already, 0 were ham before), 0 unreadable\n"
    );
    assert_eq!(learn(&["--spam", &spam]), "learned 3 as spam (0 known already, 0 were ham before), 0 unreadable\n");
    assert_eq!(
        learn(&["--ham", "--domain", "up.test", &mailbox]),
        "learned 2 as ham (0 known already, 0 were spam before), 0 unreadable\n"
    );
    let one = format!("{spam}/1.eml");
    assert_eq!(learn(&["--ham", &one]), "learned 1 as ham (0 known already, 1 was spam before), 0 unreadable\n");
    assert_eq!(learn(&["--forget", &one, &mailbox]), "forgotten 1 (2 never learned), 0 unreadable\n");
    let stats = wait_for("the training", || {
        let stats = gateway.ask_json(&["spam", "stats"]);
        (stats["training"]["examples"] == 4).then_some(stats)
    });
    assert_eq!((&stats["scopes"][0]["spam"], &stats["scopes"][1]["ham"]), (&2.into(), &2.into()), "{stats}");
    assert!(stats["weights_platform"].as_u64() > Some(0) && stats["weights_domains"].as_u64() > Some(0), "{stats}");
    assert!(gateway.ask(&["spam", "stats"]).contains("(all mail)  2     0"), "{}", gateway.ask(&["spam", "stats"]));

    let refused = gateway.command(&["spam", "learn", "--spam", "--domain", "other.test", &spam]);
    assert_eq!(String::from_utf8_lossy(&refused.stderr), "error: other.test is not served here\n");

    assert!(gateway.stop());
    let stopped =
        command(&gateway.config(), &["spam", "learn", "--spam", &spam, &write(scratch.path(), "a.bin", "\u{1}nothing\n")]);
    assert_eq!(said(&stopped).lines().next(), Some("learned 1 as spam (2 known already, 0 were ham before), 1 unreadable"));
    assert!(String::from_utf8_lossy(&stopped.stderr).contains("counts from its next start on"));

    gateway.restart();
    let stats = gateway.ask_json(&["spam", "stats"]);
    assert_eq!((&stats["scopes"][0]["spam"], &stats["training"]["examples"]), (&3.into(), &5.into()), "{stats}");
    let nothing = gateway.command(&["spam", "learn", "--spam", "/no/such/file"]);
    assert_eq!(nothing.status.code(), Some(1));
    // As many as there are, in one command.
    let many = scratch.path().join("many.mbox");
    let text: String = (100..1700).map(|number| format!("From x\n{}\n", mail(number, "spins"))).collect();
    std::fs::write(&many, text).unwrap();
    let learned = gateway.ask_json(&["spam", "learn", "--spam", &many.display().to_string()]);
    assert_eq!(learned["learned"], 1600, "{learned}");
}

#[test]
fn what_is_wanted_must_be_said() {
    let gateway = tempfile::tempdir().unwrap();
    let config = gateway.path().join("feedgate.toml");
    for arguments in [&["spam", "learn", "x"][..], &["spam", "learn", "--spam", "--ham", "x"], &["spam", "learn", "--spam"]] {
        assert_eq!(command(&config, arguments).status.code(), Some(2), "{arguments:?}");
    }
}

const QUARANTINED: &str = "[domains.\"customer.example\".spam]\nenabled = true\nmed = \"quarantine\"\n";

#[tokio::test]
async fn what_leaves_quarantine_teaches_its_domain() {
    let world = World::new(&world::domain("customer.example", &["203.0.113.5"], QUARANTINED)).await;
    let operations = world.operations();
    let content = format!("From: ann@sender.example\r\nSubject: minutes\r\n\r\n{}\r\n", gtube());
    let mut ids = Vec::new();
    for recipient in ["jane@customer.example", "joe@customer.example", "sue@customer.example"] {
        let id = world.take(&[recipient], &content.replace("minutes", recipient)).await;
        world.until("the quarantine", async || (world.status(id).await == "quarantined").then_some(())).await;
        ids.push(id);
    }
    let only = |id| Selection { id: Some(id), ..Selection::default() };
    let by = || By::from("alice");
    let leave = async |steer, id, mode, label| operations.leave_quarantine(steer, &only(id), by(), mode, label).await.unwrap();

    let tried = leave(Steer::ReleaseQuarantined, ids[0], Mode::DryRun, Some(Label::Ham)).await;
    assert_eq!((tried.messages, tried.note.as_str()), (1, ""));
    let released = leave(Steer::ReleaseQuarantined, ids[0], Mode::ForReal, Some(Label::Ham)).await;
    assert_eq!(released.note, "learned 1 as ham for the recipients' domains");
    let deleted = leave(Steer::DeleteQuarantined, ids[1], Mode::ForReal, Some(Label::Spam)).await;
    assert_eq!(deleted.note, "learned 1 as spam for the recipients' domains");
    let untaught = leave(Steer::DeleteQuarantined, ids[2], Mode::ForReal, None).await;
    assert_eq!((untaught.messages, untaught.note.as_str()), (1, ""));

    let stats = operations.lessons_stats().await.unwrap();
    let scopes: Vec<_> = stats.lessons.scopes.iter().map(|scope| (scope.domain.clone(), scope.spam, scope.ham)).collect();
    assert_eq!(scopes, [(Some("customer.example".parse().unwrap()), 1, 1)]);
}

#[tokio::test]
async fn what_is_in_the_queue_is_learned_by_its_id() {
    let world = World::new(&world::domain("customer.example", &["203.0.113.5"], "")).await;
    let operations = world.operations();
    let id = world.take(&["jane@customer.example"], "From: ann@sender.example\r\nSubject: spins\r\n\r\nspins\r\n").await;
    let learn = async |take, label| operations.lessons_queued(id, take, label, None, "alice", Mode::ForReal).await;
    let learned = learn(Take::Itself, Some(Label::Spam)).await.unwrap();
    assert_eq!(learned.taught, Taught { learned: 1, changed: 0, known: 0 });
    let attached = learn(Take::Attached, Some(Label::Spam)).await.unwrap();
    assert_eq!((attached.unreadable, attached.taught), (1, Taught::default()));
    assert_eq!(learn(Take::Itself, None).await.unwrap().forgotten, 1);
    let unknown = operations.lessons_forget(vec![Digest([0; 16])], None, "alice", Mode::ForReal).await.unwrap();
    assert_eq!((unknown.forgotten, unknown.unknown), (0, 1));
    let refused = operations.lessons_forget(vec![], None, "alice", Mode::ForReal).await;
    assert!(matches!(refused, Err(OperationError::Invalid(_))));
    let elsewhere = Some("other.example".parse().unwrap());
    let refused = operations.lessons_queued(id, Take::Itself, Some(Label::Ham), elsewhere, "alice", Mode::ForReal).await;
    assert!(matches!(refused, Err(OperationError::Missing(_))));
}
