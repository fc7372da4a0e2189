//! Small trees made by number: the reference of what every snapshot must bring back.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex};

use volume_vault::clock::Time;
use volume_vault::entry::{Entry, EntryPath, Extent, Hint, Kind, Xattr};
use volume_vault::format::PackKind;
use volume_vault::repo::{ChunkReader, ContentWalk, RepoError, Snapshot, TreeWalk};
use volume_vault::source::{Found, Order, ReadError, Run, Source, SourceError};

use super::draw::Draw;
use crate::support::repo::{CANARY, noise};
use crate::support::tree::{self, describe};

/// What files hold. There are few, so that the same content comes from several hosts and comes
/// back after all snapshots that held it were forgotten.
static CONTENTS: LazyLock<Vec<(Vec<u8>, blake3::Hash)>> = LazyLock::new(|| {
    let lens = [0, 40, 300, 700, 900, 1500, 2500, 4000, 6000, 7000, 9000, 30_000, 120_000];
    let mut all: Vec<_> = (0..).zip(lens).map(|(seed, len)| noise(7000 + seed, len)).collect();
    all.push(CANARY.repeat(40).into_bytes());
    all.push(vec![0; 20_000]);
    all.into_iter().map(|bytes| (bytes.clone(), blake3::hash(&bytes))).collect()
});

/// What is restored: entries, and what files hold by its hash.
pub(super) type Picture = BTreeMap<EntryPath, (Entry, Option<blake3::Hash>)>;

/// One entry of a plot.
#[derive(Debug, Clone)]
struct Node {
    entry: Entry,
    /// Number of what a file holds.
    content: Option<usize>,
    /// Grows when anything of it changes.
    version: i64,
    unreadable: bool,
}

/// A tree that a host backs up.
#[derive(Debug, Clone)]
pub(super) struct Plot {
    nodes: BTreeMap<EntryPath, Node>,
    version: i64,
    /// What stands for inode numbers: another on every host.
    host: u64,
}

fn path(text: &str) -> EntryPath {
    EntryPath::from_slashed(text.as_bytes()).expect("a path")
}

fn entry(kind: Kind, version: i64) -> Entry {
    let mode = match kind {
        Kind::Directory => 0o755,
        Kind::Symlink { .. } => 0o777,
        _ => 0o640,
    };
    let mtime = Time::new(1_600_000_000 + version, 123_456_789);
    Entry { kind, mode, uid: 0, gid: 0, mtime, xattrs: Vec::new(), link: None }
}

impl Plot {
    /// Two directories and a few files.
    pub(super) fn new(host: u64, draw: &mut Draw) -> Self {
        let mut plot = Self { nodes: BTreeMap::new(), version: 0, host };
        for name in ["", "d", "e"] {
            plot.put(path(name), Kind::Directory, None);
        }
        (0..5).for_each(|_| plot.write(draw));
        plot
    }

    fn put(&mut self, path: EntryPath, kind: Kind, content: Option<usize>) {
        self.version += 1;
        let entry = entry(kind, self.version);
        let node = Node { entry, content, version: self.version, unreadable: false };
        let _ = self.nodes.insert(path, node);
    }

    fn write(&mut self, draw: &mut Draw) {
        let names = ["a", "b", "d/a", "d/b", "d/c", "e/a", "e/b", CANARY];
        let content = draw.below(CONTENTS.len() as u64) as usize;
        let size = CONTENTS[content].0.len() as u64;
        self.put(path(draw.of(&names)), Kind::File { size, sparse: false }, Some(content));
    }

    /// A day's work.
    pub(super) fn change(&mut self, draw: &mut Draw) {
        for _ in 0..draw.below(4) {
            match draw.below(8) {
                0..4 => self.write(draw),
                4 => self.put(path("link"), Kind::Symlink { target: b"../../etc".to_vec() }, None),
                _ => {
                    let files = self.nodes.keys().filter(|path| path.components().count() > 1);
                    let files: Vec<EntryPath> = files.cloned().collect();
                    if !files.is_empty() {
                        self.touch(&draw.of(&files), draw);
                    }
                }
            }
        }
    }

    fn touch(&mut self, path: &EntryPath, draw: &mut Draw) {
        self.version += 1;
        let version = self.version;
        let Some(node) = self.nodes.get_mut(path) else { return };
        node.version = version;
        match draw.below(6) {
            0 | 1 => drop(self.nodes.remove(path)),
            2 if node.content.is_some() => node.entry.mode ^= 0o111,
            2 => {}
            3 => node.entry.mtime.seconds += 1,
            4 if node.content.is_some() => {
                let xattr = Xattr { name: b"user.seen".to_vec(), value: vec![7; 9] };
                node.entry.xattrs = vec![xattr];
            }
            _ => node.unreadable = node.content.is_some(),
        }
    }

    /// What a backup of it that lost some files must bring back.
    pub(super) fn picture(&self, lost: &[EntryPath]) -> Picture {
        let kept = self.nodes.iter().filter(|(path, _)| !lost.contains(path));
        let hash = |node: &Node| node.content.map(|content| CONTENTS[content].1);
        kept.map(|(path, node)| (path.clone(), (node.entry.clone(), hash(node)))).collect()
    }
}

/// Yields a plot. Files that cannot be read are noted.
pub(super) struct PlotSource {
    nodes: std::vec::IntoIter<(EntryPath, Node)>,
    current: Option<(EntryPath, Node)>,
    offset: usize,
    lost: Arc<Mutex<Vec<EntryPath>>>,
    host: u64,
}

impl PlotSource {
    pub(super) fn new(plot: &Plot, lost: Arc<Mutex<Vec<EntryPath>>>) -> Self {
        let nodes: Vec<_> = plot.nodes.clone().into_iter().collect();
        Self { nodes: nodes.into_iter(), current: None, offset: 0, lost, host: plot.host }
    }

    fn hint(&self, node: &Node) -> Hint {
        Hint { inode: self.host, ctime: Time::new(node.version, 0) }
    }
}

impl Source for PlotSource {
    fn order(&self) -> Order {
        Order::Sorted
    }

    fn next(&mut self) -> Result<Option<Found>, SourceError> {
        self.offset = 0;
        self.current = self.nodes.next();
        Ok(self.current.as_ref().map(|(path, node)| Found {
            path: path.clone(),
            entry: node.entry.clone(),
            hint: Some(self.hint(node)),
        }))
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<Run, ReadError> {
        let (path, node) = self.current.as_ref().expect("one was yielded");
        if node.unreadable {
            self.lost.lock().expect("nobody panics").push(path.clone());
            return Err(ReadError::Entry("it is unreadable".to_owned(), None));
        }
        let rest = &CONTENTS[node.content.expect("a file")].0[self.offset..];
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        self.offset += len;
        Ok(if len == 0 { Run::End } else { Run::Data(len) })
    }

    fn finish(&mut self) -> Result<(Entry, Option<Hint>), ReadError> {
        let (_, node) = self.current.as_ref().expect("one was yielded");
        Ok((node.entry.clone(), Some(self.hint(node))))
    }
}

/// All of a snapshot, read back.
pub(super) fn read(reader: &Arc<ChunkReader>, snapshot: &Snapshot) -> Result<Picture, RepoError> {
    let mut picture = Picture::new();
    for item in snapshot.items() {
        let mut walk = TreeWalk::new(reader, item.root, item.root_level);
        while let Some((path, stored)) = walk.next()? {
            let mut hasher = blake3::Hasher::new();
            let mut content = ContentWalk::new(reader, &stored.content);
            while let Some(extent) = content.next()? {
                match extent {
                    Extent::Chunk(id, _) => {
                        let _ = hasher.update(&reader.read(PackKind::Data, &id)?);
                    }
                    Extent::Zeros(len) => {
                        let len = usize::try_from(len).expect("small");
                        let _ = hasher.update(&vec![0; len]);
                    }
                }
            }
            let is_file = matches!(stored.entry.kind, Kind::File { .. });
            let hash = is_file.then(|| hasher.finalize());
            let _ = picture.insert(path, (stored.entry, hash));
        }
    }
    Ok(picture)
}

/// A directory, as an independent walker sees it.
pub(super) fn look(dir: &Path) -> Picture {
    let mut picture = Picture::new();
    for (path, record) in describe(dir) {
        let (kind, hash) = match record.kind {
            tree::Kind::File { size, .. } => {
                let at = dir.join(std::ffi::OsStr::from_bytes(&path));
                let content = std::fs::read(at).expect("it reads");
                (Kind::File { size, sparse: false }, Some(blake3::hash(&content)))
            }
            tree::Kind::Directory => (Kind::Directory, None),
            tree::Kind::Symlink(target) => (Kind::Symlink { target }, None),
            other => panic!("no tree here has {other:?}"),
        };
        let (seconds, nanos) = record.mtime;
        let entry = Entry {
            kind,
            mode: record.mode,
            uid: record.uid,
            gid: record.gid,
            mtime: Time::new(seconds, u32::try_from(nanos).expect("below a second")),
            xattrs: record.xattrs.into_iter().map(|(name, value)| Xattr { name, value }).collect(),
            link: None,
        };
        let path = EntryPath::from_slashed(&path).expect("a path");
        let _ = picture.insert(path, (entry, hash));
    }
    picture
}
