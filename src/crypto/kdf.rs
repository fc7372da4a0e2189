//! A key from a passphrase.

use argon2::{Algorithm, Argon2, Params, Version};

use super::key::Key;

/// Costs of Argon2id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KdfParams {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Number of passes.
    pub passes: u32,
    /// Number of lanes.
    pub lanes: u32,
}

impl KdfParams {
    /// What new slots are made with.
    pub const DEFAULT: Self = Self { memory_kib: 64 * 1024, passes: 3, lanes: 4 };

    /// Least and most memory accepted, in KiB: 19 MiB (the OWASP floor) to 4 GiB.
    pub const MEMORY_KIB: std::ops::RangeInclusive<u32> = 19 * 1024..=4 * 1024 * 1024;

    /// Least and most passes and lanes accepted.
    pub const COUNT: std::ops::RangeInclusive<u32> = 1..=16;

    /// Checks the costs before any work is done: a slot from a hostile store may ask for anything.
    ///
    /// Errors: [`KdfError::OutOfBounds`].
    pub fn check(&self) -> Result<(), KdfError> {
        let good = Self::MEMORY_KIB.contains(&self.memory_kib)
            && Self::COUNT.contains(&self.passes)
            && Self::COUNT.contains(&self.lanes);
        if good { Ok(()) } else { Err(KdfError::OutOfBounds(*self)) }
    }
}

/// No key could be derived.
#[derive(Debug, thiserror::Error)]
pub enum KdfError {
    /// The costs are outside what is accepted.
    #[error("key derivation asks for {} KiB, {} passes, {} lanes: outside what is accepted",
        .0.memory_kib, .0.passes, .0.lanes)]
    OutOfBounds(KdfParams),
    /// The derivation itself failed.
    #[error("key derivation failed: {0}")]
    Failed(argon2::Error),
}

/// Derives the key-encrypting key from a passphrase.
///
/// Shape: `salt` 32 bytes → 32-byte key, wiped on drop.
/// Errors: [`KdfError::OutOfBounds`], before any work is done.
/// Source: RFC 9106 (Argon2id, version 0x13).
pub fn derive_from_passphrase(
    passphrase: &[u8],
    salt: &[u8; 32],
    params: KdfParams,
) -> Result<Key, KdfError> {
    params.check()?;
    let costs = Params::new(params.memory_kib, params.passes, params.lanes, Some(32))
        .map_err(KdfError::Failed)?;
    let mut key = zeroize::Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, costs)
        .hash_password_into(passphrase, salt, key.as_mut())
        .map_err(KdfError::Failed)?;
    Ok(Key::new(*key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_out_of_bounds_are_refused_before_any_work() {
        let floor = KdfParams { memory_kib: 19 * 1024, passes: 1, lanes: 1 };
        assert!(floor.check().is_ok());
        for bad in [
            KdfParams { memory_kib: 19 * 1024 - 1, ..floor },
            KdfParams { memory_kib: u32::MAX, ..floor },
            KdfParams { passes: 0, ..floor },
            KdfParams { passes: u32::MAX, ..floor },
            KdfParams { lanes: 1 << 24, ..floor },
        ] {
            let refused = derive_from_passphrase(b"x", &[0; 32], bad);
            assert!(matches!(refused, Err(KdfError::OutOfBounds(_))), "{bad:?}");
        }
    }
}
