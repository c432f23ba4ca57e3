//! Where the values of a domain stand: in its own table, in the platform's, or nowhere. For people who ask; nothing is decided by it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::reader::Table;
use crate::spam::Layer;

/// Keys of `[queue]` that a domain may say too, each as it is asked for and as a domain's owner names it.
pub(super) const QUEUE_KEYS: [(&str, &str); 2] = [("lifetime", "lifetime"), ("retry", "retry")];
pub(super) const DOMAIN_KEYS: [(&str, &str); 6] = [
    ("lifetime", "lifetime"),
    ("retry", "retry"),
    ("greylist", "greylist"),
    ("outage_lifetime_max", "outage_lifetime_max"),
    ("unscannable", "unscannable"),
    ("recipients", "recipients"),
];
pub(super) const CHECK_KEYS: [(&str, &str); 5] = [
    ("reverse_dns", "checks.reverse_dns"),
    ("forward_confirmed", "checks.forward_confirmed"),
    ("dynamic_name", "checks.dynamic_name"),
    ("helo", "checks.helo"),
    ("dmarc", "checks.dmarc"),
];

/// Keys that stand in one layer, by the names that people use.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Written(Vec<&'static str>);

impl Written {
    /// Those of the keys that the table has.
    pub(super) fn note(&mut self, table: &Table<'_>, keys: &[(&'static str, &'static str)]) {
        self.0.extend(keys.iter().filter(|(key, _)| table.has(key)).map(|(_, name)| *name));
    }

    fn has(&self, key: &str) -> bool {
        self.0.contains(&key)
    }
}

/// The main file; the same for all domains.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Platform {
    pub(super) file: PathBuf,
    pub(super) written: Written,
}

/// Where a domain's values stand. A key has the name that a domain's owner gives it: `lifetime`, `spam.low`, `checks.dmarc`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Origins {
    platform: Arc<Platform>,
    domain: Written,
}

impl Origins {
    pub(super) fn new(platform: &Arc<Platform>, domain: Written) -> Origins {
        Origins { platform: Arc::clone(platform), domain }
    }

    /// Whose value counts; `None`: the built-in default.
    pub fn layer(&self, key: &str) -> Option<Layer> {
        let platforms = || self.is_platforms(key).then_some(Layer::Platform);
        if self.domain.has(key) { Some(Layer::Domain) } else { platforms() }
    }

    /// Whether the platform says it, too.
    pub fn is_platforms(&self, key: &str) -> bool {
        self.platform.written.has(key)
    }

    /// The main file, in which the platform's values stand.
    pub fn main(&self) -> &Path {
        &self.platform.file
    }

    /// A file as people name it who stand in the directory of the main file.
    pub fn short<'f>(&self, file: &'f Path) -> &'f Path {
        self.main().parent().and_then(|directory| file.strip_prefix(directory).ok()).unwrap_or(file)
    }
}
