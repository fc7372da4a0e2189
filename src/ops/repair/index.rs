//! `repair index`: segments are made anew from what packs say of themselves.

use std::sync::Arc;

use super::{RepairOptions, stopper};
use crate::event::{Counters, Observer};
use crate::id::{PackId, SegmentId};
use crate::ops::check::{chain, threads};
use crate::ops::error::{Interrupt, OpsError};
use crate::repo::{Inventory, RepoError, Repository, pack_name, rebuild_index};

/// What is about to be done.
#[derive(Debug)]
pub struct IndexPlan {
    /// Packs that no segment names, with their sizes in bytes: they are read whole.
    pub packs: Vec<(PackId, u64)>,
    /// Segments that cannot be read, and why: new ones will stand for them.
    pub segments: Vec<(SegmentId, String)>,
    /// What cannot be read and is not made whole by this: object and why.
    pub others: Vec<(String, String)>,
    inventory: Inventory,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IndexReport {
    /// Packs that segments name now, their bytes and chunks.
    pub packs: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Chunks in these.
    pub chunks: u64,
    /// Segments stored.
    pub segments: u64,
    /// Bytes of these.
    pub stored_bytes: u64,
    /// Unreadable segments that the new ones stand for.
    pub superseded: u64,
    /// Packs that still are in no segment, and why.
    pub left: Vec<(String, String)>,
    /// As in the plan.
    pub others: Vec<(String, String)>,
}

impl IndexReport {
    /// Whether nothing of the index is missing or unreadable now.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.left.is_empty() && self.others.is_empty()
    }
}

/// Looks what the index lacks. Reads only.
///
/// Errors: the store as a whole fails.
pub fn plan_index(repo: &Repository, observer: &Arc<dyn Observer>) -> Result<IndexPlan, OpsError> {
    repo.read_only_the_store();
    observer.stage("reading index");
    let inventory = Inventory::take(repo)?;
    let unreadable = inventory.unreadable_segments();
    let segments: Vec<_> = unreadable.map(|(id, error)| (id, chain(error))).collect();
    let told = |name: &str| segments.iter().any(|(id, _)| name.ends_with(&id.to_string()));
    let others = inventory
        .damaged
        .iter()
        .filter(|(name, _)| !told(name.as_str()))
        .map(|(name, error)| (name.to_string(), chain(error)))
        .collect();
    let packs = inventory.unknown().map(|(id, size)| (*id, size)).collect();
    Ok(IndexPlan { packs, segments, others, inventory })
}

/// Does what was planned.
///
/// Errors: the store as a whole fails; [`OpsError::Interrupted`].
pub fn run_index(
    repo: &Arc<Repository>,
    plan: IndexPlan,
    options: &RepairOptions,
    observer: &Arc<dyn Observer>,
    interrupt: &Interrupt,
) -> Result<IndexReport, OpsError> {
    let IndexPlan { packs, segments, others, inventory } = plan;
    observer.stage("reading packs");
    Counters::add(&observer.counters().bytes_total, packs.iter().map(|(_, size)| size).sum());
    let unreadable: Vec<SegmentId> = segments.iter().map(|(id, _)| *id).collect();
    let threads = threads(options.memory);
    let stop = stopper(interrupt);
    let rebuilt = rebuild_index(repo, &inventory, &unreadable, threads, observer, &stop);
    let rebuilt = rebuilt.map_err(|error| match error {
        RepoError::Interrupted => OpsError::Interrupted,
        other => other.into(),
    })?;
    let left = rebuilt.left.iter();
    Ok(IndexReport {
        packs: rebuilt.packs,
        bytes: rebuilt.bytes,
        chunks: rebuilt.chunks,
        segments: rebuilt.segments,
        stored_bytes: rebuilt.stored_bytes,
        superseded: rebuilt.superseded,
        left: left.map(|(id, error)| (pack_name(id).to_string(), chain(error))).collect(),
        others,
    })
}
