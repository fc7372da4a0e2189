//! Crafts repositories that are sealed and signed just as they must be, and lie inside.
//!
//! Honest parts come from the library. What it refuses to make is put together here from
//! `docs/format.md`, so that a lie reaches the reader whole and authentic.

use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;
use volume_vault::clock::{Clock, Time};
use volume_vault::codec::put_varint;
use volume_vault::crypto::{
    Key, Plaintext, Purpose, RestoreKey, RunSeal, Signer, digest, random_bytes, seal,
};
use volume_vault::entry::{Entry, EntryPath, Extent, Kind};
use volume_vault::format::{
    BackupFacts, Content, HostFacts, Item, ItemKind, Method, ObjectKind, OkRecord, PackDirectory,
    PackHeader, PackKind, PendingRecord, SegmentPack, SegmentRecord, SnapshotBody, Stored,
    TreeNode, seal_object, seal_trailer,
};
use volume_vault::format::{Child, FrameEntry};
use volume_vault::id::{
    ChunkId, ChunkPrefix, PackId, RecordHash, RepositoryId, SegmentId, SnapshotId, WriterId,
};
use volume_vault::repo::{Dirs, InitOptions, Repository, Secret, init, write_key_file};
use volume_vault::store::{MemoryStore, ObjectName, Store};

/// The time of everything.
pub(crate) const TIME: Time = Time::new(1_700_000_000, 5);

/// Content of a frame is closed here, in bytes.
const FRAME_LEN: usize = 1 << 20;

/// A key and a value of a tree node, as they are stored.
pub(crate) type RawRecord = (Vec<u8>, Vec<u8>);

/// A repository under construction, with all its keys.
pub(crate) struct Builder {
    pub(crate) store: MemoryStore,
    pub(crate) id: RepositoryId,
    pub(crate) master: Key,
    /// The key of its only slot.
    pub(crate) key: Key,
    /// The secret of the run that makes all packs and records, and its seal.
    pub(crate) run: (Key, RunSeal),
    pub(crate) writer: WriterId,
    /// Packs that no segment names yet.
    pub(crate) packs: Vec<SegmentPack>,
    chunks: [Vec<Vec<u8>>; 2],
    sequence: u64,
    last: Option<RecordHash>,
    dir: TempDir,
}

/// A pack under construction.
pub(crate) struct Pack {
    pub(crate) kind: PackKind,
    pub(crate) salt: [u8; 32],
    pub(crate) key: Key,
    pub(crate) header: PackHeader,
    pub(crate) bytes: Vec<u8>,
    pub(crate) directory: PackDirectory,
    repository: RepositoryId,
}

impl Builder {
    /// A repository with a key and a configuration.
    pub(crate) fn new() -> Self {
        let store = MemoryStore::new(Clock::Fixed(TIME));
        let key = Key::random().expect("randomness");
        let options = InitOptions { clock: Clock::Fixed(TIME), ..InitOptions::default() };
        let secret = Secret::KeyFile(key.clone());
        let (id, _) = init(&store, &options, |_| Ok(secret)).expect("made");
        let dir = tempfile::tempdir().expect("a directory");
        let repo = open(Arc::new(store.clone()), &key, &dir.path().join("first"));
        let repo = repo.expect("it opens");
        let master = repo.master().clone();
        let restore = RestoreKey::from_seed(
            &master.derive(Purpose::RestoreKeySeed, b""),
            master.derive(Purpose::RunSealPsk, b""),
        );
        let run = restore.public().seal(id.as_bytes()).expect("randomness");
        Self {
            store,
            id,
            master,
            key,
            run,
            writer: WriterId::new(random_bytes().expect("randomness")),
            packs: Vec::new(),
            chunks: Default::default(),
            sequence: 0,
            last: None,
            dir,
        }
    }

    /// The repository as a host that knows nothing of it opens it.
    pub(crate) fn open(&self) -> Arc<Repository> {
        let host = self.dir.path().join(format!("{:x?}", random_bytes::<8>().expect("randomness")));
        self.open_at(&host, Arc::new(self.store.clone())).expect("it opens")
    }

    /// A store that should be the repository's, as the host with these folders opens it.
    pub(crate) fn open_at(
        &self,
        host: &Path,
        store: Arc<dyn Store>,
    ) -> Result<Arc<Repository>, volume_vault::repo::RepoError> {
        open(store, &self.key, host)
    }

    /// A folder for a host's own things.
    pub(crate) fn host(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    /// Writes all objects to a directory, as a local store keeps them, and a key file beside it.
    pub(crate) fn write_to(&self, dir: &Path, key_file: &Path) {
        for name in self.store.names() {
            let path = dir.join(name.as_str());
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            std::fs::write(path, self.bytes(&name)).expect("written");
        }
        write_key(key_file, &self.key, &self.id);
    }

    /// The bytes of an object.
    pub(crate) fn bytes(&self, name: &ObjectName) -> Vec<u8> {
        self.store.get(name, 1 << 30).expect("it is there")
    }

    /// The owner.
    pub(crate) fn owner(&self) -> Signer {
        Signer::from_seed(&self.master.derive(Purpose::OwnerSigningSeed, b""))
    }

    /// The name of a chunk.
    pub(crate) fn chunk_id(&self, kind: PackKind, bytes: &[u8]) -> ChunkId {
        let purpose = match kind {
            PackKind::Data => Purpose::DataChunkId,
            PackKind::Tree => Purpose::TreeChunkId,
        };
        let key = self.master.derive(purpose, b"");
        ChunkId::new(*blake3::keyed_hash(key.expose(), bytes).as_bytes())
    }

    /// A message, sealed and signed by the owner.
    pub(crate) fn sealed(&self, kind: ObjectKind, message: &[u8]) -> Vec<u8> {
        self.sealed_by(&self.owner(), kind, message)
    }

    /// A message, sealed with the repository's own key and signed by anybody.
    pub(crate) fn sealed_by(&self, signer: &Signer, kind: ObjectKind, message: &[u8]) -> Vec<u8> {
        let shared = self.master.derive(Purpose::SharedObject, b"");
        seal_object(kind, &self.id, &shared, signer, message).expect("sealed").to_vec()
    }

    /// Puts anything anywhere, over what is there.
    pub(crate) fn put(&self, at: &str, bytes: Vec<u8>) -> ObjectName {
        let name = name(at);
        self.store.insert_raw(name.clone(), bytes);
        name
    }

    /// Starts a pack.
    pub(crate) fn start_pack(&self, kind: PackKind) -> Pack {
        let salt = random_bytes().expect("randomness");
        let (secret, run_seal) = &self.run;
        let (header, key) = PackHeader::known(kind, self.id, salt, secret, run_seal.clone());
        let bytes = header.encode();
        let directory = PackDirectory::default();
        Pack { kind, salt, key, header, bytes, directory, repository: self.id }
    }

    /// Ends a pack and stores it; the next segment will name it.
    pub(crate) fn finish_pack(&mut self, mut pack: Pack) -> PackId {
        let offset = u32::try_from(pack.bytes.len()).expect("short");
        let trailer = seal_trailer(&pack.key, &pack.header, offset, &pack.directory.encode());
        pack.bytes.extend(trailer.expect("randomness").to_vec());
        self.put_pack(&pack)
    }

    /// Stores a pack as it is.
    pub(crate) fn put_pack(&mut self, pack: &Pack) -> PackId {
        let id = PackId::new(digest(&pack.bytes));
        let _ = self.put(&pack_name(&id), pack.bytes.clone());
        self.packs.push(SegmentPack {
            id,
            kind: pack.kind,
            size: pack.bytes.len() as u64,
            seal: 0,
            salt: pack.salt,
            directory: pack.directory.clone(),
        });
        id
    }

    /// A chunk of content, to be stored by [`Builder::publish`].
    pub(crate) fn data(&mut self, bytes: &[u8]) -> ChunkId {
        self.chunks[0].push(bytes.to_vec());
        self.chunk_id(PackKind::Data, bytes)
    }

    /// A chunk of a tree, to be stored by [`Builder::publish`].
    pub(crate) fn tree_chunk(&mut self, bytes: &[u8]) -> ChunkId {
        self.chunks[1].push(bytes.to_vec());
        self.chunk_id(PackKind::Tree, bytes)
    }

    /// Stores all chunks in honest packs, and a segment of all packs that are in none.
    pub(crate) fn publish(&mut self) -> SegmentId {
        for (kind, chunks) in
            [PackKind::Data, PackKind::Tree].into_iter().zip(std::mem::take(&mut self.chunks))
        {
            let mut pack = self.start_pack(kind);
            let mut rest = &chunks[..];
            while !rest.is_empty() {
                let mut len = 0;
                let fits = rest.iter().take_while(|chunk| {
                    len += chunk.len();
                    len <= FRAME_LEN
                });
                let (now, later) = rest.split_at(fits.count().max(1));
                let ids = now.iter().map(|c| (self.chunk_id(kind, c).prefix(), len_of(c)));
                pack.frame(ids.collect(), &raw(&now.concat()));
                rest = later;
            }
            if !pack.directory.frames.is_empty() {
                let _ = self.finish_pack(pack);
            }
        }
        let packs = std::mem::take(&mut self.packs);
        let seals = vec![self.run.1.clone()];
        self.segment(&SegmentRecord { seals, supersedes: Vec::new(), packs })
    }

    /// Stores a segment.
    pub(crate) fn segment(&self, record: &SegmentRecord) -> SegmentId {
        self.raw_segment(&self.sealed(ObjectKind::Segment, &record.encode()))
    }

    /// Stores the bytes of a segment under their own name.
    pub(crate) fn raw_segment(&self, bytes: &[u8]) -> SegmentId {
        let id = SegmentId::new(digest(bytes));
        let _ = self.put(&format!("index/{id}"), bytes.to_vec());
        id
    }

    /// A tree node from raw records, whatever they say.
    pub(crate) fn node(&mut self, level: u8, records: &[RawRecord]) -> ChunkId {
        let bytes = encode_node(level, records);
        self.tree_chunk(&bytes)
    }

    /// A tree of raw records: a root and one leaf for every `per_leaf` of them.
    pub(crate) fn tree_of(&mut self, per_leaf: usize, records: &[RawRecord]) -> Item {
        if records.len() <= per_leaf {
            let root = self.node(0, records);
            return item(root, 0);
        }
        let leaves: Vec<RawRecord> = records
            .chunks(per_leaf)
            .map(|leaf| {
                let id = self.node(0, leaf);
                (leaf[0].0.clone(), child(id, leaf.len() as u64))
            })
            .collect();
        let root = self.node(1, &leaves);
        item(root, 1)
    }

    /// A tree of raw records.
    pub(crate) fn tree(&mut self, records: &[RawRecord]) -> Item {
        self.tree_of(1000, records)
    }

    /// A file with one chunk, or none if `content` is empty.
    pub(crate) fn file(&mut self, path: &str, content: &[u8]) -> RawRecord {
        let extents = match content {
            [] => Vec::new(),
            _ => vec![Extent::Chunk(self.data(content), len_of(content))],
        };
        file_of(path, extents)
    }

    /// What a snapshot of some items says, apart from them nothing of interest.
    pub(crate) fn body(&self, items: Vec<Item>) -> SnapshotBody {
        SnapshotBody {
            seconds: TIME.seconds + i64::try_from(self.sequence).expect("few"),
            nanos: TIME.nanos,
            host: HostFacts { name: "host".to_owned(), engine_id: None, engine_version: None },
            tags: Vec::new(),
            items,
            program: "builder".to_owned(),
            salvaged: None,
            copied: None,
        }
    }

    /// Records from now on are those of another run.
    pub(crate) fn renew_run(&mut self) {
        let restore = RestoreKey::from_seed(
            &self.master.derive(Purpose::RestoreKeySeed, b""),
            self.master.derive(Purpose::RunSealPsk, b""),
        );
        self.run = restore.public().seal(self.id.as_bytes()).expect("randomness");
    }

    /// Records from now on are those of another writer.
    pub(crate) fn start_writer(&mut self, writer: WriterId) {
        (self.writer, self.sequence, self.last) = (writer, 0, None);
    }

    /// The next record of the writer.
    pub(crate) fn pending(&mut self, body: &SnapshotBody) -> PendingRecord {
        let snapshot = SnapshotId::new(random_bytes().expect("randomness"));
        self.sequence += 1;
        PendingRecord {
            snapshot,
            writer: self.writer,
            sequence: self.sequence,
            previous: self.last,
            seal: self.run.1.clone(),
            body: body.seal(&self.run.0, &snapshot).expect("randomness"),
        }
    }

    /// Stores the bytes of a record and a commit point for it, both as the owner.
    pub(crate) fn commit(&mut self, snapshot: SnapshotId, record: Vec<u8>) {
        let pending = RecordHash::new(digest(&record));
        self.last = Some(pending);
        let _ = self.put(&format!("snapshots/{snapshot}.pending"), record);
        let ok = self.sealed(ObjectKind::Ok, &OkRecord { snapshot, pending }.encode());
        let _ = self.put(&format!("snapshots/{snapshot}.ok"), ok);
    }

    /// Stores a whole snapshot of some items.
    pub(crate) fn snapshot(&mut self, items: Vec<Item>) -> SnapshotId {
        let body = self.body(items);
        let record = self.pending(&body);
        let snapshot = record.snapshot;
        let bytes = self.sealed(ObjectKind::Pending, &record.encode());
        self.commit(snapshot, bytes);
        snapshot
    }
}

impl Pack {
    /// Seals a frame for where it stands, whatever it says of itself.
    pub(crate) fn frame(&mut self, chunks: Vec<(ChunkPrefix, u32)>, inner: &[u8]) {
        let offset = u32::try_from(self.bytes.len()).expect("short");
        let stored = self.seal_for(offset, inner);
        self.directory.frames.push(FrameEntry { stored_len: len_of(&stored), chunks });
        self.bytes.extend(stored);
    }

    /// Seals the inside of a frame for an offset of this pack.
    pub(crate) fn seal_for(&self, offset: u32, inner: &[u8]) -> Vec<u8> {
        let kind = match self.kind {
            PackKind::Data => 1,
            PackKind::Tree => 2,
        };
        let mut aad = vec![1, kind, 1, 0];
        aad.extend(self.repository.as_bytes());
        aad.extend(self.salt);
        aad.extend(offset.to_le_bytes());
        aad.extend((len_of(inner) + 40).to_le_bytes());
        let mut plaintext = Plaintext::with_capacity(inner.len());
        plaintext.extend(inner);
        seal(&self.key, plaintext, &aad).expect("randomness").as_bytes().to_vec()
    }
}

fn open(
    store: Arc<dyn Store>,
    key: &Key,
    host: &Path,
) -> Result<Arc<Repository>, volume_vault::repo::RepoError> {
    let dirs = Dirs { cache: host.join("cache"), state: host.join("state") };
    Repository::open(store, &Secret::KeyFile(key.clone()), &dirs).map(Arc::new)
}

/// Writes a key file that only its owner can read.
pub(crate) fn write_key(path: &Path, key: &Key, id: &RepositoryId) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, write_key_file(key, id).as_bytes()).expect("written");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("set");
}

/// The inside of a frame that is stored as it is.
pub(crate) fn raw(content: &[u8]) -> Vec<u8> {
    inner(0, len_of(content), content)
}

/// The inside of a frame: compression, stated length, payload.
pub(crate) fn inner(method: u8, len: u32, payload: &[u8]) -> Vec<u8> {
    [&[method][..], &len.to_le_bytes(), payload].concat()
}

/// The plaintext of a node.
pub(crate) fn encode_node(level: u8, records: &[RawRecord]) -> Vec<u8> {
    TreeNode::encode(level, records.iter().map(|(key, value)| (&key[..], &value[..])))
}

/// The value of an inner node's record.
pub(crate) fn child(id: ChunkId, entries: u64) -> Vec<u8> {
    Child { first: EntryPath::root(), id, entries, bytes: 0 }.encode()
}

/// The value of an entry.
pub(crate) fn value(entry: Entry, content: Content) -> Vec<u8> {
    let mut bytes = Vec::new();
    Stored { entry, content }.encode(&mut bytes);
    bytes
}

/// The key form of a path with slashes, without any check.
pub(crate) fn key_of(path: &str) -> Vec<u8> {
    path.bytes().map(|b| if b == b'/' { 0 } else { b }).collect()
}

/// An entry of this kind and nothing else of note.
pub(crate) fn entry(kind: Kind) -> Entry {
    let mode = if kind == Kind::Directory { 0o755 } else { 0o644 };
    Entry { kind, mode, uid: 0, gid: 0, mtime: TIME, xattrs: Vec::new(), link: None }
}

/// A record of anything without content.
pub(crate) fn other(path: &str, kind: Kind) -> RawRecord {
    (key_of(path), value(entry(kind), Content::empty()))
}

/// The root of a tree.
pub(crate) fn root() -> RawRecord {
    other("", Kind::Directory)
}

/// A directory.
pub(crate) fn directory(path: &str) -> RawRecord {
    other(path, Kind::Directory)
}

/// A symbolic link.
pub(crate) fn symlink(path: &str, target: &str) -> RawRecord {
    other(path, Kind::Symlink { target: target.as_bytes().to_vec() })
}

/// A further name of what `first` names, in key form without any check.
pub(crate) fn link(path: &str, first: &str, kind: Kind) -> RawRecord {
    let (flags, size) = (2, matches!(kind, Kind::File { .. }));
    let mut whole = value(entry(kind), Content::empty());
    // Behind kind, flags, mode, owner, group and time comes the first name, then what the kind has.
    let rest = whole.split_off(2 + 2 + 1 + 1 + 5 + 1);
    whole[1] |= flags;
    put_varint(&mut whole, first.len() as u64);
    whole.extend(key_of(first));
    // A further name has a size and no content.
    whole.extend(if size { &rest[..rest.len() - 1] } else { &rest[..] });
    (key_of(path), whole)
}

/// A regular file without content, as a kind.
pub(crate) fn empty_file() -> Kind {
    Kind::File { size: 0, sparse: false }
}

/// A file whose size is what its extents say.
pub(crate) fn file_of(path: &str, extents: Vec<Extent>) -> RawRecord {
    let size = extents.iter().map(Extent::len).sum();
    let kind = Kind::File { size, sparse: false };
    (key_of(path), value(entry(kind), Content::Inline(extents)))
}

/// A directory item with this root.
pub(crate) fn item(root: ChunkId, root_level: u8) -> Item {
    Item {
        kind: ItemKind::Directory,
        name: "/data".to_owned(),
        root,
        root_level,
        hints: None,
        method: Method::HostPath,
        degraded: false,
        volume: None,
        facts: BackupFacts::default(),
        warnings: Vec::new(),
        in_use_by: Vec::new(),
    }
}

/// The name of an object.
pub(crate) fn name(text: &str) -> ObjectName {
    ObjectName::parse(text).expect("a name")
}

/// The name of a pack.
pub(crate) fn pack_name(id: &PackId) -> String {
    let hex = id.to_string();
    format!("packs/{}/{hex}", &hex[..2])
}

/// The length of something short.
pub(crate) fn len_of(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("short")
}

/// Bytes without any order, the same for the same seed.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut hasher = blake3::Hasher::new();
    let _ = hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}
