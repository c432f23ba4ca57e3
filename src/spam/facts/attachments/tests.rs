use proptest::prelude::*;

use super::fixtures::*;
use super::*;

const PACKED: &[u8] = &[
    0x00, 0x00, 0x81, 0x7a, 0x94, 0xf8, 0x55, 0xe1, 0x65, 0xb9, 0x5d, 0xa8, 0x74, 0x66, 0xec, 0x43, 0xa8, 0xc6, 0x57, 0xaa, 0x78,
    0x60, 0x07, 0x9d, 0x63, 0x53, 0x6f, 0x9f, 0xff, 0xfb, 0xa3, 0x20, 0x00,
];
const PACKED_SIZE: u8 = 32;

fn read(name: &str, bytes: &[u8]) -> Attachment {
    Attachment::read(name, "application", "octet-stream", bytes, &mut Budget::default())
}

fn signs(name: &str, bytes: &[u8]) -> Vec<Sign> {
    read(name, bytes).signs.into_iter().map(|(sign, _)| sign).collect()
}

#[test]
fn names_inside_a_zip_are_read() {
    let attachment = read("Rechnung.ZIP", &zip(&[("Rechnung.pdf.EXE", b"", 0)]));
    assert_eq!(attachment.names, ["rechnung.zip", "rechnung.zip/rechnung.pdf.exe"]);
    assert_eq!(attachment.sign(Sign::Encrypted), None);
    assert!(signs("a.zip", &zip(&[("a", b"", 1)])).contains(&Sign::Encrypted));
}

#[test]
fn a_zip_in_a_zip_is_opened_down_to_a_level() {
    let mut archive = zip(&[("x.js", b"", 0)]);
    for _ in 0..LEVELS_MAX {
        archive = zip(&[("in.zip", &archive, 0)]);
    }
    let attachment = read("a.zip", &archive);
    assert_eq!(attachment.sign(Sign::PackedScript), Some("a.zip/in.zip/in.zip/in.zip/x.js"));
    assert_eq!(attachment.sign(Sign::Bound), None);
    let deeper = signs("a.zip", &zip(&[("in.zip", &archive, 0)]));
    assert!(deeper.contains(&Sign::Bound) && !deeper.contains(&Sign::PackedScript));
}

#[test]
fn a_cut_or_lying_zip_gives_what_it_has() {
    let whole = zip(&[("inside.js", b"", 0), ("other.txt", b"", 0)]);
    for length in 0..whole.len() {
        assert!(read("a.zip", &whole[..length]).names.len() <= 3);
    }
    let mut lying = whole.clone();
    let end = lying.len() - 22;
    lying[end + 16..end + 20].copy_from_slice(&[0xff; 4]);
    assert_eq!(read("a.zip", &lying).names.len(), 3, "from the local headers");
}

#[test]
fn a_heap_of_pictures_does_not_hide_a_program() {
    let names: Vec<String> = (0..200).map(|place| format!("{place}.jpg")).chain(["x.exe".to_owned()]).collect();
    let members: Vec<(&str, &[u8], u16)> = names.iter().map(|name| (name.as_str(), &b""[..], 0)).collect();
    let attachment = read("a.zip", &zip(&members));
    assert_eq!(attachment.names.len(), 1 + INSIDE_MAX - RESERVED + 1);
    assert_eq!(attachment.names.last().unwrap(), "a.zip/x.exe");
    assert!(attachment.sign(Sign::Bound).is_some());
}

#[test]
fn names_are_what_windows_makes_of_them() {
    let name = |name: &str| read(name, b"").names.remove(0);
    assert_eq!(name("Invoice.EXE. . "), "invoice.exe");
    assert_eq!(name("=?utf-8?B?UmVjaG51bmcuZXhl?="), "rechnung.exe");
    assert_eq!(name("a\r\nb.exe"), "a  b.exe");
    assert_eq!(name("C:\\tmp/b.exe"), "b.exe");
    assert!(name(&format!("{}.exe", "a ".repeat(500))).ends_with("a .exe"), "the end of a long name stays");
}

#[test]
fn programs_and_pages_are_seen_by_their_content() {
    assert_eq!(signs("photo.jpg", b"MZ\x90"), [Sign::DisguisedProgram]);
    assert_eq!(signs("a.htm", b"<FORM action=x>"), [Sign::ActivePage]);
    assert_eq!(signs("a.html", b"<p>hi"), []);
    assert_eq!(signs("a.pdf", b"<!DOCTYPE html><p>hi"), [Sign::DisguisedPage]);
}

#[test]
fn directories_of_7z_are_read_plain_and_packed() {
    let plain = read("a.7z", &sevenzip(&["x.exe", "y.txt"], &[0]));
    assert_eq!(plain.names, ["a.7z", "a.7z/x.exe", "a.7z/y.txt"]);
    assert_eq!(plain.sign(Sign::Encrypted), None);
    assert!(signs("a.7z", &sevenzip(&["x"], &[6, 0xf1, 7, 1])).contains(&Sign::Encrypted));
    // "x.exe" and "y.txt" without content, packed with LZMA as 7-Zip packs a directory.
    let packed: &[u8] = PACKED;
    let archive = sevenzip_packed(&[3, 1, 1], &[0x5d, 0, 0x10, 0, 0], packed, &[PACKED_SIZE]);
    assert_eq!(read("a.7z", &archive).names, ["a.7z", "a.7z/x.exe", "a.7z/y.txt"]);
    assert_eq!(signs("a.7z", &sevenzip_packed(&[6, 0xf1, 7, 1], &[], packed, &[30])), [Sign::Encrypted]);
}

#[test]
fn a_directory_of_7z_that_would_unpack_to_much_is_left_alone() {
    let large = [0xf0, 0, 0, 0, 0x7f];
    let by_size = sevenzip_packed(&[3, 1, 1], &[0x5d, 0, 0, 1, 0], &[0; 40], &large);
    let by_dictionary = sevenzip_packed(&[3, 1, 1], &[0x5d, 0, 0, 0, 0x7f], &[0; 40], &[30]);
    assert_eq!(signs("a.7z", &by_size), [Sign::Bound]);
    assert_eq!(signs("a.7z", &by_dictionary), [Sign::Bound]);
}

#[test]
fn headers_of_rar_are_read() {
    assert_eq!(read("a.rar", &rar4("x.txt", 0)).names, ["a.rar", "a.rar/x.txt"]);
    assert_eq!(read("a.rar", &rar5("x.txt", &[])).names, ["a.rar", "a.rar/x.txt"]);
    assert_eq!(signs("a.rar", &rar4("x.txt", 4)), [Sign::Encrypted]);
    assert_eq!(signs("a.rar", &rar5("x.txt", &[2, 1, 0])), [Sign::Encrypted]);
    let hidden = [b"Rar!\x1a\x07\x01\0", &[0; 4][..], &[2, 4, 0]].concat();
    assert_eq!(signs("a.rar", &hidden), [Sign::Encrypted]);
}

#[test]
fn files_in_winmail_dat_are_attachments() {
    let inner = zip(&[("x.exe", b"", 0)]);
    let attachment = read("winmail.dat", &tnef("RECHNU~1.ZIP", "Rechnung 1.zip", &inner));
    assert_eq!(attachment.names, ["winmail.dat", "rechnung 1.zip", "rechnung 1.zip/x.exe"]);
    assert_eq!(attachment.sign(Sign::PackedProgram), Some("rechnung 1.zip/x.exe"));
}

#[test]
fn tar_and_gzip_are_listed() {
    assert_eq!(read("a.tgz", &gzip(&tar(&["x.txt"]))).names, ["a.tgz", "a.tgz/a.tar/x.txt"]);
    assert_eq!(read("a.js.gz", &gzip(b"//")).names, ["a.js.gz", "a.js.gz/a.js"]);
}

#[test]
fn compound_files_tell_of_macros_and_passwords() {
    assert_eq!(signs("a.doc", &ole(&["Root Entry", "WordDocument"])), []);
    assert_eq!(signs("a.doc", &ole(&["a", "b", "c", "d", "VBA"])), [Sign::Macros], "in the second sector of the chain");
    assert_eq!(signs("a.xlsx", &ole(&["EncryptedPackage"])), [Sign::EncryptedDocument]);
    assert_eq!(signs("a.msg", &ole(&["__substg1.0_0037001F", "Macros"])), []);
}

#[test]
fn objects_of_a_pdf_are_found_when_they_are_packed() {
    let attachment = read("a.pdf", &pdf("<</OpenAction <</S /URI /URI (https://a.example/x)>> >>"));
    assert!(attachment.sign(Sign::PdfOpensSite).is_some());
    assert_eq!(attachment.urls, ["https://a.example/x"]);
}

#[test]
fn a_bomb_ends_at_the_budget() {
    let bomb = zip(&[("a.html", &vec![b' '; 64 << 20], 0)]);
    let many: Vec<(String, &[u8])> = (0..60).map(|place| (format!("{place}.zip"), bomb.as_slice())).collect();
    let many: Vec<(&str, &[u8], u16)> = many.iter().map(|(name, content)| (name.as_str(), *content, 0)).collect();
    let mut budget = Budget::default();
    let attachment = Attachment::read("a.zip", "application", "zip", &zip(&many), &mut budget);
    assert_eq!(budget.unpack, 0);
    assert!(attachment.sign(Sign::Bound).is_some());
}

/// Bytes looked at and unpacked, not time: what a large file costs is what a file of the bound costs.
#[test]
fn of_a_large_file_of_any_kind_only_the_beginning_is_looked_at() {
    for (name, mut bytes) in all() {
        for filling in [b"\0", b"A", b"P", b"("] {
            bytes.resize(10 << 20, filling[0]);
            let mut budget = Budget::default();
            let attachment = Attachment::read(name, "application", "octet-stream", &bytes, &mut budget);
            let looked = Budget::LOOK_MAX - budget.look;
            let unpacked = Budget::UNPACKED_MAX - budget.unpack;
            // Once as it is, and what it holds once packed and once unpacked.
            assert!(looked <= 3 * Budget::FILE_MAX + unpacked, "{name}: {looked} bytes looked at");
            assert!(unpacked <= 2 * Budget::FILE_MAX, "{name}: {unpacked} bytes unpacked");
            assert!(attachment.names.len() <= 1 + NAMES_MAX);
        }
    }
}

#[test]
fn each_fixture_is_read() {
    for (name, bytes) in all().into_iter().filter(|(name, _)| *name != "b.7z") {
        let attachment = read(name, &bytes);
        assert!(attachment.signs.len() + attachment.names.len() > 1, "{name}: {attachment:?}");
    }
}

fn within_bounds(name: &str, bytes: &[u8]) -> Result<(), TestCaseError> {
    let mut budget = Budget::default();
    let attachment = Attachment::read(name, "application", "octet-stream", bytes, &mut budget);
    prop_assert!(attachment.names.len() <= NAMES_MAX + 2 * INSIDE_MAX);
    prop_assert!(attachment.names.iter().all(|name| name.len() <= (LEVELS_MAX + 2) * (NAME_MAX * 3 + 1)));
    prop_assert!(attachment.urls.len() <= 32);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_behind_any_beginning_are_read(kind in 0..15_usize, keep in 0..64_usize, bytes: Vec<u8>) {
        let (name, begin) = all().swap_remove(kind);
        within_bounds(name, &[&begin[..keep.min(begin.len())], &bytes].concat())?;
        within_bounds("a", &bytes)?;
    }

    /// Flips, lengths that lie, and cuts.
    #[test]
    fn damaged_files_are_read(
        kind in 0..15_usize,
        damage in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(vec![0, 1, 2, 4, 8, 0x7f, 0x80, 0xff])), 0..12),
        wide in any::<bool>(),
        cut in any::<prop::sample::Index>(),
        cuts in any::<bool>(),
    ) {
        let (name, mut bytes) = all().swap_remove(kind);
        for (place, value) in damage {
            let at = place.index(bytes.len());
            let end = bytes.len().min(at + if wide { 4 } else { 1 });
            bytes[at..end].fill(value);
        }
        if cuts {
            bytes.truncate(cut.index(bytes.len()));
        }
        within_bounds(name, &bytes)?;
    }
}
