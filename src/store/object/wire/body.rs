//! Bodies on their way in either direction: in small pieces, at a rate, and noticed.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use object_store::client::{HttpError, HttpErrorKind, HttpRequestBody};
use tokio::time::{Instant, Sleep, sleep_until};

use super::super::answer::Notes;
use super::{chain, stands_still};
use crate::store::rate::Rate;

/// Most bytes handed over at once.
const PIECE: usize = 64 << 10;

/// When something last moved over a connection.
#[derive(Debug, Clone)]
pub(super) struct Moves(Arc<Mutex<Instant>>);

impl Default for Moves {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }
}

impl Moves {
    pub(super) fn last(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) {
        self.at(Instant::now());
    }

    /// Also a time to come: to rest on purpose is not to stand still.
    fn at(&self, time: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = time;
    }
}

/// Until when a body rests because of its rate.
type Pause = Option<Pin<Box<Sleep>>>;

fn poll_pause(pause: &mut Pause, context: &mut Context<'_>) -> Poll<()> {
    if let Some(sleep) = pause {
        ready!(sleep.as_mut().poll(context));
        *pause = None;
    }
    Poll::Ready(())
}

/// A body that is sent.
pub(super) struct Upload {
    body: HttpRequestBody,
    piece: Bytes,
    left: u64,
    rate: Arc<Rate>,
    pause: Pause,
    granted: bool,
    moves: Moves,
}

impl Upload {
    pub(super) fn new(body: HttpRequestBody, rate: Arc<Rate>, moves: Moves) -> Self {
        let left = body.content_length() as u64;
        Self { body, piece: Bytes::new(), left, rate, pause: None, granted: false, moves }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let this = &mut *self;
        while this.piece.is_empty() {
            match ready!(Pin::new(&mut this.body).poll_frame(context)) {
                Some(frame) => this.piece = frame?.into_data().unwrap_or_default(),
                None => return Poll::Ready(None),
            }
        }
        let len = this.piece.len().min(PIECE);
        if !this.granted {
            this.granted = true;
            if let Some(from) = this.rate.grant(len, Instant::now()) {
                this.moves.at(from);
                this.pause = Some(Box::pin(sleep_until(from)));
            }
        }
        ready!(poll_pause(&mut this.pause, context));
        this.granted = false;
        this.left -= len as u64;
        this.moves.now();
        Poll::Ready(Some(Ok(Frame::data(this.piece.split_to(len)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// A body that comes, for as long as it moves.
pub(super) struct Download {
    body: reqwest::Body,
    /// Bytes that may still come.
    left: u64,
    rate: Arc<Rate>,
    pause: Pause,
    moves: Moves,
    idle: Duration,
    alarm: Pin<Box<Sleep>>,
    notes: Notes,
}

impl Download {
    pub(super) fn new(
        body: reqwest::Body,
        most: u64,
        rate: Arc<Rate>,
        moves: Moves,
        idle: Duration,
        notes: Notes,
    ) -> Self {
        moves.now();
        let alarm = Box::pin(sleep_until(moves.last() + idle));
        Self { body, left: most, rate, pause: None, moves, idle, alarm, notes }
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let this = &mut *self;
        ready!(poll_pause(&mut this.pause, context));
        match Pin::new(&mut this.body).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                let len = frame.data_ref().map_or(0, Bytes::len);
                let Some(left) = this.left.checked_sub(len as u64) else {
                    let error = std::io::Error::other("an answer without end");
                    return Poll::Ready(Some(Err(HttpError::new(HttpErrorKind::Decode, error))));
                };
                this.left = left;
                let from = this.rate.grant(len, Instant::now());
                this.pause = from.map(|from| Box::pin(sleep_until(from)));
                this.moves.now();
                // The time of the pause does not count.
                let start = from.unwrap_or_else(|| this.moves.last());
                this.alarm.as_mut().reset(start + this.idle);
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                let error = error.without_url();
                this.notes.broken(&chain(&error));
                Poll::Ready(Some(Err(HttpError::new(HttpErrorKind::Interrupted, error))))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                ready!(this.alarm.as_mut().poll(context));
                let error = stands_still(this.idle);
                this.notes.broken(&chain(&error));
                Poll::Ready(Some(Err(error)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A part of a body that comes.
pub(super) struct Slice {
    body: Download,
    skip: u64,
    left: u64,
}

impl Slice {
    pub(super) fn new(body: Download, skip: u64, len: u64) -> Self {
        Self { body, skip, left: len }
    }
}

impl Body for Slice {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let this = &mut *self;
        while this.left > 0 {
            let Some(frame) = ready!(Pin::new(&mut this.body).poll_frame(context)) else { break };
            let mut data = frame?.into_data().unwrap_or_default();
            let skipped = data.len().min(usize::try_from(this.skip).unwrap_or(usize::MAX));
            this.skip -= skipped as u64;
            data = data.split_off(skipped);
            data.truncate(usize::try_from(this.left).unwrap_or(usize::MAX));
            this.left -= data.len() as u64;
            if !data.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
        }
        Poll::Ready(None)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
