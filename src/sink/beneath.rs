//! Opens paths beneath the root of a target, and nowhere else.
//!
//! Below `directory`. The kernel resolves every path, from a directory descriptor downwards:
//! strings are never compared to decide what is inside. Whatever lies on the way, no symbolic link
//! is followed, no mount is entered, and `..` cannot occur.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::entry::EntryPath;

/// Longest path the kernel takes in one call, in bytes, without its closing NUL.
const PIECE_LEN_MAX: usize = 4095;

/// Chains of open directories; threads share one only where there are more of them than this.
const CHAINS: usize = 16;

/// Directories one chain keeps open: with [`CHAINS`], at most 128 descriptors.
const LINKS_MAX: usize = 8;

const RESOLVE: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

/// Opens a directory to read and change it, and nothing else.
pub(super) const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW);

/// A directory and all that can be reached from it without leaving it.
#[derive(Debug)]
pub(super) struct Beneath {
    root: Arc<OwnedFd>,
    chains: [Mutex<Chain>; CHAINS],
    /// Grows whenever a directory may have gone; chains of an older generation are dropped.
    generation: AtomicU64,
}

/// Directories on the way to the one used last, so that neighbours cost one call each.
#[derive(Debug, Default)]
struct Chain {
    generation: u64,
    /// Key of the directory used last.
    key: Vec<u8>,
    /// Ascending by `len`.
    links: Vec<Link>,
}

/// The open directory whose key is the first `len` bytes of the chain's.
#[derive(Debug)]
struct Link {
    len: usize,
    dir: Arc<OwnedFd>,
}

impl Beneath {
    /// Opens the root. Its own path is the caller's and is resolved as usual.
    pub(super) fn open_root(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self::of_root(rustix::fs::open(path, flags, Mode::empty())?))
    }

    /// Takes a root that is open for reading.
    pub(super) fn of_root(root: OwnedFd) -> Self {
        Self {
            root: Arc::new(root),
            chains: std::array::from_fn(|_| Mutex::default()),
            generation: AtomicU64::new(1),
        }
    }

    /// The root itself, opened for reading.
    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// The directory that holds `path`, opened `O_PATH`, and the name of `path` in it.
    ///
    /// Errors: `InvalidInput` for the root; otherwise what the kernel says: `ELOOP` for a symbolic
    /// link on the way, `EXDEV` for a mount, `ENOTDIR`, `ENOENT`.
    pub(super) fn parent<'a>(&self, path: &'a EntryPath) -> io::Result<(Arc<OwnedFd>, &'a [u8])> {
        let key = path.as_key();
        if key.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the root has no name"));
        }
        match key.iter().rposition(|b| *b == 0) {
            Some(at) => Ok((self.directory(&key[..at])?, &key[at + 1..])),
            None => Ok((Arc::clone(&self.root), key)),
        }
    }

    /// To be called after a directory was removed or replaced: open ones are forgotten.
    pub(super) fn forget(&self) {
        let _ = self.generation.fetch_add(1, Ordering::AcqRel);
    }

    fn directory(&self, key: &[u8]) -> io::Result<Arc<OwnedFd>> {
        let mut chain =
            self.chains[chain_of_thread()].lock().unwrap_or_else(PoisonError::into_inner);
        // Read before anything is opened: a removal meanwhile makes what is opened stale.
        let generation = self.generation.load(Ordering::Acquire);
        if chain.generation != generation {
            *chain = Chain { generation, ..Chain::default() };
        }
        chain.keep_ancestors_of(key);
        let (mut at, mut dir) = match chain.links.last() {
            Some(link) => (link.len, Arc::clone(&link.dir)),
            None => (0, Arc::clone(&self.root)),
        };
        while at < key.len() {
            let start = if at == 0 { 0 } else { at + 1 };
            let end = piece_end(key, start);
            let piece: Vec<u8> =
                key[start..end].iter().map(|b| if *b == 0 { b'/' } else { *b }).collect();
            let flags = OFlags::PATH | OFlags::DIRECTORY;
            dir = Arc::new(open_in(dir.as_fd(), &piece, flags)?);
            at = end;
            chain.push(Link { len: at, dir: Arc::clone(&dir) });
        }
        Ok(dir)
    }
}

impl Chain {
    /// Keeps only the directories that lie on the way to `key`, and makes `key` the chain's.
    fn keep_ancestors_of(&mut self, key: &[u8]) {
        let common = self.key.iter().zip(key).take_while(|(a, b)| a == b).count();
        let on_the_way = |len: usize| len <= common && matches!(key.get(len), None | Some(0));
        while self.links.last().is_some_and(|link| !on_the_way(link.len)) {
            let _ = self.links.pop();
        }
        self.key.truncate(common);
        self.key.extend_from_slice(&key[common..]);
    }

    fn push(&mut self, link: Link) {
        self.links.push(link);
        if self.links.len() > LINKS_MAX {
            // Every second one goes, never the last: what remains lies ever wider apart towards the
            // root, so that coming up from any depth stays cheap with few descriptors.
            let last = self.links.len() - 1;
            let mut index = 0;
            self.links.retain(|_| {
                let keep = index % 2 == last % 2;
                index += 1;
                keep
            });
        }
    }
}

/// Opens `path`, slashed and relative, beneath `dir`; creates only with `O_CREAT` in `flags`, and
/// then with mode 0600.
pub(super) fn open_in(dir: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
    // The kernel refuses a mode where nothing can be created.
    let create = flags.contains(OFlags::CREATE);
    let mode = if create { Mode::RUSR | Mode::WUSR } else { Mode::empty() };
    Ok(rustix::fs::openat2(dir, path, flags | OFlags::CLOEXEC, mode, RESOLVE)?)
}

/// Where the longest piece from `start` ends that the kernel takes in one call.
fn piece_end(key: &[u8], start: usize) -> usize {
    if key.len() - start <= PIECE_LEN_MAX {
        return key.len();
    }
    // A component has at most 255 bytes, so a border is always found.
    let border = key[start..=start + PIECE_LEN_MAX].iter().rposition(|b| *b == 0);
    border.map_or(key.len(), |at| start + at)
}

fn chain_of_thread() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static CHAIN: Cell<usize> = Cell::new(NEXT.fetch_add(1, Ordering::Relaxed) % CHAINS);
    }
    CHAIN.with(Cell::get)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn path(slashed: &str) -> EntryPath {
        EntryPath::from_slashed(slashed.as_bytes()).expect("a path")
    }

    fn error(beneath: &Beneath, slashed: &str) -> Option<i32> {
        beneath.parent(&path(slashed)).err().and_then(|e| e.raw_os_error())
    }

    #[test]
    fn no_link_is_followed_wherever_it_leads() {
        let dir = tempfile::tempdir().expect("a directory");
        let outside = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(dir.path().join("in")).expect("made");
        symlink("in", dir.path().join("inwards")).expect("made");
        symlink(outside.path(), dir.path().join("outwards")).expect("made");
        symlink("/proc/self/root", dir.path().join("magic")).expect("made");
        std::fs::write(dir.path().join("file"), "").expect("made");
        let beneath = Beneath::open_root(dir.path()).expect("open");
        let elooped = Some(rustix::io::Errno::LOOP.raw_os_error());
        assert_eq!(error(&beneath, "in/x"), None);
        for link in ["inwards/x", "outwards/x", "outwards/x/y", "magic/x", "magic/tmp/x"] {
            assert_eq!(error(&beneath, link), elooped, "{link}");
        }
        assert_eq!(error(&beneath, "file/x"), Some(rustix::io::Errno::NOTDIR.raw_os_error()));
    }

    #[test]
    fn a_neighbour_uses_the_same_open_directory() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::create_dir_all(dir.path().join("a/b")).expect("made");
        let beneath = Beneath::open_root(dir.path()).expect("open");
        let x = path("a/b/x");
        let (first, name) = beneath.parent(&x).expect("found");
        assert_eq!(name, b"x");
        let (second, _) = beneath.parent(&path("a/b/y")).expect("found");
        assert!(Arc::ptr_eq(&first, &second));
        let (upper, _) = beneath.parent(&path("a/y")).expect("found");
        assert!(!Arc::ptr_eq(&first, &upper));
        assert_eq!(error(&beneath, "a/bb/x"), Some(rustix::io::Errno::NOENT.raw_os_error()));
    }

    #[test]
    fn a_replaced_directory_is_opened_anew_once_forgotten() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(dir.path().join("a")).expect("made");
        let beneath = Beneath::open_root(dir.path()).expect("open");
        let (old, _) = beneath.parent(&path("a/x")).expect("found");
        std::fs::remove_dir(dir.path().join("a")).expect("removed");
        std::fs::create_dir(dir.path().join("a")).expect("made");
        beneath.forget();
        let (new, _) = beneath.parent(&path("a/x")).expect("found");
        let inode = |fd: &OwnedFd| rustix::fs::fstat(fd).expect("known").st_nlink;
        assert_eq!((inode(&old), inode(&new)), (0, 2));
    }

    #[test]
    fn pieces_end_at_component_borders() {
        let key = [&[b'x'; 255][..]; 40].join(&0);
        let mut at = 0;
        while at < key.len() {
            let start = if at == 0 { 0 } else { at + 1 };
            at = piece_end(&key, start);
            assert!(at - start <= PIECE_LEN_MAX);
            assert!(matches!(key.get(at), None | Some(0)));
        }
        assert_eq!(at, key.len());
    }

    #[test]
    fn a_chain_never_holds_more_than_its_links() {
        let dir = Arc::new(OwnedFd::from(tempfile::tempfile().expect("a file")));
        let mut chain = Chain::default();
        let key = [&b"d"[..]; 1000].join(&0);
        for len in (1..key.len()).step_by(2) {
            chain.keep_ancestors_of(&key[..len]);
            chain.push(Link { len, dir: Arc::clone(&dir) });
            assert!(chain.links.len() <= LINKS_MAX);
            assert_eq!(chain.links.last().map(|l| l.len), Some(len));
        }
        chain.keep_ancestors_of(b"e");
        assert!(chain.links.is_empty());
    }
}
