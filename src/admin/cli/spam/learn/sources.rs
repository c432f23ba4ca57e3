//! Where messages come from: files, directories, Maildirs, mailboxes (mbox), standard input.
//!
//! One message at a time is in memory. What cannot be read is reported with its name, and the next one is read.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// Of a message, in bytes. No server takes larger ones.
const MESSAGE_MAX: usize = 128 << 20;
/// Directories in directories.
const DEPTH_MAX: usize = 16;

/// A file to be read, and its size in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    pub path: PathBuf,
    pub size: u64,
}

/// All files behind these paths, in order; and what could not be looked at, with why. Of a Maildir only what was delivered
/// (`cur`, `new`); of other directories every file whose name does not begin with a dot.
pub fn sources(paths: &[PathBuf]) -> (Vec<Source>, Vec<(String, String)>) {
    let (mut found, mut failed) = (Vec::new(), Vec::new());
    for path in paths {
        if path == Path::new("-") {
            found.push(Source { path: path.clone(), size: 0 });
        } else {
            look(path, 0, &mut found, &mut failed);
        }
    }
    (found, failed)
}

fn look(path: &Path, depth: usize, found: &mut Vec<Source>, failed: &mut Vec<(String, String)>) {
    let mut fail = |error: String| failed.push((path.display().to_string(), error));
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) => return fail(error.to_string()),
    };
    if metadata.is_file() {
        return found.push(Source { path: path.to_owned(), size: metadata.len() });
    }
    if !metadata.is_dir() {
        return fail("neither a file nor a directory".to_owned());
    }
    if depth >= DEPTH_MAX {
        return fail("too many directories in each other".to_owned());
    }
    let (cur, new) = (path.join("cur"), path.join("new"));
    if cur.is_dir() && new.is_dir() {
        // The folders of a Maildir++ stand beside them and are asked for by name.
        [cur, new].iter().for_each(|inner| look(inner, depth + 1, found, failed));
        return;
    }
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) => return fail(error.to_string()),
    };
    let mut inside: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    inside.retain(|path| path.file_name().is_some_and(|name| !name.as_encoded_bytes().starts_with(b".")));
    inside.sort();
    inside.iter().for_each(|inner| look(inner, depth + 1, found, failed));
}

/// Reads a source and hands each message over with its name and the bytes read so far. An error ends this source.
pub fn read(source: &Source, mut each: impl FnMut(&str, Result<Vec<u8>, String>, u64) -> io::Result<()>) -> io::Result<()> {
    let name = source.path.display().to_string();
    if source.path == Path::new("-") {
        return messages(io::stdin().lock(), "standard input", &mut each);
    }
    messages(BufReader::with_capacity(256 * 1024, File::open(&source.path)?), &name, &mut each)
}

/// A file that begins with `From ` is a mailbox (RFC 4155, and the programs before it).
fn messages(
    mut from: impl BufRead,
    name: &str,
    each: &mut impl FnMut(&str, Result<Vec<u8>, String>, u64) -> io::Result<()>,
) -> io::Result<()> {
    let begins = from.fill_buf()?;
    if begins.starts_with(b"From ") {
        return mailbox(from, name, each);
    }
    let mut content = Vec::new();
    from.take(MESSAGE_MAX as u64 + 1).read_to_end(&mut content)?;
    let read = content.len() as u64;
    each(name, sized(content), read)
}

fn mailbox(
    mut from: impl BufRead,
    name: &str,
    each: &mut impl FnMut(&str, Result<Vec<u8>, String>, u64) -> io::Result<()>,
) -> io::Result<()> {
    let (mut content, mut line, mut number, mut read, mut is_after_blank) = (Vec::new(), Vec::new(), 0, 0, true);
    loop {
        line.clear();
        // A line without an end is read in pieces: it may be as long as the file.
        let length = (&mut from).take(MESSAGE_MAX as u64).read_until(b'\n', &mut line)?;
        read += length as u64;
        let begins = is_after_blank && line.starts_with(b"From ");
        if (length == 0 || begins) && number > 0 {
            each(&format!("{name}, message {number}"), sized(without_last_blank(&mut content)), read)?;
        }
        if length == 0 {
            return Ok(());
        }
        is_after_blank = matches!(line.as_slice(), b"\n" | b"\r\n");
        if begins {
            number += 1;
        } else if content.len() <= MESSAGE_MAX {
            content.extend_from_slice(unquoted(&line));
        }
    }
}

/// The blank line before the next `From ` belongs to the mailbox.
fn without_last_blank(content: &mut Vec<u8>) -> Vec<u8> {
    let mut content = std::mem::take(content);
    for blank in [&b"\n\r\n"[..], b"\n\n"] {
        if content.ends_with(blank) {
            content.truncate(content.len() - blank.len() + 1);
            break;
        }
    }
    content
}

/// `>From ` was `From `, `>>From ` was `>From `.
fn unquoted(line: &[u8]) -> &[u8] {
    let quotes = line.iter().take_while(|byte| **byte == b'>').count();
    if quotes > 0 && line[quotes..].starts_with(b"From ") { &line[1..] } else { line }
}

fn sized(content: Vec<u8>) -> Result<Vec<u8>, String> {
    if content.len() > MESSAGE_MAX { Err("larger than any message".to_owned()) } else { Ok(content) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(text: &[u8]) -> Vec<(String, String)> {
        let mut found = Vec::new();
        messages(text, "box", &mut |name, content, _| {
            found.push((name.to_owned(), String::from_utf8(content.unwrap()).unwrap()));
            Ok(())
        })
        .unwrap();
        found
    }

    #[test]
    fn a_mailbox_is_taken_apart() {
        let text = b"From ann Mon Nov  2 10:00:00 2026\nSubject: one\n\nhi\n>From here\n>>From there\nFrom here on it is text\n\nFrom bob Mon\nSubject: two\n\nho\n";
        let found = read_all(text);
        let expected = [
            ("box, message 1", "Subject: one\n\nhi\nFrom here\n>From there\nFrom here on it is text\n"),
            ("box, message 2", "Subject: two\n\nho\n"),
        ];
        assert_eq!(found, expected.map(|(name, text)| (name.to_owned(), text.to_owned())));
        assert_eq!(read_all(b"Subject: x\n\nFrom me\n"), [("box".to_owned(), "Subject: x\n\nFrom me\n".to_owned())]);
        assert_eq!(read_all(b"From a\r\nA: 1\r\n\r\nb\r\n\r\n").len(), 1);
    }

    #[test]
    fn directories_and_maildirs_are_looked_through() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str| {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "Subject: x\n\n").unwrap();
        };
        [
            "mails/b.eml",
            "mails/a.eml",
            "mails/.hidden",
            "mails/more/c.eml",
            "box/cur/1:2,S",
            "box/new/2",
            "box/tmp/3",
            "box/dovecot.index",
        ]
        .into_iter()
        .for_each(write);
        let paths = ["mails", "box", "nothing"].map(|name| directory.path().join(name));
        let (found, failed) = sources(&paths);
        let names: Vec<_> =
            found.iter().map(|source| source.path.strip_prefix(directory.path()).unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["mails/a.eml", "mails/b.eml", "mails/more/c.eml", "box/cur/1:2,S", "box/new/2"]);
        assert_eq!(failed.len(), 1);
    }
}
