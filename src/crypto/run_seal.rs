//! A run's secret, sealed to the repository.
//!
//! Every run draws a secret and seals it to the repository's public key with HPKE in PSK mode.
//! Against the store the pre-shared key makes this as strong as a symmetric key, whatever becomes
//! of the KEM; against a stolen writer key the KEM protects.
//!
//! Source: RFC 9180, with the KEM X-Wing (draft-ietf-hpke-pq-03), HKDF-SHA256, ChaCha20Poly1305.

use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::{Kem, XWing};
use hpke::{Deserializable, OpModeR, OpModeS, PskBundle, Serializable};

use super::key::Key;
use super::random::{RandomError, random_bytes};

type PublicKey = <XWing as Kem>::PublicKey;
type PrivateKey = <XWing as Kem>::PrivateKey;
type EncappedKey = <XWing as Kem>::EncappedKey;

const ENCAPPED_LEN: usize = 1120;
const INFO: &[u8] = b"volume-vault v1 run seal";
const PSK_ID: &[u8] = b"volume-vault v1 psk";

/// A run's secret as it stands in every pack of the run: encapsulated key ‖ ciphertext ‖ tag.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RunSeal(Box<[u8; Self::LEN]>);

impl RunSeal {
    /// Length in bytes: 1,120 of the KEM, 32 of the secret, 16 of the tag.
    pub const LEN: usize = ENCAPPED_LEN + 32 + 16;

    /// Reads a seal; none if the length is wrong.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        Some(Self(Box::new(bytes.try_into().ok()?)))
    }

    /// The stored bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl std::fmt::Debug for RunSeal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RunSeal")
    }
}

/// A run seal could not be made or opened.
#[derive(Debug, thiserror::Error)]
pub enum RunSealError {
    /// It was not sealed for this repository, or it was altered.
    #[error("run seal does not open with this repository's key")]
    Open,
    /// The system had no random bytes.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// The KEM refused to work.
    #[error("run seal could not be made")]
    Seal,
}

/// Seals run secrets: what a writer holds.
#[derive(Clone)]
pub struct RestorePublic {
    key: PublicKey,
    psk: Key,
}

/// Opens run secrets: what only an owner holds.
#[derive(Clone)]
pub struct RestoreKey {
    key: PrivateKey,
    public: RestorePublic,
}

impl RestoreKey {
    /// The key pair of a seed, used with a pre-shared key.
    #[must_use]
    pub fn from_seed(seed: &Key, psk: Key) -> Self {
        let (key, public) = XWing::derive_keypair(seed.expose());
        Self { key, public: RestorePublic { key: public, psk } }
    }

    /// The half that seals.
    #[must_use]
    pub fn public(&self) -> &RestorePublic {
        &self.public
    }

    /// The secret of a run; `place` must be the bytes it was sealed for.
    ///
    /// Errors: [`RunSealError::Open`].
    pub fn open(&self, seal: &RunSeal, place: &[u8]) -> Result<Key, RunSealError> {
        let (encapped, ciphertext) = seal.0.split_at(ENCAPPED_LEN);
        let encapped = EncappedKey::from_bytes(encapped).map_err(|_| RunSealError::Open)?;
        let psk = bundle(&self.public.psk)?;
        let secret = hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, XWing>(
            &OpModeR::Psk(psk),
            &self.key,
            &encapped,
            INFO,
            ciphertext,
            place,
        );
        let secret = zeroize::Zeroizing::new(secret.map_err(|_| RunSealError::Open)?);
        let secret = secret.as_slice().try_into().map_err(|_| RunSealError::Open)?;
        Ok(Key::new(secret))
    }
}

impl RestorePublic {
    /// Draws a run's secret and seals it for `place` (the repository's id).
    ///
    /// Errors: [`RunSealError::Random`], [`RunSealError::Seal`].
    pub fn seal(&self, place: &[u8]) -> Result<(Key, RunSeal), RunSealError> {
        let secret = Key::new(random_bytes()?);
        let (encapped, ciphertext) = hpke::single_shot_seal::<ChaCha20Poly1305, HkdfSha256, XWing>(
            &OpModeS::Psk(bundle(&self.psk)?),
            &self.key,
            INFO,
            secret.expose(),
            place,
        )
        .map_err(|_| RunSealError::Seal)?;
        let bytes = [&encapped.to_bytes()[..], &ciphertext].concat();
        let seal = RunSeal::from_slice(&bytes).ok_or(RunSealError::Seal)?;
        Ok((secret, seal))
    }
}

fn bundle(psk: &Key) -> Result<PskBundle<'_>, RunSealError> {
    PskBundle::new(psk.expose(), PSK_ID).map_err(|_| RunSealError::Seal)
}

impl std::fmt::Debug for RestoreKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RestoreKey(redacted)")
    }
}

impl std::fmt::Debug for RestorePublic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RestorePublic(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seed: u8, psk: u8) -> RestoreKey {
        RestoreKey::from_seed(&Key::new([seed; 32]), Key::new([psk; 32]))
    }

    #[test]
    fn a_run_seal_opens_with_its_own_key_psk_and_place_only() {
        let (secret, seal) = key(1, 2).public().seal(b"repository").expect("a seal");
        let opened = key(1, 2).open(&seal, b"repository").expect("it opens");
        assert_eq!(opened.expose(), secret.expose());
        assert!(key(1, 2).open(&seal, b"another").is_err());
        assert!(key(1, 3).open(&seal, b"repository").is_err());
        assert!(key(2, 2).open(&seal, b"repository").is_err());
    }
}
