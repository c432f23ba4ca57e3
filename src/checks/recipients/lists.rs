//! The lists in force: of the settings, of files, and what operators added by command.
//!
//! A file is read again when the settings are, and when it has changed: it is looked at now and then, while mail comes. A file
//! with a mistake keeps its list as it was and is reported with its lines. One that was never read without mistakes is used as
//! far as it goes, and nobody is called unknown for not standing in it.
//!
//! What operators added is a note of the store, durable before they are answered. All of it is worked out again at each change,
//! on threads that may block; who asks meanwhile gets the lists as they were.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;

use super::addresses::{Addresses, entry, read_list};
use crate::config::{Config, RecipientCheck, RecipientList};
use crate::mail::{Domain, Timestamp};
use crate::store::{Store, StoreError};

/// The note's name.
const NOTE: &str = "recipients";
/// Addresses added by command, of all domains.
const ADDED_MAX: usize = 200_000;
/// Of a file, in bytes.
const FILE_MAX: u64 = 64 << 20;
/// Between two looks at the files.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Where an address is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListedIn {
    /// In the settings or their file.
    Settings,
    /// Added by command.
    Added,
}

/// The lists of one domain.
#[derive(Clone, Default)]
pub struct Listed {
    pub settings: Arc<Addresses>,
    pub added: Arc<Addresses>,
    file: Option<Arc<FileRead>>,
}

/// What came of reading a file.
struct FileRead {
    path: PathBuf,
    stamp: Option<Stamp>,
    is_mistaken: bool,
    /// All of it was understood, now or when it was last without mistakes.
    whole: bool,
}

/// What tells one state of a file from another without reading it.
type Stamp = (u64, u64, i64, i64);

impl Listed {
    pub fn find(&self, local: &str) -> Option<ListedIn> {
        if self.settings.contains(local) {
            return Some(ListedIn::Settings);
        }
        self.added.contains(local).then_some(ListedIn::Added)
    }

    /// Whoever does not stand in it does not exist.
    pub fn is_whole(&self) -> bool {
        self.file.as_ref().is_none_or(|file| file.whole)
    }
}

/// All lists, for one state of the settings.
pub struct Lists {
    store: Store,
    current: ArcSwapOption<State>,
    /// What operators added; `None` before it was read. Held while the lists are worked out.
    added: Mutex<Option<Added>>,
    looked_at: AtomicU64,
}

type Added = BTreeMap<Domain, BTreeSet<String>>;

struct State {
    config: Arc<Config>,
    domains: HashMap<Domain, Listed>,
}

impl Lists {
    pub fn new(store: &Store) -> Lists {
        Lists { store: store.clone(), current: ArcSwapOption::empty(), added: Mutex::default(), looked_at: AtomicU64::new(0) }
    }

    /// The lists of a domain by these settings. Files are looked at now and then without anybody waiting for it.
    pub async fn of(self: &Arc<Self>, config: &Arc<Config>, domain: &Domain, now: Timestamp) -> Listed {
        let of = |state: &State| state.domains.get(domain).cloned().unwrap_or_default();
        if let Some(state) = self.current.load().as_ref().filter(|state| Arc::ptr_eq(&state.config, config)) {
            let looked_at = self.looked_at.load(Ordering::Relaxed);
            let is_due = now.0 >= looked_at + LOOK_EVERY.as_millis() as u64;
            if is_due && self.looked_at.compare_exchange(looked_at, now.0, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                let (lists, config) = (Arc::clone(self), Arc::clone(config));
                tokio::task::spawn_blocking(move || lists.work_out(&config));
            }
            return of(state);
        }
        let (lists, config) = (Arc::clone(self), Arc::clone(config));
        let worked_out = tokio::task::spawn_blocking(move || lists.work_out_for(&config));
        worked_out.await.map(|state| of(&state)).unwrap_or_default()
    }

    /// Works out the lists for these settings anew. Blocks.
    pub fn work_out(&self, config: &Arc<Config>) {
        let mut added = self.added();
        self.build(config, self.read_added(&mut added));
    }

    fn work_out_for(&self, config: &Arc<Config>) -> Arc<State> {
        let mut added = self.added();
        // Somebody else may have done it while this one waited for its turn.
        match self.current.load_full().filter(|state| Arc::ptr_eq(&state.config, config)) {
            Some(state) => state,
            None => self.build(config, self.read_added(&mut added)),
        }
    }

    fn build(&self, config: &Arc<Config>, added: &Added) -> Arc<State> {
        let before = self.current.load_full();
        let is_reload = before.as_ref().is_some_and(|state| !Arc::ptr_eq(&state.config, config));
        let mut domains = HashMap::new();
        for (domain, settings) in &config.domains {
            let added = added.get(domain);
            if settings.recipients.check == RecipientCheck::Any && added.is_none() {
                continue;
            }
            let old = before.as_ref().and_then(|state| state.domains.get(domain));
            let mut listed = match &settings.recipients.list {
                RecipientList::Here(entries) => Listed { settings: Arc::new(here(entries, domain)), ..Listed::default() },
                RecipientList::File(path) => from_file(path, domain, config, old, is_reload),
            };
            listed.added = Arc::new(Addresses::new(added.into_iter().flatten().cloned()));
            domains.insert(domain.clone(), listed);
        }
        let state = Arc::new(State { config: Arc::clone(config), domains });
        self.current.store(Some(Arc::clone(&state)));
        state
    }

    /// Adds (`true`) or takes out entries, durably, and says how many made a difference. Blocks.
    pub fn change(&self, config: &Arc<Config>, entries: &[(Domain, String)], add: bool) -> Result<usize, ChangeError> {
        let mut known = self.added();
        let mut changed = self.read_added(&mut known).clone();
        let mut count = 0;
        for (domain, local) in entries {
            let locals = changed.entry(domain.clone()).or_default();
            count += usize::from(if add { locals.insert(local.clone()) } else { locals.remove(local) });
        }
        changed.retain(|_, locals| !locals.is_empty());
        if changed.values().map(BTreeSet::len).sum::<usize>() > ADDED_MAX {
            return Err(ChangeError::TooMany);
        }
        if count > 0 {
            // Power fails before the note is written: the operator has no answer, and the list is as it was.
            self.store.keep_note(NOTE, &serde_json::to_vec(&changed).expect("lists can be written as JSON"))?;
            self.build(config, known.insert(changed));
        }
        Ok(count)
    }

    fn added(&self) -> MutexGuard<'_, Option<Added>> {
        self.added.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Read once. A note that cannot be read is reported; a damaged one is set aside.
    fn read_added<'a>(&self, added: &'a mut Option<Added>) -> &'a Added {
        added.get_or_insert_with(|| {
            let bytes = match self.store.note(NOTE) {
                Ok(Some(bytes)) => bytes,
                Ok(None) => return Added::new(),
                Err(error) => {
                    tracing::error!(%error, "the recipients added by command could not be read; they count as unlisted");
                    return Added::new();
                }
            };
            serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                let kept = self.store.keep_note("recipients-damaged", &bytes).is_ok();
                tracing::error!(%error, set_aside = kept, "the recipients added by command are damaged; add them again");
                Added::new()
            })
        })
    }
}

/// Why addresses were not added or taken out.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    #[error("more than {ADDED_MAX} addresses cannot be added by command; put them into a file")]
    TooMany,
    #[error("{0}")]
    Store(#[from] StoreError),
}

/// The list in the settings themselves.
fn here(entries: &[String], domain: &Domain) -> Addresses {
    let local = |written: &String| match entry(written, domain) {
        Ok((of, local)) if of == *domain => Some(local),
        _ => {
            tracing::warn!(%domain, entry = written, "recipient_list: not an address of its domain; it has no effect");
            None
        }
    };
    Addresses::new(entries.iter().filter_map(local))
}

/// `old`: the list by the same settings or those before; `is_reload`: what was wrong with the file may be right by the new ones.
fn from_file(path: &Path, domain: &Domain, config: &Config, old: Option<&Listed>, is_reload: bool) -> Listed {
    let known = old.and_then(|old| Some((old, old.file.as_ref().filter(|file| file.path == path)?)));
    let stamp = std::fs::metadata(path).ok().map(|metadata| stamp(&metadata));
    if let Some((old, file)) = known
        && file.stamp == stamp
        && !(file.is_mistaken && is_reload)
    {
        return old.clone();
    }
    let entries = match read(path) {
        Ok(text) => {
            let (entries, mistakes) = read_list(&text, domain, |of| config.domain(of).is_some());
            for mistake in &mistakes {
                tracing::error!(%domain, "recipient_list: {}:{}: {}", path.display(), mistake.line, mistake.why);
            }
            if mistakes.is_empty() { Ok(entries) } else { Err(entries) }
        }
        Err(why) => {
            tracing::error!(%domain, file = %path.display(), why, "recipient_list: the file cannot be read");
            Err(Vec::new())
        }
    };
    let file = |is_mistaken, whole| Some(Arc::new(FileRead { path: path.to_owned(), stamp, is_mistaken, whole }));
    match (known, entries) {
        (Some((old, before)), Err(_)) if before.whole => {
            tracing::error!(%domain, addresses = old.settings.len(), "recipient_list: the list stays as it was");
            Listed { file: file(true, true), ..old.clone() }
        }
        (_, entries) => {
            let whole = entries.is_ok();
            let (Ok(entries) | Err(entries)) = entries;
            let settings = Arc::new(Addresses::new(entries));
            tracing::info!(%domain, file = %path.display(), addresses = settings.len(), whole, "recipient_list: read");
            Listed { settings, file: file(!whole, whole), ..Listed::default() }
        }
    }
}

/// At most [`FILE_MAX`] bytes of UTF-8.
fn read(path: &Path) -> Result<String, String> {
    let size = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > FILE_MAX {
        return Err(format!("it has {size} bytes; the most is {FILE_MAX}"));
    }
    std::fs::read_to_string(path).map_err(|error| error.to_string())
}

fn stamp(metadata: &Metadata) -> Stamp {
    (metadata.ino(), metadata.size(), metadata.mtime(), metadata.mtime_nsec())
}
