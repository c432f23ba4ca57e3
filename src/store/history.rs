//! The history: every line of the mail log, kept for `feedgate trace`. Part of the memory that may be forgotten.
//!
//! `history-lines` holds the lines by session and time, so that a session's life is one stretch of keys; lines of one session
//! that are written together stand in one value. `history-addresses` holds, for each address, the sessions it was named in.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Mutex as AsyncMutex;

use crate::mail::{QueueId, SessionId, Timestamp};
use crate::telemetry::Line;

use super::memory::{Memory, VALUE_MAX};
use super::{Store, lock};

/// Sessions looked at for one address.
const SESSIONS_MAX: usize = 1000;
/// Lines looked at of one session.
const SESSION_LINES_MAX: usize = 20_000;
/// Lines removed at a time.
const SWEEP_PIECE: usize = 1000;
/// From the first line of a value to its last.
const GROUP_SPAN: Duration = Duration::from_secs(1);
/// Of an address in a key, in bytes; mailboxes are at most 254.
const ADDRESS_MAX: usize = 320;

/// What happened to messages and sessions. Cloning shares it.
#[derive(Clone)]
pub struct History {
    lines: Memory,
    addresses: Memory,
    /// Tells lines of one millisecond apart.
    count: Arc<AtomicU32>,
    /// Not written yet.
    gathered: Arc<Mutex<Vec<Line>>>,
    /// Held while gathered lines are written: who looks for them waits until they are there.
    writing: Arc<AsyncMutex<()>>,
}

impl History {
    pub fn new(store: &Store) -> History {
        History::of(store.memory("history-lines"), store.memory("history-addresses"))
    }

    fn of(lines: Memory, addresses: Memory) -> History {
        History { lines, addresses, count: Arc::default(), gathered: Arc::default(), writing: Arc::default() }
    }

    /// Takes lines over, to be written together with others; `trace` finds them from now on. How many there are: the caller
    /// has them written when they are many, or old.
    pub fn gather(&self, lines: Vec<Line>) -> usize {
        let mut gathered = lock(&self.gathered);
        gathered.extend(lines);
        gathered.len()
    }

    /// Writes what was gathered; to its end, also when the caller goes away.
    pub async fn write_gathered(&self) {
        let history = self.clone();
        let write = async move {
            let _turn = history.writing.lock().await;
            let lines = std::mem::take(&mut *lock(&history.gathered));
            history.write(lines).await;
        };
        // It only fails when the runtime is shutting down.
        let _ = tokio::spawn(write).await;
    }

    /// A line whose id is none is left out.
    async fn write(&self, lines: Vec<Line>) {
        if lines.is_empty() {
            return;
        }
        let mut pairs = Vec::new();
        let mut addresses = BTreeSet::new();
        let mut open: HashMap<SessionId, Group> = HashMap::new();
        for line in lines {
            let Some(session) = session_of(&line.id) else { continue };
            let names = line.from.iter().chain(&line.to).filter(|name| !name.is_empty());
            addresses.extend(names.map(|name| address_key(name, Some(session))));
            let at = line.at;
            let json = encode(line);
            match open.get_mut(&session) {
                Some(group) if group.takes(at, &json) => group.add(&json),
                _ => {
                    let count = self.count.fetch_add(1, Ordering::Relaxed);
                    let group = Group { begin: at, key: line_key(session, at, count), value: json };
                    pairs.extend(open.insert(session, group).map(Group::pair));
                }
            }
        }
        pairs.extend(open.into_values().map(Group::pair));
        self.lines.change(pairs).await;
        if !addresses.is_empty() {
            self.addresses.change(addresses.into_iter().map(|key| (key, Some(Vec::new()))).collect()).await;
        }
    }

    /// Up to `most` lines, oldest first. By queue id: that message's life. By session id: the session with all its messages.
    /// By address: the whole life of every message that is from or to it; when that is too much, of the newest ones.
    pub async fn trace(&self, id_or_address: &str, most: usize) -> Vec<Line> {
        self.write_gathered().await;
        let text = id_or_address.trim();
        if let Ok(id) = text.parse::<QueueId>() {
            let mut lines = self.session(id.session).await;
            lines.retain(|line| line.id.parse() == Ok(id));
            lines.truncate(most);
            return lines;
        }
        if let Ok(id) = text.parse::<SessionId>() {
            let mut lines = self.session(id).await;
            lines.truncate(most);
            return lines;
        }
        self.trace_address(text, most).await
    }

    /// Removes lines older than `before`. How many.
    pub async fn sweep(&self, before: Timestamp) -> usize {
        let mut removed = 0;
        let mut after = None;
        loop {
            let lines = self.lines.scan(Vec::new(), after, SWEEP_PIECE).await;
            let Some((last, _)) = lines.last() else { return removed };
            after = Some(last.clone());
            // Sessions stand in the order of their begin: none of the later ones has an old line.
            let is_last = session_in(last).is_none_or(|session| begin_of(session) >= before);
            let mut gone = Vec::new();
            let mut addresses = Vec::new();
            for (key, value) in lines {
                let group: Vec<Line> = decode(&value).collect();
                if group.iter().any(|line| line.at >= before) {
                    continue;
                }
                let session = session_in(&key);
                let names = group.iter().flat_map(|line| line.from.iter().chain(&line.to));
                addresses.extend(names.map(|name| (address_key(name, session), None)));
                removed += group.len();
                gone.push((key, None));
            }
            self.lines.change(gone).await;
            self.addresses.change(addresses).await;
            if is_last {
                return removed;
            }
        }
    }

    async fn session(&self, session: SessionId) -> Vec<Line> {
        let prefix = session.to_u64().to_be_bytes().to_vec();
        let lines = self.lines.scan(prefix, None, SESSION_LINES_MAX).await;
        lines.iter().flat_map(|(_, value)| decode(value)).collect()
    }

    async fn trace_address(&self, address: &str, most: usize) -> Vec<Line> {
        let wanted = address.to_lowercase();
        // Newest first, until there are enough.
        let keys = self.addresses.scan_back(address_key(&wanted, None), SESSIONS_MAX).await;
        let sessions: BTreeSet<_> = keys.iter().filter_map(|(key, _)| session_at_end(key)).collect();
        let mut stories: Vec<Vec<Line>> = Vec::new();
        let mut count = 0;
        for session in sessions.into_iter().rev() {
            if count >= most {
                break;
            }
            let mut lines = self.session(session).await;
            let names = |line: &Line| line.from.iter().chain(&line.to).any(|name| name.to_lowercase() == wanted);
            let messages: HashSet<String> =
                lines.iter().filter(|line| names(line) && line.id.contains('.')).map(|line| line.id.clone()).collect();
            lines.retain(|line| names(line) || messages.contains(&line.id));
            count += lines.len();
            stories.push(lines);
        }
        let mut lines: Vec<_> = stories.into_iter().rev().flatten().collect();
        lines.drain(..lines.len().saturating_sub(most));
        lines
    }
}

/// Lines of one session on their way into one value.
struct Group {
    begin: Timestamp,
    key: Vec<u8>,
    value: Vec<u8>,
}

impl Group {
    /// Lines that are far apart are swept at different times.
    fn takes(&self, at: Timestamp, json: &[u8]) -> bool {
        at.since(self.begin) < GROUP_SPAN && self.value.len() + json.len() + 1 < VALUE_MAX
    }

    fn add(&mut self, json: &[u8]) {
        self.value.push(b'\n');
        self.value.extend_from_slice(json);
    }

    fn pair(self) -> (Vec<u8>, Option<Vec<u8>>) {
        (self.key, Some(self.value))
    }
}

fn session_of(id: &str) -> Option<SessionId> {
    id.split('.').next().and_then(|session| session.parse().ok())
}

/// When the session began, as its id says: 45 bits of milliseconds, then 15 bits of counting.
fn begin_of(session: SessionId) -> Timestamp {
    Timestamp(session.to_u64() >> 15)
}

fn line_key(session: SessionId, at: Timestamp, count: u32) -> Vec<u8> {
    let session = session.to_u64().to_be_bytes();
    [&session[..], &at.0.to_be_bytes(), &count.to_be_bytes()].concat()
}

fn session_in(key: &[u8]) -> Option<SessionId> {
    SessionId::from_u64(u64::from_be_bytes(key.get(..8)?.try_into().ok()?))
}

/// Address, a zero byte (which no address has), session. Without a session: what all of the address begin with.
fn address_key(address: &str, session: Option<SessionId>) -> Vec<u8> {
    let mut key = address.to_lowercase().into_bytes();
    key.truncate(ADDRESS_MAX);
    key.push(0);
    key.extend(session.iter().flat_map(|session| session.to_u64().to_be_bytes()));
    key
}

fn session_at_end(key: &[u8]) -> Option<SessionId> {
    key.len().checked_sub(8).and_then(|at| session_in(&key[at..]))
}

/// The line as JSON, made to fit: first the text is cut, then recipients are left out. They are found by address anyway.
fn encode(mut line: Line) -> Vec<u8> {
    const TEXT_MAX: usize = 1000;
    loop {
        let json = serde_json::to_vec(&line).expect("a line has string keys only");
        if json.len() < VALUE_MAX {
            return json;
        }
        let text_max = if line.to.is_empty() { line.text.len() / 2 } else { TEXT_MAX };
        if line.text.len() > text_max {
            line.text.truncate(line.text.floor_char_boundary(text_max));
        } else if line.to.pop().is_none() {
            line.from = None;
            line.what.truncate(line.what.floor_char_boundary(TEXT_MAX));
        }
    }
}

/// The lines of a value. JSON has no line end of its own.
fn decode(value: &[u8]) -> impl Iterator<Item = Line> {
    value.split(|byte| *byte == b'\n').filter_map(|json| serde_json::from_slice(json).ok())
}

#[cfg(test)]
mod tests {
    use super::super::memory::MemoryBase;
    use super::*;

    fn history() -> History {
        let base = MemoryBase::unsaved();
        History::of(base.part("lines"), base.part("addresses"))
    }

    fn session(begin: u64) -> SessionId {
        SessionId::from_u64(begin << 15).unwrap()
    }

    fn line(id: impl ToString, at: u64, what: &str, from: Option<&str>, to: &[&str]) -> Line {
        Line {
            at: Timestamp(at),
            id: id.to_string(),
            what: what.to_owned(),
            client: None,
            from: from.map(ToOwned::to_owned),
            to: to.iter().map(|to| (*to).to_owned()).collect(),
            text: String::new(),
        }
    }

    /// Two sessions: the first with two messages, the second greylisted.
    async fn filled() -> History {
        let history = history();
        let first = session(1000);
        history
            .write(vec![
                line(first.message(1), 1000, "queued", Some("a@x.example"), &["Info@y.example"]),
                line(first.message(2), 1001, "queued", Some("a@x.example"), &["other@y.example"]),
                line(first.message(1), 1002, "judged", None, &[]),
                line(first.message(1), 9000, "delivered", None, &["Info@y.example"]),
                line(session(2000), 2000, "greylisted", Some("b@x.example"), &["info@y.example"]),
            ])
            .await;
        history
    }

    async fn traced(history: &History, what: &str) -> Vec<String> {
        history.trace(what, 100).await.into_iter().map(|line| line.what).collect()
    }

    #[tokio::test]
    async fn one_id_tells_a_life() {
        let history = filled().await;
        let first = session(1000);
        assert_eq!(traced(&history, &first.message(1).to_string()).await, ["queued", "judged", "delivered"]);
        assert_eq!(traced(&history, &first.to_string()).await, ["queued", "queued", "judged", "delivered"]);
        assert!(traced(&history, &session(3).to_string()).await.is_empty());
    }

    #[tokio::test]
    async fn an_address_tells_the_lives_of_its_messages_newest_last() {
        let history = filled().await;
        assert_eq!(traced(&history, "INFO@y.example").await, ["queued", "judged", "delivered", "greylisted"]);
        assert_eq!(traced(&history, "a@x.example").await.len(), 4);
        assert!(traced(&history, "info@y.exampl").await.is_empty(), "an address, not the beginning of one");
        assert_eq!(history.trace("info@y.example", 2).await[1].what, "greylisted", "the newest when there is too much");
    }

    #[tokio::test]
    async fn old_lines_are_swept() {
        let history = filled().await;
        assert_eq!(history.sweep(Timestamp(1500)).await, 3);
        assert_eq!(traced(&history, &session(1000).to_string()).await, ["delivered"]);
        assert_eq!(history.sweep(Timestamp(10_000)).await, 2);
        assert!(traced(&history, "info@y.example").await.is_empty());
        assert!(history.addresses.scan(Vec::new(), None, 10).await.is_empty());
    }

    #[tokio::test]
    async fn lines_are_found_before_they_are_written() {
        let history = history();
        let message = session(1000).message(1);
        assert_eq!(history.gather(vec![line(message, 1000, "queued", None, &[])]), 1);
        assert_eq!(traced(&history, &message.to_string()).await, ["queued"]);
        assert_eq!(history.gather(vec![line(message, 1001, "delivered", None, &[])]), 1, "the first is written");
        assert_eq!(traced(&history, &message.to_string()).await, ["queued", "delivered"]);
    }

    #[tokio::test]
    async fn lines_written_together_stand_in_few_values() {
        let history = history();
        let message = session(1000).message(1);
        let lines = (0..40).map(|number| Line { text: "x".repeat(300), ..line(message, 1000 + number, "judged", None, &[]) });
        history.write(lines.collect()).await;
        let values = history.lines.scan(Vec::new(), None, 100).await;
        assert!((4..8).contains(&values.len()) && values.iter().all(|(_, value)| value.len() < VALUE_MAX));
        let times: Vec<_> = history.trace(&message.to_string(), 100).await.into_iter().map(|line| line.at.0).collect();
        assert_eq!(times, (1000..1040).collect::<Vec<_>>());
    }

    #[test]
    fn the_longest_line_fits() {
        let address = format!("{}@y.example", "\u{1}".repeat(240));
        let mut long = line(session(1), 1, "queued", Some(&address), &[]);
        long.to = vec![address.clone(); 20];
        long.text = "\u{fc}\"".repeat(10_000);
        let encoded = encode(long.clone());
        assert!(encoded.len() < VALUE_MAX);
        assert_eq!(decode(&encoded).next().unwrap().from, long.from);
    }
}
