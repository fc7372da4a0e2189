//! Trees made up at random, with all that a file system can hold.
//!
//! A [`Plan`] is data, so that proptest can print and shrink it; [`Plan::make`] brings it about. It
//! needs root, and a file system with attributes, ACLs and devices.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use rustix::fs::{self as sys, AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;

/// A tree to be made.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    root: Metadata,
    nodes: Vec<Node>,
}

#[derive(Debug, Clone)]
struct Node {
    /// Which of the directories so far holds it.
    parent: Index,
    name: Vec<u8>,
    what: What,
    metadata: Metadata,
}

#[derive(Debug, Clone)]
enum What {
    Directory,
    File(Vec<Piece>),
    Symlink(Vec<u8>),
    Special(FileType, u32, u32),
    /// Another name of one of the other things so far, if there is one.
    Link(Index),
}

#[derive(Debug, Clone)]
enum Piece {
    /// So many bytes of one of a few endless sequences, so that content comes again.
    Data(u8, usize),
    /// Zeros that are written.
    Zeros(usize),
    /// Zeros that are not.
    Hole(u64),
}

#[derive(Debug, Clone)]
struct Metadata {
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: (i64, i64),
    /// After `user.` on files and directories, after `trusted.` on all else.
    xattrs: Vec<(String, Vec<u8>)>,
    /// Permissions of a named user, by ACL.
    acl: Option<(u8, u32)>,
    has_capability: bool,
}

/// Plans of up to `entries` entries.
pub(crate) fn plans(entries: usize) -> impl Strategy<Value = Plan> {
    (metadata(), vec(node(), 0..=entries)).prop_map(|(root, nodes)| Plan { root, nodes })
}

/// Makes the tree of `entries` entries (some fewer, where names collide) that belongs to `seed` in
/// the existing directory `dir`.
pub(crate) fn random_tree(dir: &Path, seed: u64, entries: usize) {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let nodes = vec(node(), entries);
    let plan = (metadata(), nodes).prop_map(|(root, nodes)| Plan { root, nodes });
    plan.new_tree(&mut runner).expect("no filters to fail").current().make(dir);
}

fn node() -> impl Strategy<Value = Node> {
    (any::<Index>(), name(), what(), metadata()).prop_map(|(parent, name, what, metadata)| Node {
        parent,
        name,
        what,
        metadata,
    })
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let odd: &[&[u8]] = &[
        b"\xff\xfe",
        b"new\nline",
        b"\x1b[31mred\x1b[0m",
        b"-rf",
        b" ",
        b"...",
        b".hidden",
        b"a\\x41",
        b"C:\\con",
        b"a\tb\r",
        "grün".as_bytes(),
        "\u{202e}gpj.exe".as_bytes(),
        &[b'n'; 255],
        &[0xfe; 255],
        b"\x01",
        b"*",
        b".wh.file",
        b"pax_global_header",
    ];
    let any_bytes = vec(1..=255u8, 1..20).prop_map(|mut name| {
        name.iter_mut().filter(|b| **b == b'/').for_each(|b| *b = b'_');
        if name.iter().all(|b| *b == b'.') { b"dots".to_vec() } else { name }
    });
    prop_oneof![
        4 => "[a-d]{1,3}".prop_map(String::into_bytes),
        2 => select(odd.to_vec()).prop_map(<[u8]>::to_vec),
        2 => any_bytes,
    ]
}

fn what() -> impl Strategy<Value = What> {
    let targets: &[&[u8]] = &[
        b"nowhere",
        b"/etc/passwd",
        b"../../../../../../etc/shadow",
        b".",
        b"a",
        b"\xff\n",
        b"//",
        &[b't'; 4095],
    ];
    let special = prop_oneof![
        Just(What::Special(FileType::Fifo, 0, 0)),
        Just(What::Special(FileType::Socket, 0, 0)),
        (0..4096u32, 0..1u32 << 20).prop_map(|d| What::Special(
            FileType::CharacterDevice,
            d.0,
            d.1
        )),
        (0..4096u32, 0..1u32 << 20).prop_map(|d| What::Special(FileType::BlockDevice, d.0, d.1)),
    ];
    prop_oneof![
        3 => Just(What::Directory),
        6 => vec(piece(), 0..4).prop_map(What::File),
        1 => select(targets.to_vec()).prop_map(|t| What::Symlink(t.to_vec())),
        1 => special,
        1 => any::<Index>().prop_map(What::Link),
    ]
}

fn piece() -> impl Strategy<Value = Piece> {
    let len = prop_oneof![
        4 => 1..100usize,
        4 => 1..20_000usize,
        2 => select(vec![4095, 4096, 4097, 8192, 65_536, 131_072]),
        1 => 1..700_000usize,
    ];
    let hole = prop_oneof![1..10_000u64, select(vec![4096, 65_536, 1 << 20]), 1..50_000_000u64];
    prop_oneof![
        6 => (0..4u8, len).prop_map(|(sequence, len)| Piece::Data(sequence, len)),
        1 => (1..40_000usize).prop_map(Piece::Zeros),
        1 => hole.prop_map(Piece::Hole),
    ]
}

fn metadata() -> impl Strategy<Value = Metadata> {
    let mode = prop_oneof![4 => select(vec![0o644, 0o755, 0o600]), 2 => 0..0o10_000u32];
    let owner = || {
        prop_oneof![
            3 => Just(0u32),
            2 => select(vec![1000, 65_534, 65_535, 65_536, 1 << 31, u32::MAX - 1]),
        ]
    };
    // What ext4 can keep: 1901 to 2446.
    let seconds = prop_oneof![
        3 => 1_500_000_000..1_800_000_000i64,
        1 => -2_147_483_648..0i64,
        1 => 4_294_967_296..15_000_000_000i64,
        1 => select(vec![-1, 0, 1]),
    ];
    let nanos = prop_oneof![select(vec![0, 1, 999_999_999]), 0..1_000_000_000i64];
    let value = prop_oneof![vec(any::<u8>(), 0..20), vec(any::<u8>(), 600)];
    let xattrs = prop_oneof![4 => Just(Vec::new()), 1 => vec(("[a-c.]{1,4}", value), 1..3)];
    let acl = proptest::option::weighted(0.1, (0..8u8, select(vec![1, 1000, 65_534])));
    let capability = prop::bool::weighted(0.05);
    (mode, owner(), owner(), seconds, nanos, xattrs, acl, capability).prop_map(
        |(mode, uid, gid, seconds, nanos, xattrs, acl, has_capability)| Metadata {
            mode,
            uid,
            gid,
            mtime: (seconds, nanos),
            xattrs,
            acl,
            has_capability,
        },
    )
}

/// Where something was made.
#[derive(Clone)]
struct Place {
    directory: usize,
    name: Vec<u8>,
    kind: FileType,
}

impl Plan {
    /// Makes the tree in the existing directory `dir`. What bears a taken name is left out.
    pub(crate) fn make(&self, dir: &Path) {
        super::raise_descriptor_limit();
        let mut directories: Vec<OwnedFd> = vec![File::open(dir).expect("opened").into()];
        let mut others: Vec<Place> = Vec::new();
        let mut made: Vec<(Place, &Metadata)> = Vec::new();
        let top = Place { directory: 0, name: b".".to_vec(), kind: FileType::Directory };
        made.push((top, &self.root));
        for node in &self.nodes {
            let directory = node.parent.index(directories.len());
            match node.create(&directories, directory, &others) {
                Err(Errno::EXIST) => {}
                outcome => {
                    let Some(kind) = outcome.expect("it can be made") else { continue };
                    let place = Place { directory, name: node.name.clone(), kind };
                    if kind == FileType::Directory {
                        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
                        let at = &directories[directory];
                        let fd = sys::openat(at, &node.name[..], flags, Mode::empty());
                        directories.push(fd.expect("opened"));
                    } else {
                        others.push(place.clone());
                    }
                    made.push((place, &node.metadata));
                }
            }
        }
        // Backwards: what is made in a directory changes its time, and comes after it.
        for (place, metadata) in made.iter().rev() {
            metadata.apply(&directories[place.directory], place);
        }
    }
}

impl Node {
    /// What was made; none if it was a further name, which has nothing of its own.
    fn create(
        &self,
        directories: &[OwnedFd],
        directory: usize,
        others: &[Place],
    ) -> Result<Option<FileType>, Errno> {
        let dir = &directories[directory];
        let name = &self.name[..];
        match &self.what {
            What::Directory => {
                sys::mkdirat(dir, name, Mode::RWXU)?;
                Ok(Some(FileType::Directory))
            }
            What::File(pieces) => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                fill(&sys::openat(dir, name, flags, Mode::RUSR)?.into(), pieces);
                Ok(Some(FileType::RegularFile))
            }
            What::Symlink(target) => {
                sys::symlinkat(&target[..], dir, name)?;
                Ok(Some(FileType::Symlink))
            }
            What::Special(kind, major, minor) => {
                let device = sys::makedev(*major, *minor);
                sys::mknodat(dir, name, *kind, Mode::RUSR, device)?;
                Ok(Some(*kind))
            }
            What::Link(_) if others.is_empty() => Ok(None),
            What::Link(index) => {
                let old = index.get(others);
                let from = &directories[old.directory];
                sys::linkat(from, &old.name[..], dir, name, AtFlags::empty())?;
                Ok(None)
            }
        }
    }
}

fn fill(file: &File, pieces: &[Piece]) {
    use std::os::unix::fs::FileExt as _;
    let mut position = 0;
    for piece in pieces {
        match piece {
            Piece::Data(sequence, len) => {
                let data = sequence_of(*sequence, *len);
                file.write_all_at(&data, position).expect("written");
                position += data.len() as u64;
            }
            Piece::Zeros(len) => {
                file.write_all_at(&vec![0; *len], position).expect("written");
                position += *len as u64;
            }
            Piece::Hole(len) => position += len,
        }
    }
    file.set_len(position).expect("sized");
}

/// The first bytes of an endless sequence that never repeats itself.
fn sequence_of(sequence: u8, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[sequence]).finalize_xof().fill(&mut bytes);
    bytes
}

impl Metadata {
    fn apply(&self, dir: &OwnedFd, place: &Place) {
        let name = &place.name[..];
        let path = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd()))
            .join(std::ffi::OsStr::from_bytes(name));
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        sys::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).expect("owned");
        let is_plain = matches!(place.kind, FileType::RegularFile | FileType::Directory);
        if place.kind != FileType::Symlink {
            let mode = Mode::from_raw_mode(self.mode);
            sys::chmodat(dir, name, mode, AtFlags::empty()).expect("mode set");
        }
        let set = |name: &str, value: &[u8]| {
            sys::lsetxattr(&path, name, value, sys::XattrFlags::empty()).expect(name);
        };
        for (name, value) in &self.xattrs {
            let space = if is_plain { "user" } else { "trusted" };
            set(&format!("{space}.{name}"), value);
        }
        if let (Some((permissions, user)), true) = (self.acl, is_plain) {
            let acl = acl(permissions, user);
            set("system.posix_acl_access", &acl);
            if place.kind == FileType::Directory {
                set("system.posix_acl_default", &acl);
            }
        }
        if self.has_capability && place.kind == FileType::RegularFile {
            // Version 2, effective, cap_net_bind_service.
            set("security.capability", b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
        }
        let mtime = Timespec { tv_sec: self.mtime.0, tv_nsec: self.mtime.1 };
        let times = Timestamps { last_access: mtime, last_modification: mtime };
        sys::utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW).expect("time set");
    }
}

/// An ACL with one named user, as it is kept in the attribute (version 2, little-endian).
fn acl(permissions: u8, user: u32) -> Vec<u8> {
    const NOBODY: u32 = u32::MAX;
    // Owner, named user, group, mask, others.
    let entries = [
        (1u8, 6, NOBODY),
        (2, permissions, user),
        (4, 4, NOBODY),
        (16, 7, NOBODY),
        (32, 0, NOBODY),
    ];
    let mut bytes = vec![2, 0, 0, 0];
    for (tag, permissions, id) in entries {
        bytes.extend_from_slice(&[tag, 0, permissions, 0]);
        bytes.extend((0..4).map(|at| u8::try_from(id >> (8 * at) & 255).expect("a byte")));
    }
    bytes
}
