//! `repair snapshots`: what can be had of damaged ones becomes new ones; the old ones are forgotten
//! only where that is asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::salvage::Salvage;
use super::{RepairOptions, is_hidden};
use crate::event::Observer;
use crate::format::{ForgetKind, ForgetRecord};
use crate::id::{RecordHash, SnapshotId};
use crate::ops::check::{Examined, Findings, Touched, chain};
use crate::ops::error::{Interrupt, OpsError};
use crate::repo::{
    RepoError, Repository, Snapshot, SnapshotList, pack_name, read_without_commit, take_back,
};
use crate::store::{ObjectName, StoreError};

/// What becomes of damaged snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OldOnes {
    /// They stay.
    Keep,
    /// They are forgotten, once what can be had of them is stored.
    Forget,
}

/// What can be done for a damaged snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Some of it can be had.
    Salvage,
    /// That was done before.
    Salvaged(SnapshotId),
    /// Nothing of it can be had.
    Hopeless,
    /// It is whole, but what was said of it last cannot be read: it is said again that it stays.
    Keep,
}

/// A damaged snapshot.
#[derive(Debug, Clone)]
pub struct Row {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// What of it is damaged, by item.
    pub touched: Vec<Touched>,
    /// Whether its commit cannot be read.
    pub lost_commit: bool,
    /// What can be done.
    pub way: Way,
}

/// A snapshot whose record cannot be read: nobody knows what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// The snapshot.
    pub id: SnapshotId,
    /// What cannot be read.
    pub object: String,
    /// Why.
    pub why: String,
    /// Whether it had come to its end.
    pub committed: bool,
}

/// What was found, and what is about to be done.
#[derive(Debug)]
pub struct SnapshotsPlan {
    /// Snapshots that were looked at.
    pub snapshots: u64,
    /// Damaged snapshots, oldest first.
    pub rows: Vec<Row>,
    /// Snapshots of which nothing can be read.
    pub lost: Vec<Lost>,
    list: SnapshotList,
    examined: Examined,
    /// What had been collected when it was looked at.
    condemned: BTreeSet<ObjectName>,
}

/// A snapshot that was made of a damaged one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Salvaged {
    /// The damaged one.
    pub from: SnapshotId,
    /// The new one.
    pub snapshot: SnapshotId,
    /// The writer's head.
    pub head: RecordHash,
    /// What was left out: files, and parts of trees.
    pub left_out: u64,
    /// Bytes stored for it.
    pub stored_bytes: u64,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SnapshotsReport {
    /// New snapshots.
    pub salvaged: Vec<Salvaged>,
    /// Snapshots that were forgotten.
    pub forgotten: Vec<SnapshotId>,
    /// Unreadable backups without an end that were given up.
    pub expired: Vec<SnapshotId>,
    /// Whole snapshots of which it was said again that they stay.
    pub kept: Vec<SnapshotId>,
    /// Damaged snapshots that are still there.
    pub left: Vec<SnapshotId>,
}

/// Walks the trees of all snapshots, and reads packs as `options` say. Reads only.
///
/// Errors: [`OpsError::Refused`] while it is not certain that what cannot be had is lost: objects
/// that cannot be read now, packs that are hidden from a list, or that no segment names;
/// [`RepoError::RolledBack`], unless old ones are to be forgotten and records that cannot
/// be read explain it; the store as a whole fails; [`OpsError::Interrupted`].
pub fn plan_snapshots(
    repo: &Arc<Repository>,
    options: &RepairOptions,
    old: OldOnes,
    observer: &Arc<dyn Observer>,
    interrupt: &Interrupt,
) -> Result<SnapshotsPlan, OpsError> {
    repo.read_only_the_store();
    observer.stage("reading snapshots and index");
    let condemned = condemn_records(repo)?;
    let (list, rolled_back) = SnapshotList::survey(repo)?;
    let (recovered, unsaid, lost) = sort_damage(repo, &list)?;
    if let Some(error) = rolled_back
        && (old == OldOnes::Keep || lost.is_empty())
    {
        return Err(error.into());
    }
    let lost_commits: BTreeSet<SnapshotId> = recovered.iter().map(|found| found.id).collect();
    let mut snapshots = list.snapshots.clone();
    snapshots.extend(recovered);
    let mut findings = Findings::default();
    let check = options.check();
    let examined = Examined::look(repo, &snapshots, &check, &mut findings, observer, interrupt)?;
    check_certain(repo, &examined, &findings)?;
    check_not_collected(repo, &condemned)?;
    examined.name_paths(&snapshots, &mut findings, interrupt)?;
    let mut touched: BTreeMap<SnapshotId, Vec<Touched>> = BTreeMap::new();
    for part in findings.touched {
        touched.entry(part.snapshot).or_default().push(part);
    }
    let before: BTreeMap<SnapshotId, SnapshotId> = list
        .snapshots
        .iter()
        .filter_map(|snapshot| Some((snapshot.body.salvaged?, snapshot.id)))
        .collect();
    let mut rows = Vec::new();
    let all = snapshots.len() as u64;
    for snapshot in snapshots {
        let touched = touched.remove(&snapshot.id).unwrap_or_default();
        let lost_commit = lost_commits.contains(&snapshot.id);
        // Also where hints alone are lost: they stop collectors as everything else does.
        let is_whole = touched.is_empty();
        let no_root = |item: &crate::format::Item| examined.walked.lost(&item.root).is_some();
        let way = match (is_whole && !lost_commit, before.get(&snapshot.id)) {
            (true, _) if unsaid.contains(&snapshot.id) => Way::Keep,
            (true, _) => continue,
            (false, before) if snapshot.items().iter().all(no_root) => before
                .filter(|_| old == OldOnes::Keep)
                .map_or(Way::Hopeless, |id| Way::Salvaged(*id)),
            (false, Some(done)) => Way::Salvaged(*done),
            (false, _) => Way::Salvage,
        };
        rows.push(Row { snapshot, touched, lost_commit, way });
    }
    rows.sort_by_key(|row| (row.snapshot.time(), row.snapshot.id));
    Ok(SnapshotsPlan { snapshots: all, rows, lost, list, examined, condemned })
}

impl SnapshotsPlan {
    fn salvaged_before(&self, way: Way) -> Option<&Snapshot> {
        let Way::Salvaged(before) = way else { return None };
        self.list.snapshots.iter().find(|snapshot| snapshot.id == before)
    }
}

fn condemn_records(repo: &Repository) -> Result<BTreeSet<ObjectName>, OpsError> {
    let listed = repo.store().list("gc").map_err(RepoError::from)?;
    Ok(listed.into_iter().map(|object| object.name).collect())
}

/// What was not there to be read may only have been moved: packs that were looked for are deleted
/// by a collection that has put what is needed of them into others, which were not looked at.
fn check_not_collected(repo: &Repository, known: &BTreeSet<ObjectName>) -> Result<(), OpsError> {
    match condemn_records(repo)?.is_subset(known) {
        true => Ok(()),
        false => Err(OpsError::Refused(
            "packs were collected meanwhile, and what was in them may lie elsewhere; run it again"
                .to_owned(),
        )),
    }
}

/// What is left out is forgotten in the end: nothing that may be whole must pass for lost.
fn check_certain(
    repo: &Repository,
    examined: &Examined,
    findings: &Findings,
) -> Result<(), OpsError> {
    let refused = |why: String| Err(OpsError::Refused(why));
    if let Some(object) = &findings.unreadable {
        return refused(format!("`{object}` cannot be read now and may be whole; run it again"));
    }
    let Examined { inventory, losses, .. } = examined;
    for pack in losses.packs(&inventory.index) {
        if !inventory.listed.contains_key(&pack) && is_hidden(repo, &pack)? {
            let name = pack_name(&pack);
            return refused(format!("`{name}` is there, but not in the list; run it again"));
        }
    }
    let unnamed = inventory.unknown().filter(|(id, _)| !inventory.condemned.contains(*id)).count();
    match &findings.unnamed {
        Some(chunk) if unnamed > 0 => refused(format!(
            "{chunk} may be in one of {unnamed} packs that no index segment names; `vault repair \
             index` names them, and `vault repair packs` sets aside what cannot be named"
        )),
        _ => Ok(()),
    }
}

/// Snapshots whose commit alone cannot be read, those of which it cannot be read what was said of
/// them, and those of which nothing can be read.
type Sorted = (Vec<Snapshot>, BTreeSet<SnapshotId>, Vec<Lost>);

fn sort_damage(repo: &Repository, list: &SnapshotList) -> Result<Sorted, OpsError> {
    let (mut recovered, mut unsaid, mut lost) = (Vec::new(), BTreeSet::new(), Vec::new());
    let listed = match list.damaged.is_empty() {
        true => Vec::new(),
        false => repo.store().list("snapshots").map_err(RepoError::from)?,
    };
    for (name, error) in &list.damaged {
        let id: Option<SnapshotId> = name.base().split('.').next().and_then(|id| id.parse().ok());
        let Some(id) = id else { continue };
        if !name.as_str().starts_with("snapshots/") {
            let _ = unsaid.insert(id);
            continue;
        }
        let is_listed = |part: &str| {
            let wanted = format!("snapshots/{id}.{part}");
            listed.iter().any(|object| object.name.as_str() == wanted)
        };
        let committed = is_listed("ok");
        match read_without_commit(repo, &id) {
            Ok(snapshot) if committed => recovered.push(snapshot),
            Ok(_) => {
                let why = format!("`{name}` can be read now; run it again");
                return Err(OpsError::Refused(why));
            }
            Err(RepoError::Store(StoreError::NotFound(gone))) if is_listed("pending") => {
                let why = format!("`{gone}` is in the list, but not there; run it again");
                return Err(OpsError::Refused(why));
            }
            Err(found) if found.is_damage() => {
                let why = chain(error);
                lost.push(Lost { id, object: name.to_string(), why, committed });
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok((recovered, unsaid, lost))
}

/// Does what was planned: what can be had is stored before anything is forgotten.
///
/// Errors: of the repository; [`OpsError::Interrupted`]. What was done before stays done, and
/// another run goes on from there.
pub fn run_snapshots(
    repo: &Arc<Repository>,
    plan: &SnapshotsPlan,
    options: &RepairOptions,
    old: OldOnes,
    observer: &Arc<dyn Observer>,
    interrupt: &Interrupt,
) -> Result<SnapshotsReport, OpsError> {
    let mut report = SnapshotsReport::default();
    for row in &plan.rows {
        interrupt.check()?;
        let id = row.snapshot.id;
        match row.way {
            Way::Salvaged(_) if old == OldOnes::Keep => {}
            // What was salvaged before may be less than can be had now, or damaged since: nothing
            // is forgotten for the sake of that, unless it would come out the same.
            Way::Salvage | Way::Salvaged(_) => {
                observer.stage("salvaging");
                check_not_collected(repo, &plan.condemned)?;
                let before = plan.salvaged_before(row.way);
                let salvaged =
                    Salvage { repo, examined: &plan.examined, options, observer, interrupt };
                report.salvaged.extend(salvaged.store(&row.snapshot, before)?);
            }
            Way::Keep => {
                let said = plan.list.tombstone_of(&row.snapshot);
                let writer = options.writer();
                let _ = take_back(repo, &row.snapshot, &said, false, writer, observer)?;
                report.kept.push(id);
                continue;
            }
            Way::Hopeless => {}
        }
        match old {
            OldOnes::Forget => {
                check_not_collected(repo, &plan.condemned)?;
                repo.put_tombstone(&plan.list.tombstone_of(&row.snapshot))?;
                report.forgotten.push(id);
            }
            OldOnes::Keep => report.left.push(id),
        }
    }
    for Lost { id, committed, .. } in &plan.lost {
        interrupt.check()?;
        if old == OldOnes::Keep {
            report.left.push(*id);
            continue;
        }
        check_not_collected(repo, &plan.condemned)?;
        let said = plan.list.tombstone_of_unreadable(id);
        if *committed {
            repo.put_tombstone(&said)?;
            report.forgotten.push(*id);
        } else {
            repo.put_tombstone(&ForgetRecord { kind: ForgetKind::Expire, ..said })?;
            report.expired.push(*id);
        }
    }
    if !plan.lost.is_empty() && old == OldOnes::Forget {
        // What is left of a rollback is none that these explain.
        let _ = SnapshotList::load(repo)?;
    }
    Ok(report)
}
