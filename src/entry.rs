//! What is backed up: entries, their paths, metadata and content.
//!
//! Floor 0. Names are bytes. An entry says what a restore brings back; a [`Hint`] only helps to
//! find out whether a file changed.

use std::fmt;

use crate::clock::Time;
use crate::id::ChunkId;

/// Longest name of one component, in bytes, as on every Linux file system.
pub const NAME_LEN_MAX: usize = 255;

/// Longest path in key form, in bytes: 5,000 components of average length fit well.
pub const PATH_LEN_MAX: usize = 1 << 20;

/// A name that cannot be a path component.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Empty, `.`, `..`, longer than 255 bytes, or with a NUL or a slash in it.
    #[error("`{}` cannot be a file name", escape(.0))]
    Name(Vec<u8>),
    /// Longer than [`PATH_LEN_MAX`].
    #[error("path of {0} bytes is too long")]
    TooLong(usize),
}

/// A path below the root of an item, in key form: components joined by NUL.
///
/// Byte order of keys is walk order: a directory comes right before what it holds. The root is the
/// empty key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EntryPath(Vec<u8>);

impl EntryPath {
    /// The root of an item.
    #[must_use]
    pub const fn root() -> Self {
        Self(Vec::new())
    }

    /// The path of `name` in this directory.
    ///
    /// Errors: [`PathError`] if `name` is no valid component or the path grows too long.
    pub fn child(&self, name: &[u8]) -> Result<Self, PathError> {
        check_name(name)?;
        let len = self.0.len() + 1 + name.len();
        if len > PATH_LEN_MAX {
            return Err(PathError::TooLong(len));
        }
        let mut key = Vec::with_capacity(len);
        if !self.0.is_empty() {
            key.extend_from_slice(&self.0);
            key.push(0);
        }
        key.extend_from_slice(name);
        Ok(Self(key))
    }

    /// Reads a key as it is stored.
    ///
    /// Errors: [`PathError`] if any component is invalid.
    pub fn from_key(key: &[u8]) -> Result<Self, PathError> {
        if key.len() > PATH_LEN_MAX {
            return Err(PathError::TooLong(key.len()));
        }
        if !key.is_empty() {
            key.split(|b| *b == 0).try_for_each(check_name)?;
        }
        Ok(Self(key.to_vec()))
    }

    /// Reads a path with slashes; leading, doubled and trailing slashes and `.` count for nothing.
    ///
    /// Errors: [`PathError`] if any component is invalid; `..` always is.
    pub fn from_slashed(path: &[u8]) -> Result<Self, PathError> {
        let components = path.split(|b| *b == b'/').filter(|c| !c.is_empty() && *c != b".");
        let mut key = Vec::with_capacity(path.len().min(PATH_LEN_MAX));
        for name in components {
            check_name(name)?;
            if !key.is_empty() {
                key.push(0);
            }
            key.extend_from_slice(name);
            if key.len() > PATH_LEN_MAX {
                return Err(PathError::TooLong(key.len()));
            }
        }
        Ok(Self(key))
    }

    /// The stored form.
    #[must_use]
    pub fn as_key(&self) -> &[u8] {
        &self.0
    }

    /// The form with slashes, without a leading one; empty for the root.
    #[must_use]
    pub fn to_slashed(&self) -> Vec<u8> {
        self.0.iter().map(|b| if *b == 0 { b'/' } else { *b }).collect()
    }

    /// Whether this is the root.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The components from the root down.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|b| *b == 0).filter(|c| !c.is_empty())
    }

    /// The last component; none for the root.
    #[must_use]
    pub fn name(&self) -> Option<&[u8]> {
        self.components().next_back()
    }

    /// The directory that holds this entry; none for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        let end = self.0.iter().rposition(|b| *b == 0).unwrap_or(0);
        Some(Self(self.0[..end].to_vec()))
    }

    /// This path as seen from `base`: what is left of it below there, the root for `base` itself.
    /// None if it does not lie there.
    #[must_use]
    pub fn below(&self, base: &Self) -> Option<Self> {
        if base.is_root() {
            return Some(self.clone());
        }
        let rest = base.contains(self).then(|| &self.0[base.0.len()..])?;
        Some(Self(rest.get(1..).unwrap_or_default().to_vec()))
    }

    /// The path that [`EntryPath::below`] this one is `rest`.
    ///
    /// Errors: [`PathError::TooLong`].
    pub fn join(&self, rest: &Self) -> Result<Self, PathError> {
        let key = match (self.is_root(), rest.is_root()) {
            (true, _) => rest.0.clone(),
            (_, true) => self.0.clone(),
            _ => [&self.0[..], &[0], &rest.0].concat(),
        };
        if key.len() > PATH_LEN_MAX { Err(PathError::TooLong(key.len())) } else { Ok(Self(key)) }
    }

    /// The directory on the way to this path whose key has so many bytes; the root for 0.
    pub(crate) fn ancestor(&self, key_len: usize) -> Self {
        debug_assert!(key_len == 0 || matches!(self.0.get(key_len), None | Some(0)));
        Self(self.0[..key_len].to_vec())
    }

    /// Whether `other` is this path or lies below it.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        self.is_root()
            || other.0.starts_with(&self.0) && matches!(other.0.get(self.0.len()), None | Some(0))
    }
}

impl fmt::Debug for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EntryPath({self})")
    }
}

impl fmt::Display for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escape(&self.to_slashed()))
    }
}

/// Shows bytes of unknown origin on a terminal: what is not printable UTF-8 becomes `\xNN`, and
/// control and text-direction characters become `\u{...}`, so that no name can steer a terminal.
#[must_use]
pub fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for piece in bytes.utf8_chunks() {
        for c in piece.valid().chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                c if c.is_control() || is_invisible(c) => text.extend(c.escape_default()),
                c => text.push(c),
            }
        }
        for byte in piece.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

/// Characters that print as nothing but change how others are shown.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{061c}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

fn check_name(name: &[u8]) -> Result<(), PathError> {
    let bad = name.is_empty()
        || name == b"."
        || name == b".."
        || name.len() > NAME_LEN_MAX
        || name.iter().any(|b| *b == 0 || *b == b'/');
    if bad { Err(PathError::Name(name.to_vec())) } else { Ok(()) }
}

/// What kind of thing an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File {
        /// Length of its content in bytes.
        size: u64,
        /// Whether it held fewer blocks than its size: a restore then makes holes of zero runs.
        sparse: bool,
    },
    /// A directory.
    Directory,
    /// A symbolic link; the target is never interpreted.
    Symlink {
        /// The target's bytes.
        target: Vec<u8>,
    },
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

/// An extended attribute; POSIX ACLs and file capabilities are such.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Xattr {
    /// Full name with its namespace, such as `user.comment`.
    pub name: Vec<u8>,
    /// Binary value.
    pub value: Vec<u8>,
}

/// One thing that is backed up, without its path and without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// Permission, set-id and sticky bits: `mode & 0o7777`.
    pub mode: u32,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Time of last modification.
    pub mtime: Time,
    /// Extended attributes, sorted by name.
    pub xattrs: Vec<Xattr>,
    /// Set on every member of a hard-link group but the first in walk order: the path of that first
    /// member, which holds the content.
    pub link: Option<EntryPath>,
}

impl Entry {
    /// Whether it is a directory.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        matches!(self.kind, Kind::Directory)
    }

    /// Size of the content this entry itself holds, in bytes: 0 for all but regular files, and for
    /// further names of a file.
    #[must_use]
    pub fn content_len(&self) -> u64 {
        match self.kind {
            Kind::File { size, .. } if self.link.is_none() => size,
            _ => 0,
        }
    }
}

/// What tells cheaply whether a file changed since it was read; never part of what is restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hint {
    /// Inode number.
    pub inode: u64,
    /// Time of last status change.
    pub ctime: Time,
}

/// A run of a file's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// So many zero bytes.
    Zeros(u64),
    /// A stored chunk of so many bytes.
    Chunk(ChunkId, u32),
}

impl Extent {
    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        match self {
            Self::Zeros(len) => *len,
            Self::Chunk(_, len) => u64::from(*len),
        }
    }

    /// Whether it covers nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_sorts_right_before_what_it_holds() {
        let key = |p: &str| EntryPath::from_slashed(p.as_bytes()).expect("a path");
        let mut paths = [key("a-b"), key("a/b"), key("a"), key("a/b/c"), key("a.c"), key("")];
        paths.sort();
        let shown: Vec<_> = paths.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["", "a", "a/b", "a/b/c", "a-b", "a.c"]);
    }

    #[test]
    fn invalid_components_are_refused() {
        for name in [&b""[..], b".", b"..", b"a/b", b"a\0b", &[b'x'; 256]] {
            assert!(EntryPath::root().child(name).is_err(), "{}", escape(name));
        }
        assert!(EntryPath::from_key(b"a\0\0b").is_err());
        assert!(EntryPath::from_key(b"a\0..").is_err());
        assert!(EntryPath::from_slashed(b"a/../b").is_err());
    }

    #[test]
    fn contains_respects_component_borders() {
        let key = |p: &str| EntryPath::from_slashed(p.as_bytes()).expect("a path");
        assert!(key("a").contains(&key("a/b")));
        assert!(key("a").contains(&key("a")));
        assert!(!key("a").contains(&key("ab")));
        assert!(key("").contains(&key("ab")));
    }

    #[test]
    fn a_path_below_another_joins_back() {
        let key = |p: &str| EntryPath::from_slashed(p.as_bytes()).expect("a path");
        for (base, path, rest) in [
            ("", "a/b", Some("a/b")),
            ("a", "a/b/c", Some("b/c")),
            ("a/b", "a/b", Some("")),
            ("a", "ab", None),
            ("a/b", "a", None),
        ] {
            let below = key(path).below(&key(base));
            assert_eq!(below, rest.map(key), "{path} below {base}");
            if let Some(below) = below {
                assert_eq!(key(base).join(&below), Ok(key(path)));
            }
        }
    }

    #[test]
    fn no_name_can_steer_a_terminal() {
        assert_eq!(escape(b"a\x1b[2J\n\xff"), "a\\u{1b}[2J\\n\\xff");
        assert_eq!(escape("\u{202e}x".as_bytes()), "\\u{202e}x");
        assert_eq!(escape("grün".as_bytes()), "grün");
    }
}
