//! The file against names as providers give them: `tests/clients/dynamic.txt` and `tests/clients/servers.txt`.

use super::*;

const DYNAMIC: &str = include_str!("../../../../tests/clients/dynamic.txt");
const SERVERS: &str = include_str!("../../../../tests/clients/servers.txt");

/// Name and address of each line.
fn cases(text: &'static str) -> impl Iterator<Item = (Domain, IpAddr)> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| {
        let (name, address) = line.split_once(' ').unwrap_or_else(|| panic!("{line}: a name and an address"));
        let name = Domain::parse(name).unwrap_or_else(|error| panic!("{line}: {error}"));
        (name, address.parse().unwrap_or_else(|error| panic!("{line}: {error}")))
    })
}

#[test]
fn lines_are_dynamic_and_servers_are_not() {
    let names = DynamicNames::builtin();
    let missed: Vec<String> = cases(DYNAMIC)
        .filter(|(name, address)| names.why(name, *address).is_none())
        .map(|(name, address)| format!("{name} {address} is taken for a server's"))
        .collect();
    let wrong: Vec<String> = cases(SERVERS)
        .filter_map(|(name, address)| Some(format!("{name} {address}: {}", names.line(name.as_str(), address)?.id)))
        .collect();
    assert!(missed.is_empty() && wrong.is_empty(), "{}\n{}", missed.join("\n"), wrong.join("\n"));
    assert!(cases(DYNAMIC).count() >= 300 && cases(SERVERS).count() >= 300);
}

#[test]
fn every_entry_and_every_zone_has_a_name_it_is_for() {
    let names = DynamicNames::builtin();
    let mut without: Vec<String> = Vec::new();
    for (entries, text) in [(&names.lines, DYNAMIC), (&names.servers, SERVERS)] {
        for entry in entries {
            if !cases(text).any(|(name, address)| entry.holds(name.as_str(), address)) {
                without.push(entry.id.clone());
            }
        }
    }
    for zone in names.lines.iter().flat_map(|line| &line.below) {
        if !cases(DYNAMIC).any(|(name, _)| is_below(name.as_str(), zone)) {
            without.push(zone.clone());
        }
    }
    assert!(without.is_empty(), "{without:?}");
}

#[test]
fn addresses_are_found_in_every_form() {
    let whole = |name: &str, address: &str| embedded::whole(name, address.parse().unwrap());
    for name in [
        "192-0-2-77.x.example",
        "77.2.0.192.x.example",
        "host77.range192-0-2.x.example",
        "p192000002077.x.example",
        "077.002.000.192.x.example",
        "pc000024d.x.example",
        "c0-00-02-4d.x.example",
        "4d0200c0.x.example",
        "ip3221226061.x.example",
        "h1920277.x.example",
    ] {
        assert!(whole(name, "192.0.2.77"), "{name}");
        assert!(!whole(name, "198.51.100.78"), "{name}");
    }
    assert!(whole("2001-db8-0-1--2.x.example", "2001:db8:0:1::2"));
    assert!(whole("h20010db800010002.x.example", "2001:db8:1:2::25"));
    assert!(!whole("mail0000000000000025.x.example", "2001:db8:1:2::25"));
    let part = |name: &str| embedded::part(name, "192.0.2.77".parse().unwrap());
    assert!(part("h77.2.x.example") && part("a0-2.x.example") && !part("a192-2.x.example") && !part("a77.x.example"));
}

#[test]
fn mistakes_in_the_file_are_told() {
    let mistake = |entry: &str| DynamicNames::parse(&format!("server = []\n[[line]]\nid = \"a\"\nwhy = \"b\"\n{entry}")).err();
    assert!(mistake("matches = '('").unwrap().starts_with("a: "));
    assert_eq!(mistake("").unwrap(), "a: it would hold for every name");
    assert!(mistake("adress = \"whole\"").is_some());
}

#[test]
fn the_longest_name_takes_no_time() {
    let names = DynamicNames::builtin();
    let label = "1-2-3-4-dsl-5-6-7-8-pool-9-10-11-12-static1-2-3-4-5-6-7-8-9-0";
    let name: Domain = format!("{label}.{label}.{label}.{label}").parse().unwrap();
    for _ in 0..100 {
        names.why(&name, "192.0.2.1".parse().unwrap());
    }
}
