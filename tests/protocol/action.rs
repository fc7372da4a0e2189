//! Steps: what an actor, the owner or the network does next. A trace is a list of them.

use std::fmt;

use super::world::{Chunks, Packs, Records, Segments, Snapshots, bits};

/// One step. It holds every choice that was made, so that it means one thing only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Something under way becomes durable.
    Land(Message),
    /// Time passes; only where listings lag.
    Tick,
    /// The owner forgets a snapshot.
    Forget {
        snapshot: usize,
    },
    /// The owner expires a pending record.
    Expire {
        snapshot: usize,
    },
    /// B1 to B3: relies on packs, stores the other chunks and its pending record.
    Begin {
        writer: usize,
        refs: Packs,
        upload: Upload,
    },
    /// B2 is acknowledged.
    Uploaded {
        writer: usize,
    },
    /// B4 found nothing; B5.
    Commit {
        writer: usize,
    },
    /// B4 found condemned packs and replaces them.
    Rescue {
        writer: usize,
        refs: Packs,
        upload: Upload,
        seen: Records,
    },
    /// B6, and its end.
    Finish {
        writer: usize,
        acked: bool,
    },
    CrashWriter {
        writer: usize,
    },
    /// G1 and G2.
    Condemn {
        collector: usize,
        packs: Packs,
        repack: Option<(usize, Chunks)>,
        merge: bool,
    },
    /// The copies are acknowledged; G2.
    Repacked {
        collector: usize,
    },
    /// Breaks G3: deletes what it condemned, at once.
    DeleteAtOnce {
        collector: usize,
    },
    /// G3: lists `forget/`.
    ListForgets {
        collector: usize,
        record: usize,
        expired: Snapshots,
    },
    /// G3: lists `snapshots/`.
    ListSnapshots {
        collector: usize,
        record: usize,
        needs: Chunks,
    },
    /// G3: lists `gc/`.
    ListCondemns {
        collector: usize,
        seen: Records,
    },
    /// G3: lists the rest; G4 and G5.
    Sweep {
        collector: usize,
        packs: Packs,
        segments: Segments,
    },
    CrashCollector {
        collector: usize,
    },
    /// The owner takes back a `forget`.
    Withdraw {
        owner: usize,
        snapshot: usize,
    },
    /// And lists `gc/` and `packs/`.
    ListForUndo {
        owner: usize,
        missing: Chunks,
    },
    /// And copies what is missing, or cannot.
    EndUndo {
        owner: usize,
        succeeded: bool,
    },
}

/// Chunks that go into one new pack, and its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Upload {
    pub(crate) chunks: Chunks,
    pub(crate) slot: usize,
}

/// What can be under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Message {
    Pending(usize),
    Ok(usize),
    Forget(usize),
    Expire(usize),
    Withdrawal(usize),
    ForgetAgain(usize),
    Condemn(usize),
    PutPack(usize),
    DeletePack(usize),
    DeleteSegment(usize),
}

/// What those are called who take a `forget` back.
const OWNERS: [&str; 2] = ["owner", "other owner"];

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Land(message) => write!(f, "lands: {message}"),
            Self::Tick => f.write_str("a tick"),
            Self::Forget { snapshot } => write!(f, "owner: forget {snapshot}"),
            Self::Expire { snapshot } => write!(f, "owner: expire {snapshot}"),
            Self::Begin { writer, refs, upload } => {
                write!(f, "w{writer}: begin on {}{upload}", Set(refs))
            }
            Self::Uploaded { writer } => write!(f, "w{writer}: packs acknowledged"),
            Self::Commit { writer } => write!(f, "w{writer}: B4 clean, ok sent"),
            Self::Rescue { writer, refs, upload, .. } => {
                write!(f, "w{writer}: B4 hit, now on {}{upload}", Set(refs))
            }
            Self::Finish { writer, acked: true } => write!(f, "w{writer}: acknowledged"),
            Self::Finish { writer, .. } => write!(f, "w{writer}: B6 refuses"),
            Self::CrashWriter { writer } => write!(f, "w{writer}: crash"),
            Self::Condemn { collector, packs, repack, merge } => {
                write!(f, "g{collector}: condemn {}", Set(packs))?;
                if let Some((pack, chunks)) = repack {
                    write!(f, ", chunks {} of {pack} copied", Set(chunks.into()))?;
                }
                f.write_str(if merge { ", segments merged" } else { "" })
            }
            Self::Repacked { collector } => write!(f, "g{collector}: copies acknowledged"),
            Self::DeleteAtOnce { collector } => write!(f, "g{collector}: delete at once"),
            Self::ListForgets { collector, .. } => write!(f, "g{collector}: list forget/"),
            Self::ListSnapshots { collector, record, needs } => {
                let needs = Set(needs.into());
                write!(f, "g{collector}: sweep {record}, snapshots need chunks {needs}")
            }
            Self::ListCondemns { collector, .. } => write!(f, "g{collector}: list gc/"),
            Self::Sweep { collector, packs, segments: 0 } => {
                write!(f, "g{collector}: delete {}", Set(packs))
            }
            Self::Sweep { collector, packs, segments } => {
                write!(f, "g{collector}: delete {}, segments {}", Set(packs), Set(segments))
            }
            Self::CrashCollector { collector } => write!(f, "g{collector}: crash"),
            Self::Withdraw { owner, snapshot } => {
                write!(f, "{}: undo {snapshot}", OWNERS[owner])
            }
            Self::ListForUndo { owner, missing } => {
                write!(f, "{}: undo lacks chunks {}", OWNERS[owner], Set(missing.into()))
            }
            Self::EndUndo { owner, succeeded: true } => {
                write!(f, "{}: undo done", OWNERS[owner])
            }
            Self::EndUndo { owner, .. } => write!(f, "{}: undo failed", OWNERS[owner]),
        }
    }
}

impl fmt::Display for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.chunks {
            0 => Ok(()),
            chunks => write!(f, ", chunks {} stored in {}", Set(chunks.into()), self.slot),
        }
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pending(snapshot) => write!(f, "pending of {snapshot}"),
            Self::Ok(snapshot) => write!(f, "ok of {snapshot}"),
            Self::Forget(snapshot) => write!(f, "forget of {snapshot}"),
            Self::Expire(snapshot) => write!(f, "expire of {snapshot}"),
            Self::ForgetAgain(snapshot) => write!(f, "second forget of {snapshot}"),
            Self::Withdrawal(snapshot) => write!(f, "withdrawal of {snapshot}"),
            Self::Condemn(record) => write!(f, "condemn {record}"),
            Self::PutPack(pack) => write!(f, "pack {pack}"),
            Self::DeletePack(pack) => write!(f, "delete of pack {pack}"),
            Self::DeleteSegment(segment) => write!(f, "delete of segment {segment}"),
        }
    }
}

/// A set, as people write it.
struct Set(u16);

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(bits(self.0)).finish()
    }
}
