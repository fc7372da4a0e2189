//! BLAKE3, keyed for what must not be guessed and plain for what anybody may check.

use super::key::Key;
use crate::id::ChunkId;

/// Names chunks: `hash[key](plaintext)`.
#[derive(Clone)]
pub struct IdKey(Key);

impl IdKey {
    /// A namer with a key of its own per kind of chunk.
    #[must_use]
    pub fn new(key: Key) -> Self {
        Self(key)
    }

    /// The key; for lending it to whoever names chunks elsewhere.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.0
    }

    /// The id of a chunk with this plaintext.
    ///
    /// Source: BLAKE3 keyed hash.
    #[must_use]
    pub fn chunk_id(&self, plaintext: &[u8]) -> ChunkId {
        ChunkId::new(*blake3::keyed_hash(self.0.expose(), plaintext).as_bytes())
    }

    /// The first eight bytes of `hash[key](bytes)` as a number, for cut decisions.
    #[must_use]
    pub fn number(&self, bytes: &[u8]) -> u64 {
        let hash = blake3::keyed_hash(self.0.expose(), bytes);
        let mut first = [0; 8];
        first.copy_from_slice(&hash.as_bytes()[..8]);
        u64::from_le_bytes(first)
    }
}

impl std::fmt::Debug for IdKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IdKey(redacted)")
    }
}

/// Unkeyed BLAKE3 of stored bytes, which are no secret.
#[must_use]
pub fn digest(bytes: &[u8]) -> [u8; 32] {
    *blake3::hash(bytes).as_bytes()
}

/// Unkeyed BLAKE3 over bytes that come in pieces.
#[derive(Debug, Clone, Default)]
pub struct Hasher(blake3::Hasher);

impl Hasher {
    /// Starts with no byte.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        let _ = self.0.update(bytes);
    }

    /// The hash of all bytes added.
    #[must_use]
    pub fn finish(&self) -> [u8; 32] {
        *self.0.finalize().as_bytes()
    }
}
