//! Every failure on its way to the user: kind, exit code, object, advice.
//!
//! Only this floor advises. Exit codes and kind names are stable interface (`docs/exit-codes.md`).

mod docker;

use std::error::Error;
use std::fmt;
use std::io::ErrorKind;

use volume_vault::config::ConfigError;
use volume_vault::format::{FormatError, SlotError};
use volume_vault::ops::OpsError;
use volume_vault::ops::agent::LinkError;
use volume_vault::repo::RepoError;
use volume_vault::sink::SinkError;
use volume_vault::source::{ReadError, SourceError};
use volume_vault::store::StoreError;

/// How a verb that was not stopped by an error ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExitCode {
    /// All of it was done.
    Done,
    /// `doctor` found something that would make a backup or restore fail.
    Failed,
    /// It was done, but something was skipped or could not be read.
    Skipped,
    /// `check` found damage, and has named it.
    Damaged,
}

impl ExitCode {
    /// The number the process ends with.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Skipped => 3,
            Self::Damaged => 13,
        }
    }
}

/// The kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Anything without a kind of its own.
    Failed,
    /// The command line, environment or configuration makes no sense.
    Usage,
    /// A name fits several things.
    Ambiguous,
    /// There is no repository, or none that is meant.
    NoRepository,
    /// The password or key opens no slot.
    WrongKey,
    /// The repository is not what was written.
    Damaged,
    /// The repository is older than what was seen of it before.
    RolledBack,
    /// It would overwrite something, the target is in use, or it needs `--yes`.
    Refused,
    /// No such source, snapshot, volume or path.
    NotFound,
    /// A host or store does not answer.
    Unreachable,
    /// A signal stopped it.
    Interrupted,
    /// Whoever read standard output has gone; nothing is printed about it.
    OutputClosed,
}

impl Kind {
    /// The number the process ends with.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Failed | Self::OutputClosed => 1,
            Self::Usage | Self::Ambiguous => 2,
            Self::NoRepository => 10,
            Self::WrongKey => 12,
            Self::Damaged | Self::RolledBack => 13,
            Self::Refused => 14,
            Self::NotFound => 15,
            Self::Unreachable => 16,
            Self::Interrupted => 130,
        }
    }

    /// The name of the kind in JSON.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::Ambiguous => "ambiguous",
            Self::NoRepository => "no_repository",
            Self::WrongKey => "wrong_key",
            Self::Damaged => "damaged",
            Self::RolledBack => "rolled_back",
            Self::Refused => "refused",
            Self::NotFound => "not_found",
            Self::Unreachable => "unreachable",
            Self::Interrupted => "interrupted",
            Self::OutputClosed => "output_closed",
        }
    }

    /// What to try next, where nothing more exact is known.
    fn advice(self) -> Option<&'static str> {
        match self {
            Self::Failed | Self::OutputClosed => None,
            Self::Usage => Some("`vault help COMMAND` shows the flags, with worked examples"),
            Self::Ambiguous => Some("name it more exactly: HOST/SOURCE@TIME, or more of the id"),
            Self::NoRepository => {
                Some("name one with `--repo URL` or VAULT_REPO, or make one with `vault init URL`")
            }
            Self::WrongKey => Some(
                "check --password-file, --key-file and VAULT_PASSWORD; `vault key test` tries \
                 without changing anything",
            ),
            Self::Damaged => Some(
                "`vault check` names what is damaged; snapshots that do not use it still restore",
            ),
            Self::RolledBack => Some(
                "somebody may have put back an old copy of the repository; compare `vault \
                 snapshots` with what you expect before you trust it",
            ),
            Self::Refused => None,
            Self::NotFound => Some("`vault snapshots` and `docker volume ls` list what there is"),
            Self::Unreachable => Some("nothing was lost; try again, or see `vault doctor`"),
            Self::Interrupted => Some("what was stored is kept and used by the next run"),
        }
    }
}

/// A failure with all that is said about it.
#[derive(Debug)]
pub(crate) struct CliError {
    kind: Kind,
    message: String,
    object: Option<String>,
    hint: Option<String>,
    /// What was done before it, as fields of the document.
    done: Option<Box<serde_json::Value>>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl CliError {
    /// A failure; `message` is a lower-case fragment naming the object.
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { kind, message, object: None, hint: None, done: None, source: None }
    }

    /// A mistake on the command line.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// Wraps a library error: its own text becomes the message, its sources the chain.
    pub(crate) fn wrap<E: Error + Send + Sync + 'static>(kind: Kind, error: E) -> Self {
        let message = error.to_string();
        let source: Box<dyn Error + Send + Sync> = Box::new(Outer(error));
        Self { kind, message, object: None, hint: None, done: None, source: Some(source) }
    }

    /// Names the object for machines: an id, a volume, a path.
    pub(crate) fn object(mut self, object: impl Into<String>) -> Self {
        self.object = Some(object.into());
        self
    }

    /// Says what to try, instead of the advice for the kind.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says what to try, if there is anything to say.
    pub(crate) fn hint_if(self, hint: Option<String>) -> Self {
        match hint {
            Some(hint) => self.hint(hint),
            None => self,
        }
    }

    /// Says what was done all the same: fields, beside `error`, of the one document.
    pub(crate) fn after(mut self, done: serde_json::Value) -> Self {
        self.done = Some(Box::new(done));
        self
    }

    /// Gives the cause.
    pub(crate) fn because<E: Error + Send + Sync + 'static>(mut self, cause: E) -> Self {
        self.source = Some(Box::new(cause));
        self
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// The number the process ends with.
    pub(crate) fn code(&self) -> u8 {
        self.kind.code()
    }

    pub(crate) fn done(&self) -> Option<&serde_json::Value> {
        self.done.as_deref()
    }

    pub(crate) fn object_name(&self) -> Option<&str> {
        self.object.as_deref()
    }

    pub(crate) fn advice(&self) -> Option<&str> {
        self.hint.as_deref().or_else(|| self.kind.advice())
    }

    /// The messages of the causes, from the nearest to the root; at most 20, none said twice.
    pub(crate) fn causes(&self) -> Vec<String> {
        let mut causes: Vec<String> = Vec::new();
        let mut next: Option<&(dyn Error + 'static)> =
            self.source.as_deref().map(|source| source as &(dyn Error + 'static));
        while let Some(cause) = next {
            let text = cause.to_string();
            let said = causes.last().unwrap_or(&self.message);
            if *said != text && causes.len() < 20 {
                causes.push(text);
            }
            next = cause.source();
        }
        causes
    }

    /// Message and causes in one line.
    pub(crate) fn one_line(&self) -> String {
        let mut line = self.message.clone();
        for cause in self.causes() {
            line.push_str(": ");
            line.push_str(&cause);
        }
        line
    }
}

/// Carries a wrapped library error; [`CliError::causes`] leaves out its text, which is the
/// message already.
#[derive(Debug)]
struct Outer<E>(E);

impl<E: Error> fmt::Display for Outer<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl<E: Error> Error for Outer<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

/// `error: …`, a line for each cause, then the advice.
impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        for cause in self.causes() {
            write!(f, "\n  caused by: {cause}")?;
        }
        match self.advice() {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::NotFound(_) | StoreError::Size { .. } => Self::wrap(Kind::Damaged, error),
            StoreError::NoSpace { .. } => {
                Self::wrap(Kind::Failed, error).hint("free some space and run it again")
            }
            StoreError::Denied { location, .. } if location.contains("://") => {
                Self::wrap(Kind::Failed, error)
                    .hint("check the credentials and what they may do; `vault doctor` tries each")
            }
            StoreError::Denied { .. } => Self::wrap(Kind::Failed, error)
                .hint("run as the user who owns the repository, or see `vault doctor`"),
            StoreError::Locked { .. } => Self::wrap(Kind::Failed, error)
                .hint("nothing is wrong: it can go when the lock has run out"),
            StoreError::Archived { .. } => Self::wrap(Kind::Failed, error).hint(
                "have the store bring its objects back (restore, rehydrate), then run it again; \
                 backups belong in a class that is read at once",
            ),
            StoreError::Io { source, .. } if source.kind() == ErrorKind::Interrupted => {
                Self::wrap(Kind::Interrupted, error)
            }
            StoreError::Io { .. } => Self::wrap(Kind::Unreachable, error),
            StoreError::Location(_) | StoreError::Absent(_) => {
                Self::wrap(Kind::NoRepository, error)
            }
        }
    }
}

impl From<SourceError> for CliError {
    fn from(error: SourceError) -> Self {
        let kind = match &error {
            SourceError::Root { source, .. } if source.kind() == ErrorKind::NotFound => {
                Kind::NotFound
            }
            // So says the stream of an engine that went away.
            SourceError::Stream { source: Some(cause), .. }
                if cause
                    .downcast_ref::<std::io::Error>()
                    .is_some_and(|error| error.kind() == ErrorKind::ConnectionAborted) =>
            {
                Kind::Unreachable
            }
            _ => Kind::Failed,
        };
        let wrapped = Self::wrap(kind, error);
        match kind {
            Kind::Unreachable => wrapped.hint("nothing was acknowledged; run it again"),
            _ => wrapped,
        }
    }
}

impl From<ReadError> for CliError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Source(error) => error.into(),
            ReadError::Entry(..) => Self::wrap(Kind::Failed, error),
        }
    }
}

impl From<SinkError> for CliError {
    fn from(error: SinkError) -> Self {
        match &error {
            SinkError::Refused(_) => Self::wrap(Kind::Refused, error),
            SinkError::Target { source, .. } if source.kind() == ErrorKind::BrokenPipe => {
                Self::wrap(Kind::OutputClosed, error)
            }
            SinkError::Target { source, .. } | SinkError::Entry { source, .. }
                if source.kind() == ErrorKind::StorageFull =>
            {
                Self::wrap(Kind::Failed, error)
                    .hint("free some space at the target; nothing of the snapshot is lost")
            }
            _ => Self::wrap(Kind::Failed, error),
        }
    }
}

impl From<RepoError> for CliError {
    fn from(error: RepoError) -> Self {
        match error {
            RepoError::Store(error) => error.into(),
            RepoError::Format(FormatError::Newer { .. })
            | RepoError::Object { source: FormatError::Newer { .. }, .. } => {
                Self::wrap(Kind::Failed, error).hint("use a newer vault for this repository")
            }
            RepoError::NoRepository(_) => Self::wrap(Kind::NoRepository, error)
                .hint("name another with `--repo`, or make one there with `vault init`"),
            RepoError::Refused(_) => Self::wrap(Kind::Refused, error),
            RepoError::WrongKey { .. } => Self::wrap(Kind::WrongKey, error),
            RepoError::Slot(SlotError::WrongSecret | SlotError::OtherKind) => {
                Self::wrap(Kind::WrongKey, error)
            }
            RepoError::Object { .. }
            | RepoError::Chunk { .. }
            | RepoError::Frame { .. }
            | RepoError::Format(_)
            | RepoError::Slot(_)
            | RepoError::RunSeal(_) => Self::wrap(Kind::Damaged, error).hint(
                "`vault check --read-data` finds all damage and names what it touches; \
                     `vault repair` makes whole what can be",
            ),
            RepoError::Gone { .. } => Self::wrap(Kind::Damaged, error)
                .hint("a collection ran meanwhile; run the same again, it reads the index anew"),
            RepoError::NotCollected { ref object, .. } => {
                let object = object.clone();
                Self::wrap(Kind::Damaged, error).object(object.clone()).hint(repair_of(&object))
            }
            RepoError::RolledBack(_) => Self::wrap(Kind::RolledBack, error)
                .hint("if an older copy was put there on purpose, remove this host's state of it"),
            RepoError::NotCommitted { .. } => Self::wrap(Kind::Failed, error),
            RepoError::NoSnapshot(_) => Self::wrap(Kind::NotFound, error),
            RepoError::Ambiguous(_) => Self::wrap(Kind::Ambiguous, error),
            RepoError::Interrupted => Self::wrap(Kind::Interrupted, error),
            RepoError::Random(_) | RepoError::Local { .. } | RepoError::Worker => {
                Self::wrap(Kind::Failed, error)
            }
        }
    }
}

/// The way out where a collector refuses because of an object.
fn repair_of(object: &str) -> &'static str {
    match object.split_once('/').map_or(object, |(folder, _)| folder) {
        "index" => "`vault repair index` makes a new segment that stands for it",
        "packs" => {
            "`vault repair packs` sets it aside and the next backups heal what they can; `vault \
             repair snapshots --forget` gives up what is lost for good"
        }
        "snapshots" => {
            "`vault repair snapshots --forget` salvages what can be had of it; `--expire-pending \
             0s` lets go of a backup that never came to its end"
        }
        "forget" => "`vault repair snapshots` says again that the snapshot stays, if it is whole",
        "gc" => "put the object back from another copy of the repository",
        _ => {
            "`vault repair index` looks for it in packs that no segment names; a backup may store \
             it once more; `vault repair snapshots --forget` gives up what is lost for good"
        }
    }
}

impl From<OpsError> for CliError {
    fn from(error: OpsError) -> Self {
        match error {
            OpsError::Repo(error) => error.into(),
            OpsError::Source(error) => error.into(),
            OpsError::Sink(error) => error.into(),
            OpsError::Docker(error) => error.into(),
            OpsError::Selection(_) => Self::wrap(Kind::Usage, error),
            OpsError::NotFound(_) => Self::wrap(Kind::NotFound, error),
            OpsError::Refused(_) => Self::wrap(Kind::Refused, error),
            OpsError::Interrupted => Self::wrap(Kind::Interrupted, error)
                .hint("nothing is half done; run it again, it goes on where it can"),
            OpsError::Agent { source: LinkError::Io(_), .. } => {
                Self::wrap(Kind::Unreachable, error)
            }
            OpsError::Io { .. } | OpsError::Agent { .. } => Self::wrap(Kind::Failed, error),
        }
    }
}

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> Self {
        let kind = match &error {
            ConfigError::Io { .. } => Kind::Failed,
            ConfigError::Syntax { .. } | ConfigError::Content { .. } => Kind::Usage,
        };
        Self::wrap(kind, error).hint("`--config FILE` reads another configuration file")
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn disk_full() -> StoreError {
        StoreError::Io {
            action: "write `packs/aa`".to_owned(),
            location: "/srv/r".to_owned(),
            source: io::Error::other("link is down"),
        }
    }

    #[test]
    fn an_error_prints_message_causes_and_hint() {
        let error = CliError::from(disk_full());
        assert_eq!(
            error.to_string(),
            "error: write `packs/aa` in /srv/r\n  caused by: link is down\n  hint: nothing was \
             lost; try again, or see `vault doctor`"
        );
        assert_eq!(error.one_line(), "write `packs/aa` in /srv/r: link is down");
        assert_eq!(error.code(), 16);
    }

    #[test]
    fn a_cause_given_by_hand_is_printed() {
        let error = CliError::new(Kind::Failed, "read password").because(io::Error::other("gone"));
        assert_eq!(error.causes(), ["gone"]);
    }

    #[test]
    fn exit_codes_are_those_of_the_documentation() {
        let page = include_str!("../../docs/exit-codes.md");
        let row = |code: u8, name: &str| {
            let start = format!("| {code} | `{name}`");
            assert!(page.lines().any(|line| line.starts_with(&start)), "no line `{start}`");
        };
        let kinds = [
            Kind::Failed,
            Kind::OutputClosed,
            Kind::Usage,
            Kind::Ambiguous,
            Kind::NoRepository,
            Kind::WrongKey,
            Kind::Damaged,
            Kind::RolledBack,
            Kind::Refused,
            Kind::NotFound,
            Kind::Unreachable,
            Kind::Interrupted,
        ];
        for kind in kinds {
            row(kind.code(), kind.name());
        }
        for (end, name) in [
            (ExitCode::Done, "done"),
            (ExitCode::Failed, "failed"),
            (ExitCode::Skipped, "skipped"),
            (ExitCode::Damaged, "damaged"),
        ] {
            row(end.code(), name);
        }
    }

    #[test]
    fn what_a_closed_reader_causes_is_told_from_other_failures() {
        let failure = |kind: ErrorKind| SinkError::Target {
            target: "standard output".to_owned(),
            source: kind.into(),
        };
        let kind = |error: SinkError| CliError::from(error).kind();
        assert_eq!(kind(failure(ErrorKind::BrokenPipe)), Kind::OutputClosed);
        assert_eq!(kind(failure(ErrorKind::StorageFull)), Kind::Failed);
        assert_eq!(kind(SinkError::Refused("in use".to_owned())), Kind::Refused);
    }
}
