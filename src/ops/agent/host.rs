//! The host's end of a link to an agent that has answered.

use std::time::Duration;

use super::link::{AgentStreams, LinkError, LinkReader, LinkWriter};
use super::message::{ToAgent, ToHost};
use super::serve::build;
use crate::ops::error::OpsError;

/// How often it is looked whether the run was interrupted.
pub(super) const LOOK_EACH: Duration = Duration::from_millis(100);

/// Both directions to an agent of the same build.
pub(in crate::ops) struct Link {
    pub(super) reader: LinkReader,
    pub(super) writer: LinkWriter,
    /// Ends both at once, from any thread, and the agent with them.
    pub(super) hang_up: Box<dyn Fn() + Send + Sync>,
    pub(super) is_far: bool,
    /// What is read or written, for messages.
    pub(super) name: String,
}

impl Link {
    /// Waits for the agent's first word.
    pub(in crate::ops) fn greet(streams: AgentStreams) -> Result<Self, OpsError> {
        let AgentStreams { output, input, hang_up, is_far, name } = streams;
        let writer = LinkWriter::new(input, is_far);
        let mut link = Self { reader: LinkReader::new(output), writer, hang_up, is_far, name };
        let greeted = match receive(&mut link.reader) {
            Ok(ToHost::Hello { build: other }) if other == build() => return Ok(link),
            Ok(ToHost::Hello { build: other }) => LinkError::Failed(format!(
                "it is of build `{other}`, this program of `{}`",
                build()
            )),
            Ok(ToHost::Failed { message, .. }) => LinkError::Failed(message),
            Ok(_) => LinkError::Damaged("it does not greet".to_owned()),
            Err(error) => error,
        };
        (link.hang_up)();
        Err(OpsError::Agent { name: link.name, source: greeted })
    }
}

impl Link {
    /// What the marker of an unfinished restore says, if there is one.
    pub(in crate::ops) fn marker(mut self) -> Result<Option<Vec<u8>>, OpsError> {
        let marker =
            send(&self.writer, &ToAgent::Marker).and_then(|()| match receive(&mut self.reader)? {
                ToHost::Marker(marker) => Ok(marker),
                ToHost::Failed { message, .. } => Err(LinkError::Failed(message)),
                _ => Err(LinkError::Damaged("it says what was not asked".to_owned())),
            });
        (self.hang_up)();
        marker.map_err(|source| OpsError::Agent { name: self.name, source })
    }
}

/// Waits for what the agent says next.
pub(super) fn receive(reader: &mut LinkReader) -> Result<ToHost, LinkError> {
    loop {
        let (kind, payload) = reader
            .receive()?
            .ok_or_else(|| LinkError::Io(std::io::ErrorKind::UnexpectedEof.into()))?;
        match ToHost::decode(kind, &payload)? {
            ToHost::Alive => {}
            said => return Ok(said),
        }
    }
}

/// Tells the agent something.
pub(super) fn send(writer: &LinkWriter, message: &ToAgent) -> Result<(), LinkError> {
    let (kind, payload) = message.encode();
    writer.send(kind, &payload)
}
