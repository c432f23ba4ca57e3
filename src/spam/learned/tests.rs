//! What is learned, what is not, and that it can be unlearned without a trace.

use super::*;

const TODAY: u32 = 20_000;

/// The same word is the same token, however often it is written.
fn tokens(words: &str) -> Tokens {
    Tokens::from_hashes(words.split(' ').map(|word| crc32fast::hash(word.as_bytes())).collect())
}

fn example(number: u32, label: Label, words: &str) -> Example {
    let mut digest = [0; 16];
    digest[..4].copy_from_slice(&number.to_be_bytes());
    Example { digest: Digest(digest), label, scope: None, day: TODAY, tokens: tokens(words) }
}

/// Words that every message has, and some of its own.
fn message(topic: &str, number: u32) -> String {
    let common = "dear regards hello team please thanks today week best kind from to subject date received mime version";
    let own: Vec<_> = (0..20).map(|word| format!("own{}", number.wrapping_mul(7919).wrapping_add(word * 104_729))).collect();
    format!("{common} {topic} {}", own.join(" "))
}

const CASINO: &str = "casino jackpot spins bonus roulette winner deposit claim vip lucky";
const OFFICE: &str = "meeting agenda minutes budget invoice project review deadline office report";

fn learned(examples: &[Example]) -> Learned {
    Learned::from_examples(examples, |_| -2.0, TODAY)
}

fn topic(count: u32) -> Vec<Example> {
    let spam = (0..count).map(|number| example(number, Label::Spam, &message(CASINO, number)));
    spam.chain((1000..1000 + count).map(|number| example(number, Label::Ham, &message(OFFICE, number)))).collect()
}

#[test]
fn a_topic_is_learned_and_others_are_left_alone() {
    let learned = learned(&topic(30));
    let casino = learned.log_odds(&tokens(&message(CASINO, 5000)));
    let office = learned.log_odds(&tokens(&message(OFFICE, 5001)));
    let other = learned.log_odds(&tokens(&message("garden roses weather spade compost seeds", 5002)));
    assert!(casino > 1.3, "{casino}");
    assert!(office < 0.3, "{office}");
    assert!(other.abs() < 0.7, "{other}");
}

#[test]
fn one_report_moves_its_like_and_hardly_anything_else() {
    let once = learned(&[example(1, Label::Spam, &message(CASINO, 1))]);
    let same = once.log_odds(&tokens(&message(CASINO, 1)));
    assert!((1.0..2.0).contains(&same), "{same}");
    let unrelated = once.log_odds(&tokens(&message(OFFICE, 2)));
    assert!(unrelated < 0.6, "{unrelated}");
    // The same letter to three people: near copies, each with a word of its own.
    let copies = |count: u32| (0..count).map(|copy| example(copy, Label::Spam, &format!("{} copy{copy}", message(CASINO, 1))));
    let twice = learned(&copies(2).collect::<Vec<_>>()).log_odds(&tokens(&message(CASINO, 1)));
    let three_times = learned(&copies(3).collect::<Vec<_>>()).log_odds(&tokens(&message(CASINO, 1)));
    assert!(twice > same + 0.15 && three_times > twice + 0.05 && three_times > 1.65, "{same} {twice} {three_times}");
}

#[test]
fn many_reports_of_one_kind_do_not_drag_all_mail_along() {
    let reports: Vec<_> =
        (0..400).map(|number| example(number, Label::Spam, &message(&format!("topic{number}"), number))).collect();
    let learned = learned(&reports);
    let unrelated = learned.log_odds(&tokens(&message(OFFICE, 9000)));
    assert!(unrelated < 1.3, "{unrelated}");
    // And one more report is heard among them.
    let mut more = reports.clone();
    let new = tokens(&message(CASINO, 5000));
    more.push(example(5000, Label::Spam, &message(CASINO, 5000)));
    let heard = super::Learned::from_examples(&more, |_| -2.0, TODAY).log_odds(&new) - learned.log_odds(&new);
    assert!(heard > 0.3, "{heard}");
}

#[test]
fn what_the_base_knows_already_is_not_learned_again() {
    let known =
        Learned::from_examples(&topic(5), |tokens| if tokens == &self::tokens(&message(CASINO, 1)) { 9.0 } else { 0.0 }, TODAY);
    let fresh = Learned::from_examples(&topic(5), |_| 0.0, TODAY);
    let casino = tokens(&message(CASINO, 1));
    assert!(known.log_odds(&casino) < fresh.log_odds(&casino));
}

#[test]
fn forgetting_leaves_no_trace_and_order_makes_no_difference() {
    let mut all = topic(10);
    let without = learned(&all);
    all.push(example(77_777, Label::Spam, &message(OFFICE, 1)));
    assert_ne!(learned(&all), without);
    all.pop();
    all.reverse();
    assert_eq!(learned(&all), without);
}

#[test]
fn a_message_counts_once_and_its_last_label_counts() {
    let once = vec![example(1, Label::Spam, CASINO)];
    let twice = vec![once[0].clone(), once[0].clone()];
    assert_eq!(learned(&once), learned(&twice));
    let changed = vec![once[0].clone(), example(1, Label::Ham, CASINO)];
    assert_eq!(learned(&changed), learned(&[example(1, Label::Ham, CASINO)]));
}

#[test]
fn old_examples_fade() {
    let aged = |days: u32| {
        let example = Example { day: TODAY - days, ..example(1, Label::Spam, CASINO) };
        learned(&[example]).log_odds(&tokens(CASINO))
    };
    let (fresh, old, older) = (aged(0), aged(180), aged(1800));
    assert!(old < fresh * 0.75 && old > fresh * 0.4, "{fresh} {old}");
    assert!(older < 0.01, "{older}");
    // A clock that was wrong.
    let future = Example { day: TODAY + 500, ..example(1, Label::Spam, CASINO) };
    assert_eq!(learned(&[future]).log_odds(&tokens(CASINO)), fresh);
}

#[test]
fn a_domain_goes_its_own_way_and_nobody_else_with_it() {
    let domain = |name: &str| Domain::parse(name).unwrap();
    let mut examples = topic(20);
    let own = (0..8).map(|number| Example {
        scope: Some(domain("casino.example")),
        ..example(3000 + number, Label::Ham, &message(CASINO, 3000 + number))
    });
    examples.extend(own);
    let learning = Learning::from_examples(&examples, |_| -2.0, TODAY);
    let casino = tokens(&message(CASINO, 7000));
    let platform = learning.platform.log_odds(&casino);
    let total = platform + learning.of_domain(&domain("casino.example"), &casino);
    assert!(platform > 1.0 && total < platform - 0.3, "{platform} {total}");
    assert_eq!(learning.of_domain(&domain("customer.example"), &casino), 0.0);
    assert_eq!(*learning.platform, learned(&topic(20)), "the platform knows nothing of it");
    assert_eq!(learning.weights(), learning.platform.len() + learning.domains[&domain("casino.example")].len());
}

#[test]
fn what_was_learned_is_bounded() {
    let examples: Vec<_> = (0..40).map(|number| example(number, Label::Spam, &message(CASINO, number))).collect();
    let references: Vec<_> = examples.iter().collect();
    let few = Learned::fitted(&references, |_| -20.0, TODAY, 25);
    assert_eq!(few.len(), 25);
    assert!(few.hashes.is_sorted());
    // The largest ones were kept: those of the topic.
    assert!(few.hashes.binary_search(&crc32fast::hash(b"casino")).is_ok());
    let convinced = Learned::fitted(&references, |_| -20.0, TODAY, 1000);
    assert!(convinced.log_odds(&tokens(CASINO)) <= LEARNED_MAX);
    assert!(learned(&[]).is_empty() && learned(&[example(1, Label::Spam, "")]).len() <= 1);
    assert_eq!(learned(&[Example { tokens: Tokens::default(), ..example(1, Label::Spam, "") }]), Learned::default());
}

#[test]
fn the_same_message_is_known_wherever_it_was_found() {
    let tags = ["[SPAM: low] ".to_owned(), "[Wäre Spam]".to_owned()];
    let queued = "From: Ann <ann@sender.example>\r\nTo: joe@customer.example\r\nSubject: Spins for you\r\nDate: Mon, 2 Nov 2026 10:00:00 +0000\r\n\
        Message-ID: <1@sender.example>\r\n\r\nTake 50 spins today \r\n\r\nhttps://casino.example/\r\n";
    let in_mailbox = "Return-Path: <ann@sender.example>\nDelivered-To: joe\nReceived: from mx1\n\tby mail; today\nX-Spam-Flag: YES\n\
        X-Feedgate-Level: low\nX-MS-Exchange-Organization-SCL: 1\nAuthentication-Results: mx1; spf=pass\n\
        From: Ann\n <ann@sender.example>\nTo: joe@customer.example\nSubject: [SPAM: low] Spins for you\nDate: Mon, 2 Nov 2026 10:00:00 +0000\n\
        Message-ID: <1@sender.example>\n\nTake 50 spins today\n\nhttps://casino.example/\n\n";
    let (one, other) = (Lesson::of(queued.as_bytes(), &tags).unwrap(), Lesson::of(in_mailbox.as_bytes(), &tags).unwrap());
    assert_eq!(one, other);
    let encoded = queued.replace("Spins for you", "=?utf-8?B?W1fDpHJlIFNwYW1d?= Spins for you");
    assert_eq!(Lesson::of(encoded.as_bytes(), &tags).unwrap(), one);
    let another = queued.replace("50 spins", "51 spins");
    assert_ne!(Lesson::of(another.as_bytes(), &tags).unwrap().digest, one.digest);
    // A body that looks like trace fields is the author's.
    let text = String::from_utf8(stripped(b"Received: x\r\nA: 1\r\n\r\nReceived: y\r\n", &[])).unwrap();
    assert_eq!(text, "A: 1\r\n\r\nReceived: y\r\n");
}

#[test]
fn what_is_no_message_says_so() {
    assert_eq!(Lesson::of(b" \r\n", &[]), Err(NoLesson::Empty));
    assert_eq!(Lesson::of(b"\x7fELF\x02\x01 something", &[]), Err(NoLesson::NoMessage));
    assert_eq!(Lesson::of(b"{\n  \"a\": 1\n}\n", &[]), Err(NoLesson::NoMessage));
}

#[test]
fn messages_are_taken_out_of_a_report() {
    let report = "From: joe@customer.example\r\nTo: spam@isp.example\r\nSubject: Fwd\r\nMIME-Version: 1.0\r\n\
        Content-Type: multipart/mixed; boundary=\"b\"\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nplease block\r\n--b\r\n\
        Content-Type: message/rfc822\r\n\r\nFrom: ann@sender.example\r\nSubject: Spins\r\n\r\nTake 50 spins\r\n--b\r\n\
        Content-Type: application/octet-stream; name=\"saved.eml\"\r\nContent-Transfer-Encoding: base64\r\n\
        Content-Disposition: attachment; filename=\"saved.eml\"\r\n\r\nRnJvbTogYm9iQHNlbmRlci5leGFtcGxlDQpTdWJqZWN0OiBIaQ0KDQpIaQ0K\r\n--b--\r\n";
    let found: Vec<String> = attached(report.as_bytes()).into_iter().map(|inner| String::from_utf8(inner).unwrap()).collect();
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("From: ann@sender.example\r\nSubject: Spins\r\n\r\nTake 50 spins"), "{found:?}");
    assert!(!found[0].contains("--b"), "{found:?}");
    assert_eq!(found[1], "From: bob@sender.example\r\nSubject: Hi\r\n\r\nHi\r\n");
    assert!(attached(b"Subject: nothing\r\n\r\ntext\r\n").is_empty());
}

#[test]
fn a_report_of_any_structure_is_read_to_its_end() {
    let within = "Content-Type: message/rfc822\r\n\r\n".repeat(100_000);
    let found = attached(within.as_bytes());
    assert_eq!(found.len(), 1, "what is attached to an attached message is not looked for");
    assert!(found[0].len() as u64 <= crate::spam::Facts::CONTENT_MAX);
    let nested: String =
        (0..20_000).map(|n| format!("--{n}\r\nContent-Type: multipart/mixed; boundary={}\r\n\r\n", n + 1)).collect();
    assert!(attached(format!("Content-Type: multipart/mixed; boundary=0\r\n\r\n{nested}").as_bytes()).is_empty());
    let part = "--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: x\r\n\r\nx\r\n";
    let many = format!("Content-Type: multipart/mixed; boundary=b\r\n\r\n{}--b--\r\n", part.repeat(1000));
    assert_eq!(attached(many.as_bytes()).len(), 100);
}

/// `cargo test --release --lib learned::tests::speed -- --ignored --nocapture`
#[test]
#[ignore = "a measurement, for a release build"]
fn speed() {
    let mut random = 1_u64;
    let mut next = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as u32
    };
    let examples: Vec<Example> = (0..20_000)
        .map(|number| {
            // Half of the tokens are common ones.
            let hashes = (0..300).map(|token| if token % 2 == 0 { (next() % 3_000).wrapping_mul(1_431_655) } else { next() });
            let tokens = Tokens::from_hashes(hashes.collect());
            Example { tokens, ..example(number, if number % 3 == 0 { Label::Spam } else { Label::Ham }, "") }
        })
        .collect();
    let started = std::time::Instant::now();
    let learned = Learned::from_examples(&examples, |_| 0.0, TODAY);
    eprintln!("{} weights from {} examples in {:?}", learned.len(), examples.len(), started.elapsed());
}
