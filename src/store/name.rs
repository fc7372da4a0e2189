//! Names of objects: relative paths of a small alphabet.

use std::fmt;

/// The name of an object: components of `a-z 0-9 . -` joined by slashes, none of them empty or
/// starting with a dot.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName(String);

impl ObjectName {
    /// Longest name in bytes.
    pub const LEN_MAX: usize = 200;

    /// Reads a name; none if it is not of the form above.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let good = |part: &str| {
            !part.is_empty()
                && !part.starts_with('.')
                && part.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-'))
        };
        let fits = text.len() <= Self::LEN_MAX && text.split('/').all(good);
        fits.then(|| Self(text.to_owned()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last component.
    #[must_use]
    pub fn base(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_the_store_are_none() {
        for bad in ["", "/a", "a/", "a//b", "../a", "a/../b", "a/.b", "A", "a b", "a\0", "a\\b"] {
            assert_eq!(ObjectName::parse(bad), None, "{bad:?}");
        }
        assert!(ObjectName::parse("packs/0a/0a12.x-1").is_some());
    }
}
