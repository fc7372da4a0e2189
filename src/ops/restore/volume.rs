//! A Docker volume as the target of a restore.

use std::sync::Arc;

use super::delta::{Extra, restore_over};
use super::{RestoreReport, RestoreRun, marker, restore_tar, restore_to};
use crate::docker::{Access, DockerError, Engine, Helper, MOUNT_NAME, VolumeInfo, VolumeSpec};
use crate::entry::EntryPath;
use crate::event::{Observer, Warning};
use crate::format::Item;
use crate::id::SnapshotId;
use crate::ops::agent::{Link, RemoteSink, chain, start_agent};
use crate::ops::backup::{
    BackupOptions, BackupReport, OpenedVolume, Route, VolumePlan, Way, backup_volume,
    can_do_without, plan_volume, scan,
};
use crate::ops::error::{Interrupt, OpsError};
use crate::repo::{ChunkReader, Repository};
use crate::sink::{Directory, DirectoryOptions, Sink, Special, TarWriterOptions, read_marker};
use crate::source::Selection;

/// The tag of the snapshot of a volume's state before it is overwritten.
pub(super) const SAFETY_TAG: &str = "before-restore";

/// Frames kept open while two trees are compared, in bytes.
pub(super) const COMPARE_CACHE: usize = 32 << 20;

/// What is done with a volume that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// It is left alone: the restore is refused.
    Refuse,
    /// It becomes what the snapshot holds.
    Replace {
        /// What becomes of things the snapshot does not have.
        extra: Extra,
        /// Whether its present state is saved first.
        safety_backup: bool,
    },
}

/// How the target of a restore stands.
#[derive(Debug)]
pub enum VolumeState {
    /// There is none of that name.
    New,
    /// A restore of this snapshot into it was cut short; it is done again.
    Unfinished(Box<VolumeInfo>),
    /// It exists, and is to become what the snapshot holds.
    Existing(Box<VolumePlan>),
}

/// A restore into a volume, looked into but not begun.
#[derive(Debug)]
pub struct VolumeRestore {
    /// The volume's name.
    pub name: String,
    /// The driver that was asked for.
    pub driver: Option<String>,
    /// How the target stands.
    pub state: VolumeState,
}

/// Looks at the target of a restore; makes nothing.
///
/// Errors: [`OpsError::Refused`] if the volume exists and may not be replaced, or is in use.
pub fn plan_volume_restore(
    engine: &Engine,
    snapshot: &SnapshotId,
    item: &Item,
    name: &str,
    driver: Option<String>,
    existing: Existing,
) -> Result<VolumeRestore, OpsError> {
    let info = match engine.volume(name) {
        Ok(info) => info,
        Err(DockerError::NotFound { .. }) => {
            let (name, state) = (name.to_owned(), VolumeState::New);
            return Ok(VolumeRestore { name, driver, state });
        }
        Err(error) => return Err(error.into()),
    };
    refuse_use(engine, name)?;
    let state = match existing {
        // Somebody who made a container for it may have gone on with what was there.
        Existing::Refuse
            if engine.users_of(name)?.is_empty()
                && is_unfinished(engine, &info, &marker(snapshot, item)) =>
        {
            VolumeState::Unfinished(Box::new(info))
        }
        Existing::Refuse => {
            return Err(OpsError::Refused(format!(
                "volume `{name}` exists; restore into another with `--as NAME`, or make it what \
                 the snapshot holds with `--into-existing`"
            )));
        }
        Existing::Replace { .. } => {
            let plan = plan_volume(engine, name, Way::Best)?;
            if let Route::Archive { why } = &plan.route {
                return Err(OpsError::Refused(format!(
                    "volume `{name}` cannot be changed in place: {why}; restore into a new one"
                )));
            }
            VolumeState::Existing(Box::new(plan))
        }
    };
    Ok(VolumeRestore { name: name.to_owned(), driver, state })
}

fn refuse_use(engine: &Engine, name: &str) -> Result<(), OpsError> {
    let active = |state: &str| matches!(state, "running" | "paused" | "restarting");
    let users = engine.users_of(name)?;
    let users: Vec<_> =
        users.iter().filter(|c| active(&c.state)).map(|c| c.name.as_str()).collect();
    if users.is_empty() {
        return Ok(());
    }
    let users = users.join(", ");
    Err(OpsError::Refused(format!("volume `{name}` is in use by {users}; stop that first")))
}

/// Whether the volume holds the marker of a restore of the same item.
fn is_unfinished(engine: &Engine, info: &VolumeInfo, marker: &str) -> bool {
    let found = match engine.host_path(info) {
        Ok(place) => read_marker(&place),
        Err(_) => start_agent(engine, &info.name, Access::Read)
            .and_then(Link::greet)
            .and_then(Link::marker)
            .unwrap_or_default(),
    };
    found.is_some_and(|text| text.is_empty() || text.starts_with(marker.as_bytes()))
}

/// Restores an item into a volume as planned; also returns the safety backup, if one was made.
///
/// Errors: [`OpsError`]. A new volume that was only begun is removed if it can be told from
/// nothing what it is, else it says itself that it is unfinished.
#[expect(clippy::too_many_arguments, reason = "what is restored, to where, and who watches")]
pub fn restore_volume(
    repo: &Arc<Repository>,
    engine: &Engine,
    plan: &VolumeRestore,
    existing: Existing,
    snapshot: &SnapshotId,
    item: &Item,
    run: &RestoreRun<'_>,
    options: &BackupOptions,
) -> Result<(RestoreReport, Option<BackupReport>), OpsError> {
    match (&plan.state, existing) {
        (VolumeState::New, _) => {
            let facts = item.volume.clone();
            let facts = facts.as_ref();
            let info = engine.create_volume(&VolumeSpec {
                name: plan.name.clone(),
                driver: plan
                    .driver
                    .clone()
                    .or_else(|| facts.map(|facts| facts.driver.clone()))
                    .unwrap_or_else(|| "local".to_owned()),
                options: facts.map(|facts| facts.options.clone()).unwrap_or_default(),
                labels: facts.map(|facts| facts.labels.clone()).unwrap_or_default(),
            })?;
            fill_new(engine, &info, true, snapshot, item, run).map(|report| (report, None))
        }
        (VolumeState::Unfinished(info), _) => {
            fill_new(engine, info, false, snapshot, item, run).map(|report| (report, None))
        }
        (VolumeState::Existing(volume), Existing::Replace { extra, safety_backup }) => {
            let present = Present { repo, engine, volume, options, run };
            let (item_now, safety) = present.read(safety_backup)?;
            // The index is read again: it must know what the safety backup stored.
            let index = Arc::new(repo.load_index()?);
            let reader = Arc::new(ChunkReader::new(repo, &index, COMPARE_CACHE));
            let run = RestoreRun { reader: &reader, selection: run.selection.clone(), ..*run };
            refuse_use(engine, &plan.name)?;
            let sink = present.sink(&marker(snapshot, item))?;
            let report = restore_over(&run, &item_now, item, extra, sink)?;
            Ok((report, safety))
        }
        (VolumeState::Existing(_), Existing::Refuse) => {
            Err(OpsError::Refused(format!("volume `{}` exists", plan.name)))
        }
    }
}

/// Fills a volume that was made just now, or that a restore has left unfinished.
fn fill_new(
    engine: &Engine,
    info: &VolumeInfo,
    is_made: bool,
    snapshot: &SnapshotId,
    item: &Item,
    run: &RestoreRun<'_>,
) -> Result<RestoreReport, OpsError> {
    match engine.host_path(info) {
        Ok(place) => {
            let special = DirectoryOptions { special: Special::Restore };
            let text = marker(snapshot, item);
            let sink = Directory::create(&place, special, &text, run.observer.clone())?;
            restore_to(run, item, Box::new(sink))
        }
        Err(why) => {
            match start_agent(engine, &info.name, Access::Write).and_then(Link::greet) {
                Ok(link) => {
                    let (marker, observer) = (marker(snapshot, item), run.observer.clone());
                    let sink = RemoteSink::over(link, false, &marker, observer, run.interrupt)?;
                    restore_to(run, item, Box::new(sink))
                }
                // What an earlier run has left there is for an agent to judge.
                Err(error) if !is_made => Err(error),
                Err(error) if can_do_without(&error) => {
                    let why = format!("{why}; no agent runs there: {}", chain(&error));
                    fill_by_archive(engine, info, item, run, &why)
                        .inspect_err(|_| remove_made(engine, info))
                }
                Err(error) => {
                    remove_made(engine, info);
                    Err(error)
                }
            }
        }
    }
}

/// Removes a volume that was made just now: nothing in it would tell that it is unfinished.
fn remove_made(engine: &Engine, info: &VolumeInfo) {
    let _ = engine.remove_volume(&info.name);
}

fn fill_by_archive(
    engine: &Engine,
    info: &VolumeInfo,
    item: &Item,
    run: &RestoreRun<'_>,
    why: &str,
) -> Result<RestoreReport, OpsError> {
    let message = format!(
        "written through the engine's archive interface: holes, sockets and times before 1970 \
         are not kept ({why})"
    );
    run.observer.warn(Warning::skipped(info.name.as_bytes(), message));
    let helper = Helper::create(engine, &info.name, Access::Write)?;
    let writer = helper.archive_writer()?;
    let mut options = TarWriterOptions::new(format!("archive of volume {}", info.name));
    options.root = EntryPath::root().child(MOUNT_NAME.as_bytes()).unwrap_or_default();
    let (report, writer) = restore_tar(run, item, writer, options)?;
    writer.finish()?;
    helper.remove()?;
    Ok(report)
}

/// The state of a volume before it is changed.
struct Present<'a> {
    repo: &'a Arc<Repository>,
    engine: &'a Engine,
    volume: &'a VolumePlan,
    options: &'a BackupOptions,
    run: &'a RestoreRun<'a>,
}

impl Present<'_> {
    /// Where it is changed.
    fn sink(&self, marker: &str) -> Result<Box<dyn Sink>, OpsError> {
        let observer = self.run.observer.clone();
        Ok(match &self.volume.route {
            Route::Host(place) => {
                let special = DirectoryOptions { special: Special::Restore };
                Box::new(Directory::existing(place, special, marker, observer)?)
            }
            Route::Agent { .. } => {
                let agent = start_agent(self.engine, &self.volume.info.name, Access::Write)?;
                let link = Link::greet(agent)?;
                Box::new(RemoteSink::over(link, true, marker, observer, self.run.interrupt)?)
            }
            Route::Archive { why } => return Err(OpsError::Refused(why.clone())),
        })
    }

    /// The item of its present state, saved in a snapshot or not.
    fn read(&self, save: bool) -> Result<(Item, Option<BackupReport>), OpsError> {
        let (observer, interrupt): (&Arc<dyn Observer>, &Interrupt) =
            (self.run.observer, self.run.interrupt);
        let all = Selection::all();
        let mut options = self.options.clone();
        // Hints could be wrong about a file that was changed behind the file system's back; what is
        // compared here decides what is overwritten.
        options.read_all = true;
        if save {
            options.tags.push(SAFETY_TAG.to_owned());
            let report = backup_volume(
                self.repo,
                self.engine,
                self.volume,
                &all,
                &options,
                observer,
                interrupt,
            )?;
            if report.is_partial() {
                return Err(OpsError::Refused(format!(
                    "the present state of volume `{}` could not be saved whole (snapshot {})",
                    self.volume.info.name,
                    report.snapshot.short()
                )));
            }
            return Ok((report.item.clone(), Some(report)));
        }
        let opened = OpenedVolume::open(self.engine, self.volume)?;
        let item = opened.item(self.volume);
        let open = |watched| opened.origin(self.engine, self.volume, &all, &options, watched);
        let present = scan(self.repo, &item, open, &options, observer, interrupt)?;
        if present.degraded || present.facts.entries_skipped > 0 {
            return Err(OpsError::Refused(format!(
                "the present state of volume `{}` could not be read whole",
                self.volume.info.name
            )));
        }
        Ok((present, None))
    }
}
