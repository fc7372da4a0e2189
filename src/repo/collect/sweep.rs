//! G3 to G5: lists everything again, spares what is needed, deletes the rest.
//!
//! Everything that decides is known before the first deletion: lists begun after every condemn
//! record that counts here was durable, all trees they show, and the copies that stay, hashed.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use super::super::error::RepoError;
use super::super::index::Place;
use super::super::layout;
use super::super::repository::Repository;
use super::judge::{Standing, Verdict, deletable_segments, judge};
use super::mark::{Ages, Marks};
use super::needed::join;
use super::read::{ChunkCopy, read_copies};
use super::view::{Condemned, View};
use super::{Stop, lost};
use crate::clock::Time;
use crate::crypto::Payload;
use crate::event::{Counters, Observer};
use crate::id::{ChunkPrefix, PackId, SegmentId};

/// Copies that are hashed in one go, at most: what is known of them takes 40 bytes each.
const COPIES_MAX: usize = 1 << 20;

/// What a sweep did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Swept {
    pub(super) packs: u64,
    pub(super) pack_bytes: u64,
    pub(super) segments: u64,
    pub(super) segment_bytes: u64,
    /// Condemned packs that turned out to be needed.
    pub(super) spared: u64,
    /// Condemn records that are done with.
    pub(super) records: u64,
}

/// Sweeps the condemn records that are `due`, by the time they were written at. Whatever an
/// interruption leaves undone, the next sweep of anybody does.
///
/// `sound` are packs whose every chunk was hashed when this very run stored them.
/// Errors: [`RepoError::NotCollected`] if anything is not accounted for; then nothing was deleted.
pub(super) fn sweep(
    repo: &Arc<Repository>,
    marks: &mut Marks,
    before: &[Condemned],
    due: impl Fn(Time) -> bool,
    sound: &HashSet<PackId>,
    observer: &Arc<dyn Observer>,
    stop: Stop<'_>,
) -> Result<Swept, RepoError> {
    observer.stage("listing again");
    let view = View::take(repo, before)?;
    let ages = Ages { recent: None, settled: &due };
    marks.add(repo, &view, &BTreeSet::new(), ages, observer, stop)?;
    let records: Vec<&Condemned> =
        view.condemned.iter().filter(|record| due(record.written)).collect();
    let doomed: HashSet<PackId> = ids(&records, |record| &record.record.packs);
    let doomed_segments = ids(&records, |record| &record.record.segments);
    observer.stage("deciding");
    let spared = spare(repo, marks, &view, &doomed, sound, stop)?;
    let mut swept = Swept { spared: spared.len() as u64, ..Swept::default() };
    observer.stage("deleting");
    let mut gone = HashSet::new();
    for (id, size) in &view.inventory.listed {
        if doomed.contains(id) && !spared.contains(id) {
            stop()?;
            repo.store().delete(&layout::pack(id))?;
            let _ = gone.insert(*id);
            swept.packs += 1;
            swept.pack_bytes += size;
            Counters::add(&observer.counters().written, *size);
        }
    }
    let is_gone = |id: &PackId| gone.contains(id) || !view.inventory.listed.contains_key(id);
    let contents = &view.inventory.contents;
    let mut gone_segments = HashSet::new();
    let (listed, condemned) = (&view.inventory.listed_segments, &view.condemned_segments);
    for id in deletable_segments(&doomed_segments, listed, condemned, contents, is_gone) {
        stop()?;
        repo.store().delete(&layout::segment(&id))?;
        let _ = gone_segments.insert(id);
        swept.segments += 1;
        swept.segment_bytes += contents.get(&id).map_or(0, |(size, _)| *size);
    }
    for condemned in records.iter().filter(|condemned| !condemned.done) {
        let record = &condemned.record;
        let segment_gone = |id: &SegmentId| {
            gone_segments.contains(id) || !view.inventory.listed_segments.contains(id)
        };
        if record.packs.iter().all(is_gone) && record.segments.iter().all(segment_gone) {
            stop()?;
            put_done(repo, condemned)?;
            swept.records += 1;
        }
    }
    Ok(swept)
}

fn ids<I: Copy + std::cmp::Eq + std::hash::Hash + 'static, C: FromIterator<I>>(
    records: &[&Condemned],
    of: impl Fn(&Condemned) -> &Vec<I>,
) -> C {
    records.iter().flat_map(|record| of(record)).copied().collect()
}

/// G4: the doomed packs that are spared, after the copies that stay for the others were hashed.
fn spare(
    repo: &Arc<Repository>,
    marks: &mut Marks,
    view: &View,
    doomed: &HashSet<PackId>,
    sound: &HashSet<PackId>,
    stop: Stop<'_>,
) -> Result<HashSet<PackId>, RepoError> {
    let index = &view.inventory.index;
    let packs = index.packs();
    let standings: Vec<Standing> = packs
        .iter()
        .map(|(pack, present)| Standing {
            present: *present,
            usable: pack.is_usable() && !view.inventory.condemned.contains(&pack.id),
            doomed: doomed.contains(&pack.id),
        })
        .collect();
    let mut spared = HashSet::new();
    let mut after: Option<ChunkPrefix> = None;
    loop {
        let mut kept = Vec::new();
        join(index, &mut marks.needed, |prefix, is_needed, places| {
            if !is_needed || kept.len() >= COPIES_MAX || after.is_some_and(|after| *prefix <= after)
            {
                return Ok(());
            }
            let standing = |place: &Place| standings[place.pack.number()];
            let doomed = |place: &&Place| standing(place).doomed && standing(place).present;
            match judge(places.iter().map(standing)) {
                Verdict::Lost => return Err(lost(prefix)),
                Verdict::Untouched => {}
                Verdict::Spared => {
                    let packs = places.iter().filter(doomed).map(|at| packs[at.pack.number()].0.id);
                    spared.extend(packs);
                }
                Verdict::Covered => {
                    let mut holders = places.iter().filter(|place| standing(place).usable);
                    let is_sound = |at: &Place| sound.contains(&packs[at.pack.number()].0.id);
                    if !holders.clone().any(is_sound) {
                        let place = holders.next().copied();
                        kept.extend(place.map(|place| ChunkCopy { prefix: *prefix, place }));
                    }
                }
            }
            Ok(())
        })?;
        let full = kept.len() >= COPIES_MAX;
        after = kept.last().map(|kept| kept.prefix);
        // One copy of two is given up only for one that is sound.
        read_copies(repo, index, kept, stop, |_, _, _| Ok(()), |_, error| Err(error))?;
        if !full {
            return Ok(spared);
        }
    }
}

/// Says that a record was swept. Its content means nothing, and is the same whoever puts it.
fn put_done(repo: &Repository, condemned: &Condemned) -> Result<(), RepoError> {
    let base = condemned.name.base();
    let id = base.strip_suffix(".condemn").unwrap_or(base);
    Ok(repo.store().put(&layout::done(id), &Payload::public(b"swept\n".to_vec()))?)
}
