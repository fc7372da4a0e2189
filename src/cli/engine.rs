//! The Docker Engine that is meant.

use volume_vault::docker::{Engine, EngineInfo, Environment, Host};
use volume_vault::format::HostFacts;

use super::context::Context;
use super::error::CliError;
use super::find::host_name;

/// Connects to the engine that `--host`, the environment or the configuration means.
///
/// Errors: unreachable, usage.
pub(crate) fn connect(context: &Context) -> Result<Engine, CliError> {
    let settings = &context.host;
    let environment = Environment {
        docker_host: None,
        docker_context: None,
        docker_config: settings.docker_config.clone(),
        cert_path: settings.cert_path.clone(),
        tls_verify: settings.tls_verify,
    };
    let host = Host::resolve(settings.address.as_deref(), &environment)?;
    Ok(Engine::connect(&host)?)
}

/// The host that a snapshot belongs to: its configured name, else the engine's, else this
/// machine's.
pub(crate) fn host_facts(context: &Context, engine: Option<&EngineInfo>) -> HostFacts {
    let name = match (&context.host.name, engine) {
        (Some(name), _) => name.clone(),
        (None, Some(engine)) => engine.name.clone(),
        (None, None) => host_name(context),
    };
    HostFacts {
        name,
        engine_id: engine.map(|engine| engine.id.clone()),
        engine_version: engine.map(|engine| engine.version.clone()),
    }
}
