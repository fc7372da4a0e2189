//! Opens the repository that is meant, or makes the embedded one where that is right.

use std::fs::OpenOptions;
use std::io::{IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use volume_vault::crypto::Key;
use volume_vault::format::{Bootstrap, StoreFacts};
use volume_vault::id::RepositoryId;
use volume_vault::ops::copy::check_different;
use volume_vault::repo::{
    Dirs, InitOptions, RecoveryCode, Repository, Secret, add_slot, init, read_key_file,
    write_key_file,
};
use volume_vault::store::{self, Store, StoreError};
use zeroize::Zeroizing;

use super::context::Context;
use super::error::{CliError, Kind};
use super::output::is_interactive;
use super::prompt::{Echo, prompt};
use super::repository::Choice;
use super::secret::{Credential, Credentials, SECRET_LEN_MAX, read_all};

/// An open repository. With `--no-cache` its cache goes when this does.
pub(crate) struct Opened {
    /// The repository.
    pub(crate) repo: Arc<Repository>,
    temporary: Option<PathBuf>,
}

impl std::ops::Deref for Opened {
    type Target = Arc<Repository>;

    fn deref(&self) -> &Arc<Repository> {
        &self.repo
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        if let Some(folder) = &self.temporary {
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

/// Opens the repository that flags, environment or configuration mean.
///
/// Errors: no repository, wrong key, damaged.
pub(crate) fn open(context: &Context) -> Result<Opened, CliError> {
    let choice = context.repository()?;
    let store = open_store(context, &choice)?;
    open_in(context, &choice, store)
}

/// As [`open`], for a verb that may make the embedded repository on first use.
pub(crate) fn open_or_create(context: &Context) -> Result<Opened, CliError> {
    let choice = context.repository()?;
    if !choice.may_create {
        return open(context);
    }
    let store = store::create_with(&choice.location()?, &context.access)?;
    let made = make(context, &*store, None, None)?;
    announce(context, &choice, &made);
    let opened = open_in(context, &choice, store)?;
    offer_recovery_code(context, &opened)?;
    Ok(opened)
}

/// The store of a repository that should be there.
pub(crate) fn open_store(context: &Context, choice: &Choice) -> Result<Arc<dyn Store>, CliError> {
    store::open_with(&choice.location()?, &context.access).map_err(|error| match error {
        StoreError::Absent(_) => CliError::wrap(Kind::NoRepository, error)
            .hint("name another with `--repo`, or make one there with `vault init`"),
        other => other.into(),
    })
}

/// As [`open`], with a secret that is at hand.
pub(crate) fn open_with(context: &Context, secret: &Secret) -> Result<Opened, CliError> {
    let store = open_store(context, &context.repository()?)?;
    let head = Repository::probe(&*store)?;
    unlock_in(context, store, head, secret)
}

/// Opens a repository beside `first`, which is another one.
///
/// Errors: as [`open`]; refused, before any password is asked for, if it is the same.
pub(crate) fn open_other(
    context: &Context,
    choice: &Choice,
    credentials: &Credentials,
    first: &Repository,
) -> Result<Opened, CliError> {
    let no_other = |error: CliError| match error.kind() {
        Kind::NoRepository => error.hint(format!("make it first: `vault init {}`", choice.url)),
        _ => error,
    };
    let store = open_store(context, choice).map_err(no_other)?;
    let head = Repository::probe(&*store).map_err(|error| no_other(error.into()))?;
    check_different(first.id(), head.repository)?;
    let secret = to_secret(credentials.existing(&head.repository)?)?;
    unlock_in(context, store, head, &secret).map_err(|error| match error.kind() {
        Kind::WrongKey => error.hint(
            "check --to-password-file, --to-key-file and VAULT_TO_PASSWORD: those without `to` \
             are for the repository that is copied from",
        ),
        _ => error,
    })
}

fn open_in(context: &Context, choice: &Choice, store: Arc<dyn Store>) -> Result<Opened, CliError> {
    let head = Repository::probe(&*store)?;
    let secret = to_secret(context.credentials(choice).existing(&head.repository)?)?;
    unlock_in(context, store, head, &secret)
}

fn unlock_in(
    context: &Context,
    store: Arc<dyn Store>,
    head: Bootstrap,
    secret: &Secret,
) -> Result<Opened, CliError> {
    let (dirs, temporary) = dirs(context)?;
    let repo = Repository::open_probed(store, head, secret, &dirs);
    let opened = repo.map(|repo| Opened { repo: Arc::new(repo), temporary: temporary.clone() });
    if opened.is_err()
        && let Some(folder) = temporary
    {
        let _ = std::fs::remove_dir_all(folder);
    }
    Ok(opened?)
}

fn dirs(context: &Context) -> Result<(Dirs, Option<PathBuf>), CliError> {
    let state = context.places.state.clone();
    if let Some(cache) = &context.cache_dir {
        return Ok((Dirs { cache: cache.clone(), state }, None));
    }
    let salt =
        volume_vault::crypto::fresh_salt().map_err(|error| CliError::wrap(Kind::Failed, error))?;
    let folder = state.join(format!("no-cache-{}", volume_vault::id::hex(&salt[..8])));
    Ok((Dirs { cache: folder.clone(), state }, Some(folder)))
}

/// What a credential opens.
pub(crate) fn to_secret(credential: Credential) -> Result<Secret, CliError> {
    match credential {
        Credential::Password(password) => Ok(Secret::Passphrase(password)),
        Credential::KeyFile { path, content } => match read_key_file(&content) {
            Ok(key) => Ok(Secret::KeyFile(key)),
            Err(error) => {
                let message = format!("read key file `{}`", path.display());
                Err(CliError::new(Kind::WrongKey, message).because(error))
            }
        },
    }
}

/// A repository that was made, and the key file that was made for it.
pub(crate) struct Made {
    /// Its id.
    pub(crate) id: RepositoryId,
    /// Where its key file is, unless a password opens it.
    pub(crate) key_file: Option<PathBuf>,
}

/// Makes a repository that `credential` opens, or else a key file in its usual place, and keeps
/// what was seen of its store.
pub(crate) fn make(
    context: &Context,
    store: &dyn Store,
    credential: Option<Credential>,
    facts: Option<StoreFacts>,
) -> Result<Made, CliError> {
    let mut key_file = None;
    let mut failure = None;
    let options = InitOptions { clock: context.clock, store: facts, ..InitOptions::default() };
    let made = init(store, &options, |id| {
        let secret = match credential {
            Some(credential) => to_secret(credential),
            None => {
                let path = context.places.keys.join(format!("{id}.key"));
                let made = make_key_file(&path, id);
                key_file = Some(path);
                made.map(Secret::KeyFile)
            }
        };
        secret.map_err(|error| {
            let message = error.one_line();
            failure = Some(error);
            volume_vault::repo::RepoError::Refused(message)
        })
    });
    if let Some(error) = failure {
        return Err(error);
    }
    let (id, _) = made?;
    Ok(Made { id, key_file })
}

/// Writes a new key to a file that must not exist, durably and for our eyes only.
pub(crate) fn make_key_file(path: &Path, id: &RepositoryId) -> Result<Key, CliError> {
    let key = Key::random().map_err(|error| CliError::wrap(Kind::Failed, error))?;
    let content = write_key_file(&key, id);
    let folder = path.parent().unwrap_or(Path::new("/"));
    let written = (|| {
        std::fs::create_dir_all(folder)?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(content.as_bytes())?;
        file.sync_all()?;
        std::fs::File::open(folder)?.sync_all()
    })();
    written.map_err(|error: std::io::Error| {
        let message = format!("make key file `{}`", path.display());
        let kind = match error.kind() {
            std::io::ErrorKind::AlreadyExists => Kind::Refused,
            _ => Kind::Failed,
        };
        CliError::new(kind, message).because(error)
    })?;
    Ok(key)
}

fn announce(context: &Context, choice: &Choice, made: &Made) {
    context.output.remark(&format!("made the repository {}", choice.url));
    if let Some(path) = &made.key_file {
        context.output.remark(&format!("its key is {}", path.display()));
    }
    context.output.remark(
        "both lie on this machine: a copy on the same disk is no disaster recovery; \
         `vault init URL --default` names a place elsewhere",
    );
}

/// Shows a recovery code once, if somebody is there to write it down.
pub(crate) fn offer_recovery_code(context: &Context, repo: &Repository) -> Result<(), CliError> {
    if !is_interactive() || context.output.format.is_json() || context.output.quiet {
        let hint = "make a recovery code and lock it away: `vault key recovery`";
        context.output.remark(hint);
        return Ok(());
    }
    let words = add_recovery_code(context, repo)?;
    context.output.remark("recovery code, shown this once; write it down and lock it away:");
    context.output.remark(&format!("\n    {}\n", words.as_str()));
    Ok(())
}

/// Adds a slot for a new recovery code; returns its words.
pub(crate) fn add_recovery_code(
    context: &Context,
    repo: &Repository,
) -> Result<Zeroizing<String>, CliError> {
    let code = RecoveryCode::random().map_err(|error| CliError::wrap(Kind::Failed, error))?;
    let words = code.words();
    let _ = add_slot(
        &**repo.store(),
        &repo.id(),
        repo.master(),
        &Secret::RecoveryCode(code),
        volume_vault::crypto::KdfParams::DEFAULT,
        "recovery code",
        context.now().seconds,
    )?;
    Ok(words)
}

/// The recovery code, from whoever sits at the terminal, or else from standard input.
///
/// Errors: usage, naming the word that cannot be right.
pub(crate) fn ask_recovery_code() -> Result<Secret, CliError> {
    let typed = match std::io::stdin().is_terminal() {
        true => prompt("recovery code: ", Echo::Shown)?,
        false => {
            let read = read_all(std::io::stdin().lock(), SECRET_LEN_MAX);
            let failed =
                |error| CliError::new(Kind::Failed, "read the recovery code").because(error);
            Some(read.map_err(failed)?)
        }
    };
    let typed = typed.unwrap_or_default();
    let text = std::str::from_utf8(&typed)
        .map_err(|_| CliError::usage("what was given is no recovery code"))?;
    let code = RecoveryCode::parse(text).map_err(|error| {
        CliError::usage(error.to_string())
            .hint("it has twelve words of five letters, as `vault key recovery` printed them")
    })?;
    Ok(Secret::RecoveryCode(code))
}
