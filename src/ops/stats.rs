//! Stats: what the repository holds, and what storing it in this way saves.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::error::{Interrupt, OpsError};
use super::series::Series;
use crate::format::{Item, PackKind};
use crate::id::ChunkPrefix;
use crate::repo::{ChunkReader, Index, PackInfo, PackRef, Repository, SnapshotList, reach};

/// Opened frames of trees that are kept, in bytes.
const TREE_CACHE: usize = 32 << 20;

/// Objects of a kind and their bytes as they are stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// How many.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Different chunks, their bytes before compression.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Chunks {
    /// How many.
    pub chunks: u64,
    /// Their bytes before compression.
    pub bytes: u64,
    /// Further copies of them in other packs.
    pub copies: u64,
}

/// What a repository holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepositoryStats {
    /// Snapshots.
    pub snapshots: u64,
    /// Things saved, each with all its snapshots.
    pub series: u64,
    /// Bytes of content of all snapshots, as a restore of each would write them.
    pub logical_bytes: u64,
    /// Entries of all snapshots.
    pub logical_entries: u64,
    /// Bytes of content of the latest snapshot of each series.
    pub latest_bytes: u64,
    /// Packs with content of files.
    pub data_packs: Amount,
    /// Packs with trees.
    pub tree_packs: Amount,
    /// Packs that no index segment names.
    pub unknown_packs: Amount,
    /// Segments of the index.
    pub segments: Amount,
    /// Records of snapshots.
    pub records: Amount,
    /// Keys, settings and everything else.
    pub other: Amount,
    /// Chunks of content.
    pub data: Chunks,
    /// Chunks of trees.
    pub tree: Chunks,
}

impl RepositoryStats {
    /// All stored bytes.
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        let all = [
            self.data_packs,
            self.tree_packs,
            self.unknown_packs,
            self.segments,
            self.records,
            self.other,
        ];
        all.iter().map(|amount| amount.bytes).sum()
    }
}

/// What one item of a snapshot needs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ItemStats {
    /// Its entries.
    pub entries: u64,
    /// Bytes of its content.
    pub logical_bytes: u64,
    /// Its chunks of content.
    pub data: Chunks,
    /// Its chunks of trees.
    pub tree: Chunks,
    /// Frames that a restore of all of it reads, and their stored bytes.
    pub frames: Amount,
}

/// Counts what the repository holds.
///
/// Errors: [`OpsError::Repo`].
pub fn repository_stats(
    repo: &Repository,
    interrupt: &Interrupt,
) -> Result<RepositoryStats, OpsError> {
    let list = SnapshotList::load(repo)?;
    let index = repo.load_index()?;
    let mut stats =
        RepositoryStats { snapshots: list.snapshots.len() as u64, ..Default::default() };
    count_snapshots(&list, &mut stats);
    count_objects(repo, &index, &mut stats)?;
    interrupt.check()?;
    let mut last: Option<(ChunkPrefix, PackKind)> = None;
    let numbered = |(pack, present): (Arc<PackInfo>, bool)| {
        Some((index.pack_ref(&pack.id)?, (pack.kind, present)))
    };
    let packs: HashMap<PackRef, (PackKind, bool)> =
        index.packs().into_iter().filter_map(numbered).collect();
    index.scan_sorted(|prefix, place| {
        let Some((kind, true)) = packs.get(&place.pack).copied() else { return Ok(()) };
        let chunks = match kind {
            PackKind::Data => &mut stats.data,
            PackKind::Tree => &mut stats.tree,
        };
        if last == Some((prefix, kind)) {
            chunks.copies += 1;
        } else {
            chunks.chunks += 1;
            chunks.bytes += u64::from(place.len);
        }
        last = Some((prefix, kind));
        Ok(())
    })?;
    Ok(stats)
}

fn count_snapshots(list: &SnapshotList, stats: &mut RepositoryStats) {
    let mut latest: BTreeMap<Series, u64> = BTreeMap::new();
    for snapshot in &list.snapshots {
        for item in snapshot.items() {
            stats.logical_bytes += item.facts.bytes;
            stats.logical_entries += item.facts.entries;
            // Oldest first: the last one stays.
            let _ = latest.insert(Series::of(snapshot, item), item.facts.bytes);
        }
    }
    stats.series = latest.len() as u64;
    stats.latest_bytes = latest.values().sum();
}

fn count_objects(
    repo: &Repository,
    index: &Index,
    stats: &mut RepositoryStats,
) -> Result<(), OpsError> {
    for object in repo.store().list("").map_err(crate::repo::RepoError::from)? {
        let folder = object.name.as_str().split('/').next().unwrap_or_default();
        let pack = object.name.base().parse().ok().and_then(|id| index.pack_ref(&id));
        let amount = match (folder, pack.map(|pack| index.pack(pack).kind)) {
            ("packs", Some(PackKind::Data)) => &mut stats.data_packs,
            ("packs", Some(PackKind::Tree)) => &mut stats.tree_packs,
            ("packs", None) => &mut stats.unknown_packs,
            ("index", _) => &mut stats.segments,
            ("snapshots", _) => &mut stats.records,
            _ => &mut stats.other,
        };
        amount.objects += 1;
        amount.bytes += object.size;
    }
    Ok(())
}

/// Counts what one item of a snapshot needs.
///
/// Errors: [`OpsError::Repo`], for damage too.
pub fn item_stats(
    repo: &Arc<Repository>,
    item: &Item,
    interrupt: &Interrupt,
) -> Result<ItemStats, OpsError> {
    let index = Arc::new(repo.load_index()?);
    let reader = ChunkReader::new(repo, &index, TREE_CACHE);
    let mut stats = ItemStats {
        entries: item.facts.entries,
        logical_bytes: item.facts.bytes,
        ..ItemStats::default()
    };
    let mut nodes = HashSet::new();
    // Half a prefix is enough to count: two in a billion chunks share one.
    let mut seen: HashSet<[u8; 8]> = HashSet::new();
    let mut frames: HashSet<(PackRef, u32)> = HashSet::new();
    let mut stopped = Ok(());
    let walked = reach(&reader, item, &mut nodes, &mut |kind, id| {
        stopped = interrupt.check();
        if stopped.is_err() {
            return Err(crate::repo::RepoError::Interrupted);
        }
        let mut half = [0; 8];
        half.copy_from_slice(&id.as_bytes()[..8]);
        if !seen.insert(half) {
            return Ok(());
        }
        let Some(place) = index.find_all(id)?.first().copied() else { return Ok(()) };
        let chunks = match kind {
            PackKind::Data => &mut stats.data,
            PackKind::Tree => &mut stats.tree,
        };
        chunks.chunks += 1;
        chunks.bytes += u64::from(place.len);
        if frames.insert((place.pack, place.frame_offset)) {
            stats.frames.objects += 1;
            stats.frames.bytes += u64::from(place.frame_len);
        }
        Ok(())
    });
    stopped?;
    walked?;
    Ok(stats)
}
