//! What counts as one client: never a single IPv6 address, of which everyone has 2^64.

use std::net::IpAddr;

use ipnet::IpNet;

/// Whom greylisting knows: /24 and /64. Large senders retry from another host of the same network.
pub(super) fn neighbourhood(address: IpAddr) -> IpNet {
    network(address, 24, 64)
}

/// Whom the limit of connections counts: an IPv4 address, or a /64.
pub(super) fn client(address: IpAddr) -> IpNet {
    network(address, 32, 64)
}

/// Whose clients have limits together: a /24, or a /48.
pub(super) fn surroundings(address: IpAddr) -> IpNet {
    network(address, 24, 48)
}

/// `::ffff:192.0.2.1`, an IPv4 client of a socket that listens on `[::]`, is 192.0.2.1.
fn network(address: IpAddr, v4_prefix: u8, v6_prefix: u8) -> IpNet {
    let address = address.to_canonical();
    let prefix = if address.is_ipv4() { v4_prefix } else { v6_prefix };
    IpNet::new(address, prefix).expect("24 and 32 are IPv4 prefixes, 48 and 64 are IPv6 prefixes").trunc()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_share_a_network() {
        let case = |address: &str, of: fn(IpAddr) -> IpNet| of(address.parse().unwrap()).to_string();
        assert_eq!(case("192.0.2.77", neighbourhood), "192.0.2.0/24");
        assert_eq!(case("::ffff:192.0.2.77", neighbourhood), "192.0.2.0/24");
        assert_eq!(case("2001:db8:1:2:3:4:5:6", neighbourhood), "2001:db8:1:2::/64");
        assert_eq!(case("192.0.2.77", client), "192.0.2.77/32");
        assert_eq!(case("::ffff:192.0.2.77", client), "192.0.2.77/32");
        assert_eq!(case("2001:db8:1:2:3:4:5:6", client), "2001:db8:1:2::/64");
        assert_eq!(case("192.0.2.77", surroundings), "192.0.2.0/24");
        assert_eq!(case("2001:db8:1:2:3:4:5:6", surroundings), "2001:db8:1::/48");
    }
}
