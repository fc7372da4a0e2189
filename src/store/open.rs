//! From what people write to a store: the one list of kinds of places.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::store::{
    Access, LocalStore, Place, RemoteStore, SftpPlace, SftpStore, Store, StoreError,
};

/// Where a store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A directory of this machine, as an absolute path.
    Local(PathBuf),
    /// A store that is reached over HTTP.
    Remote(Place),
    /// A directory of another machine.
    Sftp(SftpPlace),
}

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
            if Place::is_scheme(&lower) {
                return Ok(Self::Remote(Place::parse(text)?));
            }
            // Also without the slashes, as other tools write it: a local directory called
            // `sftp:host` is not what anybody means.
            if lower == "sftp" {
                return Ok(Self::Sftp(SftpPlace::parse(text)?));
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
            Self::Remote(place) => place.fmt(f),
            Self::Sftp(place) => place.fmt(f),
        }
    }
}

/// Opens the store at a location that needs no credentials or finds them by itself.
///
/// Errors: as [`open_with`].
pub fn open(location: &Location) -> Result<Arc<dyn Store>, StoreError> {
    open_with(location, &Access::default())
}

/// Opens the store at a location. A store elsewhere is not asked for anything yet.
///
/// Errors: `Absent` where there is nothing, `Location` where there is no directory, or credentials
/// make no sense.
pub fn open_with(location: &Location, access: &Access) -> Result<Arc<dyn Store>, StoreError> {
    match location {
        Location::Local(path) => Ok(Arc::new(LocalStore::open(path)?)),
        Location::Remote(place) => Ok(Arc::new(RemoteStore::open(place, access)?)),
        Location::Sftp(place) => Ok(Arc::new(SftpStore::open(place, access)?)),
    }
}

/// As [`create_with`], for a location that needs no credentials or finds them by itself.
pub fn create(location: &Location) -> Result<Arc<dyn Store>, StoreError> {
    create_with(location, &Access::default())
}

/// Opens the store at a location after making the place where it is missing. Buckets and
/// containers are not made: what they cost and who may read them is for people to decide.
///
/// Errors: `Location` where there is something else.
pub fn create_with(location: &Location, access: &Access) -> Result<Arc<dyn Store>, StoreError> {
    match location {
        Location::Local(path) => Ok(Arc::new(LocalStore::create(path)?)),
        Location::Remote(_) | Location::Sftp(_) => open_with(location, access),
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
            Ok(other) => Err(format!("is remote: {other}")),
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
    fn urls_of_stores_elsewhere_are_read_and_shown_without_secrets() {
        for (text, shown) in [
            ("s3://bucket/prefix/", "s3://bucket/prefix"),
            ("az://container", "az://container"),
            ("gs://bucket/a", "gs://bucket/a"),
            ("HTTPS://me@host/path", "https://host/path"),
            ("sftp://me@host/path", "sftp://me@host/path"),
        ] {
            let location = Location::parse(text, Path::new("/")).expect(text);
            assert_eq!(location.to_string(), shown);
            assert!(!matches!(location, Location::Local(_)));
        }
        for text in ["s3:bucket", "sftp:host", "http://user:secret@host/path"] {
            let error = parse(text).expect_err("is refused");
            assert!(!error.contains("remote") && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn what_is_no_location_is_refused() {
        for text in
            ["", "a\0b", "ftp://host/x", "ssh://host/x", "memory://", "file://host/x", "file://rel"]
        {
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
