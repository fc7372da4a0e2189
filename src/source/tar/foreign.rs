//! Archives of other programs come out as the trees they were made of.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Cursor;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, makedev, mknodat, setxattr,
    utimensat,
};
use tempfile::TempDir;

use super::tests::{Item, path, read, read_from};
use super::*;
use crate::clock::Time;

/// What an archive can hold of the tree.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fidelity {
    /// Whole seconds since 1970, short names, files, links and directories.
    Plain,
    /// Whole seconds, but before 1970 too, and all names and kinds.
    Seconds,
    /// Times to the microsecond, as Python keeps them in a `float`.
    Float,
    /// Everything.
    Full,
}

fn set_mtime(path: &Path, seconds: i64, nanos: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanos };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).expect("set a time");
}

/// Makes a tree with one thing of each kind, as far as the archive can hold it.
pub(super) fn tree(fidelity: Fidelity) -> TempDir {
    let dir = TempDir::new().expect("a directory");
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("dir")).expect("a directory");
    fs::write(at("dir/file"), b"content").expect("a file");
    fs::write(at("dir/empty"), b"").expect("a file");
    fs::write(at("large"), vec![7; 700_001]).expect("a file");
    fs::hard_link(at("dir/file"), at("link")).expect("a hard link");
    symlink("../any where", at("dir/symlink")).expect("a symbolic link");
    std::os::unix::fs::lchown(at("large"), Some(70), Some(71)).expect("an owner");
    fs::set_permissions(at("large"), std::os::unix::fs::PermissionsExt::from_mode(0o6751))
        .expect("a mode");
    fs::write(dir.path().join(OsStr::from_bytes(b"v\xe4l\n\\ue")), b"name").expect("a file");
    fragmented(&at("sparse"));
    if fidelity == Fidelity::Plain {
        for name in ["dir/file", "dir/empty", "large", "dir/symlink", "sparse", "dir"] {
            set_mtime(&at(name), 1_600_000_000, 0);
        }
        return dir;
    }
    let deep = "d".repeat(120) + "/" + &"e".repeat(200);
    fs::create_dir_all(at(&deep)).expect("directories");
    let long = format!("{deep}/{}", "f".repeat(255));
    fs::write(at(&long), b"long").expect("a file");
    fs::hard_link(at(&long), at("long link")).expect("a hard link");
    symlink("t".repeat(300), at("long symlink")).expect("a symbolic link");
    for (name, kind, (major, minor)) in [
        ("fifo", FileType::Fifo, (0, 0)),
        ("char", FileType::CharacterDevice, (1, 3)),
        ("block", FileType::BlockDevice, (7, 1_000_000)),
    ] {
        mknodat(CWD, at(name), kind, Mode::from(0o640), makedev(major, minor)).expect("a node");
    }
    std::os::unix::fs::lchown(at("fifo"), Some(3_000_000), Some(4_000_000)).expect("an owner");
    set_mtime(&at("dir/file"), 1_600_000_000, 123_456_789);
    set_mtime(&at("dir/empty"), -1_000, 0);
    set_mtime(&at("fifo"), -2, 500_000_000);
    set_mtime(&at("dir"), 1, 0);
    dir
}

/// Makes a file with 60 regions of data between holes, and a hole at its end.
fn fragmented(path: &Path) {
    let file = File::create(path).expect("a file");
    for at in 0..60 {
        file.write_all_at(&[at; 4096], u64::from(at) * 16384 + 4096).expect("a region");
    }
    file.set_len(1_500_000).expect("a hole");
}

pub(super) fn add_xattrs(dir: &Path) {
    for (name, value) in
        [("user.a=b%3D%", &b"=\n\0\xff\n"[..]), ("user.empty", b""), ("trusted.v", &[9; 900])]
    {
        for file in ["dir/file", "dir"] {
            setxattr(dir.join(file), name, value, XattrFlags::CREATE).expect("an attribute");
        }
    }
}

pub(super) fn run(command: &mut Command) -> Vec<u8> {
    let output = command.stderr(Stdio::inherit()).output().expect("the program runs");
    assert!(output.status.success(), "{command:?}");
    output.stdout
}

pub(super) fn gnu_tar(dir: &Path, options: &[&str]) -> Vec<u8> {
    run(Command::new("tar").args(options).arg("-C").arg(dir).args(["-c", "-f", "-", "."]))
}

fn python(dir: &Path, format: &str) -> Vec<u8> {
    let script = "import sys, tarfile\n\
        t = tarfile.open(fileobj=sys.stdout.buffer, mode='w|', \
        format=getattr(tarfile, sys.argv[1]))\n\
        t.add(sys.argv[2], arcname='.')\n\
        t.close()\n";
    run(Command::new("python3").args(["-c", script, format]).arg(dir))
}

/// Compares what was read with the tree it came from.
pub(super) fn assert_is_tree(items: &[Item], dir: &Path, fidelity: Fidelity) {
    let mut left: BTreeMap<_, _> = items.iter().map(|item| (item.0.clone(), item)).collect();
    assert_eq!(left.len(), items.len());
    let mut pending = vec![EntryPath::root()];
    while let Some(at) = pending.pop() {
        let real = real_path(dir, &at);
        let metadata = fs::symlink_metadata(&real).expect("exists");
        if metadata.is_dir() {
            for child in fs::read_dir(&real).expect("a directory") {
                let name = child.expect("a name").file_name();
                pending.push(at.child(name.as_encoded_bytes()).expect("a path"));
            }
        }
        let (_, entry, content) = left.remove(&at).expect("no entry of the tree is missing");
        let what = format!("{at}");
        assert_eq!(entry.mode, metadata.mode() & 0o7777, "{what}");
        assert_eq!((entry.uid, entry.gid), (metadata.uid(), metadata.gid()), "{what}");
        assert_time(entry.mtime, &metadata, fidelity, &what);
        if let Some(link) = &entry.link {
            let target = real_path(dir, link);
            assert_eq!(
                fs::symlink_metadata(target).expect("a target").ino(),
                metadata.ino(),
                "{what}"
            );
            continue;
        }
        let kind = &entry.kind;
        if metadata.is_file() {
            assert!(matches!(kind, Kind::File { size, .. } if *size == metadata.len()), "{what}");
            assert!(*content == fs::read(&real).expect("readable"), "content of {what}");
        } else if metadata.is_symlink() {
            let target =
                fs::read_link(&real).expect("a link").into_os_string().into_encoded_bytes();
            assert_eq!(*kind, Kind::Symlink { target }, "{what}");
        } else if metadata.is_dir() {
            assert_eq!(*kind, Kind::Directory, "{what}");
        } else {
            let major = rustix::fs::major(metadata.rdev());
            let minor = rustix::fs::minor(metadata.rdev());
            let expected = match metadata.file_type() {
                t if t.is_fifo() => Kind::Fifo,
                t if t.is_block_device() => Kind::BlockDevice { major, minor },
                _ => Kind::CharDevice { major, minor },
            };
            assert_eq!(*kind, expected, "{what}");
        }
    }
    assert!(left.is_empty(), "{:?}", left.keys());
}

pub(super) fn real_path(dir: &Path, at: &EntryPath) -> PathBuf {
    dir.join(OsStr::from_bytes(&at.to_slashed()))
}

fn assert_time(time: Time, metadata: &fs::Metadata, fidelity: Fidelity, what: &str) {
    let nanos = |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    let found = nanos(time.seconds, time.nanos.into());
    let real = nanos(metadata.mtime(), metadata.mtime_nsec());
    let unit = match fidelity {
        // GNU tar rounds down, Python rounds to zero.
        Fidelity::Plain | Fidelity::Seconds => 1_000_000_000,
        Fidelity::Float => 1_000,
        Fidelity::Full => 1,
    };
    let off = (found - real) / unit;
    assert_eq!(off, 0, "time of {what}: {time:?}, not {real}");
}

pub(super) fn assert_reads_as(bytes: &[u8], dir: &Path, fidelity: Fidelity) -> Vec<Item> {
    let (items, warnings) = read(bytes).expect("a sound archive");
    assert_eq!(warnings, []);
    assert_is_tree(&items, dir, fidelity);
    items
}

fn is_sparse(items: &[Item]) -> bool {
    let found = items.iter().find(|item| item.0 == path("sparse")).expect("the sparse file");
    matches!(found.1.kind, Kind::File { sparse: true, .. })
}

#[test]
fn archives_of_gnu_tar_in_all_formats_come_out_as_their_tree() {
    let plain = tree(Fidelity::Plain);
    for format in ["--format=v7", "--format=oldgnu", "--format=ustar"] {
        let bytes = gnu_tar(plain.path(), &[format]);
        assert!(!is_sparse(&assert_reads_as(&bytes, plain.path(), Fidelity::Plain)));
    }
    let full = tree(Fidelity::Full);
    for (format, fidelity) in [("gnu", Fidelity::Seconds), ("pax", Fidelity::Full)] {
        let bytes = gnu_tar(full.path(), &[&format!("--format={format}")]);
        let _ = assert_reads_as(&bytes, full.path(), fidelity);
    }
}

#[test]
fn sparse_files_of_gnu_tar_come_out_with_their_holes() {
    let dir = tree(Fidelity::Full);
    let bytes = gnu_tar(dir.path(), &["--format=gnu", "-S"]);
    assert!(is_sparse(&assert_reads_as(&bytes, dir.path(), Fidelity::Seconds)));
    for version in ["0.0", "0.1", "1.0"] {
        let version = format!("--sparse-version={version}");
        let bytes = gnu_tar(dir.path(), &["--format=pax", "-S", &version]);
        assert!(is_sparse(&assert_reads_as(&bytes, dir.path(), Fidelity::Full)), "{version}");
    }
}

#[test]
fn a_sparse_file_larger_than_an_octal_size_keeps_its_holes() {
    let dir = TempDir::new().expect("a directory");
    let file = File::create(dir.path().join("huge")).expect("a file");
    file.set_len(20 << 30).expect("a hole");
    file.write_all_at(&[1; 4096], 10 << 30).expect("a region");
    for options in [&["--format=gnu", "-S"][..], &["--format=pax", "-S"]] {
        let reader = Box::new(Cursor::new(gnu_tar(dir.path(), options)));
        let observer = Arc::new(crate::event::Recorder::default());
        let mut stream = TarStream::new(reader, TarOptions::new("test.tar"), observer);
        let _ = stream.next().expect("the root");
        let found = stream.next().expect("the file").expect("an entry");
        assert_eq!(found.entry.kind, Kind::File { size: 20 << 30, sparse: true });
        let mut buffer = vec![0; 8192];
        let mut read = || stream.read(&mut buffer).expect("content");
        assert_eq!(read(), Run::Hole(10 << 30), "{options:?}");
        assert_eq!(read(), Run::Data(4096), "{options:?}");
        assert_eq!(read(), Run::Hole((10 << 30) - 4096), "{options:?}");
        assert_eq!(read(), Run::End, "{options:?}");
        assert!(stream.next().expect("the end").is_none());
    }
}

#[test]
fn extended_attributes_of_gnu_tar_come_out_byte_for_byte() {
    let dir = tree(Fidelity::Full);
    add_xattrs(dir.path());
    let bytes = gnu_tar(dir.path(), &["--format=pax", "--xattrs", "--xattrs-include=*"]);
    let items = assert_reads_as(&bytes, dir.path(), Fidelity::Full);
    let found = items.iter().find(|item| item.0 == path("dir")).expect("a directory");
    let expected =
        [("trusted.v", &[9; 900][..]), ("user.a=b%3D%", b"=\n\0\xff\n"), ("user.empty", b"")];
    let found: Vec<_> = found.1.xattrs.iter().map(|x| (&x.name[..], &x.value[..])).collect();
    assert_eq!(found, expected.map(|(name, value)| (name.as_bytes(), value)));
}

#[test]
fn archives_of_python_come_out_as_their_tree() {
    let plain = tree(Fidelity::Plain);
    let _ = assert_reads_as(&python(plain.path(), "USTAR_FORMAT"), plain.path(), Fidelity::Plain);
    let full = tree(Fidelity::Full);
    let _ = assert_reads_as(&python(full.path(), "GNU_FORMAT"), full.path(), Fidelity::Seconds);
    let _ = assert_reads_as(&python(full.path(), "PAX_FORMAT"), full.path(), Fidelity::Float);
}

#[test]
fn archives_of_other_programs_are_refused_when_cut() {
    let dir = tree(Fidelity::Full);
    for format in ["--format=gnu", "--format=pax"] {
        let bytes = gnu_tar(dir.path(), &[format, "-S"]);
        let end = bytes.iter().rposition(|b| *b != 0).expect("content") + 1;
        for cut in (0..end.next_multiple_of(512) + 1024).step_by(512) {
            let cut_off = Cursor::new(bytes[..cut].to_vec());
            let error = read_from(cut_off, TarOptions::new("test.tar")).expect_err("cut");
            assert!(error.to_string().contains("broke off"), "cut at {cut}: {error}");
        }
    }
}

#[test]
fn archives_with_a_directory_in_front_have_it_as_root() {
    let dir = tree(Fidelity::Full);
    let bytes = gnu_tar(dir.path(), &["--format=pax", "--transform=s,^\\.,v,S"]);
    let options = TarOptions { name: "test.tar".into(), root: path("v") };
    let (items, warnings) = read_from(Cursor::new(bytes), options).expect("a sound archive");
    assert_eq!(warnings, []);
    assert_is_tree(&items, dir.path(), Fidelity::Full);
}
