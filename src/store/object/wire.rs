//! HTTP as the stores of this folder speak it: watched, paced, and honest about what came back.
//!
//! Every request of `object_store` goes through [`Wire`]. Nothing bounds how long a request takes;
//! one over which nothing moves for a while has failed. Answers that would be misread are set
//! right here: an error inside a 200, and a whole object where a range was asked for.

mod body;

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, HeaderValue, RANGE};
use http::{HeaderMap, Method, StatusCode, response};
use http_body_util::BodyExt as _;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpResponseBody, HttpService,
};

use self::body::{Download, Moves, Slice, Upload};
use super::answer::Notes;
use crate::store::Patience;
use crate::store::rate::Rate;

/// Most bytes of an error, or of the answer to a put, that are read.
const ERROR_BYTES_MAX: usize = 64 << 10;

/// Most bytes of a page of a listing, which is held in memory as a whole.
const PAGE_BYTES_MAX: u64 = 256 << 20;

/// Speaks HTTP for one store.
#[derive(Clone)]
pub(super) struct Wire {
    client: reqwest::Client,
    idle: Duration,
    upload: Arc<Rate>,
    download: Arc<Rate>,
    /// What is sent as `Authorization` where nothing else is.
    basic: Option<HeaderValue>,
}

/// Shows nothing: what is inside may sign requests.
impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wire")
    }
}

impl Wire {
    /// Errors: no certificates of this machine could be read.
    pub(super) fn new(
        patience: &Patience,
        upload: Option<u64>,
        download: Option<u64>,
        basic: Option<HeaderValue>,
    ) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(patience.connect)
            // Ends connections that nothing comes through any more, such as after a change of
            // networks, whatever this side still has in its buffers.
            .tcp_user_timeout(patience.idle)
            .tcp_keepalive(Duration::from_secs(15))
            .pool_idle_timeout(Duration::from_secs(20))
            .user_agent(concat!("volume-vault/", env!("CARGO_PKG_VERSION")))
            .build()?;
        let (upload, download) = (Arc::new(Rate::new(upload)), Arc::new(Rate::new(download)));
        Ok(Self { client, idle: patience.idle, upload, download, basic })
    }

    /// The wire as `object_store` takes one.
    pub(super) fn client(&self) -> HttpClient {
        HttpClient::new(self.clone())
    }

    fn request(&self, request: HttpRequest, moves: &Moves) -> Result<reqwest::Request, HttpError> {
        let (parts, body) = request.into_parts();
        let url = reqwest::Url::parse(&parts.uri.to_string())
            .map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
        let mut request = reqwest::Request::new(parts.method, url);
        *request.headers_mut() = parts.headers;
        if let Some(basic) = &self.basic
            && !request.headers().contains_key(AUTHORIZATION)
        {
            let _ = request.headers_mut().insert(AUTHORIZATION, basic.clone());
        }
        let len = body.content_length();
        if len > 0 {
            let upload = Upload::new(body, self.upload.clone(), moves.clone());
            *request.body_mut() = Some(reqwest::Body::wrap(upload));
        } else if matches!(*request.method(), Method::PUT | Method::POST) {
            *request.body_mut() = Some(Bytes::new().into());
        }
        Ok(request)
    }

    /// Waits for the head of an answer for as long as something moves.
    async fn head(
        &self,
        request: reqwest::Request,
        moves: &Moves,
    ) -> Result<http::Response<reqwest::Body>, HttpError> {
        let mut waiting = Box::pin(self.client.execute(request));
        loop {
            match tokio::time::timeout_at(moves.last() + self.idle, &mut waiting).await {
                Ok(answer) => return Ok(answer.map_err(|error| unreached(&error))?.into()),
                Err(_) if moves.last().elapsed() < self.idle => {}
                Err(_) => return Err(stands_still(self.idle)),
            }
        }
    }

    fn body(&self, body: reqwest::Body, most: u64, moves: &Moves, notes: &Notes) -> Download {
        let (rate, moves, notes) = (self.download.clone(), moves.clone(), notes.clone());
        Download::new(body, most, rate, moves, self.idle, notes)
    }
}

#[async_trait::async_trait]
impl HttpService for Wire {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let notes = Notes::here();
        notes.begin(request.uri().host().unwrap_or_default());
        let method = request.method().clone();
        let range = request.headers().get(RANGE).cloned();
        // Objects are read piece by piece, and no more of one than its size.
        let is_object = method == Method::GET && request.uri().query().is_none();
        let most = if is_object { u64::MAX } else { PAGE_BYTES_MAX };
        let moves = Moves::default();
        let answer = match self.head(self.request(request, &moves)?, &moves).await {
            Ok(answer) => answer,
            Err(error) => {
                notes.broken(&chain(&error));
                return Err(error);
            }
        };
        let (mut parts, body) = answer.into_parts();
        let status = parts.status;
        notes.head(status.as_u16(), &parts.headers);
        if method == Method::HEAD && status.is_success() && number(&parts.headers).is_none() {
            // Some servers do not say that nothing is there.
            let _ = parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
        }
        let body = self.body(body, most, &moves, &notes);
        if !status.is_success() && method != Method::HEAD {
            let body = bounded(body).await?;
            notes.error_body(status.as_u16(), &body);
            return Ok(HttpResponse::from_parts(parts, body.into()));
        }
        // Only a store's listings and objects are long; the answer to a change is not.
        if matches!(method, Method::PUT | Method::POST | Method::DELETE) {
            let body = bounded(body).await?;
            return Ok(unmasked(parts, body, &notes));
        }
        Ok(match (range, status) {
            (Some(range), StatusCode::OK) if method == Method::GET => cut(parts, &range, body),
            _ => HttpResponse::from_parts(parts, HttpResponseBody::new(body)),
        })
    }
}

impl HttpConnector for Wire {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(self.client())
    }
}

/// A 200 whose body is an error, which stores send when the error came after the head, becomes
/// the error that it is.
fn unmasked(mut parts: response::Parts, body: Bytes, notes: &Notes) -> HttpResponse {
    let start = &body[..body.len().min(512)];
    let error = start.windows(6).any(|window| window == b"<Error") && !bulk(start);
    if parts.status == StatusCode::OK && error {
        parts.status = StatusCode::INTERNAL_SERVER_ERROR;
        notes.error_body(500, &body);
    }
    HttpResponse::from_parts(parts, body.into())
}

/// The answer to a deletion of many, which has an error for each that failed.
fn bulk(start: &[u8]) -> bool {
    start.windows(13).any(|window| window == b"<DeleteResult")
}

/// Makes the answer to a range of a whole object that came instead. What cannot be cut is left as
/// it is and refused further up.
fn cut(mut parts: response::Parts, range: &HeaderValue, body: Download) -> HttpResponse {
    let wanted = range.to_str().ok().and_then(bounds);
    let total = number(&parts.headers);
    match (wanted, total) {
        (Some((from, to)), Some(total)) if from < total && from <= to => {
            let to = to.min(total - 1);
            let (len, shown) = (to - from + 1, format!("bytes {from}-{to}/{total}"));
            parts.status = StatusCode::PARTIAL_CONTENT;
            let _ = parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(len));
            if let Ok(value) = HeaderValue::from_str(&shown) {
                let _ = parts.headers.insert(CONTENT_RANGE, value);
            }
            let body = HttpResponseBody::new(Slice::new(body, from, len));
            HttpResponse::from_parts(parts, body)
        }
        _ => HttpResponse::from_parts(parts, HttpResponseBody::new(body)),
    }
}

/// `bytes=FROM-TO`, both included.
fn bounds(range: &str) -> Option<(u64, u64)> {
    let (from, to) = range.strip_prefix("bytes=")?.split_once('-')?;
    Some((from.parse().ok()?, to.parse().ok()?))
}

fn number(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The beginning of a body that should be short.
async fn bounded(mut body: Download) -> Result<Bytes, HttpError> {
    let mut bytes = Vec::new();
    while bytes.len() < ERROR_BYTES_MAX
        && let Some(frame) = body.frame().await
    {
        if let Ok(data) = frame?.into_data() {
            bytes.extend_from_slice(&data);
        }
    }
    bytes.truncate(ERROR_BYTES_MAX);
    Ok(bytes.into())
}

fn unreached(error: &reqwest::Error) -> HttpError {
    let kind = match error {
        error if error.is_connect() => HttpErrorKind::Connect,
        error if error.is_timeout() => HttpErrorKind::Timeout,
        _ => HttpErrorKind::Interrupted,
    };
    // An error of the client's own shows the address, which may hold a signature.
    let text = error.source().map_or_else(|| "no connection".to_owned(), chain);
    HttpError::new(kind, std::io::Error::other(text))
}

fn stands_still(idle: Duration) -> HttpError {
    let text = format!("nothing moved for {} s", idle.as_secs());
    HttpError::new(HttpErrorKind::Timeout, std::io::Error::new(std::io::ErrorKind::TimedOut, text))
}

/// An error and its causes in one line, none said twice.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_ranges_are_cut_out_of_a_whole_object() {
        assert_eq!(bounds("bytes=3-9"), Some((3, 9)));
        for other in ["bytes=-5", "bytes=3-", "3-9", "bytes=a-b"] {
            assert_eq!(bounds(other), None, "{other}");
        }
    }
}
