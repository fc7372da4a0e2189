//! What a server said to the last request of an attempt, kept beside the error that is made of it.
//!
//! `object_store` keeps neither the headers nor the code of an error. The wire notes both for the
//! task that waits; how a failure is judged rests on this alone.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderMap;

/// Longest text of a server that is repeated, in characters.
const TEXT_MAX: usize = 300;

tokio::task_local! {
    static NOTES: Notes;
}

/// What the server said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// The host that was asked.
    pub(super) host: String,
    /// The status; none if no answer came.
    pub(super) status: Option<u16>,
    /// The store's own code of the error, such as `SlowDown`; empty if it gave none.
    pub(super) code: String,
    /// What it said about it.
    pub(super) message: String,
    /// How long it asks us to wait.
    pub(super) retry_after: Option<Duration>,
    /// Its clock, in seconds since 1970.
    pub(super) date: Option<i64>,
    /// Where the bucket is, if it says so.
    pub(super) region: Option<String>,
    /// How the connection failed, if it did, before or while the body came.
    pub(super) broken: Option<String>,
}

/// The notes of one attempt.
#[derive(Debug, Clone, Default)]
pub(super) struct Notes(Arc<Mutex<Answer>>);

impl Notes {
    /// Those of the attempt this task makes; loose ones outside of any.
    pub(super) fn here() -> Self {
        NOTES.try_with(Clone::clone).unwrap_or_default()
    }

    /// Runs an attempt that writes here.
    pub(super) async fn over<F: Future>(&self, attempt: F) -> F::Output {
        NOTES.scope(self.clone(), attempt).await
    }

    /// A new request begins.
    pub(super) fn begin(&self, host: &str) {
        *self.guard() = Answer { host: host.to_owned(), ..Answer::default() };
    }

    /// An answer has come; its body, if it is an error's, follows.
    pub(super) fn head(&self, status: u16, headers: &HeaderMap) {
        let text = |name: &str| headers.get(name)?.to_str().ok();
        let mut answer = self.guard();
        answer.status = Some(status);
        answer.code = short(text("x-ms-error-code").unwrap_or_default());
        answer.retry_after = text("retry-after").and_then(wait);
        answer.date = text("date").and_then(seconds);
        answer.region = text("x-amz-bucket-region").map(short);
    }

    /// The body of an error.
    pub(super) fn error_body(&self, status: u16, body: &[u8]) {
        let text = String::from_utf8_lossy(body);
        let mut answer = self.guard();
        answer.status = Some(status);
        if let Some(code) = element(&text, "Code") {
            answer.code = short(code);
        }
        if let Some(message) = element(&text, "Message").or_else(|| quoted(&text, "message")) {
            answer.message = short(message);
        }
        if answer.code.is_empty()
            && let Some(reason) = quoted(&text, "reason")
        {
            answer.code = short(reason);
        }
        if answer.region.is_none() {
            answer.region = element(&text, "Region").map(short);
        }
    }

    /// The connection failed.
    pub(super) fn broken(&self, how: &str) {
        self.guard().broken = Some(short(how));
    }

    /// What is noted.
    pub(super) fn answer(&self) -> Answer {
        self.guard().clone()
    }

    fn guard(&self) -> MutexGuard<'_, Answer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The text of the first XML element of a name; enough for the flat errors of stores.
fn element<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    Some(rest.split_once(&format!("</{name}>"))?.0)
}

/// The text of the first JSON member of a name.
fn quoted<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(&format!("\"{name}\""))?;
    let rest = rest.trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')?;
    Some(rest.split_once('"')?.0)
}

/// One line without control characters: it is shown on terminals.
fn short(text: &str) -> String {
    let text = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c });
    text.take(TEXT_MAX).collect()
}

/// `Retry-After`: seconds, or a date, which is not worth a clock of ours.
fn wait(text: &str) -> Option<Duration> {
    text.trim().parse().ok().map(Duration::from_secs)
}

/// `Date` in seconds since 1970.
fn seconds(text: &str) -> Option<i64> {
    jiff::fmt::rfc2822::parse(text).ok().map(|date| date.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(status: u16, headers: &[(&'static str, &str)], body: &str) -> Answer {
        let notes = Notes::default();
        notes.begin("h");
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let _ = map.insert(*name, value.parse().expect("a header"));
        }
        notes.head(status, &map);
        notes.error_body(status, body.as_bytes());
        notes.answer()
    }

    #[test]
    fn codes_and_messages_are_read_as_each_kind_of_store_writes_them() {
        let xml = "<?xml?><Error><Code>SlowDown</Code><Message>less,\u{1b}[2J please</Message>";
        let answer = noted(503, &[("retry-after", "7")], xml);
        assert_eq!((answer.status, answer.code.as_str()), (Some(503), "SlowDown"));
        assert_eq!(answer.message, "less, [2J please");
        assert_eq!(answer.retry_after, Some(Duration::from_secs(7)));
        let answer = noted(404, &[("x-ms-error-code", "ContainerNotFound")], "");
        assert_eq!(answer.code, "ContainerNotFound");
        let json = r#"{"error": {"errors": [{"reason": "forbidden"}], "message" : "no"}}"#;
        let answer = noted(403, &[], json);
        assert_eq!((answer.code.as_str(), answer.message.as_str()), ("forbidden", "no"));
    }

    #[test]
    fn the_clock_of_the_server_is_read() {
        let date = [("date", "Fri, 20 Nov 2026 16:00:00 GMT")];
        assert_eq!(noted(403, &date, "").date, Some(1_795_190_400));
        assert_eq!(noted(403, &[("date", "yesterday")], "").date, None);
    }

    #[test]
    fn a_flood_of_text_is_cut() {
        let body = format!("<Message>{}</Message>", "x".repeat(100_000));
        assert_eq!(noted(500, &[], &body).message.len(), TEXT_MAX);
    }
}
