//! The second stage: packs against the index, and packs read whole.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::report::{Fault, Findings, chain, fault_of};
use super::{CheckOptions, ReadData};
use crate::crypto::{digest, random_bytes};
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
pub(super) struct Losses {
    lost: HashMap<PackRef, PackLoss>,
}

/// Whether a chunk can be had.
pub(super) enum Found {
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
pub(super) struct Read {
    pub(super) packs: u64,
    pub(super) bytes: u64,
}

impl Losses {
    /// Compares what segments name with what the store lists.
    pub(super) fn compare(inventory: &Inventory, findings: &mut Findings) -> Self {
        let mut losses = Self::default();
        for pack in inventory.known.values() {
            let name = pack_name(&pack.id);
            let (fault, why) = match inventory.listed.get(&pack.id) {
                None => (Fault::Missing, format!("it held {} chunks", pack.chunks)),
                Some(size) if *size != pack.size => {
                    let why = format!("it has {size} bytes where the index says {}", pack.size);
                    (Fault::Damaged, why)
                }
                Some(_) => continue,
            };
            // A restore does not look into a pack of another size.
            losses.add(&inventory.index, &pack.id, PackLoss::All);
            if !pack.condemned && !inventory.condemned.contains(&pack.id) {
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
    pub(super) fn find(&self, index: &Index, id: &ChunkId, len: u32) -> Result<Found, RepoError> {
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
    pub(super) fn read_packs(
        &mut self,
        repo: &Arc<Repository>,
        inventory: &Inventory,
        options: &CheckOptions,
        findings: &mut Findings,
        observer: &Arc<dyn Observer>,
        interrupt: &Interrupt,
    ) -> Result<Read, OpsError> {
        let packs = Self::choose(inventory, options.read)?;
        let counters = observer.counters();
        Counters::add(&counters.bytes_total, packs.iter().map(|pack| pack.size).sum());
        let reader = PackReader::new(repo);
        let next = AtomicUsize::new(0);
        let work = || -> Result<Vec<(PackId, Checked)>, OpsError> {
            let mut bad = Vec::new();
            let mut buffers = PackBuffers::default();
            while let Some(pack) = packs.get(next.fetch_add(1, Ordering::Relaxed)) {
                let checked =
                    interrupt.check().and_then(|()| read_pack(repo, &reader, pack, &mut buffers));
                if checked.is_err() {
                    // Others stop at their next pack.
                    next.store(packs.len(), Ordering::Relaxed);
                }
                bad.extend(checked?.map(|found| (pack.id, found)));
                Counters::add(&counters.bytes, pack.size);
            }
            Ok(bad)
        };
        let threads = threads(options.memory).min(packs.len());
        let bad = std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let mut all = work();
            for other in others {
                let more = other.join().unwrap_or(Err(RepoError::Worker.into()));
                all = all.and_then(|mut all| more.map(|more| all.extend(more)).map(|()| all));
            }
            all
        })?;
        let bad: BTreeMap<_, _> = bad.into_iter().collect();
        for (id, found) in bad {
            self.take_in(&inventory.index, &id, found, findings);
        }
        Ok(Read { packs: packs.len() as u64, bytes: packs.iter().map(|pack| pack.size).sum() })
    }

    fn take_in(&mut self, index: &Index, id: &PackId, found: Checked, findings: &mut Findings) {
        let name = pack_name(id);
        match found {
            Ok(found) if found.transient => {
                let faults = found.faults.join("; ");
                let message = format!("was read well only the second time; at first, {faults}");
                findings.notice(name.as_str(), message);
            }
            Ok(found) => {
                let mut why = found.faults.join("; ");
                if found.faults_more > 0 {
                    why.push_str(&format!("; and {} faults more", found.faults_more));
                }
                findings.add(name.as_str(), Fault::Damaged, &why);
                self.add(index, id, found.loss);
            }
            Err(error) => {
                findings.add(name.as_str(), fault_of(&error), &chain(&error));
                self.add(index, id, PackLoss::All);
            }
        }
    }

    /// The packs to be read.
    fn choose(inventory: &Inventory, read: ReadData) -> Result<Vec<&KnownPack>, OpsError> {
        let percent = match read {
            ReadData::Trees => return Ok(Vec::new()),
            ReadData::Percent(percent) => percent,
            ReadData::All => 100.0,
        };
        let seed: [u8; 32] = random_bytes().map_err(RepoError::from)?;
        let as_listed = |pack: &&KnownPack| inventory.listed.get(&pack.id) == Some(&pack.size);
        let mut drawn: Vec<_> = inventory
            .known
            .values()
            .filter(as_listed)
            .map(|pack| (digest(&[&seed[..], pack.id.as_bytes()].concat()), pack))
            .collect();
        drawn.sort_unstable_by_key(|(lot, _)| *lot);
        drawn.truncate(share(drawn.len(), percent));
        Ok(drawn.into_iter().map(|(_, pack)| pack).collect())
    }
}

/// So many percent of `count`, rounded up.
#[expect(clippy::cast_possible_truncation, reason = "the share is cut to the count")]
fn share(count: usize, percent: f64) -> usize {
    ((count as f64 * percent / 100.0).ceil() as usize).min(count)
}

/// As many as there are processors and as memory has room for packs.
fn threads(memory: u64) -> usize {
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
    fn a_share_of_packs_is_rounded_up_and_never_more_than_all() {
        for (count, percent, expected) in
            [(0, 50.0, 0), (1, 0.1, 1), (10, 25.0, 3), (10, 100.0, 10), (7, 99.999, 7)]
        {
            assert_eq!(share(count, percent), expected, "{percent}% of {count}");
        }
    }

    #[test]
    fn little_memory_still_leaves_one_thread() {
        assert_eq!(threads(0), 1);
        assert!(threads(u64::MAX) >= 1);
    }
}
