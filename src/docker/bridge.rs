//! Where streams of the runtime meet blocking code, in both directions.
//!
//! Both ends notice a stream that stands still, and both are cancelled by being dropped. A body
//! only ends well when [`Outgoing::finish`] says so: one that is dropped reaches the engine as
//! broken, never as complete.

use std::io::{self, Read};
use std::pin::{Pin, pin};
use std::time::Duration;

use bollard::errors::Error;
use bollard::query_parameters::UploadToContainerOptions;
use bytes::{Buf as _, Bytes};
use futures_util::{Stream, StreamExt, TryStreamExt, future, stream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::engine::Engine;
use super::error::DockerError;

/// How long a stream may stand still before it counts as broken.
pub(super) const IDLE_MAX: Duration = Duration::from_secs(600);

/// Pieces of a body waiting to be sent.
const WAITING_MAX: usize = 4;

/// A stream from the engine, taken piece by piece.
pub(super) struct Incoming {
    stream: Pin<Box<dyn Stream<Item = Result<Bytes, Error>> + Send>>,
    engine: Engine,
    action: String,
    idle_max: Duration,
}

impl Incoming {
    pub(super) fn new(
        engine: &Engine,
        action: String,
        stream: impl Stream<Item = Result<Bytes, Error>> + Send + 'static,
    ) -> Self {
        Self { stream: Box::pin(stream), engine: engine.clone(), action, idle_max: IDLE_MAX }
    }

    /// Waits for the next piece; none at the end.
    ///
    /// Errors: also when nothing came for [`IDLE_MAX`].
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, DockerError> {
        let idle_max = self.idle_max;
        let stream = &mut self.stream;
        // the timer needs the runtime around it when it is made
        let next = async { timeout(idle_max, stream.next()).await };
        match self.engine.runtime().block_on(next) {
            Ok(Some(Ok(piece))) => Ok(Some(piece)),
            Ok(Some(Err(error))) => Err(self.engine.error(error, &self.action)),
            Ok(None) => Ok(None),
            Err(_) => Err(stands_still(&self.action, idle_max)),
        }
    }
}

/// The pieces of a stream as one run of bytes.
///
/// A broken connection is an error of kind `ConnectionAborted`, and stays one.
pub(super) struct PieceReader {
    stream: Incoming,
    piece: Bytes,
    state: State,
}

#[derive(Clone, Copy)]
enum State {
    Open,
    Ended,
    Failed,
}

impl PieceReader {
    pub(super) fn new(stream: Incoming) -> Self {
        Self { stream, piece: Bytes::new(), state: State::Open }
    }

    /// Waits until something is there to be read, or the end.
    pub(super) fn wait(&mut self) -> Result<(), DockerError> {
        while self.piece.is_empty() && matches!(self.state, State::Open) {
            match self.stream.next() {
                Ok(Some(piece)) => self.piece = piece,
                Ok(None) => self.state = State::Ended,
                Err(error) => {
                    self.state = State::Failed;
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}

impl Read for PieceReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if matches!(self.state, State::Failed) {
            let message = "the stream had broken off before";
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, message));
        }
        self.wait().map_err(DockerError::into_io)?;
        let len = buffer.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut buffer[..len]);
        Ok(len)
    }
}

/// Waits for the end of a stream of answers none of which matters.
pub(super) fn drain<T>(
    engine: &Engine,
    action: &str,
    answers: impl Stream<Item = Result<T, Error>>,
) -> Result<(), DockerError> {
    let answers = pin!(answers.try_for_each(|_| future::ready(Ok(()))));
    match engine.runtime().block_on(while_moving(engine, IDLE_MAX, answers)) {
        Some(ended) => ended.map_err(|e| engine.error(e, action)),
        None => Err(stands_still(action, IDLE_MAX)),
    }
}

/// Waits for `call` as long as anything moves between us and the engine; none if nothing did for
/// `idle_max`.
async fn while_moving<T>(
    engine: &Engine,
    idle_max: Duration,
    mut call: impl Future<Output = T> + Unpin,
) -> Option<T> {
    loop {
        let before = engine.moved();
        match timeout(idle_max, &mut call).await {
            Ok(result) => return Some(result),
            Err(_) if engine.moved() != before => {}
            Err(_) => return None,
        }
    }
}

enum Piece {
    Data(Bytes),
    End,
}

/// A body on its way to the engine, given piece by piece.
pub(super) struct Outgoing {
    pieces: mpsc::Sender<Piece>,
    /// The call the body belongs to; none once its result was taken.
    call: Option<JoinHandle<Result<(), Error>>>,
    engine: Engine,
    action: String,
    idle_max: Duration,
}

impl Outgoing {
    /// Starts to write an archive into the container `id`.
    pub(super) fn upload(
        engine: &Engine,
        action: String,
        id: String,
        options: UploadToContainerOptions,
    ) -> Self {
        let (pieces, waiting) = mpsc::channel(WAITING_MAX);
        let docker = engine.bulk().clone();
        let call = engine.runtime().spawn(async move {
            let body = bollard::body_try_stream(body(waiting));
            docker.upload_to_container(&id, Some(options), body).await
        });
        let call = Some(call);
        Self { pieces, call, engine: engine.clone(), action, idle_max: IDLE_MAX }
    }

    /// Waits until there is room and gives `piece` to the body.
    ///
    /// Errors: what the call ended with, if it ended before the body did; also when there was no
    /// room for [`IDLE_MAX`].
    pub(super) fn send(&mut self, piece: Bytes) -> Result<(), DockerError> {
        self.push(Piece::Data(piece))
    }

    /// Ends the body and waits for what the engine says about it.
    pub(super) fn finish(mut self) -> Result<(), DockerError> {
        self.push(Piece::End)?;
        self.result()
    }

    fn push(&mut self, piece: Piece) -> Result<(), DockerError> {
        let idle_max = self.idle_max;
        let push = async { timeout(idle_max, self.pieces.send(piece)).await };
        match self.engine.runtime().block_on(push) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(self.result().err().unwrap_or_else(|| DockerError::Interrupted {
                action: self.action.clone(),
                message: "the engine stopped reading before the end".into(),
            })),
            Err(_) => Err(stands_still(&self.action, idle_max)),
        }
    }

    fn result(&mut self) -> Result<(), DockerError> {
        let lost =
            |message: String| DockerError::Interrupted { action: self.action.clone(), message };
        let Some(call) = self.call.as_mut() else {
            return Err(lost("it had failed before".into()));
        };
        let idle_max = self.idle_max;
        let waiting = while_moving(&self.engine, idle_max, call);
        match self.engine.runtime().block_on(waiting) {
            Some(ended) => {
                self.call = None;
                match ended {
                    Ok(result) => result.map_err(|e| self.engine.error(e, &self.action)),
                    Err(error) => Err(lost(error.to_string())),
                }
            }
            None => Err(stands_still(&self.action, idle_max)),
        }
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        if let Some(call) = &self.call {
            call.abort();
        }
    }
}

fn body(
    waiting: mpsc::Receiver<Piece>,
) -> impl Stream<Item = std::io::Result<Bytes>> + Send + 'static {
    stream::unfold(Some(waiting), |waiting| async {
        let mut waiting = waiting?;
        match waiting.recv().await {
            Some(Piece::Data(piece)) => Some((Ok(piece), Some(waiting))),
            Some(Piece::End) => None,
            None => Some((Err(std::io::ErrorKind::BrokenPipe.into()), None)),
        }
    })
}

fn stands_still(action: &str, idle_max: Duration) -> DockerError {
    DockerError::Interrupted {
        action: action.to_owned(),
        message: format!("nothing moved for {} s", idle_max.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collected(waiting: mpsc::Receiver<Piece>) -> Vec<Result<Vec<u8>, std::io::ErrorKind>> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let pieces = body(waiting).map(|p| p.map(|b| b.to_vec()).map_err(|e| e.kind()));
        runtime.block_on(pieces.collect())
    }

    #[test]
    fn a_body_that_was_ended_ends_well() {
        let (pieces, waiting) = mpsc::channel(2);
        pieces.try_send(Piece::Data(Bytes::from_static(b"a"))).expect("room");
        pieces.try_send(Piece::End).expect("room");
        assert_eq!(collected(waiting), [Ok(b"a".to_vec())]);
    }

    #[test]
    fn a_body_that_was_dropped_ends_broken() {
        let (pieces, waiting) = mpsc::channel(2);
        pieces.try_send(Piece::Data(Bytes::from_static(b"a"))).expect("room");
        drop(pieces);
        assert_eq!(collected(waiting), [Ok(b"a".to_vec()), Err(std::io::ErrorKind::BrokenPipe)]);
    }
}
