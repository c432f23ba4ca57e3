//! The way of a log line to standard error. What peers said stands in it, and somebody reads it in a terminal: letters that
//! turn the direction of writing around, hide, or are control characters beyond ASCII are written as escapes, in JSON and in
//! text. Those of ASCII the formatters escape themselves; and the colours, which are made of them, are theirs.

use std::io::{self, Write};

/// Writes lines without such letters. A formatter hands a line over in one piece.
pub(super) struct Guarded<W>(pub(super) W);

impl<W: Write> Write for Guarded<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match std::str::from_utf8(line) {
            Ok(text) if text.contains(is_unsafe) => self.0.write_all(escaped(text).as_bytes())?,
            _ => self.0.write_all(line)?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// As JSON escapes them: all of them are in the first plane.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        if is_unsafe(letter) { safe.push_str(&format!("\\u{:04x}", u32::from(letter))) } else { safe.push(letter) }
    }
    safe
}

fn is_unsafe(letter: char) -> bool {
    let turns_or_hides =
        matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
    matches!(letter, '\u{7f}'..='\u{9f}') || turns_or_hides
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_that_deceive_are_written_as_escapes() {
        let mut out = Vec::new();
        Guarded(&mut out).write_all("{\"text\":\"a\u{202e}b\u{9b}c\u{7f} \u{e4}\"}\n".as_bytes()).unwrap();
        let line = String::from_utf8(out).unwrap();
        assert_eq!(line, "{\"text\":\"a\\u202eb\\u009bc\\u007f \u{e4}\"}\n");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&line).unwrap()["text"], "a\u{202e}b\u{9b}c\u{7f} \u{e4}");
    }

    #[test]
    fn colours_and_bytes_that_are_no_text_pass() {
        let mut out = Vec::new();
        Guarded(&mut out).write_all(b"\x1b[32mINFO\x1b[0m \xff\n").unwrap();
        assert_eq!(out, b"\x1b[32mINFO\x1b[0m \xff\n");
    }
}
