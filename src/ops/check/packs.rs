//! The second stage: packs against the index, and packs read whole.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::report::{Fault, Findings, chain, fault_of};
use super::share::{Coverage, Share};
use super::{CheckOptions, ReadData};
use crate::event::{Counters, Observer};
use crate::format::FRAME_RAW_MAX;
use crate::id::{ChunkId, PackId};
use crate::ops::error::{Interrupt, OpsError};
use crate::repo::{
    Index, Inventory, KnownPack, PackBuffers, PackCheck, PackLoss, PackReader, PackRef, RepoError,
    Repository, pack_name,
};

/// What is known to be lost of packs.
#[derive(Debug, Default)]
pub(in crate::ops) struct Losses {
    lost: HashMap<PackRef, PackLoss>,
    /// Damaged packs that were condemned: that they are damaged only matters to who needs them.
    set_aside: BTreeMap<PackId, (Fault, String)>,
    /// Packs that are damaged, and to be condemned; not those that are missing.
    pub(in crate::ops) damaged: BTreeMap<PackId, String>,
    /// Packs that segments name and the store does not list, and that nobody condemned.
    pub(in crate::ops) missing: Vec<PackId>,
    /// Packs that could not be read, though they may be whole.
    pub(in crate::ops) unreadable: BTreeMap<PackId, String>,
}

/// Whether a chunk can be had.
pub(in crate::ops) enum Found {
    /// It can.
    Sound,
    /// It is only in these packs, all of them damaged there.
    Lost(Vec<PackId>),
    /// No segment knows it.
    Unknown,
    /// It is there, but not as long as it should be.
    OtherLength,
}

/// What was found of a pack, or why it cannot be read.
type Checked = Result<PackCheck, RepoError>;

/// What was read.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::ops) struct Read {
    pub(in crate::ops) packs: u64,
    pub(super) bytes: u64,
    pub(super) coverage: Option<Coverage>,
}

impl Losses {
    /// Compares what segments name with what the store lists.
    pub(in crate::ops) fn compare(inventory: &Inventory, findings: &mut Findings) -> Self {
        let mut losses = Self::default();
        for pack in inventory.known.values() {
            let name = pack_name(&pack.id);
            let condemned = is_condemned(inventory, pack);
            let (fault, why) = match inventory.listed.get(&pack.id) {
                None => {
                    losses.missing.extend((!condemned).then_some(pack.id));
                    (Fault::Missing, format!("it held {} chunks", pack.chunks))
                }
                Some(size) if *size != pack.size => {
                    let why = format!("it has {size} bytes where the index says {}", pack.size);
                    (Fault::Damaged, why)
                }
                Some(_) => continue,
            };
            // A restore does not look into a pack of another size.
            losses.add(&inventory.index, &pack.id, PackLoss::All);
            if !condemned {
                if fault == Fault::Damaged {
                    let _ = losses.damaged.insert(pack.id, why.clone());
                }
                findings.add(name.as_str(), fault, &why);
            }
        }
        losses
    }

    fn add(&mut self, index: &Index, pack: &PackId, loss: PackLoss) {
        if let Some(pack) = index.pack_ref(pack) {
            let _ = self.lost.insert(pack, loss);
        }
    }

    /// Whether a chunk can be had, and with the length that whoever needs it expects.
    pub(in crate::ops) fn find(
        &self,
        index: &Index,
        id: &ChunkId,
        len: u32,
    ) -> Result<Found, RepoError> {
        let mut packs = Vec::new();
        let mut other_length = false;
        for place in index.find_recorded(id)? {
            let loss = self.lost.get(&place.pack);
            if loss.is_some_and(|loss| loss.covers(place.frame_offset, place.offset)) {
                packs.push(index.pack(place.pack).id);
            } else if place.len != len {
                other_length = true;
            } else {
                return Ok(Found::Sound);
            }
        }
        Ok(match (other_length, packs.is_empty()) {
            (true, _) => Found::OtherLength,
            (false, true) => Found::Unknown,
            (false, false) => Found::Lost(packs),
        })
    }

    /// Reads the packs that are asked for whole.
    pub(in crate::ops) fn read_packs(
        &mut self,
        repo: &Arc<Repository>,
        inventory: &Inventory,
        options: &CheckOptions,
        findings: &mut Findings,
        observer: &Arc<dyn Observer>,
        interrupt: &Interrupt,
    ) -> Result<Read, OpsError> {
        let mut share = Share::choose(repo, inventory, options);
        let packs = std::mem::take(&mut share.packs);
        let counters = observer.counters();
        Counters::add(&counters.bytes_total, packs.iter().map(|pack| pack.size).sum());
        let reader = PackReader::new(repo);
        let next = AtomicUsize::new(0);
        let work = || {
            let mut ours = Vec::new();
            let mut buffers = PackBuffers::default();
            while let Some(pack) = packs.get(next.fetch_add(1, Ordering::Relaxed)) {
                let checked =
                    interrupt.check().and_then(|()| read_pack(repo, &reader, pack, &mut buffers));
                match checked {
                    Ok(found) => ours.push((pack.id, found)),
                    Err(error) => {
                        // Others stop at their next pack.
                        next.store(packs.len(), Ordering::Relaxed);
                        return (ours, Err(error));
                    }
                }
                Counters::add(&counters.bytes, pack.size);
            }
            (ours, Ok(()))
        };
        let threads = threads(options.memory).min(packs.len());
        let (read, ended): (Vec<_>, Vec<Result<(), OpsError>>) = std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let ours = work();
            let others = others
                .into_iter()
                .map(|other| other.join().unwrap_or((Vec::new(), Err(RepoError::Worker.into()))));
            std::iter::once(ours).chain(others).unzip()
        });
        let read: BTreeMap<PackId, Option<Checked>> = read.into_iter().flatten().collect();
        if let Err(error) = ended.into_iter().collect::<Result<(), _>>() {
            // What was found sound need not be read again; damage is told when all is.
            let sound = read.iter().filter(|(_, found)| found.is_none());
            if matches!(options.read, ReadData::Percent(_)) {
                let _ = share.note(repo, sound.map(|(id, _)| *id).collect());
            }
            return Err(error);
        }
        let coverage = share.note(repo, read.keys().copied().collect())?;
        for (id, found) in read.into_iter().filter_map(|(id, found)| Some((id, found?))) {
            let condemned =
                inventory.known.get(&id).is_some_and(|pack| is_condemned(inventory, pack));
            self.take_in(&inventory.index, &id, condemned, found, findings);
        }
        let bytes = packs.iter().map(|pack| pack.size).sum();
        Ok(Read { packs: packs.len() as u64, bytes, coverage })
    }

    /// What is wrong with a pack that is known to be lost in some part.
    pub(super) fn known_of(&self, pack: &PackId) -> (Fault, &str) {
        match self.set_aside.get(pack) {
            Some((fault, why)) => (*fault, why),
            None => (Fault::Missing, "a snapshot needs what it held"),
        }
    }

    /// Remarks on damaged packs that were condemned and that nothing needs.
    pub(super) fn note_set_aside(&self, findings: &mut Findings) {
        for id in self.set_aside.keys() {
            let name = pack_name(id);
            if !findings.names(name.as_str()) {
                let message = "is damaged and condemned; all that is needed lies elsewhere, too";
                findings.notice(name.as_str(), message.to_owned());
            }
        }
    }

    /// The packs in which something is lost.
    pub(in crate::ops) fn packs<'l>(
        &'l self,
        index: &'l Index,
    ) -> impl Iterator<Item = PackId> + 'l {
        self.lost.keys().map(|pack| index.pack(*pack).id)
    }

    fn take_in(
        &mut self,
        index: &Index,
        id: &PackId,
        condemned: bool,
        found: Checked,
        findings: &mut Findings,
    ) {
        let name = pack_name(id);
        let (fault, why) = match found {
            Ok(found) if found.transient => {
                let faults = found.faults.join("; ");
                let message = format!("was read well only the second time; at first, {faults}");
                findings.notice(name.as_str(), message);
                return;
            }
            Ok(found) => {
                let mut why = found.faults.join("; ");
                if found.faults_more > 0 {
                    why.push_str(&format!("; and {} faults more", found.faults_more));
                }
                self.add(index, id, found.loss);
                (Fault::Damaged, why)
            }
            Err(error) => {
                self.add(index, id, PackLoss::All);
                (fault_of(&error), chain(&error))
            }
        };
        if condemned {
            let _ = self.set_aside.insert(*id, (fault, why));
            return;
        }
        findings.add(name.as_str(), fault, &why);
        let _ = match fault {
            Fault::Damaged => self.damaged.insert(*id, why),
            Fault::Unreadable => self.unreadable.insert(*id, why),
            Fault::Missing | Fault::RolledBack => {
                self.missing.push(*id);
                None
            }
        };
    }
}

fn is_condemned(inventory: &Inventory, pack: &KnownPack) -> bool {
    pack.condemned || inventory.condemned.contains(&pack.id)
}

/// As many as there are processors and as memory has room for packs.
pub(in crate::ops) fn threads(memory: u64) -> usize {
    let each = (32 << 20) + 2 * FRAME_RAW_MAX as u64;
    let room = usize::try_from(memory / each).unwrap_or(usize::MAX);
    std::thread::available_parallelism().map_or(2, usize::from).min(room).max(1)
}

/// What is wrong with a pack; none if it is sound.
fn read_pack(
    repo: &Repository,
    reader: &PackReader,
    pack: &KnownPack,
    buffers: &mut PackBuffers,
) -> Result<Option<Checked>, OpsError> {
    match reader.check(pack, buffers) {
        Ok(found) if found.faults.is_empty() => Ok(None),
        Ok(found) => Ok(Some(Ok(found))),
        Err(error) if repo.blames_object(&error)? => Ok(Some(Err(error))),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_memory_still_leaves_one_thread() {
        assert_eq!(threads(0), 1);
        assert!(threads(u64::MAX) >= 1);
    }
}
