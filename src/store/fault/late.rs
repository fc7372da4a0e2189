//! Puts and deletions that arrive late, twice or never.

use super::{Fault, FaultStore, Turn};
use crate::crypto::Payload;
use crate::store::{ObjectName, Store, StoreError};

/// What was sent and has not arrived, or arrives again.
#[derive(Debug)]
pub(super) enum Letter {
    /// An object and its bytes.
    Put(ObjectName, Vec<u8>),
    /// The object that is to go.
    Delete(ObjectName),
}

impl<S: Store> FaultStore<S> {
    /// How many puts and deletions are under way.
    #[must_use]
    pub fn late(&self) -> usize {
        self.state().letters.len()
    }

    /// Does one that is under way, counted from the one that was sent first; says which, or none
    /// if there are not so many. It need not succeed: nobody waits for it.
    pub fn land(&self, number: usize) -> Option<ObjectName> {
        let mut state = self.state();
        let letter = (number < state.letters.len()).then(|| state.letters.remove(number))?;
        drop(state);
        let (name, _) = match letter {
            Letter::Put(name, bytes) => {
                let put = self.inner.put(&name, &Payload::public(bytes));
                (name, put)
            }
            Letter::Delete(name) => {
                let deleted = self.inner.delete(&name);
                (name, deleted)
            }
        };
        Some(name)
    }

    /// Keeps what arrives later or again; says whether nothing is done now.
    pub(super) fn is_posted(&self, turn: &Turn, letter: impl FnOnce() -> Letter) -> bool {
        let is_late = match turn.fault {
            Some(Fault::Late) => true,
            Some(Fault::Again) => false,
            Some(Fault::Lie) => {
                self.hit(turn);
                return true;
            }
            _ => return false,
        };
        self.state().letters.push(letter());
        if !is_late {
            self.hit(turn);
        }
        is_late
    }

    /// How a call ends that was not done.
    pub(super) fn end_posted(&self, turn: Turn) -> Result<(), StoreError> {
        match turn.fault {
            Some(Fault::Late) => Err(self.fail(turn)),
            _ => self.end(turn, Ok(())),
        }
    }
}
