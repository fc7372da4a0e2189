//! Finds the snapshot that a name means.

use volume_vault::format::{Item, ItemKind};
use volume_vault::near::{did_you_mean, near_names};
use volume_vault::ops::Series;
use volume_vault::repo::{Snapshot, SnapshotList};

use super::context::Context;
use super::engine::{host_name, machine_host};
use super::error::{CliError, Kind};
use super::names::{Selector, SnapshotName, SourceName};

/// The kind and name under which a source's series runs.
pub(crate) fn series_name(source: &SourceName) -> (ItemKind, String) {
    match source {
        SourceName::Volume(name) => (ItemKind::Volume, name.clone()),
        SourceName::Directory(path) => {
            let bytes = path.as_os_str().as_encoded_bytes();
            (ItemKind::Directory, volume_vault::entry::escape(bytes))
        }
        SourceName::Stdin { name } => (ItemKind::Stream, name.clone()),
    }
}

/// The snapshot and item that `name` means.
///
/// Errors: not found, with near names; ambiguous, with the candidates.
pub(crate) fn find<'l>(
    list: &'l SnapshotList,
    name: &SnapshotName,
    context: &Context,
) -> Result<(&'l Snapshot, &'l Item), CliError> {
    let (snapshot, item) = find_snapshot(list, name, context)?;
    match (item, &name.item) {
        (Some(item), None) => Ok((snapshot, item)),
        (_, wanted) => Ok((snapshot, item_of(snapshot, wanted.as_deref())?)),
    }
}

/// The snapshot that `name` means and, where it is named by what is in it, the item of that name.
///
/// Errors: as [`find`].
pub(crate) fn find_snapshot<'l>(
    list: &'l SnapshotList,
    name: &SnapshotName,
    context: &Context,
) -> Result<(&'l Snapshot, Option<&'l Item>), CliError> {
    let in_time = |snapshot: &&Snapshot| name.not_after.is_none_or(|end| snapshot.time() <= end);
    match &name.selector {
        Selector::Latest => {
            let newest = list.snapshots.iter().rev().find(in_time);
            let snapshot = newest.ok_or_else(|| not_found("the repository has no snapshot"))?;
            Ok((snapshot, None))
        }
        Selector::Series { host, source, id_prefix } => {
            let by_id = match id_prefix {
                Some(prefix) => list.by_prefix(prefix)?,
                None => None,
            };
            let series = series_of(list, host.as_deref(), source, context)?;
            match (by_id, series) {
                (Some(snapshot), None) => Ok((snapshot, None)),
                (None, Some(series)) => {
                    let (snapshot, item) = newest_of(list, &series, &in_time, source)?;
                    Ok((snapshot, Some(item)))
                }
                (Some(_), Some(_)) => Err(CliError::new(
                    Kind::Ambiguous,
                    format!("`{source}` is a volume and the start of a snapshot's id"),
                )
                .hint(format!("write `volume:{source}`, or more digits of the id"))),
                (None, None) => Err(unknown(list, source)),
            }
        }
    }
}

fn newest_of<'l>(
    list: &'l SnapshotList,
    series: &Series,
    in_time: &dyn Fn(&&Snapshot) -> bool,
    source: &SourceName,
) -> Result<(&'l Snapshot, &'l Item), CliError> {
    let mut newest = list.snapshots.iter().rev().filter(in_time);
    let found = newest.find_map(|snapshot| {
        let item = snapshot.items().iter().find(|item| Series::of(snapshot, item) == *series);
        Some((snapshot, item?))
    });
    found.ok_or_else(|| not_found(&format!("there is no snapshot of `{source}` that old")))
}

/// The series that a source means: on the host named, else on the current one, else the only one.
fn series_of(
    list: &SnapshotList,
    host: Option<&str>,
    source: &SourceName,
    context: &Context,
) -> Result<Option<Series>, CliError> {
    let (kind, name) = series_name(source);
    let mut found: Vec<Series> = list
        .snapshots
        .iter()
        .flat_map(|snapshot| snapshot.items().iter().map(|item| Series::of(snapshot, item)))
        .filter(|series| series.kind == kind && series.name == name)
        .filter(|series| host.is_none_or(|host| series.host == host))
        .collect();
    found.sort();
    found.dedup();
    if found.len() <= 1 {
        return Ok(found.pop());
    }
    // An engine that does not answer must not keep anybody from what it once saved.
    let here = match kind {
        ItemKind::Volume => host_name(context).ok(),
        ItemKind::Directory | ItemKind::Stream => Some(machine_host(context)),
    };
    match found.iter().position(|series| Some(&series.host) == here.as_ref()) {
        Some(at) => Ok(Some(found.swap_remove(at))),
        None => {
            let hosts: Vec<_> = found.iter().map(|series| series.host.as_str()).collect();
            let message = format!("`{source}` was saved on several hosts: {}", hosts.join(", "));
            Err(CliError::new(Kind::Ambiguous, message)
                .hint(format!("write `{}/{source}`", hosts[0])))
        }
    }
}

/// The item of a snapshot that is meant: the one named, or the only one.
fn item_of<'s>(snapshot: &'s Snapshot, name: Option<&str>) -> Result<&'s Item, CliError> {
    let items = snapshot.items();
    let names = || items.iter().map(|item| item.name.as_str()).collect::<Vec<_>>().join(", ");
    match (name, items) {
        (None, [item]) => Ok(item),
        (None, _) => {
            let message =
                format!("snapshot {} has several items: {}", snapshot.id.short(), names());
            Err(CliError::new(Kind::Ambiguous, message).hint("add `:ITEM`"))
        }
        (Some(name), _) => items.iter().find(|item| item.name == name).ok_or_else(|| {
            let message = format!("snapshot {} has no item `{name}`", snapshot.id.short());
            not_found(&message).hint(format!("it has: {}", names()))
        }),
    }
}

/// The error for a source without snapshots, with near names.
pub(crate) fn unknown(list: &SnapshotList, source: &SourceName) -> CliError {
    let (_, wanted) = series_name(source);
    let items = list.snapshots.iter().flat_map(|snapshot| snapshot.items());
    let names: std::collections::BTreeSet<_> = items.map(|item| item.name.as_str()).collect();
    let near = near_names(&wanted, names.iter().copied());
    not_found(&format!("the repository has no snapshot of `{source}`")).hint_if(did_you_mean(&near))
}

fn not_found(message: &str) -> CliError {
    CliError::new(Kind::NotFound, message)
}
