//! `vault init`

use std::io::ErrorKind;
use std::path::Path;

use serde_json::json;
use volume_vault::config::add_default_repository;
use volume_vault::format::StoreFacts;
use volume_vault::repo::to_facts;
use volume_vault::store::{self, Location, Store, probe};

use super::context::Context;
use super::error::{CliError, ExitCode, Kind};
use super::open::make;
use super::output::document;

const EXAMPLES: &str = "\
Examples:
  vault init                             the default repository of this machine
  vault init /mnt/disk/backup            one on another disk; asks for a password
  vault init s3://bucket/vault --default  one in a bucket, used wherever none is named

Without a password and without a terminal it is opened by a key file, whose place is printed.";

/// Make a repository
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct InitArgs {
    /// Where to make it: a path or URL, as for --repo; the one named by --repo, VAULT_REPO or the
    /// configuration if left out
    #[arg(value_name = "URL")]
    pub(crate) url: Option<String>,

    /// Write it into the configuration file as the one used where none is named
    #[arg(long)]
    pub(crate) default: bool,
}

pub(crate) fn run(args: InitArgs, context: &Context) -> Result<ExitCode, CliError> {
    let choice = match &args.url {
        Some(url) => context.repository_at(url)?,
        None => context.repository()?,
    };
    let location = choice.location()?;
    if let Location::Local(path) = &location {
        refuse_other_use(path)?;
    }
    if context.dry_run {
        context.output.say(&format!("would make a repository in {location}"))?;
        return Ok(ExitCode::Done);
    }
    let credential = context.credentials(&choice).new_slot()?;
    let store = store::create_with(&location, &context.access)?;
    let mut facts = None;
    if !matches!(location, Location::Local(_)) {
        refuse_other_objects(&*store)?;
        facts = Some(try_out(context, &*store)?);
    }
    let made = make(context, &*store, credential, facts)?;
    let mut configured = None;
    if args.default {
        let path = context.config_file_to_write();
        add_default_repository(&path, "default", &choice.url)?;
        configured = Some(path);
    }
    if context.output.format.is_json() {
        context.output.document(&document(json!({
            "repository": made.id.to_string(),
            "url": choice.url,
            "key_file": made.key_file,
            "config_file": configured,
        })))?;
        return Ok(ExitCode::Done);
    }
    context.output.say(&format!("made repository {} in {location}", made.id.short()))?;
    if let Some(path) = &made.key_file {
        context.output.say(&format!("its key is {}; keep a copy elsewhere", path.display()))?;
    }
    if let Some(path) = &configured {
        context.output.say(&format!("{} names it as the default", path.display()))?;
    }
    context.output.remark("make a recovery code and lock it away: `vault key recovery`");
    Ok(ExitCode::Done)
}

/// As [`refuse_other_use`], for a store elsewhere. Making a repository where there is one fails
/// further on, by name.
fn refuse_other_objects(store: &dyn Store) -> Result<(), CliError> {
    const OURS: [&str; 4] = ["keys", "config", "probe", "vault.json"];
    let there = store.list("")?;
    let is_ours = |name: &str| OURS.contains(&name.split('/').next().unwrap_or_default());
    let repository = there.iter().any(|object| object.name.as_str() == "vault.json");
    if repository || there.iter().all(|object| is_ours(object.name.as_str())) {
        return Ok(());
    }
    let message = format!("`{}` is not empty and holds no repository", store.location());
    Err(CliError::new(Kind::Refused, message).hint("name another prefix, or an empty place"))
}

/// Sees whether a store does what a repository needs, before anything depends on it.
fn try_out(context: &Context, store: &dyn Store) -> Result<StoreFacts, CliError> {
    let found = probe(store, context.clock)?;
    if !found.is_usable() {
        let message = format!("`{}` does not show what was just written", store.location());
        return Err(CliError::new(Kind::Refused, message)
            .hint("a repository needs a store that lists and reads what it has acknowledged"));
    }
    if !found.lists_written {
        context.output.remark(
            "its lists lag behind what is written: `vault prune` there needs `--grace 7d` or more",
        );
    }
    Ok(to_facts(&found, None, context.now()))
}

/// A folder that holds anything but a repository, or the remains of making one, is somebody else's.
fn refuse_other_use(path: &Path) -> Result<(), CliError> {
    const OURS: [&str; 3] = ["keys", "config", "lost+found"];
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            let message = format!("look into `{}`", path.display());
            return Err(CliError::new(Kind::Refused, message).because(error));
        }
    };
    let names: Vec<_> = entries.filter_map(Result::ok).map(|entry| entry.file_name()).collect();
    let ours = |name: &std::ffi::OsString| name.to_str().is_some_and(|name| OURS.contains(&name));
    if names.iter().any(|name| name == "vault.json") {
        return Ok(());
    }
    // The remains of an attempt that was cut short have names of digits only.
    let digits = |folder: &str| {
        let entries = std::fs::read_dir(path.join(folder)).into_iter().flatten();
        entries.filter_map(Result::ok).all(|entry| {
            entry.file_name().to_str().is_some_and(|name| {
                name.starts_with(".tmp-") || name.bytes().all(|b| b.is_ascii_hexdigit())
            })
        })
    };
    if names.iter().all(ours) && digits("keys") && digits("config") {
        return Ok(());
    }
    let message = format!("`{}` is not empty and holds no repository", path.display());
    Err(CliError::new(Kind::Refused, message).hint("name a new or an empty folder"))
}
