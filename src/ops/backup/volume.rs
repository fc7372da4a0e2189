//! A Docker volume as the source of a backup.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use super::{BackupOptions, BackupReport, NewItem, backup};
use crate::docker::{Access, Container, DockerError, Engine, Helper, VolumeInfo};
use crate::event::{Observer, Warning};
use crate::format::{ItemKind, Method, VolumeFacts};
use crate::ops::error::{Interrupt, OpsError};
use crate::repo::Repository;
use crate::source::{Directory, DirectoryOptions, Selection, Source, TarOptions, TarStream};

/// Which way to a volume's data is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Way {
    /// The host path where that shows everything, else the archive interface.
    #[default]
    Best,
    /// The host path, or failure.
    HostPath,
    /// The archive interface, which keeps less.
    Archive,
}

/// How a volume will be read.
#[derive(Debug)]
pub struct VolumePlan {
    /// The volume.
    pub info: VolumeInfo,
    /// Where its data lies on this machine, if it is read there; else why it is not.
    pub place: Result<PathBuf, String>,
    /// Running containers that use it.
    pub in_use_by: Vec<Container>,
}

/// What the archive interface does not keep, as a snapshot made through it says.
const ARCHIVE_LOSES: &str = "read through the engine's archive interface: extended attributes, \
     ACLs, sockets, holes and times below a second are not kept, and files that the engine could \
     not read are missing without a word";

/// Looks at a volume and decides how it will be read; makes nothing.
///
/// Errors: [`OpsError::NotFound`] with near names; [`OpsError::Refused`] if only the host path is
/// wanted and it does not show everything.
pub fn plan_volume(engine: &Engine, name: &str, way: Way) -> Result<VolumePlan, OpsError> {
    let info = find_volume(engine, name)?;
    let running = |container: &Container| matches!(&*container.state, "running" | "restarting");
    let in_use_by = engine.users_of(name)?.into_iter().filter(running).collect();
    let place = match way {
        Way::Archive => Err("as asked".to_owned()),
        Way::Best => engine.host_path(&info).map_err(|why| why.to_string()),
        Way::HostPath => Ok(engine.host_path(&info).map_err(|why| {
            OpsError::Refused(format!("volume `{name}` cannot be read at its host path: {why}"))
        })?),
    };
    Ok(VolumePlan { info, place, in_use_by })
}

/// A volume by name.
///
/// Errors: [`OpsError::NotFound`] with near names.
pub fn find_volume(engine: &Engine, name: &str) -> Result<VolumeInfo, OpsError> {
    match engine.volume(name) {
        Ok(info) => Ok(info),
        Err(DockerError::NotFound { .. }) => {
            let volumes = engine.volumes()?.volumes;
            let names = volumes.iter().map(|volume| volume.name.as_str());
            let near = crate::near::near_names(name, names);
            let hint = crate::near::did_you_mean(&near);
            let host = &engine.info().name;
            Err(OpsError::NotFound(match hint {
                Some(hint) => format!("there is no volume `{name}` on {host}; {hint}"),
                None => format!("there is no volume `{name}` on {host}"),
            }))
        }
        Err(error) => Err(error.into()),
    }
}

/// Saves a volume in a snapshot of its own.
///
/// Errors: as [`backup`]; [`OpsError::NotFound`] if the volume was removed while it was read.
pub fn backup_volume(
    repo: &Arc<Repository>,
    engine: &Engine,
    plan: &VolumePlan,
    selection: &Selection,
    options: &BackupOptions,
    observer: &Arc<dyn Observer>,
    interrupt: &Interrupt,
) -> Result<BackupReport, OpsError> {
    let info = &plan.info;
    let item = new_volume_item(plan);
    let open = |watched| open_volume(engine, plan, selection, options, watched);
    // Held open it keeps its number, and has no name any more once the volume is removed. Another
    // volume of the same name, made within the same second, shows by nothing else.
    let root = plan.place.as_ref().ok().and_then(|place| std::fs::File::open(place).ok());
    let root_is_gone = || {
        let metadata = root.as_ref().and_then(|root| root.metadata().ok());
        metadata.is_some_and(|metadata| metadata.nlink() == 0)
    };
    let complete = || {
        let removed = || {
            let why = format!("volume `{}` was removed while it was being read", info.name);
            OpsError::NotFound(why)
        };
        match engine.volume(&info.name) {
            Ok(now) if now.created == info.created && !root_is_gone() => Ok(()),
            Ok(_) | Err(DockerError::NotFound { .. }) => Err(removed()),
            Err(error) => Err(error.into()),
        }
    };
    backup(repo, &item, open, complete, options, observer, interrupt)
}

/// What a snapshot says of a volume that is read as planned.
pub(crate) fn new_volume_item(plan: &VolumePlan) -> NewItem {
    let info = &plan.info;
    let degraded = plan.place.as_ref().err().map(|why| format!("{ARCHIVE_LOSES} ({why})"));
    NewItem {
        kind: ItemKind::Volume,
        name: info.name.clone(),
        method: if plan.place.is_ok() { Method::HostPath } else { Method::Archive },
        degraded: degraded.into_iter().collect(),
        volume: Some(VolumeFacts {
            driver: info.driver.clone(),
            options: info.options.clone(),
            labels: info.labels.clone(),
            scope: info.scope.clone(),
        }),
        in_use_by: plan.in_use_by.iter().map(|container| container.name.clone()).collect(),
    }
}

/// Opens a volume as planned.
pub(crate) fn open_volume(
    engine: &Engine,
    plan: &VolumePlan,
    selection: &Selection,
    options: &BackupOptions,
    watched: Arc<dyn Observer>,
) -> Result<Box<dyn Source>, OpsError> {
    let name = &plan.info.name;
    if !plan.in_use_by.is_empty() {
        let users: Vec<_> = plan.in_use_by.iter().map(|c| c.name.as_str()).collect();
        let message = format!("copied live while in use by {}", users.join(", "));
        watched.warn(Warning::notice(name.as_bytes(), message));
    }
    if let Ok(place) = &plan.place {
        let walk = DirectoryOptions { clock: options.clock, selection: selection.clone() };
        return Ok(Box::new(Directory::open(place, walk, watched)?));
    }
    if !selection.is_all() {
        let why = "paths cannot be left out when a volume is read as an archive";
        return Err(OpsError::Refused(why.to_owned()));
    }
    let helper = Helper::create(engine, name, Access::Read)?;
    let archive = helper.read_archive()?;
    let options = TarOptions::new(format!("archive of volume {name}"));
    Ok(Box::new(TarStream::new(Box::new(archive), options, watched)))
}
