//! A call to a store, as the wrappers that watch or disturb calls know it.

use std::fmt;

/// Which method was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CallKind {
    /// `put`.
    Put,
    /// `get`.
    Get,
    /// `get_range`.
    GetRange,
    /// `list`.
    List,
    /// `delete`.
    Delete,
}

/// One call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The method.
    pub kind: CallKind,
    /// The object's name, or the folder for `list`.
    pub target: String,
    /// Bytes put, bytes of the range asked for, or bytes that `get` brought; otherwise, and
    /// before a `get` is done, 0.
    pub bytes: u64,
}

impl Call {
    pub(super) fn new(kind: CallKind, target: &str, bytes: u64) -> Self {
        Self { kind, target: target.to_owned(), bytes }
    }
}

impl fmt::Display for Call {
    /// Names the call in an error: "put `packs/0a/…`".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match self.kind {
            CallKind::Put => "put",
            CallKind::Get => "get",
            CallKind::GetRange => "get a range of",
            CallKind::List => "list",
            CallKind::Delete => "delete",
        };
        write!(f, "{verb} `{}`", self.target)
    }
}
