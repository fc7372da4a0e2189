//! Prune: frees the space of what no snapshot needs.
//!
//! `plan` reads only; `run` repacks, condemns and, once the wait is over, deletes. The protocol
//! that makes this safe beside running backups is `repo/collect`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::error::{Interrupt, OpsError};
use crate::clock::{Clock, Stopwatch};
use crate::event::Observer;
use crate::id::SnapshotId;
use crate::repo::{
    ABANDONED, CollectOptions, Collection, RepoError, Repository, WriterOptions, survey,
};
pub use crate::repo::{Collected, Figures, GRACE_SHARED, Grace, Heap, MaxUnused, Requests};

/// How much of what is stored may stay unused, unless told otherwise, in percent.
pub const MAX_UNUSED_PERCENT: f64 = 5.0;

/// How garbage is collected.
#[derive(Debug, Clone)]
pub struct PruneOptions {
    /// The wait between condemning and deleting.
    pub grace: Grace,
    /// How much space may stay unused in packs that are kept.
    pub max_unused: MaxUnused,
    /// Most bytes to store anew for the sake of space.
    pub max_repack: Option<u64>,
    /// Backups that have not come to their end are given up at this age.
    pub expire_pending: Duration,
    /// Packs of backups that stored no record are left alone up to this age.
    pub orphan_age: Duration,
    /// Snapshots to take for forgotten: `plan` shows what that frees, and `run` refuses.
    pub forgotten: BTreeSet<SnapshotId>,
    /// zstd level of what is stored anew.
    pub level: i32,
    /// Ceiling of memory in bytes.
    pub memory: u64,
    /// The clock that ages are measured with.
    pub clock: Clock,
}

impl Default for PruneOptions {
    fn default() -> Self {
        Self {
            grace: Grace::Given(GRACE_SHARED),
            max_unused: MaxUnused::Percent(MAX_UNUSED_PERCENT),
            max_repack: None,
            expire_pending: ABANDONED,
            orphan_age: ABANDONED,
            forgotten: BTreeSet::new(),
            level: 3,
            memory: 256 << 20,
            clock: Clock::System,
        }
    }
}

/// What is about to be done.
#[derive(Debug)]
pub struct Plan {
    repo: Arc<Repository>,
    collection: Collection,
    watch: Stopwatch,
}

impl Plan {
    /// What was found and is about to be done.
    #[must_use]
    pub fn figures(&self) -> &Figures {
        &self.collection.figures
    }
}

/// What was done.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// What was found at first.
    pub planned: Figures,
    /// What was done.
    pub done: Collected,
    /// Seconds it took, the plan included.
    pub seconds: f64,
}

impl Report {
    /// Bytes that are free now and were not before; 0 if what was stored anew takes more so far.
    #[must_use]
    pub fn freed(&self) -> u64 {
        let freed = self.done.packs.bytes + self.done.segments.bytes;
        freed.saturating_sub(self.done.stored.bytes)
    }

    /// Bytes that are condemned and wait for a later run.
    #[must_use]
    pub fn freed_later(&self) -> u64 {
        let condemned = self.planned.due.bytes + self.planned.waiting.bytes;
        (condemned + self.done.condemned.bytes).saturating_sub(self.done.packs.bytes)
    }
}

/// Looks what can be freed. Reads only.
///
/// Errors: [`RepoError::NotCollected`] if anything a snapshot needs is not accounted for.
pub fn plan(
    repo: &Arc<Repository>,
    options: &PruneOptions,
    observer: &Arc<dyn Observer>,
    interrupt: &Interrupt,
) -> Result<Plan, OpsError> {
    let watch = Stopwatch::start();
    let stop = stopper(interrupt);
    let options = CollectOptions {
        grace: options.grace,
        max_unused: options.max_unused,
        max_repack: options.max_repack,
        expire_pending: options.expire_pending,
        orphan_age: options.orphan_age,
        forgotten: options.forgotten.clone(),
        now: options.clock.now(),
        writer: WriterOptions {
            level: options.level,
            pack_memory: options.memory * 3 / 8,
            ..WriterOptions::default()
        },
    };
    let collection = survey(repo, options, observer, &stop).map_err(told)?;
    Ok(Plan { repo: repo.clone(), collection, watch })
}

/// Does what was planned. Another run finishes what an interruption leaves undone.
///
/// Errors: [`RepoError::NotCollected`] if anything a snapshot needs is not accounted for by now;
/// [`OpsError::Refused`] for a plan with snapshots only taken for forgotten.
pub fn run(
    plan: Plan,
    observer: &Arc<dyn Observer>,
    interrupt: &Interrupt,
) -> Result<Report, OpsError> {
    let Plan { repo, collection, watch } = plan;
    let planned = collection.figures.clone();
    let stop = stopper(interrupt);
    let done = collection.run(&repo, observer, &stop).map_err(told)?;
    Ok(Report { planned, done, seconds: watch.elapsed().as_secs_f64() })
}

/// Plans and does it.
///
/// Errors: those of [`plan`] and [`run`].
pub fn prune(
    repo: &Arc<Repository>,
    options: &PruneOptions,
    observer: &Arc<dyn Observer>,
    interrupt: &Interrupt,
) -> Result<Report, OpsError> {
    run(plan(repo, options, observer, interrupt)?, observer, interrupt)
}

fn stopper(interrupt: &Interrupt) -> impl Fn() -> Result<(), RepoError> {
    let interrupt = interrupt.clone();
    move || interrupt.check().map_err(|_| RepoError::Interrupted)
}

fn told(error: RepoError) -> OpsError {
    match error {
        RepoError::Interrupted => OpsError::Interrupted,
        RepoError::Refused(why) => OpsError::Refused(why),
        other => other.into(),
    }
}
