//! `keys/<id>`: one way to the master key.

use minicbor::{Decode, Encode};
use subtle::ConstantTimeEq;

use super::object::MAGIC;
use super::{FormatError, VERSION, from_cbor, to_cbor};
use crate::codec::WireReader;
use crate::crypto::{
    KdfError, KdfParams, Key, Payload, Plaintext, Purpose, RandomError, derive_from_passphrase,
    open, random_bytes, seal,
};
use crate::id::RepositoryId;

/// Longest slot accepted, in bytes.
pub const SLOT_BYTES_MAX: u64 = 4 << 10;

const WHAT: &str = "key slot";
const KIND: u8 = 16;

/// What opens a slot.
#[derive(Debug, Clone, Copy)]
pub enum SlotSecret<'a> {
    /// A passphrase, stretched by Argon2id.
    Passphrase(&'a [u8]),
    /// The secret of a key file.
    KeyFile(&'a Key),
    /// The secret behind a recovery code.
    RecoveryCode(&'a Key),
}

/// Why a slot does not open.
#[derive(Debug, thiserror::Error)]
pub enum SlotError {
    /// The secret is not this slot's.
    #[error("the secret does not fit this key slot")]
    WrongSecret,
    /// The slot is of another kind than the secret.
    #[error("this key slot opens with another kind of secret")]
    OtherKind,
    /// The slot itself is broken.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// Its costs are not accepted.
    #[error(transparent)]
    Kdf(#[from] KdfError),
    /// No random bytes.
    #[error(transparent)]
    Random(#[from] RandomError),
}

/// A parsed slot: the header can be read without any secret.
#[derive(Debug, Clone)]
pub struct KeySlot {
    header: Header,
    header_bytes: Vec<u8>,
    commitment: [u8; 32],
    sealed: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
struct Header {
    #[n(0)]
    kind: SlotKind,
    #[cbor(n(1), with = "minicbor::bytes")]
    salt: [u8; 32],
    #[n(2)]
    label: String,
    #[n(3)]
    created: i64,
    #[n(4)]
    memory_kib: Option<u32>,
    #[n(5)]
    passes: Option<u32>,
    #[n(6)]
    lanes: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
enum SlotKind {
    #[n(0)]
    Passphrase,
    #[n(1)]
    KeyFile,
    #[n(2)]
    RecoveryCode,
}

impl SlotSecret<'_> {
    fn kind(&self) -> SlotKind {
        match self {
            Self::Passphrase(_) => SlotKind::Passphrase,
            Self::KeyFile(_) => SlotKind::KeyFile,
            Self::RecoveryCode(_) => SlotKind::RecoveryCode,
        }
    }
}

impl KeySlot {
    /// Makes a slot that holds `master`.
    ///
    /// Shape: magic ‖ version ‖ kind ‖ header length u16 ‖ header ‖ commitment 32 ‖ sealed master.
    /// Units: `created` in seconds since 1970.
    /// Errors: [`SlotError`] if the passphrase cannot be stretched or randomness is missing.
    pub fn create(
        repository: &RepositoryId,
        secret: SlotSecret<'_>,
        params: KdfParams,
        label: &str,
        created: i64,
        master: &Key,
    ) -> Result<Payload, SlotError> {
        let costs = matches!(secret, SlotSecret::Passphrase(_)).then_some(params);
        let header = Header {
            kind: secret.kind(),
            salt: random_bytes()?,
            label: label.chars().take(100).collect(),
            created,
            memory_kib: costs.map(|c| c.memory_kib),
            passes: costs.map(|c| c.passes),
            lanes: costs.map(|c| c.lanes),
        };
        let bytes = to_cbor(&header);
        let kek = header.key_encrypting_key(secret)?;
        let mut plaintext = Plaintext::with_capacity(32);
        plaintext.extend(master.expose());
        let sealed = seal(&kek, plaintext, &aad(repository, &bytes))?;
        let len = u16::try_from(bytes.len())
            .map_err(|_| FormatError::damaged(WHAT, "its header is too long"))?;
        let mut head = MAGIC.to_vec();
        head.extend([VERSION, KIND]);
        head.extend(len.to_le_bytes());
        head.extend(&bytes);
        head.extend(kek.derive(Purpose::SlotCommitment, repository.as_bytes()).expose());
        let mut payload = Payload::public(head);
        payload.append(sealed.into_payload());
        Ok(payload)
    }

    /// Parses a slot without opening it.
    ///
    /// Errors: [`FormatError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let damaged = |why: &str| FormatError::damaged(WHAT, why);
        let mut reader = WireReader::new(bytes);
        let short = |_| damaged("it is cut short");
        if bytes.len() as u64 > SLOT_BYTES_MAX {
            return Err(damaged("it is too long"));
        }
        if reader.array().map_err(short)? != MAGIC {
            return Err(damaged("its first bytes are not those of an object"));
        }
        let version = reader.u8().map_err(short)?;
        if version > VERSION {
            let why = format!("it has format {version}, known is {VERSION}");
            return Err(FormatError::Newer { what: WHAT, why });
        }
        if version != VERSION || reader.u8().map_err(short)? != KIND {
            return Err(damaged("it is an object of another kind"));
        }
        let len = usize::from(reader.u16().map_err(short)?);
        let header_bytes = reader.bytes(len).map_err(short)?;
        let header = from_cbor(WHAT, header_bytes)?;
        let commitment = reader.array().map_err(short)?;
        let sealed = reader.rest().to_vec();
        Ok(Self { header, header_bytes: header_bytes.to_vec(), commitment, sealed })
    }

    /// The master key, if the secret is this slot's.
    ///
    /// The commitment is compared first, so that a wrong secret and a damaged slot differ, and no
    /// slot can be made to open with two secrets (Len et al., USENIX Security 2021).
    /// Errors: [`SlotError`]; costs are checked before any work is done.
    pub fn open(
        &self,
        repository: &RepositoryId,
        secret: SlotSecret<'_>,
    ) -> Result<Key, SlotError> {
        let kek = self.header.key_encrypting_key(secret)?;
        let commitment = kek.derive(Purpose::SlotCommitment, repository.as_bytes());
        if !bool::from(commitment.expose().ct_eq(&self.commitment)) {
            return Err(SlotError::WrongSecret);
        }
        let master = open(&kek, &self.sealed, &aad(repository, &self.header_bytes));
        let master =
            zeroize::Zeroizing::new(master.map_err(|error| FormatError::damaged(WHAT, error))?);
        let master = master.as_slice().try_into();
        Ok(Key::new(master.map_err(|_| FormatError::damaged(WHAT, "its key has another length"))?))
    }

    /// What kind of secret opens it: "passphrase", "key file" or "recovery code".
    #[must_use]
    pub fn kind_name(&self) -> &'static str {
        match self.header.kind {
            SlotKind::Passphrase => "passphrase",
            SlotKind::KeyFile => "key file",
            SlotKind::RecoveryCode => "recovery code",
        }
    }

    /// Whether a secret of this kind could open it.
    #[must_use]
    pub fn takes(&self, secret: SlotSecret<'_>) -> bool {
        self.header.kind == secret.kind()
    }

    /// The label it was given.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.header.label
    }

    /// When it was made, in seconds since 1970, by the clock of who made it.
    #[must_use]
    pub fn created(&self) -> i64 {
        self.header.created
    }
}

impl Header {
    fn key_encrypting_key(&self, secret: SlotSecret<'_>) -> Result<Key, SlotError> {
        if secret.kind() != self.kind {
            return Err(SlotError::OtherKind);
        }
        match secret {
            SlotSecret::KeyFile(key) | SlotSecret::RecoveryCode(key) => {
                Ok(key.derive(Purpose::SlotSecret, &self.salt))
            }
            SlotSecret::Passphrase(passphrase) => {
                let (Some(memory_kib), Some(passes), Some(lanes)) =
                    (self.memory_kib, self.passes, self.lanes)
                else {
                    return Err(FormatError::damaged(WHAT, "its costs are missing").into());
                };
                let params = KdfParams { memory_kib, passes, lanes };
                Ok(derive_from_passphrase(passphrase, &self.salt, params)?)
            }
        }
    }
}

fn aad(repository: &RepositoryId, header: &[u8]) -> Vec<u8> {
    [&MAGIC[..], &[VERSION, KIND], repository.as_bytes(), header].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPOSITORY: RepositoryId = RepositoryId::new([9; 16]);
    const CHEAP: KdfParams = KdfParams { memory_kib: 19 * 1024, passes: 1, lanes: 1 };

    fn slot(secret: SlotSecret<'_>) -> Vec<u8> {
        KeySlot::create(&REPOSITORY, secret, CHEAP, "laptop", 77, &Key::new([5; 32]))
            .expect("a slot")
            .to_vec()
    }

    #[test]
    fn a_slot_opens_with_its_own_secret_only() {
        let file = Key::new([1; 32]);
        let bytes = slot(SlotSecret::KeyFile(&file));
        let slot = KeySlot::decode(&bytes).expect("it parses");
        assert_eq!((slot.label(), slot.created(), slot.kind_name()), ("laptop", 77, "key file"));
        let master = slot.open(&REPOSITORY, SlotSecret::KeyFile(&file)).expect("it opens");
        assert_eq!(master.expose(), &[5; 32]);
        let other = Key::new([2; 32]);
        let wrong = slot.open(&REPOSITORY, SlotSecret::KeyFile(&other));
        assert!(matches!(wrong, Err(SlotError::WrongSecret)));
        let kind = slot.open(&REPOSITORY, SlotSecret::RecoveryCode(&file));
        assert!(matches!(kind, Err(SlotError::OtherKind)));
        let elsewhere = slot.open(&RepositoryId::new([8; 16]), SlotSecret::KeyFile(&file));
        assert!(elsewhere.is_err());
    }

    #[test]
    fn a_wrong_passphrase_and_a_damaged_slot_differ() {
        let bytes = slot(SlotSecret::Passphrase(b"right"));
        let parsed = KeySlot::decode(&bytes).expect("it parses");
        assert!(parsed.open(&REPOSITORY, SlotSecret::Passphrase(b"right")).is_ok());
        let wrong = parsed.open(&REPOSITORY, SlotSecret::Passphrase(b"wrong"));
        assert!(matches!(wrong, Err(SlotError::WrongSecret)));
        let mut flipped = bytes;
        *flipped.last_mut().expect("not empty") ^= 1;
        let damaged = KeySlot::decode(&flipped).expect("the header is whole");
        let error = damaged.open(&REPOSITORY, SlotSecret::Passphrase(b"right"));
        assert!(matches!(error, Err(SlotError::Format(FormatError::Damaged { .. }))));
    }

    #[test]
    fn costs_beyond_bounds_are_refused_before_any_work() {
        let mut parsed = KeySlot::decode(&slot(SlotSecret::Passphrase(b"x"))).expect("it parses");
        parsed.header.memory_kib = Some(u32::MAX);
        let refused = parsed.open(&REPOSITORY, SlotSecret::Passphrase(b"x"));
        assert!(matches!(refused, Err(SlotError::Kdf(KdfError::OutOfBounds(_)))));
    }
}
