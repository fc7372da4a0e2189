//! A store in a directory of this machine.
//!
//! Floor 3. A put returns once the object's bytes, its name and every new folder above it are on
//! the disk; a crash before that leaves either the whole object or nothing that a listing shows.
//! Everything goes through descriptors below the root, and no symlink below it is followed.

mod folder;
mod handle;
mod read;
mod whole;

#[cfg(test)]
mod disturbed;
#[cfg(test)]
mod tests;

use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use self::folder::Known;
use self::handle::Handles;
use self::whole::{Failure, Named};
use crate::crypto::Payload;
use crate::store::{Listed, ObjectName, Store, StoreError};

/// A directory that holds objects as files of the same names.
#[derive(Debug)]
pub struct LocalStore {
    path: PathBuf,
    root: OwnedFd,
    /// Folders whose entry in the one above is on the disk.
    durable: Known,
    /// Folders cleared of stale temporary files.
    swept: Known,
    handles: Handles,
    /// Whether files without a name work here, as far as is known.
    unnamed: AtomicBool,
}

impl LocalStore {
    /// Opens the store in a directory.
    ///
    /// Errors: `Absent` where nothing is at `path`, `Location` where something else is.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let root = open_root(path).map_err(|errno| match errno {
            Errno::NOENT => StoreError::Absent(shown(path)),
            _ => root_error(path, "open", errno),
        })?;
        Ok(Self {
            path: path.to_owned(),
            root,
            durable: Known::default(),
            swept: Known::default(),
            handles: Handles::default(),
            unnamed: AtomicBool::new(true),
        })
    }

    /// Opens the store in a directory, after making it (0700) and what is above it where missing.
    ///
    /// Whether the directory is empty is not looked at.
    /// Errors: `Location` where something else is at `path`.
    pub fn create(path: &Path) -> Result<Self, StoreError> {
        make_root(path).map_err(|errno| root_error(path, "make", errno))?;
        Self::open(path)
    }

    fn error(&self, action: &str, name: &str, errno: Errno) -> StoreError {
        let (action, location) = (format!("{action} `{name}`"), self.location());
        match errno {
            Errno::ACCESS | Errno::PERM | Errno::ROFS => {
                StoreError::Denied { action, location, source: errno.into() }
            }
            _ => StoreError::Io { action, location, source: errno.into() },
        }
    }

    fn read_error(&self, name: &ObjectName, errno: Errno) -> StoreError {
        match errno {
            Errno::NOENT => StoreError::NotFound(name.clone()),
            _ => self.error("read", name.as_str(), errno),
        }
    }

    /// Does something that opens files, again without the kept ones if there are too many.
    fn roomy<T>(&self, open: impl Fn() -> Result<T, Errno>) -> Result<T, Errno> {
        match open() {
            Err(errno) if crowded(errno) => {
                self.handles.drop_all();
                open()
            }
            other => other,
        }
    }

    fn open_object(&self, name: &ObjectName) -> Result<OwnedFd, Errno> {
        let (above, base) = folder::split(name.as_str());
        self.roomy(|| match above {
            "" => read::open(&self.root, base),
            _ => read::open(folder::open(&self.root, above, folder::PASS)?, base),
        })
    }

    /// Puts once, from a fresh folder descriptor on. `Taken` means that other bytes are there.
    fn put_once(&self, name: &ObjectName, payload: &Payload) -> Result<Named, Trouble> {
        let (above, base) = folder::split(name.as_str());
        let dir = folder::make(&self.root, above, &self.durable)?;
        if self.write(&dir, name, payload)? == Named::Taken {
            match read::open(&dir, base) {
                Ok(file) if read::equals(&file, payload)? => {
                    rustix::fs::fdatasync(&file).map_err(Trouble::Doubtful)?;
                }
                Ok(_) | Err(Errno::NOENT) => return Ok(Named::Taken),
                Err(errno) => return Err(errno.into()),
            }
        }
        folder::sync(&dir).map_err(Trouble::Doubtful)?;
        Ok(Named::New)
    }

    fn write(&self, dir: &OwnedFd, name: &ObjectName, payload: &Payload) -> Result<Named, Failure> {
        let (above, base) = folder::split(name.as_str());
        if self.unnamed.load(Ordering::Relaxed) {
            if let Some(named) = whole::unnamed(dir, base, payload)? {
                return Ok(named);
            }
            self.unnamed.store(false, Ordering::Relaxed);
        }
        if self.swept.learn(above) {
            whole::sweep(dir)?;
        }
        whole::renamed(dir, base, payload)
    }

    /// Puts an object anew whose name stands, with the right bytes, but may not be durable.
    ///
    /// It is renamed over the first one and not put after deleting that: somebody who put the
    /// same bytes at the same time may already rely on the name.
    fn put_over(&self, name: &ObjectName, payload: &Payload) -> Result<Named, Trouble> {
        let (above, base) = folder::split(name.as_str());
        let dir = folder::open(&self.root, above, folder::READ)?;
        whole::replaced(&dir, base, payload)?;
        folder::sync(&dir).map_err(Trouble::Doubtful)?;
        Ok(Named::New)
    }

    /// Lists one folder into `objects` and the folders in it into `folders`.
    fn list_one(
        &self,
        above: &str,
        objects: &mut Vec<Listed>,
        folders: &mut Vec<String>,
    ) -> Result<(), Errno> {
        let dir = self.roomy(|| folder::open(&self.root, above, folder::READ))?;
        let mut entries = rustix::fs::Dir::new(dir)?;
        while let Some(entry) = entries.read() {
            let entry = entry?;
            let Some(name) = joined(above, entry.file_name().to_bytes()) else { continue };
            let mut kind = entry.file_type();
            if kind == FileType::Directory {
                folders.push(name.as_str().to_owned());
                continue;
            }
            if !matches!(kind, FileType::RegularFile | FileType::Unknown) {
                continue;
            }
            let dir = entries.fd()?;
            let stat = rustix::fs::statat(dir, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW);
            let stat = match stat {
                Err(Errno::NOENT) => continue,
                other => other?,
            };
            kind = FileType::from_raw_mode(stat.st_mode);
            if kind == FileType::Directory {
                folders.push(name.as_str().to_owned());
            } else if kind == FileType::RegularFile {
                let size = u64::try_from(stat.st_size).unwrap_or(0);
                objects.push(Listed { name, size, modified: whole::modified(&stat) });
            }
        }
        Ok(())
    }
}

impl Store for LocalStore {
    fn location(&self) -> String {
        shown(&self.path)
    }

    fn put(&self, name: &ObjectName, payload: &Payload) -> Result<(), StoreError> {
        let put = match self.put_once(name, payload) {
            Err(Trouble::Lost(errno)) if !full(errno) => self.put_once(name, payload),
            Err(Trouble::Doubtful(errno)) if !full(errno) => self.put_over(name, payload),
            Err(Trouble::System(errno)) if crowded(errno) => {
                self.handles.drop_all();
                self.put_once(name, payload)
            }
            other => other,
        };
        let errno = match put {
            Ok(Named::New) => return Ok(()),
            Ok(Named::Taken) => {
                return Err(self.error("put other bytes under", name.as_str(), Errno::EXIST));
            }
            Err(Trouble::System(errno) | Trouble::Lost(errno) | Trouble::Doubtful(errno)) => errno,
        };
        Err(match full(errno) {
            true => StoreError::NoSpace { name: name.clone(), location: self.location() },
            false => self.error("write", name.as_str(), errno),
        })
    }

    fn get(&self, name: &ObjectName, size_max: u64) -> Result<Vec<u8>, StoreError> {
        let failed = |errno| self.read_error(name, errno);
        let file = self.open_object(name).map_err(failed)?;
        let actual = read::size(&file).map_err(failed)?;
        if actual > size_max {
            return Err(StoreError::too_large(name, actual, size_max));
        }
        read::whole(&file, actual).map_err(failed)
    }

    fn get_range(
        &self,
        name: &ObjectName,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<(), StoreError> {
        let failed = |errno| self.read_error(name, errno);
        let file = match self.handles.get(name) {
            Some(file) => file,
            None => {
                let file = Arc::new(self.open_object(name).map_err(failed)?);
                self.handles.keep(name, &file);
                file
            }
        };
        if read::range(&file, offset, buffer).map_err(failed)? {
            return Ok(());
        }
        let actual = read::size(&file).map_err(failed)?;
        Err(StoreError::too_short(name, actual, offset, buffer.len()))
    }

    fn list(&self, folder: &str) -> Result<Vec<Listed>, StoreError> {
        if !folder.is_empty() && ObjectName::parse(folder).is_none() {
            return Ok(Vec::new());
        }
        let failed = |folder: &str, errno| self.error("list", folder, errno);
        let (mut objects, mut folders) = (Vec::new(), vec![folder.to_owned()]);
        while let Some(next) = folders.pop() {
            match self.list_one(&next, &mut objects, &mut folders) {
                // A folder that is missing holds nothing, but only while the store is there.
                Err(Errno::NOENT) => {
                    let root = rustix::fs::fstat(&self.root).map_err(|e| failed(&next, e))?;
                    if root.st_nlink == 0 {
                        return Err(failed(&next, Errno::NOENT));
                    }
                }
                Err(errno) => return Err(failed(&next, errno)),
                Ok(()) => {}
            }
        }
        objects.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(objects)
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.handles.drop_one(name);
        let (above, base) = folder::split(name.as_str());
        let removed =
            self.roomy(|| folder::open(&self.root, above, folder::READ)).and_then(|dir| {
                rustix::fs::unlinkat(&dir, base, AtFlags::empty())?;
                folder::sync(&dir)
            });
        match removed {
            // A directory of that name is no object.
            Ok(()) | Err(Errno::NOENT | Errno::ISDIR) => Ok(()),
            Err(errno) => Err(self.error("delete", name.as_str(), errno)),
        }
    }
}

/// Why a put failed, by what may be tried next.
enum Trouble {
    /// Nothing.
    System(Errno),
    /// The same once more: the file could not be synced and is gone.
    Lost(Errno),
    /// A new file in place of the first: the name stands but may not be durable.
    Doubtful(Errno),
}

impl From<Errno> for Trouble {
    fn from(errno: Errno) -> Self {
        Self::System(errno)
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::System(errno) => Self::System(errno),
            Failure::Sync(errno) => Self::Lost(errno),
        }
    }
}

/// Whether the process or the machine has too many files open.
fn crowded(errno: Errno) -> bool {
    matches!(errno, Errno::MFILE | Errno::NFILE)
}

fn full(errno: Errno) -> bool {
    matches!(errno, Errno::NOSPC | Errno::DQUOT)
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// The name of what stands under `base` in a folder, if an object or a folder may be called so.
fn joined(folder: &str, base: &[u8]) -> Option<ObjectName> {
    let base = str::from_utf8(base).ok()?;
    match folder {
        "" => ObjectName::parse(base),
        _ => ObjectName::parse(&format!("{folder}/{base}")),
    }
}

fn open_root(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, path, flags, Mode::empty())
}

fn root_error(path: &Path, action: &str, errno: Errno) -> StoreError {
    let location = shown(path);
    match errno {
        Errno::NOTDIR | Errno::EXIST => {
            StoreError::Location(format!("`{location}` is not a directory"))
        }
        Errno::ACCESS | Errno::PERM | Errno::ROFS => {
            let action = format!("{action} the directory");
            StoreError::Denied { action, location, source: errno.into() }
        }
        _ => {
            let action = format!("{action} the directory");
            StoreError::Io { action, location, source: errno.into() }
        }
    }
}

/// Makes a directory and all above it, each durable before the next is made.
fn make_root(path: &Path) -> Result<(), Errno> {
    let step = |here: &OwnedFd, next: &OsStr, access| {
        let flags = access | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(here, next, flags, Mode::empty())
    };
    let start = if path.is_absolute() { "/" } else { "." };
    let flags = folder::PASS | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut here = rustix::fs::openat(CWD, start, flags, Mode::empty())?;
    for component in path.components() {
        let next = match component {
            Component::Normal(next) => next,
            Component::ParentDir => OsStr::new(".."),
            Component::Prefix(_) | Component::RootDir | Component::CurDir => continue,
        };
        here = match step(&here, next, folder::PASS) {
            Err(Errno::NOENT) => {
                match rustix::fs::mkdirat(&here, next, Mode::RWXU) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(errno),
                }
                folder::sync(&step(&here, OsStr::new("."), folder::READ)?)?;
                step(&here, next, folder::PASS)?
            }
            other => other?,
        };
    }
    Ok(())
}
