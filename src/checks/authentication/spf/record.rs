//! Finds and reads the one SPF record among a name's texts (RFC 7208 §4.5, §4.6).

use mail_auth::common::parse::TxtRecordParser;
use mail_auth::spf::Spf as Record;

use super::{Step, Stop};

/// `None`: there is none. Two are as wrong as one that cannot be read.
pub(super) fn of(texts: &[Vec<u8>]) -> Step<Option<Record>> {
    let mut records = texts.iter().filter(|text| is_spf(text));
    let Some(text) = records.next() else { return Ok(None) };
    if records.next().is_some() {
        return Err(Stop::Permanent);
    }
    Record::parse(text).map(Some).map_err(|_| Stop::Permanent)
}

/// The version, then a blank or the end.
fn is_spf(text: &[u8]) -> bool {
    let (version, rest) = text.split_at(text.len().min(VERSION.len()));
    version.eq_ignore_ascii_case(VERSION) && rest.first().is_none_or(|byte| *byte == b' ')
}

const VERSION: &[u8] = b"v=spf1";
