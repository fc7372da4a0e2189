//! All keys of a repository, from its master key.

use super::cutter::Cutter;
use crate::codec::ChunkerParams;
use crate::crypto::{IdKey, Key, Purpose, RestoreKey, Signer, Verifier};
use crate::format::PackKind;
use crate::id::ChunkId;

/// What an owner holds.
#[derive(Debug)]
pub struct Keyring {
    data_ids: IdKey,
    tree_ids: IdKey,
    node_cut: IdKey,
    gear: Key,
    shared: Key,
    restore: RestoreKey,
    signer: Signer,
}

impl Keyring {
    /// Derives every key.
    #[must_use]
    pub fn new(master: &Key) -> Self {
        let derive = |purpose| master.derive(purpose, b"");
        let restore =
            RestoreKey::from_seed(&derive(Purpose::RestoreKeySeed), derive(Purpose::RunSealPsk));
        Self {
            data_ids: IdKey::new(derive(Purpose::DataChunkId)),
            tree_ids: IdKey::new(derive(Purpose::TreeChunkId)),
            node_cut: IdKey::new(derive(Purpose::NodeCut)),
            gear: derive(Purpose::GearTable),
            shared: derive(Purpose::SharedObject),
            restore,
            signer: Signer::from_seed(&derive(Purpose::OwnerSigningSeed)),
        }
    }

    /// The name of a chunk.
    #[must_use]
    pub fn chunk_id(&self, kind: PackKind, plaintext: &[u8]) -> ChunkId {
        match kind {
            PackKind::Data => self.data_ids.chunk_id(plaintext),
            PackKind::Tree => self.tree_ids.chunk_id(plaintext),
        }
    }

    /// A number that says whether a tree is cut behind a key.
    pub(super) fn cut_number(&self, key: &[u8]) -> u64 {
        self.node_cut.number(key)
    }

    /// What cuts content and names its chunks.
    #[must_use]
    pub fn cutter(&self, params: ChunkerParams) -> Cutter {
        Cutter::new(params, self.gear.clone(), self.data_ids.clone())
    }

    /// The key of what all writers may read.
    pub(super) fn shared(&self) -> &Key {
        &self.shared
    }

    /// The key that opens run seals.
    pub(super) fn restore(&self) -> &RestoreKey {
        &self.restore
    }

    /// Signs for the owner.
    pub(super) fn signer(&self) -> &Signer {
        &self.signer
    }

    /// Who the owner is.
    pub(super) fn owner(&self) -> Verifier {
        self.signer.verifier()
    }
}
