//! A collection's steps, G1 to G5.

use super::action::Action;
use super::model::id;
use super::rules::{Choices, Expiry, Merging, Protocol};
use super::world::{
    Chunks, Collector, CollectorStep, MERGED, NEEDS, Object, PACKS, Packs, SNAPSHOTS, Segments,
    Snapshot, Snapshots, World, bits, subsets,
};

impl Protocol {
    pub(super) fn collector_actions(
        &self,
        world: &World,
        collector: usize,
        actions: &mut Vec<Action>,
    ) {
        let state = &world.collectors[collector];
        let own = self.record_slot(collector, state.round);
        match state.step {
            CollectorStep::Idle if state.round < self.rounds => {
                self.condemn_actions(world, collector, actions);
                for record in bits(world.records().into()) {
                    self.begin_sweep(world, collector, record, actions);
                }
            }
            CollectorStep::Repacking => {
                let copy = 1 << self.repack_slot(collector, state.round);
                if world.puts & copy & !world.landed == 0 {
                    actions.push(Action::Repacked { collector });
                }
            }
            CollectorStep::Condemning => {
                if world.condemns[own].object.is_landed() {
                    self.begin_sweep(world, collector, own, actions);
                }
                if !self.rules.g3_relists {
                    actions.push(Action::DeleteAtOnce { collector });
                }
            }
            CollectorStep::Forgets { record, forgotten, expired } => {
                self.list_snapshots(world, collector, record, (forgotten, expired), actions);
            }
            CollectorStep::Needs { record, needs } => {
                for seen in self.record_views(world) {
                    if self.single_lists {
                        actions.push(Action::ListCondemns { collector, seen });
                    } else {
                        actions.push(self.sweep(world, collector, record, needs, seen));
                    }
                }
            }
            CollectorStep::Condemns { record, needs, seen } => {
                actions.push(self.sweep(world, collector, record, needs, seen));
            }
            CollectorStep::Idle => {}
        }
        if self.crashes && state.step != CollectorStep::Idle {
            actions.push(Action::CrashCollector { collector });
        }
    }

    fn record_slot(&self, collector: usize, round: u8) -> usize {
        collector * usize::from(self.rounds) + usize::from(round)
    }

    /// G1: what is condemned, and what is copied first.
    fn condemn_actions(&self, world: &World, collector: usize, actions: &mut Vec<Action>) {
        let free = self.listed(world) & !world.condemned(world.records());
        let needs = self.needs_now(world);
        let mut plans: Vec<(Packs, Option<(usize, Chunks)>)> = Vec::new();
        for kept in self.kept(world, free, needs) {
            let packs = free & !kept;
            plans.push((packs, None));
            for pack in bits(kept) {
                let chunks = world.packs[pack] & needs;
                if self.repacks && chunks != 0 && chunks != world.packs[pack] {
                    plans.push((packs | 1 << pack, Some((pack, chunks))));
                }
            }
        }
        let can_merge = self.rules.merging != Merging::Off;
        for (number, (packs, repack)) in plans.iter().copied().enumerate() {
            if plans[..number].contains(&(packs, repack)) {
                continue;
            }
            for merge in [false, true].into_iter().take(1 + usize::from(can_merge)) {
                if packs != 0 || merge {
                    actions.push(Action::Condemn { collector, packs, repack, merge });
                }
            }
        }
    }

    /// Sets of packs to keep: those that hold what is needed, whichever are taken first; or any.
    fn kept(&self, world: &World, free: Packs, needs: Chunks) -> Vec<Packs> {
        if self.choices == Choices::Any {
            return subsets(free).collect();
        }
        let greedy = |packs: &mut dyn Iterator<Item = usize>| {
            let (mut kept, mut chunks) = (0, 0);
            for pack in packs {
                if world.packs[pack] & needs & !chunks != 0 {
                    kept |= 1 << pack;
                    chunks |= world.packs[pack];
                }
            }
            kept
        };
        let mut backwards: Vec<_> = bits(free).collect();
        backwards.reverse();
        vec![greedy(&mut bits(free)), greedy(&mut backwards.into_iter())]
    }

    /// G3, its first listing, once the collector has waited for D.
    fn begin_sweep(
        &self,
        world: &World,
        collector: usize,
        record: usize,
        actions: &mut Vec<Action>,
    ) {
        if world.condemns[record].object.is_younger(self.lag().wait) {
            return;
        }
        let forgotten = Self::forgotten(world);
        for expired in self.expired(world) {
            if self.single_lists {
                actions.push(Action::ListForgets { collector, record, expired });
            } else {
                let tombstones = (forgotten, expired);
                self.list_snapshots(world, collector, id(record), tombstones, actions);
            }
        }
    }

    /// The expired snapshots that a listing may show.
    fn expired(&self, world: &World) -> impl Iterator<Item = Snapshots> + use<> {
        let wait = if self.rules.expiry == Expiry::Waits { self.lag().wait } else { 0 };
        let counts = |object: Object| if object.is_younger(wait) { Object::Absent } else { object };
        self.views(&world.snapshots.map(|snapshot| counts(snapshot.expire)))
    }

    fn list_snapshots(
        &self,
        world: &World,
        collector: usize,
        record: u8,
        (forgotten, expired): (Snapshots, Snapshots),
        actions: &mut Vec<Action>,
    ) {
        let record = usize::from(record);
        for pending in self.views(&world.snapshots.map(|snapshot| snapshot.pending)) {
            for ok in self.views(&world.snapshots.map(|snapshot| snapshot.ok)) {
                let needs = self.needs((pending, ok), forgotten, expired);
                let action = Action::ListSnapshots { collector, record, needs };
                if !actions.contains(&action) {
                    actions.push(action);
                }
            }
        }
    }

    /// The chunks that must stay, as a listing shows it that misses nothing.
    fn needs_now(&self, world: &World) -> Chunks {
        let all = |object: fn(&Snapshot) -> Object| {
            let landed = |snapshot: &usize| object(&world.snapshots[*snapshot]).is_landed();
            (0..SNAPSHOTS).filter(landed).fold(0, |set, snapshot| set | 1 << snapshot)
        };
        let records = (all(|snapshot| snapshot.pending), all(|snapshot| snapshot.ok));
        self.needs(records, Self::forgotten(world), all(|snapshot| snapshot.expire))
    }

    /// The chunks that must stay: what is pending or committed, and has no tombstone that counts.
    fn needs(
        &self,
        (pending, ok): (Snapshots, Snapshots),
        forgotten: Snapshots,
        expired: Snapshots,
    ) -> Chunks {
        let expired = if self.rules.expiry == Expiry::Plain { expired } else { expired & !ok };
        let live = (pending | ok) & !forgotten & !expired;
        bits(live.into()).fold(0, |set, snapshot| set | NEEDS[snapshot])
    }

    /// G4: a condemned pack goes if all that is needed of it has another holder.
    fn sweep(
        &self,
        world: &World,
        collector: usize,
        record: u8,
        needs: Chunks,
        seen: u8,
    ) -> Action {
        let counted = if self.rules.g4_counts_all { seen } else { 1 << record };
        let named = world.named(world.segments & !world.condemned_segments(counted));
        let holders = self.listed(world) & named & !world.condemned(counted);
        let held = world.chunks(holders);
        let record = &world.condemns[usize::from(record)];
        let goes = |packs: Packs| world.chunks(packs & world.stored) & needs & !held == 0;
        let packs = bits(record.packs & world.stored).filter(|pack| goes(1 << pack));
        let packs = packs.fold(0, |set, pack| set | 1 << pack);
        let unchecked = self.rules.merging == Merging::DeletesUnchecked;
        let segments = bits(record.segments & world.segments)
            .filter(|segment| unchecked || goes(world.named(1 << segment)))
            .fold(0, |set, segment| set | 1 << segment);
        Action::Sweep { collector, packs, segments }
    }

    pub(super) fn collector_step(&self, world: &mut World, action: Action) {
        match action {
            Action::Condemn { collector, packs, repack, merge } => {
                self.plan(world, collector, packs, repack, merge);
            }
            Action::Repacked { collector } => self.send_record(world, collector),
            Action::DeleteAtOnce { collector } => {
                let own = self.record_slot(collector, world.collectors[collector].round);
                world.deletes |= world.condemns[own].packs & world.stored;
                self.end_round(world, collector);
            }
            Action::ListForgets { collector, record, expired } => {
                let (record, forgotten) = (id(record), Self::forgotten(world));
                let step = CollectorStep::Forgets { record, forgotten, expired };
                world.collectors[collector].step = step;
            }
            Action::ListSnapshots { collector, record, needs } => {
                let record = id(record);
                world.collectors[collector].step = CollectorStep::Needs { record, needs };
            }
            Action::ListCondemns { collector, seen } => {
                let state = &mut world.collectors[collector];
                if let CollectorStep::Needs { record, needs } = state.step {
                    state.step = CollectorStep::Condemns { record, needs, seen };
                }
            }
            Action::Sweep { collector, packs, segments } => {
                world.deletes |= packs;
                world.segment_deletes |= segments;
                self.end_round(world, collector);
            }
            Action::CrashCollector { collector } => self.end_round(world, collector),
            _ => {}
        }
    }

    fn plan(
        &self,
        world: &mut World,
        collector: usize,
        packs: Packs,
        repack: Option<(usize, Chunks)>,
        merge: bool,
    ) {
        let round = world.collectors[collector].round;
        let own = self.record_slot(collector, round);
        let mut arrives_late = false;
        if let Some((_, chunks)) = repack {
            let slot = self.repack_slot(collector, round);
            world.packs[slot] = chunks;
            if self.rules.late_packs {
                world.puts |= 1 << slot;
                arrives_late = true;
            } else {
                world.stored |= 1 << slot;
                world.segments |= 1 << slot;
            }
        }
        world.condemns[own].packs = packs;
        if self.rules.merging != Merging::Off {
            self.merge(world, own, merge);
        }
        world.collectors[collector].step = CollectorStep::Repacking;
        if !arrives_late {
            self.send_record(world, collector);
        }
    }

    /// Condemns segments: those that name condemned packs alone, and those that are merged.
    fn merge(&self, world: &mut World, own: usize, merge: bool) {
        let packs = world.condemns[own].packs;
        let records = world.records();
        let free = world.segments & !world.condemned_segments(records);
        let gone = world.condemned(records) | packs;
        let mut condemned: Segments = bits(free)
            .filter(|segment| world.named(1 << segment) & world.stored & !gone == 0)
            .fold(0, |set, segment| set | 1 << segment);
        if merge && own < MERGED {
            let mut names = world.named(free) & world.stored & !gone;
            if self.rules.merging == Merging::DropsUnneeded {
                let needs = self.needs_now(world);
                names = bits(names)
                    .filter(|pack| world.packs[*pack] & needs != 0)
                    .fold(0, |set, pack| set | 1 << pack);
            }
            condemned |= free;
            world.merged[own] = names;
            world.segments |= 1 << (PACKS + own);
        }
        world.condemns[own].segments = condemned;
    }

    /// G2.
    fn send_record(&self, world: &mut World, collector: usize) {
        let round = world.collectors[collector].round;
        world.condemns[self.record_slot(collector, round)].object = Object::Sent;
        world.collectors[collector].step = CollectorStep::Condemning;
    }

    fn end_round(&self, world: &mut World, collector: usize) {
        let round = world.collectors[collector].round + 1;
        world.collectors[collector] = Collector { step: CollectorStep::Idle, round };
    }
}
