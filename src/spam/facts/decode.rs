//! Transfer encodings and charsets, as forgiving as the clients that will show the message.
//!
//! Strict decoding is an evasion: one wrong character would hide a whole part from the rules while the reader's client
//! shows it. What was wrong is reported instead.

use std::borrow::Cow;

use mail_parser::decoders::base64::base64_decode;
use mail_parser::decoders::charsets::map::charset_decoder;
use mail_parser::decoders::quoted_printable::quoted_printable_decode;

/// A decoded body, and whether the encoding was kept to.
pub(super) struct Decoded<'m> {
    pub bytes: Cow<'m, [u8]>,
    pub damaged: bool,
}

/// Undoes a Content-Transfer-Encoding (RFC 2045 §6). An unknown one is the identity.
pub(super) fn transfer_decode<'m>(encoding: &str, body: &'m [u8]) -> Decoded<'m> {
    match encoding {
        _ if encoding.eq_ignore_ascii_case("base64") => base64(body),
        _ if encoding.eq_ignore_ascii_case("quoted-printable") => quoted_printable(body),
        _ => Decoded { bytes: Cow::Borrowed(body), damaged: false },
    }
}

/// Characters outside the alphabet are skipped (RFC 2045 §6.8); an incomplete last group is dropped. Counted as damage
/// when they are many: mailing lists and old servers append a line of plain text, forgers sprinkle.
fn base64(body: &[u8]) -> Decoded<'static> {
    let mut alphabet = Vec::with_capacity(body.len() + 3);
    let mut foreign = 0;
    let mut rest = body;
    // Lines are taken whole, up to what is no letter of the alphabet.
    let padded = loop {
        let plain = rest.iter().position(|byte| !IS_BASE64[usize::from(*byte)]).unwrap_or(rest.len());
        alphabet.extend_from_slice(&rest[..plain]);
        match rest.get(plain) {
            None => break &[][..],
            Some(b'=') => break &rest[plain..],
            Some(b' ' | b'\t' | b'\r' | b'\n') => {}
            Some(_) => foreign += 1,
        }
        rest = &rest[plain + 1..];
    };
    let padding = memchr::memchr_iter(b'=', padded).count();
    let damaged = foreign > 0 || padding > 2;
    alphabet.truncate(alphabet.len() - alphabet.len() % 4 + if alphabet.len() % 4 >= 2 { alphabet.len() % 4 } else { 0 });
    while alphabet.len() % 4 != 0 {
        alphabet.push(b'=');
    }
    Decoded { bytes: Cow::Owned(base64_decode(&alphabet).unwrap_or_default()), damaged }
}

/// The letters of base64.
const IS_BASE64: [bool; 256] = {
    let mut is = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        is[byte] = (byte as u8).is_ascii_alphanumeric() || byte == b'+' as usize || byte == b'/' as usize;
        byte += 1;
    }
    is
};

fn quoted_printable(body: &[u8]) -> Decoded<'static> {
    if let Some(bytes) = quoted_printable_decode(body) {
        return Decoded { bytes: Cow::Owned(bytes), damaged: false };
    }
    let mut bytes = Vec::with_capacity(body.len());
    for line in body.split_inclusive(|byte| *byte == b'\n') {
        match quoted_printable_decode(line) {
            Some(decoded) => bytes.extend_from_slice(&decoded),
            None => bytes.extend_from_slice(line),
        }
    }
    Decoded { bytes: Cow::Owned(bytes), damaged: true }
}

/// Letters and digits that quoted-printable writes as numbers although they stand for themselves (RFC 2045 §6.7 lets
/// it): `=56=69=61`. Encoders write so only what could be taken for something else, a "From " or a dot on a line's beginning.
pub(super) fn needlessly_quoted(body: &[u8]) -> usize {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let is_plain = |at: usize| match (body.get(at + 1).and_then(digit), body.get(at + 2).and_then(digit)) {
        (Some(high), Some(low)) => u8::try_from(high * 16 + low).is_ok_and(|byte| byte.is_ascii_alphanumeric()),
        _ => false,
    };
    memchr::memchr_iter(b'=', body).filter(|at| is_plain(*at)).count()
}

/// Does a text not keep to its charset, so that every client shows something else?
pub(super) fn misdeclared(bytes: &[u8], charset: Option<&str>) -> bool {
    let Some(charset) = charset else { return false };
    let is = |names: &[&str]| names.iter().any(|name| charset.eq_ignore_ascii_case(name));
    if bytes.is_ascii() {
        // Seven bits and no escape: whatever was meant, it is not Japanese.
        return is(&["iso-2022-jp", "iso-2022-kr"]) && bytes.len() > 200 && !bytes.contains(&0x1b);
    }
    match std::str::from_utf8(bytes) {
        Err(error) => is(&["utf-8", "utf8"]) && error.valid_up_to() + 4 < bytes.len(),
        Ok(_) => false,
    }
}

/// No charset of this name is known to anybody.
pub(super) fn unknown_charset(charset: &str) -> bool {
    let known = |name: &str| name.eq_ignore_ascii_case(charset);
    !["utf-8", "us-ascii", "ascii", "utf8", "binary", "unknown-8bit", "default", "ansi_x3.4-1968", ""].into_iter().any(known)
        && charset_decoder(charset.as_bytes()).is_none()
}

/// Bytes as text. An unknown or missing charset is read as UTF-8, what is not UTF-8 then as windows-1252, which is what
/// clients do.
pub(super) fn text_of(bytes: &[u8], charset: Option<&str>) -> String {
    let named = charset.filter(|name| !name.eq_ignore_ascii_case("utf-8")).and_then(|name| charset_decoder(name.as_bytes()));
    match (named, std::str::from_utf8(bytes)) {
        (Some(decode), _) if !bytes.is_empty() => decode(bytes),
        (_, Ok(text)) => text.to_owned(),
        // Mostly UTF-8 with a broken letter, as when a long part was cut, is not another charset.
        (_, Err(error)) if error.valid_up_to() + 4 > bytes.len() => String::from_utf8_lossy(bytes).into_owned(),
        (_, Err(_)) if charset.is_some() => String::from_utf8_lossy(bytes).into_owned(),
        (_, Err(_)) => charset_decoder(b"windows-1252").map_or_else(String::new, |decode| decode(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn decodes(encoding: &str, body: &str, expected: &str, damaged: bool) {
        let decoded = transfer_decode(encoding, body.as_bytes());
        assert_eq!(String::from_utf8_lossy(&decoded.bytes), expected, "{body:?}");
        assert_eq!(decoded.damaged, damaged, "{body:?}");
    }

    #[test]
    fn encodings_are_undone() {
        decodes("BASE64", "aGVs\r\nbG8=\r\n", "hello", false);
        decodes("quoted-printable", "a=3Db=\r\nc\r\n", "a=bc\r\n", false);
        decodes("7bit", "a=3Db", "a=3Db", false);
        decodes("x-unknown", "a", "a", false);
    }

    #[test]
    fn damaged_encodings_are_read_as_clients_read_them() {
        decodes("base64", "aG*Vs!bG8=", "hello", true);
        decodes("base64", "aGVsbG8", "hello", false);
        decodes("base64", "aGVsbG8=\r\n-- \r\na list footer", "hello", false);
        decodes("base64", "", "", false);
        decodes("base64", "a", "", false);
        decodes("quoted-printable", "good=20\r\nbad =zz\r\nmore=21\r\n", "good \r\nbad =zz\r\nmore!\r\n", true);
    }

    #[test]
    fn what_hides_words_is_seen() {
        assert_eq!(needlessly_quoted(b"=56=69=61 x=20=3D=C3=BC=\r\n=zz="), 3);
        assert!(misdeclared(b"Gr\xfc\xdfe aus K\xf6ln", Some("UTF-8")));
        assert!(misdeclared("latin letters only ".repeat(20).as_bytes(), Some("iso-2022-jp")));
        assert!(!misdeclared("Grüße".as_bytes(), Some("utf-8")));
        assert!(!misdeclared(b"Gr\xfc\xdfe", Some("iso-8859-1")));
        assert!(unknown_charset("no-such-charset") && !unknown_charset("windows-1252") && !unknown_charset("us-ascii"));
    }

    #[test]
    fn charsets_are_read() {
        assert_eq!(text_of(b"Gr\xfc\xdfe", Some("iso-8859-1")), "Grüße");
        assert_eq!(text_of("Grüße".as_bytes(), None), "Grüße");
        assert_eq!(text_of(b"Gr\xfc\xdfe aus K\xf6ln", None), "Grüße aus Köln");
        assert_eq!(text_of(b"\x1b$B8e\x1b(B", Some("ISO-2022-JP")), "後");
        assert_eq!(text_of(b"plain", Some("no-such-charset")), "plain");
    }
}
