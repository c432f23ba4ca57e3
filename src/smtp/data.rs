//! Reads the text after DATA: unstuffs dots and finds the end, strictly CRLF . CRLF and nothing else (RFC 5321 §4.1.1.4),
//! and watches what passes: size, header size, hops, line lengths, bare CR and LF. BDAT chunks pass through the same watch
//! but byte-exact, without dots.
//!
//! Invariants:
//! - The result is the same for every way the input can be split; a property test compares it with a naive reader.
//! - A message is refused at its end and never in the middle: the text is read to its real end, so that no part of it can
//!   be taken for a command.
//! - After an error nothing is appended any more, however much the peer sends.
//!
//! Not here: what a header means (`mail`), where the content goes (the driver), how long it may take (the driver).

mod watch;

use bytes::{Buf, BytesMut};

use crate::mail::{Enhanced, Reply};

use watch::Watch;

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
        match self {
            DataError::TooLarge { limit } => Reply::too_large(*limit),
            DataError::HeaderTooLarge { limit } => {
                Reply::new(552, Enhanced(5, 3, 4), format!("Message header is larger than the limit of {limit} bytes"))
            }
            DataError::LineTooLong { limit } => {
                Reply::new(554, Enhanced(5, 6, 0), format!("Message has a line longer than the limit of {limit} bytes"))
            }
            DataError::BareLineEnd => Reply::new(
                554,
                Enhanced(5, 6, 0),
                "Message has a bare CR or bare LF, only CRLF ends a line (RFC 5321 section 2.3.8)",
            ),
            DataError::TooManyHops => Reply::too_many_hops(),
        }
    }

    /// The lowest is the one that is reported. By rank and not by place, because the place where an error is noticed
    /// depends on how the input was split.
    fn rank(&self) -> u8 {
        match self {
            DataError::TooLarge { .. } => 0,
            DataError::BareLineEnd => 1,
            DataError::TooManyHops => 2,
            DataError::HeaderTooLarge { .. } => 3,
            DataError::LineTooLong { .. } => 4,
        }
    }
}

/// How far the reader is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataStatus {
    /// Give it more input.
    More,
    /// The end was read; what follows in the buffer is the next command. The gravest error met, if any.
    End(Result<(), DataError>),
}

/// Reads one message, over several BDAT chunks when need be.
#[derive(Debug)]
pub struct DataReader {
    place: Place,
    watch: Watch,
}

/// What the input before the next byte was; everything in it is either content already given out or named here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// A CRLF, or nothing yet: an empty message is ".CRLF" alone.
    LineStart,
    /// A dot at the start of a line: either stuffing or the first byte of the end mark.
    Dot,
    /// A dot and a CR at the start of a line.
    DotCr,
    InLine,
    /// A CR, not given out yet.
    Cr,
}

impl DataReader {
    /// Limits in bytes: of the message, of the header section, of one line without its end.
    pub fn new(size_max: u64, header_max: u64, text_line_max: u64) -> DataReader {
        DataReader { place: Place::LineStart, watch: Watch::new(size_max, header_max, text_line_max) }
    }

    /// Takes input off the front of `buffer` and appends content to `out`; nothing is appended any more after an error.
    /// Up to two bytes that may belong to the end mark can stay inside the reader between calls; nothing else is held back.
    pub fn data(&mut self, buffer: &mut BytesMut, out: &mut BytesMut) -> DataStatus {
        let mut at = 0;
        while at < buffer.len() {
            let (took, found_end) = self.step(&buffer[at..], out);
            at += took;
            if found_end {
                buffer.advance(at);
                return DataStatus::End(self.watch.result());
            }
        }
        buffer.clear();
        DataStatus::More
    }

    /// The same for one BDAT chunk of which `remaining` bytes are still to come; lowers `remaining` by what it took.
    /// Ends when it is 0. Bare line ends are kept.
    pub fn chunk(&mut self, buffer: &mut BytesMut, remaining: &mut u64, out: &mut BytesMut) -> DataStatus {
        let count = usize::try_from(*remaining).unwrap_or(usize::MAX).min(buffer.len());
        self.give(&buffer[..count], out);
        buffer.advance(count);
        *remaining -= count as u64;
        if *remaining == 0 { DataStatus::End(self.watch.result()) } else { DataStatus::More }
    }

    /// Of the content so far, in bytes.
    pub fn size(&self) -> u64 {
        self.watch.size()
    }

    /// One move in DATA: how many bytes of `input` (never empty) it took, and whether they were the last of the end mark.
    /// Takes none only when it moves to a place that takes some.
    fn step(&mut self, input: &[u8], out: &mut BytesMut) -> (usize, bool) {
        let (next, took) = match (self.place, input[0]) {
            (Place::LineStart, b'.') => (Place::Dot, 1),
            (Place::Dot, b'\r') => (Place::DotCr, 1),
            (Place::DotCr, b'\n') => {
                self.place = Place::LineStart;
                return (1, true);
            }
            // The dot was stuffing; the CR after it is content, and most likely a bare one.
            (Place::DotCr, _) => (Place::Cr, 0),
            (Place::Cr, b'\n') => {
                self.give(b"\r\n", out);
                (Place::LineStart, 1)
            }
            (Place::Cr, _) => {
                self.watch.note(DataError::BareLineEnd);
                self.give(b"\r", out);
                (Place::InLine, 0)
            }
            (Place::LineStart | Place::Dot | Place::InLine, _) => self.lines(input, out),
        };
        self.place = next;
        (took, false)
    }

    /// The rest of this line and as many more as need no dot removed: content that is given out in one piece.
    fn lines(&mut self, input: &[u8], out: &mut BytesMut) -> (Place, usize) {
        let mut end = 0;
        let place = loop {
            match memchr::memchr2(b'\r', b'\n', &input[end..]) {
                None => {
                    end = input.len();
                    break Place::InLine;
                }
                Some(place) if input[end + place] == b'\n' => {
                    self.watch.note(DataError::BareLineEnd);
                    end += place + 1;
                }
                Some(place) if input.get(end + place + 1) == Some(&b'\n') => {
                    end += place + 2;
                    if end == input.len() || input[end] == b'.' {
                        break Place::LineStart;
                    }
                }
                Some(place) => {
                    self.give(&input[..end + place], out);
                    return (Place::Cr, end + place + 1);
                }
            }
        };
        self.give(&input[..end], out);
        (place, end)
    }

    fn give(&mut self, content: &[u8], out: &mut BytesMut) {
        self.watch.pass(content);
        if self.watch.result().is_ok() {
            out.extend_from_slice(content);
        }
    }
}

#[cfg(test)]
mod tests;
