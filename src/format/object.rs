//! The shell of every object but packs, slots and `vault.json`: sealed for all who write to the
//! repository, signed by one of them, padded.

use super::{FormatError, VERSION, within};
use crate::codec::{WireReader, padded_len};
use crate::crypto::{
    Key, Payload, Plaintext, Purpose, SEAL_OVERHEAD, SIGNATURE_LEN, Signer, Verifier, open, seal,
};
use crate::id::RepositoryId;

/// First bytes of every stored object.
pub(super) const MAGIC: [u8; 4] = *b"VVLT";

/// Magic, version, kind, two zeros, repository id.
pub(super) const PREFIX_LEN: usize = 24;

/// What an object is: part of its first bytes, of its key and of what is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectKind {
    /// A pack of data chunks.
    DataPack = 1,
    /// A pack of tree chunks.
    TreePack = 2,
    /// A segment of the index.
    Segment = 3,
    /// A snapshot's record.
    Pending = 4,
    /// A snapshot's commit point.
    Ok = 5,
    /// A tombstone.
    Forget = 6,
    /// A record of packs and segments to go.
    Condemn = 7,
    /// Settings.
    Config = 8,
    /// What a host remembers of a repository, in its state directory.
    State = 9,
}

impl ObjectKind {
    /// What people call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::DataPack => "data pack",
            Self::TreePack => "tree pack",
            Self::Segment => "index segment",
            Self::Pending => "snapshot record",
            Self::Ok => "snapshot commit",
            Self::Forget => "tombstone",
            Self::Condemn => "condemn record",
            Self::Config => "configuration",
            Self::State => "state file",
        }
    }
}

/// A message and who signed it; the signature has been checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// The public key it was signed with. Whether that key may sign such a message is for the
    /// caller to judge.
    pub signer: Verifier,
    /// The message.
    pub message: Vec<u8>,
}

/// The 24 bytes at the start of every sealed object.
pub(super) fn prefix(kind: ObjectKind, repository: &RepositoryId) -> [u8; PREFIX_LEN] {
    let mut prefix = [0; PREFIX_LEN];
    prefix[..4].copy_from_slice(&MAGIC);
    prefix[4] = VERSION;
    prefix[5] = kind as u8;
    prefix[8..].copy_from_slice(repository.as_bytes());
    prefix
}

/// Checks the start of an object: that it is one, of this version, kind and repository.
pub(super) fn check_prefix(
    kind: ObjectKind,
    repository: &RepositoryId,
    bytes: &[u8],
) -> Result<(), FormatError> {
    let damaged = |why| Err(FormatError::damaged(kind.name(), why));
    let Some(found) = bytes.get(..PREFIX_LEN) else {
        return damaged("it is cut short");
    };
    if found == prefix(kind, repository) {
        return Ok(());
    }
    if found[..4] != MAGIC {
        return damaged("its first bytes are not those of an object");
    }
    if found[4] > VERSION {
        let why = format!("it has format {}, known is {VERSION}", found[4]);
        return Err(FormatError::Newer { what: kind.name(), why });
    }
    if found[8..] != repository.as_bytes()[..] {
        return damaged("it belongs to another repository");
    }
    damaged("it is an object of another kind")
}

fn signing_context(prefix: &[u8; PREFIX_LEN], message: &[u8]) -> Vec<u8> {
    [b"volume-vault v1 signature", &prefix[..], message].concat()
}

fn object_key(shared: &Key, kind: ObjectKind) -> Key {
    shared.derive(Purpose::SharedObject, &[kind as u8])
}

/// Signs, pads and seals a message.
///
/// Shape: prefix 24 ‖ `seal[key]`(message length u32 ‖ signer 32 ‖ signature 64 ‖ message ‖ zeros),
/// with the prefix as AAD, padded so that the whole object has a Padmé size.
/// Errors: [`FormatError::Random`].
pub fn seal_object(
    kind: ObjectKind,
    repository: &RepositoryId,
    shared: &Key,
    signer: &Signer,
    message: &[u8],
) -> Result<Payload, FormatError> {
    let prefix = prefix(kind, repository);
    let len = 4 + 32 + SIGNATURE_LEN + message.len();
    let whole = padded_len((PREFIX_LEN + SEAL_OVERHEAD + len) as u64);
    let padded = usize::try_from(whole).unwrap_or(len) - PREFIX_LEN - SEAL_OVERHEAD;
    let mut plaintext = Plaintext::with_capacity(padded);
    let message_len = u32::try_from(message.len())
        .map_err(|_| FormatError::damaged(kind.name(), "it is too large to be stored"))?;
    plaintext.extend(&message_len.to_le_bytes());
    plaintext.extend(signer.verifier().as_bytes());
    plaintext.extend(&signer.sign(&signing_context(&prefix, message)));
    plaintext.extend(message);
    plaintext.resize(padded);
    let mut payload = Payload::public(prefix.to_vec());
    payload.append(seal(&object_key(shared, kind), plaintext, &prefix)?.into_payload());
    Ok(payload)
}

/// Opens what [`seal_object`] made and checks its signature.
///
/// Errors: [`FormatError`]; nothing of the message is looked at before it is authentic.
pub fn open_object(
    kind: ObjectKind,
    repository: &RepositoryId,
    shared: &Key,
    bytes: &[u8],
) -> Result<Signed, FormatError> {
    check_prefix(kind, repository, bytes)?;
    let (prefix, sealed) = bytes.split_at(PREFIX_LEN);
    let plaintext = open(&object_key(shared, kind), sealed, prefix)
        .map_err(|error| FormatError::damaged(kind.name(), error))?;
    let mut reader = WireReader::new(&plaintext);
    let wire = within(kind.name());
    let len = reader.u32().map_err(&wire)?;
    let signer = Verifier::new(reader.array().map_err(&wire)?);
    let signature = reader.bytes(SIGNATURE_LEN).map_err(&wire)?;
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    let message = reader.bytes(len).map_err(&wire)?;
    if reader.rest().iter().any(|b| *b != 0) {
        return Err(FormatError::damaged(kind.name(), "its padding is not zero"));
    }
    let mut signed_prefix = [0; PREFIX_LEN];
    signed_prefix.copy_from_slice(prefix);
    signer
        .verify(&signing_context(&signed_prefix, message), signature)
        .map_err(|_| FormatError::Signature { what: kind.name() })?;
    Ok(Signed { signer, message: message.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPOSITORY: RepositoryId = RepositoryId::new([9; 16]);

    fn object(message: &[u8]) -> Vec<u8> {
        let signer = Signer::from_seed(&Key::new([2; 32]));
        seal_object(ObjectKind::Segment, &REPOSITORY, &Key::new([1; 32]), &signer, message)
            .expect("randomness")
            .to_vec()
    }

    fn opened(kind: ObjectKind, repository: [u8; 16], bytes: &[u8]) -> Result<Signed, FormatError> {
        open_object(kind, &RepositoryId::new(repository), &Key::new([1; 32]), bytes)
    }

    #[test]
    fn an_object_opens_as_what_and_where_it_was_made() {
        let bytes = object(b"message");
        assert_eq!(padded_len(bytes.len() as u64), bytes.len() as u64);
        let signed = opened(ObjectKind::Segment, [9; 16], &bytes).expect("it opens");
        assert_eq!(signed.message, b"message");
        assert_eq!(signed.signer, Signer::from_seed(&Key::new([2; 32])).verifier());
        assert!(opened(ObjectKind::Pending, [9; 16], &bytes).is_err());
        assert!(opened(ObjectKind::Segment, [8; 16], &bytes).is_err());
    }

    #[test]
    fn every_cut_and_every_flip_is_noticed() {
        let bytes = object(b"m");
        for len in 0..bytes.len() {
            assert!(opened(ObjectKind::Segment, [9; 16], &bytes[..len]).is_err());
        }
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x10;
            assert!(opened(ObjectKind::Segment, [9; 16], &flipped).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_newer_version_is_told_from_damage() {
        let mut bytes = object(b"m");
        bytes[4] = VERSION + 1;
        let error = opened(ObjectKind::Segment, [9; 16], &bytes).expect_err("newer");
        assert!(matches!(error, FormatError::Newer { .. }), "{error}");
    }
}
