//! The command line: arguments, output, advice. One file per verb.
//!
//! Floor 10. Nothing below imports it; what it knows of the library is the public face.

mod agent;
mod args;
mod backup;
mod cache;
mod check;
mod completions;
mod context;
mod copy;
mod cp;
mod diff;
mod disk;
mod doctor;
mod dump;
mod engine;
mod environment;
mod error;
mod find;
mod forget;
mod hygiene;
mod init;
mod inspect;
mod key;
mod live;
mod look;
mod ls;
mod man;
mod names;
mod new_key;
mod open;
mod output;
mod places;
mod prompt;
mod prune;
mod repair;
mod repository;
mod restore;
mod secret;
mod signal;
mod snapshots;
mod stats;

use std::ffi::OsString;

use self::args::Cli;
use self::context::Context;
use self::environment::Environment;
use self::error::{CliError, ExitCode, Kind};
use self::output::Format;

/// Runs the program and says how the process ends.
pub(crate) fn main() -> std::process::ExitCode {
    hygiene::apply();
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if let Some(code) = agent::serve_if_asked(&arguments) {
        return code;
    }
    let format = Format::wanted_by(&arguments);
    let code = match std::panic::catch_unwind(|| run(&arguments)) {
        Ok(Ok(code)) => code.code(),
        Ok(Err(Stop::Parser(error))) => output::report_parser(&error, format),
        Ok(Err(Stop::Error(error))) => {
            output::report(&error, format);
            error.code()
        }
        // The hook has printed where; what it carried stays unsaid.
        Err(_) => {
            let error = CliError::new(Kind::Failed, "internal error; this is a bug of vault");
            output::report(&error, format);
            error.code()
        }
    };
    std::process::ExitCode::from(code)
}

enum Stop {
    Parser(clap::Error),
    Error(CliError),
}

impl From<CliError> for Stop {
    fn from(error: CliError) -> Self {
        Self::Error(error)
    }
}

fn run(arguments: &[OsString]) -> Result<ExitCode, Stop> {
    let cli = <Cli as clap::Parser>::try_parse_from(arguments).map_err(Stop::Parser)?;
    let environment = Environment::of_process()?;
    let interrupted = signal::watch()?;
    let context = Context::new(&cli.global, environment, interrupted)?;
    let code = cli.command.run(&context)?;
    context.output.flush()?;
    Ok(code)
}
