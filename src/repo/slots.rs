//! The key slots of a repository.

use zeroize::Zeroizing;

use super::error::RepoError;
use super::layout;
use super::recovery_code::RecoveryCode;
use crate::crypto::{KdfParams, Key, Payload, random_bytes};
use crate::format::{FormatError, KeySlot, SLOT_BYTES_MAX, SlotError, SlotSecret};
use crate::id::{RepositoryId, SlotId};
use crate::store::{Listed, ObjectName, Store, StoreError};

/// Most slots a repository may have: each wrong passphrase costs a derivation per slot.
const SLOTS_MAX: usize = 32;

/// What opens a repository.
#[derive(Debug)]
pub enum Secret {
    /// A passphrase.
    Passphrase(Zeroizing<Vec<u8>>),
    /// The key in a key file.
    KeyFile(Key),
    /// A recovery code.
    RecoveryCode(RecoveryCode),
}

impl Secret {
    /// What people call a recovery code.
    pub const RECOVERY_CODE: &str = "recovery code";

    /// What people call it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Passphrase(_) => "passphrase",
            Self::KeyFile(_) => "key file",
            Self::RecoveryCode(_) => Self::RECOVERY_CODE,
        }
    }

    fn with_slot_secret<T>(&self, then: impl FnOnce(SlotSecret<'_>) -> T) -> T {
        match self {
            Self::Passphrase(passphrase) => then(SlotSecret::Passphrase(passphrase)),
            Self::KeyFile(key) => then(SlotSecret::KeyFile(key)),
            Self::RecoveryCode(code) => then(SlotSecret::RecoveryCode(&code.key())),
        }
    }
}

/// A slot, as it can be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotInfo {
    /// Its id.
    pub id: SlotId,
    /// "passphrase", "key file", "recovery code"; or why it cannot be read.
    pub kind: String,
    /// The label it was given.
    pub label: String,
    /// When it was made, in seconds since 1970.
    pub created: i64,
    /// Whether it can be read.
    pub sound: bool,
}

/// All slots, also those that cannot be read.
///
/// Errors: [`RepoError::Store`].
pub fn list_slots(store: &dyn Store) -> Result<Vec<SlotInfo>, RepoError> {
    let mut slots = Vec::new();
    for (id, name) in slot_names(store)? {
        let slot = read_slot(store, &name);
        slots.push(match slot {
            Ok(slot) => SlotInfo {
                id,
                kind: slot.kind_name().to_owned(),
                label: slot.label().to_owned(),
                created: slot.created(),
                sound: true,
            },
            Err(RepoError::Object { source, .. }) => {
                let kind = source.to_string();
                SlotInfo { id, kind, label: String::new(), created: 0, sound: false }
            }
            Err(error) => return Err(error),
        });
    }
    Ok(slots)
}

/// The master key, by the first slot that opens with `secret`, and that slot's id.
///
/// A damaged slot does not keep another from opening; only if none opens is damage reported.
/// Errors: [`RepoError::WrongKey`], [`RepoError::Object`].
pub fn unlock(
    store: &dyn Store,
    repository: &RepositoryId,
    secret: &Secret,
) -> Result<(Key, SlotId), RepoError> {
    let mut damage = None;
    for (id, name) in slot_names(store)? {
        let opened = read_slot(store, &name).and_then(|slot| {
            secret.with_slot_secret(|secret| match slot.open(repository, secret) {
                Err(SlotError::Format(source)) => {
                    Err(RepoError::Object { name: name.clone(), source })
                }
                opened => Ok(opened?),
            })
        });
        match opened {
            Ok(master) => return Ok((master, id)),
            Err(RepoError::Slot(SlotError::WrongSecret | SlotError::OtherKind)) => {}
            Err(error @ (RepoError::Object { .. } | RepoError::Slot(_))) => damage = Some(error),
            Err(error) => return Err(error),
        }
    }
    let location = store.location();
    Err(damage.unwrap_or(RepoError::WrongKey { location, secret: secret.name() }))
}

/// The master key, by a slot that opened with `secret` before.
///
/// Errors: as [`unlock`]; whichever it is, other slots may open.
pub(super) fn unlock_with(
    store: &dyn Store,
    repository: &RepositoryId,
    secret: &Secret,
    slot: &SlotId,
) -> Result<Key, RepoError> {
    let slot = read_slot(store, &layout::slot(slot))?;
    Ok(secret.with_slot_secret(|secret| slot.open(repository, secret))?)
}

/// Stores the master key in a new slot, and reads it back before it says so.
///
/// Errors: [`RepoError::Refused`] if there are too many slots.
pub fn add_slot(
    store: &dyn Store,
    repository: &RepositoryId,
    master: &Key,
    secret: &Secret,
    params: KdfParams,
    label: &str,
    created: i64,
) -> Result<SlotId, RepoError> {
    if slot_names(store)?.len() >= SLOTS_MAX {
        let location = store.location();
        let why =
            format!("the repository in {location} has {SLOTS_MAX} keys, the most it can have");
        return Err(RepoError::Refused(why));
    }
    let id = SlotId::new(random_bytes()?);
    let name = layout::slot(&id);
    let payload = secret.with_slot_secret(|secret| {
        KeySlot::create(repository, secret, params, label, created, master)
    })?;
    store.put(&name, &payload)?;
    let back = read_slot(store, &name)?;
    let opened = secret.with_slot_secret(|secret| back.open(repository, secret))?;
    if opened.expose() != master.expose() {
        let why = "the new key slot does not read back as it was written".to_owned();
        return Err(RepoError::Refused(why));
    }
    Ok(id)
}

/// Removes a slot, but never the last one that can be read.
///
/// Errors: [`RepoError::Refused`].
pub fn remove_slot(store: &dyn Store, id: &SlotId) -> Result<(), RepoError> {
    let slots = list_slots(store)?;
    if !slots.iter().any(|slot| slot.id == *id) {
        return Err(RepoError::Refused(format!("there is no key {}", id.short())));
    }
    if !slots.iter().any(|slot| slot.id != *id && slot.sound) {
        let why = format!("key {} is the last one; add another first", id.short());
        return Err(RepoError::Refused(why));
    }
    let name = layout::slot(id);
    // A slot too long to be read as one can still be removed, and put back.
    let bytes = store.get(&name, 1 << 20)?;
    store.delete(&name)?;
    // Two that remove two different slots at once must not both be right.
    if !list_slots(store)?.iter().any(|slot| slot.sound) {
        store.put(&name, &Payload::public(bytes))?;
        let why = format!("key {} is the last one now; it was put back", id.short());
        return Err(RepoError::Refused(why));
    }
    Ok(())
}

fn slot_names(store: &dyn Store) -> Result<Vec<(SlotId, ObjectName)>, RepoError> {
    let listed = store.list(layout::KEYS)?;
    let named = |object: Listed| Some((layout::id_of(&object.name, "")?, object.name));
    // Bounded work on a hostile store: a repository never has more.
    Ok(listed.into_iter().filter_map(named).take(SLOTS_MAX).collect())
}

fn read_slot(store: &dyn Store, name: &ObjectName) -> Result<KeySlot, RepoError> {
    let damaged = |why| RepoError::object(name)(FormatError::damaged("key slot", why));
    let bytes = store.get(name, SLOT_BYTES_MAX).map_err(|error| match error {
        StoreError::Size { .. } => damaged("it is too long"),
        StoreError::NotFound(_) => damaged("it is listed and not there"),
        other => other.into(),
    })?;
    KeySlot::decode(&bytes).map_err(RepoError::object(name))
}
