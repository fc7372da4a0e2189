//! A secret on paper: twelve words that can be read aloud.
//!
//! Words are proquints, five letters for 16 bits. Ten carry 160 random bits, two a checksum, so a
//! slip of the pen is told from a wrong code.
//!
//! Source: D. Wilkerson, "A Proposal for Proquints", arXiv:0901.4016.

use zeroize::Zeroizing;

use crate::crypto::{Key, RandomError, digest, random_bytes};

const CONSONANTS: &[u8; 16] = b"bdfghjklmnprstvz";
const VOWELS: &[u8; 4] = b"aiou";
const SECRET_LEN: usize = 20;
const WORDS: usize = 12;

/// A recovery code; printed once and never stored.
pub struct RecoveryCode([u8; SECRET_LEN]);

/// What was typed is no recovery code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecoveryCodeError {
    /// The number of words is wrong.
    #[error("a recovery code has {WORDS} words, this has {0}")]
    Count(usize),
    /// A word is not one that a code can hold.
    #[error("word {0} of the recovery code is misspelt")]
    Word(usize),
    /// The words are possible, but not together.
    #[error("the recovery code has a word that was written down wrongly")]
    Checksum,
}

impl RecoveryCode {
    /// Draws a code.
    ///
    /// Errors: [`RandomError`].
    pub fn random() -> Result<Self, RandomError> {
        random_bytes().map(Self)
    }

    /// The words, for the one who keeps them.
    #[must_use]
    pub fn words(&self) -> Zeroizing<String> {
        let checksum = digest(&self.0);
        let bytes = Zeroizing::new([&self.0[..], &checksum[..4]].concat());
        let words: Zeroizing<Vec<String>> =
            Zeroizing::new(bytes.chunks_exact(2).map(|pair| word(pair[0], pair[1])).collect());
        Zeroizing::new(words.join("-"))
    }

    /// Reads words as they were typed: any case, parted by dashes or blanks.
    ///
    /// Errors: [`RecoveryCodeError`], which says which word to look at.
    pub fn parse(text: &str) -> Result<Self, RecoveryCodeError> {
        let lower = Zeroizing::new(text.to_ascii_lowercase());
        let words: Vec<&str> = lower.split(|c: char| !c.is_ascii_alphabetic()).collect();
        let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
        if words.len() != WORDS {
            return Err(RecoveryCodeError::Count(words.len()));
        }
        let mut bytes = Zeroizing::new([0; 2 * WORDS]);
        for (at, word) in words.iter().enumerate() {
            let value = number(word).ok_or(RecoveryCodeError::Word(at + 1))?;
            bytes[2 * at..2 * at + 2].copy_from_slice(&value);
        }
        let mut secret = [0; SECRET_LEN];
        secret.copy_from_slice(&bytes[..SECRET_LEN]);
        match digest(&secret)[..4] == bytes[SECRET_LEN..] {
            true => Ok(Self(secret)),
            false => Err(RecoveryCodeError::Checksum),
        }
    }

    /// The secret as a key that opens a slot.
    #[must_use]
    pub fn key(&self) -> Key {
        let mut padded = Zeroizing::new([0; 32]);
        padded[..SECRET_LEN].copy_from_slice(&self.0);
        Key::new(*padded)
    }
}

impl Drop for RecoveryCode {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.0);
    }
}

impl std::fmt::Debug for RecoveryCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RecoveryCode(redacted)")
    }
}

/// 16 bits as consonant, vowel, consonant, vowel, consonant: 4, 2, 4, 2, 4 bits.
fn word(high: u8, low: u8) -> String {
    let letters = [
        CONSONANTS[usize::from(high >> 4)],
        VOWELS[usize::from(high >> 2 & 3)],
        CONSONANTS[usize::from((high & 3) << 2 | low >> 6)],
        VOWELS[usize::from(low >> 4 & 3)],
        CONSONANTS[usize::from(low & 15)],
    ];
    letters.iter().map(|letter| *letter as char).collect()
}

fn number(word: &str) -> Option<[u8; 2]> {
    let letters: [u8; 5] = word.as_bytes().try_into().ok()?;
    let consonant = |letter| index(CONSONANTS, letter);
    let vowel = |letter| index(VOWELS, letter);
    let middle = consonant(letters[2])?;
    let high = consonant(letters[0])? << 4 | vowel(letters[1])? << 2 | middle >> 2;
    let low = (middle & 3) << 6 | vowel(letters[3])? << 4 | consonant(letters[4])?;
    Some([high, low])
}

fn index(letters: &[u8], letter: u8) -> Option<u8> {
    let at = letters.iter().position(|l| *l == letter)?;
    u8::try_from(at).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_paper() {
        assert_eq!(word(127, 0), "lusab");
        assert_eq!(word(0, 1), "babad");
        assert_eq!(number("lusab"), Some([127, 0]));
    }

    #[test]
    fn a_code_reads_as_it_was_written_down() {
        let code = RecoveryCode::random().expect("randomness");
        let words = code.words();
        assert_eq!(words.split('-').count(), WORDS);
        let typed = words.to_uppercase().replace('-', " ");
        assert_eq!(RecoveryCode::parse(&typed).expect("it reads").0, code.0);
    }

    #[test]
    fn slips_of_the_pen_are_told_apart() {
        let words = RecoveryCode([7; SECRET_LEN]).words();
        assert_eq!(RecoveryCode::parse("lusab").expect_err("short"), RecoveryCodeError::Count(1));
        let misspelt = words.replacen(&words[..5], "quail", 1);
        assert_eq!(
            RecoveryCode::parse(&misspelt).expect_err("no word"),
            RecoveryCodeError::Word(1)
        );
        let other = words.replacen(&words[..5], "zuzuz", 1);
        assert_eq!(RecoveryCode::parse(&other).expect_err("other"), RecoveryCodeError::Checksum);
    }
}
