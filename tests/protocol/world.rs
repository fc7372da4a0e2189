//! What a store and those who use it look like at one moment.
//!
//! Everything is small and has a fixed place: a pack that the second writer makes in its first
//! round always stands in the same slot, whoever came first. So two ways to the same store meet in
//! one state, and a state fits in two cache lines.

/// A set of chunks, one bit each.
pub(crate) type Chunks = u8;
/// A set of packs, one bit for each slot.
pub(crate) type Packs = u16;
/// A set of segments: bit `p` below [`PACKS`] for the one that names pack `p` alone, then one for
/// each merged one.
pub(crate) type Segments = u16;
/// A set of condemn records, one bit for each slot.
pub(crate) type Records = u8;
/// A set of snapshots.
pub(crate) type Snapshots = u8;

pub(crate) const PACKS: usize = 12;
pub(crate) const MERGED: usize = 4;
pub(crate) const RECORDS: usize = 4;
pub(crate) const SNAPSHOTS: usize = 4;
pub(crate) const ACTORS: usize = 2;
const _: () = assert!(PACKS + MERGED <= Segments::BITS as usize);

/// What the snapshots need: two that are there at first, one for each writer.
pub(crate) const NEEDS: [Chunks; SNAPSHOTS] = [0b11, 0b01, 0b10, 0b11];
/// Packs that are there at first; so many slots are theirs.
pub(crate) const FIRST_PACKS: [Chunks; 2] = [0b11, 0b01];
/// Snapshots that are there at first.
pub(crate) const FIRST_SNAPSHOTS: usize = 2;

/// An object with a name of its own, put at most once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Object {
    #[default]
    Absent,
    /// Under way; it may land at any time, also when its sender is long dead.
    Sent,
    /// Durable, for `age` ticks at least; ages stop where they no longer matter.
    Landed { age: u8 },
}

impl Object {
    pub(crate) const NEW: Self = Self::Landed { age: 0 };

    pub(crate) fn is_landed(self) -> bool {
        matches!(self, Self::Landed { .. })
    }

    /// Whether it landed less than `ticks` ago.
    pub(crate) fn is_younger(self, ticks: u8) -> bool {
        matches!(self, Self::Landed { age } if age < ticks)
    }

    pub(crate) fn grow(&mut self, age_max: u8) {
        if let Self::Landed { age } = self {
            *age = age_max.min(*age + 1);
        }
    }
}

/// The records of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Snapshot {
    pub(crate) pending: Object,
    pub(crate) ok: Object,
    pub(crate) forget: Object,
    pub(crate) expire: Object,
    /// What withdraws `forget`.
    pub(crate) undo: Object,
    /// What withdraws `undo`.
    pub(crate) again: Object,
}

/// A condemn record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Condemn {
    pub(crate) object: Object,
    pub(crate) packs: Packs,
    pub(crate) segments: Segments,
}

/// A backup, by its last step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum WriterStep {
    #[default]
    Idle,
    /// B2: packs are on their way.
    Uploading,
    /// B3: the pending record is on its way, or there.
    Pending,
    /// B5: the ok is on its way, or there.
    Committing,
    Acked,
    /// It died, or gave up.
    Gone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Writer {
    pub(crate) step: WriterStep,
    /// How often it has looked for condemned packs and found some.
    pub(crate) round: u8,
    /// The packs it relies on, its own included.
    pub(crate) refs: Packs,
    /// The segments it knows packs through; kept only where segments are modelled.
    pub(crate) segments: Segments,
    /// Condemn records it saw at B1; kept only where names are used again.
    pub(crate) known: Records,
}

/// A collection, by its last step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum CollectorStep {
    #[default]
    Idle,
    /// Copies are on their way; then the record will be put.
    Repacking,
    /// G2: the record is on its way, or there.
    Condemning,
    /// G3 under way: `forget/` is listed.
    Forgets { record: u8, forgotten: Snapshots, expired: Snapshots },
    /// G3: `snapshots/` is listed and the trees are walked.
    Needs { record: u8, needs: Chunks },
    /// G3: `gc/` is listed.
    Condemns { record: u8, needs: Chunks, seen: Records },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Collector {
    pub(crate) step: CollectorStep,
    /// Rounds that are over.
    pub(crate) round: u8,
}

/// The owner who takes a `forget` back, by the last step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Undo {
    #[default]
    Idle,
    /// The withdrawal is on its way, or there.
    Withdrawing {
        snapshot: u8,
    },
    /// `gc/` and `packs/` are listed: these chunks have no uncondemned holder, these packs are
    /// there.
    Listed {
        snapshot: u8,
        missing: Chunks,
        known: Packs,
    },
    Succeeded {
        snapshot: u8,
    },
    Failed,
}

/// Everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct World {
    /// What the pack of each slot holds; nothing if it was never made.
    pub(crate) packs: [Chunks; PACKS],
    pub(crate) stored: Packs,
    /// PUTs of packs that may still land, or land again; only where packs land late.
    pub(crate) puts: Packs,
    /// Packs whose PUT has landed once and was acknowledged; only where packs land late.
    pub(crate) landed: Packs,
    /// DELETEs of packs that may still land.
    pub(crate) deletes: Packs,
    /// What the merged segments name.
    pub(crate) merged: [Packs; MERGED],
    pub(crate) segments: Segments,
    pub(crate) segment_deletes: Segments,
    pub(crate) snapshots: [Snapshot; SNAPSHOTS],
    pub(crate) condemns: [Condemn; RECORDS],
    pub(crate) writers: [Writer; ACTORS],
    pub(crate) collectors: [Collector; ACTORS],
    pub(crate) undos: [Undo; ACTORS],
}

impl World {
    /// Two acknowledged snapshots that share a chunk, which lies in two packs.
    pub(crate) fn new() -> Self {
        let mut packs = [0; PACKS];
        packs[..FIRST_PACKS.len()].copy_from_slice(&FIRST_PACKS);
        let mut snapshots = [Snapshot::default(); SNAPSHOTS];
        for snapshot in &mut snapshots[..FIRST_SNAPSHOTS] {
            (snapshot.pending, snapshot.ok) = (Object::NEW, Object::NEW);
        }
        let stored = (1 << FIRST_PACKS.len()) - 1;
        Self {
            packs,
            stored,
            puts: 0,
            landed: 0,
            deletes: 0,
            merged: [0; MERGED],
            segments: stored,
            segment_deletes: 0,
            snapshots,
            condemns: [Condemn::default(); RECORDS],
            writers: [Writer::default(); ACTORS],
            collectors: [Collector::default(); ACTORS],
            undos: [Undo::default(); ACTORS],
        }
    }

    /// Condemn records that are durable.
    pub(crate) fn records(&self) -> Records {
        let landed = |record: &usize| self.condemns[*record].object.is_landed();
        (0..RECORDS).filter(landed).fold(0, |set, record| set | 1 << record)
    }

    pub(crate) fn condemned(&self, records: Records) -> Packs {
        bits(records.into()).fold(0, |set, record| set | self.condemns[record].packs)
    }

    pub(crate) fn condemned_segments(&self, records: Records) -> Segments {
        bits(records.into()).fold(0, |set, record| set | self.condemns[record].segments)
    }

    /// What a set of packs holds.
    pub(crate) fn chunks(&self, packs: Packs) -> Chunks {
        bits(packs).fold(0, |set, pack| set | self.packs[pack])
    }

    /// The packs that a set of segments names.
    pub(crate) fn named(&self, segments: Segments) -> Packs {
        let alone = segments & ((1 << PACKS) - 1);
        bits(segments >> PACKS).fold(alone, |set, merged| set | self.merged[merged])
    }

    /// Chunks that can be read: in a pack that is there, named by a segment that is there.
    pub(crate) fn readable(&self) -> Chunks {
        self.chunks(self.stored & self.named(self.segments))
    }

    /// The packs that a writer or an owner may rely on who knows of these records.
    pub(crate) fn usable(&self, records: Records) -> Packs {
        let named = self.named(self.segments & !self.condemned_segments(records));
        self.stored & named & !self.condemned(records)
    }
}

/// The members of a set.
pub(crate) fn bits(set: u16) -> impl Iterator<Item = usize> {
    (0..u16::BITS as usize).filter(move |bit| set & (1 << bit) != 0)
}

/// All subsets of a set, the empty one first.
pub(crate) fn subsets(set: u16) -> impl Iterator<Item = u16> {
    let mut next = Some(0_u16);
    std::iter::from_fn(move || {
        let now = next?;
        let more = now.wrapping_sub(set) & set;
        next = (more != 0).then_some(more);
        Some(now)
    })
}
