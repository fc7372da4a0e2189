//! Reads whole objects and ranges of them from open files.
//!
//! A read that fails with EIO is tried once more: disks recover, and a hash above tells the rest.

use rustix::buffer::spare_capacity;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::{Errno, pread, retry_on_intr};

use crate::crypto::Payload;

/// How many bytes are compared at a time.
const COMPARED: usize = 128 * 1024;

/// Opens a regular file; anything else counts as missing, and is not even opened.
pub(super) fn open(folder: impl AsFd, base: &str) -> Result<OwnedFd, Errno> {
    let stat = rustix::fs::statat(folder.as_fd(), base, AtFlags::SYMLINK_NOFOLLOW)?;
    if !FileType::from_raw_mode(stat.st_mode).is_file() {
        return Err(Errno::NOENT);
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    retry_on_intr(|| rustix::fs::openat(folder.as_fd(), base, flags, Mode::empty()))
}

/// Size of an open file in bytes.
pub(super) fn size(file: &OwnedFd) -> Result<u64, Errno> {
    Ok(u64::try_from(rustix::fs::fstat(file)?.st_size).unwrap_or(0))
}

/// Reads a file that is `size` bytes long.
///
/// Errors: `NOMEM` where no buffer of that size can be had; `IO` where the file is shorter.
pub(super) fn whole(file: &OwnedFd, size: u64) -> Result<Vec<u8>, Errno> {
    let len = usize::try_from(size).map_err(|_| Errno::NOMEM)?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len).map_err(|_| Errno::NOMEM)?;
    while bytes.len() < len {
        let at = bytes.len() as u64;
        if steady(|| pread(file, spare_capacity(&mut bytes), at))? == 0 {
            return Err(Errno::IO);
        }
    }
    bytes.truncate(len);
    Ok(bytes)
}

/// Fills `buffer` from `offset` on; says whether the file reaches that far.
pub(super) fn range(file: &OwnedFd, offset: u64, buffer: &mut [u8]) -> Result<bool, Errno> {
    let end = offset.checked_add(buffer.len() as u64);
    if end.is_none_or(|end| i64::try_from(end).is_err()) {
        return Ok(false);
    }
    if buffer.is_empty() {
        return Ok(offset <= size(file)?);
    }
    let mut done = 0;
    while done < buffer.len() {
        match steady(|| pread(file, &mut buffer[done..], offset + done as u64))? {
            0 => return Ok(false),
            more => done += more,
        }
    }
    Ok(true)
}

/// Whether a file holds exactly the bytes of `payload`.
pub(super) fn equals(file: &OwnedFd, payload: &Payload) -> Result<bool, Errno> {
    if size(file)? != payload.len() {
        return Ok(false);
    }
    let mut buffer = vec![0; COMPARED];
    let mut offset = 0;
    for piece in payload.parts().iter().flat_map(|part| part.chunks(COMPARED)) {
        let stored = &mut buffer[..piece.len()];
        if !range(file, offset, stored)? || stored != piece {
            return Ok(false);
        }
        offset += piece.len() as u64;
    }
    Ok(true)
}

fn steady<T>(mut read: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    match retry_on_intr(&mut read) {
        Err(Errno::IO) => retry_on_intr(read),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_eio_is_read_over_and_two_are_an_error() {
        let mut answers = vec![Ok(7), Err(Errno::INTR), Err(Errno::IO), Err(Errno::INTR)];
        assert_eq!(steady(|| answers.pop().expect("asked too often")), Ok(7));
        let mut answers = vec![Ok(7), Err(Errno::IO), Err(Errno::IO)];
        assert_eq!(steady(|| answers.pop().expect("asked too often")), Err(Errno::IO));
    }
}
