//! Reads chunks at their places, each frame once, and hashes them.

use std::sync::Arc;

use super::super::chunk_reader::ChunkReader;
use super::super::error::RepoError;
use super::super::index::{Index, PackRef, Place};
use super::super::layout;
use super::super::repository::Repository;
use super::{Stop, not_collected};
use crate::format::{FormatError, OpenedFrame, PackKind};
use crate::id::{ChunkId, ChunkPrefix};

/// A chunk at one of the places that segments name for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct ChunkCopy {
    pub(super) prefix: ChunkPrefix,
    pub(super) place: Place,
}

/// Calls `each` with every chunk that `copies` name, in the order of their places.
///
/// Of a frame that is damaged, or has other content there, `damaged` is told, as
/// [`RepoError::NotCollected`] for its pack, and the rest of the frame is passed over.
///
/// Errors: those of `each` and of `damaged`; of the store.
pub(super) fn read_copies(
    repo: &Arc<Repository>,
    index: &Arc<Index>,
    mut copies: Vec<ChunkCopy>,
    stop: Stop<'_>,
    mut each: impl FnMut(PackKind, ChunkId, &[u8]) -> Result<(), RepoError>,
    mut damaged: impl FnMut(PackRef, RepoError) -> Result<(), RepoError>,
) -> Result<(), RepoError> {
    // Each frame is opened once, so none need be kept.
    let reader = ChunkReader::new(repo, index, 0);
    let mut opened = OpenedFrame::default();
    let frame = |copy: &ChunkCopy| (copy.place.pack, copy.place.frame_offset);
    copies.sort_unstable_by_key(|copy| (frame(copy), copy.place.offset));
    for copies in copies.chunk_by(|a, b| frame(a) == frame(b)) {
        stop()?;
        let Some(first) = copies.first() else { continue };
        let pack = index.pack(first.place.pack);
        let mut blame = |error: RepoError| match error.is_damage() {
            true => damaged(first.place.pack, not_collected(&layout::pack(&pack.id))(error)),
            false => Err(error),
        };
        if let Err(error) = reader.open_frame(&first.place, &mut opened) {
            blame(error)?;
            continue;
        }
        for ChunkCopy { prefix, place } in copies {
            let start = place.offset as usize;
            let bytes = opened.content().get(start..start.saturating_add(place.len as usize));
            let named = bytes.map(|bytes| (bytes, repo.chunk_id(pack.kind, bytes)));
            let Some((bytes, id)) = named.filter(|(_, id)| id.prefix() == *prefix) else {
                let why = format!("chunk {} has other content than its name", prefix.short());
                blame(FormatError::damaged("pack", why).into())?;
                break;
            };
            each(pack.kind, id, bytes)?;
        }
    }
    Ok(())
}
