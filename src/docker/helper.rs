//! A helper: a container that is never started and only holds a volume for the archive calls.
//!
//! The archive calls lock the container they are made on, so they are never made on a user's. A
//! helper is removed when its handle and every stream made from it are dropped; a run that is
//! killed leaves it behind for [`super::sweep`].

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use bollard::models::{
    ContainerCreateBody, HostConfig, HostConfigLogConfig, Mount, MountType, MountVolumeOptions,
};
use bollard::query_parameters::{CreateContainerOptions, RemoveContainerOptionsBuilder};

use super::engine::Engine;
use super::error::{DockerError, status};
use super::image;

/// Where a helper has its volume.
pub const MOUNT: &str = "/v";

/// The name that the volume's root has in an archive written to a helper.
pub const MOUNT_NAME: &str = "v";

/// Marks helpers.
pub(super) const HELPER_LABEL: &str = "volume-vault.helper";

/// Names the run that made a helper, or by mistake a volume.
pub(super) const RUN_LABEL: &str = "volume-vault.run";

/// What a helper may do with its volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Only read it.
    Read,
    /// Read and write it.
    Write,
}

/// A container that holds a volume; clones share it.
#[derive(Clone)]
pub struct Helper {
    held: Arc<Held>,
}

struct Held {
    engine: Engine,
    volume: String,
    access: Access,
    id: String,
    removed: bool,
}

impl Helper {
    /// Makes a helper for the volume called `volume`, and the helper image if the engine lacks it.
    ///
    /// Errors: [`DockerError::NotFound`] if there is no such volume, also if it went just now.
    pub fn create(engine: &Engine, volume: &str, access: Access) -> Result<Self, DockerError> {
        let _ = engine.volume(volume)?;
        let image = image::ensure(engine)?;
        let body = container(engine, image, volume, access);
        Self::make(engine, volume, access, body)
    }

    /// Makes a helper that runs `command` from `image` once it is started.
    ///
    /// Errors: as [`Helper::create`].
    pub(super) fn create_agent(
        engine: &Engine,
        volume: &str,
        access: Access,
        image: String,
        command: Vec<String>,
    ) -> Result<Self, DockerError> {
        let _ = engine.volume(volume)?;
        let body = agent(container(engine, image, volume, access), access, command);
        Self::make(engine, volume, access, body)
    }

    fn make(
        engine: &Engine,
        volume: &str,
        access: Access,
        body: ContainerCreateBody,
    ) -> Result<Self, DockerError> {
        let made = engine
            .call(engine.control().create_container(None::<CreateContainerOptions>, body))
            .map_err(|e| engine.error(e, &format!("make a helper for volume `{volume}`")))?;
        let held = Held {
            engine: engine.clone(),
            volume: volume.to_owned(),
            access,
            id: made.id,
            removed: false,
        };
        held.check_volume_is_not_new()
    }

    /// The id of the container.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.held.id
    }

    /// The name of the volume.
    #[must_use]
    pub fn volume(&self) -> &str {
        &self.held.volume
    }

    /// What may be done with the volume.
    #[must_use]
    pub fn access(&self) -> Access {
        self.held.access
    }

    /// The engine it is in.
    pub(super) fn engine(&self) -> &Engine {
        &self.held.engine
    }

    /// Removes the container and reports if that fails. While a stream made from it is open, the
    /// container stays, and goes with the stream.
    pub fn remove(self) -> Result<(), DockerError> {
        Arc::into_inner(self.held).map_or(Ok(()), Held::remove)
    }
}

impl fmt::Debug for Helper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Helper({} for `{}`)", self.held.id, self.held.volume)
    }
}

impl Held {
    /// A volume that is removed after it was looked up is created anew, empty, by the container
    /// that names it. It then carries the label that its mount asked for.
    fn check_volume_is_not_new(self) -> Result<Helper, DockerError> {
        let volume = self.engine.volume(&self.volume)?;
        if volume.labels.get(RUN_LABEL) != Some(&self.engine.run().to_label()) {
            return Ok(Helper { held: Arc::new(self) });
        }
        let (engine, name) = (self.engine.clone(), self.volume.clone());
        self.remove()?;
        engine.remove_volume(&name)?;
        Err(DockerError::NotFound { kind: "volume", name })
    }

    fn remove(mut self) -> Result<(), DockerError> {
        self.removed = true;
        remove_container(&self.engine, &self.id)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.removed {
            // nobody is left to be told; `sweep` finds it if this fails
            let _ = remove_container(&self.engine, &self.id);
        }
    }
}

/// Removes a container but none of its volumes. One that is gone or on its way out is no error.
pub(super) fn remove_container(engine: &Engine, id: &str) -> Result<(), DockerError> {
    let options = RemoveContainerOptionsBuilder::new().force(true).v(false).build();
    match engine.call(engine.control().remove_container(id, Some(options))) {
        Ok(()) => Ok(()),
        Err(error) if matches!(status(&error), Some(404 | 409)) => Ok(()),
        Err(error) => Err(engine.error(error, &format!("remove container `{id}`"))),
    }
}

/// Rights that reading everything in a volume takes; `trusted` attributes, which an engine within
/// a container keeps in its volume, take the largest.
const READ_RIGHTS: [&str; 2] = ["DAC_READ_SEARCH", "SYS_ADMIN"];
/// Rights that making everything in a volume anew takes, and reading it.
const WRITE_RIGHTS: [&str; 8] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "MKNOD",
    "SETFCAP",
    "SYS_ADMIN",
];

/// A helper that is to be started and talked to.
fn agent(
    mut body: ContainerCreateBody,
    access: Access,
    command: Vec<String>,
) -> ContainerCreateBody {
    body.cmd = Some(command);
    body.open_stdin = Some(true);
    // the agent ends when whoever started it is gone
    body.stdin_once = Some(true);
    body.attach_stdin = Some(true);
    body.attach_stdout = Some(true);
    body.attach_stderr = Some(true);
    if let Some(host) = &mut body.host_config {
        let rights = match access {
            Access::Read => &READ_RIGHTS[..],
            Access::Write => &WRITE_RIGHTS[..],
        };
        host.cap_add = Some(rights.iter().map(|right| (*right).to_owned()).collect());
        host.readonly_rootfs = Some(true);
    }
    body
}

fn container(engine: &Engine, image: String, volume: &str, access: Access) -> ContainerCreateBody {
    let run = (RUN_LABEL.to_owned(), engine.run().to_label());
    let mount = Mount {
        typ: Some(MountType::VOLUME),
        source: Some(volume.to_owned()),
        target: Some(MOUNT.to_owned()),
        read_only: Some(access == Access::Read),
        volume_options: Some(MountVolumeOptions {
            // else the engine fills an empty volume from the image, and changes its owner
            no_copy: Some(true),
            labels: Some(HashMap::from([run.clone()])),
            ..MountVolumeOptions::default()
        }),
        ..Mount::default()
    };
    ContainerCreateBody {
        image: Some(image),
        cmd: Some(vec![image::COMMAND.to_owned()]),
        labels: Some(HashMap::from([run, (HELPER_LABEL.to_owned(), "1".to_owned())])),
        network_disabled: Some(true),
        host_config: Some(HostConfig {
            mounts: Some(vec![mount]),
            network_mode: Some("none".into()),
            // an archive can be written only to a parent of the volume, which must be writable
            readonly_rootfs: Some(access == Access::Read),
            cap_drop: Some(vec!["ALL".into()]),
            security_opt: Some(vec!["no-new-privileges".into(), "label=disable".into()]),
            log_config: Some(HostConfigLogConfig { typ: Some("none".into()), config: None }),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    }
}
