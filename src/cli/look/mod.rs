//! What the verbs that look into a repository have in common.

mod entry;
mod mask;
mod record;

use std::sync::Arc;

use volume_vault::entry::{EntryPath, Kind as EntryKind, escape};
use volume_vault::format::Item;
use volume_vault::format::Stored;
use volume_vault::near::near_names;
use volume_vault::ops::{Lookup, Missing, look_up};
use volume_vault::repo::{ChunkReader, Snapshot, SnapshotList};

pub(crate) use self::entry::{
    differing, entry_fields, long_line, put_bytes, shown_path, type_name,
};
pub(crate) use self::mask::masked;
pub(crate) use self::record::{SnapshotRow, item_fields, item_source, kind_name, snapshot_fields};

use super::context::Context;
use super::error::{CliError, Kind};
use super::find;
use super::names::{Selector, SnapshotName};
use super::open::{Opened, open};

/// Opened frames that are kept, in bytes: those of trees, mostly.
const CACHE_LEN: usize = 32 << 20;

/// An open repository with its snapshots.
pub(crate) struct Looking {
    /// The repository.
    pub(crate) repo: Opened,
    /// Its snapshots.
    pub(crate) list: SnapshotList,
}

impl Looking {
    /// Opens the repository that is meant and lists its snapshots.
    ///
    /// Errors: those of opening; rolled back.
    pub(crate) fn open(context: &Context) -> Result<Self, CliError> {
        let repo = open(context)?;
        let list = SnapshotList::load(&repo)?;
        Ok(Self { repo, list })
    }

    /// The snapshot and item that `name` means; says so if there are others that cannot be read.
    ///
    /// Errors: those of [`find::find`]; damaged, if it is one that cannot be read.
    pub(crate) fn find(
        &self,
        name: &SnapshotName,
        context: &Context,
    ) -> Result<(&Snapshot, &Item), CliError> {
        self.warn_of_damage(context);
        find::find(&self.list, name, context).map_err(|error| self.or_damaged(name, error))
    }

    /// The snapshot that `name` means, whichever items it has.
    ///
    /// Errors: as [`Looking::find`].
    pub(crate) fn find_snapshot(
        &self,
        name: &SnapshotName,
        context: &Context,
    ) -> Result<&Snapshot, CliError> {
        self.warn_of_damage(context);
        let found = find::find_snapshot(&self.list, name, context);
        found.map(|(snapshot, _)| snapshot).map_err(|error| self.or_damaged(name, error))
    }

    /// Reads from the repository as it is now.
    ///
    /// Errors: an index that cannot be read.
    pub(crate) fn reader(&self) -> Result<Arc<ChunkReader>, CliError> {
        let index = Arc::new(self.repo.load_index()?);
        Ok(Arc::new(ChunkReader::new(&self.repo, &index, CACHE_LEN)))
    }

    fn warn_of_damage(&self, context: &Context) {
        if !self.list.damaged.is_empty() {
            context.output.remark(&format!(
                "warning: {} snapshot records cannot be read; `vault snapshots` names them",
                self.list.damaged.len()
            ));
        }
    }

    /// A snapshot named by its id may be there and unreadable.
    fn or_damaged(&self, name: &SnapshotName, error: CliError) -> CliError {
        let Selector::Series { id_prefix: Some(prefix), .. } = &name.selector else {
            return error;
        };
        let starts = |name: &str| name.starts_with(prefix.as_str());
        let damaged = self.list.damaged.iter().find(|(object, _)| starts(object.base()));
        match damaged {
            Some((object, why)) if error.kind() == Kind::NotFound => {
                let message = format!("snapshot record `{object}` cannot be read: {}", chain(why));
                CliError::new(Kind::Damaged, message).object(object.to_string())
            }
            _ => error,
        }
    }
}

/// Says that somebody put tombstones there that are not the owner's.
pub(crate) fn warn_of_forged(list: &SnapshotList, context: &Context) {
    for name in &list.forged {
        context.output.remark(&format!(
            "warning: `{name}` was not put there by the owner of the repository; it counts for \
             nothing, but somebody writes to the store"
        ));
    }
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

/// Reads a path in a snapshot as it was typed.
///
/// Errors: usage.
pub(crate) fn entry_path(text: &[u8]) -> Result<EntryPath, CliError> {
    EntryPath::from_slashed(text).map_err(|error| {
        let message = format!("`{}` is no path in a snapshot", escape(text));
        CliError::usage(message).because(error).hint("paths begin at the root, without `..`")
    })
}

/// The entry at `path`.
///
/// Errors: not found, with near names or with what stands in the way.
pub(crate) fn entry_at(
    reader: &Arc<ChunkReader>,
    snapshot: &Snapshot,
    item: &Item,
    path: &EntryPath,
) -> Result<Stored, CliError> {
    match look_up(reader, item, path)? {
        Lookup::Found(stored) => Ok(stored),
        Lookup::Missing(missing) => Err(not_there(snapshot, path, &missing)),
    }
}

fn not_there(snapshot: &Snapshot, path: &EntryPath, missing: &Missing) -> CliError {
    let id = snapshot.id.short();
    let error = CliError::new(Kind::NotFound, format!("snapshot {id} has no `{path}`"))
        .object(path.to_string());
    let at = &missing.at;
    match &missing.stored.entry.kind {
        EntryKind::Directory => {}
        EntryKind::Symlink { target } => {
            let target = escape(target);
            return error.hint(format!("`{at}` is a link to `{target}`; links are not followed"));
        }
        kind => return error.hint(format!("`{at}` is no directory but a {}", type_name(kind))),
    }
    let rest = path.below(at).unwrap_or_default();
    let wanted = rest.components().next().map(String::from_utf8_lossy).unwrap_or_default();
    let names = missing.names.iter().filter_map(|name| std::str::from_utf8(name).ok());
    let near: Vec<String> = near_names(&wanted, names)
        .into_iter()
        .filter_map(|name| Some(format!("`{}`", at.child(name.as_bytes()).ok()?)))
        .collect();
    match near.is_empty() {
        true => error.hint(format!("`vault ls {id} '/{at}'` lists what there is")),
        false => error.hint(format!("did you mean {}?", near.join(" or "))),
    }
}
