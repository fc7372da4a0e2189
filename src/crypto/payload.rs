//! Bytes that may leave for a store.
//!
//! A [`Payload`] is built only by sealing, by joining payloads, or by the greppable
//! [`Payload::public`]: that no plaintext reaches a store is a fact of the types.

use bytes::Bytes;

/// Bytes that may be stored: an ordered rope of parts, so that nothing is copied to join them, nor
/// to send them more than once.
#[derive(Clone, Default)]
pub struct Payload {
    parts: Vec<Bytes>,
}

impl Payload {
    /// Bytes that hold no secret: magic numbers, key-slot headers, the bootstrap document.
    #[must_use]
    pub fn public(bytes: Vec<u8>) -> Self {
        Self { parts: vec![bytes.into()] }
    }

    /// Bytes that were sealed. Only this folder can call it.
    pub(super) fn sealed(bytes: Vec<u8>) -> Self {
        Self { parts: vec![bytes.into()] }
    }

    /// Puts `other` behind this payload.
    pub fn append(&mut self, other: Self) {
        self.parts.extend(other.parts);
    }

    /// The parts in order.
    #[must_use]
    pub fn parts(&self) -> &[Bytes] {
        &self.parts
    }

    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.parts.iter().map(|part| part.len() as u64).sum()
    }

    /// Whether it holds no byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.iter().all(Bytes::is_empty)
    }

    /// All bytes in one piece.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        self.parts.concat()
    }
}

impl std::fmt::Debug for Payload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Payload({} bytes)", self.len())
    }
}
