//! `vault copy`

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use volume_vault::event::Observer;
use volume_vault::id::RepositoryId;
use volume_vault::ops::Interrupt;
use volume_vault::ops::copy::{
    Copied, CopyOptions, Copying, DamagedFiles, Fate, ForgottenThere, Outcome, Plan, Refused, Row,
    plan,
};
use volume_vault::repo::Snapshot;

use super::backup::LEVEL_DEFAULT;
use super::context::Context;
use super::error::{CliError, ExitCode, Kind};
use super::look::{Looking, SnapshotRow, chain, put_bytes, snapshot_fields, warn_of_forged};
use super::open::open_other;
use super::output::{Progress, count, document, escape_text, short_duration, size, time};
use super::snapshots::{check_names, sources, wanted};

const EXAMPLES: &str = "\
Examples:
  vault copy --to-repo s3://bucket/prefix               all snapshots that are not there yet
  vault copy my-data --from host1 --to-repo /mnt/usb    those of one volume of one host
  vault copy --tag monthly --to-repo archive --dry-run  what would be copied

Content is stored under the keys of the other repository; what is there already is not moved. A
copy keeps time, host, tags and all else, and is made once, also by way of a third repository.";

/// Copy snapshots into another repository
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CopyArgs {
    /// Copy only the series of these sources
    #[arg(value_name = "SOURCE")]
    pub(crate) sources: Vec<OsString>,

    /// The repository to copy to: as for --repo
    #[arg(long, value_name = "URL")]
    pub(crate) to_repo: String,

    /// Read the password of that repository from this file [env: VAULT_TO_PASSWORD_FILE]
    #[arg(long, value_name = "FILE", conflicts_with = "to_password_command")]
    pub(crate) to_password_file: Option<PathBuf>,

    /// Read the password of that repository from what this command prints
    /// [env: VAULT_TO_PASSWORD_COMMAND]
    #[arg(long, value_name = "COMMAND")]
    pub(crate) to_password_command: Option<String>,

    /// Open that repository with this key file [env: VAULT_TO_KEY_FILE]
    #[arg(long, value_name = "FILE")]
    #[arg(conflicts_with_all = ["to_password_file", "to_password_command"])]
    pub(crate) to_key_file: Option<PathBuf>,

    /// Copy only what this host saved
    #[arg(long, value_name = "HOST")]
    pub(crate) from: Option<String>,

    /// Copy only what carries this tag; several must all be carried
    #[arg(long, value_name = "TAG")]
    pub(crate) tag: Vec<String>,

    /// Copy again what was copied before and then forgotten there
    #[arg(long)]
    pub(crate) again: bool,

    /// Copy snapshots with damaged files without these (exit code 3), instead of leaving out the
    /// snapshots
    #[arg(long)]
    pub(crate) leave_out_damaged: bool,

    /// zstd level
    #[arg(long, value_name = "LEVEL", allow_negative_numbers = true)]
    #[arg(value_parser = clap::value_parser!(i32).range(-7..=19))]
    pub(crate) compression: Option<i32>,
}

/// What was done so far.
struct Done {
    repositories: (RepositoryId, RepositoryId),
    rows: Vec<Row>,
    copied: Vec<Copied>,
    refused: Vec<Refused>,
    damaged: Vec<Value>,
}

pub(crate) fn run(args: CopyArgs, context: &Context) -> Result<ExitCode, CliError> {
    let sources = sources(&args.sources, context)?;
    let from = Looking::open(context)?;
    let damaged = &from.list.damaged;
    if damaged.is_empty() {
        check_names(&from.list, &sources, args.from.as_deref())?;
    }
    let choice = context.repository_at(&args.to_repo)?;
    let credentials = context.credentials_to(
        &choice,
        args.to_key_file.clone(),
        args.to_password_file.clone(),
        args.to_password_command.clone(),
    );
    let to = open_other(context, &choice, &credentials, &from.repo)?;
    let is_wanted =
        |snapshot: &Snapshot| wanted(snapshot, &sources, args.from.as_deref(), &args.tag);
    let again = if args.again { ForgottenThere::Copy } else { ForgottenThere::Skip };
    let mut plan = plan(&from.repo, &from.list, &to, &is_wanted, again)?;
    warn(&from, &plan, context);
    let unreadable = damaged
        .iter()
        .map(|(object, why)| json!({"object": object.to_string(), "message": chain(why)}));
    let mut done = Done {
        repositories: (from.repo.id(), to.id()),
        rows: std::mem::take(&mut plan.rows),
        copied: Vec::new(),
        refused: Vec::new(),
        damaged: unreadable.collect(),
    };
    if context.dry_run {
        show_plan(&done, context)?;
        return end(done, context);
    }
    let options = CopyOptions {
        damaged: match args.leave_out_damaged {
            true => DamagedFiles::LeaveOut,
            false => DamagedFiles::Refuse,
        },
        level: args.compression.unwrap_or(LEVEL_DEFAULT),
        verify: true,
        memory: context.memory_bytes,
        clock: context.clock,
    };
    let mut copying = Copying::begin(&from.repo.repo, &to.repo, plan, options)?;
    let interrupt = Interrupt::new(context.interrupted.clone());
    for at in 0..done.rows.len() {
        let Row { snapshot, fate: Fate::Copy } = &done.rows[at] else { continue };
        let copied = interrupt.check().and_then(|()| {
            let progress = Arc::new(Progress::start(&context.output, "copy"));
            let observer: Arc<dyn Observer> = progress.clone();
            let copied = copying.copy(snapshot, &observer, &interrupt);
            progress.finish();
            copied
        });
        match copied {
            Ok(Outcome::Copied(copied)) => {
                show(snapshot, &copied, context)?;
                done.copied.push(copied);
            }
            Ok(Outcome::Refused(refused)) => {
                context.output.remark(&format!("error: {}", why_refused(&refused)));
                done.refused.push(refused);
            }
            Err(error) => return Err(CliError::from(error).after(body(&done, false))),
        }
    }
    end(done, context)
}

fn warn(from: &Looking, plan: &Plan, context: &Context) {
    warn_of_forged(&from.list, context);
    for (object, why) in &from.list.damaged {
        let why = escape_text(&chain(why));
        context
            .output
            .remark(&format!("warning: snapshot record `{object}` cannot be read: {why}"));
    }
    match plan.unreadable_there {
        0 => {}
        several => context.output.remark(&format!(
            "warning: {several} snapshot records cannot be read in the other repository; what \
             they stand for may be copied once more"
        )),
    }
}

/// A snapshot as a line of text names it.
fn named(snapshot: &Snapshot, context: &Context) -> String {
    let host = escape_text(&snapshot.body.host.name);
    let sources = SnapshotRow::of(snapshot).sources.join(", ");
    let at = time(snapshot.time(), &context.zone);
    format!("{} ({sources} of {host}, {at})", snapshot.id.short())
}

fn show_plan(done: &Done, context: &Context) -> Result<(), CliError> {
    for Row { snapshot, fate } in &done.rows {
        if *fate != Fate::Copy {
            continue;
        }
        if context.output.quiet && !context.output.format.is_json() {
            context.output.line(&snapshot.id.to_string())?;
            continue;
        }
        let bytes = SnapshotRow::of(snapshot).size;
        let line = format!("would copy {}, {}", named(snapshot, context), size(bytes));
        context.output.say(&line)?;
    }
    Ok(())
}

fn show(snapshot: &Snapshot, copied: &Copied, context: &Context) -> Result<(), CliError> {
    if context.output.format.is_json() {
        return Ok(());
    }
    if context.output.quiet {
        return context.output.line(&copied.snapshot.to_string());
    }
    let time = Duration::from_secs_f64(copied.seconds);
    let mut lines = vec![
        format!("copied {} as snapshot {}", named(snapshot, context), copied.snapshot.short()),
        format!(
            "  bytes    {} in all, {} read, {} new, {} stored in {}",
            size(copied.bytes),
            size(copied.bytes_read),
            size(copied.bytes_new),
            size(copied.bytes_stored),
            short_duration(time)
        ),
    ];
    if copied.left_out > 0 {
        lines.push(format!("  left out {}: damaged", count(copied.left_out)));
    }
    lines.push(format!("  head     {}", copied.head));
    lines.iter().try_for_each(|line| context.output.say(line))
}

fn why_refused(refused: &Refused) -> String {
    let what = match &refused.path {
        Some(path) => format!("`{path}` in {}", escape_text(&refused.item)),
        None => format!("the tree of {}", escape_text(&refused.item)),
    };
    let why = escape_text(&chain(&refused.error));
    format!("snapshot {} is not copied: {what} is damaged: {why}", refused.snapshot.short())
}

/// Says what came of all of it.
fn end(mut done: Done, context: &Context) -> Result<ExitCode, CliError> {
    let body = body(&done, context.dry_run);
    let fates =
        |wanted: fn(&Fate) -> bool| done.rows.iter().filter(|row| wanted(&row.fate)).count() as u64;
    let there = fates(|fate| matches!(fate, Fate::There(_)));
    let gone = fates(|fate| matches!(fate, Fate::Forgotten(_)));
    let mut sums = match context.dry_run {
        true => format!("{} to be copied", count(fates(|fate| *fate == Fate::Copy))),
        false => format!("{} copied", count(done.copied.len() as u64)),
    };
    sums.push_str(&format!(", {} there already", count(there)));
    if gone > 0 {
        sums.push_str(&format!(", {} forgotten there (`--again` copies them)", count(gone)));
    }
    context.output.say(&sums)?;
    let error = match (done.refused.len(), done.damaged.len()) {
        (0, 0) => None,
        (0, _) => Some(
            CliError::new(Kind::Damaged, "snapshot records cannot be read, and are not copied")
                .hint("`vault check` says more; `vault repair snapshots` mends what can be"),
        ),
        (several, _) => {
            let first = done.refused.swap_remove(0);
            let message = match several {
                1 => why_refused(&first),
                _ => format!("{several} snapshots are not copied, as they are damaged"),
            };
            Some(CliError::new(Kind::Damaged, message).object(first.snapshot.to_string()).hint(
                "`vault check --read-data` names all damage; `--leave-out-damaged` copies the \
                 rest of them",
            ))
        }
    };
    if let Some(error) = error {
        return Err(error.after(body));
    }
    if context.output.format.is_json() {
        context.output.document(&document(body))?;
    }
    match done.copied.iter().any(|copied| copied.left_out > 0) {
        true => Ok(ExitCode::Skipped),
        false => Ok(ExitCode::Done),
    }
}

fn body(done: &Done, dry_run: bool) -> Value {
    let snapshots = done.rows.iter().map(|Row { snapshot, fate }| {
        let mut fields = snapshot_fields(snapshot);
        let (fate, there) = match fate {
            Fate::Copy => ("copy", None),
            Fate::There(id) => ("there", Some(id.to_string())),
            Fate::Forgotten(id) => ("forgotten", Some(id.to_string())),
        };
        let _ = fields.insert("fate".to_owned(), json!(fate));
        let _ = fields.insert("there".to_owned(), json!(there));
        Value::Object(fields)
    });
    let copied = done.copied.iter().map(|copied| {
        json!({
            "from": copied.from.to_string(),
            "snapshot": copied.snapshot.to_string(),
            "head": copied.head.to_string(),
            "entries": copied.entries,
            "bytes": copied.bytes,
            "left_out": copied.left_out,
            "bytes_read": copied.bytes_read,
            "bytes_new": copied.bytes_new,
            "bytes_stored": copied.bytes_stored,
            "seconds": copied.seconds,
        })
    });
    let refused = done.refused.iter().map(|refused| {
        let mut fields = serde_json::Map::new();
        let _ = fields.insert("snapshot".to_owned(), json!(refused.snapshot.to_string()));
        let _ = fields.insert("item".to_owned(), json!(refused.item));
        match &refused.path {
            Some(path) => put_bytes(&mut fields, "path", &path.to_slashed()),
            None => drop(fields.insert("path".to_owned(), Value::Null)),
        }
        let _ = fields.insert("message".to_owned(), json!(chain(&refused.error)));
        Value::Object(fields)
    });
    json!({
        "from": done.repositories.0.to_string(),
        "to": done.repositories.1.to_string(),
        "dry_run": dry_run,
        "snapshots": snapshots.collect::<Vec<_>>(),
        "copied": copied.collect::<Vec<_>>(),
        "refused": refused.collect::<Vec<_>>(),
        "damaged": done.damaged,
    })
}
