//! Copies one file or directory tree out of a snapshot to a place where there is nothing yet.

use std::io::ErrorKind;

use super::error::OpsError;
use super::list::{Lookup, first_name, look_up};
use super::restore::{RestoreReport, RestoreRun, SelectedWalk, restore_tree, write_content};
use crate::clock::Clock;
use crate::crypto::random_bytes;
use crate::entry::{Entry, EntryPath, Kind};
use crate::format::Item;
use crate::id::hex;
use crate::repo::RepoError;
use crate::sink::{DirectoryOptions, SinkError, Spot, Staging};

/// The name of what is copied as long as it is not complete, unless it is a directory.
const INNER: &[u8] = b"copy";

/// Copies what `item` holds at `path` to `spot`, with all below it.
///
/// It shows there once it is complete; before that it lies in a directory beside, whose name
/// begins with `.vault-cp-`, and which goes if the copy fails. Files of a tree that cannot be had
/// are left out and whoever watches is told.
///
/// Errors: [`OpsError`]; what is asked for alone and cannot be had is one.
pub fn copy_out(
    run: &RestoreRun<'_>,
    item: &Item,
    path: &EntryPath,
    spot: Spot,
    options: DirectoryOptions,
) -> Result<RestoreReport, OpsError> {
    let Lookup::Found(stored) = look_up(run.reader, item, path)? else {
        return Err(OpsError::NotFound(format!("no `{path}` in `{}`", item.name)));
    };
    let tag = random_bytes::<8>().map_err(RepoError::from)?;
    let staging = Staging::create(spot, &format!(".vault-cp-{}", hex(&tag)))?;
    let sink = staging.directory(options, run.observer.clone())?;
    if stored.entry.is_directory() {
        let walk = SelectedWalk::below(run.reader, item, path.clone());
        let report = restore_tree(run, walk, Box::new(sink))?;
        run.interrupt.check()?;
        staging.publish()?;
        return Ok(report);
    }
    let inner = EntryPath::root().child(INNER).expect("because it is a plain name");
    let walk = SelectedWalk::alone(run.reader, item, path.clone(), inner, private());
    let report = restore_tree(run, walk, Box::new(sink))?;
    run.interrupt.check()?;
    if report.damaged > 0 {
        // Whoever watches has been told; what is to blame decides how the program ends.
        let whole = first_name(run.reader, item, stored)?;
        write_content(run, &whole.content, &mut |_| Ok(()))?;
        return Err(left_out(path));
    }
    match staging.publish_only(INNER) {
        Err(SinkError::Target { source, .. }) if source.kind() == ErrorKind::NotFound => {
            Err(left_out(path))
        }
        published => Ok(published.map(|()| RestoreReport { entries: 1, ..report })?),
    }
}

fn left_out(path: &EntryPath) -> OpsError {
    let source = std::io::Error::other("it could not be brought back");
    OpsError::Io { action: format!("copy `{path}`"), source }
}

/// What holds a single thing until it is complete.
fn private() -> Entry {
    Entry {
        kind: Kind::Directory,
        mode: 0o700,
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        mtime: Clock::System.now(),
        xattrs: Vec::new(),
        link: None,
    }
}
