//! The Docker Engine behind blocking calls.
//!
//! Floor 5. Everything asynchronous stays inside `engine.rs`, `bridge.rs` and `dial`. Nothing
//! here touches a container it did not make itself, and whatever it makes goes away with the handle
//! it gave out; what a killed run left is found by its label and removed by [`sweep`].

mod agent;
mod archive;
mod bridge;
mod context;
mod dial;
mod digest;
mod engine;
mod error;
mod helper;
mod host;
mod image;
mod place;
mod program;
mod run;
mod sweep;
mod volume;

pub use agent::{Agent, AgentInput, AgentOutput};
pub use archive::{ArchiveReader, ArchiveWriter};
pub use engine::{Engine, EngineInfo};
pub use error::{DockerError, SshProblem, TlsProblem};
pub use helper::{Access, Helper, MOUNT, MOUNT_NAME};
pub use host::{Address, Certificates, Choice, Environment, Host, SshPlace};
pub use place::WhyNot;
pub use program::Program;
pub use sweep::{Swept, sweep};
pub use volume::{Container, VolumeInfo, VolumeList, VolumeSpec};
