//! `vault agent PLACE`: the other half of a backup or restore, beside the data.
//!
//! No verb for people: this program starts it in a container, and talks to it over its standard
//! streams. So it has no help, no configuration, and says nothing but what belongs there.

use std::ffi::OsString;
use std::fs::File;
use std::io::{stdin, stdout};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::ExitCode;

use volume_vault::clock::Clock;
use volume_vault::ops::agent::{AGENT_VERB, LinkError, serve};

/// Is the agent until the other side is done, if the arguments say so.
pub(crate) fn serve_if_asked(arguments: &[OsString]) -> Option<ExitCode> {
    let [_, verb, place] = arguments else { return None };
    if verb != AGENT_VERB {
        return None;
    }
    Some(match serve_here(Path::new(place)) {
        Ok(()) => ExitCode::SUCCESS,
        // It was said over the streams, if anybody listens.
        Err(_) => ExitCode::FAILURE,
    })
}

fn serve_here(place: &Path) -> Result<(), LinkError> {
    // Without the buffers that the standard streams have: messages come and go whole.
    let input = File::from(stdin().as_fd().try_clone_to_owned()?);
    let output = File::from(stdout().as_fd().try_clone_to_owned()?);
    serve(Box::new(input), Box::new(output), place, Clock::System)
}
