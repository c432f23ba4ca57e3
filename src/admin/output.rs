//! How answers are written for people: times, sizes, tables; and the one way out to the terminal.
//!
//! Much of what is shown was written by strangers: addresses, replies, subjects, virus names. Nothing of it reaches a terminal
//! as a control character: every cell and every field goes through [`printable`]. Tables are made for 100 columns; when the
//! output goes to a file or pipe nothing is wrapped or cut, so that a line can be grepped.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use comfy_table::{ColumnConstraint, ContentArrangement, Table, presets};
use serde::Serialize;

use crate::mail::Timestamp;

/// When the terminal does not tell.
const WIDTH_DEFAULT: usize = 100;

/// Columns of the terminal, or `None` when nobody looks: then lines are as long as they are.
pub fn terminal_width() -> Option<usize> {
    let told = || std::env::var("COLUMNS").ok()?.parse::<usize>().ok().filter(|width| (40..=1000).contains(width));
    io::stdout().is_terminal().then(|| told().unwrap_or(WIDTH_DEFAULT))
}

/// Writes to standard output. A reader that has seen enough (`| head`) is no error.
pub fn write_out(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// As `--json` prints it: over several lines, and without any character that a terminal obeys.
pub fn json(answer: &impl Serialize) -> String {
    let text = serde_json::to_string_pretty(answer).expect("answers are plain values with text keys");
    let mut safe = String::with_capacity(text.len() + 1);
    for letter in text.chars() {
        // serde_json has escaped the C0 controls; what is left stands inside strings, where JSON allows an escape.
        if letter != '\n' && is_unsafe(letter) {
            let mut units = [0; 2];
            letter.encode_utf16(&mut units).iter().for_each(|unit| safe.push_str(&format!("\\u{unit:04x}")));
        } else {
            safe.push(letter);
        }
    }
    safe.push('\n');
    safe
}

/// The text with control characters, and those that turn the direction of writing around, made visible.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        if is_unsafe(letter) { safe.extend(letter.escape_default()) } else { safe.push(letter) }
    }
    Cow::Owned(safe)
}

fn is_unsafe(letter: char) -> bool {
    let turns_or_hides =
        matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
    letter.is_control() || turns_or_hides
}

/// `2026-11-20 22:36:00Z`
pub fn moment(at: Timestamp) -> String {
    at.rfc3339().replacen('T', " ", 1)
}

/// `in 4 min`, `3 h ago`, `now`
pub fn relative(at: Timestamp, now: Timestamp) -> String {
    if at.0 / 1000 == now.0 / 1000 {
        return "now".to_owned();
    }
    if at > now { format!("in {}", span(at.since(now))) } else { format!("{} ago", span(now.since(at))) }
}

/// `2026-11-20 22:36:00Z (3 h ago)`
pub fn moment_and_relative(at: Timestamp, now: Timestamp) -> String {
    format!("{} ({})", moment(at), relative(at, now))
}

/// A length of time in its largest fitting unit, rounded down: `45 s`, `4 min`, `3 h`, `2 d`.
pub fn span(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..3600 => format!("{} min", seconds / 60),
        seconds @ 3600..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

/// `512 B`, `12.3 KiB`, `4.0 GiB`
pub fn size(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", units[unit])
}

/// `1 message`, `5 messages`
pub fn counted(count: u64, word: &str) -> String {
    if count == 1 { format!("1 {word}") } else { format!("{count} {word}s") }
}

/// Cut to `most` characters, with a mark when something is missing.
pub fn elided(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some(_) => text.chars().take(most.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// A table without lines. Columns named as elastic are wrapped when the terminal is narrower; the others never.
pub struct Grid {
    table: Table,
    elastic: &'static [&'static str],
    header: &'static [&'static str],
}

impl Grid {
    pub fn new(header: &'static [&'static str], elastic: &'static [&'static str]) -> Grid {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(header.to_vec());
        Grid { table, elastic, header }
    }

    pub fn row(&mut self, cells: impl IntoIterator<Item = impl AsRef<str>>) {
        self.table.add_row(cells.into_iter().map(|cell| printable(cell.as_ref()).into_owned()).collect::<Vec<_>>());
    }

    /// The table with `indent` blanks before each line, for a terminal of `width` columns.
    pub fn render(mut self, width: Option<usize>, indent: usize) -> String {
        for (column, name) in self.table.column_iter_mut().zip(self.header) {
            column.set_padding((0, 2));
            if width.is_some() && !self.elastic.contains(name) {
                column.set_constraint(ColumnConstraint::ContentWidth);
            }
        }
        match width.and_then(|width| u16::try_from(width.saturating_sub(indent)).ok()) {
            // The last column's padding may stand outside.
            Some(width) => self.table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width.saturating_add(2)),
            None => self.table.set_content_arrangement(ContentArrangement::Disabled),
        };
        let blanks = " ".repeat(indent);
        self.table.lines().map(|line| format!("{blanks}{}", line.trim_end()).trim_end().to_owned() + "\n").collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_795_214_160_000);

    #[test]
    fn times_are_read_at_a_glance() {
        assert_eq!(moment(NOW), "2026-11-20 22:36:00Z");
        let after = |seconds| relative(NOW + Duration::from_secs(seconds), NOW);
        let before = |seconds| relative(NOW - Duration::from_secs(seconds), NOW);
        assert_eq!((after(240), after(0), after(90_000)), ("in 4 min".into(), "now".into(), "in 25 h".into()));
        assert_eq!((before(59), before(3 * 3600), before(400_000)), ("59 s ago".into(), "3 h ago".into(), "4 d ago".into()));
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(
            [0, 1023, 1024, 12_595, 1_048_575, 1 << 32, u64::MAX].map(size),
            ["0 B", "1023 B", "1.0 KiB", "12.3 KiB", "1.0 MiB", "4.0 GiB", "16.0 EiB"]
        );
    }

    #[test]
    fn nothing_a_stranger_wrote_steers_the_terminal() {
        assert_eq!(printable("451 busy\r\n\u{1b}[2J\u{9b}1m\u{202e}x"), "451 busy\\r\\n\\u{1b}[2J\\u{9b}1m\\u{202e}x");
        assert_eq!(printable("Grüße 你好"), "Grüße 你好");
        let json = json(&["\u{1b}[2J\u{9b}\u{202e}\nä"]);
        assert_eq!(json, "[\n  \"\\u001b[2J\\u009b\\u202e\\nä\"\n]\n");
        assert_eq!(serde_json::from_str::<Vec<String>>(&json).unwrap(), ["\u{1b}[2J\u{9b}\u{202e}\nä"]);
    }

    #[test]
    fn a_table_wraps_its_elastic_column_only() {
        let grid = || {
            let mut grid = Grid::new(&["ID", "TEXT"], &["TEXT"]);
            grid.row(["01hk3c9v7x00.1", &"word ".repeat(20)]);
            grid.row(["x", "\u{1b}[1m"]);
            grid
        };
        let wide = grid().render(None, 2);
        assert_eq!(wide.lines().count(), 3);
        assert!(wide.starts_with("  ID              TEXT\n  01hk3c9v7x00.1  word word"), "{wide}");
        assert!(wide.ends_with("  x               \\u{1b}[1m\n"), "{wide}");
        let narrow = grid().render(Some(60), 2);
        assert!(narrow.lines().count() > 3, "{narrow}");
        assert!(narrow.lines().all(|line| line.chars().count() <= 60), "{narrow}");
        assert!(narrow.contains("01hk3c9v7x00.1"), "{narrow}");
    }

    #[test]
    fn long_texts_are_cut_with_a_mark() {
        assert_eq!(elided("ärger@customer.example", 6), "ärger…");
        assert_eq!(elided("short", 5), "short");
    }
}
