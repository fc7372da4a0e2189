//! A disk whose every write and flush is on record, so that it can be had as a power cut at any
//! moment would have left it. It is a file of a FUSE file system below a loop device.
//!
//! What was written before the last flush that was answered is on the disk. Of what was written
//! since, any sectors may be, in any order.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry,
    ReplyOpen, ReplyWrite, Request, WriteFlags,
};
use tempfile::TempDir;

use super::{Mounted, run, text};
use crate::support::machine::wait_until;
use crate::support::repo::{noise, scratch};

/// How much the disk holds, in bytes; the least that xfs can be made of.
const SIZE: u64 = 320 << 20;

/// What is kept or lost at once, in bytes. Disks promise no less, and btrfs asks for it.
const SECTOR: usize = 4096;

const NAME: &str = "disk";

enum Op {
    Write { at: u64, bytes: Vec<u8> },
    Flush,
}

/// What is on the disk of all that was written since the last flush.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kept {
    Nothing,
    All,
    /// Sectors drawn by this seed.
    Some(u64),
}

struct Platter {
    now: File,
    log: Mutex<Vec<Op>>,
    /// Bytes a second, if it is slow, and the sum of the time that it took.
    rate: Option<u64>,
    waited: Mutex<Duration>,
}

/// The disk, with a file system in it.
pub(super) struct Disk {
    platter: Arc<Platter>,
    /// As it was when the record began.
    base: PathBuf,
    mounted: Option<Mounted>,
    server: Option<BackgroundSession>,
    folders: [TempDir; 2],
}

impl Disk {
    /// A disk with a new file system of this kind, mounted.
    pub(super) fn new(kind: &str, rate: Option<u64>) -> Self {
        let folders = [scratch(), tempfile::tempdir().expect("a directory")];
        let [files, at] = folders.each_ref().map(TempDir::path);
        let base = files.join("base");
        File::create(&base).and_then(|file| file.set_len(SIZE)).expect("made");
        let _ = match kind {
            "ext4" => run(&["mkfs.ext4", "-q", "-F", text(&base)]),
            other => run(&[&format!("mkfs.{other}"), "-q", text(&base)]),
        };
        let copied = files.join("now");
        let _ = run(&["cp", "--sparse=always", text(&base), text(&copied)]);
        let now = OpenOptions::new().read(true).write(true).open(copied).expect("opens");
        let platter =
            Arc::new(Platter { now, log: Mutex::default(), rate, waited: Mutex::default() });
        let server = fuser::spawn_mount(Served(platter.clone()), at, &Config::default());
        let server = server.expect("FUSE works here");
        let mounted = Some(Mounted::image(&at.join(NAME)));
        Self { platter, base, mounted, server: Some(server), folders }
    }

    /// Where its file system is.
    pub(super) fn path(&self) -> &Path {
        self.mounted.as_ref().expect("it is mounted").path()
    }

    /// How much is on record by now.
    pub(super) fn position(&self) -> usize {
        self.platter.log.lock().expect("whole").len()
    }

    /// How long writers had to wait for it.
    pub(super) fn waited(&self) -> Duration {
        *self.platter.waited.lock().expect("whole")
    }

    /// Ends the record; the file system is seen no more.
    pub(super) fn stop(&mut self) {
        let Some(mounted) = self.mounted.take() else { return };
        drop(mounted);
        let used = || run(&["losetup", "--list", "--noheadings", "--output", "BACK-FILE"]);
        let file = self.folders[1].path().join(NAME);
        wait_until("the loop device is gone", || !used().contains(text(&file)));
        if let Some(server) = self.server.take() {
            let _ = server.umount_and_join();
        }
    }

    /// The positions of flushes.
    pub(super) fn flushes(&self) -> Vec<usize> {
        let log = self.platter.log.lock().expect("whole");
        log.iter().enumerate().filter(|(_, op)| matches!(op, Op::Flush)).map(|(at, _)| at).collect()
    }

    /// The disk after a cut just before `position`, in a file; gives how many sectors were lost.
    pub(super) fn after_cut(&self, position: usize, kept: Kept, to: &Path) -> usize {
        let _ = run(&["cp", "--sparse=always", text(&self.base), text(to)]);
        let file = OpenOptions::new().write(true).open(to).expect("opens");
        let log = self.platter.log.lock().expect("whole");
        let log = &log[..position];
        let flushed = log.iter().rposition(|op| matches!(op, Op::Flush)).unwrap_or(0);
        let mut lost = 0;
        for (number, op) in (0_u64..).zip(log) {
            let Op::Write { at, bytes } = op else { continue };
            for (sector, part) in (0_u64..).zip(bytes.chunks(SECTOR)) {
                let is_kept = match kept {
                    _ if number < flushed as u64 => true,
                    Kept::All => true,
                    Kept::Nothing => false,
                    Kept::Some(seed) => {
                        noise(seed ^ (number << 20) ^ sector, 1)[0].is_multiple_of(2)
                    }
                };
                match is_kept {
                    true => file.write_all_at(part, at + sector * SECTOR as u64).expect("written"),
                    false => lost += 1,
                }
            }
        }
        lost
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Served(Arc<Platter>);

impl Served {
    fn attributes(ino: INodeNo) -> FileAttr {
        let is_root = ino == INodeNo::ROOT;
        FileAttr {
            ino,
            size: if is_root { 0 } else { SIZE },
            blocks: SIZE / 512,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: if is_root { FileType::Directory } else { FileType::RegularFile },
            perm: 0o700,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

const FILE: INodeNo = INodeNo(2);
const FOR_EVER: Duration = Duration::from_secs(1 << 20);

impl Filesystem for Served {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match name == NAME {
            true => reply.entry(&FOR_EVER, &Self::attributes(FILE), Generation(0)),
            false => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&FOR_EVER, &Self::attributes(ino));
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(1), FopenFlags::FOPEN_KEEP_CACHE);
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut bytes = vec![0; size as usize];
        match self.0.now.read_at(&mut bytes, offset) {
            Ok(len) => reply.data(&bytes[..len]),
            Err(_) => reply.error(Errno::EIO),
        }
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        if let Some(rate) = self.0.rate {
            let pause = Duration::from_secs(1) * u32::try_from(data.len()).expect("small")
                / u32::try_from(rate).expect("slow");
            std::thread::sleep(pause);
            *self.0.waited.lock().expect("whole") += pause;
        } else {
            let op = Op::Write { at: offset, bytes: data.to_vec() };
            self.0.log.lock().expect("whole").push(op);
        }
        match self.0.now.write_all_at(data, offset) {
            Ok(()) => reply.written(u32::try_from(data.len()).expect("small")),
            Err(_) => reply.error(Errno::EIO),
        }
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.0.log.lock().expect("whole").push(Op::Flush);
        reply.ok();
    }
}
