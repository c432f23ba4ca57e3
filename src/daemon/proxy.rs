//! The PROXY protocol, versions 1 and 2: a load balancer says in front of each connection who its client is.
//!
//! From the networks of `smtp.proxy_from` a header is required; from anybody else it is not read, and is noise like any other.
//! One that is malformed, too long or too late ends the connection without a word, as the protocol asks: whoever is there is not
//! the balancer that the settings mean.

use std::net::SocketAddr;
use std::time::Duration;

use proxy_header::{Error, ParseConfig, Protocol, ProxyHeader};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::timeout;

use crate::outside::Stream;

/// A balancer sends its header at once.
const HEADER_WAIT: Duration = Duration::from_secs(5);
/// The longest header with its extensions.
const HEADER_MAX: usize = 4096;
/// The longest one of version 1, as the protocol has it.
const TEXT_MAX: usize = 107;
/// What is read ahead of the session: an ordinary header, and little more for 10,000 sessions.
pub(super) const READ_AHEAD: usize = 256;

/// Reads the header and nothing behind it. `Ok(None)`: the balancer itself, which looks whether we are there, or a connection of
/// whose client it knows nothing. `Err`: why this is no header, for the log.
pub(super) async fn client<S: Stream>(stream: &mut BufReader<S>) -> Result<Option<SocketAddr>, &'static str> {
    timeout(HEADER_WAIT, read(stream)).await.unwrap_or(Err("no whole header in time"))
}

async fn read<S: Stream>(stream: &mut BufReader<S>) -> Result<Option<SocketAddr>, &'static str> {
    let mut header = Vec::new();
    loop {
        let more = stream.fill_buf().await.map_err(|_| "the connection broke")?;
        if more.is_empty() {
            return Err("it closed");
        }
        let before = header.len();
        header.extend_from_slice(more);
        let begins_well = [&b"PROXY "[..], b"\r\n\r\n\x00\r\nQUIT\n"].iter().any(|start| {
            let length = start.len().min(header.len());
            header[..length] == start[..length]
        });
        if !begins_well {
            return Err("no PROXY header");
        }
        let most = if header[0] == b'P' { TEXT_MAX } else { HEADER_MAX };
        match ProxyHeader::parse(&header, ParseConfig { include_tlvs: false, ..ParseConfig::default() }) {
            Ok((found, length)) if length <= most => {
                let client = named(&found);
                stream.consume(length - before);
                return client;
            }
            Err(Error::BufferTooShort) if header.len() < most => {
                let all = header.len() - before;
                stream.consume(all);
            }
            Ok(_) | Err(Error::BufferTooShort) => return Err("the header is too long"),
            Err(_) => return Err("the header is malformed"),
        }
    }
}

fn named(header: &ProxyHeader<'_>) -> Result<Option<SocketAddr>, &'static str> {
    match header.proxied_address() {
        None => Ok(None),
        Some(address) if address.protocol == Protocol::Stream => {
            Ok(Some(SocketAddr::new(address.source.ip().to_canonical(), address.source.port())))
        }
        Some(_) => Err("the header names a datagram"),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    /// What a header in these pieces says, and what the session reads after it.
    async fn read_from(pieces: &[&[u8]]) -> (Result<Option<String>, &'static str>, String) {
        let (mut balancer, ours) = duplex(1 << 20);
        let mut stream = BufReader::with_capacity(READ_AHEAD, ours);
        let write = async {
            for piece in pieces {
                balancer.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
            drop(balancer);
        };
        let (found, ()) = tokio::join!(client(&mut stream), write);
        let mut rest = String::new();
        if found.is_ok() {
            stream.read_to_string(&mut rest).await.unwrap();
        }
        (found.map(|found| found.map(|address| address.to_string())), rest)
    }

    fn v2(command: u8, family: u8, addresses: &[u8], extensions: usize) -> Vec<u8> {
        let length = u16::try_from(addresses.len() + extensions).unwrap();
        let mut header = b"\r\n\r\n\x00\r\nQUIT\n".to_vec();
        header.extend([command, family]);
        header.extend(length.to_be_bytes());
        header.extend(addresses);
        header.extend(vec![4; extensions]);
        header
    }

    const V4: [u8; 12] = [192, 0, 2, 7, 198, 51, 100, 1, 0x9c, 0x40, 0, 25];

    #[tokio::test]
    async fn both_versions_name_the_client_however_they_are_cut() {
        let mut v6 = "2001:db8::7".parse::<std::net::Ipv6Addr>().unwrap().octets().repeat(2);
        v6.extend([0x9c, 0x40, 0, 25]);
        for (header, expected) in [
            (b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 25\r\n".to_vec(), Some("192.0.2.7:40000")),
            (b"PROXY TCP6 2001:db8::7 2001:db8::1 40000 25\r\n".to_vec(), Some("[2001:db8::7]:40000")),
            (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 40000 25\r\n".to_vec(), Some("192.0.2.7:40000")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(), None),
            (v2(0x21, 0x11, &V4, 0), Some("192.0.2.7:40000")),
            (v2(0x21, 0x11, &V4, 1000), Some("192.0.2.7:40000")),
            (v2(0x21, 0x21, &v6, 3), Some("[2001:db8::7]:40000")),
            (v2(0x20, 0x00, &[], 0), None),
            (v2(0x20, 0x11, &V4, 0), None),
            (v2(0x21, 0x00, &[], 0), None),
        ] {
            let whole = [&header[..], b"EHLO a\r\n"].concat();
            for size in [1, 7, 4096] {
                let pieces: Vec<_> = whole.chunks(size).collect();
                let (found, rest) = read_from(&pieces).await;
                assert_eq!(found, Ok(expected.map(str::to_owned)), "{}", header.escape_ascii());
                assert_eq!(rest, "EHLO a\r\n", "nothing of the session is lost");
            }
        }
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused() {
        for bad in [
            &b"EHLO a\r\n"[..],
            b"PROXYTCP4 192.0.2.7 198.51.100.1 40000 25\r\n",
            b"PROXY\tTCP4 192.0.2.7 198.51.100.1 40000 25\r\n",
            b"PROXY TCP4 192.0.2.7 198.51.100.1 40000\r\n",
            b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 25\n",
            b"PROXY TCP4 192.0.2.700 198.51.100.1 40000 25\r\n",
            b"PROXY TCP4 2001:db8::7 2001:db8::1 40000 25\r\n",
            b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 65536\r\n",
            b"POST / HTTP/1.1\r\n\r\n",
            b"\r\nEHLO a\r\n",
            b"PROXY",
            b"",
            &[b'P'; 200],
            &[&b"PROXY UNKNOWN "[..], &[b'x'; 200], b"\r\n"].concat(),
            &v2(0x31, 0x11, &V4, 0),
            &v2(0x22, 0x11, &V4, 0),
            &v2(0x21, 0x11, &V4[..11], 0),
            &v2(0x21, 0x12, &V4, 0),
            &v2(0x21, 0x11, &V4, 60_000),
        ] {
            let (found, _) = read_from(&[bad]).await;
            assert!(found.is_err(), "{}", bad.escape_ascii());
            let bytes: Vec<_> = bad.chunks(1).collect();
            assert!(read_from(&bytes).await.0.is_err(), "{}", bad.escape_ascii());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_balancer_that_says_nothing_is_not_waited_for() {
        let (balancer, ours) = duplex(100);
        let mut stream = BufReader::with_capacity(READ_AHEAD, ours);
        assert_eq!(client(&mut stream).await, Err("no whole header in time"));
        drop(balancer);
    }
}
