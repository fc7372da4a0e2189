//! `vault cache`

use std::path::Path;

use serde_json::{Value, json};
use volume_vault::entry::escape;
use volume_vault::repo::{CacheUse, cache_use, clear_cache};

use super::context::Context;
use super::error::{CliError, ExitCode};
use super::output::{Align, Table, document, size};

/// Show or empty what is kept of repositories on this machine
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  vault cache             where it is, and how large
  vault cache --json      raw bytes
  vault cache clear       empties it")]
pub(crate) struct CacheArgs {
    #[command(subcommand)]
    pub(crate) command: Option<CacheCommand>,
}

/// What to do with the cache.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum CacheCommand {
    /// Remove all that is kept, which is fetched again when it is needed
    #[command(after_help = "\
Examples:
  vault cache clear              of all repositories
  vault cache clear --dry-run    how much that would be")]
    Clear,
}

pub(crate) fn run(args: CacheArgs, context: &Context) -> Result<ExitCode, CliError> {
    let Some(dir) = &context.cache_dir else {
        return Err(CliError::usage("with --no-cache there is no cache to look at"));
    };
    let used: Vec<(String, CacheUse)> =
        cache_use(dir)?.into_iter().map(|(id, used)| (id.to_string(), used)).collect();
    let bytes: u64 = used.iter().map(|(_, used)| used.bytes()).sum();
    match args.command {
        None => show(context, dir, &used, bytes)?,
        Some(CacheCommand::Clear) => {
            if !context.dry_run {
                clear_cache(dir)?;
            }
            let would = if context.dry_run { "would free" } else { "freed" };
            let fields = json!({
                "cache_dir": dir.display().to_string(),
                "dry_run": context.dry_run,
                "freed_bytes": bytes,
            });
            print(context, fields, &[format!("{would} {} in {}", size(bytes), shown(dir))])?;
        }
    }
    Ok(ExitCode::Done)
}

fn show(
    context: &Context,
    dir: &Path,
    used: &[(String, CacheUse)],
    bytes: u64,
) -> Result<(), CliError> {
    let repository = |(id, used): &(String, CacheUse)| {
        json!({
            "repository": id,
            "index_bytes": used.index,
            "record_bytes": used.records,
            "tree_bytes": used.trees,
            "other_bytes": used.other,
            "bytes": used.bytes(),
        })
    };
    let fields = json!({
        "cache_dir": dir.display().to_string(),
        "repositories": used.iter().map(repository).collect::<Vec<_>>(),
        "bytes": bytes,
    });
    let mut lines = vec![format!("{} in {}", size(bytes), shown(dir))];
    if !used.is_empty() {
        let head = ["REPOSITORY", "INDEX", "RECORDS", "TREES", "OTHER", "ALL"];
        let align = |name| (name, if name == "REPOSITORY" { Align::Left } else { Align::Right });
        let mut table = Table::new(&head.map(align));
        for (id, used) in used {
            let [a, b, c, d, e] =
                [used.index, used.records, used.trees, used.other, used.bytes()].map(size);
            table.row([id[..8].to_owned(), a, b, c, d, e]);
        }
        lines.extend(table.lines());
    }
    print(context, fields, &lines)
}

fn shown(dir: &Path) -> String {
    escape(dir.as_os_str().as_encoded_bytes())
}

fn print(context: &Context, fields: Value, lines: &[String]) -> Result<(), CliError> {
    match context.output.format.is_json() {
        true => context.output.document(&document(fields)),
        false => lines.iter().try_for_each(|line| context.output.line(line)),
    }
}
