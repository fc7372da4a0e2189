//! `forget/<id>`, `forget/<id>.<n>`: the owner's tombstone of a snapshot, and what was said later.
//!
//! No name is written twice, so a tombstone is never removed: a later one, of a higher round,
//! takes it back or renews it.

use minicbor::{Decode, Encode};

use super::{FormatError, from_cbor, to_cbor};
use crate::id::{RecordHash, SnapshotId, WriterId};

/// Why a snapshot is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum ForgetKind {
    /// The owner forgot it.
    #[n(0)]
    Forget,
    /// Its backup never came to an end; void if the snapshot's `.ok` shows after all.
    #[n(1)]
    Expire,
    /// The owner wants it back: what was said of it in lower rounds counts no more.
    #[n(2)]
    Undo,
}

/// What a tombstone says.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct ForgetRecord {
    /// The snapshot.
    #[n(0)]
    pub snapshot: SnapshotId,
    /// Why it goes.
    #[n(1)]
    pub kind: ForgetKind,
    /// Who wrote it; with the two below, what keeps that writer's chain whole once it is gone.
    #[n(2)]
    pub writer: WriterId,
    /// The how manieth record of its writer it was.
    #[n(3)]
    pub sequence: u64,
    /// The hash of its record as it was stored.
    #[n(4)]
    pub record: RecordHash,
    /// How often the owner had spoken of the snapshot before; the highest round counts.
    #[cbor(n(5), default, skip_if = "is_first")]
    pub round: u32,
}

/// Rounds run from 0 to this.
pub const ROUND_MAX: u32 = 9_999;

fn is_first(round: &u32) -> bool {
    *round == 0
}

impl ForgetRecord {
    /// The message to be signed and sealed: CBOR.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        to_cbor(self)
    }

    /// Reads the message.
    ///
    /// Errors: [`FormatError::Damaged`].
    pub fn decode(message: &[u8]) -> Result<Self, FormatError> {
        from_cbor("tombstone", message)
    }
}
