//! Secrets of runs that were opened before, kept sealed in the cache.
//!
//! Opening a run seal costs more than all else that is done to read a snapshot's record. What is
//! kept saves just that: records and commits are read and checked anew each time.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hashbrown::HashMap;
use zeroize::Zeroizing;

use super::cache_files::{read_private, write_private};
use super::error::RepoError;
use super::repository::Repository;
use crate::crypto::{Key, RunSeal, digest};
use crate::format::ObjectKind;
use crate::store::ObjectName;

/// First bytes of the message, so that no other sealed file of this host passes for it.
const MAGIC: &[u8] = b"run secrets";

/// Hash of the seal ‖ secret.
const ENTRY_LEN: usize = 64;

/// Fewer new secrets than this are opened again next time rather than written.
const FRESH_MIN: usize = 32;

/// A longer file is none of ours, in bytes.
const FILE_LEN_MAX: u64 = 64 << 20;

/// The secrets that a process knows.
#[derive(Default)]
pub(super) struct RunSecrets(Mutex<Known>);

#[derive(Default)]
struct Known {
    is_loaded: bool,
    fresh: usize,
    /// By the hash of the seal.
    secrets: HashMap<[u8; 32], Key>,
}

impl RunSecrets {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Repository {
    /// The secret of a run.
    ///
    /// Errors: [`RepoError::RunSeal`].
    pub(super) fn run_secret(&self, seal: &RunSeal) -> Result<Key, RepoError> {
        self.load_run_secrets();
        let hash = digest(seal.as_bytes());
        if let Some(secret) = self.run_secrets().lock().secrets.get(&hash) {
            return Ok(secret.clone());
        }
        let secret = self.keyring().restore().open(seal, self.id().as_bytes())?;
        let mut known = self.run_secrets().lock();
        if known.secrets.insert(hash, secret.clone()).is_none() {
            known.fresh += 1;
        }
        Ok(secret)
    }

    /// Takes in what the cache holds; nothing, if it cannot be read.
    fn load_run_secrets(&self) {
        let mut known = self.run_secrets().lock();
        if std::mem::replace(&mut known.is_loaded, true) {
            return;
        }
        let path = self.run_secrets_path();
        let Some(bytes) = read_private(&path, FILE_LEN_MAX) else { return };
        let name = ObjectName::parse("run-secrets").expect("because it is a valid name");
        let Ok(message) = self.open_signed(ObjectKind::State, &name, &bytes) else { return };
        let message = Zeroizing::new(message);
        let entries = message.strip_prefix(MAGIC).unwrap_or_default();
        for entry in entries.chunks_exact(ENTRY_LEN) {
            let (mut hash, mut secret) = ([0; 32], [0; 32]);
            hash.copy_from_slice(&entry[..32]);
            secret.copy_from_slice(&entry[32..]);
            let _ = known.secrets.entry(hash).or_insert_with(|| Key::new(secret));
        }
    }

    /// Keeps them, if many are new. A cache that cannot be written is none.
    pub(super) fn save_run_secrets(&self) {
        let mut known = self.run_secrets().lock();
        if known.fresh < FRESH_MIN {
            return;
        }
        known.fresh = 0;
        let mut message =
            Zeroizing::new(Vec::with_capacity(MAGIC.len() + known.secrets.len() * ENTRY_LEN));
        message.extend_from_slice(MAGIC);
        // Records that were noted do not ask for their secrets, and are perhaps read again.
        for (hash, secret) in &known.secrets {
            message.extend_from_slice(hash);
            message.extend_from_slice(secret.expose());
        }
        let Ok(sealed) = self.seal_signed(ObjectKind::State, &message) else { return };
        let _ = write_private(&self.run_secrets_path(), &sealed.to_vec());
    }

    fn run_secrets_path(&self) -> PathBuf {
        self.dirs().cache.join("run-secrets")
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::clock::Clock;
    use crate::repo::{Dirs, InitOptions, Secret, init};
    use crate::store::MemoryStore;

    fn open(store: &MemoryStore, home: &Path) -> Repository {
        let dirs = Dirs { cache: home.join("cache"), state: home.join("state") };
        let secret = Secret::KeyFile(Key::new([7; 32]));
        Repository::open(Arc::new(store.clone()), &secret, &dirs).expect("it opens")
    }

    #[test]
    fn what_was_opened_once_is_not_opened_again_and_a_damaged_cache_is_none() {
        let store = MemoryStore::new(Clock::System);
        let secret = Secret::KeyFile(Key::new([7; 32]));
        let _ = init(&store, &InitOptions::default(), |_| Ok(secret)).expect("made");
        let home = tempfile::tempdir().expect("a directory");
        let repo = open(&store, home.path());
        let public = repo.keyring().restore().public().clone();
        let runs: Vec<_> = (0..FRESH_MIN)
            .map(|_| public.seal(repo.id().as_bytes()).expect("randomness"))
            .collect();
        let opened = |repo: &Repository| {
            for (secret, seal) in &runs {
                assert_eq!(repo.run_secret(seal).expect("it opens").expose(), secret.expose());
            }
            let fresh = repo.run_secrets().lock().fresh;
            repo.save_run_secrets();
            fresh
        };
        assert_eq!(opened(&repo), FRESH_MIN);
        assert_eq!(opened(&open(&store, home.path())), 0);
        let path = repo.run_secrets_path();
        let bytes = std::fs::read(&path).expect("it was written");
        let bare = |secret: &Key| bytes.windows(32).any(|found| found == secret.expose());
        assert!(!runs.iter().any(|(secret, _)| bare(secret)), "secrets are sealed");
        for damaged in [&bytes[..bytes.len() - 1], &[], &b"x".repeat(1000)] {
            std::fs::write(&path, damaged).expect("written");
            assert_eq!(opened(&open(&store, home.path())), FRESH_MIN);
        }
        // What the state directory holds is no such file.
        let other = repo.seal_signed(ObjectKind::State, &[1; 200]).expect("sealed").to_vec();
        std::fs::write(&path, other).expect("written");
        assert_eq!(opened(&open(&store, home.path())), FRESH_MIN);
    }
}
