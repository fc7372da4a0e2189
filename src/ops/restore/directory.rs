//! Brings a tree back into a new directory.

use super::selected::SelectedWalk;
use super::window::Window;
use super::{RestoreReport, RestoreRun};
use crate::entry::{Entry, EntryPath, Extent, Kind};
use crate::event::Counters;
use crate::format::{Content, FormatError, Stored};
use crate::ops::error::OpsError;
use crate::repo::{ContentWalk, RepoError};
use crate::sink::{Holes, Sink};

/// Brings the entries of `walk` back into `sink`, which is complete afterwards.
///
/// Errors: [`OpsError`]; the sink's marker then stays, and says so.
pub(crate) fn restore_tree(
    run: &RestoreRun<'_>,
    mut walk: SelectedWalk,
    sink: Box<dyn Sink>,
) -> Result<RestoreReport, OpsError> {
    let mut tree = TreeRestore {
        run,
        window: Window::new(run.reader, &*sink, run.observer, run.interrupt),
        inside: EntryPath::root(),
        open: Vec::new(),
        closed: Vec::new(),
        late: Vec::new(),
        pending_len: 0,
        report: RestoreReport::default(),
        root: None,
    };
    while let Some((path, stored)) = walk.next()? {
        run.interrupt.check()?;
        tree.add(path, stored)?;
    }
    let (report, root) = tree.finish()?;
    run.observer.stage("syncing");
    let root =
        root.ok_or_else(|| RepoError::from(FormatError::damaged("tree", "it has no root")))?;
    sink.complete(&root)?;
    Ok(report)
}

/// Entries kept until a flush, and what their paths and metadata may take together, in bytes.
const PENDING_MAX: usize = 1 << 14;
const PENDING_LEN_MAX: usize = 16 << 20;

/// The state of a restore into a new directory.
struct TreeRestore<'a> {
    run: &'a RestoreRun<'a>,
    window: Window<'a>,
    /// The innermost directory the walk is in.
    inside: EntryPath,
    /// Directories the walk is in, each with how many bytes of `inside` name it: whole paths would
    /// take the square of the depth.
    open: Vec<(usize, Entry)>,
    /// Directories the walk has left since the last flush, deepest first.
    closed: Vec<(EntryPath, Entry)>,
    /// Links, devices and the like, which come after the files of the window.
    late: Vec<(EntryPath, Entry)>,
    /// Bytes of paths and metadata in the window and in the two above.
    pending_len: usize,
    report: RestoreReport,
    root: Option<Entry>,
}

impl TreeRestore<'_> {
    fn add(&mut self, path: EntryPath, stored: Stored) -> Result<(), OpsError> {
        self.leave_directories(Some(&path))?;
        self.report.entries += 1;
        if path.is_root() {
            if !stored.entry.is_directory() {
                let error = FormatError::damaged("tree", "its root is no directory");
                return Err(RepoError::from(error).into());
            }
            self.root = Some(stored.entry);
            return Ok(());
        }
        match &stored.entry.kind {
            Kind::Directory => {
                let made = self.window.sink.make_directory(&path);
                if self.run.settle(&path, made)? {
                    self.open.push((path.as_key().len(), stored.entry));
                    self.inside = path;
                }
            }
            Kind::File { .. } if stored.entry.link.is_none() => {
                self.pending_len += len_of(&path, &stored.entry);
                self.add_file(path, stored)?;
            }
            _ => {
                self.pending_len += len_of(&path, &stored.entry);
                self.late.push((path, stored.entry));
            }
        }
        self.flush_if_full()
    }

    /// Leaves the directories that do not hold `path`; all of them if there is none.
    fn leave_directories(&mut self, path: Option<&EntryPath>) -> Result<(), OpsError> {
        while let Some((len, entry)) = self.open.pop() {
            if path.is_some_and(|path| self.inside.contains(path)) {
                self.open.push((len, entry));
                break;
            }
            let outer = self.open.last().map_or(0, |(len, _)| *len);
            let outer = self.inside.ancestor(outer);
            let left = std::mem::replace(&mut self.inside, outer);
            self.pending_len += len_of(&left, &entry);
            self.closed.push((left, entry));
            self.flush_if_full()?;
        }
        Ok(())
    }

    fn flush_if_full(&mut self) -> Result<(), OpsError> {
        let full = self.window.is_full()
            || self.late.len() + self.closed.len() >= PENDING_MAX
            || self.pending_len >= PENDING_LEN_MAX;
        if full { self.flush() } else { Ok(()) }
    }

    fn add_file(&mut self, path: EntryPath, stored: Stored) -> Result<(), OpsError> {
        let Stored { entry, content } = stored;
        let holes = Holes::of(matches!(entry.kind, Kind::File { sparse: true, .. }));
        self.report.bytes = self.report.bytes.saturating_add(entry.content_len());
        self.window.add_file(path, entry, false);
        let mut extents = ContentWalk::new(self.run.reader, &content);
        let mut offset = 0;
        loop {
            let added = match extents.next() {
                Ok(None) => break,
                Ok(Some(extent)) => {
                    let added = self.add_extent(extent, offset, holes);
                    offset += extent.len();
                    added
                }
                Err(error) => Err(error.into()),
            };
            if let Err(error) = added {
                self.window.lose_last_file(error)?;
                break;
            }
        }
        self.window.end_file()
    }

    fn add_extent(&mut self, extent: Extent, offset: u64, holes: Holes) -> Result<(), OpsError> {
        match extent {
            Extent::Chunk(id, len) => {
                let place = self.run.place_of(&id, len)?;
                self.window.add_chunk(id, place, offset)
            }
            Extent::Zeros(len) => {
                Counters::add(&self.run.observer.counters().bytes, len);
                self.window.write_zeros(offset, len, holes, false)
            }
        }
    }

    /// Brings the window back, then what must come after it.
    fn flush(&mut self) -> Result<(), OpsError> {
        self.window.flush()?;
        self.pending_len = 0;
        for (path, entry) in std::mem::take(&mut self.late) {
            let made = match &entry.link {
                Some(first) => self.window.sink.link(&path, first, &entry.kind),
                None => self.window.sink.make_other(&path, &entry),
            };
            let _ = self.run.settle(&path, made)?;
            Counters::add(&self.run.observer.counters().entries, 1);
        }
        for (path, entry) in std::mem::take(&mut self.closed) {
            let finished = self.window.sink.finish_directory(&path, &entry);
            let _ = self.run.settle(&path, finished)?;
            Counters::add(&self.run.observer.counters().entries, 1);
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(RestoreReport, Option<Entry>), OpsError> {
        self.leave_directories(None)?;
        self.flush()?;
        self.report.damaged = self.window.damaged;
        Ok((self.report, self.root))
    }
}

/// What an entry that waits for a flush takes, in bytes; a hostile tree has long ones.
fn len_of(path: &EntryPath, entry: &Entry) -> usize {
    let target = match &entry.kind {
        Kind::Symlink { target } => target.len(),
        _ => 0,
    };
    let first = entry.link.as_ref().map_or(0, |first| first.as_key().len());
    let xattrs: usize = entry.xattrs.iter().map(|x| x.name.len() + x.value.len()).sum();
    path.as_key().len() + target + first + xattrs
}

impl RestoreRun<'_> {
    /// Whether every chunk of a file can be found; what they hold shows when they are read.
    pub(super) fn resolves(&self, content: &Content) -> Result<(), OpsError> {
        let mut extents = ContentWalk::new(self.reader, content);
        while let Some(extent) = extents.next()? {
            if let Extent::Chunk(id, len) = extent {
                let _ = self.place_of(&id, len)?;
            }
        }
        Ok(())
    }

    /// Where a chunk lies, checked against the length that its file says it has.
    pub(in crate::ops) fn place_of(
        &self,
        id: &crate::id::ChunkId,
        len: u32,
    ) -> Result<crate::repo::Place, OpsError> {
        let index = self.reader.index();
        if let Some(place) = index.find(id)?.filter(|place| place.len == len) {
            return Ok(place);
        }
        let places = index.find_all(id)?;
        let why = match places.iter().find(|place| place.len == len) {
            Some(place) => return Ok(*place),
            None if places.is_empty() => "is in no pack that the index knows and the store lists",
            None => "has another length than its file says",
        };
        Err(RepoError::Chunk { id: *id, why: why.to_owned() }.into())
    }
}
