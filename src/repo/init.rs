//! Making a repository.
//!
//! `vault.json` is written last: until then there is no repository, and what a crash leaves is
//! cleared away by the next attempt.

use super::error::RepoError;
use super::keyring::Keyring;
use super::layout;
use super::slots::{Secret, add_slot};
use crate::clock::Clock;
use crate::codec::ChunkerParams;
use crate::crypto::{KdfParams, Key, Payload, random_bytes};
use crate::format::{Bootstrap, Config, ObjectKind, SLOT_BYTES_MAX, StoreFacts, seal_object};
use crate::id::{RepositoryId, SlotId};
use crate::store::{ObjectName, Store, StoreError};

/// How to make a repository.
#[derive(Debug)]
pub struct InitOptions {
    /// The label of its first key.
    pub label: String,
    /// Costs of a passphrase.
    pub kdf: KdfParams,
    /// Sizes of chunks.
    pub chunker: ChunkerParams,
    /// The time, for the first key's date.
    pub clock: Clock,
    /// What was seen of the store.
    pub store: Option<StoreFacts>,
}

impl Default for InitOptions {
    fn default() -> Self {
        Self {
            label: "first key".to_owned(),
            kdf: KdfParams::DEFAULT,
            chunker: ChunkerParams::DEFAULT,
            clock: Clock::System,
            store: None,
        }
    }
}

/// Makes a repository in a store that holds none; returns its id and its first key's slot.
///
/// `secret` is called with the id, so that a key file can be named after it, and must return a
/// secret that is kept durably.
///
/// Errors: [`RepoError::Refused`] if there is a repository, or the remains of one.
pub fn init(
    store: &dyn Store,
    options: &InitOptions,
    secret: impl FnOnce(&RepositoryId) -> Result<Secret, RepoError>,
) -> Result<(RepositoryId, SlotId), RepoError> {
    refuse_existing(store)?;
    clear_remains(store)?;
    let id = RepositoryId::new(random_bytes()?);
    let master = Key::random()?;
    let secret = secret(&id)?;
    let created = options.clock.now().seconds;
    let slot = add_slot(store, &id, &master, &secret, options.kdf, &options.label, created)?;
    let (chunker, features) = (options.chunker, Vec::new());
    let config = Config { sequence: 1, chunker, features, store: options.store };
    let keyring = Keyring::new(&master);
    let sealed =
        seal_object(ObjectKind::Config, &id, keyring.shared(), keyring.signer(), &config.encode())?;
    store.put(&layout::config(1), &sealed)?;
    let bootstrap = Payload::public(Bootstrap { repository: id, read_only_because: None }.encode());
    store.put(&layout::bootstrap(), &bootstrap)?;
    // Another `init` may have cleared what it took for remains in the meantime. Lists may lag.
    match store.get(&layout::slot(&slot), SLOT_BYTES_MAX) {
        Ok(_) => Ok((id, slot)),
        Err(StoreError::NotFound(_)) => Err(RepoError::Refused(format!(
            "another program made a repository in {} at the same time",
            store.location()
        ))),
        Err(error) => Err(error.into()),
    }
}

fn refuse_existing(store: &dyn Store) -> Result<(), RepoError> {
    match store.get(&layout::bootstrap(), Bootstrap::BYTES_MAX) {
        Ok(_) => {
            let location = store.location();
            return Err(RepoError::Refused(format!("there is a repository in {location} already")));
        }
        Err(StoreError::NotFound(_)) => {}
        Err(error) => return Err(error.into()),
    }
    for folder in [layout::PACKS, layout::INDEX, layout::SNAPSHOTS] {
        if !store.list(folder)?.is_empty() {
            return Err(RepoError::Refused(format!(
                "{} holds `{folder}` of a repository whose vault.json is lost; \
                 bring that back, or choose another place",
                store.location()
            )));
        }
    }
    Ok(())
}

fn clear_remains(store: &dyn Store) -> Result<(), RepoError> {
    let mut remains = store.list(layout::KEYS)?;
    remains.extend(store.list(layout::CONFIG)?);
    // Only what an earlier attempt can have written: anything else is somebody's.
    let ours = |name: &ObjectName| {
        layout::id_of(name, "").is_some_and(|id| layout::slot(&id) == *name)
            || name.base().parse().is_ok_and(|sequence| layout::config(sequence) == *name)
    };
    if let Some(other) = remains.iter().find(|object| !ours(&object.name)) {
        return Err(RepoError::Refused(format!(
            "{} holds `{}`, which is nothing of a repository; choose another place",
            store.location(),
            other.name
        )));
    }
    remains.iter().try_for_each(|object| Ok(store.delete(&object.name)?))
}
