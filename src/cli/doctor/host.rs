//! What `vault doctor` says of a Docker host: how it is reached, what works there and what not.

use std::collections::BTreeMap;

use volume_vault::docker::{
    Address, Certificates, Engine, EngineInfo, Program, VolumeInfo, WhyNot, sweep,
};

use super::super::context::Context;
use super::super::engine::connect;
use super::super::error::CliError;
use super::{Report, State};

/// The first engine whose interface for files has no known hole.
const ENGINE_SOUND: [u64; 3] = [29, 5, 1];

impl Report {
    /// Looks at the engine that is meant; none if it cannot be reached.
    pub(super) fn engine(&mut self, context: &Context) -> Option<Engine> {
        let engine = match connect(context) {
            Ok(engine) => engine,
            Err(error) => {
                // Directories can be saved without one, but who names one wants it.
                let named = context.host.by_flag;
                let state = if named { State::Fail } else { State::Warn };
                self.error("engine", state, &error);
                self.add("volumes", State::Warn, "not looked at: there is no engine");
                return None;
            }
        };
        let info = engine.info();
        let name = if info.podman { "podman" } else { "docker" };
        self.add(
            "engine",
            State::Ok,
            format!(
                "{name} {} (API {}) on `{}`, {}/{}, at {}",
                info.version,
                info.api_version,
                info.name,
                info.os,
                info.arch,
                engine.host()
            ),
        );
        self.way(&engine);
        for (on, text) in [
            (info.user_namespaces, "containers see other owners than the disk has (userns-remap)"),
            (info.rootless, "it runs rootless"),
        ] {
            if on {
                self.add("engine", State::Ok, text);
            }
        }
        if !info.podman && is_older(&info.version, ENGINE_SOUND) {
            self.add(
                "engine",
                State::Warn,
                "older than 29.5.1: CVE-2026-41567, CVE-2026-41568 and CVE-2026-42306 in its \
                 interface for files",
            );
            self.advise(
                "restores through the engine send no compressed data and use an image of their \
                 own, which keeps clear of the first; update the engine for the others",
            );
        }
        self.volumes(&engine);
        self.helpers(context, &engine);
        Some(engine)
    }

    /// How the engine is reached, and who else may be listening.
    fn way(&mut self, engine: &Engine) {
        match &engine.host().address {
            Address::Unix(_) => self.add("connection", State::Ok, "a unix socket of this machine"),
            Address::Ssh(_) => self.add(
                "connection",
                State::Ok,
                "ssh, with its own configuration, and `docker system dial-stdio` there",
            ),
            Address::Tls { certificates: Certificates { verify: true, .. }, .. } => {
                self.add("connection", State::Ok, "TLS; the engine has shown its certificate");
            }
            Address::Tls { .. } => {
                let text = "TLS, but nobody vouches for the engine: its context says SkipTLSVerify";
                self.add("connection", State::Warn, text);
                self.advise("put `ca.pem` into the context and leave SkipTLSVerify out");
            }
            Address::Tcp(_) => {
                let text =
                    "neither encrypted nor authenticated: who reaches that port is root there";
                self.add("connection", State::Warn, text);
                self.advise("use ssh://, or TLS with certificates (DOCKER_TLS_VERIFY)");
            }
        }
    }

    /// How a plain volume is read and written, and what does not work with it.
    fn volumes(&mut self, engine: &Engine) {
        let info = engine.info();
        let plain = VolumeInfo {
            name: "any".to_owned(),
            driver: "local".to_owned(),
            options: BTreeMap::new(),
            labels: BTreeMap::new(),
            scope: "local".to_owned(),
            mountpoint: format!("{}/volumes", info.root_dir),
            created: None,
        };
        match engine.host_path(&plain) {
            Ok(path) => {
                let text = format!("plain local volumes are read in place, in {}", path.display());
                self.add("volumes", State::Ok, text);
            }
            Err(why) => self.volumes_afar(info, &why),
        }
        match engine.volumes() {
            Ok(list) => {
                self.add("volumes", State::Ok, format!("{} there", list.volumes.len()));
                for warning in list.warnings {
                    self.add("volumes", State::Warn, warning);
                }
            }
            Err(error) => self.error("volumes", State::Fail, &error.into()),
        }
    }

    /// What works where the place of volumes cannot be used.
    fn volumes_afar(&mut self, info: &EngineInfo, why: &WhyNot) {
        if Program::can_run_on(info) {
            let text = format!("volumes are read and written by an agent beside them: {why}");
            self.add("volumes", State::Ok, text);
            let text = "do not work from here: `diff live:VOLUME`, `cp` into a volume";
            self.add("volumes", State::Warn, text);
            self.advise("run vault as root on the machine of the engine for these");
            return;
        }
        if info.podman {
            let text = format!("backups fail: podman loses the owners of files, and {why}");
            self.add("volumes", State::Fail, text);
            self.advise("run vault as root on the machine of the engine");
        } else {
            let text = format!("volumes are read through the engine: {why}");
            self.add("volumes", State::Warn, text);
            self.advise("such a backup cannot prove that it is complete, and ends with exit 3");
            let text = "new volumes are restored through the engine, without holes, sockets and \
                        times before 1970, and end with exit 3";
            self.add("volumes", State::Warn, text);
        }
        let text = "do not work from here: `restore --into-existing`, `restore --verify`, \
                    `diff live:VOLUME`, `cp` into a volume, `backup --exclude`";
        self.add("volumes", State::Warn, text);
        self.advise("run vault as root on the machine of the engine for these");
    }

    fn helpers(&mut self, context: &Context, engine: &Engine) {
        if context.dry_run {
            self.add("helpers", State::Ok, "not swept: dry run");
            return;
        }
        let swept = match sweep(engine, context.clock) {
            Ok(swept) => swept,
            Err(error) => return self.error("helpers", State::Warn, &error.into()),
        };
        let text = format!(
            "{} containers left behind were removed, {} are in use",
            swept.removed.len(),
            swept.kept.len()
        );
        self.add("helpers", State::Ok, text);
        for (container, error) in swept.failed {
            let why = CliError::from(error).one_line();
            let text = format!("container {} stays behind: {why}", container.name);
            self.add("helpers", State::Warn, text);
            self.advise("remove it with `docker rm`");
        }
    }
}

/// Whether a version is older than another; one that is no version is not.
fn is_older(version: &str, than: [u64; 3]) -> bool {
    let numbers = version.split(['.', '-', '+', '~']).map(str::parse::<u64>);
    let mut numbers = numbers.map_while(Result::ok);
    let Some(major) = numbers.next() else { return false };
    let rest = [numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)];
    [major, rest[0], rest[1]] < than
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        for (version, older) in [
            ("20.10.24", true),
            ("20.10.24+dfsg1", true),
            ("29.5.0", true),
            ("29.5.1", false),
            ("29.10.0", false),
            ("30", false),
            ("dev", false),
            ("", false),
        ] {
            assert_eq!(is_older(version, ENGINE_SOUND), older, "{version}");
        }
    }
}
