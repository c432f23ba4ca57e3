//! The text form of the addresses of other servers: a customer's server ([`NextHop`]) and a clamd ([`ClamdAddress`]).

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use super::{ClamdAddress, HopHost, NextHop};
use crate::mail::Domain;

/// Why a text names no server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HopError {
    #[error("it is empty")]
    Empty,
    #[error("the port must be a number from 1 to 65535")]
    Port,
    #[error("an IPv6 address with a port stands in brackets")]
    Brackets,
    #[error("no server has this address")]
    NoHost,
    #[error("it is not an IP address or a host name")]
    Name,
    #[error("it must begin with unix: or tcp:")]
    Kind,
    #[error("behind tcp: stands an IP address with a port")]
    Tcp,
    #[error("behind unix: stands a path of at most 107 bytes")]
    Unix,
}

impl NextHop {
    pub const PORT: u16 = 25;
}

/// `203.0.113.5`, `203.0.113.5:2525`, `2001:db8::5`, `[2001:db8::5]:25`, `mail2.customer.example:2525`; port 25 if none.
impl FromStr for NextHop {
    type Err = HopError;

    fn from_str(text: &str) -> Result<NextHop, HopError> {
        if text.is_empty() {
            return Err(HopError::Empty);
        }
        if let Ok(address) = text.parse() {
            return NextHop::at(address, NextHop::PORT);
        }
        if let Some(rest) = text.strip_prefix('[') {
            let (address, rest) = rest.split_once(']').ok_or(HopError::Brackets)?;
            let address: Ipv6Addr = address.parse().map_err(|_| HopError::Brackets)?;
            let port = if rest.is_empty() { NextHop::PORT } else { port(rest.strip_prefix(':').ok_or(HopError::Port)?)? };
            return NextHop::at(address.into(), port);
        }
        let (host, port) = match text.split_once(':') {
            Some((_, rest)) if rest.contains(':') => return Err(HopError::Brackets),
            Some((host, written)) => (host, port(written)?),
            None => (text, NextHop::PORT),
        };
        if let Ok(address) = host.parse() {
            return NextHop::at(address, port);
        }
        let name = Domain::parse(host).map_err(|_| HopError::Name)?;
        Ok(NextHop { host: HopHost::Name(name), port })
    }
}

impl NextHop {
    fn at(address: IpAddr, port: u16) -> Result<NextHop, HopError> {
        let is_broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
        if address.is_unspecified() || address.is_multicast() || is_broadcast {
            return Err(HopError::NoHost);
        }
        Ok(NextHop { host: HopHost::Address(address), port })
    }
}

fn port(text: &str) -> Result<u16, HopError> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(port) if is_number && port != 0 => Ok(port),
        _ => Err(HopError::Port),
    }
}

/// Without the port when it is 25; leads back through [`NextHop::from_str`].
impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.host, self.port) {
            (host, NextHop::PORT) => host.fmt(f),
            (HopHost::Address(address), port) => SocketAddr::new(*address, port).fmt(f),
            (HopHost::Name(name), port) => write!(f, "{name}:{port}"),
        }
    }
}

impl fmt::Display for HopHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HopHost::Address(address) => address.fmt(f),
            HopHost::Name(name) => name.fmt(f),
        }
    }
}

/// `unix:/path` or `tcp:127.0.0.1:3310`.
impl FromStr for ClamdAddress {
    type Err = HopError;

    fn from_str(text: &str) -> Result<ClamdAddress, HopError> {
        if let Some(path) = text.strip_prefix("unix:") {
            // sun_path of unix(7) holds 108 bytes with the final NUL.
            let fits = (1..=107).contains(&path.len()) && !path.contains('\0');
            return if fits { Ok(ClamdAddress::Unix(PathBuf::from(path))) } else { Err(HopError::Unix) };
        }
        let Some(address) = text.strip_prefix("tcp:") else {
            return Err(if text.is_empty() { HopError::Empty } else { HopError::Kind });
        };
        match address.parse::<SocketAddr>() {
            Ok(address) if address.port() != 0 && !address.ip().is_unspecified() => Ok(ClamdAddress::Tcp(address)),
            _ => Err(HopError::Tcp),
        }
    }
}

impl fmt::Display for ClamdAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClamdAddress::Unix(path) => write!(f, "unix:{}", path.display()),
            ClamdAddress::Tcp(address) => write!(f, "tcp:{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn reads(text: &str, host: &str, port: u16, written: &str) {
        let hop: NextHop = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!((hop.host.to_string().as_str(), hop.port), (host, port));
        assert_eq!(hop.to_string(), written);
        assert_eq!(written.parse(), Ok(hop), "{written} leads back");
    }

    #[test]
    fn next_hops_are_read_and_written() {
        reads("203.0.113.5", "203.0.113.5", 25, "203.0.113.5");
        reads("203.0.113.5:2525", "203.0.113.5", 2525, "203.0.113.5:2525");
        reads("2001:db8::5", "2001:db8::5", 25, "2001:db8::5");
        reads("[2001:db8::5]", "2001:db8::5", 25, "2001:db8::5");
        reads("[2001:db8::5]:25", "2001:db8::5", 25, "2001:db8::5");
        reads("[2001:db8::5]:2525", "2001:db8::5", 2525, "[2001:db8::5]:2525");
        reads("Mail2.Customer.example.:2525", "mail2.customer.example", 2525, "mail2.customer.example:2525");
        reads("exchange", "exchange", 25, "exchange");
        reads("bücher.example", "xn--bcher-kva.example", 25, "xn--bcher-kva.example");
    }

    #[test]
    fn what_is_no_next_hop_is_refused() {
        for (text, error) in [
            ("", HopError::Empty),
            ("203.0.113.5:", HopError::Port),
            ("203.0.113.5:0", HopError::Port),
            ("203.0.113.5:+25", HopError::Port),
            ("203.0.113.5:65536", HopError::Port),
            ("[2001:db8::5]25", HopError::Port),
            ("[2001:db8::5", HopError::Brackets),
            ("[203.0.113.5]:25", HopError::Brackets),
            ("2001:db8::zz:25", HopError::Brackets),
            ("203.0.113.500", HopError::Name),
            ("203.0.113", HopError::Name),
            ("mail customer.example", HopError::Name),
            ("smtp://mail.customer.example", HopError::Port),
            ("0.0.0.0", HopError::NoHost),
            ("[::]:25", HopError::NoHost),
            ("255.255.255.255", HopError::NoHost),
            ("224.0.0.1:25", HopError::NoHost),
        ] {
            assert_eq!(text.parse::<NextHop>(), Err(error), "{text:?}");
        }
    }

    #[test]
    fn clamd_addresses_are_read_and_written() {
        for text in ["unix:/run/clamav/clamd.ctl", "tcp:127.0.0.1:3310", "tcp:[::1]:3310"] {
            assert_eq!(text.parse::<ClamdAddress>().map(|address| address.to_string()).as_deref(), Ok(text));
        }
        for (text, error) in [
            ("", HopError::Empty),
            ("/run/clamav/clamd.ctl", HopError::Kind),
            ("127.0.0.1:3310", HopError::Kind),
            ("unix:", HopError::Unix),
            ("tcp:clamd.example:3310", HopError::Tcp),
            ("tcp:127.0.0.1", HopError::Tcp),
            ("tcp:127.0.0.1:0", HopError::Tcp),
            ("tcp:0.0.0.0:3310", HopError::Tcp),
        ] {
            assert_eq!(text.parse::<ClamdAddress>(), Err(error), "{text:?}");
        }
        assert_eq!(format!("unix:/{}", "x".repeat(107)).parse::<ClamdAddress>(), Err(HopError::Unix));
    }
}
