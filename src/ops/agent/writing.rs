//! The agent's half of a restore: does step by step what the host says.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::link::{LinkError, LinkReader, LinkWriter};
use super::message::{ToAgent, ToHost, WriteTask};
use super::serve::{Teller, chain, send};
use super::step::Step;
use crate::entry::EntryPath;
use crate::event::{Observer, Warning};
use crate::sink::{Directory, DirectoryOptions, Sink, SinkError, SinkFile, Special};

/// Writes `place` as `task` says.
pub(super) fn serve_writing(
    place: &Path,
    task: &WriteTask,
    mut reader: LinkReader,
    writer: &Arc<LinkWriter>,
) -> Result<(), LinkError> {
    let observer: Arc<dyn Observer> = Arc::new(Teller::new(writer));
    let options = DirectoryOptions { special: Special::Restore };
    let begun = match task.existing {
        true => Directory::existing(place, options, &task.marker, observer.clone()),
        false => Directory::create(place, options, &task.marker, observer.clone()),
    };
    let sink = begun.map_err(|error| match error {
        SinkError::Refused(why) => LinkError::Refused(why),
        other => LinkError::Failed(chain(&other)),
    })?;
    send(writer, &ToHost::Answer(Ok(0)))?;
    let mut writing =
        Writing { sink: Some(Box::new(sink)), files: HashMap::new(), writer, observer };
    while let Some((kind, payload)) = reader.receive()? {
        let ToAgent::Steps(steps) = ToAgent::decode(kind, &payload)? else {
            return Err(LinkError::Damaged("no steps".to_owned()));
        };
        for step in steps {
            writing.take(step)?;
        }
        if writing.sink.is_none() {
            return Ok(());
        }
    }
    // Whoever asked is gone; the marker stays.
    Err(LinkError::Io(std::io::ErrorKind::UnexpectedEof.into()))
}

/// A file under way.
struct FileJob {
    path: EntryPath,
    /// None once it could not be written.
    file: Option<Box<dyn SinkFile>>,
    /// Whether it was made here, so that half of it may be removed again.
    made: bool,
}

struct Writing<'a> {
    /// None once it is complete.
    sink: Option<Box<dyn Sink>>,
    files: HashMap<u32, FileJob>,
    writer: &'a LinkWriter,
    observer: Arc<dyn Observer>,
}

impl Writing<'_> {
    fn take(&mut self, step: Step) -> Result<(), LinkError> {
        let gone = || LinkError::Damaged("a step after the last".to_owned());
        if let Step::Complete { root } = step {
            let completed = self.sink.take().ok_or_else(gone)?.complete(&root);
            completed.map_err(|error| LinkError::Failed(chain(&error)))?;
            return self.answer(Ok(0));
        }
        let sink = self.sink.as_deref().ok_or_else(gone)?;
        match step {
            Step::MakeDirectory(path) => self.settle(&path, sink.make_directory(&path)),
            Step::MakeOther { path, entry } => self.settle(&path, sink.make_other(&path, &entry)),
            Step::Link { path, first, entry } => {
                self.settle(&path, sink.link(&path, &first, &entry.kind))
            }
            Step::FinishDirectory { path, entry } => {
                self.settle(&path, sink.finish_directory(&path, &entry))
            }
            Step::SetMetadata { path, entry } => {
                self.settle(&path, sink.set_metadata(&path, &entry))
            }
            Step::Remove(path) => match sink.remove(&path) {
                Err(SinkError::Entry { source, .. })
                    if source.kind() == std::io::ErrorKind::NotFound =>
                {
                    Ok(())
                }
                removed => self.settle(&path, removed),
            },
            Step::Links(path) => {
                let links = answer(sink.links(&path))?;
                self.answer(links)
            }
            Step::CreateFile { file, path, size, holes } => {
                let made = sink.create_file(&path, size, holes);
                let _ = self.begin(file, path, true, made)?;
                Ok(())
            }
            Step::OpenFile { file, path, holes } => {
                let opened = sink.open_file(&path, holes);
                let links = self.begin(file, path, false, opened)?;
                self.answer(links)
            }
            Step::WriteAt { file, offset, data } => {
                self.write(file, |file| file.write_at(offset, &data))
            }
            Step::Punch { file, offset, len } => self.write(file, |file| file.punch(offset, len)),
            Step::Truncate { file, len } => self.write(file, |file| file.truncate(len)),
            Step::CloseFile { file } => {
                drop(self.files.remove(&file));
                Ok(())
            }
            Step::FinishFile { file, entry } => {
                let Some(FileJob { path, file, made }) = self.files.remove(&file) else {
                    return Ok(());
                };
                match file {
                    Some(file) => self.settle(&path, file.finish(&entry)),
                    // Half a file is worse than none; what was there before is not ours to remove.
                    None if made => match sink.remove(&path) {
                        Err(error @ SinkError::Target { .. }) => Err(lost(&error)),
                        _ => Ok(()),
                    },
                    None => Ok(()),
                }
            }
            Step::Complete { .. } => Ok(()),
        }
    }

    /// Takes note of a file; gives how many names it has.
    fn begin(
        &mut self,
        number: u32,
        path: EntryPath,
        made: bool,
        file: Result<Box<dyn SinkFile>, SinkError>,
    ) -> Result<Result<u64, String>, LinkError> {
        let (file, links) = match file {
            Ok(file) => {
                let links = file.links();
                (Some(file), Ok(links))
            }
            // Whoever asks for an answer hears it there.
            Err(SinkError::Entry { source, .. }) if !made => (None, Err(source.to_string())),
            Err(error) => {
                self.settle(&path, Err(error))?;
                (None, Ok(0))
            }
        };
        // One that could not be made is none of ours to remove.
        let made = made && file.is_some();
        let _ = self.files.insert(number, FileJob { path, file, made });
        Ok(links)
    }

    fn write(
        &mut self,
        number: u32,
        write: impl FnOnce(&dyn SinkFile) -> Result<(), SinkError>,
    ) -> Result<(), LinkError> {
        let Some(job) = self.files.get_mut(&number) else { return Ok(()) };
        let Some(file) = &job.file else { return Ok(()) };
        let written = write(&**file);
        if written.is_err() {
            job.file = None;
        }
        let path = job.path.clone();
        self.settle(&path, written)
    }

    /// One entry that cannot be written is named and left out; a target that fails ends it all.
    fn settle(&self, path: &EntryPath, done: Result<(), SinkError>) -> Result<(), LinkError> {
        match done {
            Ok(()) => Ok(()),
            Err(SinkError::Entry { source, .. }) => {
                let message = format!("could not be written: {source}");
                self.observer.warn(Warning::skipped(path.to_slashed(), message));
                Ok(())
            }
            Err(error) => Err(lost(&error)),
        }
    }

    fn answer(&self, answer: Result<u64, String>) -> Result<(), LinkError> {
        send(self.writer, &ToHost::Answer(answer))
    }
}

/// The answer to a question about one entry.
fn answer(found: Result<u64, SinkError>) -> Result<Result<u64, String>, LinkError> {
    match found {
        Ok(number) => Ok(Ok(number)),
        Err(SinkError::Entry { source, .. }) => Ok(Err(source.to_string())),
        Err(error) => Err(lost(&error)),
    }
}

fn lost(error: &SinkError) -> LinkError {
    LinkError::Failed(chain(error))
}
