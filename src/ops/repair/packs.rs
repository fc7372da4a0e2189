//! `repair packs`: damaged packs are set aside, so that the next backups store once more what they
//! hold.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{RepairOptions, is_hidden};
use crate::event::Observer;
use crate::id::PackId;
use crate::ops::check::{Findings, Losses, ReadData, chain, threads};
use crate::ops::error::{Interrupt, OpsError};
use crate::repo::{
    Inventory, PackBuffers, PackReader, RepoError, Repository, pack_name, set_aside,
};

/// A damaged pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedPack {
    /// The pack.
    pub id: PackId,
    /// Its name in the store.
    pub object: String,
    /// Its size in the store in bytes; 0 if it is not there.
    pub size: u64,
    /// What is wrong with it.
    pub why: String,
}

/// What was found, and what is about to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PacksPlan {
    /// Packs that are read: all that the store lists and nobody condemned.
    pub packs: u64,
    /// To be set aside.
    pub damaged: Vec<DamagedPack>,
    /// Named by segments and not there: they are set aside, too, so that checks come to an end
    /// with them.
    pub missing: Vec<DamagedPack>,
    /// That could not be read now, and may be whole: they are left alone.
    pub unreadable: Vec<DamagedPack>,
}

impl PacksPlan {
    /// What is to be set aside: damaged and missing packs.
    pub fn going(&self) -> impl Iterator<Item = &DamagedPack> {
        self.damaged.iter().chain(&self.missing)
    }
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PacksReport {
    /// What was found.
    pub found: PacksPlan,
    /// Packs that are set aside now.
    pub set_aside: u64,
}

/// Reads packs and looks which are damaged. Reads only.
///
/// Errors: the store as a whole fails; [`OpsError::Interrupted`].
pub fn plan_packs(
    repo: &Arc<Repository>,
    options: &RepairOptions,
    observer: &Arc<dyn Observer>,
    interrupt: &Interrupt,
) -> Result<PacksPlan, OpsError> {
    repo.read_only_the_store();
    observer.stage("reading index");
    let inventory = Inventory::take(repo)?;
    let mut findings = Findings::default();
    let mut losses = Losses::compare(&inventory, &mut findings);
    observer.stage("reading packs");
    let read = super::RepairOptions { read: ReadData::All, ..options.clone() }.check();
    let read = losses.read_packs(repo, &inventory, &read, &mut findings, observer, interrupt)?;
    let mut damaged = std::mem::take(&mut losses.damaged);
    let unknown = read_unknown(repo, &inventory, options, interrupt)?;
    let packs = read.packs + unknown.0;
    damaged.extend(unknown.1);
    let told = |(id, why): (PackId, String)| DamagedPack {
        id,
        object: pack_name(&id).to_string(),
        size: inventory.listed.get(&id).copied().unwrap_or(0),
        why,
    };
    let mut unreadable = std::mem::take(&mut losses.unreadable);
    let mut missing = Vec::new();
    for id in &losses.missing {
        match is_hidden(repo, id)? {
            true => drop(unreadable.insert(*id, "it is there, but not in the list".to_owned())),
            false => missing.push((*id, "it is not there".to_owned())),
        }
    }
    Ok(PacksPlan {
        packs,
        damaged: damaged.into_iter().map(told).collect(),
        missing: missing.into_iter().map(told).collect(),
        unreadable: unreadable.into_iter().map(told).collect(),
    })
}

/// Does what was planned.
///
/// Errors: of the store.
pub fn run_packs(repo: &Repository, plan: PacksPlan) -> Result<PacksReport, OpsError> {
    // Of what is missing nothing must rest on what may come back, either.
    let packs: Vec<PackId> = plan.going().map(|pack| pack.id).collect();
    set_aside(repo, &packs)?;
    Ok(PacksReport { set_aside: packs.len() as u64, found: plan })
}

/// Packs that no segment names, but backups under way may rest on: how many, and the damaged ones.
fn read_unknown(
    repo: &Arc<Repository>,
    inventory: &Inventory,
    options: &RepairOptions,
    interrupt: &Interrupt,
) -> Result<(u64, BTreeMap<PackId, String>), OpsError> {
    let unknown = inventory.unknown().filter(|(id, _)| !inventory.condemned.contains(*id));
    let packs: Vec<(PackId, u64)> = unknown.map(|(id, size)| (*id, size)).collect();
    let reader = PackReader::new(repo);
    let next = AtomicUsize::new(0);
    let work = || -> Result<Vec<(PackId, String)>, OpsError> {
        let mut buffers = PackBuffers::default();
        let mut damaged = Vec::new();
        while let Some((id, size)) = packs.get(next.fetch_add(1, Ordering::Relaxed)) {
            interrupt.check()?;
            // The fault may lie in the way.
            let found = look_at(&reader, id, *size, &mut buffers)
                .or_else(|_| look_at(&reader, id, *size, &mut buffers));
            match found {
                Ok(()) => {}
                Err(RepoError::Store(error)) if !error.is_damage() => {
                    return Err(RepoError::Store(error).into());
                }
                Err(error) => damaged.push((*id, chain(&error))),
            }
        }
        Ok(damaged)
    };
    let threads = threads(options.memory).min(packs.len());
    let damaged = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut all = work();
        for other in others {
            let more = other.join().unwrap_or(Err(RepoError::Worker.into()));
            all = all.and_then(|mut all| more.map(|more| all.extend(more)).map(|()| all));
        }
        all
    })?;
    Ok((packs.len() as u64, damaged.into_iter().collect()))
}

fn look_at(
    reader: &PackReader,
    id: &PackId,
    size: u64,
    buffers: &mut PackBuffers,
) -> Result<(), RepoError> {
    match reader.open(id, size, buffers)?.is_whole {
        true => Ok(()),
        false => {
            let why = "its bytes do not have its name";
            Err(crate::format::FormatError::Damaged { what: "pack", why: why.to_owned() }.into())
        }
    }
}
