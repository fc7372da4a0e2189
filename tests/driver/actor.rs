//! What one host does in one round, by the library's own verbs.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::tz::TimeZone;
use volume_vault::clock::{Clock, Time};
use volume_vault::entry::EntryPath;
use volume_vault::event::{Observer, Recorder};
use volume_vault::format::HostFacts;
use volume_vault::id::SnapshotId;
use volume_vault::ops::backup::{BackupOptions, backup};
use volume_vault::ops::forget::{self, ForgetOptions};
use volume_vault::ops::prune::{Grace, PruneOptions};
use volume_vault::ops::restore::{RestoreReport, RestoreRun, restore_directory};
use volume_vault::ops::{Interrupt, OpsError};
use volume_vault::repo::{ChunkReader, Repository, Snapshot, SnapshotList};
use volume_vault::sink::{DirectoryOptions, Special};
use volume_vault::source::Selection;
use volume_vault::store::Store;

use super::plot::{Picture, Plot, PlotSource, look, read};
use crate::support::garden::{at_once, collect};
use crate::support::repo::{item, open, options};
use crate::support::tree::{describe, diff};

/// What a host is to do.
#[derive(Clone)]
pub(super) enum Deed {
    /// Save a tree as the next of a series.
    Backup { plot: Plot, series: u64 },
    /// Forget a snapshot.
    Forget(SnapshotId),
    /// Take a forgotten snapshot back.
    Undo(SnapshotId),
    /// Collect garbage.
    Prune { grace: Duration, expire: Duration, max_repack: Option<u64> },
    /// Read all of a snapshot.
    Read(SnapshotId),
    /// Restore a snapshot into a directory.
    Restore(SnapshotId),
}

impl std::fmt::Display for Deed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Backup { series, .. } => write!(f, "backup of series {series}"),
            Self::Forget(id) => write!(f, "forget {}", id.short()),
            Self::Undo(id) => write!(f, "undo {}", id.short()),
            Self::Prune { grace, expire, max_repack } => {
                write!(f, "prune, D = {grace:?}, expire {expire:?}, repack {max_repack:?}")
            }
            Self::Read(id) => write!(f, "read {}", id.short()),
            Self::Restore(id) => write!(f, "restore {}", id.short()),
        }
    }
}

/// How it ended.
pub(super) enum Outcome {
    /// A backup was acknowledged; whether it said that something is missing, and what was read.
    Acked { id: SnapshotId, is_partial: bool },
    /// It said that it succeeded.
    Done,
    /// A snapshot was read.
    Read(Picture),
    /// It said why it did not succeed.
    Failed(String),
}

/// Does it, on a host whose things lie in `home`.
pub(super) fn act(
    deed: &Deed,
    store: Arc<dyn Store>,
    home: &Path,
    now: Time,
    lost: &Arc<Mutex<Vec<EntryPath>>>,
) -> Outcome {
    let done = open(store, home).map_err(OpsError::from).and_then(|repo| match deed {
        Deed::Backup { plot, series } => save(&repo, plot, *series, now, lost),
        Deed::Forget(id) => forget_one(&repo, *id),
        Deed::Undo(id) => undo(&repo, id),
        Deed::Prune { grace, expire, max_repack } => {
            let options = PruneOptions {
                grace: Grace::Given(*grace),
                expire_pending: *expire,
                max_repack: *max_repack,
                clock: Clock::Fixed(now),
                ..at_once()
            };
            collect(&repo, &options).map(|_| Outcome::Done)
        }
        Deed::Read(id) => {
            let snapshot = &find(&repo, id)?;
            Ok(Outcome::Read(read(&reader(&repo)?, snapshot)?))
        }
        Deed::Restore(id) => restore(&repo, id, home),
    });
    done.unwrap_or_else(|error| Outcome::Failed(chain(&error)))
}

/// An error with its causes.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

fn observer() -> Arc<dyn Observer> {
    Arc::new(Recorder::default())
}

fn save(
    repo: &Arc<Repository>,
    plot: &Plot,
    series: u64,
    now: Time,
    lost: &Arc<Mutex<Vec<EntryPath>>>,
) -> Result<Outcome, OpsError> {
    let name = format!("host-{series}");
    let host = HostFacts { name, engine_id: None, engine_version: None };
    let options = BackupOptions { host, clock: Clock::Fixed(now), ..options() };
    let source = PlotSource::new(plot, lost.clone());
    let open = |_| Ok(Box::new(source) as Box<_>);
    let report =
        backup(repo, &item(), open, || Ok(()), &options, &observer(), &Interrupt::default())?;
    Ok(Outcome::Acked { id: report.snapshot, is_partial: report.is_partial() })
}

fn forget_one(repo: &Repository, id: SnapshotId) -> Result<Outcome, OpsError> {
    let selection = forget::Selection::Named(BTreeSet::from([id]));
    let options = ForgetOptions { selection, drilled: BTreeSet::new(), zone: TimeZone::UTC };
    let report = forget::run(repo, &forget::plan(repo, &options)?, &Interrupt::default());
    match report.error {
        Some(error) => Err(error),
        None if report.forgotten == [id] => Ok(Outcome::Done),
        None => Err(OpsError::NotFound("nothing was forgotten".to_owned())),
    }
}

fn undo(repo: &Arc<Repository>, id: &SnapshotId) -> Result<Outcome, OpsError> {
    let list = SnapshotList::load(repo)?;
    let gone = forget::forgotten(repo, &list)?;
    let gone = gone.iter().find(|gone| gone.snapshot.id == *id);
    let gone = gone.ok_or_else(|| OpsError::NotFound("not forgotten".to_owned()))?;
    forget::undo(repo, &list, gone, false, &observer()).map(|_| Outcome::Done)
}

fn find(repo: &Repository, id: &SnapshotId) -> Result<Snapshot, OpsError> {
    let listed = SnapshotList::load(repo)?.snapshots;
    let found = listed.into_iter().find(|snapshot| snapshot.id == *id);
    found.ok_or_else(|| OpsError::NotFound("not listed".to_owned()))
}

fn reader(repo: &Arc<Repository>) -> Result<Arc<ChunkReader>, OpsError> {
    let index = Arc::new(repo.load_index()?);
    Ok(Arc::new(ChunkReader::new(repo, &index, 16 << 20)))
}

fn unpack(
    repo: &Arc<Repository>,
    snapshot: &Snapshot,
    target: &Path,
) -> Result<RestoreReport, OpsError> {
    let (reader, selection) = (reader(repo)?, Selection::all());
    let (observer, interrupt) = (&observer(), &Interrupt::default());
    let run = RestoreRun { reader: &reader, selection, observer, interrupt };
    let options = DirectoryOptions { special: Special::Restore };
    restore_directory(&run, &snapshot.id, &snapshot.items()[0], target, options)
}

/// O8: what stands beside the target is as it was.
fn restore(repo: &Arc<Repository>, id: &SnapshotId, home: &Path) -> Result<Outcome, OpsError> {
    let (around, snapshot) = (home.join("around"), find(repo, id)?);
    let target = around.join("target");
    std::fs::create_dir_all(around.join("etc")).expect("made");
    std::fs::write(around.join("etc/sentinel"), b"here").expect("written");
    std::fs::create_dir(&target).expect("made");
    let beside = || {
        let mut all = describe(&around);
        all.retain(|path, _| !path.is_empty() && !path.starts_with(b"target"));
        all
    };
    let before = beside();
    let restored = unpack(repo, &snapshot, &target);
    assert_eq!(diff(&before, &beside()), [""; 0], "O8: something beside the target changed");
    let picture = restored.and_then(|report| match report.damaged {
        0 => Ok(Outcome::Read(look(&target))),
        _ => Err(OpsError::NotFound("some of it is gone".to_owned())),
    });
    std::fs::remove_dir_all(&around).expect("removed");
    picture
}
