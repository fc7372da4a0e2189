//! Forget: what retention no longer wants, and what is no longer wanted by name.
//!
//! Planning reads only; a plan can be printed and thrown away. Running it stores a tombstone for
//! each snapshot that goes. Nothing else is written and nothing removed: until a collector sweeps
//! what only they need, every one of them can be taken back.

mod plan;
mod policy;
mod undo;

#[cfg(test)]
mod tests;

pub use self::plan::{
    ForgetOptions, Kept, Plan, Row, Selection, SeriesFilter, SeriesShare, Verdict, plan, plan_in,
};
pub use self::policy::{Dated, Policy, Rule};
pub use self::undo::{Forgotten, UndoReport, forgotten, undo};
use super::error::{Interrupt, OpsError};
use crate::id::SnapshotId;
use crate::repo::{Repository, first_unreadable};

/// What was forgotten.
#[derive(Debug)]
pub struct ForgetReport {
    /// The snapshots whose tombstones are durable, in the plan's order.
    pub forgotten: Vec<SnapshotId>,
    /// What ended it before it was done. Running a new plan goes on where this one stopped.
    pub error: Option<OpsError>,
}

/// Does what a plan says.
///
/// A plan may rest on what a cache says. So what a policy leaves of each series is first read in
/// the store itself; if that cannot be done, nothing is forgotten.
#[must_use]
pub fn run(repo: &Repository, plan: &Plan, interrupt: &Interrupt) -> ForgetReport {
    if let Err(error) = look_at_what_stays(repo, plan) {
        return ForgetReport { forgotten: Vec::new(), error: Some(error) };
    }
    let stop = || interrupt.check().is_err();
    let (forgotten, error) = repo.put_tombstones(plan.tombstones(), &stop);
    let error = error.map(|error| match interrupt.check() {
        Err(interrupted) => interrupted,
        Ok(()) => error.into(),
    });
    ForgetReport { forgotten, error }
}

fn look_at_what_stays(repo: &Repository, plan: &Plan) -> Result<(), OpsError> {
    match first_unreadable(repo, &plan.relied_on())? {
        None => Ok(()),
        Some((id, error)) => Err(OpsError::Refused(format!(
            "nothing was forgotten: snapshot {}, which was to stay, cannot be read: {}",
            id.short(),
            crate::ops::check::chain(&error)
        ))),
    }
}
