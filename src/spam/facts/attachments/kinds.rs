//! What kind of file the first bytes say it is, and whether its name or declared type says another.
//!
//! Neutral where the bytes say nothing: only what is surely something else is a lie. Kinds that programs mix up without any
//! harm (one image format for another, a page or RTF as `.doc`, a spreadsheet program's HTML as `.xls`) are none.

use super::bytes::has;
use super::{Sign, extension};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Zip,
    SevenZip,
    Rar,
    Gzip,
    Tar,
    Tnef,
    Ole,
    OneNote,
    Pdf,
    Rtf,
    Page,
    Svg,
    Program,
    Shortcut,
    DiskImage,
    OtherArchive,
    Unknown,
}

/// Looked at to tell the kind.
const HEAD: usize = 8 << 10;
/// ISO 9660 has its first descriptor in sector 16.
const ISO_DESCRIPTOR: usize = 0x8001;

impl Kind {
    pub fn of(bytes: &[u8]) -> Kind {
        let head = &bytes[..bytes.len().min(HEAD)];
        const MAGIC: [(&[u8], Kind); 14] = [
            (b"PK\x03\x04", Kind::Zip),
            (b"PK\x05\x06", Kind::Zip),
            (b"7z\xbc\xaf\x27\x1c", Kind::SevenZip),
            (b"Rar!\x1a\x07", Kind::Rar),
            (b"\x1f\x8b\x08", Kind::Gzip),
            (b"\x78\x9f\x3e\x22", Kind::Tnef),
            (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", Kind::Ole),
            (b"\xe4\x52\x5c\x7b\x8c\xd8\xa7\x4d", Kind::OneNote),
            (b"{\\rt", Kind::Rtf),
            (b"\x4c\0\0\0\x01\x14\x02\0", Kind::Shortcut),
            (b"\x7fELF", Kind::Program),
            (b"MSCF\0\0\0\0", Kind::OtherArchive),
            (b"conectix", Kind::DiskImage),
            (b"vhdxfile", Kind::DiskImage),
        ];
        let known = MAGIC.iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, kind)| *kind);
        known.unwrap_or_else(|| Kind::beyond_magic(bytes, head))
    }

    fn beyond_magic(bytes: &[u8], head: &[u8]) -> Kind {
        // A text may well begin with these two letters.
        if head.starts_with(b"MZ") && head.iter().take(64).any(|byte| *byte == 0 || *byte >= 0x80) {
            return Kind::Program;
        }
        // Readers take a PDF that begins a little later (ISO 32000-1, appendix H).
        if has(&head[..head.len().min(1024)], b"%PDF-") {
            return Kind::Pdf;
        }
        if head.get(257..262) == Some(b"ustar") {
            return Kind::Tar;
        }
        if bytes.get(ISO_DESCRIPTOR..ISO_DESCRIPTOR + 5) == Some(b"CD001") {
            return Kind::DiskImage;
        }
        Kind::page(head).or_else(|| Kind::inferred(head)).unwrap_or(Kind::Unknown)
    }

    fn page(head: &[u8]) -> Option<Kind> {
        let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
        let begins = text[..text.len().min(2048)].to_ascii_lowercase();
        if begins.starts_with(b"<svg") || begins.starts_with(b"<?xml") && has(&begins, b"<svg") {
            return Some(Kind::Svg);
        }
        let page = [&b"<!doctype html"[..], b"<html", b"<head", b"<body", b"<script"].iter().any(|tag| begins.starts_with(tag));
        (page || begins.starts_with(b"<!--") && has(&begins, b"<html")).then_some(Kind::Page)
    }

    fn inferred(head: &[u8]) -> Option<Kind> {
        match infer::get(head)?.extension() {
            "elf" | "mach" | "msi" | "dex" => Some(Kind::Program),
            "bz2" | "xz" | "lz" | "zst" | "cab" | "arj" | "lzh" | "Z" | "ar" | "cpio" => Some(Kind::OtherArchive),
            _ => None,
        }
    }
}

/// How the name or the type contradicts what the file is.
pub(super) fn lies(path: &str, declared: &str, found: Kind) -> Vec<Sign> {
    let extension = extension(path);
    let mut lies = Vec::new();
    let shown = is_document(extension) || is_media(extension);
    let declared_shown = extension.is_empty() && (declared.starts_with("image/") || declared == "application/pdf");
    if shown || declared_shown {
        // Old Office files are often another format under the same name.
        let media_or_pdf = is_media(extension) || extension == "pdf" || declared_shown;
        match found {
            Kind::Program | Kind::Shortcut => lies.push(Sign::DisguisedProgram),
            Kind::SevenZip | Kind::Rar | Kind::DiskImage | Kind::OtherArchive => lies.push(Sign::DisguisedArchive),
            // A log in .txt that is compressed is only careless.
            Kind::Zip | Kind::Gzip if media_or_pdf && extension != "txt" => lies.push(Sign::DisguisedArchive),
            Kind::Page if media_or_pdf && extension != "txt" && extension != "svg" => lies.push(Sign::DisguisedPage),
            _ => {}
        }
    }
    let contradicts = match extension {
        "pdf" => declared.starts_with("image/") || declared.starts_with("text/") || declared == "application/msword",
        "doc" | "docx" | "xls" | "xlsx" | "zip" | "rar" => declared.starts_with("image/"),
        "htm" | "html" | "shtml" | "xhtml" => declared.starts_with("image/") || declared == "application/pdf",
        _ => is_media(extension) && extension != "txt" && declared == "application/pdf",
    };
    if contradicts {
        lies.push(Sign::OtherType);
    }
    lies
}

pub(super) fn is_page(extension: &str) -> bool {
    matches!(extension, "html" | "htm" | "shtml" | "xhtml" | "xht" | "mht" | "mhtml" | "svg")
}

fn is_document(extension: &str) -> bool {
    const DOCUMENTS: [&str; 13] =
        ["pdf", "doc", "docx", "xls", "xlsx", "ppt", "pptx", "rtf", "odt", "ods", "csv", "txt", "pages"];
    DOCUMENTS.contains(&extension)
}

fn is_media(extension: &str) -> bool {
    const MEDIA: [&str; 15] =
        ["jpg", "jpeg", "png", "gif", "bmp", "tif", "tiff", "webp", "heic", "mp3", "mp4", "wav", "avi", "mov", "txt"];
    MEDIA.contains(&extension)
}
