//! Mistakes in the settings, all of them at once, each with its file, line and caret, printed the way rustc prints its own:
//!
//! ```text
//! error: unknown key `listne` in [smtp]
//!   --> feedgate.toml:4:1
//!    |
//!  4 | listne = ["0.0.0.0:25"]
//!    | ^^^^^^
//!    = help: did you mean `listen`?
//! ```
//!
//! What is printed is bounded: a file of another kind given by accident may hold a mistake in every line, or one endless line.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Of one file; more are counted but not shown.
const ERRORS_MAX: usize = 100;
/// Letters shown of a longer line.
const LINE_MAX: usize = 160;
/// Letters of a message; it may quote a value or a key.
const MESSAGE_MAX: usize = 400;
/// Letters shown left of the caret when the line is longer than [`LINE_MAX`].
const LINE_LEFT: usize = 60;

/// Everything that is wrong with the settings; never empty.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfigErrors(Vec<ConfigError>);

/// One mistake. `Display` is the long form with the caret; [`ConfigError::brief`] fits into a log line.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfigError {
    message: String,
    file: PathBuf,
    /// `None`: the file as a whole.
    spot: Option<Box<Spot>>,
    help: Option<String>,
}

/// A place in a file, with what stands there.
#[derive(Clone, Debug, PartialEq)]
struct Spot {
    /// Both from 1; the column in letters.
    line: usize,
    column: usize,
    /// What is shown of the line, and where in it the caret begins.
    excerpt: String,
    indent: usize,
    width: usize,
}

impl ConfigErrors {
    /// `Ok` when there are none.
    pub(super) fn none_or(errors: Vec<ConfigError>) -> Result<(), ConfigErrors> {
        if errors.is_empty() { Ok(()) } else { Err(ConfigErrors(errors)) }
    }

    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.0.iter()
    }

    /// At least one.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> ConfigErrors {
        ConfigErrors(vec![error])
    }
}

impl ConfigError {
    /// About a file that could not be read, or lacks something.
    pub(super) fn in_file(file: &Path, message: impl Into<String>) -> ConfigError {
        ConfigError { message: message.into(), file: file.to_owned(), spot: None, help: None }
    }

    pub(super) fn with_help(self, help: impl Into<String>) -> ConfigError {
        ConfigError { help: Some(help.into()), ..self }
    }

    /// What is wrong, without the place.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// `file:line:column: message`, on one line.
    pub fn brief(&self) -> String {
        format!("{}: {}", self.place(), self.message)
    }

    fn place(&self) -> String {
        let file = self.file.display();
        self.spot.as_ref().map_or_else(|| file.to_string(), |spot| format!("{file}:{}:{}", spot.line, spot.column))
    }
}

/// A mistake while its file is being read; cheap, as there may be one in every line.
#[derive(Debug)]
pub(super) struct Mistake {
    /// `None`: the file as a whole.
    pub(super) bytes: Option<Range<usize>>,
    pub(super) message: String,
    pub(super) help: Option<String>,
}

/// In the order of the text, with places, and no more than anybody reads.
pub(super) fn explain(text: &Text, mut mistakes: Vec<Mistake>) -> Vec<ConfigError> {
    mistakes.sort_by_key(|mistake| mistake.bytes.as_ref().map(|bytes| bytes.start));
    let hidden = mistakes.len().saturating_sub(ERRORS_MAX);
    let placed = mistakes.into_iter().take(ERRORS_MAX).map(|Mistake { bytes, message, help }| ConfigError {
        message: bounded(&message),
        file: text.name.clone(),
        spot: bytes.map(|bytes| Box::new(text.spot(bytes))),
        help: help.as_deref().map(bounded),
    });
    let mut errors: Vec<ConfigError> = placed.collect();
    if hidden > 0 {
        errors.push(ConfigError::in_file(text.name(), format!("{hidden} more errors in this file are not shown")));
    }
    errors
}

/// One file of settings, kept to show its lines.
pub(super) struct Text {
    name: PathBuf,
    text: String,
    /// Offsets in bytes; a place is then found by halving, also in a file with ten thousand domains.
    line_starts: Vec<usize>,
}

impl Text {
    pub(super) fn new(name: &Path, text: String) -> Text {
        let after_ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        let line_starts = std::iter::once(0).chain(after_ends).collect();
        Text { name: name.to_owned(), text, line_starts }
    }

    pub(super) fn name(&self) -> &Path {
        &self.name
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// `file:line`, to point at a second place.
    pub(super) fn place(&self, offset: usize) -> String {
        format!("{}:{}", self.name.display(), self.line_starts.partition_point(|start| *start <= offset))
    }

    fn spot(&self, bytes: Range<usize>) -> Spot {
        let start = self.text.floor_char_boundary(bytes.start.min(self.text.len()));
        // At the end of a file that ends its last line, that line is shown rather than the nothing behind it.
        let line = self.line_starts.partition_point(|line_start| *line_start <= start).max(1);
        let behind_last = line > 1 && start == self.text.len() && self.line_starts[line - 1] == start;
        let line = if behind_last { line - 1 } else { line };

        let line_start = self.line_starts[line - 1];
        let line_end = self.line_starts.get(line).copied().unwrap_or(self.text.len());
        let content = self.text[line_start..line_end].trim_end_matches(['\n', '\r']);
        let start = start.min(line_start + content.len());
        let end = self.text.floor_char_boundary(bytes.end).clamp(start, line_start + content.len());

        let before = self.text[line_start..start].chars().count();
        let width = self.text[start..end].chars().count().max(1);
        let (excerpt, indent) = excerpt(content, before);
        let width = width.min(excerpt.chars().count().saturating_sub(indent).max(1));
        Spot { line, column: before + 1, excerpt, indent, width }
    }
}

fn bounded(message: &str) -> String {
    match message.char_indices().nth(MESSAGE_MAX) {
        None => message.chars().map(printable).collect(),
        Some((end, _)) => message[..end].chars().map(printable).chain(['…']).collect(),
    }
}

/// Control characters would move the caret, or tell the terminal what to do.
fn printable(letter: char) -> char {
    match letter {
        '\t' => ' ',
        letter if letter.is_control() => '\u{fffd}',
        letter => letter,
    }
}

/// What is shown of a line, and where in it the letter `at` of the line stands.
fn excerpt(line: &str, at: usize) -> (String, usize) {
    // Not `count`: the line may be the whole of a large file, and is looked at for each error in it.
    if line.chars().nth(LINE_MAX).is_none() {
        return (line.chars().map(printable).collect(), at);
    }
    let skipped = at.saturating_sub(LINE_LEFT);
    let mut letters = line.chars().skip(skipped);
    let shown: String = letters.by_ref().take(LINE_MAX).map(printable).collect();
    let (front, left) = if skipped > 0 { ("…", 1) } else { ("", 0) };
    let back = if letters.next().is_some() { "…" } else { "" };
    (format!("{front}{shown}{back}"), at - skipped + left)
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            let gap = if index > 0 { "\n" } else { "" };
            write!(f, "{gap}{error}")?;
        }
        Ok(())
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "error: {}", self.message)?;
        let gutter = self.spot.as_ref().map_or(1, |spot| spot.line.to_string().len()) + 1;
        writeln!(f, "{:gutter$}--> {}", "", self.place())?;
        if let Some(Spot { line, excerpt, indent, width, .. }) = self.spot.as_deref() {
            writeln!(f, "{:gutter$} |", "")?;
            writeln!(f, "{line:>gutter$} | {excerpt}")?;
            writeln!(f, "{:gutter$} | {:indent$}{}", "", "", "^".repeat(*width))?;
        }
        if let Some(help) = &self.help {
            writeln!(f, "{:gutter$} = help: {help}", "")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use super::*;

    /// The `«»` in the text stand around what the error is about.
    #[track_caller]
    fn shows(marked: &str, expected: &str) {
        let start = marked.find('«').expect("marked");
        let text = marked.replacen('«', "", 1);
        let end = text.find('»').expect("marked");
        let text = Text::new(Path::new("a.toml"), text.replacen('»', "", 1));
        assert_eq!(explain(&text, vec![wrong(start..end)])[0].to_string(), expected);
    }

    fn wrong(bytes: Range<usize>) -> Mistake {
        Mistake { bytes: Some(bytes), message: "wrong".into(), help: None }
    }

    #[test]
    fn the_caret_stands_below_the_mistake() {
        shows("a = 1\nb = «12»\n", "error: wrong\n  --> a.toml:2:5\n   |\n 2 | b = 12\n   |     ^^\n");
        shows("ü = \"«é»\"", "error: wrong\n  --> a.toml:1:6\n   |\n 1 | ü = \"é\"\n   |      ^\n");
        shows("\t«b» = 1\r\n", "error: wrong\n  --> a.toml:1:2\n   |\n 1 |  b = 1\n   |  ^\n");
        shows("a = \"\u{1b}\"«\nb»\n", "error: wrong\n  --> a.toml:1:8\n   |\n 1 | a = \"\u{fffd}\"\n   |        ^\n");
        shows("a = 1\n«»", "error: wrong\n  --> a.toml:1:6\n   |\n 1 | a = 1\n   |      ^\n");
        shows("«»", "error: wrong\n  --> a.toml:1:1\n   |\n 1 | \n   | ^\n");
    }

    #[test]
    fn a_long_line_is_shown_around_the_caret() {
        let text = Text::new(Path::new("a.toml"), format!("{}X{}", "é".repeat(1000), "b".repeat(1000)));
        let spot = text.spot(2000..2001);
        assert_eq!((spot.line, spot.column, spot.indent, spot.width), (1, 1001, 61, 1));
        assert_eq!(spot.excerpt, format!("…{}X{}…", "é".repeat(60), "b".repeat(99)));
    }

    #[test]
    fn places_outside_the_text_do_not_panic() {
        let text = Text::new(Path::new("a.toml"), "a = \"é\"\n".to_owned());
        for start in 0..20 {
            for end in 0..20 {
                let bytes = Range { start, end };
                assert!(text.spot(bytes).line == 1);
            }
        }
    }

    #[test]
    fn a_file_full_of_errors_shows_some_and_counts_the_rest() {
        let text = Text::new(Path::new("a.toml"), "x\n".repeat(500));
        let mistakes = (0..500).rev().map(|line| wrong(line * 2..line * 2 + 1)).collect();
        let errors = explain(&text, mistakes);
        assert_eq!(errors.len(), ERRORS_MAX + 1);
        assert_eq!(errors[0].brief(), "a.toml:1:1: wrong");
        assert_eq!(errors[ERRORS_MAX].brief(), "a.toml: 400 more errors in this file are not shown");
    }
}
