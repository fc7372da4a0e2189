//! Writes an item as a tar stream.

use std::io::Write;

use super::read_ahead::read_ahead;
use super::selected::SelectedWalk;
use super::{RestoreReport, RestoreRun};
use crate::entry::{Extent, Kind};
use crate::event::Counters;
use crate::format::{Content, Item, PackKind};
use crate::ops::error::OpsError;
use crate::repo::{ContentWalk, RepoError};
use crate::sink::{TarWriter, TarWriterOptions};

/// Writes the selected entries of `item` to `writer` as a tar stream and returns the writer.
///
/// Errors: [`OpsError`]; the stream then has no end marker, so that nobody takes it for whole.
pub fn restore_tar<W: Write>(
    run: &RestoreRun<'_>,
    item: &Item,
    writer: W,
    options: TarWriterOptions,
) -> Result<(RestoreReport, W), OpsError> {
    let mut tar = TarWriter::new(writer, options, run.observer.clone());
    let mut walk = SelectedWalk::new(run.reader, item, run.selection.clone());
    let mut report = RestoreReport::default();
    while let Some((path, stored)) = walk.next()? {
        run.interrupt.check()?;
        let file = matches!(stored.entry.kind, Kind::File { .. }) && stored.entry.link.is_none();
        tar.entry(&path, &stored.entry)?;
        if file {
            write_content(run, &stored.content, &mut |piece| match piece {
                Piece::Bytes(bytes) => Ok(tar.content(bytes)?),
                Piece::Zeros(len) => Ok(tar.zeros(len)?),
            })?;
        }
        report.entries += 1;
        report.bytes = report.bytes.saturating_add(stored.entry.content_len());
        Counters::add(&run.observer.counters().entries, 1);
    }
    Ok((report, tar.finish()?))
}

/// A piece of a file on its way to a stream.
pub(crate) enum Piece<'a> {
    /// Content.
    Bytes(&'a [u8]),
    /// So many zeros.
    Zeros(u64),
}

/// Hands the content of a file on, in order; of a long one the next parts are read meanwhile.
pub(crate) fn write_content(
    run: &RestoreRun<'_>,
    content: &Content,
    write: &mut dyn FnMut(Piece<'_>) -> Result<(), OpsError>,
) -> Result<(), OpsError> {
    if let Content::Nodes(_) = content {
        return read_ahead(run, content, write);
    }
    let mut extents = ContentWalk::new(run.reader, content);
    while let Some(extent) = extents.next()? {
        run.interrupt.check()?;
        Counters::add(&run.observer.counters().bytes, extent.len());
        match extent {
            Extent::Chunk(id, len) => {
                let bytes = run.reader.read(PackKind::Data, &id)?;
                if bytes.len() != len as usize {
                    let why = "has another length than its file says".to_owned();
                    return Err(RepoError::Chunk { id, why }.into());
                }
                write(Piece::Bytes(&bytes))?;
            }
            Extent::Zeros(len) => write(Piece::Zeros(len))?,
        }
    }
    Ok(())
}
