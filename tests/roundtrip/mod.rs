//! What is saved comes back as it was, whatever it is and whatever happens to it meanwhile.
//!
//! Runs the library on a repository in memory, and the program where memory and output count.

mod agent;
mod changing;
mod chunks;
mod copied;
mod delta;
mod hostile;
mod memory;
mod mounts;
mod mutation;
mod names;
mod program;
mod real;
mod selection;
mod shared;
mod tar;
mod trees;

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, TestRunner};
use tempfile::TempDir;
use volume_vault::clock::{Clock, Time};
use volume_vault::codec::ChunkerParams;
use volume_vault::crypto::KdfParams;
use volume_vault::event::{Observer, Recorder, Warning};
use volume_vault::format::{HostFacts, Item, ItemKind, Method};
use volume_vault::ops::backup::{BackupOptions, BackupReport, NewItem, Origin, backup, scan};
use volume_vault::ops::restore::{
    Extra, RestoreReport, RestoreRun, restore_directory, restore_into_existing,
};
use volume_vault::ops::{Interrupt, OpsError};
use volume_vault::repo::{ChunkReader, Dirs, InitOptions, Repository, Secret, init};
use volume_vault::sink::{DirectoryOptions as SinkOptions, Special};
use volume_vault::source::{Directory, DirectoryOptions, Selection, Source};
use volume_vault::store::{MemoryStore, Store};

use crate::support::tree::{Aspect, Tree, describe, diff_except};

/// Opened frames that are kept, in bytes.
const CACHE: usize = 8 << 20;

/// A repository in memory, and a directory for what is saved in it.
struct Bench {
    dir: TempDir,
    repo: Arc<Repository>,
    /// Seconds by which the clock is ahead: files are then never too young for hints.
    ahead: AtomicI64,
}

/// A backup that was made.
struct Saved {
    report: BackupReport,
    warnings: Vec<Warning>,
}

/// A restore that was made.
struct Restored {
    report: RestoreReport,
    warnings: Vec<Warning>,
}

fn secret() -> Secret {
    Secret::Passphrase(b"correct horse".to_vec().into())
}

impl Bench {
    fn new() -> Self {
        Self::with(ChunkerParams::DEFAULT, &std::env::temp_dir())
    }

    /// Where nothing waits for a disk, and links and times have hardly any limit. To be used where
    /// trees must be equal to the last bit: elsewhere the count of blocks in use, which says what
    /// is sparse, may waver until data has come to the disk.
    fn on_tmpfs() -> Self {
        Self::with(ChunkerParams::DEFAULT, Path::new("/dev/shm"))
    }

    /// With other sizes of chunks, or on another file system.
    fn with(chunker: ChunkerParams, place: &Path) -> Self {
        let dir = tempfile::tempdir_in(place).expect("a directory");
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new(Clock::System));
        let options = InitOptions {
            label: "passphrase".to_owned(),
            kdf: KdfParams { memory_kib: 19 * 1024, passes: 1, lanes: 1 },
            chunker,
            clock: Clock::System,
            store: None,
        };
        let _ = init(&*store, &options, |_| Ok(secret())).expect("makes it");
        let dirs = Dirs { cache: dir.path().join("cache"), state: dir.path().join("state") };
        let repo = Arc::new(Repository::open(store, &secret(), &dirs).expect("opens"));
        std::fs::create_dir(dir.path().join("tree")).expect("made");
        Self { dir, repo, ahead: AtomicI64::new(3600) }
    }

    /// The directory that is saved.
    fn tree(&self) -> PathBuf {
        self.dir.path().join("tree")
    }

    /// Something in the directory that is saved.
    fn at(&self, name: &str) -> PathBuf {
        self.tree().join(name)
    }

    /// A place beside it, where nothing is.
    fn beside(&self) -> PathBuf {
        (0..).map(|n| self.dir.path().join(format!("back-{n}"))).find(|p| !p.exists()).expect("one")
    }

    fn clock(&self) -> Clock {
        let now = Clock::System.now();
        let ahead = self.ahead.fetch_add(1, Ordering::Relaxed);
        Clock::Fixed(Time::new(now.seconds + ahead, 0))
    }

    fn options(&self) -> BackupOptions {
        BackupOptions {
            host: HostFacts { name: "host".to_owned(), engine_id: None, engine_version: None },
            tags: Vec::new(),
            level: 1,
            verify: true,
            read_all: false,
            memory: 64 << 20,
            clock: self.clock(),
            program: "roundtrip".to_owned(),
        }
    }

    /// Saves the tree.
    fn save(&self) -> Saved {
        self.save_as("tree")
    }

    /// Saves the tree in a series of its own: what another series has read says nothing.
    fn save_as(&self, series: &str) -> Saved {
        self.save_dir(series, &self.tree())
    }

    fn save_dir(&self, series: &str, dir: &Path) -> Saved {
        self.save_from(series, |watched| {
            Ok(Box::new(Directory::open(dir, self.walk(Selection::all()), watched)?))
        })
    }

    fn walk(&self, selection: Selection) -> DirectoryOptions {
        DirectoryOptions { clock: self.clock(), selection }
    }

    fn save_from(
        &self,
        series: &str,
        open: impl FnOnce(Arc<dyn Observer>) -> Result<Box<dyn Source>, OpsError>,
    ) -> Saved {
        self.try_to_save(series, open).expect("it is saved")
    }

    fn try_to_save<O: Into<Origin>>(
        &self,
        series: &str,
        open: impl FnOnce(Arc<dyn Observer>) -> Result<O, OpsError>,
    ) -> Result<Saved, OpsError> {
        let recorder = Arc::new(Recorder::default());
        let observer: Arc<dyn Observer> = recorder.clone();
        let (options, interrupt) = (self.options(), Interrupt::default());
        let item = new_item(series);
        let saved = backup(&self.repo, &item, open, || Ok(()), &options, &observer, &interrupt);
        Ok(Saved { report: saved?, warnings: recorder.warnings() })
    }

    /// Restores all of it beside the tree.
    fn restore(&self, saved: &Saved) -> (PathBuf, Restored) {
        let target = self.beside();
        let restored = self.restore_selected(saved, &target, Selection::all());
        (target, restored)
    }

    fn restore_selected(&self, saved: &Saved, target: &Path, selection: Selection) -> Restored {
        let report = &saved.report;
        let special = SinkOptions { special: Special::Restore };
        self.run(selection, |run| {
            restore_directory(run, &report.snapshot, &report.item, target, special)
        })
    }

    /// Makes the tree what was saved.
    fn restore_into_tree(&self, saved: &Saved, extra: Extra, selection: Selection) -> Restored {
        let present = self.scan();
        let report = &saved.report;
        let special = SinkOptions { special: Special::Restore };
        self.run(selection, |run| {
            let tree = self.tree();
            let (snapshot, wanted) = (&report.snapshot, &report.item);
            restore_into_existing(run, &present, wanted, snapshot, &tree, special, extra)
        })
    }

    /// The present state of the tree.
    fn scan(&self) -> Item {
        let observer: Arc<dyn Observer> = Arc::new(Recorder::default());
        let options = BackupOptions { read_all: true, ..self.options() };
        let open = |watched| -> Result<Box<dyn Source>, OpsError> {
            Ok(Box::new(Directory::open(&self.tree(), self.walk(Selection::all()), watched)?))
        };
        let (item, interrupt) = (new_item("tree"), Interrupt::default());
        scan(&self.repo, &item, open, &options, &observer, &interrupt).expect("scans")
    }

    fn run(
        &self,
        selection: Selection,
        act: impl FnOnce(&RestoreRun<'_>) -> Result<RestoreReport, OpsError>,
    ) -> Restored {
        let index = Arc::new(self.repo.load_index().expect("loads"));
        let reader = Arc::new(ChunkReader::new(&self.repo, &index, CACHE));
        let recorder = Arc::new(Recorder::default());
        let observer: Arc<dyn Observer> = recorder.clone();
        let interrupt = Interrupt::default();
        let run =
            RestoreRun { reader: &reader, selection, observer: &observer, interrupt: &interrupt };
        let report = act(&run).expect("it is restored");
        Restored { report, warnings: recorder.warnings() }
    }

    /// Demands that a backup, restored, is `expected` to the last attribute.
    fn assert_comes_back(&self, saved: &Saved, expected: &Tree) {
        let (target, restored) = self.restore(saved);
        assert_eq!(shown(&restored.warnings), [""; 0]);
        let facts = &saved.report.item.facts;
        assert_eq!((restored.report.entries, restored.report.damaged), (facts.entries, 0));
        assert_same(expected, &target);
    }

    /// Waits until whatever changes from now on gets a later ctime than all that was seen so far.
    fn let_the_clock_tick(&self) {
        let file = tempfile::tempfile_in(self.dir.path()).expect("a file");
        let ctime = || {
            let metadata = file.metadata().expect("known");
            (metadata.ctime(), metadata.ctime_nsec())
        };
        let start = ctime();
        let mut mode = 0o600;
        while ctime() == start {
            mode ^= 0o100;
            rustix::fs::fchmod(&file, mode.into()).expect("set");
        }
    }
}

fn new_item(name: &str) -> NewItem {
    NewItem {
        kind: ItemKind::Directory,
        name: name.to_owned(),
        method: Method::HostPath,
        degraded: Vec::new(),
        volume: None,
        in_use_by: Vec::new(),
    }
}

/// What the root of a tree is known by: equal ids, equal trees.
fn root(saved: &Saved) -> (String, u8) {
    (saved.report.item.root.to_string(), saved.report.item.root_level)
}

/// Zero runs come back as holes where the file had any: there may be more of them than before.
fn assert_same(expected: &Tree, dir: &Path) {
    assert_eq!(diff_except(expected, &describe(dir), &[Aspect::MoreHoles]), [""; 0]);
}

/// Warnings as `object: message`, those about something missing with a mark before them.
fn shown(warnings: &[Warning]) -> Vec<String> {
    let show = |w: &Warning| {
        let mark = if w.skipped { "!" } else { "" };
        format!("{mark}{}: {}", w.object.escape_ascii(), w.message)
    };
    warnings.iter().map(show).collect()
}

/// Runs a property on so many generated cases.
fn check<S: Strategy>(cases: u32, strategy: &S, property: impl Fn(S::Value)) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let outcome = TestRunner::new(config).run(strategy, |case| {
        property(case);
        Ok(())
    });
    // It shows the least case that fails.
    let said = outcome.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(said.is_empty(), "{said}");
}

fn write(path: &Path, content: impl AsRef<[u8]>) {
    std::fs::write(path, content).expect("written");
}

/// `len` bytes that do not repeat, other ones for each seed.
fn noise(seed: u8, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&[b'n', seed]).finalize_xof().fill(&mut bytes);
    bytes
}
