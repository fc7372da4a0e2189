//! `vault completions`

use clap::CommandFactory as _;

use super::args::Cli;
use super::context::Context;
use super::error::{CliError, ExitCode};

const EXAMPLES: &str = "\
Examples:
  vault completions bash > /etc/bash_completion.d/vault
  vault completions zsh > /usr/local/share/zsh/site-functions/_vault
  vault completions fish > ~/.config/fish/completions/vault.fish";

/// Print a completion script for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL", value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

pub(crate) fn run(args: CompletionsArgs, context: &Context) -> Result<ExitCode, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "vault", &mut script);
    context.output.bytes(&script)?;
    Ok(ExitCode::Done)
}
