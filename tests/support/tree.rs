//! What a directory holds, down to the last attribute, and how two of them differ.
//!
//! Shares no code with the library, so that both cannot be wrong in the same way.

pub(crate) mod plan;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs as sys;
use rustix::fs::{Mode, OFlags};

/// Stack for one recursion per level of 5,000, in bytes.
const STACK_LEN: usize = 256 << 20;

/// Unit of content, in bytes: a hole begins and ends at a multiple of it, or at the end.
const CELL_LEN: usize = 512;

/// All that is below a directory: path with slashes → record. The directory itself is the empty
/// path.
pub(crate) type Tree = BTreeMap<Vec<u8>, Record>;

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) kind: Kind,
    /// Without the file type.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds since 1970 and nanoseconds.
    pub(crate) mtime: (i64, i64),
    /// ACLs and capabilities among them; without labels the machine itself sets.
    pub(crate) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The least path of the hard-link group, if others below the directory are in it.
    pub(crate) group: Option<Vec<u8>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    File {
        size: u64,
        hash: blake3::Hash,
        /// Exact holes as from..to, if fewer blocks are in use than the size asks for.
        holes: Vec<(u64, u64)>,
    },
    Directory,
    Symlink(Vec<u8>),
    Char(u32, u32),
    Block(u32, u32),
    Fifo,
    Socket,
}

/// What a comparison can leave out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Aspect {
    /// Type, size, bytes, symbolic link target, device numbers.
    Content,
    Mode,
    Owner,
    Mtime,
    Xattrs,
    Links,
    /// All about holes.
    Holes,
    /// Holes of the right tree where the left one holds written zeros.
    MoreHoles,
    /// Sockets are not there.
    Sockets,
    /// The directory itself.
    Root,
}

/// Describes all below `dir`, and `dir` itself.
pub(crate) fn describe(dir: &Path) -> Tree {
    raise_descriptor_limit();
    let dir = dir.to_owned();
    let walk = move || {
        let mut walker = Walker::default();
        let fd: OwnedFd = File::open(&dir).expect("the directory opens").into();
        let record = record(&dir.join("."));
        let _ = walker.tree.insert(Vec::new(), record);
        walker.descend(&fd, &[]);
        walker.finish()
    };
    let thread = std::thread::Builder::new().stack_size(STACK_LEN).spawn(walk);
    thread.expect("a thread").join().expect("the walk ends well")
}

/// What differs from `left` to `right`, one line each; nothing if they are equal.
pub(crate) fn diff(left: &Tree, right: &Tree) -> Vec<String> {
    diff_except(left, right, &[])
}

/// As [`diff`], without some aspects.
pub(crate) fn diff_except(left: &Tree, right: &Tree, ignored: &[Aspect]) -> Vec<String> {
    let counts = |path: &[u8], record: &Record| {
        !(ignored.contains(&Aspect::Sockets) && record.kind == Kind::Socket
            || ignored.contains(&Aspect::Root) && path.is_empty())
    };
    let mut lines = Vec::new();
    for (path, record) in left.iter().filter(|(path, record)| counts(path, record)) {
        match right.get(path) {
            None => lines.push(format!("{}: missing", path.escape_ascii())),
            Some(other) => {
                let said = compare(record, other, ignored);
                lines.extend(said.iter().map(|s| format!("{}: {s}", path.escape_ascii())));
            }
        }
    }
    for (path, _) in right.iter().filter(|(path, record)| counts(path, record)) {
        if !left.contains_key(path) {
            lines.push(format!("{}: unexpected", path.escape_ascii()));
        }
    }
    lines
}

fn compare(left: &Record, right: &Record, ignored: &[Aspect]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut say = |aspect: Aspect, what: &str, is_equal: bool, sides: [String; 2]| {
        if !is_equal && !ignored.contains(&aspect) {
            lines.push(format!("{what} {} became {}", sides[0], sides[1]));
        }
    };
    let sides = [left, right];
    let contents = sides.map(|side| match &side.kind {
        Kind::File { size, hash, .. } => format!("{size} bytes {hash}"),
        other => format!("{other:?}"),
    });
    say(Aspect::Content, "content", contents[0] == contents[1], contents);
    let holes = sides.map(|side| match &side.kind {
        Kind::File { holes, .. } => holes.clone(),
        _ => Vec::new(),
    });
    let is_equal = match ignored.contains(&Aspect::MoreHoles) {
        true => is_within(&holes[0], &holes[1]),
        false => holes[0] == holes[1],
    };
    say(Aspect::Holes, "holes", is_equal, holes.map(|h| format!("{h:?}")));
    let modes = sides.map(|side| format!("{:o}", side.mode));
    say(Aspect::Mode, "mode", modes[0] == modes[1], modes);
    let owners = sides.map(|side| format!("{}:{}", side.uid, side.gid));
    say(Aspect::Owner, "owner", owners[0] == owners[1], owners);
    let times = sides.map(|side| format!("{:?}", side.mtime));
    say(Aspect::Mtime, "mtime", times[0] == times[1], times);
    let groups = sides.map(|side| shown(side.group.as_deref()));
    say(Aspect::Links, "links", groups[0] == groups[1], groups);
    let names: BTreeSet<_> = left.xattrs.keys().chain(right.xattrs.keys()).collect();
    for name in names {
        let values = sides.map(|side| shown(side.xattrs.get(name).map(Vec::as_slice)));
        let what = format!("xattr {}", name.escape_ascii());
        say(Aspect::Xattrs, &what, values[0] == values[1], values);
    }
    lines
}

fn shown(bytes: Option<&[u8]>) -> String {
    bytes.map_or("nothing".to_owned(), |bytes| format!("\"{}\"", bytes.escape_ascii()))
}

/// Whether each of the ranges lies in one of `others`.
fn is_within(ranges: &[(u64, u64)], others: &[(u64, u64)]) -> bool {
    ranges.iter().all(|(from, to)| others.iter().any(|(start, end)| start <= from && to <= end))
}

#[derive(Default)]
struct Walker {
    tree: Tree,
    groups: HashMap<(u64, u64), Vec<Vec<u8>>>,
}

impl Walker {
    fn descend(&mut self, fd: &OwnedFd, path: &[u8]) {
        let here = PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
        for entry in std::fs::read_dir(&here).expect("the directory lists") {
            let name = entry.expect("the directory lists on").file_name();
            let at = here.join(&name);
            let mut below = path.to_vec();
            if !path.is_empty() {
                below.push(b'/');
            }
            below.extend_from_slice(name.as_bytes());
            let record = record(&at);
            let metadata = at.symlink_metadata().expect("still there");
            if metadata.nlink() > 1 && !metadata.is_dir() {
                let group = self.groups.entry((metadata.dev(), metadata.ino())).or_default();
                group.push(below.clone());
            }
            let is_directory = record.kind == Kind::Directory;
            let _ = self.tree.insert(below.clone(), record);
            if is_directory {
                let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let fd = sys::openat(fd, &*name, flags, Mode::empty()).expect("opened");
                self.descend(&fd, &below);
            }
        }
    }

    fn finish(mut self) -> Tree {
        for group in self.groups.into_values().filter(|group| group.len() > 1) {
            let least = group.iter().min().cloned();
            for path in group {
                if let Some(record) = self.tree.get_mut(&path) {
                    record.group.clone_from(&least);
                }
            }
        }
        self.tree
    }
}

fn record(at: &Path) -> Record {
    let metadata = at.symlink_metadata().expect("it is there");
    let kind = metadata.file_type();
    let (major, minor) = (sys::major(metadata.rdev()), sys::minor(metadata.rdev()));
    let kind = if kind.is_file() {
        file(at, &metadata)
    } else if kind.is_dir() {
        Kind::Directory
    } else if kind.is_symlink() {
        Kind::Symlink(
            std::fs::read_link(at).expect("a target").into_os_string().into_encoded_bytes(),
        )
    } else if kind.is_char_device() {
        Kind::Char(major, minor)
    } else if kind.is_block_device() {
        Kind::Block(major, minor)
    } else if kind.is_fifo() {
        Kind::Fifo
    } else {
        assert!(kind.is_socket(), "{at:?} is of no known type");
        Kind::Socket
    };
    Record {
        kind,
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
        mtime: (metadata.mtime(), metadata.mtime_nsec()),
        xattrs: xattrs(at),
        group: None,
    }
}

fn file(at: &Path, metadata: &std::fs::Metadata) -> Kind {
    let file = File::open(at).expect("the file opens");
    let size = metadata.len();
    let is_sparse = metadata.blocks() * 512 < size;
    let holes = if is_sparse { holes(&file, size) } else { Vec::new() };
    // Reading 8 TiB of holes takes hours: the hash is one over the cells that are not all zeros and
    // where they lie, so that it does not depend on where there are holes.
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 16];
    let mut position = 0;
    for (hole, end) in holes.iter().copied().chain([(size, size)]) {
        while position < hole {
            let len = buffer.len().min(usize::try_from(hole - position).unwrap_or(usize::MAX));
            file.read_exact_at(&mut buffer[..len], position).expect("the file reads");
            for cell in buffer[..len].chunks(CELL_LEN) {
                if cell.iter().any(|b| *b != 0) {
                    let _ = hasher.update(&position.to_le_bytes()).update(cell);
                }
                position += cell.len() as u64;
            }
        }
        position = end;
    }
    Kind::File { size, hash: hasher.finalize(), holes }
}

fn holes(file: &File, size: u64) -> Vec<(u64, u64)> {
    let mut holes = Vec::new();
    let mut position = 0;
    while position < size {
        let hole = sys::seek(file, sys::SeekFrom::Hole(position)).expect("a hole or the end");
        if hole >= size {
            break;
        }
        let data = match sys::seek(file, sys::SeekFrom::Data(hole)) {
            Err(rustix::io::Errno::NXIO) => size,
            data => data.expect("data or the end"),
        };
        holes.push((hole, data));
        position = data;
    }
    holes
}

fn xattrs(at: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut list = vec![0; 1 << 16];
    let len = match sys::llistxattr(at, &mut list[..]) {
        Err(rustix::io::Errno::NOTSUP) => 0,
        len => len.expect("the attributes list"),
    };
    let mut found = BTreeMap::new();
    for name in list[..len].split(|b| *b == 0).filter(|name| !name.is_empty()) {
        if [&b"security.selinux"[..], b"security.ima", b"security.evm"].contains(&name) {
            continue;
        }
        let mut value = vec![0; 1 << 16];
        let name = OsStr::from_bytes(name);
        let len = sys::lgetxattr(at, name, &mut value[..]).expect("the attribute reads");
        value.truncate(len);
        let _ = found.insert(name.as_bytes().to_vec(), value);
    }
    found
}

/// Makes `levels` directories in each other below `dir`, each with a file beside the next, far
/// beyond what a path can name. To be removed with [`remove`].
pub(crate) fn make_deep(dir: &Path, levels: usize) {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut fd: OwnedFd = File::open(dir).expect("the directory opens").into();
    for level in 0..levels {
        let name = c"d";
        sys::mkdirat(&fd, name, Mode::RWXU).expect("made");
        let created = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = sys::openat(&fd, c"~", created, Mode::RUSR).expect("made");
        let _ =
            rustix::io::write(file.as_fd(), format!("level {level}").as_bytes()).expect("written");
        fd = sys::openat(&fd, name, flags, Mode::empty()).expect("opened");
    }
}

/// Removes a tree of any depth.
pub(crate) fn remove(dir: &Path) {
    let status = std::process::Command::new("rm").arg("-rf").arg("--").arg(dir).status();
    assert!(status.expect("rm runs").success(), "{dir:?} cannot be removed");
}

/// One descriptor is open per level.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("the soft limit can be raised");
}

#[cfg(test)]
mod tests;
