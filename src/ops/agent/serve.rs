//! The agent: does at its place what it is told over its streams.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::bounded;

use super::link::{LinkError, LinkReader, LinkWriter};
use super::message::{ToAgent, ToHost};
use super::{reading, writing};
use crate::clock::Clock;
use crate::event::{Counters, Observer, Warning};
use crate::sink::read_marker;

/// How often the agent says that it is there, whatever it is doing: who hears nothing for long
/// takes it for lost.
const ALIVE_EACH: Duration = Duration::from_secs(30);

/// Longer warnings are cut, in bytes.
const MESSAGE_MAX: usize = 16 << 10;

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
    let (_done, ended) = bounded::<()>(0);
    let alive = writer.clone();
    // Not waited for: it ends when this function does, or when nobody hears it.
    drop(std::thread::spawn(move || {
        while ended.recv_timeout(ALIVE_EACH).is_err_and(|error| error.is_timeout()) {
            if send(&alive, &ToHost::Alive).is_err() {
                break;
            }
        }
    }));
    let done = match ToAgent::decode(kind, &payload)? {
        ToAgent::Marker => send(&writer, &ToHost::Marker(read_marker(place))),
        ToAgent::Write(task) => writing::serve_writing(place, &task, reader, &writer),
        ToAgent::Read(task) => reading::serve_reading(place, *task, clock, reader, &writer),
        _ => Err(LinkError::Damaged("it is told no task".to_owned())),
    };
    if let Err(error) = &done {
        // Nobody may be there to hear it.
        let refused = matches!(error, LinkError::Refused(_));
        let _ = send(&writer, &ToHost::Failed { message: chain(error), refused });
    }
    done
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
        let Warning { object, mut message, skipped } = warning;
        if message.len() > MESSAGE_MAX {
            message = message.chars().take(MESSAGE_MAX / 4).collect();
        }
        // If nobody hears it, what comes after it is not heard either, and the run fails.
        let _ = send(&self.writer, &ToHost::Warning { object, message, skipped });
    }
}
