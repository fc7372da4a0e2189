//! Repositories that are sealed and signed as they must be, and lie inside: the rows G of the fault
//! matrix, each test named by its number.
//!
//! Every restore here runs beside a sentinel tree, which must stay as it is.

mod binary;
mod damage;
mod frames;
mod links;
mod many;
mod names;
mod numbers;
mod rollback;
mod signatures;
mod slots;
mod special;
mod trees;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;
use volume_vault::event::{Observer, Recorder, Warning};
use volume_vault::format::Item;
use volume_vault::id::SnapshotId;
use volume_vault::ops::restore::{RestoreReport, RestoreRun, restore_directory};
use volume_vault::ops::{Interrupt, OpsError};
use volume_vault::repo::{ChunkReader, Repository};
use volume_vault::sink::{DirectoryOptions, MARKER_NAME, Special};
use volume_vault::source::Selection;

use crate::support::builder::Builder;
use crate::support::tree::{Tree, describe, diff};

/// A folder with a tree that nobody may touch, beside which a restore may make `target`.
struct Beside {
    dir: TempDir,
    sentinel: Tree,
}

impl Beside {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let sentinel = dir.path().join("sentinel");
        std::fs::create_dir_all(sentinel.join("below")).expect("made");
        std::fs::write(sentinel.join("file"), "untouched").expect("written");
        std::fs::write(sentinel.join("below/other"), "untouched").expect("written");
        let described = describe(&sentinel);
        Self { dir, sentinel: described }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn target(&self) -> PathBuf {
        self.path("target")
    }

    /// Nothing but the target and what the test itself made is there, and the sentinel is whole.
    fn check(&self, ours: &[&str]) {
        let lines = diff(&self.sentinel, &describe(&self.path("sentinel")));
        assert_eq!(lines, [""; 0], "the sentinel was touched");
        for found in std::fs::read_dir(self.dir.path()).expect("lists") {
            let name = found.expect("lists").file_name().into_string().expect("UTF-8");
            let known = ["sentinel", "target"].contains(&&*name) || ours.contains(&&*name);
            assert!(known, "`{name}` was made outside the target");
        }
    }
}

/// What a restore came to.
struct Restored {
    outcome: Result<RestoreReport, OpsError>,
    warnings: Vec<Warning>,
    beside: Beside,
}

impl Restored {
    /// The paths that are there, with slashes, without the root.
    fn paths(&self) -> Vec<String> {
        let tree = describe(&self.beside.target());
        let paths = tree.keys().filter(|path| !path.is_empty());
        paths.map(|path| String::from_utf8_lossy(path).into_owned()).collect()
    }

    /// The paths that were named as left out.
    fn named(&self) -> Vec<String> {
        let skipped = self.warnings.iter().filter(|warning| warning.skipped);
        let mut named: Vec<_> =
            skipped.map(|w| String::from_utf8_lossy(&w.object).into_owned()).collect();
        named.sort();
        named
    }

    /// The restore came to an end, leaving out just these.
    fn left_out(&self, expected: &[&str]) -> RestoreReport {
        let report = self.outcome.as_ref().expect("all others are restored");
        assert_eq!(self.named(), expected, "{:?}", self.warnings);
        assert!(!self.beside.target().join(MARKER_NAME).exists());
        *report
    }

    /// The tree was refused: with this in the message, and with the marker left in the target.
    fn refused(&self, why: &str) {
        let error = self.outcome.as_ref().expect_err("it is refused");
        let text = chain(error);
        assert!(text.contains(why), "`{text}` does not say `{why}`");
        assert!(self.beside.target().join(MARKER_NAME).exists(), "half a tree looks whole");
    }
}

fn restore(builder: &mut Builder, item: &Item) -> Restored {
    restore_with(builder, item, Special::LeaveOut)
}

/// Publishes what is there and brings an item back beside a sentinel.
fn restore_with(builder: &mut Builder, item: &Item, special: Special) -> Restored {
    let _ = builder.publish();
    restore_beside(&builder.open(), item, special, Beside::new())
}

fn restore_beside(
    repo: &Arc<Repository>,
    item: &Item,
    special: Special,
    beside: Beside,
) -> Restored {
    let index = Arc::new(repo.load_index().expect("the index loads"));
    let reader = Arc::new(ChunkReader::new(repo, &index, 8 << 20));
    let recorder = Arc::new(Recorder::default());
    let observer: Arc<dyn Observer> = recorder.clone();
    let interrupt = Interrupt::default();
    let run = RestoreRun {
        reader: &reader,
        selection: Selection::all(),
        observer: &observer,
        interrupt: &interrupt,
    };
    let options = DirectoryOptions { special };
    let snapshot = SnapshotId::new([1; 32]);
    let outcome = restore_directory(&run, &snapshot, item, &beside.target(), options);
    beside.check(&[]);
    Restored { outcome, warnings: recorder.warnings(), beside }
}

/// Reads chunks of a repository that was just opened.
fn reader(repo: &Arc<Repository>) -> Arc<ChunkReader> {
    let index = Arc::new(repo.load_index().expect("the index loads"));
    Arc::new(ChunkReader::new(repo, &index, 1 << 20))
}

/// An error with all its causes.
fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

/// The content of a small file.
fn text(path: &Path) -> String {
    std::fs::read_to_string(path).expect("it reads")
}
