//! Runs the model: through every state, or to the first loss.

use stateright::{Checker, Model};

use super::action::Action;
use super::model::{Goal, NOTHING_LOST};
use super::rules::Protocol;
use super::world::{CollectorStep, PACKS, Undo, World, WriterStep};

/// Every backup of a run is acknowledged.
pub(crate) const ALL_ACKED: Goal = ("every backup is acknowledged", all_acked);
/// The same, and packs were deleted on the way.
pub(crate) const ACKED_AFTER_DELETION: Goal =
    ("every backup is acknowledged and packs are deleted", |protocol, world| {
        all_acked(protocol, world) && is_deleted(world)
    });
/// A collector has gone through all its rounds and deleted something.
pub(crate) const SWEPT: Goal = ("a collector is done and packs are deleted", |protocol, world| {
    let collectors = &world.collectors[..protocol.collectors];
    let done = |round, step| round == protocol.rounds && step == CollectorStep::Idle;
    collectors.iter().any(|state| done(state.round, state.step)) && is_deleted(world)
});
/// B4 hit something.
pub(crate) const RESCUED: Goal = ("a backup replaces condemned packs", |protocol, world| {
    world.writers[..protocol.writers].iter().any(|state| state.round > 0)
});
/// B6 hit something.
pub(crate) const REFUSED: Goal =
    ("an expired backup has its ok and is not acknowledged", |_, world| {
        let refused = |writer: usize| {
            let records = &world.snapshots[super::world::FIRST_SNAPSHOTS + writer];
            let gone = world.writers[writer].step == WriterStep::Gone;
            gone && records.ok.is_landed() && records.expire.is_landed()
        };
        refused(0)
    });
/// An undo had to copy chunks.
pub(crate) const UNDONE: Goal = ("an undo that copies succeeds", |protocol, world| {
    let copied = world.packs[protocol.rescue_slot(0)] != 0;
    copied && matches!(world.undos[0], Undo::Succeeded { .. })
});
/// An undo came too late.
pub(crate) const UNDO_FAILED: Goal =
    ("an undo fails", |_, world| world.undos[0] == Undo::Failed && is_deleted(world));
/// Segments were merged and deleted.
pub(crate) const MERGED_AWAY: Goal = ("a merged segment stands for deleted ones", |_, world| {
    world.segments >> PACKS != 0 && world.segments & 0b11 == 0
});

fn all_acked(protocol: &Protocol, world: &World) -> bool {
    let writers = &world.writers[..protocol.writers];
    writers.iter().all(|state| state.step == WriterStep::Acked)
}

fn is_deleted(world: &World) -> bool {
    (0..PACKS).any(|pack| world.packs[pack] != 0 && world.stored & (1 << pack) == 0)
}

/// Visits every state there is: nothing is lost in any of them, and each goal is met in some. Says
/// how many they are.
pub(crate) fn holds(protocol: Protocol) -> usize {
    let checker = protocol.checker().spawn_dfs().join();
    if let Some(path) = checker.discovery(NOTHING_LOST) {
        panic!("lost by\n{}", lines(&path.into_actions()).join("\n"));
    }
    for (name, _) in protocol.goals {
        assert!(checker.discovery(name).is_some(), "never: {name}");
    }
    checker.unique_state_count()
}

/// Finds a shortest way to lose something.
pub(crate) fn loses(protocol: Protocol) -> Vec<String> {
    let checker = protocol.checker().spawn_bfs().join();
    let path = checker.discovery(NOTHING_LOST).expect("without its rule, the protocol loses data");
    lines(&path.into_actions())
}

fn lines(actions: &[Action]) -> Vec<String> {
    actions.iter().map(Action::to_string).collect()
}
