//! Backup and restore where the data is not: an agent reads and writes beside it.
//!
//! The agent is this program in a container of the host that has the volume, on the other end of a
//! byte stream. For a backup it walks, cuts and names; content goes over the stream only where the
//! repository lacks it. For a restore it writes what it is told. It holds what cutting and naming
//! take ([`crate::repo::Cutter`]) and no key that opens anything.
//!
//! Nobody waits for the other side with something in hand that the other waits for: the agent's
//! listener only files what comes, into queues that are as long as what may be under way, and the
//! host's loop always reads on.

mod host;
mod link;
mod message;
mod reading;
mod receiving;
mod remote_sink;
mod serve;
mod start;
mod step;
mod writing;

pub(in crate::ops) use self::host::Link;
pub use self::link::{AgentStreams, LinkError};
pub(in crate::ops) use self::receiving::ReceiveOptions;
pub use self::receiving::RemoteSource;
pub use self::remote_sink::RemoteSink;
pub(in crate::ops) use self::serve::chain;
pub use self::serve::serve;
pub use self::start::AGENT_VERB;
pub(in crate::ops) use self::start::start_agent;
