//! The bytes of every stored object. Pure: no I/O, no randomness but what sealing draws.
//!
//! Floor 2. `docs/format.md` is the specification; the names here are the names there. Everything
//! parsed has a stated maximum, checked before anything is allocated: a repository is hostile
//! input.

mod bootstrap;
mod condemn;
mod config;
mod content_node;
mod entry_value;
mod forget;
mod frame;
mod hints;
mod object;
mod pack;
mod segment;
mod slot;
mod snapshot;
mod tree_node;

pub use self::bootstrap::{Bootstrap, SUITE};
pub use self::condemn::{CONDEMN_BYTES_MAX, CondemnRecord};
pub use self::config::{Config, StoreFacts};
pub use self::content_node::{ContentNode, ContentRef};
pub use self::entry_value::{Content, INLINE_EXTENTS_MAX, Stored};
pub use self::forget::{ForgetKind, ForgetRecord, ROUND_MAX};
pub use self::frame::{FRAME_RAW_MAX, FrameContent, FramePlaintext, OpenedFrame, seal_frame};
pub use self::hints::{HintsReader, HintsWriter};
pub use self::object::{ObjectKind, Signed, open_object, seal_object};
pub use self::pack::{
    FrameEntry, PACK_BYTES_MAX, PACK_CHUNKS_MAX, PACK_FRAMES_MAX, PackDirectory, PackHeader,
    PackKind, seal_trailer, split_trailer,
};
pub use self::segment::{SEGMENT_BYTES_MAX, SegmentPack, SegmentRecord};
pub use self::slot::{KeySlot, SLOT_BYTES_MAX, SlotError, SlotSecret};
pub use self::snapshot::{
    BackupFacts, HostFacts, Item, ItemKind, Method, OkRecord, Origin, PendingRecord,
    RECORD_BYTES_MAX, SnapshotBody, VolumeFacts, WarningFact,
};
pub use self::tree_node::{Child, NODE_BYTES_MAX, NODE_LEVEL_MAX, TreeNode};

use crate::codec::WireError;

/// The format version this code writes.
pub const VERSION: u8 = 1;

/// Bytes that are not an object of this format, or not one this program can read.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// Altered, cut short, or never an object of this kind.
    #[error("{what} is damaged: {why}")]
    Damaged {
        /// What was read: "tree node", "pack header".
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// Made by a newer program.
    #[error("{what} needs a newer vault: {why}")]
    Newer {
        /// What was read.
        what: &'static str,
        /// The version or feature this program does not know.
        why: String,
    },
    /// Authentic in form, but not signed by who must sign it.
    #[error("{what} is not signed by this repository's owner")]
    Signature {
        /// What was read.
        what: &'static str,
    },
    /// No random bytes for a seal.
    #[error(transparent)]
    Random(#[from] crate::crypto::RandomError),
}

impl FormatError {
    /// Damage of `what`, with the reason in words.
    pub(crate) fn damaged(what: &'static str, why: impl std::fmt::Display) -> Self {
        Self::Damaged { what, why: why.to_string() }
    }
}

/// Names what a wire error was found in.
fn within(what: &'static str) -> impl Fn(WireError) -> FormatError {
    move |error| FormatError::damaged(what, error)
}

/// Decodes one CBOR document that fills `bytes`.
fn from_cbor<'b, T: minicbor::Decode<'b, ()>>(
    what: &'static str,
    bytes: &'b [u8],
) -> Result<T, FormatError> {
    let mut decoder = minicbor::Decoder::new(bytes);
    let value = decoder.decode().map_err(|error| FormatError::damaged(what, error))?;
    match decoder.position() == bytes.len() {
        true => Ok(value),
        false => Err(FormatError::damaged(what, "bytes follow the document")),
    }
}

/// Encodes a CBOR document.
fn to_cbor<T: minicbor::Encode<()>>(value: &T) -> Vec<u8> {
    minicbor::to_vec(value).expect("because writing to memory cannot fail")
}
