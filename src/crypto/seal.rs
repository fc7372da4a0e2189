//! Authenticated encryption of everything that is stored.
//!
//! `seal[key](plaintext, aad)` = nonce ‖ ciphertext ‖ tag, by XChaCha20-Poly1305. The nonce is the
//! head of a keyed hash over fresh random bytes, the AAD and the plaintext, or names that determine
//! the plaintext, so that neither a weak random source nor a cloned machine can make one nonce
//! serve two plaintexts. Which library does it, and why, is in
//! `docs/decisions/0019-which-library-seals.md`.

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use chacha20::cipher::Array;
use chacha20::{R20, hchacha};
use zeroize::Zeroizing;

use super::key::{Key, Purpose};
use super::payload::Payload;
use super::random::{RandomError, random_bytes};

const NONCE_LEN: usize = 24;
const TAG_LEN: usize = 16;
/// So much of the nonce goes into the key of one text; the rest is its nonce under that key.
const SUBKEY_NONCE_LEN: usize = 16;

type XNonce = [u8; NONCE_LEN];

/// By how many bytes a sealed text is longer than its plaintext.
pub const SEAL_OVERHEAD: usize = NONCE_LEN + TAG_LEN;

/// The bytes are not what was sealed under this key for this place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("authentication failed")]
pub struct OpenError;

/// A buffer to be sealed, with room in front for the nonce, so that sealing copies nothing.
#[derive(Debug)]
pub struct Plaintext(Vec<u8>);

impl Plaintext {
    /// An empty plaintext with room for `capacity` bytes.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        let mut buffer = Vec::with_capacity(capacity + SEAL_OVERHEAD);
        buffer.resize(NONCE_LEN, 0);
        Self(buffer)
    }

    /// Adds bytes.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Makes the plaintext `len` bytes long, zeros behind what is there.
    pub fn resize(&mut self, len: usize) {
        self.0.resize(NONCE_LEN + len, 0);
    }

    /// The plaintext so far.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0[NONCE_LEN..]
    }

    /// The plaintext so far, to be written to.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0[NONCE_LEN..]
    }
}

/// Nonce, ciphertext and tag.
#[derive(Debug)]
pub struct Sealed(Vec<u8>);

impl Sealed {
    /// The bytes as they are stored.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes, ready for a store.
    #[must_use]
    pub fn into_payload(self) -> Payload {
        Payload::sealed(self.0)
    }
}

/// `seal[key](plaintext, aad)`.
///
/// Shape: `n` bytes → `n +` [`SEAL_OVERHEAD`] bytes.
/// Errors: [`RandomError`] if the system has no random bytes to give.
/// Source: draft-irtf-cfrg-xchacha; nonce construction in `docs/format.md`.
pub fn seal(key: &Key, plaintext: Plaintext, aad: &[u8]) -> Result<Sealed, RandomError> {
    let nonce = nonce(key, aad, [plaintext.bytes()])?;
    Ok(seal_with(key, plaintext, aad, nonce))
}

/// As [`seal`], with the nonce drawn from `names` instead of the plaintext: hashes of its parts in
/// order, which no other plaintext has under this key and AAD. They are shorter.
///
/// Errors: [`RandomError`].
pub fn seal_named<'n>(
    key: &Key,
    plaintext: Plaintext,
    aad: &[u8],
    names: impl IntoIterator<Item = &'n [u8; 32]>,
) -> Result<Sealed, RandomError> {
    let nonce = nonce(key, aad, names.into_iter().map(|name| &name[..]))?;
    Ok(seal_with(key, plaintext, aad, nonce))
}

fn seal_with(key: &Key, plaintext: Plaintext, aad: &[u8], nonce: XNonce) -> Sealed {
    let mut buffer = plaintext.0;
    let (key, short_nonce) = cipher(key, &nonce);
    let tag = key
        .seal_in_place_separate_tag(short_nonce, Aad::from(aad), &mut buffer[NONCE_LEN..])
        .expect("because no plaintext here comes near the cipher's limit of 256 GiB");
    buffer[..NONCE_LEN].copy_from_slice(&nonce);
    buffer.extend_from_slice(tag.as_ref());
    Sealed(buffer)
}

/// ChaCha20-Poly1305 under the key and nonce that XChaCha20-Poly1305 makes of these.
///
/// Source: draft-irtf-cfrg-xchacha-03, §2.3; RFC 8439.
fn cipher(key: &Key, nonce: &XNonce) -> (LessSafeKey, Nonce) {
    let (head, tail) = nonce.split_at(SUBKEY_NONCE_LEN);
    let head = Array(std::array::from_fn(|at| head[at]));
    let subkey = Zeroizing::new(hchacha::<R20>(key.expose().into(), &head).0);
    let key = UnboundKey::new(&CHACHA20_POLY1305, subkey.as_slice())
        .expect("because the key has the length that the cipher wants");
    let mut short_nonce = [0; aws_lc_rs::aead::NONCE_LEN];
    short_nonce[4..].copy_from_slice(tail);
    (LessSafeKey::new(key), Nonce::assume_unique_for_key(short_nonce))
}

/// Opens what [`seal`] made.
///
/// Errors: [`OpenError`] if a bit of it, its key or its AAD differs.
pub fn open(key: &Key, sealed: &[u8], aad: &[u8]) -> Result<Vec<u8>, OpenError> {
    let mut plaintext = Vec::new();
    open_into(key, sealed, aad, &mut plaintext)?;
    Ok(plaintext)
}

/// As [`open`], into a buffer that is overwritten and can be used again.
///
/// Errors: [`OpenError`]; the buffer is then empty.
pub fn open_into(
    key: &Key,
    sealed: &[u8],
    aad: &[u8],
    plaintext: &mut Vec<u8>,
) -> Result<(), OpenError> {
    let opened = open_over(key, sealed, aad, plaintext);
    if opened.is_err() {
        plaintext.clear();
    }
    opened
}

fn open_over(
    key: &Key,
    sealed: &[u8],
    aad: &[u8],
    plaintext: &mut Vec<u8>,
) -> Result<(), OpenError> {
    if sealed.len() < SEAL_OVERHEAD {
        return Err(OpenError);
    }
    let (nonce, rest) = sealed.split_at(NONCE_LEN);
    let (ciphertext, tag) = rest.split_at(rest.len() - TAG_LEN);
    let nonce = XNonce::try_from(nonce).map_err(|_| OpenError)?;
    // What the buffer held is not cleared: all of it is overwritten.
    plaintext.resize(ciphertext.len(), 0);
    let (key, nonce) = cipher(key, &nonce);
    key.open_separate_gather(nonce, Aad::from(aad), ciphertext, tag, plaintext)
        .map_err(|_| OpenError)
}

fn nonce<'p>(
    key: &Key,
    aad: &[u8],
    content: impl IntoIterator<Item = &'p [u8]>,
) -> Result<XNonce, RandomError> {
    let hash_key = key.derive(Purpose::Nonce, b"");
    let mut hasher = blake3::Hasher::new_keyed(hash_key.expose());
    let _ =
        hasher.update(&random_bytes::<32>()?).update(&(aad.len() as u64).to_le_bytes()).update(aad);
    for part in content {
        let _ = hasher.update(part);
    }
    let mut nonce = [0; NONCE_LEN];
    nonce.copy_from_slice(&hasher.finalize().as_bytes()[..NONCE_LEN]);
    Ok(nonce)
}

#[cfg(test)]
mod tests {
    use chacha20poly1305::aead::{Aead as _, Payload as AeadPayload};
    use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305};
    use proptest::prelude::*;

    use super::*;

    fn sealed(plaintext: &[u8], aad: &[u8]) -> Vec<u8> {
        let mut text = Plaintext::with_capacity(plaintext.len());
        text.extend(plaintext);
        seal(&Key::new([1; 32]), text, aad).expect("randomness").as_bytes().to_vec()
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens(plaintext: Vec<u8>, aad: Vec<u8>) {
            let text = sealed(&plaintext, &aad);
            prop_assert_eq!(text.len(), plaintext.len() + SEAL_OVERHEAD);
            prop_assert_eq!(open(&Key::new([1; 32]), &text, &aad), Ok(plaintext));
        }

        #[test]
        fn any_flipped_bit_is_noticed(plaintext: Vec<u8>, at: prop::sample::Index, bit in 0..8) {
            let mut text = sealed(&plaintext, b"place");
            let at = at.index(text.len());
            text[at] ^= 1u8 << bit;
            prop_assert_eq!(open(&Key::new([1; 32]), &text, b"place"), Err(OpenError));
        }
    }

    #[test]
    fn another_library_opens_what_is_sealed_and_seals_what_opens() {
        let cipher = XChaCha20Poly1305::new(&[1; 32].into());
        for len in [0, 1, 16, 63, 64, 65, 191, 320, 513, 4097] {
            let plaintext: Vec<u8> = (0..=250).cycle().take(len).collect();
            let text = sealed(&plaintext, b"place");
            let (nonce, ciphertext) = text.split_at(NONCE_LEN);
            let nonce = XNonce::try_from(nonce).expect("24 bytes").into();
            let payload = |msg| AeadPayload { msg, aad: b"place" };
            assert_eq!(cipher.decrypt(&nonce, payload(ciphertext)), Ok(plaintext.clone()));
            assert_eq!(cipher.encrypt(&nonce, payload(&plaintext)), Ok(ciphertext.to_vec()));
        }
    }

    #[test]
    fn another_key_place_or_length_does_not_open() {
        let text = sealed(b"content", b"place");
        assert_eq!(open(&Key::new([2; 32]), &text, b"place"), Err(OpenError));
        assert_eq!(open(&Key::new([1; 32]), &text, b"elsewhere"), Err(OpenError));
        for len in 0..text.len() {
            assert_eq!(open(&Key::new([1; 32]), &text[..len], b"place"), Err(OpenError));
        }
    }

    #[test]
    fn one_plaintext_never_has_one_nonce_twice() {
        assert_ne!(sealed(b"x", b"")[..NONCE_LEN], sealed(b"x", b"")[..NONCE_LEN]);
    }

    #[test]
    fn what_is_sealed_under_names_opens_and_never_has_one_nonce_twice() {
        let sealed = || {
            let mut text = Plaintext::with_capacity(7);
            text.extend(b"content");
            let sealed = seal_named(&Key::new([1; 32]), text, b"place", [&[3; 32]]);
            sealed.expect("randomness").as_bytes().to_vec()
        };
        let text = sealed();
        assert_eq!(open(&Key::new([1; 32]), &text, b"place"), Ok(b"content".to_vec()));
        assert_ne!(text[..NONCE_LEN], sealed()[..NONCE_LEN]);
    }

    #[test]
    fn a_buffer_that_is_used_again_holds_nothing_of_before() {
        let key = Key::new([1; 32]);
        let mut buffer = vec![9; 100];
        open_into(&key, &sealed(b"content", b"place"), b"place", &mut buffer).expect("it opens");
        assert_eq!(buffer, b"content");
        assert!(open_into(&key, &[0; 200], b"place", &mut buffer).is_err());
        assert!(buffer.is_empty());
    }
}
