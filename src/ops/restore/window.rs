//! Part of a restore: files and the chunks they need, brought back frame by frame.
//!
//! Chunks are sorted by where they lie, so that every frame is read, opened and expanded once and
//! written wherever it is needed. Threads take frames in turn; a file is opened with its first
//! chunk and finished with its last.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::entry::{Entry, EntryPath, Kind};
use crate::event::{Counters, Observer, Warning};
use crate::format::{OpenedFrame, PackKind};
use crate::id::ChunkId;
use crate::ops::error::{Interrupt, OpsError};
use crate::repo::{ChunkReader, Place, RepoError};
use crate::sink::{Holes, Sink, SinkError, SinkFile};

/// What ends a window: chunks, files, or files with several chunks, which stay open for a while.
const CHUNKS_MAX: usize = 1 << 17;
const FILES_MAX: usize = 1 << 14;
const OPEN_FILES_MAX: usize = 400;

/// Zeros of a file that was not sparse are written in pieces of this length.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// A file of the window.
struct FileJob {
    path: EntryPath,
    entry: Entry,
    /// Chunks still to be written, and one more until all of them are known.
    left: AtomicUsize,
    /// Whether it is counted among those that stay open for a while.
    stays_open: bool,
    state: Mutex<FileState>,
}

#[derive(Default)]
struct FileState {
    file: Option<Arc<Box<dyn SinkFile>>>,
    /// It could not be written or its content is damaged; no more is tried.
    failed: bool,
    /// It was there before and is written to, not made.
    reopen: bool,
    /// It was made by this restore, so that half of it may be removed again.
    made: bool,
    /// The repository does not have its content whole.
    damaged: bool,
}

/// A chunk of a file.
struct ChunkJob {
    place: Place,
    file: u32,
    offset: u64,
    id: ChunkId,
}

impl ChunkJob {
    /// Whether another chunk of the same frame comes right behind this one there and in its file.
    fn is_followed_by(&self, next: &Self) -> bool {
        self.file == next.file
            && self.offset + u64::from(self.place.len) == next.offset
            && self.place.offset.saturating_add(self.place.len) == next.place.offset
    }
}

/// Files and chunks that are brought back together.
pub(super) struct Window<'a> {
    pub(super) reader: &'a ChunkReader,
    pub(super) sink: &'a dyn Sink,
    pub(super) observer: &'a Arc<dyn Observer>,
    pub(super) interrupt: &'a Interrupt,
    pub(super) threads: usize,
    files: Vec<FileJob>,
    chunks: Vec<ChunkJob>,
    open_files: usize,
    /// Files whose content is damaged in the repository.
    pub(super) damaged: u64,
}

impl<'a> Window<'a> {
    pub(super) fn new(
        reader: &'a ChunkReader,
        sink: &'a dyn Sink,
        observer: &'a Arc<dyn Observer>,
        interrupt: &'a Interrupt,
    ) -> Self {
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            reader,
            sink,
            observer,
            interrupt,
            threads,
            files: Vec::new(),
            chunks: Vec::new(),
            open_files: 0,
            damaged: 0,
        }
    }

    /// Whether it should be brought back before more is added.
    pub(super) fn is_full(&self) -> bool {
        self.chunks.len() >= CHUNKS_MAX
            || self.files.len() >= FILES_MAX
            || self.open_files >= OPEN_FILES_MAX
    }

    /// Adds a file; `reopen` if it is there already and only chunks that differ follow.
    pub(super) fn add_file(&mut self, path: EntryPath, entry: Entry, reopen: bool) {
        let state = Mutex::new(FileState { reopen, ..FileState::default() });
        let left = AtomicUsize::new(1);
        self.files.push(FileJob { path, entry, left, stays_open: false, state });
    }

    /// Adds a chunk of the file added last; brings the window back if it is full.
    pub(super) fn add_chunk(
        &mut self,
        id: ChunkId,
        place: Place,
        offset: u64,
    ) -> Result<(), OpsError> {
        let Some(last) = self.files.last() else { return Ok(()) };
        if last.left.fetch_add(1, Ordering::Relaxed) == 2 {
            self.count_open();
        }
        let file = u32::try_from(self.files.len() - 1).unwrap_or(u32::MAX);
        self.chunks.push(ChunkJob { place, file, offset, id });
        if self.chunks.len() >= CHUNKS_MAX {
            self.write_chunks()?;
            // The file goes on; all others are complete.
            let last = self.files.pop();
            self.drop_files();
            self.files.extend(last);
            self.open_files = 1;
        }
        Ok(())
    }

    /// The file added last stays open until all of it is written.
    fn count_open(&mut self) {
        if let Some(last) = self.files.last_mut()
            && !std::mem::replace(&mut last.stays_open, true)
        {
            self.open_files += 1;
        }
    }

    /// Writes to the file added last.
    fn with_last_file(
        &mut self,
        write: impl FnOnce(&dyn SinkFile) -> Result<(), SinkError>,
    ) -> Result<(), OpsError> {
        self.count_open();
        let Some(job) = self.files.last() else { return Ok(()) };
        match self.open(job) {
            Ok(Some(file)) => self.settle(job, write(&**file).map_err(OpsError::from)),
            Ok(None) => Ok(()),
            Err(error) => self.settle(job, Err(error)),
        }
    }

    /// Writes zeros to the file added last: holes if it was sparse, unless it is new, and then
    /// there is nothing to do; else bytes.
    pub(super) fn write_zeros(
        &mut self,
        offset: u64,
        len: u64,
        holes: Holes,
        reopened: bool,
    ) -> Result<(), OpsError> {
        match (holes, reopened) {
            (Holes::Make, false) => Ok(()),
            (Holes::Make, true) => self.with_last_file(|file| file.punch(offset, len)),
            (Holes::Fill, _) => self.with_last_file(|file| {
                let mut at = 0;
                while at < len {
                    let step = (len - at).min(ZEROS.len() as u64);
                    let end = usize::try_from(step).unwrap_or(ZEROS.len());
                    file.write_at(offset + at, &ZEROS[..end])?;
                    at += step;
                }
                Ok(())
            }),
        }
    }

    /// The content of the file added last could not be had.
    pub(super) fn lose_last_file(&mut self, error: OpsError) -> Result<(), OpsError> {
        match self.files.last() {
            Some(job) => self.settle(job, Err(error)),
            None => Ok(()),
        }
    }

    /// All chunks of the file added last are known.
    pub(super) fn end_file(&mut self) -> Result<(), OpsError> {
        match self.files.last() {
            Some(job) => self.count_down(job, 1),
            None => Ok(()),
        }
    }

    /// Brings back everything in the window and empties it.
    pub(super) fn flush(&mut self) -> Result<(), OpsError> {
        self.write_chunks()?;
        self.drop_files();
        self.open_files = 0;
        Ok(())
    }

    fn drop_files(&mut self) {
        let damaged = |job: &FileJob| lock(&job.state).damaged;
        self.damaged += self.files.iter().filter(|job| damaged(job)).count() as u64;
        self.files.clear();
    }

    fn write_chunks(&mut self) -> Result<(), OpsError> {
        let mut chunks = std::mem::take(&mut self.chunks);
        chunks.sort_unstable_by_key(|chunk| {
            (chunk.place.pack, chunk.place.frame_offset, chunk.file, chunk.offset)
        });
        let frames: Vec<&[ChunkJob]> = chunks
            .chunk_by(|a, b| {
                (a.place.pack, a.place.frame_offset) == (b.place.pack, b.place.frame_offset)
            })
            .collect();
        let next = AtomicUsize::new(0);
        let work = || -> Result<(), OpsError> {
            let mut opened = OpenedFrame::default();
            while let Some(frame) = frames.get(next.fetch_add(1, Ordering::Relaxed)) {
                self.interrupt.check()?;
                let done = self.write_frame(frame, &mut opened);
                if done.is_err() {
                    // Others stop at their next frame.
                    next.store(frames.len(), Ordering::Relaxed);
                }
                done?;
            }
            Ok(())
        };
        let threads = self.threads.min(frames.len());
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let mut result = work();
            for other in others {
                let done = other.join().unwrap_or(Err(RepoError::Worker.into()));
                result = result.and(done);
            }
            result
        })
    }

    fn write_frame(&self, chunks: &[ChunkJob], frame: &mut OpenedFrame) -> Result<(), OpsError> {
        let Some(first) = chunks.first() else { return Ok(()) };
        let opened = self.reader.open_frame(&first.place, frame);
        for run in chunks.chunk_by(ChunkJob::is_followed_by) {
            let job = &self.files[run[0].file as usize];
            let written = match &opened {
                Ok(()) => self.write_run(job, run, frame.content()),
                Err(_) => self.write_other_copies(job, run),
            };
            self.settle(job, written)?;
            self.count_down(job, run.len())?;
        }
        Ok(())
    }

    /// Writes chunks that follow one another in the frame as in the file, with one call.
    fn write_run(&self, job: &FileJob, run: &[ChunkJob], frame: &[u8]) -> Result<(), OpsError> {
        let mut len = 0;
        for chunk in run {
            let bytes = self.reader.cut(frame, &chunk.place, &chunk.id);
            let checked = bytes.and_then(|bytes| {
                self.reader.check(PackKind::Data, &chunk.id, &chunk.place, bytes)
            });
            if checked.is_err() {
                return self.write_other_copies(job, run);
            }
            len += chunk.place.len as usize;
        }
        let start = run[0].place.offset as usize;
        self.write(job, run[0].offset, &frame[start..start + len])
    }

    fn write_other_copies(&self, job: &FileJob, run: &[ChunkJob]) -> Result<(), OpsError> {
        run.iter().try_for_each(|chunk| self.write_other_copy(job, chunk))
    }

    /// The place that was planned is damaged: any other copy will do.
    fn write_other_copy(&self, job: &FileJob, chunk: &ChunkJob) -> Result<(), OpsError> {
        let bytes = self.reader.read(PackKind::Data, &chunk.id)?;
        // An index can name places of several lengths; the one that was planned is what the file
        // says, and what comes behind it starts there.
        if bytes.len() != chunk.place.len as usize {
            let why = "has another length than its file says".to_owned();
            return Err(RepoError::Chunk { id: chunk.id, why }.into());
        }
        self.write(job, chunk.offset, &bytes)
    }

    fn write(&self, job: &FileJob, offset: u64, bytes: &[u8]) -> Result<(), OpsError> {
        if let Some(file) = self.open(job)? {
            file.write_at(offset, bytes)?;
            let counters = self.observer.counters();
            Counters::add(&counters.bytes, bytes.len() as u64);
            Counters::add(&counters.written, bytes.len() as u64);
        }
        Ok(())
    }

    /// The open file; none if it failed before.
    fn open(&self, job: &FileJob) -> Result<Option<Arc<Box<dyn SinkFile>>>, OpsError> {
        let mut state = lock(&job.state);
        if state.failed {
            return Ok(None);
        }
        if state.file.is_none() {
            let (size, sparse) = match job.entry.kind {
                Kind::File { size, sparse } => (size, sparse),
                _ => (0, false),
            };
            let holes = Holes::of(sparse);
            let file = match state.reopen {
                true => self.sink.open_file(&job.path, holes)?,
                false => self.sink.create_file(&job.path, size, holes)?,
            };
            state.made = !state.reopen;
            state.file = Some(Arc::new(file));
        }
        Ok(state.file.clone())
    }

    /// Decides what a failure means: this file is lost, or the whole restore.
    fn settle(&self, job: &FileJob, result: Result<(), OpsError>) -> Result<(), OpsError> {
        let error = match result {
            Ok(()) => return Ok(()),
            Err(
                error @ (OpsError::Sink(SinkError::Entry { .. })
                | OpsError::Repo(
                    RepoError::Chunk { .. }
                    | RepoError::Frame { .. }
                    | RepoError::Gone { .. }
                    | RepoError::Format(_),
                )),
            ) => error,
            Err(OpsError::Repo(RepoError::Store(error))) if error.is_damage() => {
                RepoError::Store(error).into()
            }
            Err(error) => return Err(error),
        };
        let mut state = lock(&job.state);
        if !state.failed {
            state.failed = true;
            state.damaged = matches!(error, OpsError::Repo(_));
            state.file = None;
            self.observer.warn(Warning::skipped(job.path.to_slashed(), chain(&error)));
        }
        Ok(())
    }

    /// So many things less to do for a file; the last finishes it.
    fn count_down(&self, job: &FileJob, done: usize) -> Result<(), OpsError> {
        if job.left.fetch_sub(done, Ordering::AcqRel) != done {
            return Ok(());
        }
        // A file without content is made only now.
        let opened = self.open(job);
        let (file, failed, made) = {
            let mut state = lock(&job.state);
            (state.file.take(), state.failed, state.made)
        };
        if failed {
            drop(file);
            // What was there before is not ours to remove.
            if !made {
                return Ok(());
            }
            // Half a file is worse than none: nobody would notice.
            return match self.sink.remove(&job.path) {
                Err(error @ SinkError::Target { .. }) => Err(error.into()),
                _ => Ok(()),
            };
        }
        drop(opened.or_else(|error| self.settle(job, Err(error)).map(|()| None))?);
        Counters::add(&self.observer.counters().entries, 1);
        let Some(file) = file.and_then(Arc::into_inner) else { return Ok(()) };
        self.settle(job, file.finish(&job.entry).map_err(OpsError::from))
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
