//! Reads a long file in order, with the next frames already under way.
//!
//! Neighbouring chunks of one frame are read together. Threads open frames while earlier ones are
//! handed on; memory is bounded by the pieces ahead, a frame each at most.

use std::collections::VecDeque;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::RestoreRun;
use super::tar::Piece;
use crate::entry::Extent;
use crate::event::Counters;
use crate::format::{Content, OpenedFrame, PackKind};
use crate::id::ChunkId;
use crate::ops::error::OpsError;
use crate::repo::{ChunkReader, ContentWalk, Place, RepoError};

/// More threads than this gain nothing for one stream.
const THREADS_MAX: usize = 4;

/// Parts that are read before they are wanted.
const AHEAD_MAX: usize = 2 * THREADS_MAX;

/// A part ends at this size in bytes, if its frame does not end before.
const PART_LEN_MAX: u64 = 4 << 20;

/// Chunks of one frame that follow each other in the file.
#[derive(Default)]
struct Part {
    chunks: Vec<(ChunkId, Place)>,
    len: u64,
}

struct Job {
    part: Part,
    done: Sender<Result<Vec<u8>, RepoError>>,
}

/// What comes next in the file.
enum Step {
    Zeros(u64),
    Bytes(Receiver<Result<Vec<u8>, RepoError>>),
}

/// Hands the content of a file on, in order.
pub(super) fn read_ahead(
    run: &RestoreRun<'_>,
    content: &Content,
    write: &mut dyn FnMut(Piece<'_>) -> Result<(), OpsError>,
) -> Result<(), OpsError> {
    let threads = std::thread::available_parallelism().map_or(2, usize::from).min(THREADS_MAX);
    let (jobs, jobs_in) = bounded::<Job>(AHEAD_MAX);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let jobs_in = jobs_in.clone();
            let work = move || {
                let mut frame = OpenedFrame::default();
                for job in jobs_in {
                    // Nobody may be waiting any more.
                    let _ = job.done.send(read_part(run.reader, &job.part, &mut frame));
                }
            };
            let _ = scope.spawn(work);
        }
        // Threads end once this is dropped, however that comes about.
        Stream { run, jobs, ahead: VecDeque::new(), part: Part::default(), write }.run(content)
    })
}

struct Stream<'a> {
    run: &'a RestoreRun<'a>,
    jobs: Sender<Job>,
    ahead: VecDeque<Step>,
    part: Part,
    write: &'a mut dyn FnMut(Piece<'_>) -> Result<(), OpsError>,
}

impl Stream<'_> {
    fn run(mut self, content: &Content) -> Result<(), OpsError> {
        let mut extents = ContentWalk::new(self.run.reader, content);
        while let Some(extent) = extents.next()? {
            self.run.interrupt.check()?;
            match extent {
                Extent::Chunk(id, len) => self.add(id, self.run.place_of(&id, len)?)?,
                Extent::Zeros(len) => {
                    self.end_part()?;
                    self.push(Step::Zeros(len))?;
                }
            }
        }
        self.end_part()?;
        while let Some(step) = self.ahead.pop_front() {
            self.hand_on(step)?;
        }
        Ok(())
    }

    fn add(&mut self, id: ChunkId, place: Place) -> Result<(), OpsError> {
        let frame = |place: &Place| (place.pack, place.frame_offset);
        let ends = self.part.chunks.last().is_some_and(|(_, last)| frame(last) != frame(&place));
        if ends || self.part.len + u64::from(place.len) > PART_LEN_MAX {
            self.end_part()?;
        }
        self.part.len += u64::from(place.len);
        self.part.chunks.push((id, place));
        Ok(())
    }

    fn end_part(&mut self) -> Result<(), OpsError> {
        if self.part.chunks.is_empty() {
            return Ok(());
        }
        let part = std::mem::take(&mut self.part);
        let (done, done_in) = bounded(1);
        self.jobs.send(Job { part, done }).map_err(|_| RepoError::Worker)?;
        self.push(Step::Bytes(done_in))
    }

    fn push(&mut self, step: Step) -> Result<(), OpsError> {
        self.ahead.push_back(step);
        match self.ahead.len() {
            ..AHEAD_MAX => Ok(()),
            _ => self.ahead.pop_front().map_or(Ok(()), |step| self.hand_on(step)),
        }
    }

    fn hand_on(&mut self, step: Step) -> Result<(), OpsError> {
        self.run.interrupt.check()?;
        let bytes = match step {
            Step::Zeros(len) => {
                Counters::add(&self.run.observer.counters().bytes, len);
                return (self.write)(Piece::Zeros(len));
            }
            Step::Bytes(done) => done.recv().map_err(|_| RepoError::Worker)??,
        };
        Counters::add(&self.run.observer.counters().bytes, bytes.len() as u64);
        (self.write)(Piece::Bytes(&bytes))
    }
}

fn read_part(
    reader: &ChunkReader,
    part: &Part,
    frame: &mut OpenedFrame,
) -> Result<Vec<u8>, RepoError> {
    let opened = match part.chunks.first() {
        Some((_, place)) => reader.open_frame(place, frame).is_ok(),
        None => false,
    };
    let mut bytes = Vec::with_capacity(usize::try_from(part.len).unwrap_or(0));
    for (id, place) in &part.chunks {
        let checked = reader
            .cut(frame.content(), place, id)
            .and_then(|chunk| reader.check(PackKind::Data, id, place, chunk).map(|()| chunk));
        match checked {
            Ok(chunk) if opened => bytes.extend_from_slice(chunk),
            // Any other copy will do.
            _ => bytes.extend(reader.read(PackKind::Data, id)?),
        }
    }
    Ok(bytes)
}
