//! What people and programs do to a tree between two backups.

use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, lchown, symlink};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::sample::{Index, select};
use rustix::fs::{self as sys, AtFlags, CWD, FileType, Mode, Timespec, Timestamps};

use super::noise;

/// One change. Where it cannot be made (a directory moved into itself), nothing changes.
#[derive(Debug, Clone)]
pub(super) enum Mutation {
    Write(Index, u64, u8, usize),
    Append(Index, u8, usize),
    /// To so many 128ths of its size.
    Truncate(Index, u64),
    /// Other content of the same size, with the same time of modification.
    Disguise(Index, Index),
    /// A hole where there was data, or written zeros where there was a hole.
    Punch(Index),
    Fill(Index),
    Chmod(Index, u32),
    Chown(Index, u32, u32),
    Touch(Index, i64, i64),
    Attribute(Index, Option<Vec<u8>>),
    Rename(Index, Index, Vec<u8>),
    /// Two things swap their names.
    Swap(Index, Index),
    Link(Index, Index, Vec<u8>),
    Delete(Index),
    Make(Index, Vec<u8>, New),
    Replace(Index, New),
}

#[derive(Debug, Clone)]
pub(super) enum New {
    Directory,
    File(u8, usize),
    Sparse(u64),
    Symlink,
    Special(FileType),
}

pub(super) fn mutations() -> impl Strategy<Value = Mutation> {
    use Mutation::*;
    let at = any::<Index>;
    let len = || prop_oneof![3 => 1..5000usize, 1 => 1..300_000usize];
    let new = || {
        prop_oneof![
            2 => Just(New::Directory),
            3 => (any::<u8>(), len()).prop_map(|(seed, len)| New::File(seed, len)),
            1 => (1..1u64 << 22).prop_map(New::Sparse),
            1 => Just(New::Symlink),
            1 => select(vec![FileType::Fifo, FileType::Socket, FileType::CharacterDevice])
                .prop_map(New::Special),
        ]
    };
    let name = || "[a-d]{1,3}".prop_map(String::into_bytes);
    let owner = || select(vec![0, 1, 1000, 65_534, u32::MAX - 1]);
    let seconds = || prop_oneof![-1000..0i64, 1_500_000_000..1_800_000_000i64];
    let value = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40));
    prop_oneof![
        3 => (at(), 0..400_000u64, any::<u8>(), len()).prop_map(|(f, o, s, l)| Write(f, o, s, l)),
        1 => (at(), any::<u8>(), len()).prop_map(|(f, s, l)| Append(f, s, l)),
        1 => (at(), 0..200u64).prop_map(|(f, part)| Truncate(f, part)),
        2 => (at(), at()).prop_map(|(f, byte)| Disguise(f, byte)),
        1 => at().prop_map(Punch),
        1 => at().prop_map(Fill),
        1 => (at(), 0..0o10_000u32).prop_map(|(p, mode)| Chmod(p, mode)),
        1 => (at(), owner(), owner()).prop_map(|(p, uid, gid)| Chown(p, uid, gid)),
        1 => (at(), seconds(), 0..1_000_000_000i64).prop_map(|(p, s, n)| Touch(p, s, n)),
        1 => (at(), value).prop_map(|(p, value)| Attribute(p, value)),
        2 => (at(), at(), name()).prop_map(|(p, d, n)| Rename(p, d, n)),
        1 => (at(), at()).prop_map(|(a, b)| Swap(a, b)),
        2 => (at(), at(), name()).prop_map(|(p, d, n)| Link(p, d, n)),
        2 => at().prop_map(Delete),
        2 => (at(), name(), new()).prop_map(|(d, n, new)| Make(d, n, new)),
        2 => (at(), new()).prop_map(|(p, new)| Replace(p, new)),
    ]
}

impl Mutation {
    pub(super) fn apply(&self, root: &Path) {
        // What is impossible in this tree is left out.
        let _ = self.try_apply(root);
    }

    fn try_apply(&self, root: &Path) -> io::Result<()> {
        let all = list(root);
        let only = |keep: fn(&fs::Metadata) -> bool| -> Vec<PathBuf> {
            let kept = |path: &&PathBuf| path.symlink_metadata().is_ok_and(|m| keep(&m));
            all.iter().filter(kept).cloned().collect()
        };
        let files = only(fs::Metadata::is_file);
        let directories = only(fs::Metadata::is_dir);
        let others: Vec<_> = all.iter().filter(|path| *path != root).cloned().collect();
        let pick = |from: &[PathBuf], index: &Index| match from {
            [] => Err(io::Error::from(io::ErrorKind::NotFound)),
            from => Ok(index.get(from).clone()),
        };
        match self {
            Self::Write(file, offset, seed, len) => {
                writable(&pick(&files, file)?)?.write_all_at(&noise(*seed, *len), *offset)
            }
            Self::Append(file, seed, len) => {
                let file = writable(&pick(&files, file)?)?;
                file.write_all_at(&noise(*seed, *len), file.metadata()?.len())
            }
            Self::Truncate(file, part) => {
                let file = writable(&pick(&files, file)?)?;
                file.set_len(file.metadata()?.len() / 128 * part)
            }
            Self::Disguise(file, byte) => disguise(&pick(&files, file)?, byte),
            Self::Punch(file) => {
                use sys::FallocateFlags as Flags;
                let file = writable(&pick(&files, file)?)?;
                let flags = Flags::PUNCH_HOLE | Flags::KEEP_SIZE;
                Ok(sys::fallocate(&file, flags, 4096, 65_536)?)
            }
            Self::Fill(file) => {
                let file = writable(&pick(&files, file)?)?;
                let len = file.metadata()?.len().min(1 << 20);
                let mut content = vec![0; usize::try_from(len).expect("short")];
                file.read_exact_at(&mut content, 0)?;
                file.write_all_at(&content, 0)
            }
            Self::Chmod(path, mode) => {
                let path = pick(&all, path)?;
                match path.symlink_metadata()?.is_symlink() {
                    true => Ok(()),
                    false => Ok(sys::chmodat(CWD, path, Mode::from(*mode), AtFlags::empty())?),
                }
            }
            Self::Chown(path, uid, gid) => lchown(pick(&all, path)?, Some(*uid), Some(*gid)),
            Self::Touch(path, seconds, nanos) => set_mtime(&pick(&all, path)?, *seconds, *nanos),
            Self::Attribute(path, value) => {
                let (path, name) = (pick(&all, path)?, "trusted.mutation");
                match value {
                    Some(value) => sys::lsetxattr(path, name, value, sys::XattrFlags::empty())?,
                    None => sys::lremovexattr(path, name)?,
                }
                Ok(())
            }
            Self::Rename(path, into, name) => {
                fs::rename(pick(&others, path)?, join(&pick(&directories, into)?, name))
            }
            Self::Swap(left, right) => {
                let (left, right) = (pick(&others, left)?, pick(&others, right)?);
                Ok(sys::renameat_with(CWD, left, CWD, right, sys::RenameFlags::EXCHANGE)?)
            }
            Self::Link(path, into, name) => {
                fs::hard_link(pick(&others, path)?, join(&pick(&directories, into)?, name))
            }
            Self::Delete(path) => delete(&pick(&others, path)?),
            Self::Make(into, name, new) => new.make(&join(&pick(&directories, into)?, name)),
            Self::Replace(path, new) => {
                let path = pick(&others, path)?;
                delete(&path)?;
                new.make(&path)
            }
        }
    }
}

impl New {
    fn make(&self, path: &Path) -> io::Result<()> {
        match self {
            Self::Directory => fs::create_dir(path),
            Self::File(seed, len) => File::create_new(path)?.write_all_at(&noise(*seed, *len), 0),
            Self::Sparse(len) => {
                let file = File::create_new(path)?;
                file.set_len(*len)?;
                file.write_all_at(b"data", len / 2)?;
                file.set_len(*len)
            }
            Self::Symlink => symlink("/etc/passwd", path),
            Self::Special(kind) => Ok(sys::mknodat(CWD, path, *kind, Mode::RUSR, 259)?),
        }
    }
}

fn list(root: &Path) -> Vec<PathBuf> {
    let mut found = vec![root.to_owned()];
    let mut at = 0;
    while at < found.len() {
        if found[at].symlink_metadata().is_ok_and(|m| m.is_dir())
            && let Ok(entries) = fs::read_dir(&found[at])
        {
            let mut below: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
            below.sort();
            found.extend(below);
        }
        at += 1;
    }
    found
}

fn join(directory: &Path, name: &[u8]) -> PathBuf {
    directory.join(std::ffi::OsString::from_vec(name.to_vec()))
}

fn writable(path: &Path) -> io::Result<File> {
    File::options().read(true).write(true).open(path)
}

fn delete(path: &Path) -> io::Result<()> {
    match path.symlink_metadata()?.is_dir() {
        true => fs::remove_dir_all(path),
        false => fs::remove_file(path),
    }
}

fn disguise(path: &Path, byte: &Index) -> io::Result<()> {
    let before = path.symlink_metadata()?;
    if before.len() == 0 {
        return Ok(());
    }
    let at = byte.index(usize::try_from(before.len()).expect("fits")) as u64;
    let file = writable(path)?;
    let mut old = [0];
    file.read_exact_at(&mut old, at)?;
    file.write_all_at(&[old[0] ^ 0x55], at)?;
    set_mtime(path, before.mtime(), before.mtime_nsec())
}

pub(super) fn set_mtime(path: &Path, seconds: i64, nanos: i64) -> io::Result<()> {
    let mtime = Timespec { tv_sec: seconds, tv_nsec: nanos };
    let times = Timestamps { last_access: mtime, last_modification: mtime };
    Ok(sys::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}
