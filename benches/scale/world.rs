//! A repository on disk, numbers that look random and are not, and what a phase took.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use tempfile::TempDir;
use volume_vault::clock::Stopwatch;
use volume_vault::crypto::Key;
use volume_vault::repo::{Dirs, InitOptions, Repository, Secret, init};
use volume_vault::store::{LocalStore, Store};

/// A new repository in a directory that goes with it.
pub(crate) struct World {
    dir: TempDir,
    pub(crate) store: Arc<LocalStore>,
}

impl World {
    pub(crate) fn new(below: &Path) -> Self {
        let dir = tempfile::tempdir_in(below).expect("a directory");
        let path = dir.path().join("repository");
        std::fs::create_dir(&path).expect("a directory");
        let store = Arc::new(LocalStore::create(&path).expect("a store"));
        let _ = init(&*store, &InitOptions::default(), |_| Ok(secret())).expect("a repository");
        Self { dir, store }
    }

    /// Opens the repository through a store that may show more than the disk holds.
    pub(crate) fn open(&self, store: Arc<dyn Store>) -> Arc<Repository> {
        let below = |name: &str| self.dir.path().join(name);
        let dirs = Dirs { cache: below("cache"), state: below("state") };
        Arc::new(Repository::open(store, &secret(), &dirs).expect("it opens"))
    }
}

fn secret() -> Secret {
    Secret::KeyFile(Key::new([7; 32]))
}

/// The number of that place in a fixed sequence without visible order (splitmix64).
pub(crate) fn scramble(n: u64) -> u64 {
    let mut x = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Collects what phases took.
#[derive(Default)]
pub(crate) struct Phases(serde_json::Map<String, Value>);

impl Phases {
    /// Runs a phase and notes its time and the most memory that was resident during it.
    pub(crate) fn run<T>(&mut self, name: &str, phase: impl FnOnce() -> T) -> T {
        // From here on the peak counts anew.
        std::fs::write("/proc/self/clear_refs", "5").expect("the peak is forgotten");
        let watch = Stopwatch::start();
        let result = phase();
        let seconds = watch.elapsed().as_secs_f64();
        let (peak, resident) = (status_kib("VmHWM:"), status_kib("VmRSS:"));
        let row = json!({
            "seconds": (seconds * 1e6).round() / 1e6,
            "peak_mib": peak / 1024,
            "resident_mib": resident / 1024,
        });
        eprintln!("  {name}: {row}");
        let _ = self.0.insert(name.to_owned(), row);
        result
    }

    /// Notes a count beside a phase that has run.
    pub(crate) fn note(&mut self, name: &str, what: &str, count: u64) {
        self.0[name][what] = json!(count);
    }

    pub(crate) fn finish(self) -> Value {
        Value::Object(self.0)
    }
}

fn status_kib(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("a line");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
