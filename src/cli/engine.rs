//! The Docker Engine that is meant, and the host that it stands for.

use std::ffi::OsStr;
use std::path::PathBuf;

use volume_vault::docker::{Choice, DockerError, Engine, EngineInfo};
use volume_vault::format::HostFacts;
use volume_vault::near::{did_you_mean, near_names};

use super::context::{Context, HostSettings};
use super::error::CliError;

/// Connects to the engine that `--host`, the environment or the configuration means; once.
///
/// Errors: unreachable, usage.
pub(crate) fn connect(context: &Context) -> Result<Engine, CliError> {
    if let Some(engine) = context.engine.get() {
        return Ok(engine.clone());
    }
    let engine = connect_to(&context.host, context)?;
    Ok(context.engine.get_or_init(|| engine).clone())
}

/// Connects to the engine that `settings` mean.
///
/// Errors: as [`connect`].
pub(crate) fn connect_to(settings: &HostSettings, context: &Context) -> Result<Engine, CliError> {
    let host = settings.resolve().map_err(|error| unknown(error, context))?;
    Engine::connect(&host).map_err(|error| match (&error, &host.choice) {
        (DockerError::NoEngine { .. }, Choice::Default) => {
            let others = other_sockets(settings);
            CliError::from(error).hint_if(others)
        }
        _ => error.into(),
    })
}

/// The error for a host that is not known, with near names.
fn unknown(error: DockerError, context: &Context) -> CliError {
    let DockerError::NoHost { name, contexts, ssh_names } = &error else { return error.into() };
    let configured = context.configuration.config.hosts.keys();
    let known = contexts.iter().chain(ssh_names).chain(configured).map(String::as_str);
    let near = did_you_mean(&near_names(name, known));
    let object = name.clone();
    CliError::from(error).object(object).hint_if(near)
}

/// Engines that would answer where the default one does not: rootless ones and Podman.
fn other_sockets(settings: &HostSettings) -> Option<String> {
    let runtime = settings.environment.ssh_environment.get(OsStr::new("XDG_RUNTIME_DIR"));
    let runtime = runtime.map(PathBuf::from);
    let below = |path: &str| runtime.as_ref().map(|folder| folder.join(path));
    let podman = Some(PathBuf::from("/run/podman/podman.sock"));
    let places = [below("docker.sock"), podman, below("podman/podman.sock")];
    let found = places.into_iter().flatten().find(|path| path.exists())?;
    Some(format!("there is another engine here: `--host unix://{}`", found.display()))
}

/// The `[hosts.NAME]` of an engine: the one it was named by, else one with the same address.
fn configured_name(settings: &HostSettings, context: &Context) -> Option<String> {
    if settings.name.is_some() {
        return settings.name.clone();
    }
    let address = settings.resolve().ok()?.to_string();
    let hosts = context.configuration.config.hosts.keys();
    let same = |name: &&String| {
        let other = context.host_named(name).resolve();
        other.is_ok_and(|other| other.to_string() == address)
    };
    hosts.into_iter().find(same).cloned()
}

/// The host of the series of what is on an engine: its configured name, else the engine's own.
pub(crate) fn host_facts(
    settings: &HostSettings,
    engine: &EngineInfo,
    context: &Context,
) -> HostFacts {
    HostFacts {
        name: configured_name(settings, context).unwrap_or_else(|| engine.name.clone()),
        engine_id: Some(engine.id.clone()),
        engine_version: Some(engine.version.clone()),
    }
}

/// The host of the series of what is on this machine itself, such as directories.
pub(crate) fn machine_facts(context: &Context) -> HostFacts {
    HostFacts { name: machine_host(context), engine_id: None, engine_version: None }
}

/// The name of the host that is meant where none is given. An engine elsewhere is asked.
///
/// Errors: as [`connect`].
pub(crate) fn host_name(context: &Context) -> Result<String, CliError> {
    if let Some(name) = configured_name(&context.host, context) {
        return Ok(name);
    }
    match context.host.resolve() {
        Ok(host) if !host.is_unix() => Ok(connect(context)?.info().name.clone()),
        _ => Ok(machine_name()),
    }
}

/// The name of this machine as a host.
pub(crate) fn machine_host(context: &Context) -> String {
    let here = context.host.resolve().is_ok_and(|host| host.is_unix());
    let name = if here { configured_name(&context.host, context) } else { None };
    name.unwrap_or_else(machine_name)
}

/// The name of this machine, as the kernel knows it.
fn machine_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
