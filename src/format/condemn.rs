//! `gc/<id>.condemn`: the owner's list of packs and segments that nothing new may refer to.

use minicbor::{Decode, Encode};

use super::{FormatError, from_cbor, to_cbor};
use crate::id::{PackId, SegmentId};

/// Longest condemn record accepted, in bytes: a million packs.
pub const CONDEMN_BYTES_MAX: u64 = 64 << 20;

/// What a condemn record says.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct CondemnRecord {
    /// Packs to go.
    #[n(0)]
    pub packs: Vec<PackId>,
    /// Index segments to go.
    #[n(1)]
    pub segments: Vec<SegmentId>,
}

impl CondemnRecord {
    /// The message to be signed and sealed: CBOR.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        to_cbor(self)
    }

    /// Reads the message.
    ///
    /// Errors: [`FormatError::Damaged`].
    pub fn decode(message: &[u8]) -> Result<Self, FormatError> {
        from_cbor("condemn record", message)
    }
}
