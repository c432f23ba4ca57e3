use proptest::prelude::*;

use super::*;

const NO_LIMITS: (u64, u64, u64) = (1 << 40, 1 << 40, 1 << 40);

struct Outcome {
    content: Vec<u8>,
    result: Result<(), DataError>,
    /// What followed the end mark.
    rest: Vec<u8>,
    size: u64,
}

/// Reads `input` cut at `cuts`; `None`: no end was found.
fn read_data(input: &[u8], cuts: &[usize], limits: (u64, u64, u64)) -> Option<Outcome> {
    let mut reader = DataReader::new(limits.0, limits.1, limits.2);
    let (mut buffer, mut out) = (BytesMut::new(), BytesMut::new());
    let mut start = 0;
    for end in cuts.iter().copied().chain([input.len()]) {
        buffer.extend_from_slice(&input[start..end]);
        start = end;
        if let DataStatus::End(result) = reader.data(&mut buffer, &mut out) {
            buffer.extend_from_slice(&input[start..]);
            return Some(Outcome { content: out.to_vec(), result, rest: buffer.to_vec(), size: reader.size() });
        }
        assert!(buffer.is_empty(), "everything is taken");
    }
    None
}

/// What RFC 5321 §4.5.2 says, the slow way: split at CRLF, look for the line that is a dot.
fn naive(input: &[u8]) -> Option<(Vec<u8>, bool, Vec<u8>)> {
    let mut content = Vec::new();
    let mut rest = input;
    loop {
        let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
        let line = &rest[..end];
        rest = &rest[end + 2..];
        if line == b"." {
            break;
        }
        content.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
        content.extend_from_slice(b"\r\n");
    }
    let bare = content.iter().enumerate().any(|(at, byte)| match byte {
        b'\r' => content.get(at + 1) != Some(&b'\n'),
        b'\n' => at == 0 || content[at - 1] != b'\r',
        _ => false,
    });
    Some((content, bare, rest.to_vec()))
}

#[track_caller]
fn check(input: &str, content: &str, rest: &str) {
    for cut in 0..=input.len() {
        let outcome = read_data(input.as_bytes(), &[cut], NO_LIMITS).unwrap_or_else(|| panic!("no end in {input:?}"));
        assert_eq!(outcome.result, Ok(()), "{input:?} cut at {cut}");
        assert_eq!(String::from_utf8_lossy(&outcome.content), content, "{input:?} cut at {cut}");
        assert_eq!(String::from_utf8_lossy(&outcome.rest), rest, "{input:?} cut at {cut}");
        assert_eq!(outcome.size, content.len() as u64);
    }
}

#[track_caller]
fn refused(input: &[u8], limits: (u64, u64, u64), error: DataError) {
    for cut in 0..=input.len() {
        let outcome = read_data(input, &[cut], limits).expect("an end");
        assert_eq!(outcome.result, Err(error.clone()), "cut at {cut}");
        assert_eq!(outcome.rest, b"QUIT\r\n", "the session stays in step");
    }
}

#[test]
fn dots_are_unstuffed_and_the_next_command_is_left() {
    check("A: 1\r\n\r\n..\r\n...x\r\n.y\r\n.\r\nQUIT\r\n", "A: 1\r\n\r\n.\r\n..x\r\ny\r\n", "QUIT\r\n");
    check("a\r\n..\r\n.\r\n", "a\r\n.\r\n", "");
}

#[test]
fn an_empty_message_ends_at_once() {
    check(".\r\n", "", "");
    check(".\r\nQUIT\r\n", "", "QUIT\r\n");
    check("\r\n.\r\n", "\r\n", "");
}

#[test]
fn only_crlf_dot_crlf_ends_the_text() {
    for tail in
        ["\n.\n", "\n.\r\n", "\r.\r", "\r\n.\n", "\r\n.\r", "\r.\r\n", "\r\n.\r\r\n", "\r\n.\0\r\n", ".\r\n", "\r\n..\r\n"]
    {
        let input = format!("Subject: x{tail}");
        for cut in 0..=input.len() {
            assert!(read_data(input.as_bytes(), &[cut], NO_LIMITS).is_none(), "{tail:?} must not end the text");
        }
    }
}

#[test]
fn bare_line_ends_are_refused_at_the_real_end() {
    for text in ["a\nb", "a\rb", "\n.\r\nMAIL FROM:<evil@b.example>", ".\rx", "\r\r", ".\nx", "a\n.\nDATA"] {
        refused(format!("{text}\r\n.\r\nQUIT\r\n").as_bytes(), NO_LIMITS, DataError::BareLineEnd);
    }
    assert!(DataError::BareLineEnd.reply().to_string().starts_with("554 5.6.0 "));
}

#[test]
fn limits_are_exact() {
    let text = b"A: 12345\r\n\r\n1234567890\r\n.\r\nQUIT\r\n";
    let size = 24;
    assert_eq!(read_data(text, &[], (size, 1000, 1000)).unwrap().result, Ok(()));
    refused(text, (size - 1, 1000, 1000), DataError::TooLarge { limit: size - 1 });
    assert_eq!(read_data(text, &[], (1000, 1000, 10)).unwrap().result, Ok(()));
    refused(text, (1000, 1000, 9), DataError::LineTooLong { limit: 9 });
    assert_eq!(read_data(text, &[], (1000, 10, 1000)).unwrap().result, Ok(()), "the body is no header");
    refused(text, (1000, 9, 1000), DataError::HeaderTooLarge { limit: 9 });
}

#[test]
fn a_text_without_headers_has_no_header_section() {
    let text = format!("This is no header.\r\n{}\r\n.\r\nQUIT\r\n", "Received: x\r\n".repeat(60));
    assert_eq!(read_data(text.as_bytes(), &[], (1 << 20, 100, 1000)).unwrap().result, Ok(()));
}

#[test]
fn fifty_hops_pass_and_one_more_does_not() {
    let message = |hops: usize| {
        let fields = "RECEIVED: from a\r\n\tby b; Received: no\r\nX-Received: no\r\n".repeat(hops - 1);
        format!("{fields}Received \t: c\r\nReceivedX: no\r\n\r\nReceived: in the body\r\n.\r\nQUIT\r\n")
    };
    assert_eq!(read_data(message(50).as_bytes(), &[], NO_LIMITS).unwrap().result, Ok(()));
    refused(message(51).as_bytes(), NO_LIMITS, DataError::TooManyHops);
}

#[test]
fn what_is_refused_is_not_kept() {
    let text = format!("{}\r\n.\r\n", "x".repeat(1_000_000));
    let cuts: Vec<_> = (1..1000).map(|piece| piece * 1000).collect();
    let outcome = read_data(text.as_bytes(), &cuts, (5_000, 1_000, 1 << 30)).unwrap();
    assert_eq!(outcome.result, Err(DataError::TooLarge { limit: 5_000 }));
    assert!(outcome.content.len() <= 5_000);
}

#[test]
fn chunks_are_kept_byte_for_byte_and_leave_what_follows() {
    let mut reader = DataReader::new(1000, 1000, 1000);
    let (mut buffer, mut out) = (BytesMut::from(&b"A: 1\n\n.\r\n.."[..]), BytesMut::new());
    let mut remaining = 13;
    assert_eq!(reader.chunk(&mut buffer, &mut remaining, &mut out), DataStatus::More);
    buffer.extend_from_slice(b"\rxBDAT 0 LAST\r\n");
    assert_eq!(reader.chunk(&mut buffer, &mut remaining, &mut out), DataStatus::End(Ok(())));
    assert_eq!((&out[..], &buffer[..]), (&b"A: 1\n\n.\r\n..\rx"[..], &b"BDAT 0 LAST\r\n"[..]));
    let mut none = 0;
    assert_eq!(reader.chunk(&mut buffer, &mut none, &mut out), DataStatus::End(Ok(())));
    assert_eq!((buffer.len(), reader.size()), (13, 13));
}

#[test]
fn hops_are_counted_across_chunks() {
    let mut reader = DataReader::new(1 << 20, 1 << 20, 1000);
    let mut out = BytesMut::new();
    let text = "Received: x\n".repeat(51);
    let mut last = DataStatus::More;
    for chunk in text.as_bytes().chunks(5) {
        let mut remaining = chunk.len() as u64;
        last = reader.chunk(&mut BytesMut::from(chunk), &mut remaining, &mut out);
    }
    assert_eq!(last, DataStatus::End(Err(DataError::TooManyHops)));
}

/// Texts made of the pieces that matter.
fn text() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => Just(&b"\r\n"[..]),
        3 => Just(&b"."[..]),
        1 => Just(&b"\r"[..]),
        1 => Just(&b"\n"[..]),
        2 => Just(&b"Received: x"[..]),
        2 => Just(&b"a"[..]),
        1 => Just(&b"\r\n.\r\n"[..]),
        1 => Just(&b"\0\xff"[..]),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

fn cuts(length: usize) -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(0..=length, 0..12).prop_map(|mut cuts| {
        cuts.sort_unstable();
        cuts
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_split_gives_what_a_naive_reader_gives((input, cuts) in text().prop_flat_map(|text| {
        let length = text.len();
        (Just(text), cuts(length))
    })) {
        match (naive(&input), read_data(&input, &cuts, NO_LIMITS)) {
            (None, None) => {}
            (Some((content, bare, rest)), Some(outcome)) => {
                prop_assert_eq!(rest, outcome.rest);
                prop_assert_eq!(content.len() as u64, outcome.size);
                if bare {
                    prop_assert_eq!(outcome.result, Err(DataError::BareLineEnd));
                    prop_assert!(content.starts_with(&outcome.content));
                } else {
                    prop_assert_eq!(outcome.result, Ok(()));
                    prop_assert_eq!(content, outcome.content);
                }
            }
            (naive, ours) => prop_assert!(false, "naive finds an end: {}, ours: {}", naive.is_some(), ours.is_some()),
        }
    }

    #[test]
    fn every_split_meets_the_same_limits(
        (input, cuts) in text().prop_flat_map(|text| { let length = text.len(); (Just(text), cuts(length)) }),
        limits in (0u64..60, 0u64..40, 0u64..20),
    ) {
        let whole = read_data(&input, &[], limits).map(|outcome| (outcome.result, outcome.rest, outcome.size));
        let split = read_data(&input, &cuts, limits).map(|outcome| (outcome.result, outcome.rest, outcome.size));
        prop_assert_eq!(whole, split);
    }

    #[test]
    fn the_header_section_is_counted_as_it_is_read_elsewhere(input in text()) {
        let section = crate::mail::HeaderSection::parse(&input);
        let hops = section.named(&input, "Received").count();
        let mut reader = DataReader::new(1 << 20, 1 << 20, 1 << 20);
        let mut remaining = input.len() as u64;
        reader.chunk(&mut BytesMut::from(&input[..]), &mut remaining, &mut BytesMut::new());
        prop_assert_eq!(reader.watch.hops() as usize, hops);
    }
}
