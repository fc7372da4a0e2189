//! A repository in memory or in a directory, driven through the library as `vault` does it.

use std::collections::{BTreeSet, HashSet};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use tempfile::TempDir;
use volume_vault::clock::{Clock, Time};
use volume_vault::crypto::{KdfParams, Key, Purpose, Signer};
use volume_vault::event::{Observer, Recorder};
use volume_vault::format::{HostFacts, ItemKind, Method, ObjectKind, seal_object};
use volume_vault::id::SnapshotId;
use volume_vault::ops::backup::{self, BackupOptions, BackupReport, NewItem};
use volume_vault::ops::restore::{RestoreReport, RestoreRun, restore_directory};
use volume_vault::ops::{Interrupt, OpsError};
use volume_vault::repo::{
    ChunkReader, Dirs, InitOptions, RepoError, Repository, Secret, Snapshot, SnapshotList, init,
    reach,
};
use volume_vault::sink::{DirectoryOptions, SinkError, Special};
use volume_vault::source::{Directory, DirectoryOptions as WalkOptions, Selection, Source};
use volume_vault::store::{FaultPlan, FaultStore, MemoryStore, ObjectName, Store};

use super::tree::{Tree, describe, diff};

/// Stands in the trees of [`make_tree`], as a name and as content, and nowhere else.
pub(crate) const CANARY: &str = "canary-7d1f3a";

/// The cheapest passphrase that is allowed.
pub(crate) const CHEAP_KDF: KdfParams = KdfParams { memory_kib: 19 * 1024, passes: 1, lanes: 1 };

/// A directory in memory, where it can be: hundreds of restores sync theirs.
pub(crate) fn scratch() -> TempDir {
    let in_memory = tempfile::tempdir_in("/dev/shm");
    in_memory.or_else(|_| tempfile::tempdir()).expect("a directory")
}

/// The key that opens every repository made here.
pub(crate) fn secret() -> Secret {
    Secret::KeyFile(Key::new([7; 32]))
}

/// Makes a repository in an empty store.
pub(crate) fn make(store: &dyn Store) {
    let _ = init(store, &InitOptions::default(), |_| Ok(secret())).expect("a new repository");
}

/// Opens the repository in a store on the host whose things lie in `home`.
pub(crate) fn open(store: Arc<dyn Store>, home: &Path) -> Result<Arc<Repository>, RepoError> {
    let dirs = Dirs { cache: home.join("cache"), state: home.join("state") };
    Repository::open(store, &secret(), &dirs).map(Arc::new)
}

/// Copies what lies in one directory into another, attributes and all.
pub(crate) fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-aT").arg(from).arg(to).status().expect("cp runs");
    assert!(status.success(), "{from:?} copies to {to:?}");
}

/// A repository in memory, and a host that uses it.
pub(crate) struct Bench {
    pub(crate) store: MemoryStore,
    pub(crate) home: TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let store = MemoryStore::new(Clock::System);
        make(&store);
        Self { store, home: scratch() }
    }

    /// As it is now, sharing nothing from here on.
    pub(crate) fn fork(&self) -> Self {
        let fork = Self { store: self.store.copied(), home: scratch() };
        copy(self.home.path(), fork.home.path());
        fork
    }

    /// Another host that uses the same repository.
    pub(crate) fn other_host(&self) -> Self {
        Self { store: self.store.clone(), home: scratch() }
    }

    pub(crate) fn open(&self) -> Arc<Repository> {
        open(Arc::new(self.store.clone()), self.home.path()).expect("the repository opens")
    }

    /// Opened over a store that does as `plan` says, which comes with it.
    pub(crate) fn disturbed(&self, plan: FaultPlan) -> Arc<FaultStore<MemoryStore>> {
        Arc::new(FaultStore::new(self.store.clone(), plan))
    }

    /// Names of objects in a folder.
    pub(crate) fn names(&self, folder: &str) -> Vec<ObjectName> {
        self.store.list(folder).expect("lists").into_iter().map(|object| object.name).collect()
    }

    /// Whether the commit of some snapshot is stored.
    pub(crate) fn has_ok(&self, id: &SnapshotId) -> bool {
        let name = ObjectName::parse(&format!("snapshots/{id}.ok")).expect("a name");
        self.store.names().contains(&name)
    }
}

/// The options of every backup here.
pub(crate) fn options() -> BackupOptions {
    BackupOptions {
        host: HostFacts { name: "host".to_owned(), engine_id: None, engine_version: None },
        tags: Vec::new(),
        level: 1,
        verify: true,
        read_all: false,
        // The least: packs are closed at 1 MiB.
        memory: 0,
        clock: Clock::System,
        program: "test".to_owned(),
    }
}

/// The one item that is saved here.
pub(crate) fn item() -> NewItem {
    NewItem {
        kind: ItemKind::Directory,
        name: "/tree".to_owned(),
        method: Method::HostPath,
        degraded: Vec::new(),
        volume: None,
        in_use_by: Vec::new(),
    }
}

/// The entries of a directory; hints count however fresh the files are.
pub(crate) fn walk(dir: &Path, observer: Arc<dyn Observer>) -> Result<Box<dyn Source>, OpsError> {
    let clock = Clock::Fixed(Time::new(1 << 40, 0));
    let options = WalkOptions { clock, selection: Selection::all() };
    Ok(Box::new(Directory::open(dir, options, observer)?))
}

/// Saves a directory as a plain backup does.
pub(crate) fn backup(repo: &Arc<Repository>, dir: &Path) -> Result<BackupReport, OpsError> {
    backup_from(repo, |observer| walk(dir, observer))
}

/// Saves what a source yields.
pub(crate) fn backup_from(
    repo: &Arc<Repository>,
    open: impl FnOnce(Arc<dyn Observer>) -> Result<Box<dyn Source>, OpsError>,
) -> Result<BackupReport, OpsError> {
    let observer: Arc<dyn Observer> = Arc::new(Recorder::default());
    let interrupt = Interrupt::default();
    backup::backup(repo, &item(), open, || Ok(()), &options(), &observer, &interrupt)
}

/// The listed snapshots, none of which is damaged.
pub(crate) fn list(repo: &Repository) -> Vec<Snapshot> {
    let list = SnapshotList::load(repo).expect("the snapshots list");
    assert!(list.damaged.is_empty(), "{:?}", list.damaged);
    list.snapshots
}

/// The snapshot of that id.
pub(crate) fn listed(repo: &Repository, id: &SnapshotId) -> Option<Snapshot> {
    list(repo).into_iter().find(|snapshot| snapshot.id == *id)
}

pub(crate) fn reader(repo: &Arc<Repository>) -> Arc<ChunkReader> {
    let index = Arc::new(repo.load_index().expect("the index loads"));
    Arc::new(ChunkReader::new(repo, &index, 16 << 20))
}

/// Restores a listed snapshot; who watches and who interrupts is up to the caller.
pub(crate) fn restore_as(
    repo: &Arc<Repository>,
    snapshot: &Snapshot,
    target: &Path,
    observer: &Arc<dyn Observer>,
    interrupt: &Interrupt,
) -> Result<RestoreReport, OpsError> {
    let reader = reader(repo);
    let run = RestoreRun { reader: &reader, selection: Selection::all(), observer, interrupt };
    let options = DirectoryOptions { special: Special::Restore };
    loop {
        let done = restore_directory(&run, &snapshot.id, &snapshot.items()[0], target, options);
        match done {
            // No test restores twice at once. A child that another test of this process forks
            // holds the lock of a restore that has ended until it becomes another program.
            Err(OpsError::Sink(SinkError::Refused(why))) if why.contains("is under way") => {
                std::thread::park_timeout(std::time::Duration::from_millis(2));
            }
            done => return done,
        }
    }
}

/// O1: a listed snapshot restores as the tree that was saved.
pub(crate) fn assert_restores(repo: &Arc<Repository>, id: &SnapshotId, tree: &Tree) {
    let snapshot = listed(repo, id).expect("an acknowledged snapshot is listed");
    let target = scratch();
    let recorder = Arc::new(Recorder::default());
    let observer: Arc<dyn Observer> = recorder.clone();
    let interrupt = Interrupt::default();
    let report = restore_as(repo, &snapshot, target.path(), &observer, &interrupt);
    assert_eq!(report.expect("it restores").damaged, 0);
    assert_eq!(recorder.warnings(), []);
    assert_eq!(diff(tree, &describe(target.path())), [""; 0]);
}

/// O2: every chunk of every listed snapshot reads and has its name. Says how many there are.
pub(crate) fn check(repo: &Arc<Repository>) -> usize {
    let reader = reader(repo);
    let mut chunks = BTreeSet::new();
    for snapshot in list(repo) {
        for item in snapshot.items() {
            let mut seen = HashSet::new();
            reach(&reader, item, &mut seen, &mut |kind, id| {
                if chunks.insert(id.to_string()) {
                    drop(reader.read(kind, id)?);
                }
                Ok(())
            })
            .expect("all that a snapshot needs can be read");
        }
    }
    chunks.len()
}

/// Whether every chunk of a snapshot lies in a pack that no condemn record names.
pub(crate) fn is_uncondemned(repo: &Arc<Repository>, snapshot: &Snapshot) -> bool {
    let reader = reader(repo);
    let mut all = true;
    for item in snapshot.items() {
        reach(&reader, item, &mut HashSet::new(), &mut |_, id| {
            all &= reader.index().find(id)?.is_some();
            Ok(())
        })
        .expect("the tree can be read");
    }
    all
}

/// Puts an object that the owner signed, as a collector would.
pub(crate) fn put_signed(
    store: &dyn Store,
    repo: &Repository,
    kind: ObjectKind,
    name: &str,
    message: &[u8],
) {
    let derive = |purpose| repo.master().derive(purpose, b"");
    let signer = Signer::from_seed(&derive(Purpose::OwnerSigningSeed));
    let shared = derive(Purpose::SharedObject);
    let payload = seal_object(kind, &repo.id(), &shared, &signer, message).expect("it seals");
    store.put(&ObjectName::parse(name).expect("a name"), &payload).expect("it is put");
}

/// Bytes that never repeat, by their number.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// A tree of a few dozen entries of every plain sort; 2.5 MiB of it cannot be compressed.
pub(crate) fn make_tree(dir: &Path) {
    let path = |name: &str| dir.join(name);
    std::fs::write(path("big"), noise(1, 5 << 19)).expect("written");
    std::fs::write(path(CANARY), CANARY.repeat(9)).expect("written");
    std::fs::create_dir(path("many")).expect("made");
    for number in 0..20 {
        let file = path("many").join(format!("file-{number:02}"));
        std::fs::write(&file, format!("content of {number}\n")).expect("written");
    }
    std::fs::create_dir(path("empty")).expect("made");
    std::fs::write(path("none"), "").expect("written");
    let sparse = std::fs::File::create(path("sparse")).expect("made");
    sparse.write_all_at(b"start", 0).expect("written");
    sparse.write_all_at(&noise(2, 5000), 3 << 20).expect("written");
    symlink("big", path("symlink")).expect("made");
    std::fs::hard_link(path("big"), path("twin")).expect("made");
    let mode = std::fs::Permissions::from_mode(0o4751);
    std::fs::set_permissions(path("none"), mode).expect("set");
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(path("none"), "user.origin", b"here", flags).expect("set");
}

/// Changes a tree of [`make_tree`] as a day's work would; 1 MiB is new.
pub(crate) fn change_tree(dir: &Path) {
    std::fs::write(dir.join("new"), noise(3, 1 << 20)).expect("written");
    std::fs::write(dir.join("many/file-03"), "changed\n").expect("written");
    std::fs::remove_file(dir.join("many/file-04")).expect("removed");
}

/// An acknowledged snapshot of one tree, and the tree that the next backup meets.
pub(crate) struct Scene {
    pub(crate) bench: Bench,
    pub(crate) old: SnapshotId,
    pub(crate) old_tree: Tree,
    pub(crate) dir: TempDir,
    pub(crate) tree: Tree,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let (bench, dir) = (Bench::new(), scratch());
        make_tree(dir.path());
        let old = backup(&bench.open(), dir.path()).expect("the first backup").snapshot;
        let old_tree = describe(dir.path());
        change_tree(dir.path());
        let tree = describe(dir.path());
        Self { bench, old, old_tree, dir, tree }
    }

    /// What must hold after a backup of `dir` that was disturbed, however it ended: O1 to O5.
    pub(crate) fn judge(&self, bench: &Bench, result: &Result<BackupReport, OpsError>) {
        let repo = bench.open();
        assert_restores(&repo, &self.old, &self.old_tree);
        let acked = result.as_ref().ok().map(|report| report.snapshot);
        for snapshot in list(&repo) {
            assert!(bench.has_ok(&snapshot.id), "without its commit none is listed");
            if snapshot.id != self.old {
                assert_restores(&repo, &snapshot.id, &self.tree);
            }
        }
        assert!(acked.is_none_or(|id| listed(&repo, &id).is_some()), "what was acknowledged is");
        let next = backup(&repo, self.dir.path()).expect("the next plain backup");
        assert!(!next.is_partial());
        assert_restores(&repo, &next.snapshot, &self.tree);
        assert!(check(&repo) > 0);
    }
}

/// All files below a directory, by path relative to it.
pub(crate) fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("the directory lists") {
            let path = entry.expect("the directory lists on").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path.strip_prefix(dir).expect("below").to_owned());
            }
        }
    }
    files.sort();
    files
}
