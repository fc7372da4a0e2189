//! An index segment in the making, of packs that were stored before.

use std::collections::HashMap;

use super::error::RepoError;
use super::index::segment_id;
use super::layout;
use super::repository::Repository;
use crate::crypto::RunSeal;
use crate::format::{ObjectKind, SegmentPack, SegmentRecord};
use crate::id::SegmentId;

/// A segment is closed at so many packs, or about so many bytes.
const PACKS_FULL: usize = 4096;
const BYTES_FULL: u64 = 8 << 20;

/// What a segment will say.
#[derive(Debug, Default)]
pub(super) struct SegmentDraft {
    record: SegmentRecord,
    seals: HashMap<RunSeal, usize>,
    bytes: u64,
}

impl SegmentDraft {
    /// Adds a pack and the seal of its run; which seal it is in the segment is found here.
    pub(super) fn add(&mut self, pack: SegmentPack, seal: &RunSeal) {
        let number = *self.seals.entry(seal.clone()).or_insert_with(|| {
            self.record.seals.push(seal.clone());
            self.record.seals.len() - 1
        });
        let chunks = pack.directory.frames.iter().map(|frame| frame.chunks.len() as u64);
        self.bytes += chunks.sum::<u64>() * 18;
        self.record.packs.push(SegmentPack { seal: number, ..pack });
    }

    /// Lets it stand for other segments.
    pub(super) fn supersede(&mut self, segments: impl IntoIterator<Item = SegmentId>) {
        self.record.supersedes.extend(segments);
    }

    /// Whether it should be stored before more is added.
    pub(super) fn is_full(&self) -> bool {
        self.record.packs.len() >= PACKS_FULL || self.bytes >= BYTES_FULL
    }

    /// Whether it would say nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.record.packs.is_empty() && self.record.supersedes.is_empty()
    }

    /// Stores it, if it says anything; gives its bytes.
    ///
    /// Errors: of the store.
    pub(super) fn put(self, repo: &Repository) -> Result<u64, RepoError> {
        if self.is_empty() {
            return Ok(0);
        }
        let payload = repo.seal_signed(ObjectKind::Segment, &self.record.encode())?;
        let id = segment_id(&payload.to_vec());
        repo.store().put(&layout::segment(&id), &payload)?;
        Ok(payload.len())
    }
}
