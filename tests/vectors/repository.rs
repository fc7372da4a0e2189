//! A whole repository of two snapshots, made once.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use volume_vault::clock::{Clock, Time};
use volume_vault::codec::{ChunkerParams, Piece};
use volume_vault::crypto::{Hasher, KdfParams, Payload, digest};
use volume_vault::entry::{Entry, EntryPath, Extent, Hint, Kind};
use volume_vault::event::{Counters, Observer, Warning};
use volume_vault::format::{
    BackupFacts, Content, HostFacts, Item, ItemKind, Method, PackKind, SnapshotBody, Stored,
};
use volume_vault::id::hex;
use volume_vault::repo::{
    ChunkReader, ContentBuilder, ContentWalk, Dirs, HintsWalk, InitOptions, Repository, Secret,
    Session, Snapshot, SnapshotList, TreeBuilder, TreeWalk, WriterOptions, init,
};
use volume_vault::store::{MemoryStore, ObjectName, Store};

use super::{Section, noise, unhex};

const TIME: Time = Time::new(1_700_000_000, 0);

#[derive(Default)]
struct Silent(Counters);

impl Observer for Silent {
    fn counters(&self) -> &Counters {
        &self.0
    }
    fn warn(&self, _: Warning) {}
    fn stage(&self, _: &str) {}
}

fn secret() -> Secret {
    Secret::Passphrase(b"correct horse".to_vec().into())
}

/// Files of the second snapshot, in order: path, content; the first one lacks the last two.
fn files() -> Vec<(String, Vec<u8>)> {
    let mut files = vec![("big".to_owned(), [noise(8, 20_000), vec![0; 80_000]].concat())];
    files.extend((0..200).map(|n| (format!("many/file-{n:03}"), format!("{n}\n").into_bytes())));
    // Each block of sixteen bytes and zeros is a chunk, and a zero run follows it.
    let wide = (0..400).flat_map(|seed| [noise(seed, 16), vec![0; 4080 + 65_536]].concat());
    files.push(("wide".to_owned(), wide.collect()));
    files.push(("z".to_owned(), b"new".to_vec()));
    files
}

fn entry(kind: Kind, mode: u32) -> Entry {
    Entry { kind, mode, uid: 0, gid: 0, mtime: TIME, xattrs: Vec::new(), link: None }
}

/// Stores a snapshot of some files, each cut at zero runs into chunks by hand.
fn back_up(repo: &Arc<Repository>, files: &[(String, Vec<u8>)]) {
    let observer: Arc<dyn Observer> = Arc::new(Silent::default());
    let session = Session::begin(repo, &observer).expect("begins");
    let mut writer = session.writer(WriterOptions::default());
    let mut tree = TreeBuilder::default();
    let mut paths = vec![(EntryPath::root(), None), (path("many"), None)];
    paths.extend(files.iter().map(|(name, content)| (path(name), Some(content))));
    paths.sort();
    for (number, (path, content)) in (1..).zip(paths) {
        let mut extents = ContentBuilder::default();
        let mut pieces = Vec::new();
        let bytes = content.map_or(&[][..], Vec::as_slice);
        let _ = repo.cutter().splitter().split(bytes, 0, false, true, &mut pieces);
        let mut rest = bytes;
        for piece in pieces {
            let (chunk, behind) = rest.split_at(piece.len());
            rest = behind;
            let len = u32::try_from(chunk.len()).expect("short");
            let extent = match piece {
                Piece::Zeros(_) => Extent::Zeros(len.into()),
                Piece::Chunk(_) => {
                    let id = repo.chunk_id(PackKind::Data, chunk);
                    let _ = writer.store(PackKind::Data, id, chunk).expect("stores");
                    Extent::Chunk(id, len)
                }
            };
            extents.push(&mut writer, extent).expect("pushes");
        }
        let kind = match content {
            None => Kind::Directory,
            Some(_) => Kind::File { size: extents.len(), sparse: false },
        };
        let mode = if content.is_none() { 0o755 } else { 0o644 };
        let content = extents.finish(&mut writer).expect("finishes");
        let hint = (number % 7 != 0).then_some(Hint { inode: number, ctime: TIME });
        tree.push(&mut writer, path, &Stored { entry: entry(kind, mode), content }, hint)
            .expect("ascends");
    }
    let root = tree.finish(&mut writer).expect("finishes");
    let _ = writer.finish().expect("stores");
    let item = Item {
        kind: ItemKind::Volume,
        name: "data".to_owned(),
        root: root.id,
        root_level: root.level,
        hints: Some((root.hints.id, root.hints.len, root.hints.level)),
        method: Method::HostPath,
        degraded: false,
        volume: None,
        facts: BackupFacts { entries: root.entries, bytes: root.bytes, ..BackupFacts::default() },
        warnings: Vec::new(),
        in_use_by: Vec::new(),
    };
    let body = SnapshotBody {
        seconds: TIME.seconds,
        nanos: u32::try_from(files.len()).expect("few"),
        host: HostFacts { name: "host".to_owned(), engine_id: None, engine_version: None },
        tags: Vec::new(),
        items: vec![item],
        program: "vectors".to_owned(),
        salvaged: None,
        copied: None,
    };
    let _ = session.commit(&body, WriterOptions::default()).expect("commits");
}

fn path(text: &str) -> EntryPath {
    EntryPath::from_slashed(text.as_bytes()).expect("a path")
}

fn open(store: &Arc<dyn Store>, dir: &std::path::Path) -> Arc<Repository> {
    let dirs = Dirs { cache: dir.join("cache"), state: dir.join("state") };
    Arc::new(Repository::open(store.clone(), &secret(), &dirs).expect("opens"))
}

fn make() -> BTreeMap<String, String> {
    let dir = tempfile::tempdir().expect("a directory");
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(Clock::System));
    let options = InitOptions {
        label: "passphrase".to_owned(),
        kdf: KdfParams { memory_kib: 19 * 1024, passes: 1, lanes: 1 },
        chunker: ChunkerParams { min: 4096, average: 16_384, max: 65_536 },
        clock: Clock::Fixed(TIME),
        store: None,
    };
    let _ = init(&*store, &options, |_| Ok(secret())).expect("makes it");
    let repo = open(&store, dir.path());
    let files = files();
    back_up(&repo, &files[..files.len() - 2]);
    back_up(&repo, &files);
    let listed = store.list("").expect("lists").into_iter();
    let object = |name: ObjectName| {
        let bytes = store.get(&name, 1 << 20).expect("gets");
        (name.to_string(), hex(&bytes))
    };
    listed.map(|listed| object(listed.name)).collect()
}

/// What a reader must find: per snapshot, every path with mode and the hash of its content.
fn read(repo: &Arc<Repository>) -> Vec<Value> {
    let list = SnapshotList::load(repo).expect("lists");
    assert!(list.damaged.is_empty() && list.unfinished.is_empty());
    let index = Arc::new(repo.load_index().expect("loads"));
    let reader = Arc::new(ChunkReader::new(repo, &index, 1 << 20));
    let snapshot = |snapshot: &Snapshot| {
        let item = &snapshot.items()[0];
        let mut walk = TreeWalk::new(&reader, item.root, item.root_level);
        let mut hints = HintsWalk::new(&reader, item.hints_root().expect("it has hints"));
        let (mut entries, mut hash, mut hinted) = (0u64, Hasher::new(), 0u64);
        while let Some((path, stored)) = walk.next().expect("walks") {
            let content = content_of(&reader, &stored.content);
            hash.update(&path.to_slashed());
            hash.update(&[0]);
            hash.update(&digest(&content));
            entries += 1;
            hinted += u64::from(hints.next().expect("walks").is_some());
        }
        json!({
            "sequence": snapshot.sequence, "head": snapshot.head.to_string(),
            "root": item.root.to_string(), "root level": item.root_level,
            "entries": entries, "entries with hints": hinted,
            "paths and contents": hex(&hash.finish()),
        })
    };
    list.snapshots.iter().map(snapshot).collect()
}

fn content_of(reader: &ChunkReader, content: &Content) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut walk = ContentWalk::new(reader, content);
    while let Some(extent) = walk.next().expect("walks") {
        match extent {
            Extent::Zeros(len) => {
                bytes.resize(bytes.len() + usize::try_from(len).expect("short"), 0);
            }
            Extent::Chunk(id, len) => {
                let chunk = reader.read(PackKind::Data, &id).expect("reads");
                assert_eq!(chunk.len(), len as usize);
                bytes.extend(chunk);
            }
        }
    }
    bytes
}

#[test]
fn a_repository_of_version_1_restores_for_ever() {
    let mut objects = Section::open("repository");
    let kept = if objects.file.is_empty() {
        make()
    } else {
        let text = |(name, value): (&String, &Value)| {
            (name.clone(), value.as_str().expect("objects are text").to_owned())
        };
        objects.file.iter().map(text).collect()
    };
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(Clock::System));
    for (name, bytes) in kept {
        let parsed = ObjectName::parse(&name).expect("a name");
        store.put(&parsed, &Payload::public(unhex(&bytes))).expect("puts");
        objects.is(&name, bytes);
    }
    let dir = tempfile::tempdir().expect("a directory");
    let found = read(&open(&store, dir.path()));
    let mut snapshots = Section::open("snapshots of the repository");
    assert_eq!(found.len(), 2);
    for (number, snapshot) in (1..).zip(found) {
        snapshots.is(&format!("snapshot {number}"), snapshot);
    }
    objects.finish();
    snapshots.finish();
}
