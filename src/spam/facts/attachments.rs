//! What a message carries: names, kinds, and what is inside of archives and documents.
//!
//! Each format has a small reader of its own in a file below. They are no virus scanner: they look for what makes a file
//! dangerous or dishonest to open, whatever it contains. Nothing is changed and nothing is kept; a file that makes no sense
//! is read as far as it does.
//!
//! Everything is bounded by [`Budget`]: how much of a file is looked at, how much is unpacked, how many names and how many
//! levels. What lies beyond a bound is not looked at, and that is a [`Sign::Bound`] where honest files stay within it.

mod bytes;
mod kinds;
mod office;
mod ole;
mod onenote;
mod page;
mod pdf;
mod rar;
mod sevenzip;
mod tar;
mod tnef;
mod zip;

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod tests;

use mail_parser::parsers::MessageStream;

use crate::spam::text::prefix;

/// Names taken from one archive.
const INSIDE_MAX: usize = 64;
/// Of these, as many are for programs only, so that a heap of pictures does not hide one.
const RESERVED: usize = 16;
/// Names of one attachment.
const NAMES_MAX: usize = 256;
/// Of one name, in bytes.
const NAME_MAX: usize = 256;
/// Archives within archives.
const LEVELS_MAX: usize = 3;
/// An archive with a program is hardly smaller.
const TINY: usize = 32 << 10;
/// Members of an archive that is about one file.
const FEW: usize = 4;

/// What a file is, or does when it is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::spam) enum Sign {
    /// An archive with files that need a password.
    Encrypted,
    /// A document that needs a password.
    EncryptedDocument,
    /// A program under the name of a document or an image.
    DisguisedProgram,
    /// An archive or a disk image under the name of a document or an image.
    DisguisedArchive,
    /// A web page under the name of a document or an image.
    DisguisedPage,
    /// A name for one kind of file and a Content-Type for another.
    OtherType,
    /// A name with a character that turns the direction of text (U+202E), or that pushes its end out of sight.
    LyingName,
    /// An archive of a few files with a script or shortcut among them.
    PackedScript,
    /// An archive of a few files with a program among them.
    PackedProgram,
    /// The same, and hardly large enough for one.
    TinyProgram,
    /// A disk image in an archive.
    PackedImage,
    /// A web page alone in an archive.
    PackedPage,
    /// An Office document with macros.
    Macros,
    /// Macros that run when the document is opened or closed.
    AutoMacros,
    /// Excel 4.0 macro sheets.
    OldMacros,
    /// A document that fetches its template or an object from elsewhere when opened.
    RemoteTemplate,
    /// A document that has an object run or updated when opened.
    ActiveObject,
    /// A file other than an image in a OneNote notebook.
    NotebookFile,
    PdfScript,
    PdfLaunch,
    /// A PDF that leads to a site when opened.
    PdfOpensSite,
    /// A PDF with a program or script attached.
    PdfProgram,
    PdfEncrypted,
    /// A PDF with its keywords written in hexadecimal.
    PdfDisguised,
    /// A page with a form or a script.
    ActivePage,
    /// A page that builds a file out of itself, or writes itself from encoded text.
    Smuggling,
    /// A page that asks for a password.
    PasswordPage,
    /// A page that leads elsewhere by itself.
    Redirect,
    /// An SVG image with a script.
    ActiveImage,
    /// More than is looked at: names, levels, or unpacked bytes.
    Bound,
    /// Unpacks to more than it says.
    Bomb,
}

/// One attached file.
#[derive(Debug, Default, PartialEq)]
pub(in crate::spam) struct Attachment {
    /// Its own name, empty when it has none, then those inside as `archive.zip/name`; in lower case.
    pub names: Vec<String>,
    /// `type/subtype` as declared.
    pub declared: String,
    /// What was found, with the name of the file in which it was.
    pub signs: Vec<(Sign, String)>,
    /// Where links in PDF files lead.
    pub urls: Vec<String>,
    /// What QR codes in an image say.
    pub qr_texts: Vec<String>,
}

/// What may still be looked at and unpacked of one message.
#[derive(Debug)]
pub(in crate::spam) struct Budget {
    look: usize,
    unpack: usize,
}

impl Default for Budget {
    fn default() -> Budget {
        Budget { look: Budget::LOOK_MAX, unpack: Budget::UNPACKED_MAX }
    }
}

impl Budget {
    /// Of all files of a message, those inside of archives too, in bytes.
    const LOOK_MAX: usize = 8 << 20;
    /// Of all files of a message.
    const UNPACKED_MAX: usize = 4 << 20;
    /// Of one file, packed or unpacked.
    const FILE_MAX: usize = 1 << 20;

    /// As much of a file as may be looked at.
    fn look<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let bytes = &bytes[..bytes.len().min(Self::FILE_MAX).min(self.look)];
        self.look -= bytes.len();
        bytes
    }

    /// How large the next file may be when it is unpacked.
    fn room(&self) -> usize {
        self.unpack.min(Self::FILE_MAX)
    }
}

impl Attachment {
    pub fn read(name: &str, kind: &str, subtype: &str, bytes: &[u8], budget: &mut Budget) -> Attachment {
        let own = decoded_name(name);
        let declared = format!("{kind}/{subtype}");
        let attachment = Attachment { names: vec![own.clone()], declared: declared.clone(), ..Attachment::default() };
        let mut reader = Reader { attachment, budget };
        reader.file(&own, &declared, bytes, 0);
        reader.attachment
    }

    pub fn has_extension(&self, extensions: &[&str]) -> bool {
        extensions.contains(&extension(&self.names[0]))
    }

    /// The name of the file that has this sign.
    pub fn sign(&self, sign: Sign) -> Option<&str> {
        self.signs.iter().find(|(found, _)| *found == sign).map(|(_, name)| name.as_str())
    }
}

/// Reads one attachment and what is in it.
struct Reader<'b> {
    attachment: Attachment,
    budget: &'b mut Budget,
}

/// What a directory says of one file.
struct Member {
    name: String,
    encrypted: bool,
}

impl Reader<'_> {
    /// One file: `path` as rules see it, `declared` empty when it is inside of another.
    fn file(&mut self, path: &str, declared: &str, bytes: &[u8], level: usize) {
        let bytes = self.budget.look(bytes);
        self.name(path);
        let found = kinds::Kind::of(bytes);
        for sign in kinds::lies(path, declared, found) {
            self.sign(sign, path);
        }
        match found {
            kinds::Kind::Zip => self.zip(path, bytes, level),
            kinds::Kind::SevenZip => self.sevenzip(path, bytes),
            kinds::Kind::Rar => self.rar(path, bytes),
            kinds::Kind::Gzip => self.gzip(path, bytes, level),
            kinds::Kind::Tar => self.tar(path, bytes),
            kinds::Kind::Tnef => self.tnef(path, bytes, level),
            kinds::Kind::Ole => self.ole(path, bytes),
            kinds::Kind::OneNote => self.onenote(path, bytes, level),
            kinds::Kind::Pdf => self.pdf(path, bytes),
            kinds::Kind::Rtf => self.rtf(path, bytes),
            _ => self.page(path, declared, found, bytes),
        }
    }

    /// The names of an archive, and what they say together. `size`: of the archive.
    fn members(&mut self, path: &str, members: &[Member], size: usize) {
        let mut listed = 0;
        for member in members {
            let dangerous = runs(extension(&member.name));
            let room = if dangerous { INSIDE_MAX } else { INSIDE_MAX - RESERVED };
            if listed < room && self.attachment.names.len() < NAMES_MAX {
                listed += 1;
                let inside = format!("{path}/{}", member.name);
                self.name(&inside);
                self.attachment.names.push(inside);
            }
        }
        if listed < members.len() {
            self.sign(Sign::Bound, path);
        }
        if members.iter().any(|member| member.encrypted) {
            self.sign(Sign::Encrypted, path);
        }
        if members.len() <= FEW {
            self.few_members(path, members, size);
        }
    }

    /// An archive that is about one or two files tells its intent; a project's sources may well hold scripts.
    fn few_members(&mut self, path: &str, members: &[Member], size: usize) {
        for member in members {
            let extension = extension(&member.name);
            let inside = format!("{path}/{}", member.name);
            if is_program(extension) {
                self.sign(Sign::PackedProgram, &inside);
                if size < TINY {
                    self.sign(Sign::TinyProgram, &inside);
                }
            } else if is_disk_image(extension) {
                self.sign(Sign::PackedImage, &inside);
            } else if runs(extension) {
                self.sign(Sign::PackedScript, &inside);
            } else if kinds::is_page(extension) && members.len() == 1 {
                self.sign(Sign::PackedPage, &inside);
            }
        }
    }

    /// A name that makes people see another one.
    fn name(&mut self, name: &str) {
        if name.contains(['\u{202e}', '\u{202d}']) || padded(name) {
            self.sign(Sign::LyingName, name);
        }
    }

    fn sign(&mut self, sign: Sign, path: &str) {
        if self.attachment.sign(sign).is_none() {
            self.attachment.signs.push((sign, path.to_owned()));
        }
    }

    fn sign_if(&mut self, is: bool, sign: Sign, path: &str) {
        if is {
            self.sign(sign, path);
        }
    }

    /// Takes unpacked bytes off the budget.
    fn unpacked(&mut self, length: usize) {
        self.budget.unpack = self.budget.unpack.saturating_sub(length);
    }
}

/// Behind the last dot, without blanks.
pub(in crate::spam) fn extension(name: &str) -> &str {
    let name = name.rsplit_once('/').map_or(name, |(_, last)| last);
    name.rsplit_once('.').map_or("", |(_, extension)| extension.trim())
}

/// Extensions that Windows runs at a double click.
pub(in crate::spam) fn runs(extension: &str) -> bool {
    const RUNS: [&str; 22] = [
        "bat",
        "cmd",
        "hta",
        "js",
        "jse",
        "vbs",
        "vbe",
        "wsf",
        "wsh",
        "wsc",
        "sct",
        "ps1",
        "psm1",
        "lnk",
        "jar",
        "reg",
        "chm",
        "url",
        "library-ms",
        "appref-ms",
        "msc",
        "xll",
    ];
    RUNS.contains(&extension) || is_program(extension) || is_disk_image(extension)
}

fn is_program(extension: &str) -> bool {
    matches!(extension, "exe" | "scr" | "pif" | "com" | "msi" | "cpl" | "appx" | "msix" | "dll")
}

fn is_disk_image(extension: &str) -> bool {
    matches!(extension, "iso" | "img" | "vhd" | "vhdx" | "udf" | "dmg" | "daa")
}

/// A name with so many blanks or filling characters before its extension that a window shows only what stands before them.
fn padded(name: &str) -> bool {
    let mut run = 0;
    let mut longest = 0;
    let stem = name.rsplit_once('.').map_or("", |(stem, _)| stem);
    for letter in stem.chars() {
        let fills = letter.is_whitespace() || matches!(letter, '\u{2800}' | '\u{3164}' | '\u{200b}' | '\u{00a0}');
        run = if fills { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    longest >= 10
}

/// Senders encode names as words although RFC 2047 §5 forbids it in parameters, and clients decode them.
fn decoded_name(name: &str) -> String {
    let decoded;
    let name = if name.contains("=?") {
        let line = format!("{}\n", prefix(name, NAME_MAX * 4).replace(['\r', '\n'], " "));
        let value = MessageStream::new(line.as_bytes()).parse_unstructured();
        decoded = value.as_text().unwrap_or(name).to_owned();
        &decoded
    } else {
        name
    };
    // Clients save a file without the folders that its name may tell.
    cleaned(name.rsplit(['/', '\\']).next().unwrap_or(name))
}

/// Lower case, bounded, on one line; blanks and dots at the end go, as Windows drops them. Of a long name the middle goes:
/// its end says what opens it.
fn cleaned(name: &str) -> String {
    let name = name.trim_end_matches([' ', '.', '\0']);
    let cut;
    let name = if name.len() > NAME_MAX {
        let end = name.ceil_char_boundary(name.len() - NAME_MAX / 4);
        cut = format!("{}{}", prefix(name, NAME_MAX - NAME_MAX / 4), &name[end..]);
        &cut
    } else {
        name
    };
    let name = name.to_lowercase().replace(|letter: char| letter.is_control(), " ");
    name.trim_end_matches([' ', '.']).trim_start().to_owned()
}

/// A name inside of an archive.
fn member_name(name: &[u8]) -> String {
    cleaned(&String::from_utf8_lossy(&name[..name.len().min(NAME_MAX * 8)]).replace('\\', "/"))
}
