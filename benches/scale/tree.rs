//! A tree of so many entries: built, changed, compared, listed; and backups of as many files.
//!
//! Entries are made by number, in order, without files: a hundred in a directory. Trees are built
//! as a backup builds them and stored in a repository on disk.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use volume_vault::clock::{Clock, Time};
use volume_vault::entry::{Entry, EntryPath, Extent, Hint, Kind};
use volume_vault::event::{Observer, Recorder};
use volume_vault::format::{Content, HostFacts, ItemKind, Method, Stored};
use volume_vault::id::ChunkId;
use volume_vault::ops::Interrupt;
use volume_vault::ops::backup::{BackupOptions, BackupReport, NewItem, backup};
use volume_vault::repo::{
    ChunkReader, Repository, Session, TreeBuilder, TreeDiff, TreeRoot, TreeWalk, WriterOptions,
};
use volume_vault::source::{Found, Order, ReadError, Run, Source, SourceError};

use crate::world::{Phases, World, scramble};

/// Names in a directory.
const WIDTH: u64 = 100;

/// Bytes of content in a file of a backup.
const FILE_LEN: u64 = 64;

/// Frames of a tree that are kept open while it is read, in bytes.
const CACHE_LEN: usize = 16 << 20;

const LOOKUPS: u64 = 1000;

/// Which entries a later version of the tree has changed.
#[derive(Debug, Clone, Copy)]
enum Changed {
    Nothing,
    /// A hundred, all over the tree.
    Hundred,
    /// One in a hundred, all over the tree.
    Scattered,
    /// One in a hundred, one behind the other.
    Near,
}

impl Changed {
    fn has(self, number: u64, size: u64) -> bool {
        match self {
            Self::Nothing => false,
            // The seventh name of a directory, which is a file.
            Self::Hundred => number % (size / 100) == size / 300,
            Self::Scattered => scramble(number).is_multiple_of(100),
            Self::Near => (size / 2..size / 2 + size / 100).contains(&number),
        }
    }
}

pub(crate) fn measure(dir: &Path, size: u64) -> Value {
    let mut phases = Phases::default();
    trees(&World::new(dir), size, &mut phases);
    backups(&World::new(dir), size, &mut phases);
    phases.finish()
}

fn trees(world: &World, size: u64, phases: &mut Phases) {
    let repo = world.open(world.store.clone());
    let versions = [
        ("build", Changed::Nothing),
        ("build_same", Changed::Nothing),
        ("build_100", Changed::Hundred),
        ("build_1pct", Changed::Scattered),
        ("build_1pct_near", Changed::Near),
    ];
    let roots = versions.map(|(name, changed)| {
        let (root, stored) = phases.run(name, || build(&repo, size, changed));
        phases.note(name, "stored_bytes", stored);
        assert_eq!(root.entries, size);
        root
    });
    let read = || {
        let index = Arc::new(repo.load_index().expect("it loads"));
        Arc::new(ChunkReader::new(&repo, &index, CACHE_LEN))
    };
    let listed = phases.run("list", || {
        let mut walk = TreeWalk::new(&read(), roots[0].id, roots[0].level);
        std::iter::from_fn(|| walk.next().expect("it reads")).count() as u64
    });
    assert_eq!(listed, size);
    phases.run("find_1000", || {
        let reader = read();
        for n in 0..LOOKUPS {
            let path = path(scramble(n) % size);
            let found = TreeWalk::find(&reader, roots[0].id, roots[0].level, &path);
            assert!(found.expect("it reads").is_some(), "{path} is found");
        }
    });
    for (at, (name, changed)) in versions.into_iter().enumerate().skip(1) {
        let name = name.replace("build", "diff");
        let walk =
            |reader: &Arc<ChunkReader>, root: &TreeRoot| TreeWalk::new(reader, root.id, root.level);
        let found = phases.run(&name, || {
            let reader = read();
            let mut diff = TreeDiff::new(walk(&reader, &roots[0]), walk(&reader, &roots[at]));
            std::iter::from_fn(|| diff.next().expect("it reads")).count() as u64
        });
        let expected = (0..size).filter(|n| changed.has(*n, size)).count() as u64;
        assert_eq!(found, expected, "{name}");
        phases.note(&name, "differences", found);
    }
}

fn build(repo: &Arc<Repository>, size: u64, changed: Changed) -> (TreeRoot, u64) {
    let observer: Arc<dyn Observer> = Arc::new(Recorder::default());
    let session = Session::begin(repo, &observer).expect("it begins");
    let mut writer = session.writer(WriterOptions::default());
    let mut tree = TreeBuilder::default();
    for number in 0..size {
        let changed = changed.has(number, size);
        let Found { path, entry, hint } = found(number, changed);
        let content = match entry.kind {
            Kind::File { .. } => {
                let mut id = [0; 32];
                for (at, word) in (0..).zip(id.as_chunks_mut::<8>().0) {
                    *word = scramble(8 * number + at + u64::from(changed) * 4).to_le_bytes();
                }
                Content::Inline(vec![Extent::Chunk(ChunkId::new(id), 64)])
            }
            _ => Content::empty(),
        };
        tree.push(&mut writer, path, &Stored { entry, content }, hint).expect("it ascends");
    }
    let root = tree.finish(&mut writer).expect("it ends");
    (root, writer.finish().expect("it is stored").stored_bytes)
}

fn backups(world: &World, size: u64, phases: &mut Phases) {
    let repo = world.open(world.store.clone());
    let versions = [
        ("backup_first", Changed::Nothing),
        ("backup_same", Changed::Nothing),
        ("backup_100", Changed::Hundred),
        // Of the version before, which had a hundred changes of its own.
        ("backup_1pct", Changed::Scattered),
    ];
    for (name, changed) in versions {
        let report = phases.run(name, || save(&repo, size, changed));
        assert_eq!(report.item.facts.entries, size);
        phases.note(name, "stored_bytes", report.bytes_stored);
        phases.note(name, "read_bytes", report.item.facts.bytes_read);
    }
}

fn save(repo: &Arc<Repository>, size: u64, changed: Changed) -> BackupReport {
    let item = NewItem {
        kind: ItemKind::Directory,
        name: "/made".to_owned(),
        method: Method::HostPath,
        degraded: Vec::new(),
        volume: None,
        in_use_by: Vec::new(),
    };
    let options = BackupOptions {
        host: HostFacts { name: "host".to_owned(), engine_id: None, engine_version: None },
        tags: Vec::new(),
        level: 3,
        verify: true,
        read_all: false,
        memory: 192 << 20,
        clock: Clock::System,
        program: "scale".to_owned(),
    };
    let observer: Arc<dyn Observer> = Arc::new(Recorder::default());
    let open = |_| Ok(Box::new(Made { size, changed, next: 0, read: false }) as Box<dyn Source>);
    backup(repo, &item, open, || Ok(()), &options, &observer, &Interrupt::default())
        .expect("it is acknowledged")
}

/// Yields files that are made as they are asked for.
struct Made {
    size: u64,
    changed: Changed,
    next: u64,
    read: bool,
}

impl Made {
    fn last(&self) -> (u64, bool) {
        let number = self.next - 1;
        (number, self.changed.has(number, self.size))
    }
}

impl Source for Made {
    fn order(&self) -> Order {
        Order::Sorted
    }

    fn next(&mut self) -> Result<Option<Found>, SourceError> {
        if self.next == self.size {
            return Ok(None);
        }
        self.next += 1;
        self.read = false;
        let (number, changed) = self.last();
        Ok(Some(found(number, changed)))
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<Run, ReadError> {
        if std::mem::replace(&mut self.read, true) {
            return Ok(Run::End);
        }
        let (number, changed) = self.last();
        let words = buffer.as_chunks_mut::<8>().0.iter_mut().take(8);
        for (at, word) in (0..).zip(words) {
            *word = scramble(16 * number + at + u64::from(changed) * 8).to_le_bytes();
        }
        Ok(Run::Data(64))
    }

    fn finish(&mut self) -> Result<(Entry, Option<Hint>), ReadError> {
        let (number, changed) = self.last();
        let found = found(number, changed);
        Ok((found.entry, found.hint))
    }
}

/// Where the entry of that number lies; numbers and paths ascend together.
fn path(number: u64) -> EntryPath {
    let inner = WIDTH * (WIDTH + 1) + 1;
    let Some(number) = number.checked_sub(1) else { return EntryPath::root() };
    let (outer, rest) = (number / inner, number % inner);
    let mut key = format!("directory-{outer:06}");
    if let Some(rest) = rest.checked_sub(1) {
        key += &format!("\0part-{:02}", rest / (WIDTH + 1));
        if let Some(name) = (rest % (WIDTH + 1)).checked_sub(1) {
            key += &format!("\0file-{name:02}.json");
        }
    }
    EntryPath::from_key(key.as_bytes()).expect("a path")
}

fn found(number: u64, changed: bool) -> Found {
    let path = path(number);
    let is_file = path.components().count() == 3;
    let second = 1_700_000_000 + i64::try_from(scramble(number) % 1_000_000).expect("small");
    let time = Time::new(second + i64::from(changed), 0);
    let kind = match is_file {
        true => Kind::File { size: FILE_LEN, sparse: false },
        false => Kind::Directory,
    };
    let mode = if is_file { 0o644 } else { 0o755 };
    let entry =
        Entry { kind, mode, uid: 1000, gid: 1000, mtime: time, xattrs: Vec::new(), link: None };
    Found { path, entry, hint: Some(Hint { inode: 1000 + number, ctime: time }) }
}
