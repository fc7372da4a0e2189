//! Names, prefixes and the shell of sealed objects: sections 4, 5, 11 and 12.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use ed25519_dalek::Signature;
use serde_json::Value;

use super::keys::{self, Keys, SEAL_LEN};
use super::wire::{self, Cursor};
use super::{Fault, Result, damaged, ensure};

pub(crate) const PREFIX_LEN: usize = 24;

/// Kinds of objects.
pub(crate) const SEGMENT: u8 = 3;
pub(crate) const RECORD: u8 = 4;
pub(crate) const COMMIT: u8 = 5;
pub(crate) const TOMBSTONE: u8 = 6;
pub(crate) const CONFIGURATION: u8 = 8;

/// A directory with objects.
pub(crate) struct Store(PathBuf);

impl Store {
    pub(crate) fn new(dir: &Path) -> Self {
        Self(dir.to_owned())
    }

    /// Names in a folder; none if there is no folder.
    pub(crate) fn list(&self, folder: &str) -> Result<Vec<String>> {
        let entries = match std::fs::read_dir(self.0.join(folder)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let names = entries.map(|entry| Ok(entry?.file_name().into_string().ok()));
        names.filter_map(Result::transpose).collect()
    }

    /// All of an object, which must not have more than `most` bytes.
    pub(crate) fn get(&self, name: &str, most: usize) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let file = File::open(self.0.join(name))?;
        let _ = file.take(most as u64 + 1).read_to_end(&mut bytes)?;
        ensure(bytes.len() <= most, "an object is longer than it may be")?;
        Ok(bytes)
    }

    pub(crate) fn get_range(&self, name: &str, offset: u64, len: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        File::open(self.0.join(name))?.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }
}

/// Reads `vault.json`.
pub(crate) fn repository_id(store: &Store) -> Result<[u8; 16]> {
    let text = store.get("vault.json", 64 << 10)?;
    let Ok(json) = serde_json::from_slice::<Value>(&text) else {
        return damaged("vault.json is no JSON");
    };
    ensure(json["magic"] == "volume-vault repository", "vault.json has no magic")?;
    if json["format"] != 1 || json["suite"] != 1 {
        return Err(Fault::Newer("the repository".to_owned()));
    }
    for list in ["read", "write", "gc"] {
        match json["features"][list].as_array() {
            Some(names) if !names.is_empty() => {
                return Err(Fault::Newer("a feature of the repository".to_owned()));
            }
            _ => {}
        }
    }
    wire::need(json["repository"].as_str().and_then(wire::unhex), "repository id")
}

/// Looks for features in the configurations, which are signed.
pub(crate) fn check_configurations(
    store: &Store,
    keys: &Keys,
    reports: &mut Vec<String>,
) -> Result<()> {
    let is_sequence = |name: &String| name.len() == 16 && name.bytes().all(|b| b.is_ascii_digit());
    let mut names = store.list("config")?;
    names.retain(is_sequence);
    names.sort_by(|a, b| b.cmp(a));
    for name in names {
        let (mut sequence, mut features) = (None, Vec::new());
        let read =
            open_shell(keys, CONFIGURATION, &store.get(&format!("config/{name}"), 64 << 10)?)
                .and_then(|message| {
                    wire::document(&message, |key, value| {
                        match key {
                            0 => sequence = Some(value.u64()?),
                            4 => features = wire::elements(value, |e| Ok(e.str()?.to_owned()))?,
                            _ => return Ok(false),
                        }
                        Ok(true)
                    })?;
                    ensure(sequence == name.parse().ok(), "a configuration has another name")
                });
        match read {
            Ok(()) if features.is_empty() => return Ok(()),
            Ok(()) => return Err(Fault::Newer("a feature of the configuration".to_owned())),
            Err(fault) => reports.push(format!("config/{name}: {fault:?}")),
        }
    }
    damaged("no configuration can be read")
}

/// Checks the first 24 bytes of an object.
pub(crate) fn check_prefix(bytes: &[u8], kind: u8, repository: [u8; 16]) -> Result<()> {
    let mut cursor = Cursor::new(bytes);
    ensure(cursor.bytes(4)? == b"VVLT", "an object has no magic")?;
    if cursor.u8()? > 1 {
        return Err(Fault::Newer(format!("an object of kind {kind}")));
    }
    let expected = [&b"VVLT\x01"[..], &[kind, 0, 0], &repository].concat();
    ensure(bytes.starts_with(&expected), "an object has another prefix")
}

/// The message of a sealed object, once everything about it was checked.
pub(crate) fn open_shell(keys: &Keys, kind: u8, bytes: &[u8]) -> Result<Vec<u8>> {
    check_prefix(bytes, kind, keys.repository)?;
    let (prefix, sealed) = bytes.split_at(PREFIX_LEN);
    let Some(plaintext) = keys::open(&keys.of_kind(kind), sealed, prefix) else {
        return damaged("an object does not open");
    };
    let mut cursor = Cursor::new(&plaintext);
    let len = cursor.u32()? as usize;
    let signer: [u8; 32] = cursor.array()?;
    let signature = Signature::from_bytes(&cursor.array()?);
    let message = cursor.bytes(len)?;
    ensure(cursor.rest().iter().all(|b| *b == 0), "padding is not zero")?;
    let full = padded((PREFIX_LEN + SEAL_LEN + 100 + len) as u64);
    ensure(bytes.len() as u64 == full, "padding has another length")?;
    let signed = [b"volume-vault v1 signature", prefix, message].concat();
    if signer != keys.owner.to_bytes() || keys.owner.verify_strict(&signed, &signature).is_err() {
        return Err(Fault::Foreign);
    }
    Ok(message.to_vec())
}

/// The Padmé size.
pub(crate) fn padded(n: u64) -> u64 {
    if n < 2 {
        return n;
    }
    let e = n.ilog2();
    let s = e.ilog2() + 1;
    n.next_multiple_of(1 << (e - s))
}
