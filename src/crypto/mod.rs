//! Keys, hashes, seals and signatures.
//!
//! Floor 1. Nobody above builds a [`Payload`] from plaintext. Notation, as in `docs/format.md`:
//! `derive[key](purpose, input)`, `hash[key](bytes)`, `seal[key](plaintext, aad)`.

mod hash;
mod kdf;
mod key;
mod payload;
mod random;
mod run_seal;
mod seal;
mod sign;

pub use self::hash::{Hasher, IdKey, digest};
pub use self::kdf::{KdfError, KdfParams, derive_from_passphrase};
pub use self::key::{Key, Purpose};
pub use self::payload::Payload;
pub use self::random::{RandomError, fresh_salt, random_bytes};
pub use self::run_seal::{RestoreKey, RestorePublic, RunSeal, RunSealError};
pub use self::seal::{
    OpenError, Plaintext, SEAL_OVERHEAD, Sealed, open, open_into, seal, seal_named,
};
pub use self::sign::{SIGNATURE_LEN, Signer, Verifier, VerifyError};
