//! A repository in a directory, filled through the library.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use volume_vault::clock::{Clock, Time};
use volume_vault::crypto::Key;
use volume_vault::event::{Observer, Recorder};
use volume_vault::format::{HostFacts, ItemKind, Method};
use volume_vault::id::SnapshotId;
use volume_vault::ops::Interrupt;
use volume_vault::ops::backup::{BackupOptions, NewItem, backup};
use volume_vault::repo::{Dirs, InitOptions, RepoError, Repository, Secret, init, write_key_file};
use volume_vault::source::{Directory, DirectoryOptions, Selection, Source};
use volume_vault::store::{LocalStore, Store};

/// A repository with a key file, a source, and folders for cache and state.
pub(crate) struct Bed {
    pub(crate) dir: tempfile::TempDir,
    key: Key,
}

impl Bed {
    /// An empty repository and an empty source.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let bed = Self { dir, key: Key::new([7; 32]) };
        std::fs::create_dir(bed.source()).expect("made");
        let store = LocalStore::create(&bed.repository()).expect("a store");
        let secret = |_: &_| Ok(Secret::KeyFile(bed.key.clone()));
        let (id, _) = init(&store, &InitOptions::default(), secret).expect("a repository");
        let content = write_key_file(&bed.key, &id);
        std::fs::write(bed.key_file(), content.as_bytes()).expect("written");
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(bed.key_file(), private).expect("made private");
        bed
    }

    pub(crate) fn repository(&self) -> PathBuf {
        self.dir.path().join("repository")
    }

    pub(crate) fn source(&self) -> PathBuf {
        self.dir.path().join("source")
    }

    pub(crate) fn key_file(&self) -> PathBuf {
        self.dir.path().join("key")
    }

    pub(crate) fn secret(&self) -> Secret {
        Secret::KeyFile(self.key.clone())
    }

    /// Opens the repository as a host that keeps its cache and state in the folder `host`.
    pub(crate) fn open_as(&self, host: &str) -> Result<Arc<Repository>, RepoError> {
        let store: Arc<dyn Store> = Arc::new(LocalStore::open(&self.repository())?);
        self.open_store(store, host)
    }

    /// As [`Bed::open_as`], through another store.
    pub(crate) fn open_store(
        &self,
        store: Arc<dyn Store>,
        host: &str,
    ) -> Result<Arc<Repository>, RepoError> {
        let at = |what: &str| self.dir.path().join(format!("{host}-{what}"));
        let dirs = Dirs { cache: at("cache"), state: at("state") };
        Repository::open(store, &self.secret(), &dirs).map(Arc::new)
    }

    /// Saves the source as volume `name`.
    pub(crate) fn backup(&self, name: &str) -> SnapshotId {
        let repo = self.open_as("writer").expect("the repository opens");
        let item = NewItem {
            kind: ItemKind::Volume,
            name: name.to_owned(),
            method: Method::HostPath,
            degraded: Vec::new(),
            volume: None,
            in_use_by: Vec::new(),
        };
        let host = HostFacts { name: "h".to_owned(), engine_id: None, engine_version: None };
        let options = BackupOptions {
            host,
            tags: Vec::new(),
            level: 1,
            verify: false,
            read_all: false,
            memory: 1 << 20,
            clock: Clock::System,
            program: "test".to_owned(),
        };
        let observer: Arc<dyn Observer> = Arc::new(Recorder::default());
        let source = self.source();
        let open = |observer| {
            let clock = Clock::Fixed(Time::new(1 << 33, 0));
            let options = DirectoryOptions { clock, selection: Selection::all() };
            let source = Directory::open(&source, options, observer)?;
            Ok(Box::new(source) as Box<dyn Source>)
        };
        let complete = || Ok(());
        backup(&repo, &item, open, complete, &options, &observer, &Interrupt::default())
            .expect("saved")
            .snapshot
    }

    /// All objects below a folder of the store, as paths, sorted.
    pub(crate) fn objects(&self, folder: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        collect(&self.repository().join(folder), &mut found);
        found.sort();
        found
    }

    /// The name of an object by its path.
    pub(crate) fn name_of(&self, path: &Path) -> String {
        let name = path.strip_prefix(self.repository()).expect("an object's path");
        name.to_str().expect("names are ASCII").to_owned()
    }
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("listed") {
        let path = entry.expect("listed").path();
        match path.is_dir() {
            true => collect(&path, found),
            false => found.push(path),
        }
    }
}

/// Bytes that do not compress and are the same for the same seed.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut hasher = blake3::Hasher::new();
    let _ = hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}
