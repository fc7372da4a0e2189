//! Which index segments go with the packs, and small segments that are merged into one.

use std::collections::{BTreeSet, HashMap};

use super::super::error::RepoError;
use super::super::index::segment_id;
use super::super::layout;
use super::super::repository::Repository;
use super::not_collected;
use super::view::View;
use crate::crypto::RunSeal;
use crate::format::{ObjectKind, SegmentPack, SegmentRecord};
use crate::id::{PackId, SegmentId};

/// Segments below this size are small, in bytes.
const SMALL: u64 = 256 << 10;

/// So many small segments are borne before they are merged.
const SMALL_MAX: usize = 24;

/// A merged segment is closed at so many packs, or so many bytes of what it was made of.
const MERGED_PACKS: usize = 4096;
const MERGED_BYTES: u64 = 8 << 20;

/// What is to happen to segments.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SegmentChoice {
    /// Nothing they name stays.
    pub(super) free: Vec<SegmentId>,
    /// What of them stays is named anew first.
    pub(super) merge: Vec<SegmentId>,
}

/// Chooses among the segments that no record condemns. `stays` says whether a pack is listed and
/// neither condemned nor about to be; `young` whether a backup that made it may be under way.
pub(super) fn choose_segments(
    view: &View,
    stays: impl Fn(&PackId) -> bool,
    young: impl Fn(&PackId) -> bool,
) -> SegmentChoice {
    let mut choice = SegmentChoice::default();
    for (id, (size, packs)) in &view.inventory.contents {
        if view.condemned_segments.contains(id) {
            continue;
        }
        if !packs.iter().any(&stays) {
            choice.free.push(*id);
        } else if *size < SMALL && !packs.iter().any(&young) {
            choice.merge.push(*id);
        }
    }
    if choice.merge.len() <= SMALL_MAX {
        choice.merge.clear();
    }
    choice
}

/// Stores segments that name what stays of the packs in `merge`; gives their bytes.
///
/// They supersede nothing by name: what was condemned and spared stays known through the old ones.
pub(super) fn merge_segments(
    repo: &Repository,
    merge: &[SegmentId],
    stays: impl Fn(&PackId) -> bool,
) -> Result<u64, RepoError> {
    let mut merged = Merged::default();
    let mut stored = 0;
    let mut named = BTreeSet::new();
    for id in merge {
        let record = repo.read_segment(id).map_err(|error| match error.is_damage() {
            true => not_collected(&layout::segment(id))(error),
            false => error,
        })?;
        for pack in record.packs {
            if stays(&pack.id) && named.insert(pack.id) {
                merged.add(pack, &record.seals);
            }
        }
        if merged.record.packs.len() >= MERGED_PACKS || merged.bytes >= MERGED_BYTES {
            stored += std::mem::take(&mut merged).put(repo)?;
        }
    }
    Ok(stored + merged.put(repo)?)
}

#[derive(Default)]
struct Merged {
    record: SegmentRecord,
    seals: HashMap<RunSeal, usize>,
    bytes: u64,
}

impl Merged {
    fn add(&mut self, pack: SegmentPack, seals: &[RunSeal]) {
        // Decoding has checked that the seal is there.
        let seal = &seals[pack.seal];
        let number = *self.seals.entry(seal.clone()).or_insert_with(|| {
            self.record.seals.push(seal.clone());
            self.record.seals.len() - 1
        });
        let chunks = pack.directory.frames.iter().map(|frame| frame.chunks.len() as u64);
        self.bytes += chunks.sum::<u64>() * 18;
        self.record.packs.push(SegmentPack { seal: number, ..pack });
    }

    fn put(self, repo: &Repository) -> Result<u64, RepoError> {
        if self.record.packs.is_empty() {
            return Ok(0);
        }
        let payload = repo.seal_signed(ObjectKind::Segment, &self.record.encode())?;
        let id = segment_id(&payload.to_vec());
        repo.store().put(&layout::segment(&id), &payload)?;
        Ok(payload.len())
    }
}
