//! Repair: what can be made whole again is, and what cannot is told and got out of the way.
//!
//! Each noun has a plan, which only reads, and a run. None of them deletes anything, and each may
//! be stopped anywhere, run again, and run by several owners at once: all that is written are new
//! segments, condemn records, snapshots and tombstones, by the same protocol as ever.

mod index;
mod packs;
mod salvage;
mod snapshots;

pub use self::index::{IndexPlan, IndexReport, plan_index, run_index};
pub use self::packs::{DamagedPack, PacksPlan, PacksReport, plan_packs, run_packs};
pub use self::snapshots::{
    Lost, OldOnes, Row, Salvaged, SnapshotsPlan, SnapshotsReport, Way, plan_snapshots,
    run_snapshots,
};

use crate::clock::Clock;
use crate::id::PackId;
use crate::ops::check::{CheckOptions, ReadData};
use crate::ops::error::{Interrupt, OpsError};
use crate::repo::{NewData, RepoError, Repository, WriterOptions, pack_name};
use crate::store::StoreError;

/// Part of the memory limit that packs under way may take.
const PACK_MEMORY_SHARE: u64 = 3;

/// How a repository is repaired.
#[derive(Debug, Clone)]
pub struct RepairOptions {
    /// Ceiling of memory in bytes.
    pub memory: u64,
    /// zstd level of what is stored anew.
    pub level: i32,
    /// Whether every stored byte is read to find damage, or only what trees need.
    pub read: ReadData,
    /// Where the time comes from.
    pub clock: Clock,
    /// The program's name and version, for records.
    pub program: String,
}

impl Default for RepairOptions {
    fn default() -> Self {
        Self {
            memory: 256 << 20,
            level: 3,
            read: ReadData::All,
            clock: Clock::System,
            program: concat!("vault ", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

impl RepairOptions {
    fn check(&self) -> CheckOptions {
        CheckOptions { read: self.read, memory: self.memory, clock: self.clock }
    }

    fn writer(&self) -> WriterOptions {
        WriterOptions {
            level: self.level,
            verify: true,
            pack_memory: self.memory / PACK_MEMORY_SHARE,
            data: NewData::Store,
        }
    }
}

/// Whether a pack that the store does not list can be read all the same: then the list lies, or
/// lags.
fn is_hidden(repo: &Repository, pack: &PackId) -> Result<bool, OpsError> {
    match repo.store().get_range(&pack_name(pack), 0, &mut [0]) {
        Ok(()) => Ok(true),
        Err(StoreError::NotFound(_) | StoreError::Size { .. }) => Ok(false),
        Err(error) => Err(RepoError::from(error).into()),
    }
}

fn stopper(interrupt: &Interrupt) -> impl Fn() -> Result<(), RepoError> {
    let interrupt = interrupt.clone();
    move || interrupt.check().map_err(|_| RepoError::Interrupted)
}
