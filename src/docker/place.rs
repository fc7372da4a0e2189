//! Where a volume's content is on this machine, if it can be used there.
//!
//! The path the engine names is only good if nothing stands between it and us: every rule here is
//! a case in which the path exists, but holds something else, or shows other owners.

use std::path::{Path, PathBuf};

use super::engine::{Engine, EngineInfo};
use super::volume::VolumeInfo;

/// Why a volume cannot be used by its path on this machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WhyNot {
    /// The content belongs to root, and so must its reader.
    #[error("this needs to run as root")]
    NotRoot,
    /// The engine is not reached through a unix socket.
    #[error("the docker engine is reached over the network")]
    Remote,
    /// The engine calls its machine otherwise than this one is called, as behind a forwarded socket
    /// or in the virtual machine of Docker Desktop.
    #[error("the docker engine runs on machine `{engine}`, this one is `{here}`")]
    OtherMachine {
        /// The engine's machine.
        engine: String,
        /// This machine.
        here: String,
    },
    /// Only the `local` driver keeps content in a folder.
    #[error("the volume's driver is `{0}`, not `local`")]
    Driver(String),
    /// Such a volume is mounted only while a container uses it.
    #[error("the volume has driver options and is mounted only while a container uses it")]
    Options,
    /// The owners on disk are not those that containers see.
    #[error("owners are shifted, because the docker engine {0}")]
    ShiftedOwners(&'static str),
    /// The path is not there.
    #[error("`{}` is no directory of this machine", .0.display())]
    NoDirectory(PathBuf),
}

/// What it depends on besides the volume.
struct Facts<'a> {
    engine: &'a EngineInfo,
    root: bool,
    machine: &'a str,
}

impl Engine {
    /// The folder on this machine with all that `volume` holds, owners as containers see them.
    pub fn host_path(&self, volume: &VolumeInfo) -> Result<PathBuf, WhyNot> {
        let uname = rustix::system::uname();
        let machine = uname.nodename().to_string_lossy();
        let root = rustix::process::geteuid().is_root();
        judge(volume, &Facts { engine: self.info(), root, machine: &machine })
    }
}

fn judge(volume: &VolumeInfo, facts: &Facts<'_>) -> Result<PathBuf, WhyNot> {
    let engine = facts.engine;
    if !engine.local {
        return Err(WhyNot::Remote);
    }
    if engine.name != facts.machine {
        let here = facts.machine.to_owned();
        return Err(WhyNot::OtherMachine { engine: engine.name.clone(), here });
    }
    if engine.rootless {
        return Err(WhyNot::ShiftedOwners("is rootless"));
    }
    if engine.user_namespaces {
        return Err(WhyNot::ShiftedOwners("uses user namespaces"));
    }
    if volume.driver != "local" {
        return Err(WhyNot::Driver(volume.driver.clone()));
    }
    if !volume.options.is_empty() {
        return Err(WhyNot::Options);
    }
    if !facts.root {
        return Err(WhyNot::NotRoot);
    }
    let path = Path::new(&volume.mountpoint);
    if !path.is_absolute() || !path.is_dir() {
        return Err(WhyNot::NoDirectory(path.to_owned()));
    }
    Ok(path.to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn volume(mountpoint: &Path) -> VolumeInfo {
        VolumeInfo {
            name: "v".into(),
            driver: "local".into(),
            options: BTreeMap::new(),
            labels: BTreeMap::new(),
            scope: "local".into(),
            mountpoint: mountpoint.to_str().expect("text").into(),
            created: None,
        }
    }

    fn engine() -> EngineInfo {
        EngineInfo { name: "here".into(), local: true, ..EngineInfo::default() }
    }

    fn judged(volume: &VolumeInfo, engine: &EngineInfo) -> Result<PathBuf, WhyNot> {
        judge(volume, &Facts { engine, root: true, machine: "here" })
    }

    #[test]
    fn path_of_a_plain_local_volume_of_this_machine_is_used() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(judged(&volume(folder.path()), &engine()), Ok(folder.path().to_owned()));
    }

    #[test]
    fn path_is_refused_when_it_would_show_something_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let good = volume(folder.path());
        let nfs = VolumeInfo { driver: "nfs".into(), ..good.clone() };
        assert_eq!(judged(&nfs, &engine()), Err(WhyNot::Driver("nfs".into())));
        let options = BTreeMap::from([("type".into(), "tmpfs".into())]);
        let mounted = VolumeInfo { options, ..good.clone() };
        assert_eq!(judged(&mounted, &engine()), Err(WhyNot::Options));
        let gone = volume(&folder.path().join("gone"));
        assert!(matches!(judged(&gone, &engine()), Err(WhyNot::NoDirectory(_))));
        let relative = VolumeInfo { mountpoint: "tmp".into(), ..good.clone() };
        assert!(matches!(judged(&relative, &engine()), Err(WhyNot::NoDirectory(_))));

        let remote = EngineInfo { local: false, ..engine() };
        assert_eq!(judged(&good, &remote), Err(WhyNot::Remote));
        let other = EngineInfo { name: "docker-desktop".into(), ..engine() };
        assert!(matches!(judged(&good, &other), Err(WhyNot::OtherMachine { .. })));
        for shifted in [
            EngineInfo { rootless: true, ..engine() },
            EngineInfo { user_namespaces: true, ..engine() },
        ] {
            assert!(matches!(judged(&good, &shifted), Err(WhyNot::ShiftedOwners(_))));
        }
        let facts = Facts { engine: &engine(), root: false, machine: "here" };
        assert_eq!(judge(&good, &facts), Err(WhyNot::NotRoot));
    }
}
