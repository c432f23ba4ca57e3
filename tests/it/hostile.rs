//! Messages made to be slow, or to break the reading: each is judged, within a time that does not depend on what is in it, and
//! what was cut says so.
//!
//! The times here are for a test's unoptimised code; `cargo bench --bench classify -- --hostile` shows those of a release.

#[path = "hostile/messages.rs"]
mod messages;

use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use feedgate::spam::{Assessment, Engine, Facts};
use proptest::prelude::*;
use rustix::time::{ClockId, clock_gettime};

/// CPU time of a message without optimisation, which costs a factor of ten to thirty against the 50 ms of a release.
const BUDGET: Duration = Duration::from_secs(3);

static ENGINE: LazyLock<Engine> = LazyLock::new(Engine::builtin);

fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap())
}

fn judged(content: &[u8]) -> Assessment {
    let head = &content[..content.len().min(usize::try_from(Facts::CONTENT_MAX).unwrap())];
    ENGINE.assess(&Facts::gather(&messages::envelope(content), head))
}

#[test]
fn messages_made_to_be_slow_are_judged_in_bounded_time() {
    judged(b"Subject: hello\r\n\r\nhello\r\n");
    let mut slow = Vec::new();
    for (name, content) in messages::all() {
        let start = cpu();
        judged(&content);
        let took = cpu() - start;
        if took > BUDGET {
            slow.push(format!("{name}: {took:?}"));
        }
    }
    assert!(slow.is_empty(), "more than {BUDGET:?}: {slow:#?}");
}

/// What lies beyond a bound is not looked at, which is itself something to be told.
#[test]
fn what_was_cut_says_so() {
    let all = messages::all();
    for (name, rule) in CUT {
        let (_, content) = all.iter().find(|(known, _)| known == name).unwrap_or_else(|| panic!("no message {name}"));
        let assessment = judged(content);
        let hit = assessment.hits.iter().find(|hit| hit.rule == *rule);
        assert!(hit.is_some_and(|hit| hit.points > 0.0), "{name}: {rule} among {:?}", assessment.hits);
    }
}

const CUT: &[(&str, &str)] =
    &[("5,000 parts", "MIME_TOO_DEEP"), ("200 multiparts", "MIME_TOO_DEEP"), ("attached messages", "MIME_TOO_DEEP")];

/// The messages of `tests/mail`.
static MAIL: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mail");
    let mut paths: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "eml"));
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
});

/// One change to a message.
#[derive(Clone, Debug)]
enum Change {
    /// Another byte at this place.
    Byte(prop::sample::Index, u8),
    CutOff(prop::sample::Index),
    TakeOut(prop::sample::Index, usize),
    Repeat(prop::sample::Index, usize, usize),
    /// A piece of another message.
    Splice(prop::sample::Index, prop::sample::Index, usize),
    /// What parsers trip over.
    Insert(prop::sample::Index, &'static [u8]),
}

const TRAPS: [&[u8]; 18] = [
    b"\0",
    b"\r",
    b"\n",
    b"\r\n\r\n",
    b"=?utf-8?B?",
    b"=?utf-8?Q?=F0=9F?=",
    b"\xf0\x9f",
    b"\xc3\xbc",
    b"--",
    b"<!--",
    b"<a href='http://",
    b"&#x1F600;&#xFFFFFFFF;&",
    b"\xe2\x80\x8b\xe2\x80\xae",
    b"\xd0\xb0",
    b"http://xn--/",
    b"Content-Type: multipart/mixed; boundary=b\r\n",
    b"Content-Transfer-Encoding: base64\r\n",
    b"Content-Type: text/html; charset=iso-2022-jp\r\n",
];

fn change() -> impl Strategy<Value = Change> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        4 => (at(), any::<u8>()).prop_map(|(at, byte)| Change::Byte(at, byte)),
        1 => at().prop_map(Change::CutOff),
        2 => (at(), 1..200_usize).prop_map(|(at, length)| Change::TakeOut(at, length)),
        1 => (at(), 1..100_usize, 1..200_usize).prop_map(|(at, length, times)| Change::Repeat(at, length, times)),
        2 => (at(), at(), 1..2000_usize).prop_map(|(at, other, length)| Change::Splice(at, other, length)),
        4 => (at(), prop::sample::select(TRAPS.to_vec())).prop_map(|(at, trap)| Change::Insert(at, trap)),
    ]
}

fn changed(mut message: Vec<u8>, changes: &[Change]) -> Vec<u8> {
    for change in changes {
        let place = |at: &prop::sample::Index| if message.is_empty() { 0 } else { at.index(message.len()) };
        match change {
            Change::Byte(at, byte) => {
                let at = place(at);
                if let Some(old) = message.get_mut(at) {
                    *old = *byte;
                }
            }
            Change::CutOff(at) => message.truncate(place(at)),
            Change::TakeOut(at, length) => {
                let at = place(at);
                message.drain(at..message.len().min(at + length));
            }
            Change::Repeat(at, length, times) => {
                let at = place(at);
                let piece = message[at..message.len().min(at + length)].repeat(*times);
                message.splice(at..at, piece);
            }
            Change::Splice(at, other, length) => {
                let at = place(at);
                let other = other.get(&MAIL);
                let from = at.min(other.len());
                message.splice(at..at, other[from..other.len().min(from + length)].iter().copied());
            }
            Change::Insert(at, trap) => {
                let at = place(at);
                message.splice(at..at, trap.iter().copied());
            }
        }
    }
    message
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    /// Hits are the score, and nothing panics, whatever became of a message.
    #[test]
    fn changed_messages_are_judged(which in any::<prop::sample::Index>(), changes in prop::collection::vec(change(), 0..8)) {
        let message = changed(which.get(&MAIL).clone(), &changes);
        let assessment = judged(&message);
        prop_assert!(assessment.score.is_finite());
        let sum: f32 = assessment.hits.iter().filter(|hit| !hit.is_shadow()).map(|hit| hit.points).sum();
        prop_assert!((sum - assessment.score).abs() < 0.1, "{sum} is not {}", assessment.score);
    }

    #[test]
    fn any_bytes_are_judged(content in prop::collection::vec(any::<u8>(), 0..2000)) {
        prop_assert!(judged(&content).score.is_finite());
    }
}
