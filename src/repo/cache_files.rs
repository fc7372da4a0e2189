//! Files of the cache directory: for the eyes of their owner only, and never needed.
//!
//! Whatever goes wrong with them, a full disk included, is no failure of the work at hand.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;

use crate::crypto::fresh_salt;
use crate::id::hex;

/// What files are called until they are whole; killed runs leave them behind.
const TEMPORARY: &str = "tmp-";

/// Makes a directory, and those above it, that nobody else can look into.
pub(super) fn make_private_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Makes a file that must not be there yet.
pub(super) fn create_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// Opens a file to read and touch it. Whatever somebody put there that is no file is an error, and
/// nothing is followed or waited for.
pub(super) fn open_private(path: &Path) -> io::Result<File> {
    regular(OpenOptions::new().read(true).custom_flags(careful()).open(path)?)
}

/// Opens a file to write in it, as [`open_private`] does; makes it if it is not there.
pub(super) fn open_or_create_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(false).mode(0o600);
    regular(options.custom_flags(careful()).open(path)?)
}

fn careful() -> i32 {
    (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed()
}

fn regular(file: File) -> io::Result<File> {
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("is no file")),
    }
}

/// What a file holds; none if it cannot be read or is longer than `len_max` bytes.
pub(super) fn read_private(path: &Path, len_max: u64) -> Option<Vec<u8>> {
    let file = open_private(path).ok()?;
    let mut bytes = Vec::new();
    let len = file.take(len_max + 1).read_to_end(&mut bytes).ok()?;
    (len as u64 <= len_max).then_some(bytes)
}

/// Writes a file that appears whole or not at all, in a directory that is there.
///
/// It is not flushed: what a crash leaves of it does not open, and is no worse than none.
pub(super) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let salt = fresh_salt().map_err(io::Error::other)?;
    let temporary = path.with_file_name(format!("{TEMPORARY}{}", hex(&salt[..8])));
    let written = create_private(&temporary)
        .and_then(|mut file| file.write_all(bytes))
        .and_then(|()| std::fs::rename(&temporary, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

/// Whether a file is one that [`write_private`] was about to write.
pub(super) fn is_temporary(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.starts_with(TEMPORARY))
}
