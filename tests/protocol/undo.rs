//! The owner takes a `forget` back.

use super::action::Action;
use super::model::id;
use super::rules::{Protocol, UndoRule};
use super::world::{FIRST_SNAPSHOTS, NEEDS, Object, Undo, World};

impl Protocol {
    pub(super) fn undo_actions(&self, world: &World, owner: usize, actions: &mut Vec<Action>) {
        if self.rules.undo == UndoRule::Off {
            return;
        }
        match world.undos[owner] {
            Undo::Idle => {
                for (snapshot, needs) in NEEDS.iter().enumerate().take(FIRST_SNAPSHOTS) {
                    let checks = self.rules.undo == UndoRule::CheckedBefore;
                    let held = needs & !self.held(world) == 0;
                    if world.snapshots[snapshot].forget.is_landed() && (held || !checks) {
                        actions.push(Action::Withdraw { owner, snapshot });
                    }
                }
            }
            Undo::Withdrawing { snapshot } if self.is_withdrawn(world, snapshot) => {
                let missing = NEEDS[usize::from(snapshot)] & !self.held(world);
                let trusts =
                    matches!(self.rules.undo, UndoRule::Unchecked | UndoRule::CheckedBefore);
                actions.push(if trusts {
                    Action::EndUndo { owner, succeeded: true }
                } else {
                    Action::ListForUndo { owner, missing }
                });
            }
            Undo::Listed { missing, known, .. } => {
                let succeeded = missing & !world.chunks(known & world.stored) == 0;
                actions.push(Action::EndUndo { owner, succeeded });
            }
            _ => {}
        }
    }

    /// Chunks that have an uncondemned holder.
    fn held(&self, world: &World) -> u8 {
        world.chunks(world.usable(world.records()))
    }

    fn is_withdrawn(&self, world: &World, snapshot: u8) -> bool {
        let undo = world.snapshots[usize::from(snapshot)].undo;
        match self.rules.undo {
            UndoRule::RescuesAfterDelete => undo == Object::Absent,
            _ => undo.is_landed(),
        }
    }

    pub(super) fn undo_step(&self, world: &mut World, action: Action) {
        match action {
            Action::Withdraw { owner, snapshot } => {
                let undo = &mut world.snapshots[snapshot].undo;
                if *undo == Object::Absent {
                    *undo = Object::Sent;
                }
                world.undos[owner] = Undo::Withdrawing { snapshot: id(snapshot) };
            }
            Action::ListForUndo { owner, missing } => {
                let known = world.stored & world.named(world.segments);
                if let Undo::Withdrawing { snapshot } = world.undos[owner] {
                    world.undos[owner] = Undo::Listed { snapshot, missing, known };
                }
            }
            Action::EndUndo { owner, succeeded } => self.end_undo(world, owner, succeeded),
            _ => {}
        }
    }

    fn end_undo(&self, world: &mut World, owner: usize, succeeded: bool) {
        let (snapshot, missing) = match world.undos[owner] {
            Undo::Withdrawing { snapshot } => (snapshot, 0),
            Undo::Listed { snapshot, missing, .. } => (snapshot, missing),
            _ => return,
        };
        world.undos[owner] = Undo::Failed;
        if succeeded {
            world.undos[owner] = Undo::Succeeded { snapshot };
            let slot = self.rescue_slot(owner);
            world.packs[slot] = missing;
            if missing != 0 {
                world.stored |= 1 << slot;
                world.segments |= 1 << slot;
            }
        } else if self.rules.undo == UndoRule::RescuesOrForgetsAgain {
            world.snapshots[usize::from(snapshot)].again = Object::Sent;
        }
    }
}
