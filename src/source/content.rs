//! The content of one regular file.
//!
//! Floor 5, used by the directory source only. What is read never goes past the size the file had
//! when it was opened, so a file that grows for ever comes to an end.

use std::ffi::CStr;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Advice, OFlags, SeekFrom, fadvise, seek};
use rustix::io::{Errno, pread, retry_on_intr};

use super::stat::Stat;
use super::walk::open_quietly;
use super::{ReadError, Run};
use crate::clock::Time;

/// From this size on the kernel is told that the file is read through, in bytes.
const ADVISE_LEN_MIN: u64 = 1 << 20;

const OPEN_FLAGS: OFlags =
    OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::NONBLOCK);

/// An open file, and how far it was read.
#[derive(Debug)]
pub(super) struct Content {
    fd: OwnedFd,
    /// As it was right after it was opened.
    pub(super) opened: Stat,
    /// When it was opened: no later write can bear an earlier ctime.
    pub(super) opened_at: Time,
    position: u64,
    end: u64,
    /// Up to here there is data; beyond, holes must be looked for.
    data_end: u64,
}

impl Content {
    /// Opens `name` in `dir` if it still is the file that was found.
    pub(super) fn open(
        dir: BorrowedFd<'_>,
        name: &CStr,
        found: &Stat,
        now: Time,
    ) -> Result<Self, ReadError> {
        let fd = open_quietly(dir, name, OPEN_FLAGS).map_err(|error| match error {
            Errno::NOENT => lost("vanished before it was read", None),
            Errno::LOOP | Errno::NXIO => lost("was replaced before it was read", None),
            error => lost("cannot be opened", Some(error)),
        })?;
        let opened = Stat::of(fd.as_fd()).map_err(|e| lost("cannot be examined", Some(e)))?;
        if !opened.is_file() || !opened.is_same(found) || opened.mount != found.mount {
            return Err(lost("was replaced before it was read", None));
        }
        let end = opened.size;
        if let Some(len) = NonZeroU64::new(end).filter(|len| len.get() >= ADVISE_LEN_MIN) {
            // Advice only: without it the file is read all the same.
            let _ = fadvise(&fd, 0, Some(len), Advice::Sequential);
        }
        let data_end = if opened.is_sparse() { 0 } else { end };
        Ok(Self { fd, opened, opened_at: now, position: 0, end, data_end })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// How many bytes were read, holes included.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Reads on: the buffer is filled unless the file or its data ends before that.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<Run, ReadError> {
        debug_assert!(!buffer.is_empty(), "no progress without space");
        if self.position >= self.data_end && self.position < self.end {
            let hole = self.skip_hole().map_err(|e| lost("cannot be read", Some(e)))?;
            if hole > 0 {
                return Ok(Run::Hole(hole));
            }
        }
        let left = self.data_end.min(self.end).saturating_sub(self.position);
        let want = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let mut filled = 0;
        while filled < want {
            let space = &mut buffer[filled..want];
            let at = self.position;
            match retry_on_intr(|| pread(&self.fd, &mut *space, at)) {
                Ok(0) => {
                    // It became shorter; what is there is its content.
                    self.end = self.position;
                    break;
                }
                Ok(len) => {
                    filled += len;
                    self.position += len as u64;
                }
                Err(error) => return Err(lost("cannot be read", Some(error))),
            }
        }
        Ok(if filled == 0 { Run::End } else { Run::Data(filled) })
    }

    /// Moves past the hole at the present position and notes where the data behind it ends. Gives
    /// the length of the hole.
    fn skip_hole(&mut self) -> Result<u64, Errno> {
        let start = self.position;
        match seek(&self.fd, SeekFrom::Data(start)) {
            Ok(data) => self.position = data.clamp(start, self.end),
            Err(Errno::NXIO) => {
                // No data up to the end, which may have come closer meanwhile.
                let size = Stat::of(self.fd.as_fd())?.size;
                self.end = self.end.min(size).max(start);
                self.position = self.end;
            }
            // This file system does not know about holes.
            Err(Errno::INVAL | Errno::NOTSUP) => self.data_end = self.end,
            Err(error) => return Err(error),
        }
        if self.position < self.end && self.data_end < self.end {
            self.data_end = match seek(&self.fd, SeekFrom::Hole(self.position)) {
                Ok(hole) if hole > self.position => hole.min(self.end),
                // Punched or cut off since: what is read there decides.
                Ok(_) | Err(Errno::NXIO) => self.end,
                Err(error) => return Err(error),
            };
        }
        Ok(self.position - start)
    }
}

/// The failure of one file.
pub(super) fn lost(what: &str, error: Option<Errno>) -> ReadError {
    ReadError::Entry(what.to_owned(), error.map(Into::into))
}
