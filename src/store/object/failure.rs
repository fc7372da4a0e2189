//! What a failed attempt means: try again, renew credentials, or say what is wrong.

use std::error::Error;
use std::io;

use super::answer::Answer;
use super::place::{Kind, Place};
use crate::clock::Time;
use crate::store::attempts::{Task, Verdict, denied, io_error};
use crate::store::{ObjectName, StoreError};

/// How an attempt went wrong.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The client says so; the notes say more.
    Client(object_store::Error),
    /// There is no such range in what the store has.
    OutOfRange,
    /// The store contradicts itself.
    Senseless(String),
    /// It is known what that means.
    Known(StoreError),
}

impl From<object_store::Error> for Trouble {
    fn from(error: object_store::Error) -> Self {
        Self::Client(error)
    }
}

impl Trouble {
    /// As `from`, for a range. Some servers answer one behind the end as if they had it, which
    /// the client notices in words only.
    pub(super) fn of_range(error: object_store::Error) -> Self {
        match innermost(&error).starts_with("Wanted range starting at") {
            true => Self::OutOfRange,
            false => Self::Client(error),
        }
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Known(error)
    }
}

/// Codes of credentials that were good once.
const EXPIRED: [&str; 5] = [
    "ExpiredToken",
    "TokenRefreshRequired",
    "RequestExpired",
    "ExpiredTokenException",
    "InvalidToken",
];

/// Codes of a container that is not there.
const NO_CONTAINER: [&str; 2] = ["NoSuchBucket", "ContainerNotFound"];

/// Codes of a store that holds all it may hold.
const FULL: [&str; 6] = [
    "QuotaExceeded",
    "InsufficientStorage",
    "XMinioStorageFull",
    "quotaExceeded",
    "AccountQuotaExceeded",
    "StorageQuotaExceeded",
];

/// Codes of an object that must be brought back from an archive first.
const ARCHIVED: [&str; 3] = ["InvalidObjectState", "BlobArchived", "BlobBeingRehydrated"];

/// Judges an attempt by what it ended with and what the server said.
pub(super) fn judge(
    trouble: Trouble,
    answer: &Answer,
    task: Task<'_>,
    place: &Place,
    now: Time,
) -> Verdict {
    let error = match trouble {
        Trouble::Known(error) => return Verdict::Final(error),
        Trouble::OutOfRange => return Verdict::OutOfRange,
        Trouble::Senseless(why) => return Verdict::Senseless(why),
        Trouble::Client(error) => error,
    };
    if let Some(how) = &answer.broken {
        return unreached(how, answer, task, place);
    }
    match answer.status {
        // The client itself refuses, such as a file of credentials.
        None => {
            Verdict::Final(io_error(task, &place.to_string(), io::Error::other(innermost(&error))))
        }
        Some(200..=299) => misread(&error, task, place),
        Some(status) => told(status, answer, task, place, now),
    }
}

/// No answer, or half of one.
fn unreached(how: &str, answer: &Answer, task: Task<'_>, place: &Place) -> Verdict {
    let metadata = ["169.254.169.254", "169.254.170.2", "metadata", "metadata.google.internal"];
    if metadata.contains(&answer.host.as_str()) {
        let text = "no credentials are in the environment or in a profile, and this machine has \
                    no role";
        let source = io::Error::new(io::ErrorKind::PermissionDenied, text);
        return Verdict::Final(denied(task, &place.to_string(), source));
    }
    if how.contains("certificate") {
        return Verdict::Final(io_error(
            task,
            &place.to_string(),
            io::Error::other(how.to_owned()),
        ));
    }
    Verdict::Again { why: how.to_owned(), after: None }
}

/// An error about an answer that said that all is well.
fn misread(error: &object_store::Error, task: Task<'_>, place: &Place) -> Verdict {
    let text = error.to_string();
    // Azure deletes in batches, whose parts have answers of their own.
    if let (Task::Delete(name), true) = (task, text.contains("(code: ")) {
        let said = io::Error::new(io::ErrorKind::PermissionDenied, innermost(error));
        if text.contains("(code: 404)") {
            return Verdict::Missing;
        }
        return match text.contains("immutab") || text.contains("(code: 409)") {
            true => Verdict::Final(locked(name, place, said)),
            false => Verdict::Final(denied(task, &place.to_string(), said)),
        };
    }
    match error {
        object_store::Error::NotFound { .. } => Verdict::Missing,
        _ => Verdict::Senseless(innermost(error)),
    }
}

/// An error that the store tells.
fn told(status: u16, answer: &Answer, task: Task<'_>, place: &Place, now: Time) -> Verdict {
    let code = answer.code.as_str();
    let again = || Verdict::Again { why: said(status, answer), after: answer.retry_after };
    let source = |kind| io::Error::new(kind, said(status, answer));
    let refusal = || denied(task, &place.to_string(), source(io::ErrorKind::PermissionDenied));
    if NO_CONTAINER.contains(&code) {
        let what = place.kind.container();
        let text = format!("there is no {what} `{}`", place.container);
        return Verdict::Final(StoreError::Location(text));
    }
    if (300..=399).contains(&status) || code == "AuthorizationHeaderMalformed" {
        return Verdict::Final(moved(answer, place));
    }
    if let (Some(name), true) = (task.name(), ARCHIVED.contains(&code)) {
        let (name, location) = (name.clone(), place.to_string());
        return Verdict::Final(StoreError::Archived { name, location });
    }
    if let Task::Put(name) = task
        && (status == 507 || FULL.contains(&code))
    {
        let (name, location) = (name.clone(), place.to_string());
        return Verdict::Final(StoreError::NoSpace { name, location });
    }
    if code == "RequestTimeTooSkewed" {
        let text = skew(answer.date, now);
        let source = io::Error::new(io::ErrorKind::PermissionDenied, text);
        return Verdict::Final(denied(task, &place.to_string(), source));
    }
    // The answer to a HEAD has no body that could tell one refusal from another.
    let mute = code.is_empty() && answer.message.is_empty() && matches!(status, 400 | 403);
    if EXPIRED.contains(&code) || mute {
        return Verdict::Renew(refusal());
    }
    match status {
        404 => Verdict::Missing,
        // So answers WebDAV for a folder where a file should be.
        405 if place.kind == Kind::Dav && matches!(task, Task::Get(_)) => Verdict::Missing,
        416 => Verdict::OutOfRange,
        401 => Verdict::Renew(refusal()),
        403 | 409 => match task {
            Task::Delete(name) if is_lock(answer) => {
                Verdict::Final(locked(name, place, source(io::ErrorKind::PermissionDenied)))
            }
            _ if status == 409 => again(),
            _ => Verdict::Final(refusal()),
        },
        408 | 423 | 425 | 429 | 500 | 502..=504 | 509 | 520..=599 => again(),
        400 if matches!(code, "RequestTimeout" | "BadDigest" | "XAmzContentSHA256Mismatch") => {
            again()
        }
        _ => Verdict::Final(refusal()),
    }
}

/// Whether a refusal to delete comes from a lock on the object and not from missing rights.
fn is_lock(answer: &Answer) -> bool {
    let text = format!("{} {}", answer.code, answer.message).to_ascii_lowercase();
    [
        "object lock",
        "objectlock",
        "worm",
        "retention",
        "legal hold",
        "legalhold",
        "immutab",
        "locked",
    ]
    .iter()
    .any(|word| text.contains(word))
}

fn moved(answer: &Answer, place: &Place) -> StoreError {
    let (what, name) = (place.kind.container(), &place.container);
    let text = match (&answer.region, place.kind) {
        (Some(region), Kind::S3) => format!("the {what} `{name}` is in the region `{region}`"),
        (None, Kind::S3) => format!("the {what} `{name}` is in another region"),
        _ => format!("the {what} `{name}` sends us elsewhere; name the place it sends to"),
    };
    StoreError::Location(text)
}

/// How far the clock of this machine is off, in words.
fn skew(date: Option<i64>, now: Time) -> String {
    let Some(date) = date else { return "the clock of this machine is wrong".to_owned() };
    let (by, side) = match now.seconds.saturating_sub(date) {
        ahead @ 0.. => (ahead, "ahead of"),
        behind => (behind.saturating_neg(), "behind"),
    };
    let by = match by {
        0..=119 => format!("{by} s"),
        120..=7_199 => format!("{} min", by / 60),
        7_200..=172_799 => format!("{} h", by / 3_600),
        _ => format!("{} days", by / 86_400),
    };
    format!("the clock of this machine is {by} {side} the store's")
}

/// What the store said, in one line.
fn said(status: u16, answer: &Answer) -> String {
    let mut text = format!("it answers {status}");
    for more in [&answer.code, &answer.message] {
        if !more.is_empty() {
            text.push_str(if text.contains(':') { ", " } else { ": " });
            text.push_str(more);
        }
    }
    text
}

/// The root of an error. What stands above it may show addresses with signatures.
fn innermost(error: &object_store::Error) -> String {
    let mut text = "its answer makes no sense".to_owned();
    let mut next = error.source();
    while let Some(cause) = next {
        text = cause.to_string();
        next = cause.source();
    }
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect()
}

fn locked(name: &ObjectName, place: &Place, source: io::Error) -> StoreError {
    StoreError::Locked { name: name.clone(), location: place.to_string(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> ObjectName {
        ObjectName::parse("packs/x").expect("a name")
    }

    fn verdict(task: Task<'_>, status: u16, code: &str, message: &str) -> Verdict {
        let answer = Answer {
            status: Some(status),
            code: code.to_owned(),
            message: message.to_owned(),
            date: Some(1_000_000),
            region: Some("eu-1".to_owned()),
            ..Answer::default()
        };
        judged(task, &answer)
    }

    fn judged(task: Task<'_>, answer: &Answer) -> Verdict {
        let error = object_store::Error::NotImplemented {
            operation: "x".to_owned(),
            implementer: "y".to_owned(),
        };
        let place = Place::parse("s3://b/p").expect("a place");
        judge(error.into(), answer, task, &place, Time::new(1_086_400, 0))
    }

    fn message(verdict: Verdict) -> String {
        let Verdict::Final(error) = verdict else { panic!("{verdict:?}") };
        match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        }
    }

    #[test]
    fn each_right_that_is_missing_is_named() {
        let name = name();
        for (task, what) in [
            (Task::Put(&name), "write `packs/x`"),
            (Task::Get(&name), "read `packs/x`"),
            (Task::List("packs"), "list `packs`"),
            (Task::Delete(&name), "delete `packs/x`"),
        ] {
            let text = message(verdict(task, 403, "AccessDenied", "Access Denied"));
            let said = "it answers 403: AccessDenied, Access Denied";
            assert_eq!(text, format!("s3://b/p refuses to {what}: {said}"));
        }
    }

    #[test]
    fn what_is_wrong_with_the_place_is_said() {
        let name = name();
        let text = message(verdict(Task::Put(&name), 404, "NoSuchBucket", ""));
        assert_eq!(text, "there is no bucket `b`");
        for (status, code) in
            [(301, ""), (301, "PermanentRedirect"), (400, "AuthorizationHeaderMalformed")]
        {
            let text = message(verdict(Task::List(""), status, code, ""));
            assert_eq!(text, "the bucket `b` is in the region `eu-1`");
        }
        let text = message(verdict(Task::List(""), 403, "RequestTimeTooSkewed", ""));
        assert!(text.ends_with("the clock of this machine is 24 h ahead of the store's"), "{text}");
    }

    #[test]
    fn states_of_objects_and_stores_have_their_own_errors() {
        let name = name();
        let is = |verdict, good: fn(&StoreError) -> bool| {
            let Verdict::Final(error) = verdict else { panic!("{verdict:?}") };
            assert!(good(&error), "{error}");
        };
        let lock = "Access Denied because object protected by object lock.";
        is(verdict(Task::Delete(&name), 403, "AccessDenied", lock), |error| {
            matches!(error, StoreError::Locked { .. })
        });
        is(verdict(Task::Put(&name), 403, "QuotaExceeded", ""), |error| {
            matches!(error, StoreError::NoSpace { .. })
        });
        is(verdict(Task::Put(&name), 507, "", ""), |e| matches!(e, StoreError::NoSpace { .. }));
        is(verdict(Task::Get(&name), 403, "InvalidObjectState", ""), |error| {
            matches!(error, StoreError::Archived { .. })
        });
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        let name = name();
        for status in [408, 409, 423, 429, 500, 502, 503, 504] {
            let verdict = verdict(Task::Put(&name), status, "", "");
            assert!(matches!(verdict, Verdict::Again { .. }), "{status} {verdict:?}");
        }
        for status in [400, 403, 411, 413, 501, 505] {
            let verdict = verdict(Task::Put(&name), status, "Other", "");
            assert!(matches!(verdict, Verdict::Final(_)), "{status} {verdict:?}");
        }
        for (status, code) in [(400, "ExpiredToken"), (403, "ExpiredToken"), (401, ""), (403, "")] {
            let verdict = verdict(Task::Get(&name), status, code, "");
            assert!(matches!(verdict, Verdict::Renew(_)), "{status} {verdict:?}");
        }
        let cut =
            Answer { status: Some(200), broken: Some("reset".to_owned()), ..Answer::default() };
        assert!(matches!(judged(Task::Get(&name), &cut), Verdict::Again { .. }));
        let tls =
            Answer { broken: Some("invalid peer certificate".to_owned()), ..Answer::default() };
        assert!(matches!(judged(Task::Get(&name), &tls), Verdict::Final(StoreError::Io { .. })));
    }
}
