//! What the directory source finds, and what happens when the tree changes under it.

use super::*;
use crate::clock::Time;
use crate::event::Recorder;
use crate::source::walk::OPEN_MAX;

use std::ffi::CStr;
use std::fs;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};
use std::process::Command;

use rustix::fs::{self as sys, CWD, Dev, FileType as Type, Mode, OFlags, XattrFlags};
use tempfile::TempDir;

mod changes;
mod depth;
mod mounts;

/// A tree, and what its source said.
struct Bench {
    dir: TempDir,
    recorder: Arc<Recorder>,
    clock: Clock,
    selection: Selection,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let clock = Clock::Fixed(Time::new(1 << 40, 0));
        let recorder = Arc::new(Recorder::default());
        Self { dir, recorder, clock, selection: Selection::all() }
    }

    fn at(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, content: &[u8]) {
        fs::write(self.at(name), content).expect("written");
    }

    fn mkdir(&self, name: &str) {
        fs::create_dir_all(self.at(name)).expect("made");
    }

    fn open(&self) -> Directory {
        let options = DirectoryOptions { clock: self.clock, selection: self.selection.clone() };
        Directory::open(self.dir.path(), options, self.recorder.clone()).expect("opened")
    }

    fn warnings(&self) -> Vec<String> {
        let warnings = self.recorder.warnings();
        let shown = |w: Warning| {
            let mark = if w.skipped { "!" } else { "" };
            format!("{mark}{}: {}", crate::entry::escape(&w.object), w.message)
        };
        warnings.into_iter().map(shown).collect()
    }
}

fn step(source: &mut Directory) -> Option<Found> {
    source.next().expect("the source goes on")
}

/// Steps up to and including `path`.
fn step_to(source: &mut Directory, path: &str) -> Found {
    loop {
        let found = step(source).expect("the path comes");
        if found.path.to_string() == path {
            return found;
        }
    }
}

fn paths(source: &mut Directory) -> Vec<String> {
    std::iter::from_fn(|| step(source)).map(|found| found.path.to_string()).collect()
}

fn read_all(source: &mut Directory) -> Vec<Run> {
    let mut buffer = vec![0; 64 << 10];
    let mut runs = Vec::new();
    loop {
        match source.read(&mut buffer).expect("readable") {
            Run::End => return runs,
            run => runs.push(run),
        }
    }
}

fn message<T: std::fmt::Debug>(outcome: Result<T, ReadError>) -> String {
    match outcome {
        Err(ReadError::Entry(message, _)) => message,
        other => format!("{other:?}"),
    }
}

#[test]
fn entries_come_in_strict_key_order_with_the_root_first() {
    let bench = Bench::new();
    for dir in ["a", "a/b", "a-b", "z", "a.c"] {
        bench.mkdir(dir);
    }
    for file in ["a/b/c", "a/1", "a-b/x", "b", "a\u{1}"] {
        bench.write(file, b"");
    }
    let mut source = bench.open();
    assert_eq!(source.order(), Order::Sorted);
    let found: Vec<_> = std::iter::from_fn(|| step(&mut source)).map(|f| f.path).collect();
    assert!(found.windows(2).all(|pair| pair[0] < pair[1]), "{found:?}");
    let shown: Vec<_> = found.iter().map(ToString::to_string).collect();
    let expected = ["", "a", "a/1", "a/b", "a/b/c", "a\\u{1}", "a-b", "a-b/x", "a.c", "b", "z"];
    assert_eq!(shown, expected);
    assert_eq!(step(&mut source), None, "the end stays the end");
    assert_eq!(bench.warnings(), [""; 0]);
}

#[test]
fn odd_names_are_bytes_like_others() {
    use std::os::unix::ffi::OsStrExt as _;
    let bench = Bench::new();
    let long = [b'n'; 255];
    let names: [&[u8]; 6] = [b"\n", b"\x1b[2J", b"-rf", &long, b"\xff\xfe", "ü".as_bytes()];
    for name in names {
        let path = bench.dir.path().join(std::ffi::OsStr::from_bytes(name));
        fs::write(path, b"x").expect("written");
    }
    let mut source = bench.open();
    let found = std::iter::from_fn(|| step(&mut source)).skip(1).collect::<Vec<_>>();
    let mut expected = names.to_vec();
    expected.sort_unstable();
    assert_eq!(found.iter().map(|f| f.path.to_slashed()).collect::<Vec<_>>(), expected);
}

#[test]
fn every_kind_is_described_and_none_but_files_opened() {
    let bench = Bench::new();
    let make = |name: &str, kind: Type, mode: u32, dev: Dev| {
        let mode = Mode::from_raw_mode(mode);
        sys::mknodat(CWD, bench.at(name), kind, mode, dev).expect("made");
    };
    make("block", Type::BlockDevice, 0o600, sys::makedev(259, 70_000));
    make("char", Type::CharacterDevice, 0o666, sys::makedev(10, 130));
    make("fifo", Type::Fifo, 0o640, 0);
    make("socket", Type::Socket, 0o700, 0);
    symlink("/nowhere\n", bench.at("symlink")).expect("made");
    bench.write("file", b"12345");
    fs::set_permissions(bench.at("file"), fs::Permissions::from_mode(0o6751)).expect("set");
    std::os::unix::fs::lchown(bench.at("symlink"), Some(u32::MAX - 1), Some(7)).expect("owned");
    let mtime = sys::Timespec { tv_sec: -5, tv_nsec: 999_999_999 };
    let times = sys::Timestamps { last_access: mtime, last_modification: mtime };
    sys::utimensat(CWD, bench.at("fifo"), &times, sys::AtFlags::empty()).expect("set");

    let mut source = bench.open();
    let mut next = || step(&mut source).expect("an entry").entry;
    let _ = next();
    assert_eq!(next().kind, Kind::BlockDevice { major: 259, minor: 70_000 });
    assert_eq!(next().kind, Kind::CharDevice { major: 10, minor: 130 });
    let fifo = next();
    assert_eq!((fifo.kind, fifo.mtime), (Kind::Fifo, Time::new(-5, 999_999_999)));
    let file = next();
    assert_eq!((file.kind, file.mode), (Kind::File { size: 5, sparse: false }, 0o6751));
    assert_eq!(next().kind, Kind::Socket);
    let link = next();
    assert_eq!(link.kind, Kind::Symlink { target: b"/nowhere\n".to_vec() });
    assert_eq!((link.uid, link.gid), (u32::MAX - 1, 7));
    assert!(message(source.read(&mut [0; 9])).contains("no content"));
    assert_eq!(bench.warnings(), [""; 0]);
}

#[test]
fn attributes_acls_and_capabilities_are_found_on_files_directories_and_links() {
    let bench = Bench::new();
    bench.mkdir("d");
    bench.write("d/f", b"x");
    symlink("f", bench.at("d/l")).expect("made");
    // Version 2: owner rwx, user 65534 r-x, group r-x, mask rwx, others nothing.
    let acl = [
        &[2, 0, 0, 0][..],
        &[1, 0, 7, 0, 255, 255, 255, 255],
        &[2, 0, 5, 0, 254, 255, 0, 0],
        &[4, 0, 5, 0, 255, 255, 255, 255],
        &[16, 0, 7, 0, 255, 255, 255, 255],
        &[32, 0, 0, 0, 255, 255, 255, 255],
    ]
    .concat();
    // Version 2 of the capability attribute: effective, permitted cap_net_bind_service.
    let capability = [&[1, 0, 0, 2][..], &[0, 4, 0, 0], &[0; 12]].concat();
    let set = |path: &str, name: &str, value: &[u8]| {
        sys::lsetxattr(bench.at(path), name, value, XattrFlags::empty()).expect(name);
    };
    set("d", "system.posix_acl_default", &acl);
    set("d", "user.big", &[7; 3000]);
    set("d/f", "security.capability", &capability);
    set("d/f", "system.posix_acl_access", &acl);
    set("d/l", "trusted.t", b"\0");
    let mut source = bench.open();
    let mut names = |path: &str| {
        let found = step_to(&mut source, path);
        found.entry.xattrs.iter().map(|x| crate::entry::escape(&x.name)).collect::<Vec<_>>()
    };
    assert_eq!(names("d"), ["system.posix_acl_default", "user.big"]);
    assert_eq!(names("d/f"), ["security.capability", "system.posix_acl_access"]);
    assert_eq!(names("d/l"), ["trusted.t"]);
    assert_eq!(bench.warnings(), [""; 0]);
}

#[test]
fn further_names_of_an_inode_link_to_the_first_in_walk_order() {
    let bench = Bench::new();
    bench.mkdir("b");
    bench.write("b/file", b"content");
    fs::hard_link(bench.at("b/file"), bench.at("a")).expect("linked");
    fs::hard_link(bench.at("b/file"), bench.at("c")).expect("linked");
    symlink("t", bench.at("s1")).expect("made");
    fs::hard_link(bench.at("s1"), bench.at("s2")).expect("linked");
    let mut source = bench.open();
    let mut link = |path: &str| step_to(&mut source, path).entry.link.map(|l| l.to_string());
    assert_eq!(link("a"), None);
    assert_eq!(link("b/file").as_deref(), Some("a"));
    assert_eq!(link("c").as_deref(), Some("a"));
    assert_eq!(link("s1"), None);
    assert_eq!(link("s2").as_deref(), Some("s1"));
    let mut source = bench.open();
    let further = step_to(&mut source, "c");
    assert_eq!(further.entry.content_len(), 0);
    assert!(message(source.read(&mut [0; 9])).contains("no content"));
}

#[test]
fn content_fills_the_buffer_and_ends() {
    let bench = Bench::new();
    let content: Vec<u8> = (0..200_000u32).flat_map(u32::to_le_bytes).collect();
    bench.write("f", &content);
    bench.write("g", b"");
    let mut source = bench.open();
    let _ = step_to(&mut source, "f");
    let mut buffer = vec![0; 300_000];
    let mut read = Vec::new();
    for expected in [300_000, 300_000, 200_000] {
        assert_eq!(source.read(&mut buffer).expect("read"), Run::Data(expected));
        read.extend_from_slice(&buffer[..expected]);
    }
    assert_eq!(source.read(&mut buffer).expect("read"), Run::End);
    assert!(read == content);
    let (entry, hint) = source.finish().expect("finished");
    assert_eq!((entry.content_len(), hint.is_some()), (800_000, true));
    let empty = step_to(&mut source, "g");
    assert_eq!(source.read(&mut buffer).expect("read"), Run::End);
    assert_eq!(source.finish().expect("finished"), (empty.entry, empty.hint));
}

/// A file of `size` bytes that are holes but for single bytes at `data`.
fn sparse(bench: &Bench, name: &str, size: u64, data: &[u64]) {
    let file = fs::File::create(bench.at(name)).expect("made");
    file.set_len(size).expect("sized");
    for at in data {
        file.write_all_at(b"x", *at).expect("written");
    }
}

#[test]
fn holes_are_told_not_read() {
    const MIB: u64 = 1 << 20;
    let bench = Bench::new();
    sparse(&bench, "all", 8 << 40, &[]);
    sparse(&bench, "ends", MIB + 5, &[512 << 10]);
    sparse(&bench, "middle", 3 * MIB, &[0, 3 * MIB - 1]);
    let mut source = bench.open();
    let found = step_to(&mut source, "all");
    assert_eq!(found.entry.kind, Kind::File { size: 8 << 40, sparse: true });
    assert_eq!(read_all(&mut source), [Run::Hole(8 << 40)]);
    for (name, size) in [("ends", MIB + 5), ("middle", 3 * MIB)] {
        let _ = step_to(&mut source, name);
        let mut content = Vec::new();
        let mut holes = 0;
        let mut buffer = vec![7; 64 << 10];
        loop {
            match source.read(&mut buffer).expect("read") {
                Run::Data(len) => content.extend_from_slice(&buffer[..len]),
                Run::Hole(len) => {
                    holes += len;
                    content.resize(content.len() + usize::try_from(len).expect("small"), 0);
                }
                Run::End => break,
            }
        }
        assert!(content == fs::read(bench.at(name)).expect("read"), "{name}");
        assert!(holes >= size - 128 * 1024, "{name}: only {holes} bytes are holes");
        let (entry, hint) = source.finish().expect("finished");
        assert_eq!((entry.content_len(), hint.is_some()), (size, true));
    }
}

#[test]
fn young_files_have_no_hint() {
    let mut bench = Bench::new();
    bench.write("f", b"x");
    bench.clock = Clock::System;
    let mut source = bench.open();
    assert_eq!(step_to(&mut source, "f").hint, None);
    let _ = read_all(&mut source);
    assert_eq!(source.finish().expect("finished").1, None);
    bench.clock = Clock::Fixed(Time::new(1 << 40, 0));
    assert!(step_to(&mut bench.open(), "f").hint.is_some());
}

#[test]
fn what_is_excluded_is_neither_yielded_nor_entered() {
    let mut bench = Bench::new();
    for file in ["keep/a", "keep/a.log", "cache/b", "z/cache/c"] {
        bench.mkdir(file.rsplit_once('/').expect("a directory").0);
        bench.write(file, b"");
    }
    let excludes = ["cache".to_owned(), "*.log".to_owned()];
    bench.selection = Selection::new(&[], &excludes).expect("patterns");
    assert_eq!(paths(&mut bench.open()), ["", "keep", "keep/a", "z"]);
}

#[test]
fn directories_above_a_match_come_only_if_there_is_one() {
    let mut bench = Bench::new();
    for file in ["a/b/c/x.conf", "a/b/d/y", "e/f/z", "g/h.conf"] {
        bench.mkdir(file.rsplit_once('/').expect("a directory").0);
        bench.write(file, b"12");
    }
    bench.selection = Selection::new(&["*.conf".to_owned()], &[]).expect("patterns");
    let expected = ["", "a", "a/b", "a/b/c", "a/b/c/x.conf", "g", "g/h.conf"];
    assert_eq!(paths(&mut bench.open()), expected);
    let mut source = bench.open();
    let _ = step_to(&mut source, "a/b/c/x.conf");
    assert_eq!(read_all(&mut source), [Run::Data(2)]);
}

#[test]
fn a_root_that_is_no_directory_is_an_error_and_a_link_to_one_is_none() {
    let bench = Bench::new();
    bench.mkdir("d/e");
    bench.write("f", b"");
    symlink("d", bench.at("l")).expect("made");
    let open = |path: &str| {
        let options = DirectoryOptions { clock: bench.clock, selection: Selection::all() };
        Directory::open(&bench.at(path), options, bench.recorder.clone())
    };
    for bad in ["f", "nothing"] {
        let error = open(bad).err().expect("refused");
        assert!(matches!(&error, SourceError::Root { .. }), "{error}");
    }
    assert_eq!(paths(&mut open("l").expect("opened")), ["", "e"]);
}
