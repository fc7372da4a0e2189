//! Writes the content of one file of a snapshot to a stream.

use std::io::{self, Write};

use super::error::OpsError;
use super::list::{Lookup, first_name, look_up};
use super::restore::{Piece, RestoreRun, write_content};
use crate::entry::{EntryPath, Kind};
use crate::event::Counters;
use crate::format::Item;
use crate::sink::SinkError;

/// Zeros are written in pieces of this length.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Writes the content of the file at `path` to `writer`, called `target` in messages; returns its
/// length in bytes. A further name of a file has the content of the first.
///
/// Errors: [`OpsError::NotFound`]; [`OpsError::Refused`] if it is no regular file;
/// [`SinkError::Target`] for the writer; those of reading the repository.
pub fn dump_file(
    run: &RestoreRun<'_>,
    item: &Item,
    path: &EntryPath,
    writer: &mut dyn Write,
    target: &str,
) -> Result<u64, OpsError> {
    let Lookup::Found(stored) = look_up(run.reader, item, path)? else {
        return Err(OpsError::NotFound(format!("no file `{path}` in `{}`", item.name)));
    };
    let stored = first_name(run.reader, item, stored)?;
    let Kind::File { size, .. } = stored.entry.kind else {
        return Err(OpsError::Refused(format!("`{path}` is no regular file")));
    };
    run.observer.counters().bytes_total.store(size, std::sync::atomic::Ordering::Relaxed);
    let failed = |source: io::Error| SinkError::Target { target: target.to_owned(), source };
    write_content(run, &stored.content, &mut |piece| match piece {
        Piece::Bytes(bytes) => Ok(writer.write_all(bytes).map_err(failed)?),
        Piece::Zeros(mut len) => {
            while len > 0 {
                run.interrupt.check()?;
                let step = usize::try_from(len).unwrap_or(ZEROS.len()).min(ZEROS.len());
                writer.write_all(&ZEROS[..step]).map_err(failed)?;
                len -= step as u64;
            }
            Ok(())
        }
    })?;
    writer.flush().map_err(failed)?;
    Counters::add(&run.observer.counters().entries, 1);
    Ok(size)
}
