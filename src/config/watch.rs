//! Notices that the files of the settings changed, so that they can be loaded again.
//!
//! Events of the file system are only a hint: editors write beside and rename over, configuration management swaps symbolic
//! links, and reading the files makes events of its own. After each hint, and now and then without one, the files are compared
//! with what was last loaded (name, inode, size, time); only a difference is reported. Where the system gives no hints (its
//! watches are used up, a network file system), looking now and then is all there is.
//!
//! Does not load anything: who gets the notice calls [`Source::load`] and keeps the old settings when that fails.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::load::{domain_dir, domain_files};
use super::{Config, ConfigErrors};

/// An editor's save is several events, and a directory of domains is often written file by file.
const QUIET: Duration = Duration::from_millis(300);
/// Changes that never pause are looked at all the same.
const QUIET_TRIES_MAX: usize = 10;
/// Between two looks without a hint, with a watcher that works and without one.
const LOOK_WITH_HINTS: Duration = Duration::from_secs(60);
const LOOK_WITHOUT_HINTS: Duration = Duration::from_secs(5);

/// The files of the settings, to be loaded again and again.
#[derive(Clone, Debug)]
pub struct Source {
    path: PathBuf,
    /// The state of the files that was last loaded or reported. Taken before loading: a change in the middle is seen later.
    seen: Arc<Mutex<Option<State>>>,
}

/// What tells one state of the files from another without reading them.
#[derive(Clone, Debug, PartialEq)]
struct State(Vec<(PathBuf, Option<Stamp>)>);

#[derive(Clone, Debug, PartialEq)]
struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Source {
    pub fn new(path: &Path) -> Source {
        Source { path: path.to_owned(), seen: Arc::default() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The main file, and those with domains that exist now.
    pub fn files(&self) -> Vec<PathBuf> {
        // A directory that cannot be read is an error of the next load; here it has no files.
        let domains = domain_files(&self.path).unwrap_or_default();
        std::iter::once(self.path.clone()).chain(domains).collect()
    }

    /// As [`Config::load`]. Blocks.
    pub fn load(&self) -> Result<Config, ConfigErrors> {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(self.state());
        Config::load(&self.path)
    }

    /// Whether the files differ from what was last loaded or reported; reports each difference once.
    fn has_changed(&self) -> bool {
        let now = Some(self.state());
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = *seen != now;
        *seen = now;
        changed
    }

    fn state(&self) -> State {
        let stamp = |metadata: Metadata| Stamp {
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        };
        let stamped = |file: PathBuf| {
            // Follows links: the file they lead to is what is loaded.
            let metadata = std::fs::metadata(&file).ok();
            (file, metadata.map(stamp))
        };
        State(self.files().into_iter().map(stamped).collect())
    }
}

/// Gives a notice for each change of the files since they were last loaded; several changes before it is taken are one notice.
/// Must be called within the runtime; ends when the receiver is dropped.
pub fn watch(source: &Source) -> mpsc::Receiver<()> {
    let (notices, receiver) = mpsc::channel(1);
    tokio::spawn(report(source.clone(), notices));
    receiver
}

async fn report(source: Source, notices: mpsc::Sender<()>) {
    // One waiting hint says as much as many.
    let (sender, mut hints) = mpsc::channel(1);
    let mut hinter = Hinter::new(&sender);
    loop {
        let look = source.clone();
        let looked = tokio::task::spawn_blocking(move || {
            // Each time: `domains/` may be new, or another directory of that name.
            let watches = hinter.watch(&look.path);
            (hinter, watches, look.has_changed())
        });
        let Ok((returned, watches, changed)) = looked.await else { return };
        hinter = returned;
        if changed && matches!(notices.try_send(()), Err(mpsc::error::TrySendError::Closed(()))) {
            return;
        }
        let pause = if watches { LOOK_WITH_HINTS } else { LOOK_WITHOUT_HINTS };
        tokio::select! {
            () = notices.closed() => return,
            _ = timeout(pause, hints.recv()) => {}
        }
        for _ in 0..QUIET_TRIES_MAX {
            if timeout(QUIET, hints.recv()).await.is_err() {
                break;
            }
        }
    }
}

/// The system's watcher; `None` when there is none to be had.
struct Hinter(Option<RecommendedWatcher>);

impl Hinter {
    fn new(hints: &mpsc::Sender<()>) -> Hinter {
        let hints = hints.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Opening and reading are events too, and looking at the files would hint to look at them.
            if !matches!(event.map(|event| event.kind), Ok(EventKind::Access(_))) {
                let _ = hints.try_send(());
            }
        });
        Hinter(watcher.ok())
    }

    /// Watches the directory of the file, where renames are seen, and `domains/`. Says whether hints can be relied on.
    fn watch(&mut self, main: &Path) -> bool {
        let Some(watcher) = &mut self.0 else { return false };
        let dir = match main.parent() {
            Some(dir) if dir != Path::new("") => dir,
            _ => Path::new("."),
        };
        let domains = domain_dir(main);
        let main_watched = watcher.watch(dir, RecursiveMode::NonRecursive).is_ok();
        let domains_watched = !domains.exists() || watcher.watch(&domains, RecursiveMode::NonRecursive).is_ok();
        main_watched && domains_watched
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: &str = "hostname = \"mx1.isp.example\"\n";

    fn settings() -> (tempfile::TempDir, Source) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("feedgate.toml"), SETTINGS).unwrap();
        let source = Source::new(&dir.path().join("feedgate.toml"));
        (dir, source)
    }

    /// As editors do it.
    fn rename_over(file: &Path, text: &str) {
        let beside = file.with_extension("new");
        std::fs::write(&beside, text).unwrap();
        std::fs::rename(beside, file).unwrap();
    }

    #[test]
    fn a_change_is_seen_once() {
        let (dir, source) = settings();
        source.load().unwrap();
        assert!(!source.has_changed());
        rename_over(source.path(), SETTINGS);
        assert!(source.has_changed());
        assert!(!source.has_changed());
        std::fs::create_dir(dir.path().join("domains")).unwrap();
        std::fs::write(dir.path().join("domains/.a.toml"), "").unwrap();
        assert!(!source.has_changed(), "nothing to load there");
        std::fs::write(dir.path().join("domains/a.toml"), "").unwrap();
        assert!(source.has_changed());
        assert_eq!(source.files(), [dir.path().join("feedgate.toml"), dir.path().join("domains/a.toml")]);
        std::fs::remove_file(source.path()).unwrap();
        assert!(source.has_changed());
    }

    #[tokio::test]
    async fn an_editors_save_and_a_new_directory_of_domains_are_noticed() {
        let (dir, source) = settings();
        source.load().unwrap();
        let mut notices = watch(&source);
        let domains = dir.path().join("domains");
        for step in 0..3 {
            match step {
                0 => rename_over(source.path(), &format!("{SETTINGS}# changed\n")),
                1 => std::fs::create_dir(&domains).and_then(|()| std::fs::write(domains.join("a.toml"), "")).unwrap(),
                _ => std::fs::write(domains.join("a.toml"), "# changed\n").unwrap(),
            }
            let notice = timeout(Duration::from_secs(30), notices.recv()).await;
            assert_eq!(notice.expect("noticed in time"), Some(()), "step {step}");
            source.load().unwrap();
        }
    }

    #[tokio::test]
    async fn a_change_between_loading_and_watching_is_noticed() {
        let (_dir, source) = settings();
        source.load().unwrap();
        rename_over(source.path(), &format!("{SETTINGS}# changed\n"));
        let mut notices = watch(&source);
        let notice = timeout(Duration::from_secs(30), notices.recv()).await;
        assert_eq!(notice.expect("noticed in time"), Some(()));
    }
}
