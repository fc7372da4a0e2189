//! A new key on its way into a slot: password or key file, and what becomes of a replaced file.
//!
//! A key file is durable before its slot is stored, and stands in its usual place before an older
//! slot goes: at every moment something at hand opens the repository.

use std::path::{Path, PathBuf};

use volume_vault::crypto::KdfParams;
use volume_vault::id::{SlotId, hex};
use volume_vault::repo::{RepoError, Repository, Secret, add_slot, unlock};

use super::context::Context;
use super::error::{CliError, Kind};
use super::key::NewKeyArgs;
use super::open::{make_key_file, to_secret};
use super::secret::read_key_file;

/// A secret that is about to get a slot.
pub(super) struct NewKey {
    secret: Secret,
    /// The key file that was made for it, and where it is to be in the end.
    made: Option<(PathBuf, PathBuf)>,
}

impl NewKey {
    /// Reads, asks for or makes a key, as the flags say; slot `replaced` is to go for it.
    pub(super) fn obtain(
        context: &Context,
        repo: &Repository,
        args: NewKeyArgs,
        replaced: Option<SlotId>,
    ) -> Result<Self, CliError> {
        let NewKeyArgs { new_password_file, new_password_command, new_key_file } = args;
        let named = new_key_file.map(|path| context.current_dir().join(path));
        if let Some(path) = named.as_ref().filter(|path| is_free(path)) {
            return Self::make(repo, path, path);
        }
        let new = context.new_credentials(named, new_password_file, new_password_command);
        if let Some(credential) = new.new_slot()? {
            return Ok(Self { secret: to_secret(credential)?, made: None });
        }
        let usual = new.key_file_of(&repo.id());
        if !is_free(&usual) && opens(&usual, repo)?.is_some_and(|slot| replaced != Some(slot)) {
            let message = format!("key file `{}` is in use", usual.display());
            return Err(CliError::new(Kind::Refused, message)
                .hint("name one to be made, with `--new-key-file FILE`"));
        }
        // Where it is looked for it stands only when it opens something.
        let salt = volume_vault::crypto::fresh_salt()
            .map_err(|error| CliError::wrap(Kind::Failed, error))?;
        let beside = usual.with_extension(format!("new-{}", hex(&salt[..4])));
        Self::make(repo, &beside, &usual)
    }

    fn make(repo: &Repository, path: &Path, target: &Path) -> Result<Self, CliError> {
        let secret = Secret::KeyFile(make_key_file(path, &repo.id())?);
        Ok(Self { secret, made: Some((path.to_owned(), target.to_owned())) })
    }

    /// Gives it a slot, which is read back.
    pub(super) fn store(
        &self,
        context: &Context,
        repo: &Repository,
        label: Option<&str>,
    ) -> Result<SlotId, CliError> {
        let stored = add_slot(
            &**repo.store(),
            &repo.id(),
            repo.master(),
            &self.secret,
            KdfParams::DEFAULT,
            label.unwrap_or(self.secret.name()),
            context.now().seconds,
        );
        if let (Err(_), Some((path, _))) = (&stored, &self.made) {
            let _ = std::fs::remove_file(path);
        }
        Ok(stored?)
    }

    /// Brings a key file that was made to its place, now that it has a slot; says where that is.
    pub(super) fn settle(&self, repo: &Repository) -> Result<Option<PathBuf>, CliError> {
        let Some((path, target)) = &self.made else { return Ok(None) };
        if path == target {
            return Ok(Some(target.clone()));
        }
        if !is_free(target) {
            // An old copy of the repository still opens with the old key. The link first: at no
            // moment is there nothing in the usual place.
            let aside = name_aside(target, repo)?;
            std::fs::hard_link(target, &aside).map_err(|error| {
                let message = format!("keep `{}` as `{}`", target.display(), aside.display());
                CliError::new(Kind::Failed, message).because(error)
            })?;
        }
        rename(path, target)?;
        Ok(Some(target.clone()))
    }
}

/// Sets the usual key file aside if it opens nothing any more: it would be tried before anything
/// else.
pub(super) fn retire_key_file(context: &Context, repo: &Repository) -> Result<(), CliError> {
    let path = context.new_credentials(None, None, None).key_file_of(&repo.id());
    if !path.exists() {
        return Ok(());
    }
    // One that cannot be read is not ours to judge.
    if matches!(opens(&path, repo), Ok(None)) {
        let aside = name_aside(&path, repo)?;
        rename(&path, &aside)?;
        let message = format!("the key file that was in use is now {}", aside.display());
        context.output.remark(&message);
    }
    Ok(())
}

/// The slot that a key file opens.
fn opens(path: &Path, repo: &Repository) -> Result<Option<SlotId>, CliError> {
    let secret = to_secret(read_key_file(path)?)?;
    match unlock(&**repo.store(), &repo.id(), &secret) {
        Ok((_, slot)) => Ok(Some(slot)),
        Err(RepoError::WrongKey { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A free name for a key file, under which nobody looks for it.
fn name_aside(path: &Path, repo: &Repository) -> Result<PathBuf, CliError> {
    let slot = repo.slot().short();
    let mut names = (0u32..1000).map(|n| path.with_extension(format!("key.replaced-{slot}-{n}")));
    names.find(|aside| is_free(aside)).ok_or_else(|| {
        CliError::new(Kind::Failed, format!("no name is left beside `{}`", path.display()))
    })
}

fn rename(from: &Path, to: &Path) -> Result<(), CliError> {
    let renamed = std::fs::rename(from, to).and_then(|()| {
        let folder = to.parent().unwrap_or(Path::new("/"));
        std::fs::File::open(folder)?.sync_all()
    });
    renamed.map_err(|error| {
        let message = format!("rename `{}` to `{}`", from.display(), to.display());
        CliError::new(Kind::Failed, message).because(error)
    })
}

/// Whether nothing is there; a link that leads nowhere is something.
fn is_free(path: &Path) -> bool {
    path.symlink_metadata().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_leads_nowhere_is_no_free_place() {
        let dir = tempfile::tempdir().expect("a directory");
        let link = dir.path().join("link");
        assert!(is_free(&link));
        std::os::unix::fs::symlink("nowhere", &link).expect("a link");
        assert!(!is_free(&link));
    }
}
