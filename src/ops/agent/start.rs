//! Starts an agent beside a volume.

use super::link::AgentStreams;
use crate::docker::{Access, Agent, Engine, MOUNT, Program};
use crate::ops::error::OpsError;

/// The word after which the program is an agent; behind it stands the place.
pub const AGENT_VERB: &str = "agent";

/// An agent of this program beside the volume called `volume`.
///
/// Errors: [`OpsError::Io`] if this program cannot be read; [`OpsError::Docker`].
pub(in crate::ops) fn start_agent(
    engine: &Engine,
    volume: &str,
    access: Access,
) -> Result<AgentStreams, OpsError> {
    let program = Program::this().map_err(|source| OpsError::Io {
        action: "read this program, to run it beside the volume".to_owned(),
        source,
    })?;
    let agent = Agent::start(engine, volume, access, &program, &[AGENT_VERB, MOUNT])?;
    let hang_up = agent.hang_up();
    Ok(AgentStreams {
        output: Box::new(agent.output),
        input: Box::new(agent.input),
        hang_up,
        is_far: !engine.info().local,
        name: format!("agent of volume `{volume}`"),
    })
}
