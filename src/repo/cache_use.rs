//! What the cache directory holds of each repository, and how it is emptied.
//!
//! Only files that this program makes are counted and removed: whoever names the wrong directory
//! loses nothing of theirs.

use std::collections::BTreeMap;
use std::fs::DirEntry;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::cache_files::is_temporary;
use super::error::RepoError;
use super::inventory::FOLDER_PREFIX;
use crate::id::RepositoryId;

/// What is kept of one repository, in bytes on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheUse {
    /// Tables of the index.
    pub index: u64,
    /// What snapshots, tombstones, condemn records and configurations say.
    pub records: u64,
    /// Parts of tree packs.
    pub trees: u64,
    /// Secrets of runs, and what killed runs have left.
    pub other: u64,
}

impl CacheUse {
    /// All of it.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.index + self.records + self.trees + self.other
    }
}

/// What a cache directory holds, by repository. One that is not there holds nothing.
///
/// Errors: [`RepoError::Local`].
pub fn cache_use(cache: &Path) -> Result<BTreeMap<RepositoryId, CacheUse>, RepoError> {
    let mut all = BTreeMap::new();
    for (id, folder) in repositories(cache)? {
        let mut used = CacheUse::default();
        for entry in ours(&folder)? {
            let bytes = size(&entry.path()).map_err(RepoError::local("look at", &entry.path()))?;
            let part = match entry.file_name().to_str() {
                Some("index") => &mut used.index,
                Some("records") => &mut used.records,
                Some("trees") => &mut used.trees,
                _ => &mut used.other,
            };
            *part += bytes;
        }
        let _ = all.insert(id, used);
    }
    Ok(all)
}

/// Removes what a cache directory holds of all repositories, also while it is used.
///
/// Errors: [`RepoError::Local`].
pub fn clear_cache(cache: &Path) -> Result<(), RepoError> {
    for (_, folder) in repositories(cache)? {
        for entry in ours(&folder)? {
            let path = entry.path();
            let removed = match entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                true => std::fs::remove_dir_all(&path),
                false => std::fs::remove_file(&path),
            };
            or_gone(removed).map_err(RepoError::local("remove", &path))?;
        }
        // It stays if there is something of somebody else's in it.
        let _ = std::fs::remove_dir(&folder);
    }
    Ok(())
}

fn repositories(cache: &Path) -> Result<Vec<(RepositoryId, PathBuf)>, RepoError> {
    let mut found = Vec::new();
    for entry in entries(cache)? {
        let id = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        found.extend(id.filter(|_| is_dir).map(|id| (id, entry.path())));
    }
    Ok(found)
}

/// What this program makes in the folder of a repository.
fn ours(folder: &Path) -> Result<Vec<DirEntry>, RepoError> {
    let known = ["index", "records", "trees", "run-secrets", "slot"];
    let mut entries = entries(folder)?;
    entries.retain(|entry| {
        let name = entry.file_name();
        let name = name.to_str().unwrap_or_default();
        known.contains(&name) || name.starts_with(FOLDER_PREFIX) || is_temporary(&entry.path())
    });
    Ok(entries)
}

fn entries(dir: &Path) -> Result<Vec<DirEntry>, RepoError> {
    let listed = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed.and_then(Iterator::collect::<io::Result<Vec<_>>>),
    };
    listed.map_err(RepoError::local("list", dir))
}

/// The room that a file takes, or all that a folder holds. What goes meanwhile takes none.
fn size(path: &Path) -> io::Result<u64> {
    let found = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        found => found?,
    };
    let mut bytes = found.blocks() * 512;
    if found.is_dir() {
        bytes = 0;
        for entry in std::fs::read_dir(path)? {
            bytes += size(&entry?.path())?;
        }
    }
    Ok(bytes)
}

fn or_gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ours_is_counted_and_removed_and_nothing_else() {
        let cache = tempfile::tempdir().expect("a directory");
        let id = RepositoryId::new([5; 16]);
        let folder = cache.path().join(id.to_string());
        let write = |path: PathBuf| {
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(path, vec![1; 5000]).expect("written");
        };
        for name in ["index/a.table", "records/b.records", "trees/c", "run-secrets", "slot"] {
            write(folder.join(name));
        }
        for name in ["inventory-1/d.table", "tmp-2"] {
            write(folder.join(name));
        }
        let theirs = [cache.path().join("photos/x"), folder.join("letter"), folder.join("a/b")];
        theirs.iter().cloned().for_each(write);
        let used = cache_use(cache.path()).expect("counted");
        let used = used.get(&id).expect("one repository");
        assert_eq!(used.index, used.records);
        assert!(used.trees >= 5000 && used.other >= 4 * 5000, "{used:?}");
        assert_eq!(used.bytes(), 3 * used.trees + used.other);
        clear_cache(cache.path()).expect("cleared");
        assert!(theirs.iter().all(|path| path.exists()));
        assert_eq!(std::fs::read_dir(&folder).expect("listed").count(), 2);
        for file in &theirs[1..] {
            std::fs::remove_file(file).expect("removed");
        }
        std::fs::remove_dir(folder.join("a")).expect("removed");
        clear_cache(cache.path()).expect("cleared");
        assert!(!folder.exists() && cache_use(cache.path()).expect("counted").is_empty());
        assert!(cache_use(Path::new("/no/such")).expect("nothing").is_empty());
    }
}
