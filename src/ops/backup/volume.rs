//! A Docker volume as the source of a backup.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use super::{BackupOptions, BackupReport, NewItem, Origin, backup};
use crate::docker::{Access, Container, DockerError, Engine, Helper, VolumeInfo};
use crate::event::{Observer, Warning};
use crate::format::{ItemKind, Method, VolumeFacts};
use crate::ops::agent::{RemoteSource, chain, start_agent};
use crate::ops::error::{Interrupt, OpsError};
use crate::repo::Repository;
use crate::source::{Directory, DirectoryOptions, Selection, Source, TarOptions, TarStream};

/// Which way to a volume's data is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Way {
    /// The host path where that shows everything, else an agent, else the archive interface.
    #[default]
    Best,
    /// The host path, or failure.
    HostPath,
    /// An agent beside the volume, or failure.
    Agent,
    /// The archive interface, which keeps less.
    Archive,
}

/// How a volume will be read.
#[derive(Debug)]
pub struct VolumePlan {
    /// The volume.
    pub info: VolumeInfo,
    /// The way to its data.
    pub route: Route,
    /// Running containers that use it.
    pub in_use_by: Vec<Container>,
}

/// The way to a volume's data.
#[derive(Debug, Clone)]
pub enum Route {
    /// At this place of this machine.
    Host(PathBuf),
    /// By an agent beside it.
    Agent {
        /// Why not at its place.
        why: String,
        /// Whether the archive interface will do where no agent can run.
        or_archive: bool,
    },
    /// Through the engine's archive interface.
    Archive {
        /// Why not otherwise.
        why: String,
    },
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
    let route = match way {
        Way::Archive => Route::Archive { why: "as asked".to_owned() },
        Way::Agent => Route::Agent { why: "as asked".to_owned(), or_archive: false },
        Way::Best => match engine.host_path(&info) {
            Ok(place) => Route::Host(place),
            Err(why) => Route::Agent { why: why.to_string(), or_archive: true },
        },
        Way::HostPath => Route::Host(engine.host_path(&info).map_err(|why| {
            OpsError::Refused(format!("volume `{name}` cannot be read at its host path: {why}"))
        })?),
    };
    Ok(VolumePlan { info, route, in_use_by })
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
    let opened = OpenedVolume::open(engine, plan)?;
    let item = opened.item(plan);
    let open = |watched| opened.origin(engine, plan, selection, options, watched);
    // Held open it keeps its number, and has no name any more once the volume is removed. Another
    // volume of the same name, made within the same second, shows by nothing else.
    let root = match &plan.route {
        Route::Host(place) => std::fs::File::open(place).ok(),
        _ => None,
    };
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

/// A volume that is about to be read.
pub(in crate::ops) enum OpenedVolume {
    /// At this place.
    Host(PathBuf),
    /// By an agent that answered.
    Agent(Box<RemoteSource>),
    /// Through the archive interface, and why.
    Archive(String),
}

impl OpenedVolume {
    /// Goes the planned way as far as it leads.
    ///
    /// Errors: those of starting an agent, where only an agent will do.
    pub(in crate::ops) fn open(engine: &Engine, plan: &VolumePlan) -> Result<Self, OpsError> {
        match &plan.route {
            Route::Host(place) => Ok(Self::Host(place.clone())),
            Route::Archive { why } => Ok(Self::Archive(why.clone())),
            Route::Agent { why, or_archive } => {
                match start_agent(engine, &plan.info.name, Access::Read)
                    .and_then(RemoteSource::greet)
                {
                    Ok(agent) => Ok(Self::Agent(Box::new(agent))),
                    Err(error) if *or_archive && can_do_without(&error) => {
                        Ok(Self::Archive(format!("{why}; no agent runs there: {}", chain(&error))))
                    }
                    Err(error) => Err(error),
                }
            }
        }
    }

    /// What a snapshot says of it.
    pub(in crate::ops) fn item(&self, plan: &VolumePlan) -> NewItem {
        let info = &plan.info;
        let (method, degraded) = match self {
            Self::Host(_) => (Method::HostPath, None),
            Self::Agent(_) => (Method::Agent, None),
            Self::Archive(why) => (Method::Archive, Some(format!("{ARCHIVE_LOSES} ({why})"))),
        };
        NewItem {
            kind: ItemKind::Volume,
            name: info.name.clone(),
            method,
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

    /// Begins to read it.
    pub(in crate::ops) fn origin(
        self,
        engine: &Engine,
        plan: &VolumePlan,
        selection: &Selection,
        options: &BackupOptions,
        watched: Arc<dyn Observer>,
    ) -> Result<Origin, OpsError> {
        let name = &plan.info.name;
        if !plan.in_use_by.is_empty() {
            let users: Vec<_> = plan.in_use_by.iter().map(|c| c.name.as_str()).collect();
            let message = format!("copied live while in use by {}", users.join(", "));
            watched.warn(Warning::notice(name.as_bytes(), message));
        }
        let source: Box<dyn Source> = match self {
            Self::Agent(agent) => return Ok(agent.select(selection.clone()).into()),
            Self::Host(place) => {
                let walk = DirectoryOptions { clock: options.clock, selection: selection.clone() };
                Box::new(Directory::open(&place, walk, watched)?)
            }
            Self::Archive(why) if !selection.is_all() => {
                return Err(OpsError::Refused(format!(
                    "paths cannot be left out when a volume is read as an archive ({why})"
                )));
            }
            Self::Archive(_) => {
                let archive = Helper::create(engine, name, Access::Read)?.read_archive()?;
                let options = TarOptions::new(format!("archive of volume {name}"));
                Box::new(TarStream::new(Box::new(archive), options, watched))
            }
        };
        Ok(source.into())
    }
}

/// Whether an agent that did not come about says nothing about the volume or the engine.
pub(in crate::ops) fn can_do_without(error: &OpsError) -> bool {
    matches!(
        error,
        OpsError::Agent { .. }
            | OpsError::Io { .. }
            | OpsError::Docker(DockerError::Unsupported(_) | DockerError::Engine { .. })
    )
}
