//! `vault key`

use std::path::{Path, PathBuf};

use serde_json::json;
use volume_vault::clock::Time;
use volume_vault::entry::escape;
use volume_vault::id::SlotId;
use volume_vault::repo::{Repository, Secret, SlotInfo, list_slots, remove_slot, unlock};

use super::context::Context;
use super::error::{CliError, ExitCode, Kind};
use super::new_key::{NewKey, retire_key_file};
use super::open::{
    Opened, add_recovery_code, ask_recovery_code, open, open_store, open_with, to_secret,
};
use super::output::{Align, Table, document, rfc3339, time};

/// List, add and remove what opens the repository
#[derive(Debug, clap::Args)]
pub(crate) struct KeyArgs {
    #[command(subcommand)]
    pub(crate) command: KeyCommand,
}

/// What to do with keys.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum KeyCommand {
    /// List the key slots
    #[command(after_help = "\
Examples:
  vault key list           the slots and what opens them
  vault key list --json    with full ids")]
    List,

    /// Add a password or key file beside those there are
    #[command(after_help = "\
Examples:
  vault key add                                     asks for the new password
  vault key add --new-password-file ./p --name ops  takes it from a file
  vault key add --recovery                          opens with the recovery code")]
    Add {
        /// Open the repository with the recovery code
        #[arg(long)]
        recovery: bool,

        /// What to call the slot in lists
        #[arg(long, value_name = "NAME")]
        name: Option<String>,

        #[command(flatten)]
        new: NewKeyArgs,
    },

    /// Remove a slot; the last one and the only way in are kept
    #[command(after_help = "\
Examples:
  vault key remove 1a2b3c4d          the slot of that id
  vault key remove 1a2b3c4d --yes    without being asked")]
    Remove {
        /// Id of the slot, or a prefix of it
        #[arg(value_name = "SLOT")]
        slot: String,
    },

    /// Replace the password or key that was used to open it
    #[command(after_help = "\
Examples:
  vault key passwd                                      asks for the new one
  vault key passwd --new-password-command 'pass vault'  takes it from a command
  vault key passwd --recovery                           when the old one is lost")]
    Passwd {
        /// Open the repository with the recovery code, which stays good
        #[arg(long)]
        recovery: bool,

        #[command(flatten)]
        new: NewKeyArgs,
    },

    /// Make a recovery code to print and lock away; it is shown once
    #[command(after_help = "\
Examples:
  vault key recovery              shows it on the terminal
  vault key recovery --json       prints it as JSON; keep that off the disk")]
    Recovery,

    /// Try a password, key file or recovery code without changing anything
    ///
    /// The recovery code is asked for at the terminal, or read from standard input.
    #[command(after_help = "\
Examples:
  vault key test                              what would be used now
  vault key test --password-file ./printed    a certain one
  vault key test --recovery                   asks for the recovery code")]
    Test {
        /// Ask for the recovery code
        #[arg(long)]
        recovery: bool,
    },
}

/// Where a new password or key comes from; asked for at the terminal if left out.
#[derive(Debug, clap::Args)]
#[group(multiple = false)]
pub(crate) struct NewKeyArgs {
    /// Read the new password from this file
    #[arg(long, value_name = "FILE")]
    pub(crate) new_password_file: Option<PathBuf>,

    /// Read the new password from what this command prints
    #[arg(long, value_name = "COMMAND")]
    pub(crate) new_password_command: Option<String>,

    /// Use this key file; it is made if it does not exist
    #[arg(long, value_name = "FILE")]
    pub(crate) new_key_file: Option<PathBuf>,
}

pub(crate) fn run(args: KeyArgs, context: &Context) -> Result<ExitCode, CliError> {
    match args.command {
        KeyCommand::List => list(context),
        KeyCommand::Add { recovery, name, new } => add(context, recovery, name.as_deref(), new),
        KeyCommand::Remove { slot } => remove(context, &slot),
        KeyCommand::Passwd { recovery, new } => passwd(context, recovery, new),
        KeyCommand::Recovery => recovery_code(context),
        KeyCommand::Test { recovery } => test(context, recovery),
    }
}

/// Opens the repository as `--recovery` or its absence asks.
fn open_by(context: &Context, recovery: bool) -> Result<Opened, CliError> {
    if recovery { open_with(context, &ask_recovery_code()?) } else { open(context) }
}

fn list(context: &Context) -> Result<ExitCode, CliError> {
    let store = open_store(context, &context.repository()?)?;
    let _ = Repository::probe(&*store)?;
    let slots = list_slots(&*store)?;
    if context.output.format.is_json() {
        let slots: Vec<_> = slots.iter().map(slot_json).collect();
        context.output.document(&document(json!({ "keys": slots })))?;
        return Ok(ExitCode::Done);
    }
    if context.output.quiet {
        slots.iter().try_for_each(|slot| context.output.line(&slot.id.to_string()))?;
        return Ok(ExitCode::Done);
    }
    let mut table = Table::new(&[
        ("SLOT", Align::Left),
        ("OPENS WITH", Align::Left),
        ("NAME", Align::Left),
        ("MADE", Align::Left),
    ]);
    for slot in &slots {
        let made = match slot.sound {
            true => time(Time::new(slot.created, 0), &context.zone),
            false => String::new(),
        };
        // Whoever can write to the store has written these.
        let [kind, label] = [&slot.kind, &slot.label].map(|text| escape(text.as_bytes()));
        table.row([slot.id.short(), kind, label, made]);
    }
    table.lines().iter().try_for_each(|line| context.output.line(line))?;
    Ok(ExitCode::Done)
}

fn slot_json(slot: &SlotInfo) -> serde_json::Value {
    json!({
        "slot": slot.id.to_string(),
        "kind": slot.sound.then_some(&slot.kind),
        "name": slot.label,
        "created": slot.sound.then(|| rfc3339(Time::new(slot.created, 0))).flatten(),
        "damaged": (!slot.sound).then_some(&slot.kind),
    })
}

fn add(
    context: &Context,
    recovery: bool,
    name: Option<&str>,
    new: NewKeyArgs,
) -> Result<ExitCode, CliError> {
    let repo = open_by(context, recovery)?;
    if context.dry_run {
        context.output.say("would add a key")?;
        return Ok(ExitCode::Done);
    }
    let new = NewKey::obtain(context, &repo, new, None)?;
    let slot = new.store(context, &repo, name)?;
    let key_file = new.settle(&repo)?;
    retire_key_file(context, &repo)?;
    say_added(context, &slot, key_file.as_deref(), None)
}

fn passwd(context: &Context, recovery: bool, new: NewKeyArgs) -> Result<ExitCode, CliError> {
    let repo = open_by(context, recovery)?;
    let old = repo.slot();
    let label = list_slots(&**repo.store())?.into_iter().find(|slot| slot.id == old);
    let label = label.filter(|_| !recovery).map(|slot| slot.label);
    if context.dry_run {
        let message = match recovery {
            true => "would add a key".to_owned(),
            false => format!("would add a key, then remove {}", old.short()),
        };
        context.output.say(&message)?;
        return Ok(ExitCode::Done);
    }
    let new = NewKey::obtain(context, &repo, new, (!recovery).then_some(old))?;
    // The new slot is stored and was read back before the old one goes; a crash between leaves
    // both.
    let slot = new.store(context, &repo, label.as_deref())?;
    let key_file = new.settle(&repo)?;
    if !recovery {
        remove_slot(&**repo.store(), &old)?;
    }
    retire_key_file(context, &repo)?;
    if recovery {
        context.output.remark(
            "the recovery code stays good; `vault key remove SLOT` takes away keys that were lost",
        );
    }
    say_added(context, &slot, key_file.as_deref(), (!recovery).then_some(old))
}

fn say_added(
    context: &Context,
    slot: &SlotId,
    key_file: Option<&Path>,
    removed: Option<SlotId>,
) -> Result<ExitCode, CliError> {
    if context.output.format.is_json() {
        context.output.document(&document(json!({
            "slot": slot.to_string(),
            "key_file": key_file,
            "removed": removed.map(|slot| slot.to_string()),
        })))?;
        return Ok(ExitCode::Done);
    }
    context.output.say(&match removed {
        Some(old) => format!("key {} replaces {}", slot.short(), old.short()),
        None => format!("added key {}", slot.short()),
    })?;
    if let Some(path) = key_file {
        context.output.say(&format!("it is in {}; keep a copy elsewhere", path.display()))?;
    }
    Ok(ExitCode::Done)
}

fn remove(context: &Context, prefix: &str) -> Result<ExitCode, CliError> {
    // Who removes a key must hold one: what opens the repository now is known to work.
    let repo = open(context)?;
    let slots = list_slots(&**repo.store())?;
    let slot = slot_of(&slots, prefix)?;
    let short = slot.id.short();
    if !slots.iter().any(|other| other.sound && other.id != slot.id) {
        let message = format!("key {short} is the last one");
        return Err(CliError::new(Kind::Refused, message)
            .object(slot.id.to_string())
            .hint("add another first: `vault key add`"));
    }
    let mut what = format!("remove key {short} ({})", escape(slot.kind.as_bytes()));
    if slot.id == repo.slot() {
        what.push_str(", the one that opened the repository now");
    }
    if context.dry_run {
        context.output.say(&format!("would {what}"))?;
        return Ok(ExitCode::Done);
    }
    context.confirm(&what)?;
    remove_slot(&**repo.store(), &slot.id)?;
    retire_key_file(context, &repo)?;
    if context.output.format.is_json() {
        context.output.document(&document(json!({ "removed": slot.id.to_string() })))?;
    }
    context.output.say(&format!("removed key {short}"))?;
    Ok(ExitCode::Done)
}

/// The slot whose id starts with these digits.
fn slot_of<'s>(slots: &'s [SlotInfo], prefix: &str) -> Result<&'s SlotInfo, CliError> {
    let prefix = prefix.to_ascii_lowercase();
    let mut fitting = slots.iter().filter(|slot| slot.id.to_string().starts_with(&prefix));
    match (fitting.next(), fitting.next()) {
        (Some(slot), None) if !prefix.is_empty() => Ok(slot),
        (None, _) => {
            let message = format!("no key starts with `{}`", escape(prefix.as_bytes()));
            Err(CliError::new(Kind::NotFound, message).hint("`vault key list` shows them"))
        }
        _ => {
            let message = format!("several keys start with `{}`", escape(prefix.as_bytes()));
            Err(CliError::new(Kind::Ambiguous, message).hint("give more digits"))
        }
    }
}

fn recovery_code(context: &Context) -> Result<ExitCode, CliError> {
    let repo = open(context)?;
    let older = list_slots(&**repo.store())?;
    let older = older.iter().filter(|slot| slot.kind == Secret::RECOVERY_CODE).count();
    if context.dry_run {
        context.output.say("would make a recovery code")?;
        return Ok(ExitCode::Done);
    }
    let words = add_recovery_code(context, &repo)?;
    if context.output.format.is_json() {
        let fields = json!({ "recovery_code": words.as_str(), "older": older });
        return context.output.document(&document(fields)).map(|()| ExitCode::Done);
    }
    context.output.line(&words)?;
    context.output.remark("this is the only time it is shown; write it down and lock it away");
    if older > 0 {
        let message =
            format!("{older} older recovery codes stay good; `vault key list` shows them");
        context.output.remark(&message);
    }
    Ok(ExitCode::Done)
}

fn test(context: &Context, recovery: bool) -> Result<ExitCode, CliError> {
    let choice = context.repository()?;
    let store = open_store(context, &choice)?;
    let id = Repository::probe(&*store)?.repository;
    let secret = match recovery {
        true => ask_recovery_code()?,
        false => to_secret(context.credentials(&choice).existing(&id)?)?,
    };
    let (_, slot) = unlock(&*store, &id, &secret)?;
    let label = list_slots(&*store)?.into_iter().find(|info| info.id == slot);
    let label = label.map(|info| info.label).unwrap_or_default();
    if context.output.format.is_json() {
        let slot = slot.to_string();
        let fields = json!({ "opens": true, "kind": secret.name(), "slot": slot, "name": label });
        return context.output.document(&document(fields)).map(|()| ExitCode::Done);
    }
    let label = escape(label.as_bytes());
    let name = secret.name();
    context.output.say(&format!("the {name} opens key slot {} ({label})", slot.short()))?;
    Ok(ExitCode::Done)
}
