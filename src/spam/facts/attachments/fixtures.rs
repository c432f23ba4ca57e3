//! Small harmless files of each kind, for tests.

use miniz_oxide::deflate::compress_to_vec;

/// A zip: name, content, flags of each member; deflated.
pub fn zip(members: &[(&str, &[u8], u16)]) -> Vec<u8> {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for (name, content, flags) in members {
        let packed = compress_to_vec(content, 6);
        let at = number(bytes.len());
        let common = [
            &[20, 0][..],
            &flags.to_le_bytes(),
            &[8, 0, 0, 0, 0, 0],
            &crc32fast::hash(content).to_le_bytes(),
            &number(packed.len()),
            &number(content.len()),
            &u16::try_from(name.len()).unwrap().to_le_bytes(),
            &[0; 2],
        ]
        .concat();
        bytes.extend([b"PK\x03\x04", &common[..], name.as_bytes(), &packed].concat());
        directory.extend([b"PK\x01\x02\x14\0", &common[..], &[0; 10], &at, name.as_bytes()].concat());
    }
    let count = u16::try_from(members.len()).unwrap().to_le_bytes();
    let end = [&count[..], &count, &number(directory.len()), &number(bytes.len()), &[0; 2]].concat();
    [&bytes[..], &directory, b"PK\x05\x06\0\0\0\0", &end].concat()
}

/// A 7z archive of one stored folder, with its directory as it is.
pub fn sevenzip(names: &[&str], method: &[u8]) -> Vec<u8> {
    let text: Vec<u8> = names.iter().flat_map(|name| name.encode_utf16().chain([0])).flat_map(u16::to_le_bytes).collect();
    let coder = [&[1, u8::try_from(method.len()).unwrap()][..], method].concat();
    let streams = [&[4, 6, 0, 1, 9, 4, 0, 7, 0x0b, 1, 0][..], &coder, &[0x0c, 4, 0, 0]].concat();
    let length = u8::try_from(text.len() + 1).unwrap();
    let number = if length < 0x80 { vec![length] } else { vec![0x80, length] };
    let files = [&[5, u8::try_from(names.len()).unwrap(), 0x11][..], &number, &[0], &text, &[0, 0]].concat();
    sevenzip_of(b"data", &[&[1][..], &streams, &files].concat())
}

/// A 7z archive with a packed directory: LZMA with this dictionary, unpacking to `size`.
pub fn sevenzip_packed(method: &[u8], properties: &[u8], packed: &[u8], size: &[u8]) -> Vec<u8> {
    let flags = u8::try_from(method.len()).unwrap() | if properties.is_empty() { 0 } else { 0x20 };
    let count = u8::try_from(properties.len()).unwrap();
    let properties = if properties.is_empty() { Vec::new() } else { [&[count][..], properties].concat() };
    let length = [&[0xf0][..], &number(packed.len())].concat();
    let info = [&[0x17, 6, 0, 1, 9][..], &length, &[0, 7, 0x0b, 1, 0, 1, flags], method, &properties, &[0x0c], size, &[0, 0]];
    sevenzip_of(packed, &info.concat())
}

fn sevenzip_of(packed: &[u8], header: &[u8]) -> Vec<u8> {
    let place = [(packed.len() as u64).to_le_bytes(), (header.len() as u64).to_le_bytes()].concat();
    let start = [&place[..], &crc32fast::hash(header).to_le_bytes()].concat();
    let sum = crc32fast::hash(&start).to_le_bytes();
    [b"7z\xbc\xaf\x27\x1c\0\x04", &sum[..], &start, packed, header].concat()
}

pub fn rar4(name: &str, flags: u16) -> Vec<u8> {
    let size = u16::try_from(32 + name.len()).unwrap().to_le_bytes();
    let length = u16::try_from(name.len()).unwrap().to_le_bytes();
    let head = [&[0, 0, 0x74][..], &flags.to_le_bytes(), &size, &number(3), &number(3), &[0; 11], &length, &[0; 4]].concat();
    [b"Rar!\x1a\x07\0", &[0, 0, 0x73, 0, 0, 13, 0][..], &[0; 6], &head, name.as_bytes(), b"abc"].concat()
}

pub fn rar5(name: &str, extra: &[u8]) -> Vec<u8> {
    let body = [&[0, 3, 0, 0, 0, u8::try_from(name.len()).unwrap()][..], name.as_bytes(), extra].concat();
    let head = [&[2, 3, u8::try_from(extra.len()).unwrap(), 3][..], &body].concat();
    let main = [1, 0, 0];
    let with = |head: &[u8]| [&[0; 4][..], &[u8::try_from(head.len()).unwrap()], head].concat();
    [b"Rar!\x1a\x07\x01\0", &with(&main)[..], &with(&head), b"abc", &with(&[5, 0, 0])].concat()
}

pub fn tnef(name: &str, long_name: &str, content: &[u8]) -> Vec<u8> {
    let attribute = |id: u32, data: &[u8]| [&[2][..], &id.to_le_bytes(), &number(data.len()), data, &[0; 2]].concat();
    let wide: Vec<u8> = long_name.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect();
    let property = [&number(1)[..], b"\x1f\0\x07\x37\x01\0\0\0", &number(wide.len()), &wide].concat();
    let class = attribute(0x0007_8008, b"IPM.Note\0");
    let rest = [
        attribute(0x0006_9002, &[0; 14]),
        attribute(0x0001_8010, format!("{name}\0").as_bytes()),
        attribute(0x0006_800f, content),
        attribute(0x0006_9005, &property),
    ];
    [b"\x78\x9f\x3e\x22\x01\0", &class[..], &rest.concat()].concat()
}

/// A compound file with these directory entries; the directory has a chain of two sectors when there are more than four.
pub fn ole(names: &[&str]) -> Vec<u8> {
    let mut bytes = vec![0; 512];
    bytes[..8].copy_from_slice(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1");
    bytes[30] = 9;
    bytes[48] = 1;
    let mut table = vec![0xff; 512];
    table[4..8].copy_from_slice(&number(2));
    bytes.extend(table);
    for name in names {
        let mut entry: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
        entry.resize(128, 0);
        entry[64] = u8::try_from(name.len() * 2 + 2).unwrap();
        entry[116..120].copy_from_slice(&[0xff; 4]);
        bytes.extend(entry);
    }
    bytes
}

pub fn tar(names: &[&str]) -> Vec<u8> {
    let file = |name: &&str| {
        let mut block = vec![0; 1024];
        block[..name.len()].copy_from_slice(name.as_bytes());
        block[124..135].copy_from_slice(b"00000000003");
        block[257..262].copy_from_slice(b"ustar");
        block[156] = b'0';
        block
    };
    names.iter().flat_map(file).chain([0; 1024]).collect()
}

pub fn gzip(content: &[u8]) -> Vec<u8> {
    [b"\x1f\x8b\x08\0\0\0\0\0\0\x03", &compress_to_vec(content, 6)[..], &[0; 8]].concat()
}

pub fn pdf(object: &str) -> Vec<u8> {
    let packed = miniz_oxide::deflate::compress_to_vec_zlib(object.as_bytes(), 6);
    [b"%PDF-1.7\n1 0 obj <</Type /ObjStm /Filter /FlateDecode>> stream\r\n", &packed[..], b"\nendstream\n%%EOF"].concat()
}

pub fn onenote(content: &[u8]) -> Vec<u8> {
    let head = b"\xe4\x52\x5c\x7b\x8c\xd8\xa7\x4d\xae\xb1\x53\x78\xd0\x29\x96\xd3";
    let object = b"\xe7\x16\xe3\xbd\x65\x26\x11\x45\xa4\xc4\x8d\x4d\x0b\x7a\x9e\xac";
    [head, &object[..], &(content.len() as u64).to_le_bytes(), &[0; 12], content].concat()
}

/// One file of each kind, with the name it comes under.
pub fn all() -> Vec<(&'static str, Vec<u8>)> {
    let inner = zip(&[("b.exe", b"MZ\0", 0), ("c.html", b"<script>atob()</script>", 0)]);
    let relations = b"<Relationship Type=\"x/attachedTemplate\" Target=\"http://a.example/t\" TargetMode=\"External\"/>";
    let package = [
        ("[Content_Types].xml", &b"<x/>"[..], 0),
        ("word/_rels/settings.xml.rels", relations, 0),
        ("word/vbaProject.bin", b"x", 0),
    ];
    vec![
        ("a.zip", zip(&[("in.zip", &inner, 0), ("a.pdf", b"%PDF-1.4", 1)])),
        ("a.docx", zip(&package)),
        ("a.7z", sevenzip(&["x.exe", "y.txt"], &[0])),
        ("b.7z", sevenzip_packed(&[3, 1, 1], &[0x5d, 0, 0, 1, 0], &[0; 40], &[0x80, 200])),
        ("a.rar", rar4("x.exe", 4)),
        ("b.rar", rar5("x.exe", &[2, 1, 0])),
        ("winmail.dat", tnef("RECHNU~1.ZIP", "Rechnung 1.zip", &inner)),
        ("a.doc", ole(&["Root Entry", "WordDocument", "Workbook", "Book", "VBA"])),
        ("a.tar", tar(&["x.exe"])),
        ("a.tgz", gzip(&tar(&["x.exe"]))),
        ("a.pdf", pdf("<</OpenAction <</S /URI /URI (https://a.example/)>> /F (x.exe) /EF 1 /J#61vaScript /JS>>")),
        ("a.one", onenote(&inner)),
        ("a.rtf", b"{\\rtf1\\objupdate\\objdata {\\*\\template http://a.example}".to_vec()),
        ("a.svg", b"<svg onload=x><script>1</script></svg>".to_vec()),
        ("a.html", b"<form><script>eval(atob('YWJj')); location.href='http://a.example'</script><input type=password>".to_vec()),
    ]
}

fn number(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap().to_le_bytes()
}
