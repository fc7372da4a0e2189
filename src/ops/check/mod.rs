//! Check: whether the repository holds all that its snapshots need.
//!
//! Three stages. The inventory lists and reads everything small; packs are compared with it, and
//! read whole where that is asked for; then every tree is walked, each node once, and every chunk
//! looked up. Only if anything is missing are the trees walked again, along the damaged branches,
//! to name files. Nothing is written to the store.

mod packs;
mod paths;
mod report;
mod scrub;
mod share;
mod trees;

use std::sync::Arc;

pub(in crate::ops) use self::packs::{Found, Losses, threads};
use self::paths::name_paths;
pub use self::report::{CheckReport, Damage, Fault, Touched, TouchedFile};
pub(in crate::ops) use self::report::{Findings, chain};
pub use self::scrub::{ScrubOptions, ScrubReport, scrub};
pub use self::share::Coverage;
use self::trees::Trees;
pub(in crate::ops) use self::trees::Walked;
use super::error::{Interrupt, OpsError};
use crate::clock::{Clock, Stopwatch};
use crate::event::Observer;
use crate::format::{Bootstrap, Item};
use crate::repo::{
    ChunkReader, Inventory, RepoError, Repository, Snapshot, SnapshotList, list_slots,
    snapshot_record_name,
};
use crate::store::ObjectName;

/// Opened frames of trees that are kept, in bytes.
const TREE_CACHE: usize = 32 << 20;

/// How much of the stored data is read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ReadData {
    /// Only trees.
    Trees,
    /// So many percent of the packs: the next ones of those that this host has not read since it
    /// began a round.
    Percent(f64),
    /// Every pack.
    All,
}

/// How a repository is checked.
#[derive(Debug, Clone)]
pub struct CheckOptions {
    /// How much of the stored data is read.
    pub read: ReadData,
    /// Ceiling of memory in bytes.
    pub memory: u64,
    /// Where the time comes from.
    pub clock: Clock,
}

/// Checks a repository.
///
/// Damage is no error; it stands in the report.
/// Errors: the store or this machine fails, or it was interrupted.
pub fn check(
    repo: &Arc<Repository>,
    options: &CheckOptions,
    observer: &Arc<dyn Observer>,
    interrupt: &Interrupt,
) -> Result<CheckReport, OpsError> {
    let watch = Stopwatch::start();
    let mut findings = Findings::default();
    repo.read_only_the_store();
    observer.stage("reading snapshots and index");
    check_head(repo, &mut findings)?;
    // Snapshots first: all that they need was stored before them, and is seen after them.
    let list = load_snapshots(repo, &mut findings)?;
    let examined =
        Examined::look(repo, &list.snapshots, options, &mut findings, observer, interrupt)?;
    observer.stage("naming files");
    examined.name_paths(&list.snapshots, &mut findings, interrupt)?;
    let Examined { inventory, losses, walked, coverage, .. } = &examined;
    losses.note_set_aside(&mut findings);
    note_strays(inventory, &list, &mut findings);
    Ok(CheckReport {
        snapshots: list.snapshots.len() as u64,
        segments: inventory.segments,
        packs: inventory.listed.len() as u64,
        packs_read: examined.packs_read,
        bytes_read: examined.bytes_read,
        coverage: *coverage,
        nodes: walked.nodes,
        chunks: walked.chunks,
        damage: findings.damage,
        damage_more: findings.damage_more,
        touched: findings.touched,
        notices: findings.notices,
        seconds: watch.elapsed().as_secs_f64(),
    })
}

/// What was found of packs and trees.
#[derive(Debug)]
pub(in crate::ops) struct Examined {
    pub(in crate::ops) inventory: Inventory,
    pub(in crate::ops) losses: Losses,
    pub(in crate::ops) reader: Arc<ChunkReader>,
    pub(in crate::ops) walked: Walked,
    packs_read: u64,
    bytes_read: u64,
    coverage: Option<Coverage>,
    /// Places of snapshots and of their items that are not whole.
    dirty: Vec<(usize, usize)>,
}

impl Examined {
    /// Reads what is asked for and walks the trees of these snapshots.
    pub(in crate::ops) fn look(
        repo: &Arc<Repository>,
        snapshots: &[Snapshot],
        options: &CheckOptions,
        findings: &mut Findings,
        observer: &Arc<dyn Observer>,
        interrupt: &Interrupt,
    ) -> Result<Self, OpsError> {
        let inventory = Inventory::take(repo)?;
        for (name, error) in &inventory.damaged {
            findings.damaged(name, error);
        }
        let mut losses = Losses::compare(&inventory, findings);
        interrupt.check()?;
        observer.stage("reading packs");
        let read = losses.read_packs(repo, &inventory, options, findings, observer, interrupt)?;
        observer.stage("walking trees");
        let reader = Arc::new(ChunkReader::new(repo, &inventory.index, TREE_CACHE));
        let mut trees = Trees::new(repo, &reader, &losses, findings, observer, interrupt);
        let mut dirty = Vec::new();
        for (at, snapshot) in snapshots.iter().enumerate() {
            for (number, item) in snapshot.items().iter().enumerate() {
                if !trees.item(item)? {
                    dirty.push((at, number));
                }
            }
        }
        let walked = trees.finish();
        let (packs_read, bytes_read, coverage) = (read.packs, read.bytes, read.coverage);
        Ok(Self { inventory, losses, reader, walked, packs_read, bytes_read, coverage, dirty })
    }

    /// Adds what of these snapshots is touched by damage; they must be those that were looked at.
    pub(in crate::ops) fn name_paths(
        &self,
        snapshots: &[Snapshot],
        findings: &mut Findings,
        interrupt: &Interrupt,
    ) -> Result<(), OpsError> {
        let of = |(at, number): &(usize, usize)| {
            let snapshot = snapshots.get(*at)?;
            Some((snapshot, snapshot.items().get(*number)?))
        };
        let dirty: Vec<(&Snapshot, &Item)> = self.dirty.iter().filter_map(of).collect();
        let Self { reader, losses, walked, .. } = self;
        name_paths(reader, losses, walked, &dirty, findings, interrupt)
    }
}

/// `vault.json` and the key slots.
fn check_head(repo: &Repository, findings: &mut Findings) -> Result<(), OpsError> {
    let name = ObjectName::parse("vault.json").expect("because it is a valid name");
    let bytes = repo.store().get(&name, Bootstrap::BYTES_MAX).map_err(RepoError::from)?;
    // Nothing authenticates it; it opens the repository, so what matters of it is right.
    if bytes != (Bootstrap { repository: repo.id(), read_only_because: None }).encode() {
        findings.notice(name.as_str(), "it is not as this program writes it".to_owned());
    }
    for slot in list_slots(&**repo.store()).map_err(OpsError::from)? {
        if !slot.sound {
            findings.add(&format!("keys/{}", slot.id), Fault::Damaged, &slot.kind);
        }
    }
    Ok(())
}

fn load_snapshots(repo: &Repository, findings: &mut Findings) -> Result<SnapshotList, OpsError> {
    let (list, rolled_back) = SnapshotList::survey(repo)?;
    if let Some(error) = rolled_back {
        findings.add("snapshots", Fault::RolledBack, &error.to_string());
    }
    for (name, error) in &list.damaged {
        findings.damaged(name, error);
        let id = name.base().split('.').next().and_then(|id| id.parse().ok());
        // Of a snapshot whose tombstone cannot be read, all the rest may be there.
        let is_record = name.as_str().starts_with("snapshots/");
        findings.touched.extend(id.filter(|_| is_record).map(Touched::whole));
    }
    for name in &list.forged {
        findings.notice(name.as_str(), "the owner did not put it there; ignored".to_owned());
    }
    Ok(list)
}

fn note_strays(inventory: &Inventory, list: &SnapshotList, findings: &mut Findings) {
    let (mut packs, mut bytes) = (0u64, 0u64);
    for (_, size) in inventory.unknown() {
        packs += 1;
        bytes += size;
    }
    if packs > 0 {
        findings.notice(
            "packs",
            format!(
                "{packs} packs ({bytes} bytes) are in no index segment: an interrupted run \
                 leaves such; they do no harm"
            ),
        );
    }
    for id in &list.unfinished {
        let name = snapshot_record_name(id);
        findings.notice(name.as_str(), "the backup was not finished, or is under way".to_owned());
    }
}

/// The error with its causes, as one line.
fn why(error: &RepoError) -> String {
    chain(error)
}
