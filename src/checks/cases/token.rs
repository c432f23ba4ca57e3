//! Signed links: the id of a case and a signature over it (HMAC-SHA256, cut to 64 bits), as 24 letters and digits.
//!
//! A guess is right once in 2^64 tries, each of which is a request to a page that counts them.

use data_encoding::BASE32_DNSSEC;
use ring::hmac;

use crate::mail::Timestamp;

/// Of the key, in bytes.
pub const KEY_LENGTH: usize = 32;
const ID_LENGTH: usize = 7;
const SIGNATURE_LENGTH: usize = 8;
/// 15 bytes are 24 digits of base 32 (RFC 4648 §7, in lower case), without padding.
const TOKEN_LENGTH: usize = 24;

/// Which case: seconds since 1970, then a number that differs between the cases of one second. Sorts by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CaseId(pub [u8; ID_LENGTH]);

impl CaseId {
    pub fn new(at: Timestamp, number: u32) -> CaseId {
        let seconds = u32::try_from(at.unix_seconds()).unwrap_or(u32::MAX).to_be_bytes();
        let number = number.to_be_bytes();
        let mut id = [0; ID_LENGTH];
        id[..4].copy_from_slice(&seconds);
        id[4..].copy_from_slice(&number[1..]);
        CaseId(id)
    }

    /// To the second.
    pub fn at(self) -> Timestamp {
        let [a, b, c, d, ..] = self.0;
        Timestamp(u64::from(u32::from_be_bytes([a, b, c, d])) * 1000)
    }
}

/// Signs, and knows its signatures again.
pub struct Key(hmac::Key);

impl Key {
    pub fn new(bytes: &[u8]) -> Key {
        Key(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    pub fn sign(&self, id: CaseId) -> String {
        BASE32_DNSSEC.encode(&[&id.0[..], &self.signature(id)].concat())
    }

    /// `None`: not signed by this key.
    pub fn read(&self, token: &str) -> Option<CaseId> {
        let bytes = Some(token).filter(|token| token.len() == TOKEN_LENGTH)?;
        let bytes = BASE32_DNSSEC.decode(bytes.as_bytes()).ok()?;
        let (id, signature) = bytes.split_at_checked(ID_LENGTH)?;
        let id = CaseId(id.try_into().ok()?);
        // ring compares whole tags only, in a time that tells nothing. So do not compare the two short signatures, which are 8
        // bytes where a signed id is 10, but what the key makes of each of them.
        let expected = hmac::sign(&self.0, &self.signature(id));
        hmac::verify(&self.0, signature, expected.as_ref()).ok().map(|()| id)
    }

    fn signature(&self, id: CaseId) -> [u8; SIGNATURE_LENGTH] {
        let tag = hmac::sign(&self.0, &[b"why", &id.0[..]].concat());
        tag.as_ref()[..SIGNATURE_LENGTH].try_into().expect("a SHA-256 tag has 32 bytes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_short_and_only_its_own_key_knows_it() {
        let (ours, theirs) = (Key::new(&[1; KEY_LENGTH]), Key::new(&[2; KEY_LENGTH]));
        let id = CaseId::new(Timestamp(1_795_214_160_999), 0x01ab_cdef);
        let token = ours.sign(id);
        assert_eq!(token.len(), TOKEN_LENGTH);
        assert!(token.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()), "{token}");
        assert_eq!(ours.read(&token), Some(id));
        assert_eq!(ours.read(&token.to_uppercase()), Some(id), "as it comes over the telephone");
        assert_eq!(theirs.read(&token), None);
        assert_eq!(id.at(), Timestamp(1_795_214_160_000));
    }

    #[test]
    fn ids_sort_by_time() {
        let id = |millis, number| CaseId::new(Timestamp(millis), number).0;
        assert!(id(1000, 5) < id(1000, 6));
        assert!(id(1000, 0xff_ffff) < id(2000, 0));
        assert_eq!(CaseId::new(Timestamp(u64::MAX), 0).at(), Timestamp(u64::from(u32::MAX) * 1000));
    }
}
