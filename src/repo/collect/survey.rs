//! G1: lists everything, marks what is needed, chooses what goes. Reads only.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::super::error::RepoError;
use super::super::index::{Index, Place};
use super::super::repository::Repository;
use super::super::snapshots::SnapshotList;
use super::super::state::LockedState;
use super::super::store_facts::grace_min;
use super::choose::{Budget, PackUse, choose};
use super::expire::expirable;
use super::mark::{Ages, Marks};
use super::needed::{Needed, join};
use super::segments::{SegmentChoice, choose_segments};
use super::view::View;
use super::{
    CollectOptions, Collection, Figures, GRACE_SHARED, Grace, Requests, Stop, age, is_due, lost,
    unaccounted,
};
use crate::clock::Time;
use crate::event::Observer;
use crate::id::PackId;

/// Lists and reads, and chooses what is to be done.
///
/// Errors: [`RepoError::NotCollected`] if anything is not accounted for, such as a record, tree or
/// segment that cannot be read; [`RepoError::RolledBack`].
pub fn survey(
    repo: &Arc<Repository>,
    options: CollectOptions,
    observer: &Arc<dyn Observer>,
    stop: Stop<'_>,
) -> Result<Collection, RepoError> {
    repo.check_writable()?;
    refuse_by_facts(repo, options.grace)?;
    observer.stage("listing");
    repo.read_only_the_store();
    // What the store hides now and this host has seen must not be taken for garbage.
    if let (_, Some(rolled_back)) = SnapshotList::survey(repo).map_err(unaccounted)? {
        return Err(rolled_back);
    }
    stop()?;
    let view = View::take(repo, &[])?;
    let now = options.now.max(view.newest());
    let expire = expirable(&view, before(now, options.expire_pending));
    observer.stage("walking trees");
    let mut marks = Marks::new(repo)?;
    let without: BTreeSet<_> = expire.union(&options.forgotten).copied().collect();
    // Nothing is deleted by what is seen here.
    let ages = Ages { recent: Some(before(now, options.orphan_age)), settled: &|_| true };
    marks.add(repo, &view, &without, ages, observer, stop)?;
    stop()?;
    observer.stage("choosing");
    let grace = match options.grace {
        Grace::Given(grace) => grace,
        Grace::Local if is_alone(repo, &marks)? => Duration::ZERO,
        Grace::Local => GRACE_SHARED,
    };
    let tally = tally(&view, &marks, &options, now);
    let tally = tally.count(&view.inventory.index, &mut marks.needed)?;
    let mut figures = Figures {
        snapshots: marks.snapshots(),
        expired: expire.len() as u64,
        grace,
        ..Figures::default()
    };
    let going = tally.choose(&view, &options, now, &mut figures);
    let segments = choose_segments(
        &view,
        |pack| {
            let inventory = &view.inventory;
            let listed = inventory.listed.contains_key(pack);
            listed && !inventory.condemned.contains(pack) && !going.contains(pack)
        },
        |pack| tally.young.contains(pack),
    );
    let moves = figures.repack.objects > 0 || tally.is_stranded;
    count_condemned(&view, grace, now, &mut figures);
    count_rest(&view, &segments, &going, &mut figures);
    Ok(Collection { figures, options, view, marks, expire, going, segments, moves })
}

/// What is kept of the store's lists may forbid to delete by them.
fn refuse_by_facts(repo: &Repository, grace: Grace) -> Result<(), RepoError> {
    let location = repo.store().location();
    if repo.config().store.is_some_and(|store| store.lists_many == Some(false)) {
        return Err(RepoError::Refused(format!(
            "long lists of {location} were seen to leave out objects: nothing is deleted by them"
        )));
    }
    match (grace_min(repo), grace) {
        (None, _) => Ok(()),
        (Some(least), Grace::Given(grace)) if grace >= least => Ok(()),
        (Some(least), _) => Err(RepoError::Refused(format!(
            "lists of {location} were seen to lag behind what is written: a wait of {} days at \
             least must be asked for",
            least.as_secs() / (24 * 3600)
        ))),
    }
}

/// Whether nobody but this host has written a record.
fn is_alone(repo: &Repository, marks: &Marks) -> Result<bool, RepoError> {
    let own = LockedState::open(repo)?.state.writer;
    Ok(marks.writers.iter().all(|writer| *writer == own))
}

fn before(now: Time, age: Duration) -> Time {
    let age = i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
    Time::new(now.seconds.saturating_sub(age), now.nanos)
}

/// What is known of each pack of the index, by its number.
struct Tally {
    packs: Vec<PackUse>,
    ids: Vec<PackId>,
    /// Whether it is present and no record condemns it.
    usable: Vec<bool>,
    present: Vec<bool>,
    young: HashSet<PackId>,
    /// Whether there are needed chunks that only condemned packs hold.
    is_stranded: bool,
    /// Bytes of the store that these take, about.
    stranded: u64,
}

fn tally(view: &View, marks: &Marks, options: &CollectOptions, now: Time) -> Tally {
    let packs = view.inventory.index.packs();
    let is_young = |id: &PackId| {
        let written = view.inventory.written.get(id);
        written.is_some_and(|written| age(*written, now) < options.orphan_age)
    };
    let mut tally = Tally {
        packs: Vec::with_capacity(packs.len()),
        ids: packs.iter().map(|(pack, _)| pack.id).collect(),
        usable: packs.iter().map(|(pack, _)| pack.is_usable()).collect(),
        present: packs.iter().map(|(_, present)| *present).collect(),
        young: HashSet::new(),
        is_stranded: false,
        stranded: 0,
    };
    for (pack, _) in &packs {
        let young = !marks.has_record(&pack.seal) && is_young(&pack.id);
        if young {
            let _ = tally.young.insert(pack.id);
        }
        let (kind, size) = (pack.kind, pack.size);
        tally.packs.push(PackUse { kind, size, content: 0, needed: 0, young });
    }
    tally
}

impl Tally {
    /// Counts what is needed of each pack. Of several copies the one counts that lies in the pack
    /// of which most is needed, so that others become free.
    fn count(mut self, index: &Index, needed: &mut Needed) -> Result<Self, RepoError> {
        let mut any = vec![0u64; self.packs.len()];
        let mut stranded = vec![0u64; self.packs.len()];
        join(index, needed, |prefix, is_needed, places| {
            // An empty chunk, which no writer makes, must not pass for nothing.
            let len = |place: &Place| u64::from(place.len.max(1));
            for place in places {
                self.packs[place.pack.number()].content += len(place);
            }
            if !is_needed {
                return Ok(());
            }
            let present = |place: &&Place| self.present[place.pack.number()];
            let Some(first) = places.iter().find(present) else { return Err(lost(prefix)) };
            let usable = |place: &&Place| self.usable[place.pack.number()];
            for place in places.iter().filter(usable) {
                any[place.pack.number()] += len(place);
            }
            if !places.iter().any(|place| usable(&place)) {
                self.is_stranded = true;
                stranded[first.pack.number()] += len(first);
            }
            Ok(())
        })?;
        // What a snapshot needs a part of is the pack of a collector, or of a run that was cut
        // short after others had come to rest on it.
        for (number, pack) in self.packs.iter_mut().enumerate() {
            if any[number] > 0 {
                pack.young = false;
                let _ = self.young.remove(&self.ids[number]);
            }
        }
        join(index, needed, |_, is_needed, places| {
            if !is_needed {
                return Ok(());
            }
            let usable = places.iter().filter(|place| self.usable[place.pack.number()]);
            let best = usable.max_by_key(|place| (any[place.pack.number()], place.pack));
            if let Some(best) = best.copied() {
                self.packs[best.pack.number()].needed += u64::from(best.len.max(1));
            }
            Ok(())
        })?;
        for (pack, needed) in self.packs.iter().zip(stranded) {
            self.stranded += PackUse { needed, ..*pack }.used();
        }
        Ok(self)
    }

    /// Chooses the packs that are to be condemned.
    fn choose(
        &self,
        view: &View,
        options: &CollectOptions,
        now: Time,
        figures: &mut Figures,
    ) -> HashSet<PackId> {
        let inventory = &view.inventory;
        let usable: Vec<usize> = (0..self.packs.len()).filter(|at| self.usable[*at]).collect();
        let packs: Vec<PackUse> = usable.iter().map(|at| self.packs[*at]).collect();
        let budget = Budget { max_unused: options.max_unused, max_repack: options.max_repack };
        let choice = choose(&packs, self.stranded, budget);
        let mut going = HashSet::new();
        figures.moved = self.stranded;
        for at in &choice.free {
            figures.free.add(packs[*at].size);
            let _ = going.insert(self.ids[usable[*at]]);
        }
        for at in &choice.repack {
            figures.repack.add(packs[*at].size);
            figures.moved += packs[*at].used();
            let _ = going.insert(self.ids[usable[*at]]);
        }
        for (pack, at) in packs.iter().zip(&usable) {
            if !going.contains(&self.ids[*at]) {
                figures.unused += pack.unused();
            }
            if pack.young {
                figures.young.add(pack.size);
            }
        }
        // Packs that no segment names, and such as are cut short: nothing that is needed is there.
        // Of those that only condemned segments name, what is needed is stranded and stored anew.
        let known = |id: &PackId| inventory.index.pack_ref(id).map(|pack| pack.number());
        let vouched: HashSet<&PackId> = inventory
            .contents
            .iter()
            .filter(|(segment, _)| !view.condemned_segments.contains(*segment))
            .flat_map(|(_, (_, packs))| packs)
            .collect();
        for (id, size) in &inventory.listed {
            let broken = known(id).is_none_or(|number| !self.present[number]);
            if !broken && vouched.contains(id) || inventory.condemned.contains(id) {
                continue;
            }
            let written = inventory.written.get(id).copied().unwrap_or(now);
            match age(written, now) < options.orphan_age {
                true => figures.young.add(*size),
                false => {
                    figures.free.add(*size);
                    let _ = going.insert(*id);
                }
            }
        }
        going
    }
}

/// What was condemned before: due or waiting.
fn count_condemned(view: &View, grace: Duration, now: Time, figures: &mut Figures) {
    let records = view.condemned.iter();
    let due: HashSet<&PackId> = records
        .clone()
        .filter(|record| is_due(record.written, grace, now))
        .flat_map(|record| &record.record.packs)
        .collect();
    let listed = &view.inventory.listed;
    let later = |written: Time| {
        let grace = i64::try_from(grace.as_secs()).unwrap_or(i64::MAX);
        Time::new(written.seconds.saturating_add(grace), written.nanos)
    };
    for (id, size) in listed.iter().filter(|(id, _)| view.inventory.condemned.contains(*id)) {
        match due.contains(id) {
            true => figures.due.add(*size),
            false => figures.waiting.add(*size),
        }
    }
    let waiting = records.filter(|record| !is_due(record.written, grace, now));
    let waiting = waiting.filter(|r| r.record.packs.iter().any(|id| listed.contains_key(id)));
    figures.later = waiting.map(|record| later(record.written)).max();
    if !grace.is_zero() && (figures.free.objects > 0 || figures.repack.objects > 0) {
        figures.later = Some(later(now));
    }
}

fn count_rest(
    view: &View,
    segments: &SegmentChoice,
    going: &HashSet<PackId>,
    figures: &mut Figures,
) {
    let inventory = &view.inventory;
    inventory.listed.values().for_each(|size| figures.packs.add(*size));
    let size = |id| inventory.contents.get(id).map_or(0, |(size, _)| *size);
    segments.free.iter().chain(&segments.merge).for_each(|id| figures.segments.add(size(id)));
    figures.merged = segments.merge.len() as u64;
    let fresh = figures.free.bytes + figures.repack.bytes;
    let (now, later) = match figures.grace.is_zero() {
        true => (figures.due.bytes + fresh, figures.waiting.bytes),
        false => (figures.due.bytes, figures.waiting.bytes + fresh),
    };
    figures.freed_now = now.saturating_sub(figures.moved);
    figures.freed_later = later;
    let sweeps = figures.due.objects > 0 || figures.grace.is_zero() && !going.is_empty();
    let deletes = figures.due.objects
        + if figures.grace.is_zero() { going.len() as u64 + figures.segments.objects } else { 0 };
    let new_packs = figures.moved.div_ceil(24 << 20);
    figures.requests = Requests {
        list: if sweeps { 5 } else { 0 },
        // A frame is about half a megabyte in the store.
        get: figures.moved.div_ceil(512 << 10) + if sweeps { inventory.segments } else { 0 },
        put: figures.expired
            + new_packs
            + u64::from(new_packs > 0)
            + u64::from(!going.is_empty() || figures.segments.objects > 0),
        delete: deletes,
    };
}
