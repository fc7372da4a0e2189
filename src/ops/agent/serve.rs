//! The agent: does at its place what it is told over its streams.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};

use super::link::{LinkError, LinkReader, LinkWriter};
use super::message::{ToAgent, ToHost};
use super::{reading, writing};
use crate::clock::Clock;
use crate::event::{Counters, Observer, Warning};
use crate::sink::MARKER_NAME;

/// No marker is longer, in bytes.
const MARKER_LEN_MAX: u64 = 4096;

/// Names the build; both sides must be of the same.
pub(super) fn build() -> String {
    concat!(env!("CARGO_PKG_VERSION"), " protocol 1").to_owned()
}

/// Reads or writes the directory at `place` as whoever is on the other end of the streams says,
/// until they are done or gone.
///
/// Errors: [`LinkError`]; the other side has been told where it can still be reached.
pub fn serve(
    input: Box<dyn Read + Send>,
    output: Box<dyn Write + Send>,
    place: &Path,
    clock: Clock,
) -> Result<(), LinkError> {
    let writer = Arc::new(LinkWriter::new(output, false));
    let mut reader = LinkReader::new(input);
    send(&writer, &ToHost::Hello { build: build() })?;
    let Some((kind, payload)) = reader.receive()? else { return Ok(()) };
    let done = match ToAgent::decode(kind, &payload)? {
        ToAgent::Marker => tell_marker(place, &writer),
        ToAgent::Write(task) => writing::serve_writing(place, &task, reader, &writer),
        ToAgent::Read(task) => reading::serve_reading(place, *task, clock, reader, &writer),
        other => Err(LinkError::Damaged(format!("no task, but {other:?}"))),
    };
    if let Err(error) = &done {
        // Nobody may be there to hear it.
        let refused = matches!(error, LinkError::Refused(_));
        let _ = send(&writer, &ToHost::Failed { message: chain(error), refused });
    }
    done
}

/// Says what the marker of an unfinished restore says.
fn tell_marker(place: &Path, writer: &LinkWriter) -> Result<(), LinkError> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = rustix::fs::open(place.join(MARKER_NAME), flags, Mode::empty());
    let text = opened.ok().and_then(|file| {
        let mut text = Vec::new();
        let read = std::fs::File::from(file).take(MARKER_LEN_MAX).read_to_end(&mut text);
        read.is_ok().then_some(text)
    });
    send(writer, &ToHost::Marker(text))
}

pub(super) fn send(writer: &LinkWriter, message: &ToHost) -> Result<(), LinkError> {
    let (kind, payload) = message.encode();
    writer.send(kind, &payload)
}

/// An error with what caused it.
pub(in crate::ops) fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

/// Passes warnings on.
pub(super) struct Teller {
    writer: Arc<LinkWriter>,
    counters: Counters,
}

impl Teller {
    pub(super) fn new(writer: &Arc<LinkWriter>) -> Self {
        Self { writer: writer.clone(), counters: Counters::default() }
    }
}

impl Observer for Teller {
    fn counters(&self) -> &Counters {
        &self.counters
    }

    fn warn(&self, warning: Warning) {
        let Warning { object, message, skipped } = warning;
        // If nobody hears it, what comes after it is not heard either, and the run fails.
        let _ = send(&self.writer, &ToHost::Warning { object, message, skipped });
    }
}
