//! Randomness from the operating system.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::Clock;

/// The operating system gave no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("the operating system gives no random bytes")]
pub struct RandomError(#[source] getrandom::Error);

/// `N` random bytes.
///
/// Errors: [`RandomError`] if the system has none to give.
/// Source: getrandom(2).
pub fn random_bytes<const N: usize>() -> Result<[u8; N], RandomError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(RandomError)?;
    Ok(bytes)
}

/// A 32-byte salt that differs even where a cloned machine repeats its random numbers: boot id,
/// process id, time and a counter are mixed in.
///
/// Errors: [`RandomError`] if the system has no random bytes to give.
pub fn fresh_salt() -> Result<[u8; 32], RandomError> {
    static BOOT_ID: OnceLock<Vec<u8>> = OnceLock::new();
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let boot_id = BOOT_ID
        .get_or_init(|| std::fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default());
    let now = Clock::System.now();
    let mut hasher = blake3::Hasher::new_derive_key("volume-vault v1 fresh salt");
    let _ = hasher
        .update(&random_bytes::<32>()?)
        .update(&std::process::id().to_le_bytes())
        .update(&now.seconds.to_le_bytes())
        .update(&now.nanos.to_le_bytes())
        .update(&COUNTER.fetch_add(1, Ordering::Relaxed).to_le_bytes())
        .update(boot_id);
    Ok(*hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_salt_comes_twice() {
        let salts: std::collections::HashSet<_> =
            (0..1000).map(|_| fresh_salt().expect("randomness")).collect();
        assert_eq!(salts.len(), 1000);
    }
}
