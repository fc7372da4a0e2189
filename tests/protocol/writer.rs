//! A backup's steps, B1 to B6.

use super::action::{Action, Upload};
use super::rules::{Choices, Expiry, Merging, Protocol};
use super::world::{
    Chunks, FIRST_SNAPSHOTS, NEEDS, Object, PACKS, Packs, Records, World, WriterStep, bits, subsets,
};

impl Protocol {
    pub(super) fn writer_actions(&self, world: &World, writer: usize, actions: &mut Vec<Action>) {
        let snapshot = &world.snapshots[FIRST_SNAPSHOTS + writer];
        let state = &world.writers[writer];
        match state.step {
            WriterStep::Idle => {
                let known = if self.sees_condemned_at_b1() { world.records() } else { 0 };
                for (refs, upload) in self.covers(world, writer, known) {
                    actions.push(Action::Begin { writer, refs, upload });
                }
            }
            WriterStep::Uploading if state.refs & world.puts & !world.landed == 0 => {
                actions.push(Action::Uploaded { writer });
            }
            WriterStep::Pending if snapshot.pending.is_landed() => {
                self.relist_actions(world, writer, actions);
            }
            WriterStep::Committing if snapshot.ok.is_landed() => {
                let (mut seen, mut missed) = (snapshot.expire.is_landed(), true);
                if seen {
                    missed = snapshot.expire.is_younger(self.lag().ticks);
                }
                seen &= self.looks_for_expiry();
                if seen {
                    actions.push(Action::Finish { writer, acked: false });
                }
                if missed || !seen {
                    actions.push(Action::Finish { writer, acked: true });
                }
            }
            _ => {}
        }
        let ended = [WriterStep::Idle, WriterStep::Acked, WriterStep::Gone];
        if self.crashes && !ended.contains(&state.step) {
            actions.push(Action::CrashWriter { writer });
        }
    }

    /// B4.
    fn relist_actions(&self, world: &World, writer: usize, actions: &mut Vec<Action>) {
        let state = &world.writers[writer];
        for seen in self.record_views(world) {
            // With names that are used again, a record from before says nothing about now.
            let telling = seen & !state.known;
            let mut lost = state.refs & world.condemned(telling);
            if self.rules.merging != Merging::Off && self.rules.b4_minds_segments {
                let sound = state.segments & !world.condemned_segments(telling);
                lost |= state.refs & !world.named(sound);
            }
            if lost == 0 || !self.rules.b4_relists {
                actions.push(Action::Commit { writer });
            } else if state.round < self.rounds {
                for (refs, upload) in self.covers(world, writer, seen) {
                    actions.push(Action::Rescue { writer, refs, upload, seen });
                }
            }
        }
    }

    /// Where listings lag, a writer may see no condemn record at B1, however old.
    fn sees_condemned_at_b1(&self) -> bool {
        self.rules.b1_avoids_condemned && self.rules.lag.is_none()
    }

    fn looks_for_expiry(&self) -> bool {
        matches!(self.rules.expiry, Expiry::VoidIfOkAndRechecked | Expiry::Waits)
    }

    /// The ways to have all chunks: packs to rely on, and what is to be stored besides.
    fn covers(&self, world: &World, writer: usize, known: Records) -> Vec<(Packs, Upload)> {
        let needs = NEEDS[FIRST_SNAPSHOTS + writer];
        let round = match world.writers[writer].step {
            WriterStep::Idle => 0,
            _ => world.writers[writer].round + 1,
        };
        let named = world.named(world.segments & !world.condemned_segments(known));
        let usable = self.listed(world) & named & !world.condemned(known);
        let mut covers = Vec::new();
        for chunks in subsets(needs.into()).map(|set| set.to_le_bytes()[0]) {
            // These are found; a listing that lags may show less than there is.
            if chunks & !world.chunks(usable) != 0 {
                continue;
            }
            let upload = needs & !chunks;
            if upload & world.chunks(usable) != 0 && self.rules.lag.is_none() {
                continue;
            }
            let slot = self.upload_place(world, upload, writer, round);
            for refs in self.holders(world, usable, chunks) {
                let cover = (refs, Upload { chunks: upload, slot });
                if !covers.contains(&cover) {
                    covers.push(cover);
                }
            }
        }
        covers
    }

    /// The ways to have chunks in packs that are there.
    fn holders(&self, world: &World, usable: Packs, chunks: Chunks) -> Vec<Packs> {
        let mut ways = vec![0];
        for chunk in bits(chunks.into()) {
            let mut more = Vec::new();
            for way in ways {
                let of_chunk = |pack: &usize| world.packs[*pack] & (1 << chunk) != 0;
                if bits(way).any(|pack| of_chunk(&pack)) {
                    more.push(way);
                    continue;
                }
                let choices = bits(usable).filter(of_chunk).map(|pack| way | 1 << pack);
                let count = if self.choices == Choices::Sensible { 1 } else { PACKS };
                more.extend(choices.take(count));
            }
            ways = more;
        }
        ways
    }

    fn upload_place(&self, world: &World, upload: Chunks, writer: usize, round: u8) -> usize {
        let same = world.packs.iter().position(|chunks| *chunks == upload);
        let own = self.upload_slot(writer, round);
        if self.rules.i3_fresh_names { own } else { same.unwrap_or(own) }
    }

    pub(super) fn writer_step(&self, world: &mut World, action: Action) {
        match action {
            Action::Begin { writer, refs, upload } => {
                if self.rules.merging != Merging::Off {
                    let known = world.condemned_segments(world.records());
                    world.writers[writer].segments = world.segments & !known;
                }
                if !self.rules.i3_fresh_names {
                    world.writers[writer].known = world.records();
                }
                self.upload(world, writer, refs, upload);
                self.send_pending(world, writer);
            }
            Action::Uploaded { writer } => self.send_pending(world, writer),
            Action::Rescue { writer, refs, upload, seen } => {
                if self.rules.merging != Merging::Off {
                    let condemned = world.condemned_segments(seen);
                    world.writers[writer].segments = world.segments & !condemned;
                }
                world.writers[writer].round += 1;
                self.upload(world, writer, refs, upload);
                if world.writers[writer].step == WriterStep::Pending && !self.rules.b4_repeats {
                    self.commit(world, writer);
                }
            }
            Action::Commit { writer } => self.commit(world, writer),
            Action::Finish { writer, acked: true } => {
                world.writers[writer].step = WriterStep::Acked;
            }
            Action::Finish { writer, .. } | Action::CrashWriter { writer } => {
                self.forget_writer(world, writer);
            }
            _ => {}
        }
    }

    /// B2.
    fn upload(&self, world: &mut World, writer: usize, refs: Packs, upload: Upload) {
        let state = &mut world.writers[writer];
        state.step = WriterStep::Pending;
        state.refs = refs;
        if upload.chunks == 0 {
            return;
        }
        let pack = 1 << upload.slot;
        state.refs |= pack;
        if self.rules.merging != Merging::Off {
            state.segments |= pack;
        }
        world.packs[upload.slot] = upload.chunks;
        if self.rules.late_packs {
            world.puts |= pack;
            world.writers[writer].step = WriterStep::Uploading;
        } else {
            world.stored |= pack;
            world.segments |= pack;
        }
    }

    /// B3.
    fn send_pending(&self, world: &mut World, writer: usize) {
        let acked = world.writers[writer].refs & world.puts & !world.landed == 0;
        let pending = &mut world.snapshots[FIRST_SNAPSHOTS + writer].pending;
        if acked {
            world.writers[writer].step = WriterStep::Pending;
            if *pending == Object::Absent {
                *pending = Object::Sent;
            }
        }
    }

    /// B5. What the writer knows matters no more.
    fn commit(&self, world: &mut World, writer: usize) {
        self.forget_writer(world, writer);
        world.writers[writer].step = WriterStep::Committing;
        world.snapshots[FIRST_SNAPSHOTS + writer].ok = Object::Sent;
    }

    fn forget_writer(&self, world: &mut World, writer: usize) {
        world.writers[writer] = super::world::Writer::default();
        world.writers[writer].step = WriterStep::Gone;
    }
}
