//! From what people write to a store: the one list of kinds of places.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::store::{LocalStore, Store, StoreError};

/// Where a store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A directory of this machine, as an absolute path.
    Local(PathBuf),
}

/// Places that only later versions store at. Without the slashes they are refused too, as other
/// tools write them so, and a local directory called `s3:bucket` is not what anybody means.
const LATER: [&str; 8] = ["s3", "az", "azure", "gs", "sftp", "http", "https", "ssh"];

impl Location {
    /// Reads a path or a `file://` URL; a relative path starts at `cwd`, which is absolute.
    ///
    /// Errors: `Location`, for schemes of places that this version cannot store at in particular.
    pub fn parse(text: &str, cwd: &Path) -> Result<Self, StoreError> {
        if text.is_empty() || text.contains('\0') {
            return Err(StoreError::Location("an empty path is no place for a store".to_owned()));
        }
        if let Some(rest) = text.strip_prefix("file://") {
            return Ok(Self::Local(lexical(&file_path(text, rest)?, cwd)));
        }
        if let Some((scheme, rest)) = text.split_once(':') {
            let lower = scheme.to_ascii_lowercase();
            if LATER.contains(&lower.as_str()) {
                let message = format!(
                    "this version stores on local disks only and cannot use a place of scheme \
                     `{lower}:`"
                );
                return Err(StoreError::Location(message));
            }
            let letters = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
            if rest.starts_with("//") && !scheme.is_empty() && scheme.chars().all(letters) {
                let message = format!("no store is known for the scheme `{scheme}://`");
                return Err(StoreError::Location(message));
            }
        }
        Ok(Self::Local(lexical(Path::new(text), cwd)))
    }
}

impl std::fmt::Display for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Local(path) => path.display().fmt(f),
        }
    }
}

/// Opens the store at a location.
///
/// Errors: `Absent` where there is nothing, `Location` where there is no directory.
pub fn open(location: &Location) -> Result<Arc<dyn Store>, StoreError> {
    match location {
        Location::Local(path) => Ok(Arc::new(LocalStore::open(path)?)),
    }
}

/// Opens the store at a location after making the place where it is missing.
///
/// Errors: `Location` where there is something else.
pub fn create(location: &Location) -> Result<Arc<dyn Store>, StoreError> {
    match location {
        Location::Local(path) => Ok(Arc::new(LocalStore::create(path)?)),
    }
}

/// Joins paths without asking the file system. `..` stays: what it means depends on symlinks.
fn lexical(path: &Path, cwd: &Path) -> PathBuf {
    cwd.join(path).components().collect()
}

/// The path of a `file://` URL, `rest` being what follows the slashes.
fn file_path(url: &str, rest: &str) -> Result<PathBuf, StoreError> {
    let path = rest.strip_prefix("localhost").unwrap_or(rest);
    if !path.starts_with('/') {
        let message = format!("`{url}` is no `file:///path` of this machine");
        return Err(StoreError::Location(message));
    }
    let bad = || StoreError::Location(format!("`{url}` has a `%` without two hex digits"));
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || (rest.next()? as char).to_digit(16).and_then(|d| u8::try_from(d).ok());
        let (high, low) = (digit().ok_or_else(bad)?, digit().ok_or_else(bad)?);
        bytes.push(high << 4 | low);
    }
    match String::from_utf8(bytes) {
        Ok(path) if !path.contains('\0') => Ok(PathBuf::from(path)),
        _ => Err(StoreError::Location(format!("`{url}` holds bytes that are no text"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<PathBuf, String> {
        match Location::parse(text, Path::new("/home/me")) {
            Ok(Location::Local(path)) => Ok(path),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn paths_become_absolute_and_keep_what_symlinks_could_change() {
        for (text, path) in [
            ("/srv/backup", "/srv/backup"),
            ("/srv//backup/./x/", "/srv/backup/x"),
            ("backup", "/home/me/backup"),
            ("./s3:odd", "/home/me/s3:odd"),
            ("../backup", "/home/me/../backup"),
            ("host:backup", "/home/me/host:backup"),
            ("file:///srv/my%20backup", "/srv/my backup"),
            ("file://localhost/srv", "/srv"),
        ] {
            assert_eq!(parse(text), Ok(PathBuf::from(path)), "{text}");
        }
    }

    #[test]
    fn places_of_later_versions_are_refused_by_their_scheme() {
        for (text, scheme) in [
            ("s3://bucket/prefix", "s3:"),
            ("s3:bucket", "s3:"),
            ("az://container", "az:"),
            ("gs://bucket", "gs:"),
            ("sftp://host/path", "sftp:"),
            ("HTTPS://host/path", "https:"),
            ("http://user:secret@host/path", "http:"),
        ] {
            let error = parse(text).expect_err("is no local place");
            assert!(error.contains("local disks only"), "{error}");
            assert!(error.contains(&format!("`{scheme}`")), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn what_is_no_location_is_refused() {
        for text in ["", "a\0b", "ftp://host/x", "memory://", "file://host/x", "file://rel"] {
            assert!(parse(text).is_err(), "{text}");
        }
        for text in ["file:///a%2", "file:///a%zz", "file:///a%", "file:///%ff", "file:///a%00b"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn opening_needs_a_directory_and_creating_makes_it() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let place = Location::Local(dir.path().join("a/b"));
        assert!(matches!(open(&place), Err(StoreError::Absent(_))));
        let _ = create(&place).expect("is made");
        let store = open(&place).expect("is there");
        assert_eq!(store.location(), place.to_string());

        let file = dir.path().join("file");
        std::fs::write(&file, "x").expect("writes");
        for place in [Location::Local(file.clone()), Location::Local(file.join("below"))] {
            assert!(matches!(create(&place), Err(StoreError::Location(_))), "{place}");
            assert!(matches!(open(&place), Err(StoreError::Location(_))), "{place}");
        }
    }
}
