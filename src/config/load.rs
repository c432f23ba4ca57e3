//! Reads the files, puts the domains of all of them together, and gives the settings or everything that is wrong with them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::errors::{ConfigError, ConfigErrors, Text};
use super::file::{self, MainFile, Surroundings};
use super::reader::{self, Fault, Key, Table};
use super::values;
use super::{Config, DomainConfig};
use crate::mail::Domain;

/// Far above ten thousand domains; a device or a log given by mistake is not read to its end.
const FILE_MAX: u64 = 16 << 20;

impl Config {
    /// Reads the file and `domains/*.toml` beside it. Blocks; nothing is changed anywhere.
    pub fn load(path: &Path) -> Result<Config, ConfigErrors> {
        let main = read_file(path)?;
        let (mut others, mut unreadable) = (Vec::new(), Vec::new());
        let files = domain_files(path).unwrap_or_else(|error| {
            unreadable.push(error);
            Vec::new()
        });
        for file in files {
            match read_file(&file) {
                Ok(text) => others.push(text),
                Err(error) => unreadable.push(error),
            }
        }
        let config = Config::from_texts(&main, &others, unreadable)?;
        // One that is named must be there; the one beside may be absent.
        let rules_local = config.rules_local.or_else(|| Some(rules_dir(path)).filter(|beside| beside.is_dir()));
        Ok(Config { rules_local, ..config })
    }

    /// Reads the text of a main file alone; the name is for the messages, and relative paths start at its directory.
    pub fn parse(text: &str, file_name: &Path) -> Result<Config, ConfigErrors> {
        Config::from_texts(&Text::new(file_name, text.to_owned()), &[], Vec::new())
    }

    fn from_texts(main: &Text, others: &[Text], unreadable: Vec<ConfigError>) -> Result<Config, ConfigErrors> {
        let mut domains = Domains::default();
        let (config, surroundings, mut errors, _) = read_main(main, &mut domains);
        for text in others {
            errors.extend(read_domain_file(text, &surroundings, &mut domains));
        }
        errors.extend(unreadable);
        ConfigErrors::none_or(errors)?;
        let config = config.expect("settings that could not be read left an error");
        Ok(Config { domains: domains.configs, ..config })
    }
}

/// Every key there is, as `smtp.listen` or `domains."…".greylist`: what the documentation must explain.
pub fn keys() -> BTreeSet<String> {
    const ALL_TABLES: &str = "hostname = \"mx1.isp.example\"\n[smtp.tls]\n[checks.lists.\"zen.lists.example\"]\n[checks.uri_lists.\"dbl.lists.example\"]\n[domains.\"customer.example\".checks]\n[domains.\"customer.example\".spam]\n";
    let text = Text::new(Path::new("all.toml"), ALL_TABLES.to_owned());
    let (_, _, _, known) = read_main(&text, &mut Domains::default());
    let shown = |(table, key): Key| if table.is_empty() { key.to_owned() } else { format!("{table}.{key}") };
    let tables: BTreeSet<&str> = known.iter().map(|(table, _)| *table).collect();
    // What has named tables below it (`domains`, `checks.lists`, `checks.uri_lists`) is no key either.
    let is_table = |key: &str| tables.iter().any(|table| *table == key || table.starts_with(&format!("{key}.\"")));
    known.iter().copied().map(shown).filter(|key| !is_table(key)).collect()
}

/// The domains of all files; each stands in one place.
#[derive(Default)]
struct Domains {
    configs: BTreeMap<Domain, DomainConfig>,
    /// Also of those whose settings are wrong: `file:line`.
    places: BTreeMap<Domain, String>,
}

impl Domains {
    fn read(&mut self, table: Table<'_>, surroundings: &Surroundings, text: &Text) {
        for (name, bytes, table) in table.named_tables("domains.\"…\"") {
            let domain = match values::full_domain(name) {
                Ok(domain) => domain,
                Err(why) => {
                    // [domains.customer.example] is three tables in each other, the second called `customer`.
                    let help = "the whole name, in quotes: [domains.\"customer.example\"]";
                    table.refuse_name(bytes, Fault::new(why).help(help));
                    continue;
                }
            };
            if let Some(first) = self.places.get(&domain) {
                // "bücher.example" and "xn--bcher-kva.example" are one; so are "A.example" and "a.example".
                table.refuse_name(bytes.clone(), Fault::new(format!("is set twice: {domain} also stands in {first}")));
            } else {
                self.places.insert(domain.clone(), text.place(bytes.start));
            }
            if let Some(config) = file::domain(table, surroundings, text.name()) {
                self.configs.insert(domain, config);
            }
        }
    }
}

fn read_main(text: &Text, domains: &mut Domains) -> (Option<Config>, Surroundings, Vec<ConfigError>, BTreeSet<Key>) {
    let mut read = (None, Surroundings::unknown());
    let (errors, known) = reader::read_text(text, |top| {
        let MainFile { config, surroundings, domains: table } = file::main_file(top, text.name(), &directory(text.name()));
        domains.read(table, &surroundings, text);
        read = (config, surroundings);
    });
    (read.0, read.1, errors, known)
}

/// A file in `domains/` has `[domains."…"]` tables and nothing else.
fn read_domain_file(text: &Text, surroundings: &Surroundings, domains: &mut Domains) -> Vec<ConfigError> {
    let (errors, _) = reader::read_text(text, |mut top| {
        let table = top.table("domains", "domains");
        top.finish_with_help("a file in domains/ holds [domains.\"…\"] tables and nothing else");
        domains.read(table, surroundings, text);
    });
    errors
}

/// The directory of the file, absolute, so that the settings mean the same after a `chdir`.
fn directory(file: &Path) -> PathBuf {
    let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    absolute.parent().unwrap_or(Path::new("/")).to_owned()
}

/// Where the local layer of the rules stands unless the settings name another directory.
fn rules_dir(main: &Path) -> PathBuf {
    directory(main).join("rules.d")
}

/// Where the files with domains stand, for the main file of this path.
pub(super) fn domain_dir(main: &Path) -> PathBuf {
    main.with_file_name("domains")
}

/// `domains/*.toml` by name. Hidden files are left out: editors keep their locks and backups in such.
pub(super) fn domain_files(main: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let dir = domain_dir(main);
    let failed = |error: io::Error| ConfigError::in_file(&dir, format!("cannot read the directory: {error}"));
    let entries = match std::fs::read_dir(&dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if path.extension().is_some_and(|extension| extension == "toml") && !is_hidden {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read_file(path: &Path) -> Result<Text, ConfigError> {
    let failed = |error: io::Error| {
        let failed = ConfigError::in_file(path, format!("cannot read the settings: {error}"));
        match error.kind() {
            io::ErrorKind::NotFound => failed.with_help("name the file with --config FILE"),
            io::ErrorKind::PermissionDenied => failed.with_help("the user that runs Feedgate must be able to read it"),
            _ => failed,
        }
    };
    let file = File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(FILE_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(ConfigError::in_file(path, "is larger than 16MiB and cannot be a file with settings"));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        ConfigError::in_file(path, format!("is not valid UTF-8 (line {line})"))
    })?;
    Ok(Text::new(path, text))
}
