//! Volumes: listing, looking at, making and removing them, and who uses them.
//!
//! A volume is looked up before anything else is done with its name: the engine silently creates
//! the volume that a new container names, and creating an existing one silently returns the old.

use std::collections::{BTreeMap, HashMap};

use bollard::models::{ContainerSummary, Volume, VolumeCreateRequest};
use bollard::query_parameters::{
    ListContainersOptionsBuilder, ListVolumesOptions, RemoveVolumeOptions,
};

use super::engine::Engine;
use super::error::{DockerError, status};

/// A volume as the engine describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeInfo {
    /// Its name.
    pub name: String,
    /// Its driver, such as `local`.
    pub driver: String,
    /// The driver's options; they may hold secrets.
    pub options: BTreeMap<String, String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// How far it reaches: `local` or `global`.
    pub scope: String,
    /// Where its content is on the engine's machine; empty if the driver does not tell.
    pub mountpoint: String,
    /// When it was made, as RFC 3339; none if the driver does not tell.
    pub created: Option<String>,
}

/// All volumes of an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeList {
    /// The volumes, sorted by name.
    pub volumes: Vec<VolumeInfo>,
    /// Why some may be missing, such as a driver that did not answer.
    pub warnings: Vec<String>,
}

/// A volume to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeSpec {
    /// Its name.
    pub name: String,
    /// Its driver; `local` is the engine's own.
    pub driver: String,
    /// The driver's options.
    pub options: BTreeMap<String, String>,
    /// Its labels, which can never be changed later.
    pub labels: BTreeMap<String, String>,
}

impl VolumeSpec {
    /// A plain volume of the `local` driver.
    pub fn local(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            driver: "local".into(),
            options: BTreeMap::new(),
            labels: BTreeMap::new(),
        }
    }
}

/// A container, as far as it matters to a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Its id.
    pub id: String,
    /// Its first name, without a slash.
    pub name: String,
    /// What it is doing: `created`, `running`, `paused`, `exited` and so on.
    pub state: String,
}

impl Engine {
    /// All volumes.
    pub fn volumes(&self) -> Result<VolumeList, DockerError> {
        let list = self
            .call(self.control().list_volumes(None::<ListVolumesOptions>))
            .map_err(|e| self.error(e, "list volumes"))?;
        let volumes = list.volumes.unwrap_or_default().into_iter().map(VolumeInfo::from);
        let mut volumes: Vec<_> = volumes.collect();
        volumes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(VolumeList { volumes, warnings: list.warnings.unwrap_or_default() })
    }

    /// The volume called `name`.
    ///
    /// Errors: [`DockerError::NotFound`] if there is none.
    pub fn volume(&self, name: &str) -> Result<VolumeInfo, DockerError> {
        let missing = || DockerError::NotFound { kind: "volume", name: name.to_owned() };
        let segment = path_segment(name).ok_or_else(missing)?;
        match self.call(self.control().inspect_volume(&segment)) {
            Ok(volume) => Ok(volume.into()),
            Err(error) if status(&error) == Some(404) => Err(missing()),
            Err(error) => Err(self.error(error, &format!("inspect volume `{name}`"))),
        }
    }

    /// Makes a new volume.
    ///
    /// Errors: [`DockerError::Exists`] if the name is taken, also if somebody took it just now.
    pub fn create_volume(&self, spec: &VolumeSpec) -> Result<VolumeInfo, DockerError> {
        let action = format!("create volume `{}`", spec.name);
        if path_segment(&spec.name).is_none() {
            let message = "this cannot be the name of a volume".into();
            return Err(DockerError::Engine { action, message });
        }
        let exists = || DockerError::Exists { name: spec.name.clone() };
        match self.volume(&spec.name) {
            Ok(_) => return Err(exists()),
            Err(DockerError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        // None is sent as the docker command does: the engine tells nothing from an empty map.
        let sent = |map: &BTreeMap<String, String>| {
            (!map.is_empty()).then(|| map.clone().into_iter().collect())
        };
        let request = VolumeCreateRequest {
            name: Some(spec.name.clone()),
            driver: Some(spec.driver.clone()),
            driver_opts: sent(&spec.options),
            labels: sent(&spec.labels),
            cluster_volume_spec: None,
        };
        let made = self.call(self.bulk().create_volume(request));
        let made = VolumeInfo::from(made.map_err(|e| self.error(e, &action))?);
        // the engine answers with the volume of another creator as if it were the one asked for
        if made.labels != spec.labels || made.options != spec.options {
            return Err(exists());
        }
        Ok(made)
    }

    /// Removes the volume called `name` with all it holds.
    ///
    /// Errors: [`DockerError::InUse`] if any container uses it, [`DockerError::NotFound`].
    pub fn remove_volume(&self, name: &str) -> Result<(), DockerError> {
        let missing = || DockerError::NotFound { kind: "volume", name: name.to_owned() };
        let segment = path_segment(name).ok_or_else(missing)?;
        match self.call(self.bulk().remove_volume(&segment, None::<RemoveVolumeOptions>)) {
            Ok(()) => Ok(()),
            Err(error) if status(&error) == Some(404) => Err(missing()),
            Err(error) if status(&error) == Some(409) => Err(DockerError::InUse {
                volume: name.to_owned(),
                containers: self.users_of(name)?,
            }),
            Err(error) => Err(self.error(error, &format!("remove volume `{name}`"))),
        }
    }

    /// The containers that use the volume called `name`, running or not; helpers too.
    pub fn users_of(&self, name: &str) -> Result<Vec<Container>, DockerError> {
        let users = self.containers("volume", name)?;
        Ok(users.into_iter().map(Container::from).collect())
    }

    /// All containers, running or not, for which `filter` is `value`.
    pub(super) fn containers(
        &self,
        filter: &str,
        value: &str,
    ) -> Result<Vec<ContainerSummary>, DockerError> {
        let filters = HashMap::from([(filter, vec![value])]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        self.call(self.control().list_containers(Some(options)))
            .map_err(|e| self.error(e, &format!("list containers with {filter} `{value}`")))
    }
}

impl From<Volume> for VolumeInfo {
    fn from(volume: Volume) -> Self {
        Self {
            name: volume.name,
            driver: volume.driver,
            options: volume.options.into_iter().collect(),
            labels: volume.labels.into_iter().collect(),
            scope: volume.scope.map_or_else(String::new, |scope| scope.to_string()),
            mountpoint: volume.mountpoint,
            created: volume.created_at.filter(|time| !time.is_empty()),
        }
    }
}

impl From<ContainerSummary> for Container {
    fn from(summary: ContainerSummary) -> Self {
        let id = summary.id.unwrap_or_default();
        let name = summary.names.unwrap_or_default().into_iter().next();
        let name = name.map(|name| name.trim_start_matches('/').to_owned());
        Self {
            name: name.unwrap_or_else(|| id.clone()),
            state: summary.state.map_or_else(String::new, |state| state.to_string()),
            id,
        }
    }
}

/// `name` as one component of a URL's path; none if it would name another object than meant.
pub(super) fn path_segment(name: &str) -> Option<String> {
    if matches!(name, "" | "." | "..") {
        return None;
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
    Some(name.bytes().fold(String::with_capacity(name.len()), |mut text, byte| {
        if plain(byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
        text
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leads_out_of_its_place_in_a_path() {
        assert_eq!(path_segment("a.b-c_1").as_deref(), Some("a.b-c_1"));
        assert_eq!(path_segment("../info?x#y").as_deref(), Some("..%2Finfo%3Fx%23y"));
        for name in ["", ".", ".."] {
            assert_eq!(path_segment(name), None);
        }
    }
}
