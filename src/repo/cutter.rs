//! Cuts content into chunks and names them.
//!
//! Holds the two keys that this takes and none that opens anything, so that it may be lent to a
//! host where the content lies.

use crate::codec::{ChunkerParams, Splitter, WireError, WireReader, put_varint};
use crate::crypto::{IdKey, Key, Purpose};
use crate::id::ChunkId;

/// Cuts and names the content of files as one repository does.
#[derive(Clone)]
pub struct Cutter {
    params: ChunkerParams,
    gear: Key,
    ids: IdKey,
}

impl Cutter {
    /// A cutter with the repository's sizes and keys.
    pub(super) fn new(params: ChunkerParams, gear: Key, ids: IdKey) -> Self {
        Self { params, gear, ids }
    }

    /// Sizes of chunks in bytes.
    #[must_use]
    pub fn params(&self) -> ChunkerParams {
        self.params
    }

    /// The chunker.
    #[must_use]
    pub fn splitter(&self) -> Splitter {
        let mut bytes = [0; 256 * 8];
        self.gear.derive_bytes(Purpose::GearTable, &mut bytes);
        let mut gear = [0; 256];
        for (word, bytes) in gear.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        Splitter::new(self.params, gear)
    }

    /// The name of a chunk of content.
    #[must_use]
    pub fn chunk_id(&self, plaintext: &[u8]) -> ChunkId {
        self.ids.chunk_id(plaintext)
    }

    /// Appends it for a host that is trusted with the content: three varints, two keys of 32 bytes.
    pub fn lend(&self, out: &mut Vec<u8>) {
        for size in [self.params.min, self.params.average, self.params.max] {
            put_varint(out, u64::from(size));
        }
        out.extend_from_slice(self.gear.expose());
        out.extend_from_slice(self.ids.key().expose());
    }

    /// Reads what [`Cutter::lend`] wrote.
    ///
    /// Errors: [`WireError`], also for sizes that no chunker works with.
    pub fn borrow(reader: &mut WireReader<'_>) -> Result<Self, WireError> {
        let mut size = || reader.varint_u32("size of chunks");
        let params = ChunkerParams { min: size()?, average: size()?, max: size()? };
        if !params.is_valid() {
            return Err(WireError::Invalid("no chunker works with these sizes"));
        }
        let gear = Key::new(reader.array()?);
        let ids = IdKey::new(Key::new(reader.array()?));
        Ok(Self { params, gear, ids })
    }
}

impl std::fmt::Debug for Cutter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cutter({:?})", self.params)
    }
}
