//! Symmetric keys and their derivation.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::random::{RandomError, random_bytes};

/// A 256-bit secret, wiped when dropped and never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Key([u8; 32]);

/// What a derived key is for: one context string per purpose, so that no key serves two.
///
/// Source: the context strings of BLAKE3 `derive_key`; listed in `docs/format.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Key-encrypting key of a slot from a secret of high entropy.
    SlotSecret,
    /// Commitment to a slot's key-encrypting key.
    SlotCommitment,
    /// Names of data chunks.
    DataChunkId,
    /// Names of tree chunks.
    TreeChunkId,
    /// The Gear table of the chunker.
    GearTable,
    /// Where tree nodes are cut.
    NodeCut,
    /// Sealed objects that every writer may read: index, records, config; the kind is the input.
    SharedObject,
    /// The pre-shared key of run seals.
    RunSealPsk,
    /// Seed of the key pair that opens run seals.
    RestoreKeySeed,
    /// Seed of the owner's signing key.
    OwnerSigningSeed,
    /// The key of one pack, from a run's secret; input is kind and salt.
    Pack,
    /// Commitment to a pack's key.
    PackCommitment,
    /// The private part of a snapshot record, from its run's secret.
    RecordBody,
    /// Keys the hash that nonces are drawn from.
    Nonce,
}

impl Purpose {
    fn context(self) -> &'static str {
        match self {
            Self::SlotSecret => "volume-vault v1 slot secret",
            Self::SlotCommitment => "volume-vault v1 slot commitment",
            Self::DataChunkId => "volume-vault v1 data chunk id",
            Self::TreeChunkId => "volume-vault v1 tree chunk id",
            Self::GearTable => "volume-vault v1 gear table",
            Self::NodeCut => "volume-vault v1 node cut",
            Self::SharedObject => "volume-vault v1 shared object",
            Self::RunSealPsk => "volume-vault v1 run seal psk",
            Self::RestoreKeySeed => "volume-vault v1 restore key seed",
            Self::OwnerSigningSeed => "volume-vault v1 owner signing seed",
            Self::Pack => "volume-vault v1 pack",
            Self::PackCommitment => "volume-vault v1 pack commitment",
            Self::RecordBody => "volume-vault v1 record body",
            Self::Nonce => "volume-vault v1 nonce",
        }
    }
}

impl Key {
    /// Takes over raw key bytes.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Draws a key.
    ///
    /// Errors: [`RandomError`] if the system has no random bytes to give.
    pub fn random() -> Result<Self, RandomError> {
        random_bytes().map(Self)
    }

    /// `derive[self](purpose, input)`: an independent key for one purpose.
    ///
    /// Source: BLAKE3 `derive_key` with the key material `self ‖ input`.
    #[must_use]
    pub fn derive(&self, purpose: Purpose, input: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(purpose.context());
        let _ = hasher.update(&self.0).update(input);
        Self(*hasher.finalize().as_bytes())
    }

    /// `derive[self](purpose, "")` stretched to any length.
    pub fn derive_bytes(&self, purpose: Purpose, out: &mut [u8]) {
        let mut hasher = blake3::Hasher::new_derive_key(purpose.context());
        let _ = hasher.update(&self.0);
        hasher.finalize_xof().fill(out);
    }

    /// The raw bytes; for writing a key file and for handing the key to a primitive.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_two_purposes_or_inputs_differ() {
        let key = Key::new([7; 32]);
        let a = key.derive(Purpose::Pack, b"x");
        assert_ne!(a.expose(), key.derive(Purpose::Nonce, b"x").expose());
        assert_ne!(a.expose(), key.derive(Purpose::Pack, b"y").expose());
        assert_eq!(a.expose(), key.derive(Purpose::Pack, b"x").expose());
    }

    #[test]
    fn a_key_is_never_printed() {
        assert_eq!(format!("{:?}", Key::new([7; 32])), "Key(redacted)");
    }
}
