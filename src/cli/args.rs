//! The whole command line as one type: global flags and the verbs.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::context::Context;
use super::error::{CliError, ExitCode};
use super::output::Format;
use super::{
    backup, cache, check, completions, copy, cp, diff, doctor, dump, forget, init, inspect, key,
    ls, man, prune, repair, restore, snapshots, stats,
};

const EXAMPLES: &str = "\
Examples:
  vault backup my-data                        save a Docker volume; nothing to configure
  vault restore my-data --as my-data-2        bring it back as a new volume
  vault -r /mnt/disk/backup snapshots         list what another repository holds

Exit codes: 0 done, 1 failed, 2 usage, 3 something was skipped, 10 no repository,
12 wrong password or key, 13 repository damaged, 14 refused, 15 not found,
16 not reachable, 130 interrupted.";

/// Backs up Docker volumes into a deduplicated, encrypted repository and brings them back.
#[derive(Debug, Parser)]
#[command(
    name = "vault",
    version,
    after_help = EXAMPLES,
    arg_required_else_help = true,
    subcommand_required = true,
    disable_help_subcommand = false,
    max_term_width = 100
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags that every verb takes.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalArgs {
    /// Repository: a path, a URL (s3://BUCKET/PREFIX, az://, gs://, https://,
    /// sftp://, file://) or a name
    /// from the configuration [env: VAULT_REPO]
    #[arg(short, long, global = true, value_name = "URL")]
    pub(crate) repo: Option<String>,

    /// Read the password from this file, which only you may read [env: VAULT_PASSWORD_FILE]
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "password_command")]
    pub(crate) password_file: Option<PathBuf>,

    /// Read the password from what this command prints [env: VAULT_PASSWORD_COMMAND]
    #[arg(long, global = true, value_name = "COMMAND")]
    pub(crate) password_command: Option<String>,

    /// Open the repository with this key file [env: VAULT_KEY_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    #[arg(conflicts_with_all = ["password_file", "password_command"])]
    pub(crate) key_file: Option<PathBuf>,

    /// Docker host: ssh://, tcp://, unix://, a docker context, a name that ssh knows or one from
    /// the configuration [env: DOCKER_HOST, DOCKER_CONTEXT]
    #[arg(short = 'H', long, global = true, value_name = "HOST")]
    #[arg(visible_short_alias = 'c', visible_alias = "context")]
    pub(crate) host: Option<String>,

    /// Configuration file [env: VAULT_CONFIG]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Print one JSON document; with =lines, events and progress too, a line each
    #[arg(long, global = true, value_name = "FORM", value_enum)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "document")]
    pub(crate) json: Option<JsonForm>,

    /// Print less; lists show ids only
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,

    /// Print more; twice for even more
    #[arg(short, long, global = true, action = clap::ArgAction::Count, conflicts_with = "quiet")]
    pub(crate) verbose: u8,

    /// Show no progress bar and no progress lines
    #[arg(long, global = true)]
    pub(crate) no_progress: bool,

    /// Folder for what can be fetched again at any time [env: VAULT_CACHE_DIR]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) cache_dir: Option<PathBuf>,

    /// Keep nothing in a cache
    #[arg(long, global = true, conflicts_with = "cache_dir")]
    pub(crate) no_cache: bool,

    /// Send no more than so many bytes a second to a store elsewhere, such as 2MiB
    #[arg(long, global = true, value_name = "RATE")]
    pub(crate) limit_upload: Option<String>,

    /// Receive no more than so many bytes a second from a store elsewhere, such as 2MiB
    #[arg(long, global = true, value_name = "RATE")]
    pub(crate) limit_download: Option<String>,

    /// Most memory to use for data on its way, such as 128MiB [default: 256MiB]
    #[arg(long, global = true, value_name = "SIZE")]
    pub(crate) memory: Option<String>,

    /// Print what would be done and change nothing
    #[arg(long, global = true)]
    pub(crate) dry_run: bool,

    /// Do not ask; do it
    #[arg(short, long, global = true)]
    pub(crate) yes: bool,
}

/// The forms of `--json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum JsonForm {
    /// One document at the end
    Document,
    /// Events and progress as they come, the document as the last line
    Lines,
}

impl From<Option<JsonForm>> for Format {
    fn from(form: Option<JsonForm>) -> Self {
        match form {
            None => Self::Human,
            Some(JsonForm::Document) => Self::Json,
            Some(JsonForm::Lines) => Self::JsonLines,
        }
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Init(init::InitArgs),
    Backup(backup::BackupArgs),
    Restore(restore::RestoreArgs),
    Snapshots(snapshots::SnapshotsArgs),
    Inspect(inspect::InspectArgs),
    Ls(ls::LsArgs),
    Dump(dump::DumpArgs),
    Cp(cp::CpArgs),
    Copy(copy::CopyArgs),
    Diff(diff::DiffArgs),
    Forget(forget::ForgetArgs),
    Check(check::CheckArgs),
    Prune(prune::PruneArgs),
    Repair(repair::RepairArgs),
    Stats(stats::StatsArgs),
    Key(key::KeyArgs),
    Cache(cache::CacheArgs),
    Doctor(doctor::DoctorArgs),
    Completions(completions::CompletionsArgs),
    Man(man::ManArgs),
}

impl Command {
    /// Runs the verb.
    pub(crate) fn run(self, context: &Context) -> Result<ExitCode, CliError> {
        match self {
            Self::Init(args) => init::run(args, context),
            Self::Backup(args) => backup::run(args, context),
            Self::Restore(args) => restore::run(args, context),
            Self::Snapshots(args) => snapshots::run(args, context),
            Self::Inspect(args) => inspect::run(args, context),
            Self::Ls(args) => ls::run(args, context),
            Self::Dump(args) => dump::run(args, context),
            Self::Cp(args) => cp::run(args, context),
            Self::Copy(args) => copy::run(args, context),
            Self::Diff(args) => diff::run(args, context),
            Self::Forget(args) => forget::run(args, context),
            Self::Check(args) => check::run(args, context),
            Self::Prune(args) => prune::run(args, context),
            Self::Repair(args) => repair::run(args, context),
            Self::Stats(args) => stats::run(args, context),
            Self::Key(args) => key::run(args, context),
            Self::Cache(args) => cache::run(args, context),
            Self::Doctor(args) => doctor::run(args, context),
            Self::Completions(args) => completions::run(args, context),
            Self::Man(args) => man::run(args, context),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    /// Splits at spaces outside single quotes, as a shell would.
    fn parse(line: &str) -> Result<Cli, clap::Error> {
        let mut words = vec![String::new()];
        for (at, piece) in line.split('\'').enumerate() {
            let mut parts = if at % 2 == 1 { vec![piece] } else { piece.split(' ').collect() };
            let first = parts.remove(0);
            words.last_mut().expect("one word at least").push_str(first);
            words.extend(parts.into_iter().map(str::to_owned));
        }
        Cli::try_parse_from(words.into_iter().filter(|word| !word.is_empty()))
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_carries_worked_examples_and_no_flag_is_hidden() {
        fn visit(command: &clap::Command, path: &str) {
            let name = format!("{path} {}", command.get_name());
            assert!(command.get_about().is_some(), "{name}: no description");
            let hidden = command.get_arguments().find(|argument| argument.is_hide_set());
            assert!(hidden.is_none(), "{name}: hidden {hidden:?}");
            if command.get_subcommands().next().is_none() {
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                let examples = help.lines().filter(|line| line.trim().starts_with("vault")).count();
                assert!((2..=3).contains(&examples), "{name}: {examples} examples");
            }
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{name}: {argument} is not described");
            }
            command.get_subcommands().for_each(|inner| visit(inner, &name));
        }
        visit(&Cli::command(), "");
    }

    #[test]
    fn every_example_parses() {
        fn examples(command: &clap::Command, all: &mut Vec<String>) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let lines = help.lines().map(str::trim).filter(|line| line.starts_with("vault "));
            // The explanation stands two spaces behind, redirections and pipes are the shell's.
            all.extend(lines.map(|line| {
                let end = line.find("  ").unwrap_or(line.len());
                line[..end].split(['>', '|']).next().unwrap_or_default().to_owned()
            }));
            command.get_subcommands().for_each(|inner| examples(inner, all));
        }
        let mut all = Vec::new();
        examples(&Cli::command(), &mut all);
        assert!(all.len() > 30, "{all:?}");
        for line in all {
            if let Err(error) = parse(&line) {
                assert!(!error.use_stderr(), "{line}\n{error}");
            }
        }
    }

    #[test]
    fn global_flags_stand_before_or_after_the_verb() {
        for line in ["vault -r /r --json=lines snapshots", "vault snapshots --json=lines -r /r"] {
            let cli = parse(line).expect(line);
            assert_eq!(cli.global.repo.as_deref(), Some("/r"));
            assert_eq!(cli.global.json, Some(JsonForm::Lines));
        }
        let cli = parse("vault snapshots --json").expect("valid");
        assert_eq!(cli.global.json, Some(JsonForm::Document));
        let cli = parse("vault -c other snapshots").expect("valid");
        assert_eq!(cli.global.host.as_deref(), Some("other"));
    }

    #[test]
    fn flags_that_contradict_each_other_are_refused() {
        for line in [
            "vault",
            "vault -q -v snapshots",
            "vault --key-file a --password-file b snapshots",
            "vault --no-cache --cache-dir x snapshots",
            "vault backup",
            "vault backup my-data --host-path --archive-api",
            "vault restore a --as b --target c",
            "vault restore a --to h --target c",
            "vault restore a --keep-extra",
            "vault dump latest",
            "vault dump latest /x --tar",
            "vault forget 1a2b --from h",
            "vault forget 1a2b --tag t",
            "vault forget --undo 1a2b --keep-last 1",
            "vault forget --keep-last -1",
            "vault repair",
            "vault check --scrub --read-data",
        ] {
            let error = parse(line).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}
