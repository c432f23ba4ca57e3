//! The published test suites of SPF (RFC 7208) and ARC (RFC 8617) through the gateway's own wiring: DNS as data behind the
//! resolver seam, results as the checks of a message use them.
//!
//! Where a result differs from the suite's, it is listed here with the reason. A difference that is not listed fails the test, and
//! so does a listed one that is gone.

mod arc;
mod spf;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::de::DeserializeOwned;

/// All documents of a YAML file of a suite.
fn scenarios<T: DeserializeOwned>(path: &str) -> Vec<T> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suites").join(path)).unwrap();
    serde_norway::Deserializer::from_str(&text).map(|document| T::deserialize(document).unwrap()).collect()
}

/// Compares what differs with what is known to: test, expected and got. The reasons stand in `known`.
fn compare(total: usize, differing: &BTreeMap<String, (String, String)>, known: &[(&str, &str, &str)]) {
    let known: BTreeMap<&str, (&str, &str)> = known.iter().map(|(test, got, why)| (*test, (*got, *why))).collect();
    let mut wrong = Vec::new();
    for (test, (expected, got)) in differing {
        match known.get(test.as_str()) {
            Some((listed, _)) if listed == got => {}
            Some((listed, _)) => wrong.push(format!("{test}: listed as {listed}, now {got}")),
            None => wrong.push(format!("{test}: expected {expected}, got {got}")),
        }
    }
    wrong.extend(
        known.keys().filter(|test| !differing.contains_key(**test)).map(|test| format!("{test}: listed, but as expected")),
    );
    assert!(wrong.is_empty(), "{} of {total} differ:\n{}", differing.len(), wrong.join("\n"));
    assert!(known.values().all(|(_, why)| !why.is_empty()));
}
