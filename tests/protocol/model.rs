//! The protocol as stateright sees it: which steps there are, and that nothing is lost.

use stateright::{Model, Property};

use super::action::{Action, Message};
use super::rules::{Expiry, Lag, Protocol, UndoRule};
use super::world::{
    FIRST_PACKS, FIRST_SNAPSHOTS, NEEDS, Object, PACKS, Records, SNAPSHOTS, Snapshots, Undo, World,
    WriterStep, bits, subsets,
};

/// Something that must come about in some state, or else a run has proven nothing.
pub(crate) type Goal = (&'static str, fn(&Protocol, &World) -> bool);

/// The invariant, by its name.
pub(crate) const NOTHING_LOST: &str = "what was promised can be read";

impl Model for Protocol {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new()]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        self.network_actions(world, actions);
        self.owner_actions(world, actions);
        for owner in 0..self.owners() {
            self.undo_actions(world, owner, actions);
        }
        for writer in 0..self.writers {
            self.writer_actions(world, writer, actions);
        }
        for collector in 0..self.collectors {
            self.collector_actions(world, collector, actions);
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = *world;
        match action {
            Action::Land(message) => self.land(&mut next, message),
            Action::Tick => self.tick(&mut next),
            Action::Forget { snapshot } => next.snapshots[snapshot].forget = Object::NEW,
            Action::Expire { snapshot } => next.snapshots[snapshot].expire = Object::Sent,
            Action::Begin { .. }
            | Action::Uploaded { .. }
            | Action::Commit { .. }
            | Action::Rescue { .. }
            | Action::Finish { .. }
            | Action::CrashWriter { .. } => self.writer_step(&mut next, action),
            Action::Withdraw { .. } | Action::ListForUndo { .. } | Action::EndUndo { .. } => {
                self.undo_step(&mut next, action);
            }
            _ => self.collector_step(&mut next, action),
        }
        (next != *world).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        // With one property alone the checker stops at the first counterexample; a search in
        // breadth with one thread then meets a shortest one.
        let mut properties =
            vec![Property::always(NOTHING_LOST, |protocol: &Self, world| !protocol.is_lost(world))];
        properties.extend(self.goals.iter().map(|(name, met)| Property::sometimes(name, *met)));
        properties
    }
}

impl Protocol {
    /// Whether a promise is broken: a snapshot that counts has a chunk that cannot be read.
    pub(crate) fn is_lost(&self, world: &World) -> bool {
        let readable = world.readable();
        (0..FIRST_SNAPSHOTS + self.writers)
            .any(|snapshot| NEEDS[snapshot] & !readable != 0 && self.is_promised(world, snapshot))
    }

    fn is_promised(&self, world: &World, snapshot: usize) -> bool {
        let records = &world.snapshots[snapshot];
        let undone = Undo::Succeeded { snapshot: id(snapshot) };
        let counts = records.pending.is_landed() && records.ok.is_landed();
        let kept = records.forget == Object::Absent || world.undos.contains(&undone);
        let acked = snapshot
            .checked_sub(FIRST_SNAPSHOTS)
            .is_none_or(|writer| world.writers[writer].step == WriterStep::Acked);
        // What was expired and never acknowledged may be incomplete, though its ok be there.
        counts && kept && (acked || !records.expire.is_landed())
    }

    pub(crate) fn lag(&self) -> Lag {
        self.rules.lag.unwrap_or(Lag { ticks: 0, wait: 0 })
    }

    /// The sets of objects that a listing may show: whatever is too young to be sure is optional.
    pub(crate) fn views(&self, objects: &[Object]) -> impl Iterator<Item = u8> + use<> {
        let (mut sure, mut perhaps) = (0_u16, 0_u16);
        for (number, object) in objects.iter().enumerate() {
            if object.is_younger(self.lag().ticks) {
                perhaps |= 1 << number;
            } else if object.is_landed() {
                sure |= 1 << number;
            }
        }
        subsets(perhaps).map(move |seen| (seen | sure).to_le_bytes()[0])
    }

    pub(crate) fn record_views(&self, world: &World) -> impl Iterator<Item = Records> + use<> {
        self.views(&world.condemns.map(|record| record.object))
    }

    /// Snapshots whose tombstone counts.
    pub(crate) fn forgotten(world: &World) -> Snapshots {
        let gone = |snapshot: &usize| {
            let records = &world.snapshots[*snapshot];
            let withdrawn = records.undo.is_landed() && !records.again.is_landed();
            records.forget.is_landed() && !withdrawn
        };
        (0..SNAPSHOTS).filter(gone).fold(0, |set, snapshot| set | 1 << snapshot)
    }

    fn network_actions(&self, world: &World, actions: &mut Vec<Action>) {
        let mut land = |message| actions.push(Action::Land(message));
        for (number, snapshot) in world.snapshots.iter().enumerate() {
            let messages = [
                (snapshot.pending, Message::Pending(number)),
                (snapshot.ok, Message::Ok(number)),
                (snapshot.forget, Message::Forget(number)),
                (snapshot.expire, Message::Expire(number)),
                (snapshot.undo, Message::Withdrawal(number)),
                (snapshot.again, Message::ForgetAgain(number)),
            ];
            let sent = messages.into_iter().filter(|(object, _)| *object == Object::Sent);
            sent.for_each(|(_, message)| land(message));
        }
        for (number, record) in world.condemns.iter().enumerate() {
            if record.object == Object::Sent {
                land(Message::Condemn(number));
            }
        }
        bits(world.puts & !world.stored).for_each(|pack| land(Message::PutPack(pack)));
        bits(world.deletes & world.stored).for_each(|pack| land(Message::DeletePack(pack)));
        bits(world.segment_deletes).for_each(|segment| land(Message::DeleteSegment(segment)));
        if self.rules.lag.is_some() {
            actions.push(Action::Tick);
        }
    }

    fn land(&self, world: &mut World, message: Message) {
        match message {
            Message::Pending(snapshot) => world.snapshots[snapshot].pending = Object::NEW,
            Message::Ok(snapshot) => world.snapshots[snapshot].ok = Object::NEW,
            Message::Forget(snapshot) => world.snapshots[snapshot].forget = Object::NEW,
            Message::Expire(snapshot) => world.snapshots[snapshot].expire = Object::NEW,
            Message::Withdrawal(snapshot) => {
                let records = &mut world.snapshots[snapshot];
                if self.rules.undo == UndoRule::RescuesAfterDelete {
                    // Its PUT was sent twice, since an answer was lost; the second is under way.
                    records.forget = Object::Sent;
                    records.undo = Object::Absent;
                } else {
                    records.undo = Object::NEW;
                }
            }
            Message::ForgetAgain(snapshot) => world.snapshots[snapshot].again = Object::NEW,
            Message::Condemn(record) => world.condemns[record].object = Object::NEW,
            Message::PutPack(pack) => {
                world.stored |= 1 << pack;
                world.landed |= 1 << pack;
                world.segments |= 1 << pack;
            }
            Message::DeletePack(pack) => {
                world.stored &= !(1 << pack);
                // A name that is never used again cannot be hit twice, unless a PUT comes late.
                if !self.rules.late_packs {
                    world.deletes &= !(1 << pack);
                }
            }
            Message::DeleteSegment(segment) => {
                world.segments &= !(1 << segment);
                world.segment_deletes &= !(1 << segment);
            }
        }
    }

    fn tick(&self, world: &mut World) {
        let Lag { ticks, wait } = self.lag();
        for snapshot in &mut world.snapshots {
            snapshot.pending.grow(ticks);
            snapshot.ok.grow(ticks);
            snapshot.undo.grow(ticks);
            let waits = self.rules.expiry == Expiry::Waits;
            snapshot.expire.grow(if waits { ticks.max(wait) } else { ticks });
        }
        for record in &mut world.condemns {
            record.object.grow(ticks.max(wait));
        }
    }

    fn owner_actions(&self, world: &World, actions: &mut Vec<Action>) {
        for (number, snapshot) in world.snapshots.iter().enumerate() {
            let is_new = number >= FIRST_SNAPSHOTS;
            let may_forget = !is_new || (self.rules.forgets_new && snapshot.ok.is_landed());
            if may_forget && snapshot.forget == Object::Absent {
                actions.push(Action::Forget { snapshot: number });
            }
            let unfinished = !snapshot.ok.is_landed() || snapshot.ok.is_younger(self.lag().ticks);
            let expires = is_new && snapshot.pending.is_landed() && unfinished;
            let absent = snapshot.expire == Object::Absent;
            if self.rules.expiry != Expiry::Off && expires && absent {
                actions.push(Action::Expire { snapshot: number });
            }
        }
    }

    /// The slot of what a writer stores in its round.
    pub(crate) fn upload_slot(&self, writer: usize, round: u8) -> usize {
        FIRST_PACKS.len() + writer * (usize::from(self.rounds) + 1) + usize::from(round)
    }

    /// The slot of what a collector stores in its round.
    pub(crate) fn repack_slot(&self, collector: usize, round: u8) -> usize {
        let rounds = usize::from(self.rounds);
        self.upload_slot(self.writers, 0) + collector * rounds + usize::from(round)
    }

    /// The slot of what an undo stores.
    pub(crate) fn rescue_slot(&self, owner: usize) -> usize {
        self.repack_slot(self.collectors, 0) + owner
    }

    /// How many owners take a `forget` back.
    fn owners(&self) -> usize {
        if self.rules.two_undos { 2 } else { 1 }
    }

    /// The packs that a listing shows. Where listings lag, also all that were ever deleted.
    pub(crate) fn listed(&self, world: &World) -> u16 {
        if self.rules.lag.is_none() {
            return world.stored;
        }
        (0..PACKS).filter(|pack| world.packs[*pack] != 0).fold(0, |set, pack| set | 1 << pack)
    }
}

/// A small number as it stands in a state.
pub(crate) fn id(number: usize) -> u8 {
    number.to_le_bytes()[0]
}
