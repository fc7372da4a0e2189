//! A key in a file: one line that a person can copy, with a checksum over it.

use zeroize::Zeroizing;

use crate::crypto::{Key, digest};
use crate::id::{RepositoryId, hex, unhex};

const PREFIX: &str = "vault-key-1:";

/// What a file holds is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it holds no key of vault, or not all of one")]
pub struct KeyFileError;

/// The content of a key file: a comment that says what it opens, then prefix, key and checksum.
#[must_use]
pub fn write_key_file(key: &Key, repository: &RepositoryId) -> Zeroizing<String> {
    let digits = Zeroizing::new(hex(key.expose()));
    let sum = hex(&digest(key.expose())[..4]);
    Zeroizing::new(format!(
        "# Key of the vault repository {repository}. Whoever has it can read every backup there.\n\
         {PREFIX}{}{sum}\n",
        *digits
    ))
}

/// Reads the content of a key file; comments and blank lines count for nothing.
///
/// Errors: [`KeyFileError`] if there is not exactly one whole key.
pub fn read_key_file(content: &[u8]) -> Result<Key, KeyFileError> {
    let text = std::str::from_utf8(content).map_err(|_| KeyFileError)?;
    let mut lines =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let (Some(line), None) = (lines.next(), lines.next()) else { return Err(KeyFileError) };
    let digits = line.strip_prefix(PREFIX).ok_or(KeyFileError)?;
    let mut bytes = Zeroizing::new([0; 36]);
    if !unhex(digits, &mut bytes[..]) {
        return Err(KeyFileError);
    }
    let (key, sum) = bytes.split_at(32);
    match digest(key)[..4] == *sum {
        true => Ok(Key::new(key.try_into().map_err(|_| KeyFileError)?)),
        false => Err(KeyFileError),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_reads_what_it_writes_and_notices_every_slip() {
        let text = write_key_file(&Key::new([7; 32]), &RepositoryId::new([1; 16]));
        let key = read_key_file(text.as_bytes()).expect("it reads");
        assert_eq!(key.expose(), &[7; 32]);
        let start = text.find(PREFIX).expect("the key's line");
        for at in start..text.len() - 1 {
            let mut changed = text.as_bytes().to_vec();
            changed[at] ^= 1;
            assert!(read_key_file(&changed).is_err(), "byte {at}");
        }
        assert!(read_key_file(b"").is_err());
        assert!(read_key_file([text.as_bytes(), text.as_bytes()].concat().as_slice()).is_err());
    }
}
