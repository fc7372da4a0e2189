//! Holds every call of an actor to its store until whoever schedules lets it go.

use std::sync::mpsc::{Sender, channel};

use volume_vault::store::{Call, Director, Fault};

/// A call that waits. It is dealt with once `go` says how, and its actor is dead if that is
/// dropped.
pub(crate) struct Arrival {
    pub(crate) actor: usize,
    pub(crate) call: Call,
    pub(crate) go: Sender<Option<Fault>>,
}

/// What whoever schedules is told.
pub(crate) enum Event {
    Arrived(Arrival),
    /// A call of that actor that was let go has ended.
    Done(usize),
    /// That actor has come to its end.
    Ended(usize),
}

/// Stands before the store of one actor.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) actor: usize,
    pub(crate) events: Sender<Event>,
}

impl Director for Gate {
    fn before(&self, call: &Call) -> Option<Fault> {
        let (go, verdict) = channel();
        let arrival = Arrival { actor: self.actor, call: call.clone(), go };
        // Who listens no more has let go of all calls that wait.
        let _ = self.events.send(Event::Arrived(arrival));
        verdict.recv().unwrap_or(Some(Fault::StopBefore))
    }

    fn after(&self, _: &Call) {
        let _ = self.events.send(Event::Done(self.actor));
    }
}
