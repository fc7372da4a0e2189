//! An agent: this program in a container beside a volume, reached through its streams.
//!
//! The container has no network, a root that cannot be written, and only the rights that reading or
//! writing the volume takes. Its log is off: the log would hold the content. It ends with the
//! stream it listens to, and is removed like every helper.

use std::io::{self, Read, Write};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard::container::{AttachContainerResults, LogOutput};
use bollard::query_parameters::{AttachContainerOptionsBuilder, StartContainerOptions};
use bytes::Bytes;
use futures_util::{StreamExt as _, future};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use super::bridge::{IDLE_MAX, Incoming, PieceReader};
use super::engine::Engine;
use super::error::DockerError;
use super::helper::{Access, Helper, remove_container};
use super::image;
use super::program::Program;

/// So much of what an agent says to its error stream is kept, in bytes.
const SAID_MAX: usize = 4 << 10;

/// A running agent.
#[derive(Debug)]
pub struct Agent {
    /// What it says.
    pub output: AgentOutput,
    /// What it is told.
    pub input: AgentInput,
    engine: Engine,
    id: String,
}

/// What an agent says; the end is only reported if the engine ended the stream itself.
pub struct AgentOutput {
    stream: PieceReader,
    said: Arc<Mutex<Vec<u8>>>,
    _helper: Helper,
}

/// What an agent is told.
pub struct AgentInput {
    input: Pin<Box<dyn AsyncWrite + Send>>,
    engine: Engine,
    _helper: Helper,
}

impl Agent {
    /// Starts `program` with `arguments` beside the volume called `volume`, which it finds at
    /// [`super::MOUNT`].
    ///
    /// Errors: [`DockerError::Unsupported`] if the engine's machine is of another architecture;
    /// [`DockerError::NotFound`] if there is no such volume.
    pub fn start(
        engine: &Engine,
        volume: &str,
        access: Access,
        program: &Program,
        arguments: &[&str],
    ) -> Result<Self, DockerError> {
        if engine.info().arch != program.arch {
            return Err(DockerError::Unsupported(format!(
                "the docker engine's machine is {}, and this program is for {}",
                engine.info().arch,
                program.arch
            )));
        }
        let image = image::ensure_agent(engine, program)?;
        let words = program.command.iter().map(String::as_str).chain(arguments.iter().copied());
        let command = words.map(str::to_owned).collect();
        let helper = Helper::create_agent(engine, volume, access, image, command)?;
        let action = format!("start an agent for volume `{volume}`");
        let failed = |error| engine.error(error, &action);
        let options =
            AttachContainerOptionsBuilder::new().stream(true).stdin(true).stdout(true).stderr(true);
        let attach = engine.bulk().attach_container(helper.id(), Some(options.build()));
        let AttachContainerResults { output, input } = engine.call(attach).map_err(failed)?;
        let start = engine.control().start_container(helper.id(), None::<StartContainerOptions>);
        engine.call(start).map_err(failed)?;
        let said = Arc::new(Mutex::new(Vec::new()));
        let heard = said.clone();
        let pieces = output.filter_map(move |piece| {
            future::ready(match piece {
                Ok(LogOutput::StdOut { message }) => Some(Ok(message)),
                Ok(LogOutput::StdErr { message }) => {
                    keep(&heard, &message);
                    None
                }
                // A frame that was cut off, or that has a header none can have.
                Ok(LogOutput::Console { .. } | LogOutput::StdIn { .. }) => {
                    let source = io::Error::from(io::ErrorKind::UnexpectedEof);
                    Some(Err(bollard::errors::Error::from(source)))
                }
                Err(error) => Some(Err(error)),
            })
        });
        let stream = Incoming::new(engine, format!("hear the agent of volume `{volume}`"), pieces);
        let output =
            AgentOutput { stream: PieceReader::new(stream), said, _helper: helper.clone() };
        let input = AgentInput { input, engine: engine.clone(), _helper: helper.clone() };
        Ok(Self { output, input, engine: engine.clone(), id: helper.id().to_owned() })
    }

    /// What ends the agent at once, from any thread.
    #[must_use]
    pub fn hang_up(&self) -> Box<dyn Fn() + Send + Sync> {
        let (engine, id) = (self.engine.clone(), self.id.clone());
        Box::new(move || {
            // Whoever made it removes it again; `sweep` finds it if that fails, too.
            let _ = remove_container(&engine, &id);
        })
    }
}

fn keep(said: &Mutex<Vec<u8>>, message: &Bytes) {
    let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
    let room = SAID_MAX.saturating_sub(said.len()).min(message.len());
    said.extend_from_slice(&message[..room]);
}

impl Read for AgentOutput {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.stream.read(buffer)?;
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if len > 0 || buffer.is_empty() || said.is_empty() {
            return Ok(len);
        }
        // It ended, and not without a word.
        Err(io::Error::other(String::from_utf8_lossy(&said).trim().to_owned()))
    }
}

impl Write for AgentInput {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let write = async { timeout(IDLE_MAX, self.input.write(buffer)).await };
        self.engine.runtime().block_on(write).unwrap_or_else(|_| Err(stands_still(IDLE_MAX)))
    }

    fn flush(&mut self) -> io::Result<()> {
        let flush = async { timeout(IDLE_MAX, self.input.flush()).await };
        self.engine.runtime().block_on(flush).unwrap_or_else(|_| Err(stands_still(IDLE_MAX)))
    }
}

fn stands_still(idle_max: Duration) -> io::Error {
    let message = format!("nothing moved for {} s", idle_max.as_secs());
    io::Error::new(io::ErrorKind::TimedOut, message)
}

impl std::fmt::Debug for AgentOutput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AgentOutput")
    }
}

impl std::fmt::Debug for AgentInput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AgentInput")
    }
}
