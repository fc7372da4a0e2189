//! The directories between the root and where the walk is, with the names still to visit.
//!
//! Floor 5, used by the directory source only. A directory is only ever reached from its parent's
//! descriptor and without following a symbolic link, so the walk cannot leave the root. At most
//! [`OPEN_MAX`] descriptors are open: upper directories are closed on the way down and opened again
//! on the way up, when they must still be the same inodes.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, RawDir, openat};
use rustix::io::{Errno, retry_on_intr};

use super::Found;
use super::stat::Stat;

/// Most directories open at a time, the root among them.
pub(super) const OPEN_MAX: usize = 64;

/// Bytes of names asked of the system at once.
const NAMES_LEN: usize = 64 << 10;

const OPEN_FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC)
    .union(OFlags::NONBLOCK);

/// Why a directory cannot be walked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lost {
    /// It is gone, or something else has its name.
    Replaced,
    /// The system refuses.
    System(Errno),
}

impl From<Errno> for Lost {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::STALE => Self::Replaced,
            errno => Self::System(errno),
        }
    }
}

/// The names in a directory, without `.` and `..`, each ended by NUL.
#[derive(Debug, Default)]
struct Names {
    bytes: Vec<u8>,
    /// Where each begins, in byte order of the names.
    starts: Vec<usize>,
}

impl Names {
    /// Reads all names; after an error, those read before it.
    fn read(fd: BorrowedFd<'_>, buffer: &mut Vec<u8>) -> (Self, Result<(), Errno>) {
        buffer.clear();
        buffer.reserve(NAMES_LEN);
        let mut names = Self::default();
        let mut entries = RawDir::new(fd, buffer.spare_capacity_mut());
        let outcome = loop {
            match entries.next() {
                None => break Ok(()),
                Some(Err(Errno::INTR)) => {}
                Some(Err(error)) => break Err(error),
                Some(Ok(entry)) if [c".", c".."].contains(&entry.file_name()) => {}
                Some(Ok(entry)) => {
                    names.starts.push(names.bytes.len());
                    names.bytes.extend_from_slice(entry.file_name().to_bytes_with_nul());
                }
            }
        };
        let bytes = &names.bytes;
        names.starts.sort_unstable_by_key(|start| name_at(bytes, *start));
        // A directory that changes while it is read may show a name twice.
        names.starts.dedup_by_key(|start| name_at(bytes, *start));
        (names, outcome)
    }

    fn get(&self, index: usize) -> Option<&CStr> {
        self.starts.get(index).map(|start| name_at(&self.bytes, *start))
    }
}

fn name_at(bytes: &[u8], start: usize) -> &CStr {
    CStr::from_bytes_until_nul(&bytes[start..]).unwrap_or_default()
}

/// One directory on the way down.
#[derive(Debug)]
struct Frame {
    /// Its name in the frame above; empty for the root.
    name: CString,
    /// None while it is closed.
    fd: Option<OwnedFd>,
    stat: Stat,
    names: Names,
    /// Index of the name to visit next.
    next: usize,
    /// The directory itself, if it is to be yielded only once something below it is.
    pending: Option<Found>,
}

/// The way from the root to the directory whose names are being visited.
#[derive(Debug)]
pub(super) struct Walk {
    /// Never empty; the root stays open.
    frames: Vec<Frame>,
    /// All frames from here on are open; at least 1.
    open_from: usize,
    buffer: Vec<u8>,
}

impl Walk {
    /// Opens the root and reads its names; `path` itself may be a symbolic link.
    pub(super) fn open(path: &std::path::Path) -> Result<Self, Errno> {
        let fd = open_quietly(CWD, path, OPEN_FLAGS.difference(OFlags::NOFOLLOW))?;
        let stat = Stat::of(fd.as_fd())?;
        let mut buffer = Vec::new();
        let (names, outcome) = Names::read(fd.as_fd(), &mut buffer);
        outcome?;
        let name = CString::default();
        let frame = Frame { name, fd: Some(fd), stat, names, next: 0, pending: None };
        Ok(Self { frames: vec![frame], open_from: 1, buffer })
    }

    /// What the root is.
    pub(super) fn root(&self) -> &Stat {
        &self.frames[0].stat
    }

    /// The root, open.
    pub(super) fn root_fd(&self) -> Option<BorrowedFd<'_>> {
        self.frames[0].fd.as_ref().map(AsFd::as_fd)
    }

    /// Goes on to the next name of the present directory; says whether there is one.
    pub(super) fn advance(&mut self) -> bool {
        match self.frames.last_mut() {
            Some(frame) if frame.next < frame.names.starts.len() => {
                frame.next += 1;
                true
            }
            _ => false,
        }
    }

    /// The name last gone on to, and the directory it is in, which must be open.
    pub(super) fn place(&self) -> Result<(BorrowedFd<'_>, &CStr), Lost> {
        let frame = self.frames.last().ok_or(Lost::Replaced)?;
        let fd = frame.fd.as_ref().ok_or(Lost::Replaced)?;
        let index = frame.next.checked_sub(1).ok_or(Lost::Replaced)?;
        Ok((fd.as_fd(), frame.names.get(index).ok_or(Lost::Replaced)?))
    }

    /// Opens the present directory again if it was closed meanwhile.
    pub(super) fn reopen(&mut self) -> Result<(), Lost> {
        let top = self.frames.len() - 1;
        if top == 0 || top >= self.open_from {
            return Ok(());
        }
        let keep_from = top.saturating_sub(OPEN_MAX - 2).max(1);
        let root = self.frames[0].fd.as_ref().ok_or(Lost::Replaced)?;
        let mut kept: Vec<OwnedFd> = Vec::with_capacity(OPEN_MAX);
        let mut above: Option<OwnedFd> = None;
        for (at, frame) in self.frames.iter().enumerate().skip(1) {
            let dir = kept.last().or(above.as_ref()).unwrap_or(root);
            let fd = retry_on_intr(|| openat(dir, &frame.name, OPEN_FLAGS, Mode::empty()))?;
            if at < keep_from {
                above = Some(fd);
                continue;
            }
            let found = Stat::of(fd.as_fd())?;
            if !found.is_same(&frame.stat) || found.mount != frame.stat.mount {
                return Err(Lost::Replaced);
            }
            kept.push(fd);
        }
        for (frame, fd) in self.frames[keep_from..].iter_mut().zip(kept) {
            frame.fd = Some(fd);
        }
        self.open_from = keep_from;
        Ok(())
    }

    /// Enters the directory at [`Walk::place`], which was `stat` when it was found. An error while
    /// its names are read is given back, with the walk in it and at the names before the error.
    pub(super) fn enter(
        &mut self,
        stat: &Stat,
        pending: Option<Found>,
    ) -> Result<Result<(), Errno>, Lost> {
        let (dir, name) = self.place()?;
        let fd = open_quietly(dir, name, OPEN_FLAGS)?;
        let opened = Stat::of(fd.as_fd())?;
        if !opened.is_same(stat) || opened.mount != stat.mount {
            return Err(Lost::Replaced);
        }
        let name = name.to_owned();
        let (names, outcome) = Names::read(fd.as_fd(), &mut self.buffer);
        self.frames.push(Frame { name, fd: Some(fd), stat: opened, names, next: 0, pending });
        if self.frames.len() - self.open_from >= OPEN_MAX {
            self.frames[self.open_from].fd = None;
            self.open_from += 1;
        }
        Ok(outcome)
    }

    /// Goes back to the directory above; says whether there is one.
    pub(super) fn leave(&mut self) -> bool {
        if self.frames.len() == 1 {
            return false;
        }
        let _ = self.frames.pop();
        true
    }

    /// Takes what must be yielded before anything in the present directory, uppermost first.
    pub(super) fn take_pending(&mut self) -> Vec<Found> {
        // Once one is taken all above it are, so those left are the innermost.
        let mut taken: Vec<_> =
            self.frames.iter_mut().rev().map_while(|frame| frame.pending.take()).collect();
        taken.reverse();
        taken
    }
}

#[cfg(test)]
impl Walk {
    pub(super) fn open_count(&self) -> usize {
        self.frames.iter().filter(|frame| frame.fd.is_some()).count()
    }
}

/// Opens without marking the access where the system lets this user.
pub(super) fn open_quietly<P: rustix::path::Arg + Copy>(
    dir: BorrowedFd<'_>,
    name: P,
    flags: OFlags,
) -> Result<OwnedFd, Errno> {
    let open = |flags| retry_on_intr(|| openat(dir, name, flags, Mode::empty()));
    match open(flags | OFlags::NOATIME) {
        Err(Errno::PERM) => open(flags),
        opened => opened,
    }
}
