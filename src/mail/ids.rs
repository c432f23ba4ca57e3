//! Session and queue ids: short, sortable by time, easy to grep.
//!
//! A session id is 12 characters of Crockford's base 32 in lower case: 45 bits of milliseconds since 1970, then 15 bits
//! that count within the millisecond. A queue id is the session id, a dot and the number of the message in the session.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Timestamp;

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const LENGTH: usize = 12;
const COUNTER_BITS: u32 = 15;

/// One SMTP session, or one errand of the gateway's own (a bounce).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(u64);

/// One message: the session it came in and its number there, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId {
    pub session: SessionId,
    pub number: u32,
}

impl SessionId {
    /// The number behind the text form; 60 bits.
    pub fn to_u64(self) -> u64 {
        self.0
    }

    /// `None` above 60 bits.
    pub fn from_u64(value: u64) -> Option<SessionId> {
        (value >> (5 * LENGTH) == 0).then_some(SessionId(value))
    }

    /// The id of the `number`th message of this session.
    pub fn message(self, number: u32) -> QueueId {
        QueueId { session: self, number }
    }
}

impl QueueId {
    /// 12 bytes that sort like the ids: for index keys and journal records.
    pub fn to_bytes(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&self.session.0.to_be_bytes());
        bytes[8..].copy_from_slice(&self.number.to_be_bytes());
        bytes
    }

    /// The inverse of [`QueueId::to_bytes`]; `None` for what that never writes.
    pub fn from_bytes(bytes: [u8; 12]) -> Option<QueueId> {
        let (session, number) = bytes.split_at(8);
        let session = u64::from_be_bytes(session.try_into().ok()?);
        let number = u32::from_be_bytes(number.try_into().ok()?);
        Some(SessionId::from_u64(session)?.message(number))
    }
}

/// Hands out session ids that never repeat, also when the clock steps back or the gateway restarts.
pub struct IdSource {
    last: AtomicU64,
}

impl IdSource {
    /// `floor`: the highest session id the journal has seen, so that no id of an earlier run is used again.
    pub fn new(floor: Option<SessionId>) -> IdSource {
        IdSource { last: AtomicU64::new(floor.map_or(0, |id| id.0)) }
    }

    /// A new id, greater than every one before it.
    pub fn next(&self, now: Timestamp) -> SessionId {
        let wish = (now.0 & ((1 << 45) - 1)) << COUNTER_BITS;
        let step = |last: u64| Some(wish.max(last + 1));
        let before = self.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step).expect("step never gives up");
        SessionId(wish.max(before + 1))
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0u8; LENGTH];
        for (place, letter) in text.iter_mut().enumerate() {
            let shift = 5 * (LENGTH - 1 - place);
            *letter = ALPHABET[(self.0 >> shift) as usize & 31];
        }
        f.pad(std::str::from_utf8(&text).expect("the alphabet is ASCII"))
    }
}

impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}.{}", self.session, self.number))
    }
}

/// A text that is not an id.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an id: an id looks like 01hk3c9v7x00 or 01hk3c9v7x00.1")]
pub struct IdError;

impl FromStr for SessionId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<SessionId, IdError> {
        if text.len() != LENGTH {
            return Err(IdError);
        }
        text.bytes()
            .try_fold(0u64, |value, letter| {
                let digit = ALPHABET.iter().position(|known| *known == letter.to_ascii_lowercase()).ok_or(IdError)?;
                Ok(value << 5 | digit as u64)
            })
            .map(SessionId)
    }
}

impl FromStr for QueueId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<QueueId, IdError> {
        let (session, number) = text.split_once('.').ok_or(IdError)?;
        if number.starts_with('+') {
            return Err(IdError);
        }
        Ok(session.parse::<SessionId>()?.message(number.parse().map_err(|_| IdError)?))
    }
}

/// Ids travel as their text in JSON, so that a journal record or an API answer can be grepped.
macro_rules! serde_as_text {
    ($type:ty) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
serde_as_text!(SessionId);
serde_as_text!(QueueId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_grow_also_when_the_clock_steps_back() {
        let source = IdSource::new(None);
        let first = source.next(Timestamp(1_795_214_160_000));
        let second = source.next(Timestamp(1_795_214_160_000));
        let third = source.next(Timestamp(1_000));
        assert!(first < second && second < third);
        assert!(first.to_string() < second.to_string());
        let after_restart = IdSource::new(Some(third));
        assert!(after_restart.next(Timestamp(1_000)) > third);
    }

    #[test]
    fn text_and_bytes_lead_back() {
        let id = IdSource::new(None).next(Timestamp(1_795_214_160_000)).message(7);
        assert_eq!(id.to_string().parse::<QueueId>(), Ok(id));
        assert_eq!(QueueId::from_bytes(id.to_bytes()), Some(id));
        assert_eq!(QueueId::from_bytes([255; 12]), None);
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for text in ["", "abc", "01hk3c9v7x00", "01hk3c9v7x00.", "01hk3c9v7x00.+1", "01hk3c9v7xu0.1", "01hk3c9v7x00.99999999999"]
        {
            assert_eq!(text.parse::<QueueId>(), Err(IdError), "{text}");
        }
    }
}
