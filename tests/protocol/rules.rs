//! The rules of the protocol as switches, and how much of the world a run explores.

use super::model::Goal;
use super::world::{ACTORS, PACKS, RECORDS};

/// The rules. Each can be broken alone, to see what it is good for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// B1: a writer passes over packs that it sees condemned.
    pub(crate) b1_avoids_condemned: bool,
    /// B4: a writer looks for condemn records once its pending record is durable.
    pub(crate) b4_relists: bool,
    /// B4: a writer that replaced condemned packs looks again.
    pub(crate) b4_repeats: bool,
    /// B4: a condemned segment counts, not just a condemned pack.
    pub(crate) b4_minds_segments: bool,
    /// G3: a collector lists everything again once its condemn record is durable.
    pub(crate) g3_relists: bool,
    /// G4: a holder is a pack that *no* record condemns, not just none of the collector's own.
    pub(crate) g4_counts_all: bool,
    /// I3: no name is used twice. Otherwise a pack is named by what it holds.
    pub(crate) i3_fresh_names: bool,
    pub(crate) expiry: Expiry,
    pub(crate) undo: UndoRule,
    /// Two owners take the same snapshot back at once.
    pub(crate) two_undos: bool,
    pub(crate) merging: Merging,
    /// Listings that lag.
    pub(crate) lag: Option<Lag>,
    /// PUTs of packs land at any time, and again.
    pub(crate) late_packs: bool,
    /// Snapshots made in the run may be forgotten, too.
    pub(crate) forgets_new: bool,
}

/// What an owner's `expire` tombstone beside a pending record means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expiry {
    /// None is ever written.
    Off,
    /// An expired snapshot is not needed.
    Plain,
    /// I5: it is, if its ok shows.
    VoidIfOk,
    /// I5 and B6: and the writer looks for the tombstone before it says that all is well.
    VoidIfOkAndRechecked,
    /// And it counts only from when it has been durable for as long as listings lag, twice.
    Waits,
}

/// How a `forget` is taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UndoRule {
    Off,
    /// The tombstone is withdrawn, and that is all.
    Unchecked,
    /// It is withdrawn if all chunks have uncondemned holders before.
    CheckedBefore,
    /// It is withdrawn; then `gc/` is listed, and chunks without an uncondemned holder are copied.
    Rescues,
    /// The same, but withdrawn by deleting the tombstone, whose PUT may have been doubled.
    RescuesAfterDelete,
    /// The same as `Rescues`; who finds that chunks are gone forgets the snapshot again.
    RescuesOrForgetsAgain,
}

/// How collectors merge index segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Merging {
    /// Segments are left out: whoever lists packs knows what they hold.
    Off,
    /// I7: a merged segment names all packs of its parts that are there and not condemned.
    ByTheRules,
    /// A merged segment names what is needed alone; the other packs are not condemned for that.
    DropsUnneeded,
    /// Condemned segments are deleted without asking what is needed of the packs they name.
    DeletesUnchecked,
}

/// Listings may miss what landed less than `ticks` ago, and show for ever what was deleted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lag {
    pub(crate) ticks: u8,
    /// D: how long a collector waits between G2 and G3.
    pub(crate) wait: u8,
}

/// The protocol as it stands, without extensions.
pub(crate) const RULES: Rules = Rules {
    b1_avoids_condemned: true,
    b4_relists: true,
    b4_repeats: true,
    b4_minds_segments: true,
    g3_relists: true,
    g4_counts_all: true,
    i3_fresh_names: true,
    expiry: Expiry::Off,
    undo: UndoRule::Off,
    two_undos: false,
    merging: Merging::Off,
    lag: None,
    late_packs: false,
    forgets_new: false,
};

/// How many choices actors have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choices {
    /// They decide as programs do: the first holder, all that is not needed.
    Sensible,
    /// Any holder; any packs are condemned, needed or not.
    Any,
}

/// One run of the model.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Protocol {
    pub(crate) writers: usize,
    pub(crate) collectors: usize,
    /// How often a writer replaces condemned packs, and how many collections a collector does.
    pub(crate) rounds: u8,
    pub(crate) rules: Rules,
    pub(crate) choices: Choices,
    /// A crash is a step of its own. Without it, a dead actor is one that does no further step;
    /// no invariant can tell the two apart.
    pub(crate) crashes: bool,
    /// G3 lists folder by folder; otherwise all at one moment.
    pub(crate) single_lists: bool,
    /// G1 copies what is needed of a pack that is mostly garbage, and condemns it.
    pub(crate) repacks: bool,
    /// What must come about.
    pub(crate) goals: &'static [Goal],
}

impl Protocol {
    /// The plain protocol with so many actors.
    pub(crate) fn new(writers: usize, collectors: usize, rounds: u8) -> Self {
        let protocol = Self {
            writers,
            collectors,
            rounds,
            rules: RULES,
            choices: Choices::Sensible,
            crashes: true,
            single_lists: false,
            repacks: true,
            goals: &[],
        };
        assert!(writers <= ACTORS && collectors <= ACTORS);
        assert!(collectors * usize::from(rounds) <= RECORDS);
        assert!(protocol.rescue_slot(1) < PACKS);
        protocol
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut Rules)) -> Self {
        change(&mut self.rules);
        self
    }

    pub(crate) fn reaching(self, goals: &'static [Goal]) -> Self {
        Self { goals, ..self }
    }

    pub(crate) fn any_choices(self) -> Self {
        Self { choices: Choices::Any, ..self }
    }

    pub(crate) fn single_lists(self) -> Self {
        Self { single_lists: true, ..self }
    }

    pub(crate) fn without_repacking(self) -> Self {
        Self { repacks: false, ..self }
    }

    pub(crate) fn without_crash_steps(self) -> Self {
        Self { crashes: false, ..self }
    }
}
