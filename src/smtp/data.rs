//! Reads the text after DATA: unstuffs dots and finds the end, strictly CRLF . CRLF and nothing else (RFC 5321 §4.1.1.4),
//! and watches what passes: size, header size, hops, line lengths, bare CR and LF. BDAT chunks pass through the same watch
//! but byte-exact, without dots.

use bytes::BytesMut;

use crate::mail::Reply;

/// Why a message is refused at its end. The whole text is still read, so that the session stays in step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataError {
    TooLarge {
        limit: u64,
    },
    HeaderTooLarge {
        limit: u64,
    },
    LineTooLong {
        limit: u64,
    },
    /// CR or LF on its own (only in DATA): the stuff that SMTP smuggling is made of.
    BareLineEnd,
    /// More than 50 Received fields.
    TooManyHops,
}

impl DataError {
    /// The reply of the contract.
    pub fn reply(&self) -> Reply {
        todo!()
    }
}

/// How far the reader is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataStatus {
    /// Give it more input.
    More,
    /// The end was read; what follows in the buffer is the next command. The first error met, if any.
    End(Result<(), DataError>),
}

/// Reads one message, over several BDAT chunks when need be.
#[derive(Debug)]
pub struct DataReader {}

impl DataReader {
    /// Limits in bytes: of the message, of the header section, of one line without its end.
    pub fn new(size_max: u64, header_max: u64, text_line_max: u64) -> DataReader {
        let _ = (size_max, header_max, text_line_max);
        todo!()
    }

    /// Takes input off the front of `buffer` and appends content to `out`; nothing is appended any more after an error.
    /// Up to two bytes that may belong to the end mark can stay inside the reader between calls; nothing else is held back.
    pub fn data(&mut self, buffer: &mut BytesMut, out: &mut BytesMut) -> DataStatus {
        let _ = (buffer, out);
        todo!()
    }

    /// The same for one BDAT chunk of which `remaining` bytes are still to come; lowers `remaining` by what it took.
    /// Ends when it is 0. Bare line ends are kept.
    pub fn chunk(&mut self, buffer: &mut BytesMut, remaining: &mut u64, out: &mut BytesMut) -> DataStatus {
        let _ = (buffer, remaining, out);
        todo!()
    }

    /// Of the content so far, in bytes.
    pub fn size(&self) -> u64 {
        todo!()
    }
}
