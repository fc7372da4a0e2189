//! Which index segments go with the packs, and small segments that are merged into one.

use std::collections::{BTreeSet, HashSet};

use super::super::error::RepoError;
use super::super::layout;
use super::super::repository::Repository;
use super::super::segment_draft::SegmentDraft;
use super::not_collected;
use super::view::View;
use crate::id::{PackId, SegmentId};

/// Segments below this size are small, in bytes.
const SMALL: u64 = 256 << 10;

/// So many small segments are borne before they are merged.
const SMALL_MAX: usize = 24;

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
    let inventory = &view.inventory;
    let counts = |id: &&SegmentId| {
        !view.condemned_segments.contains(*id) && !inventory.superseded.contains(*id)
    };
    let named: HashSet<&PackId> = inventory
        .contents
        .iter()
        .filter(|(id, _)| counts(id))
        .flat_map(|(_, (_, packs))| packs)
        .collect();
    for id in &inventory.superseded {
        // One that can be read after all goes once others name what it names.
        let packs = inventory.contents.get(id).map(|(_, packs)| packs);
        if packs.is_none_or(|packs| packs.iter().all(|pack| !stays(pack) || named.contains(pack))) {
            choice.free.push(*id);
        }
    }
    for (id, (size, packs)) in inventory.contents.iter().filter(|(id, _)| counts(id)) {
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
    let mut merged = SegmentDraft::default();
    let mut stored = 0;
    let mut named = BTreeSet::new();
    for id in merge {
        let record = repo.read_segment(id).map_err(|error| match error.is_damage() {
            true => not_collected(&layout::segment(id))(error),
            false => error,
        })?;
        for pack in record.packs {
            if stays(&pack.id) && named.insert(pack.id) {
                // Decoding has checked that the seal is there.
                let seal = &record.seals[pack.seal];
                merged.add(pack, seal);
            }
        }
        if merged.is_full() {
            stored += std::mem::take(&mut merged).put(repo)?;
        }
    }
    Ok(stored + merged.put(repo)?)
}
