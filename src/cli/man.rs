//! `vault man`

use std::path::{Path, PathBuf};

use clap::CommandFactory as _;

use super::args::Cli;
use super::context::Context;
use super::error::{CliError, ExitCode, Kind};

const EXAMPLES: &str = "\
Examples:
  vault man | man -l -                        read the page of vault itself
  vault man --out /usr/local/share/man/man1   write a page for each command";

/// Print the manual page, or write one for each command
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ManArgs {
    /// Write `vault.1`, `vault-backup.1` and so on into this folder
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

pub(crate) fn run(args: ManArgs, context: &Context) -> Result<ExitCode, CliError> {
    let Some(folder) = args.out else {
        let mut page = Vec::new();
        let rendered = clap_mangen::Man::new(Cli::command()).render(&mut page);
        rendered.map_err(|error| CliError::new(Kind::Failed, "make the manual").because(error))?;
        context.output.bytes(&page)?;
        return Ok(ExitCode::Done);
    };
    if context.dry_run {
        context.output.say(&format!("would write the manual pages into {}", folder.display()))?;
        return Ok(ExitCode::Done);
    }
    write_pages(&folder)?;
    context.output.say(&format!("wrote the manual pages into {}", folder.display()))?;
    Ok(ExitCode::Done)
}

fn write_pages(folder: &Path) -> Result<(), CliError> {
    let failed = |error| {
        let message = format!("write manual pages into `{}`", folder.display());
        CliError::new(Kind::Failed, message).because(error)
    };
    std::fs::create_dir_all(folder).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), folder).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_gets_a_page_with_its_examples() {
        let dir = tempfile::tempdir().expect("a directory");
        write_pages(dir.path()).expect("written");
        for page in ["vault.1", "vault-backup.1", "vault-restore.1", "vault-key-add.1"] {
            let text = std::fs::read_to_string(dir.path().join(page)).expect(page);
            assert!(text.contains("Examples:"), "{page}");
        }
    }
}
