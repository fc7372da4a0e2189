//! Signatures over records, so that a store cannot invent one.

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

use super::key::Key;

/// Length of a signature in bytes.
pub const SIGNATURE_LEN: usize = 64;

/// The signature does not belong to the message and the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("signature does not verify")]
pub struct VerifyError;

/// Signs for one writer or for the owner.
pub struct Signer(SigningKey);

impl Signer {
    /// The signer of a 32-byte seed.
    ///
    /// Source: RFC 8032 (Ed25519).
    #[must_use]
    pub fn from_seed(seed: &Key) -> Self {
        Self(SigningKey::from_bytes(seed.expose()))
    }

    /// Who can check what this signs.
    #[must_use]
    pub fn verifier(&self) -> Verifier {
        Verifier(self.0.verifying_key().to_bytes())
    }

    /// The signature of `message`.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_LEN] {
        self.0.sign(message).to_bytes()
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer(redacted)")
    }
}

/// Checks signatures: a public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Verifier([u8; 32]);

impl Verifier {
    /// Takes over the bytes of a public key.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The public key's bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Checks a signature strictly: no malleable or small-order variant passes.
    ///
    /// Errors: [`VerifyError`].
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), VerifyError> {
        let key = VerifyingKey::from_bytes(&self.0).map_err(|_| VerifyError)?;
        let signature = Signature::from_slice(signature).map_err(|_| VerifyError)?;
        key.verify_strict(message, &signature).map_err(|_| VerifyError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_signer_s_own_message_verifies() {
        let signer = Signer::from_seed(&Key::new([1; 32]));
        let other = Signer::from_seed(&Key::new([2; 32]));
        let signature = signer.sign(b"message");
        assert_eq!(signer.verifier().verify(b"message", &signature), Ok(()));
        assert_eq!(signer.verifier().verify(b"massage", &signature), Err(VerifyError));
        assert_eq!(other.verifier().verify(b"message", &signature), Err(VerifyError));
        assert_eq!(signer.verifier().verify(b"message", &signature[1..]), Err(VerifyError));
    }
}
