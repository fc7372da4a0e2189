//! Copies of snapshots in another repository, through the library.

mod cut;
mod damaged;
mod economy;
mod same;

use std::sync::Arc;

use volume_vault::clock::Clock;
use volume_vault::event::{Observer, Recorder};
use volume_vault::ops::copy::{
    Copied, CopyOptions, Copying, DamagedFiles, Fate, ForgottenThere, Outcome, Plan, Refused, plan,
};
use volume_vault::ops::{Interrupt, OpsError};
use volume_vault::repo::{Repository, SnapshotList};

/// What came of the snapshots that were to be copied.
#[derive(Default)]
struct Told {
    copied: Vec<Copied>,
    refused: Vec<Refused>,
    /// Snapshots that needed no copy.
    passed: usize,
}

/// Small packs, and every frame looked at.
fn options() -> CopyOptions {
    let damaged = DamagedFiles::Refuse;
    CopyOptions { damaged, level: 1, verify: true, memory: 0, clock: Clock::System }
}

fn planned(from: &Repository, to: &Repository, again: ForgottenThere) -> Result<Plan, OpsError> {
    let list = SnapshotList::load(from)?;
    plan(from, &list, to, &|_| true, again)
}

/// Copies everything that is not there, as the program does.
fn copy(from: &Arc<Repository>, to: &Arc<Repository>) -> Result<Told, OpsError> {
    let observer: Arc<dyn Observer> = Arc::new(Recorder::default());
    let plan = planned(from, to, ForgottenThere::Skip)?;
    copy_as(from, to, plan, options(), &observer, &Interrupt::default())
}

fn copy_as(
    from: &Arc<Repository>,
    to: &Arc<Repository>,
    mut plan: Plan,
    options: CopyOptions,
    observer: &Arc<dyn Observer>,
    interrupt: &Interrupt,
) -> Result<Told, OpsError> {
    let mut told = Told::default();
    let rows = std::mem::take(&mut plan.rows);
    let mut copying = Copying::begin(from, to, plan, options)?;
    for row in rows {
        if row.fate != Fate::Copy {
            told.passed += 1;
            continue;
        }
        interrupt.check()?;
        match copying.copy(&row.snapshot, observer, interrupt)? {
            Outcome::Copied(copied) => told.copied.push(copied),
            Outcome::Refused(refused) => told.refused.push(refused),
        }
    }
    Ok(told)
}
