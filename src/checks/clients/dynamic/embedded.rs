//! Whether a name holds an address, in any of the forms that providers write it. Names have at most 253 bytes, so nothing here
//! takes long.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Digits of a decimal address that are run together without zeros, at least: fewer are a number like any other.
const RUN_TOGETHER_MIN: usize = 7;
/// Digits of half an IPv6 address that are not zero, at least: `::25` is in no name.
const TELLING_MIN: usize = 4;

/// All of an IPv4 address, or half or more of an IPv6 address.
pub(super) fn whole(name: &str, address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => whole_v4(name, address),
        IpAddr::V6(address) => whole_v6(name, address),
    }
}

/// At least two neighbouring numbers of an IPv4 address, side by side in either order.
pub(super) fn part(name: &str, address: IpAddr) -> bool {
    if whole(name, address) {
        return true;
    }
    let IpAddr::V4(address) = address else { return false };
    let octets = address.octets();
    let numbers: Vec<Option<u8>> = runs(name).map(number).collect();
    let is_pair = |one: u8, other: u8| octets.windows(2).any(|pair| pair == [one, other] || pair == [other, one]);
    numbers.windows(2).any(|pair| matches!(pair, [Some(one), Some(other)] if is_pair(*one, *other)))
}

fn whole_v4(name: &str, address: Ipv4Addr) -> bool {
    let octets = address.octets();
    let reversed = [octets[3], octets[2], octets[1], octets[0]];
    let numbers: Vec<Option<u8>> = runs(name).map(number).collect();
    let mut sorted = octets;
    sorted.sort_unstable();
    // 1-2-3-4, 4.3.2.1, host4.range1-2-3: any order.
    let in_any_order = |window: &[Option<u8>]| {
        let mut window: Vec<u8> = window.iter().flatten().copied().collect();
        window.sort_unstable();
        window == sorted
    };
    if numbers.windows(4).any(in_any_order) {
        return true;
    }
    let closed: String = name.chars().filter(|letter| !matches!(letter, '-' | '.' | '_')).collect();
    let padded = |octets: [u8; 4]| octets.iter().map(|octet| format!("{octet:03}")).collect::<String>();
    let hex = |octets: [u8; 4]| octets.iter().map(|octet| format!("{octet:02x}")).collect::<String>();
    let plain = |octets: [u8; 4]| octets.iter().map(u8::to_string).collect::<String>();
    let run = |text: &str| runs(name).any(|run| run == text);
    let forwards_or_backwards = [octets, reversed].into_iter().any(|octets| {
        let plain = plain(octets);
        closed.contains(&padded(octets)) || closed.contains(&hex(octets)) || (plain.len() >= RUN_TOGETHER_MIN && run(&plain))
    });
    forwards_or_backwards || run(&address.to_bits().to_string())
}

fn whole_v6(name: &str, address: Ipv6Addr) -> bool {
    let digits = format!("{:032x}", address.to_bits());
    let reversed: String = digits.chars().rev().collect();
    let closed: String = name.chars().filter(|letter| !matches!(letter, '-' | '.' | '_')).collect();
    let halves = [&digits[..16], &digits[16..], &reversed[..16], &reversed[16..]];
    let is_telling = |half: &str| half.bytes().filter(|digit| *digit != b'0').count() >= TELLING_MIN;
    halves.into_iter().any(|half| is_telling(half) && closed.contains(half))
        || name.contains(&address.to_string().replace(':', "-"))
}

/// The longest runs of decimal digits, in order.
fn runs(name: &str) -> impl Iterator<Item = &str> {
    name.split(|letter: char| !letter.is_ascii_digit()).filter(|run| !run.is_empty())
}

/// A number of an address, with or without leading zeros.
fn number(run: &str) -> Option<u8> {
    if run.len() <= 3 { run.parse().ok() } else { None }
}
