//! From a secret to the master key, and from there to all others: sections 6 to 10.

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use ed25519_dalek::{SigningKey, VerifyingKey};
use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::XWing;
use hpke::{Deserializable as _, Kem, OpModeR, PskBundle};

use super::objects::Store;
use super::wire::{self, Cursor};
use super::{Fault, Result, damaged, ensure};

pub(crate) type Key = [u8; 32];

pub(crate) const RUN_SEAL_LEN: usize = 1168;

/// What a seal adds to its plaintext.
pub(crate) const SEAL_LEN: usize = 40;

const SLOTS_MOST: usize = 32;
const CONSONANTS: &[u8] = b"bdfghjklmnprstvz";
const VOWELS: &[u8] = b"aiou";

pub(crate) fn derive(key: &Key, context: &str, input: &[u8]) -> Key {
    let mut hasher = blake3::Hasher::new_derive_key(&format!("volume-vault v1 {context}"));
    let _ = hasher.update(key).update(input);
    *hasher.finalize().as_bytes()
}

/// Opens `seal[key](plaintext, aad)`; nothing if it does not open.
pub(crate) fn open(key: &Key, sealed: &[u8], aad: &[u8]) -> Option<Vec<u8>> {
    let (nonce, msg) = sealed.split_at_checked(24)?;
    let nonce = XNonce::try_from(nonce).ok()?;
    XChaCha20Poly1305::new(&(*key).into()).decrypt(&nonce, Payload { msg, aad }).ok()
}

/// What opens a slot.
pub(crate) enum Secret<'a> {
    Passphrase(&'a [u8]),
    KeyFile(Key),
    RecoveryCode(Key),
}

impl Secret<'_> {
    /// Reads a key file: the one line that is not a comment.
    pub(crate) fn of_key_file(text: &str) -> Option<Self> {
        let mut lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        let bytes: [u8; 36] = wire::unhex(lines.next()?.strip_prefix("vault-key-1:")?)?;
        let (key, sum) = bytes.split_first_chunk::<32>()?;
        let is_whole = blake3::hash(key).as_bytes().starts_with(sum) && lines.next().is_none();
        is_whole.then_some(Self::KeyFile(*key))
    }

    /// Reads twelve words.
    pub(crate) fn of_recovery_code(text: &str) -> Option<Self> {
        let lower = text.to_ascii_lowercase();
        let words = lower.split(|c: char| !c.is_ascii_alphabetic()).filter(|w| !w.is_empty());
        let mut bytes = Vec::new();
        for word in words {
            let letters: [u8; 5] = word.as_bytes().try_into().ok()?;
            let mut value = 0;
            for (at, letter) in letters.iter().enumerate() {
                let (alphabet, bits) = if at % 2 == 0 { (CONSONANTS, 4) } else { (VOWELS, 2) };
                let digit = alphabet.iter().position(|l| l == letter)?;
                value = value << bits | u16::try_from(digit).ok()?;
            }
            bytes.extend([(value >> 8) as u8, (value & 0xff) as u8]);
        }
        let bytes: [u8; 24] = bytes.try_into().ok()?;
        if blake3::hash(&bytes[..20]).as_bytes()[..4] != bytes[20..] {
            return None;
        }
        let mut secret = [0; 32];
        secret[..20].copy_from_slice(&bytes[..20]);
        Some(Self::RecoveryCode(secret))
    }
}

/// Finds the master key through the slots.
pub(crate) fn master(store: &Store, repository: [u8; 16], secret: &Secret<'_>) -> Result<Key> {
    let mut names = store.list("keys")?;
    names.retain(|name| wire::unhex::<16>(name).is_some());
    names.sort();
    let mut fault = Fault::WrongSecret;
    for name in names.iter().take(SLOTS_MOST) {
        let slot = store.get(&format!("keys/{name}"), 4 << 10)?;
        match open_slot(&slot, repository, secret) {
            Ok(Some(master)) => return Ok(master),
            Ok(None) => {}
            Err(damage) => fault = damage,
        }
    }
    Err(fault)
}

fn open_slot(slot: &[u8], repository: [u8; 16], secret: &Secret<'_>) -> Result<Option<Key>> {
    let mut cursor = Cursor::new(slot);
    ensure(cursor.bytes(4)? == b"VVLT", "a slot has no magic")?;
    match cursor.array()? {
        [1, 16] => {}
        [version, 16] if version > 1 => return Err(Fault::Newer("a key slot".to_owned())),
        _ => return damaged("a slot is something else"),
    }
    let len = usize::from(u16::from_le_bytes(cursor.array()?));
    let header = cursor.bytes(len)?;
    let commitment: Key = cursor.array()?;
    let sealed = cursor.bytes(72)?;
    cursor.finish()?;
    let Some(kek) = kek(header, secret)? else { return Ok(None) };
    if derive(&kek, "slot commitment", &repository) != commitment {
        return Ok(None);
    }
    let aad = [b"VVLT\x01\x10", &repository[..], header].concat();
    let Some(master) = open(&kek, sealed, &aad) else { return damaged("a slot does not open") };
    Ok(Some(master.try_into().expect("72 bytes sealed are 32")))
}

/// The key-encrypting key; nothing if the slot is for another kind of secret.
fn kek(header: &[u8], secret: &Secret<'_>) -> Result<Option<Key>> {
    let (mut kind, mut salt, mut costs) = (None, None, [None; 3]);
    wire::document(header, |key, value| {
        match key {
            0 => kind = Some(value.u64()?),
            1 => salt = Some(wire::array::<32>(value)?),
            4 => costs[0] = Some(value.u32()?),
            5 => costs[1] = Some(value.u32()?),
            6 => costs[2] = Some(value.u32()?),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let salt = wire::need(salt, "salt")?;
    let passphrase = match (wire::need(kind, "kind")?, secret) {
        (0, Secret::Passphrase(passphrase)) => passphrase,
        (1, Secret::KeyFile(key)) | (2, Secret::RecoveryCode(key)) => {
            return Ok(Some(derive(key, "slot secret", &salt)));
        }
        (0..=2, _) => return Ok(None),
        _ => return damaged("a slot is of no known kind"),
    };
    let [Some(memory @ 19_456..=4_194_304), Some(passes @ 1..=16), Some(lanes @ 1..=16)] = costs
    else {
        return damaged("a slot has costs out of bounds");
    };
    let fault = |error: argon2::Error| Fault::Damaged(error.to_string());
    let params = argon2::Params::new(memory, passes, lanes, Some(32)).map_err(fault)?;
    let argon = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    let mut kek = [0; 32];
    argon.hash_password_into(passphrase, &salt, &mut kek).map_err(fault)?;
    Ok(Some(kek))
}

/// All keys a reader needs.
pub(crate) struct Keys {
    pub(crate) repository: [u8; 16],
    pub(crate) owner: VerifyingKey,
    chunk_ids: [Key; 2],
    shared: Key,
    psk: Key,
    restore: <XWing as Kem>::PrivateKey,
}

impl Keys {
    pub(crate) fn new(master: &Key, repository: [u8; 16]) -> Self {
        let derive = |context| derive(master, context, b"");
        Self {
            repository,
            owner: SigningKey::from_bytes(&derive("owner signing seed")).verifying_key(),
            chunk_ids: [derive("data chunk id"), derive("tree chunk id")],
            shared: derive("shared object"),
            psk: derive("run seal psk"),
            restore: XWing::derive_keypair(&derive("restore key seed")).0,
        }
    }

    /// The id of a chunk of `kind` 1 (data) or 2 (tree).
    pub(crate) fn chunk_id(&self, kind: u8, chunk: &[u8]) -> Key {
        *blake3::keyed_hash(&self.chunk_ids[usize::from(kind - 1)], chunk).as_bytes()
    }

    /// The key of all sealed objects of a kind.
    pub(crate) fn of_kind(&self, kind: u8) -> Key {
        derive(&self.shared, "shared object", &[kind])
    }

    /// The run secret in a run seal.
    pub(crate) fn run_secret(&self, seal: &[u8; RUN_SEAL_LEN]) -> Result<Key> {
        let fault = |error: hpke::HpkeError| Fault::Damaged(format!("a run seal: {error}"));
        let (share, ciphertext) = seal.split_at(1120);
        let share = <XWing as Kem>::EncappedKey::from_bytes(share).map_err(fault)?;
        let psk = PskBundle::new(&self.psk, b"volume-vault v1 psk").map_err(fault)?;
        let secret = hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, XWing>(
            &OpModeR::Psk(psk),
            &self.restore,
            &share,
            b"volume-vault v1 run seal",
            ciphertext,
            &self.repository,
        );
        Ok(secret.map_err(fault)?.try_into().expect("48 bytes sealed are 32"))
    }
}
