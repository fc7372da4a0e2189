//! A regular file while its content is brought back.
//!
//! Made by `Directory`. Content comes in any order and from several threads; metadata comes last.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::handle::Handle;
use super::target::Target;
use super::{SinkError, SinkFile};
use crate::entry::{Entry, EntryPath};

/// Zero runs that fill a block of this size are worth a hole: the block of common file systems.
const BLOCK_LEN: usize = 4096;

/// From this size on, in bytes, a file gets its blocks before its content.
const ALLOCATE_LEN_MIN: u64 = 1 << 20;

static ZEROS: [u8; BLOCK_LEN] = [0; BLOCK_LEN];

/// What becomes of zero blocks in a file's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holes {
    /// They are written like all content.
    Fill,
    /// They become holes: the file was sparse.
    Make,
}

impl Holes {
    /// For a file that was sparse or not.
    #[must_use]
    pub const fn of(sparse: bool) -> Self {
        if sparse { Self::Make } else { Self::Fill }
    }
}

/// How zero blocks are treated, given what the file held before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Zeros {
    /// Written.
    Write,
    /// Left out: nothing else was ever there.
    Skip,
    /// Deallocated: something else may have been there.
    Punch,
}

/// A file open for writing. Dropping it only closes it: it may be opened again.
#[derive(Debug)]
pub struct File {
    fd: OwnedFd,
    path: EntryPath,
    target: Arc<Target>,
    zeros: Zeros,
    /// Size in bytes; beyond it, zeros must be written to count.
    size: AtomicU64,
    links: u64,
}

impl File {
    pub(super) fn new(
        fd: OwnedFd,
        path: EntryPath,
        target: Arc<Target>,
        zeros: Zeros,
        (size, links): (u64, u64),
    ) -> Self {
        Self { fd, path, target, zeros, size: AtomicU64::new(size), links }
    }

    /// Gives a new file its size or its blocks, so that a full disk is found before the content is
    /// fetched. In memory making blocks would cost as much as the writing; room is only looked for.
    pub(super) fn reserve(&self, size: u64) -> Result<(), SinkError> {
        if self.zeros == Zeros::Skip {
            return self.set_size(size);
        }
        if size < ALLOCATE_LEN_MIN {
            return Ok(());
        }
        if self.target.in_memory {
            return self.target.has_room(size).map_err(|error| self.failed(error));
        }
        match self.allocate(FallocateFlags::empty(), 0, size) {
            Ok(()) => self.size.store(size, Ordering::Release),
            // It would only have been an early warning.
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {}
            Err(error) => return Err(self.failed(error.into())),
        }
        Ok(())
    }

    fn set_size(&self, len: u64) -> Result<(), SinkError> {
        rustix::fs::ftruncate(&self.fd, len).map_err(|error| self.failed(error.into()))?;
        self.size.store(len, Ordering::Release);
        Ok(())
    }

    fn write_runs(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        // Beyond the size a hole would have to be made by extending the file.
        let end = end_of(offset, data.len() as u64)?;
        if self.zeros == Zeros::Write || end > self.size.load(Ordering::Acquire) {
            return self.write_all(offset, data);
        }
        let (mut run, mut at) = (0, 0);
        while at < data.len() {
            let block = at + block_left(offset + at as u64).min(data.len() - at);
            // A part of a block may be left out as well as a whole one: its other part comes with
            // other data, or is zero too.
            if data[at..block] == ZEROS[..block - at] {
                self.write_all(offset + run as u64, &data[run..at])?;
                let zeros_from = at;
                at = block;
                while at < data.len() {
                    let next = at + BLOCK_LEN.min(data.len() - at);
                    if data[at..next] != ZEROS[..next - at] {
                        break;
                    }
                    at = next;
                }
                if self.zeros == Zeros::Punch {
                    self.make_hole(offset + zeros_from as u64, (at - zeros_from) as u64)?;
                }
                run = at;
            } else {
                at = block;
            }
        }
        self.write_all(offset + run as u64, &data[run..])
    }

    fn write_all(&self, mut offset: u64, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            match rustix::io::pwrite(&self.fd, data, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(len) => {
                    data = &data[len..];
                    offset += len as u64;
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn make_hole(&self, offset: u64, len: u64) -> io::Result<()> {
        let end = end_of(offset, len)?;
        if len == 0 {
            return Ok(());
        }
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        // Only whole blocks are given back: the last one ends behind the file.
        let is_end = end >= self.size.load(Ordering::Acquire);
        let punched = if is_end { len.saturating_add(BLOCK_LEN as u64) } else { len };
        match self.allocate(flags, offset, punched) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
            done => return Ok(done?),
        }
        let mut at = offset;
        while at < end {
            let len = block_left(at).min(usize::try_from(end - at).unwrap_or(BLOCK_LEN));
            self.write_all(at, &ZEROS[..len])?;
            at += len as u64;
        }
        Ok(())
    }

    fn allocate(&self, flags: FallocateFlags, offset: u64, len: u64) -> Result<(), Errno> {
        loop {
            match rustix::fs::fallocate(&self.fd, flags, offset, len) {
                Err(Errno::INTR) => {}
                done => return done,
            }
        }
    }

    fn failed(&self, error: io::Error) -> SinkError {
        self.target.failed(&self.path, error)
    }
}

impl SinkFile for File {
    /// How many names the file had when it was opened. Who patches a file that was there before
    /// must know all of them: others may lie outside the target.
    fn links(&self) -> u64 {
        self.links
    }

    /// Writes `data` at `offset` bytes.
    ///
    /// Errors: `Target` if nothing more can be written at all, else `Entry`.
    fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), SinkError> {
        self.write_runs(offset, data).map_err(|error| self.failed(error))
    }

    /// Makes `len` bytes from `offset` zero and gives their blocks back, where the file system can.
    /// The range must lie within the file's size.
    ///
    /// Errors: as for [`File::write_at`].
    fn punch(&self, offset: u64, len: u64) -> Result<(), SinkError> {
        self.make_hole(offset, len).map_err(|error| self.failed(error))
    }

    /// Cuts the file off, or extends it by a hole, at `len` bytes.
    ///
    /// Errors: as for [`File::write_at`].
    fn truncate(&self, len: u64) -> Result<(), SinkError> {
        self.set_size(len)
    }

    /// Sets the metadata and closes the file. What cannot be set is reported to the observer.
    ///
    /// Errors: `Target` if nothing more can be written at all.
    fn finish(self: Box<Self>, entry: &Entry) -> Result<(), SinkError> {
        let before = self.target.before();
        self.target.apply(Handle::Open(self.fd.as_fd()), before, entry, &self.path)
    }
}

/// Bytes from `offset` to the next border of a block.
fn block_left(offset: u64) -> usize {
    let past = offset % BLOCK_LEN as u64;
    BLOCK_LEN - usize::try_from(past).unwrap_or(0)
}

/// Errors: where no file can reach, such as damaged offsets give.
fn end_of(offset: u64, len: u64) -> io::Result<u64> {
    let end = offset.checked_add(len).filter(|end| i64::try_from(*end).is_ok());
    end.ok_or_else(|| Errno::FBIG.into())
}
