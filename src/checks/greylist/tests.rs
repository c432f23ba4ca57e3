//! The bounds and small parts; behaviour on a real store is told in tests/it/greylist.rs.

use super::testing::Scratch;
use super::*;

const NOW: Timestamp = Timestamp(1_795_214_160_000);
const MINUTE: Duration = Duration::from_secs(60);

fn settings() -> config::Greylist {
    config::Greylist { delay: 5 * MINUTE, window: 48 * 60 * MINUTE, remember: 36 * 24 * 60 * MINUTE }
}

async fn knock(greylist: &Greylist, sender: &str, now: Timestamp) -> GreylistAnswer {
    let (sender, recipient): (ReversePath, _) = (sender.parse().unwrap(), Address::parse("ann@customer.example").unwrap());
    let newcomer = Newcomer {
        client: "192.0.2.1".parse().unwrap(),
        reverse_name: None,
        reverse_organisation: None,
        sender: &sender,
        recipient: &recipient,
        is_suspicious: true,
        is_vouched: false,
        how: Greylisting::Always,
    };
    greylist.check(&settings(), &newcomer, async { SpfProof::Unknown }, now).await
}

#[tokio::test]
async fn a_flood_of_invented_senders_is_not_remembered_beyond_the_bound() {
    let scratch = Scratch::new();
    let greylist = Greylist::new(scratch.memory());
    assert_eq!(knock(&greylist, "first@sender.example", NOW).await, GreylistAnswer::Wait { seconds: 300, tries: 1 });
    greylist.waiting.store(WAITING_MAX - 2, Ordering::Relaxed);
    for (sender, expected) in [("a", true), ("b", true), ("c", false), ("d", false)] {
        let waits =
            knock(&greylist, &format!("{sender}@sender.example"), NOW).await != GreylistAnswer::Pass(Passed::Unremembered);
        assert_eq!(waits, expected, "{sender}");
    }
    assert_eq!(greylist.list(NOW, 100).await.len(), 3);
    let again = knock(&greylist, "first@sender.example", NOW + MINUTE).await;
    assert_eq!(again, GreylistAnswer::Wait { seconds: 240, tries: 2 }, "who is remembered still waits");
    greylist.sweep(NOW + MINUTE).await;
    assert_eq!(greylist.waiting(), 3, "counted anew");
    assert_eq!(knock(&greylist, "c@sender.example", NOW).await, GreylistAnswer::Wait { seconds: 300, tries: 1 });
}

#[tokio::test]
async fn lists_of_what_was_lost_are_bounded_and_spam_pushes_out_spam_only() {
    let scratch = Scratch::new();
    let greylist = Greylist::new(scratch.memory());
    let sender: ReversePath = "joe@sender.example".parse().unwrap();
    let recipient = Address::parse("ann@customer.example").unwrap();
    let newcomer = |is_suspicious| Newcomer {
        client: "192.0.2.1".parse().unwrap(),
        reverse_name: None,
        reverse_organisation: None,
        sender: &sender,
        recipient: &recipient,
        is_suspicious,
        is_vouched: false,
        how: Greylisting::Always,
    };
    for round in 0..2_u32 {
        let mut lost = Lost::default();
        for number in 0..LOST_MAX as u64 + 100 {
            let at = NOW + Duration::from_millis(number + u64::from(round) * 1_000_000);
            let is_suspicious = number > 0;
            let newcomer = newcomer(is_suspicious);
            lost.add(
                b"tjoe@sender.example\0ann@customer.example\x00192.0.2.0/24",
                &Knock::first(&newcomer, &newcomer.proven(), MINUTE, at),
            );
        }
        greylist.keep_lost(lost).await;
    }
    let now = NOW + 60 * MINUTE;
    let shown = greylist.lost(now, 100_000, WhichLost::All).await;
    assert_eq!(shown.len(), LOST_MAX + 2);
    assert!(shown.is_sorted_by_key(|lost| std::cmp::Reverse(lost.first_try)), "newest first");
    assert_eq!(greylist.lost(now, 10, WhichLost::Plausible).await.len(), 2);
    assert_eq!(greylist.lost(now, 10, WhichLost::All).await.len(), 10);
    assert_eq!(greylist.sweep_lost(NOW + 31 * 24 * 60 * MINUTE).await, LOST_MAX + 2);
}

#[test]
fn roles_are_reached_at_once() {
    let is_role = |local: &str| is_role(&Address::parse(&format!("{local}@customer.example")).unwrap());
    assert!(["postmaster", "PostMaster", "Abuse"].into_iter().all(is_role));
    assert!(!["postmaster.x", "abuses", "ann"].into_iter().any(is_role));
}

#[test]
fn a_list_keeps_the_newest() {
    let at = |moment| GreylistRecord {
        last_seen: Timestamp(moment),
        ..show(b"n192.0.2.0/24", &Record::first(Timestamp(0), Duration::ZERO).encode()).unwrap()
    };
    let mut records = [5, 1, 4, 2, 3].map(at).to_vec();
    keep_newest(&mut records, 3);
    assert_eq!(records, [3, 4, 5].map(at));
}

#[test]
fn the_count_stops_at_zero() {
    let count = AtomicUsize::new(1);
    count_down(&count);
    count_down(&count);
    assert_eq!(count.load(Ordering::Relaxed), 0);
}
