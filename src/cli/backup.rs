//! `vault backup`

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use volume_vault::docker::{Engine, sweep};
use volume_vault::entry::{EntryPath, escape};
use volume_vault::event::Observer;
use volume_vault::format::{BackupFacts, HostFacts, Item, ItemKind, Method};
use volume_vault::ops::backup::{
    BackupOptions, BackupReport, NewItem, VolumePlan, Way, backup, backup_volume, plan_volume,
};
use volume_vault::ops::{Interrupt, OpsError};
use volume_vault::repo::Repository;
use volume_vault::source::{
    Directory, DirectoryOptions, Owner, Selection, SingleFile, Source, TarOptions, TarStream,
    Verdict,
};

use super::context::Context;
use super::engine::{connect, host_facts, machine_facts};
use super::error::{CliError, ExitCode, Kind};
use super::find::series_name;
use super::names::SourceName;
use super::open::open_or_create;
use super::output::{Progress, count, document, notice, rate, short_duration, size};

/// zstd level where none is set.
pub(crate) const LEVEL_DEFAULT: i32 = 3;

const EXAMPLES: &str = "\
Examples:
  vault backup my-data                            one volume
  vault backup --all-volumes --except 'cache-*'   all volumes but some
  vault -H ssh://host2 backup my-data             a volume of another host

Each source makes a snapshot of its own. Exit code 3 says that something could not be read.";

/// Save volumes, directories or a stream
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct BackupArgs {
    /// What to save: a volume, dir:PATH (or a path), or stdin:NAME
    #[arg(value_name = "SOURCE", required_unless_present_any = ["all_volumes", "label"])]
    pub(crate) sources: Vec<OsString>,

    /// Save every volume of the host
    #[arg(long)]
    pub(crate) all_volumes: bool,

    /// Save the volumes that carry this label; several must all be carried
    #[arg(long, value_name = "KEY[=VALUE]")]
    pub(crate) label: Vec<String>,

    /// Leave out volumes whose name matches
    #[arg(long, value_name = "GLOB")]
    pub(crate) except: Vec<String>,

    /// Tag the snapshot
    #[arg(long, value_name = "TAG")]
    pub(crate) tag: Vec<String>,

    /// Leave out paths that match
    #[arg(long, value_name = "GLOB")]
    pub(crate) exclude: Vec<String>,

    /// Read standard input as a tar stream instead of as one file
    #[arg(long)]
    pub(crate) tar: bool,

    /// Read volumes at their path on this machine, or fail
    #[arg(long, conflicts_with_all = ["agent", "archive_api"])]
    pub(crate) host_path: bool,

    /// Read volumes by an agent in a container beside them, or fail
    #[arg(long, conflicts_with = "archive_api")]
    pub(crate) agent: bool,

    /// Read volumes through the engine's archive interface, which keeps less (exit code 3)
    #[arg(long)]
    pub(crate) archive_api: bool,

    /// zstd level
    #[arg(long, value_name = "LEVEL", allow_negative_numbers = true)]
    #[arg(value_parser = clap::value_parser!(i32).range(-7..=19))]
    pub(crate) compression: Option<i32>,

    /// Read every file, also where size, times and inode say that it did not change
    #[arg(long)]
    pub(crate) read_all: bool,

    /// Fail where data may change while it is read, instead of warning
    #[arg(long)]
    pub(crate) strict: bool,
}

pub(crate) fn run(args: BackupArgs, context: &Context) -> Result<ExitCode, CliError> {
    let selection = Selection::new(&[], &args.exclude).map_err(OpsError::from)?;
    // All sources are looked at before anything is made.
    let plans = plan(&args, context)?;
    if context.dry_run {
        return show_plans(&plans, context);
    }
    let repo = open_or_create(context)?;
    let mut done = Vec::new();
    let mut failed: Vec<(String, CliError)> = Vec::new();
    for plan in plans {
        let name = plan.to_string();
        match save(plan, &args, &selection, &repo, context) {
            Ok(report) => {
                show(&name, &report, context)?;
                done.push(report);
            }
            Err(error) if error.kind() == Kind::Interrupted => return Err(error),
            Err(error) => failed.push((name, error)),
        }
    }
    let errors = failed.iter().map(|(name, error)| {
        json!({ "source": name, "kind": error.kind().name(), "message": error.one_line() })
    });
    let backups = done.iter().map(report_json).collect::<Vec<_>>();
    let body = json!({ "backups": backups, "errors": errors.collect::<Vec<_>>() });
    if context.output.format.is_json() && failed.is_empty() {
        context.output.document(&document(body.clone()))?;
    }
    match failed.len() {
        0 if done.iter().any(BackupReport::is_partial) => Ok(ExitCode::Skipped),
        0 => Ok(ExitCode::Done),
        _ => {
            let (name, error) = failed.swap_remove(0);
            for (name, error) in &failed {
                context.output.remark(&format!("error: {name}: {}", error.one_line()));
            }
            Err(error.object(name).after(body))
        }
    }
}

/// A source, and all that was found out about it before anything is made.
enum Plan {
    Volume(Box<Engine>, Box<VolumePlan>),
    Directory(PathBuf),
    Stream(String),
}

impl std::fmt::Display for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Volume(_, plan) => write!(f, "volume {}", plan.info.name),
            Self::Directory(path) => {
                write!(f, "directory {}", escape(path.as_os_str().as_encoded_bytes()))
            }
            Self::Stream(name) => write!(f, "stdin {name}"),
        }
    }
}

fn plan(args: &BackupArgs, context: &Context) -> Result<Vec<Plan>, CliError> {
    let sources = sources(args, context)?;
    let by_engine = args.all_volumes || !args.label.is_empty();
    let wants_engine = by_engine || sources.iter().any(|s| matches!(s, SourceName::Volume(_)));
    let engine = if wants_engine { Some(connect(context)?) } else { None };
    let mut volumes: Vec<String> = Vec::new();
    let mut plans = Vec::new();
    for source in sources {
        match source {
            SourceName::Volume(name) => volumes.push(name),
            SourceName::Directory(path) => {
                let metadata =
                    std::fs::metadata(&path).map_err(|error| no_directory(&path, error))?;
                if !metadata.is_dir() {
                    let message = format!("`{}` is no directory", path.display());
                    return Err(CliError::new(Kind::NotFound, message)
                        .hint("save a single file with `stdin:NAME < FILE`"));
                }
                plans.push(Plan::Directory(path));
            }
            SourceName::Stdin { name } => plans.push(Plan::Stream(name)),
        }
    }
    let Some(engine) = engine else { return Ok(plans) };
    if by_engine {
        for name in selected_volumes(args, &engine)? {
            if !volumes.contains(&name) {
                volumes.push(name);
            }
        }
    }
    let way = match (args.host_path, args.agent, args.archive_api) {
        (true, _, _) => Way::HostPath,
        (_, true, _) => Way::Agent,
        (_, _, true) => Way::Archive,
        _ => Way::Best,
    };
    for name in volumes {
        let plan = plan_volume(&engine, &name, way)?;
        if args.strict && !plan.in_use_by.is_empty() {
            let users: Vec<_> = plan.in_use_by.iter().map(|c| c.name.as_str()).collect();
            let message = format!("volume `{name}` is in use by {}", users.join(", "));
            return Err(CliError::new(Kind::Refused, message)
                .hint("stop them first, or leave out `--strict`"));
        }
        plans.push(Plan::Volume(Box::new(engine.clone()), Box::new(plan)));
    }
    if plans.is_empty() {
        return Err(CliError::new(Kind::NotFound, "no volume is selected"));
    }
    Ok(plans)
}

fn no_directory(path: &std::path::Path, error: std::io::Error) -> CliError {
    let kind = match error.kind() {
        std::io::ErrorKind::NotFound => Kind::NotFound,
        _ => Kind::Failed,
    };
    CliError::new(kind, format!("read directory `{}`", path.display())).because(error)
}

/// Volumes that `--all-volumes`, `--label` and `--except` select, by name.
fn selected_volumes(args: &BackupArgs, engine: &Engine) -> Result<Vec<String>, CliError> {
    let except = Selection::new(&[], &args.except).map_err(OpsError::from)?;
    let carries = |labels: &std::collections::BTreeMap<String, String>, wanted: &str| {
        let (key, value) = wanted.split_once('=').map_or((wanted, None), |(k, v)| (k, Some(v)));
        labels.get(key).is_some_and(|found| value.is_none_or(|value| found == value))
    };
    let kept = |name: &str| match EntryPath::from_slashed(name.as_bytes()) {
        Ok(path) => except.verdict(&path, false) == Verdict::Take,
        Err(_) => true,
    };
    let volumes = engine.volumes()?;
    for warning in &volumes.warnings {
        notice(&format!("warning: {}", escape(warning.as_bytes())));
    }
    let mut names: Vec<_> = volumes
        .volumes
        .into_iter()
        .filter(|volume| args.label.iter().all(|wanted| carries(&volume.labels, wanted)))
        .map(|volume| volume.name)
        .filter(|name| kept(name))
        .collect();
    names.sort();
    Ok(names)
}

fn show_plans(plans: &[Plan], context: &Context) -> Result<ExitCode, CliError> {
    let names: Vec<_> = plans.iter().map(ToString::to_string).collect();
    if context.output.format.is_json() {
        context.output.document(&document(json!({ "would_save": names })))?;
    }
    for name in names {
        context.output.say(&format!("would save {name}"))?;
    }
    Ok(ExitCode::Done)
}

fn save(
    plan: Plan,
    args: &BackupArgs,
    selection: &Selection,
    repo: &Arc<Repository>,
    context: &Context,
) -> Result<BackupReport, CliError> {
    let host = match &plan {
        Plan::Volume(engine, _) => host_facts(&context.host, engine.info(), context),
        Plan::Directory(_) | Plan::Stream(_) => machine_facts(context),
    };
    let options = BackupOptions {
        read_all: args.read_all,
        ..backup_options(context, host, &args.tag, level(args, context)?)
    };
    let progress = Arc::new(Progress::start(&context.output, "backup"));
    let observer: Arc<dyn Observer> = progress.clone();
    let interrupt = Interrupt::new(context.interrupted.clone());
    let result = match plan {
        Plan::Volume(engine, plan) => {
            let done =
                backup_volume(repo, &engine, &plan, selection, &options, &observer, &interrupt);
            sweep_helpers(&engine, context);
            done
        }
        Plan::Directory(path) => {
            let name = series_name(&SourceName::Directory(path.clone())).1;
            let item = plain_item(ItemKind::Directory, name, Method::HostPath);
            let walk = DirectoryOptions { clock: context.clock, selection: selection.clone() };
            let open = |watched| -> Result<Box<dyn Source>, OpsError> {
                Ok(Box::new(Directory::open(&path, walk, watched)?))
            };
            backup(repo, &item, open, || Ok(()), &options, &observer, &interrupt)
        }
        Plan::Stream(name) => {
            let item = plain_item(ItemKind::Stream, name.clone(), Method::Stream);
            let open = |watched| open_stdin(&name, args.tar, watched, context);
            backup(repo, &item, open, || Ok(()), &options, &observer, &interrupt)
        }
    };
    progress.finish();
    Ok(result?)
}

/// How a backup of this run is made.
pub(crate) fn backup_options(
    context: &Context,
    host: HostFacts,
    tags: &[String],
    level: i32,
) -> BackupOptions {
    BackupOptions {
        host,
        tags: tags.to_vec(),
        level,
        verify: true,
        read_all: false,
        memory: context.memory_bytes,
        clock: context.clock,
        program: concat!("vault ", env!("CARGO_PKG_VERSION")).to_owned(),
    }
}

fn level(args: &BackupArgs, context: &Context) -> Result<i32, CliError> {
    match (args.compression, &context.configuration.config.defaults.compression) {
        (Some(level), _) => Ok(level),
        (None, None) => Ok(LEVEL_DEFAULT),
        (None, Some(text)) => match text.parse() {
            Ok(level) if (-7..=19).contains(&level) => Ok(level),
            _ => Err(CliError::usage(format!("`compression = \"{text}\"` is no zstd level"))
                .hint("write a number from -7 to 19")),
        },
    }
}

fn plain_item(kind: ItemKind, name: String, method: Method) -> NewItem {
    NewItem { kind, name, method, degraded: Vec::new(), volume: None, in_use_by: Vec::new() }
}

fn open_stdin(
    name: &str,
    tar: bool,
    watched: Arc<dyn Observer>,
    context: &Context,
) -> Result<Box<dyn Source>, OpsError> {
    let stdin = Box::new(std::io::stdin());
    if tar {
        return Ok(Box::new(TarStream::new(stdin, TarOptions::new(name), watched)));
    }
    let owner = Owner {
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
    };
    let file = SingleFile::new(name.as_bytes(), stdin, owner, context.clock)
        .map_err(|error| OpsError::Refused(error.to_string()))?;
    Ok(Box::new(file))
}

/// Removes helper containers that killed runs left behind; a failure is worth a remark only.
pub(crate) fn sweep_helpers(engine: &Engine, context: &Context) {
    match sweep(engine, context.clock) {
        Ok(swept) if !swept.removed.is_empty() => {
            let count = swept.removed.len();
            context.output.remark(&format!("removed {count} helper containers of killed runs"));
        }
        Ok(_) => {}
        Err(error) => context.output.remark(&format!("look for leftover helpers: {error}")),
    }
}

fn show(name: &str, report: &BackupReport, context: &Context) -> Result<(), CliError> {
    if context.output.format.is_json() {
        return Ok(());
    }
    if context.output.quiet {
        return context.output.line(&report.snapshot.to_string());
    }
    let facts = &report.item.facts;
    let time = Duration::from_secs_f64(report.seconds);
    let mut lines = vec![
        format!("saved {} as snapshot {}", escape(name.as_bytes()), report.snapshot.short()),
        format!(
            "  entries  {} new, {} changed, {} unchanged, {} skipped; {} in all",
            count(facts.entries_new),
            count(facts.entries_changed),
            count(facts.entries_unchanged),
            count(facts.entries_skipped),
            count(facts.entries)
        ),
        format!(
            "  bytes    {} in all, {} read, {} new, {} stored in {}",
            size(facts.bytes),
            size(facts.bytes_read),
            size(facts.bytes_new),
            size(report.bytes_stored),
            short_duration(time)
        ),
        format!(
            "  R {} (rate)   E {:.4} (consistency)   P {:.1} (efficiency)",
            rate(facts.bytes, time),
            consistency(facts),
            efficiency(report)
        ),
        format!("  method   {}", method_name(&report.item)),
    ];
    if context.output.verbose > 0 {
        let parent = report.parent.map_or("none".to_owned(), |id| id.short());
        lines.push(format!("  packs    {} stored; snapshot before: {parent}", report.packs));
        lines.push(format!("  content  {} of new chunks and trees", size(facts.bytes_stored)));
    }
    let warnings = report.item.warnings.len();
    if warnings > 0 {
        lines.push(format!("  warnings {warnings}; `vault inspect` lists them"));
    }
    lines.push(format!("  head     {}", report.head));
    lines.iter().try_for_each(|line| context.output.say(line))
}

/// E: entries in sync over entries in total.
fn consistency(facts: &BackupFacts) -> f64 {
    let total = facts.entries + facts.entries_skipped;
    if total == 0 { 1.0 } else { facts.entries as f64 / total as f64 }
}

/// P: bytes saved over bytes moved to the store.
fn efficiency(report: &BackupReport) -> f64 {
    report.item.facts.bytes as f64 / report.bytes_stored.max(1) as f64
}

/// How the data was read, as people are told.
pub(crate) fn method_name(item: &Item) -> String {
    let how = match item.method {
        Method::HostPath => "host path",
        Method::Archive => "archive interface (degraded)",
        Method::Agent => "agent",
        Method::Stream => "stream",
    };
    match item.in_use_by.is_empty() {
        true => how.to_owned(),
        false => format!("{how}, live (in use by {})", item.in_use_by.join(", ")),
    }
}

fn report_json(report: &BackupReport) -> serde_json::Value {
    let facts = &report.item.facts;
    let warnings = report.item.warnings.iter().map(|warning| {
        json!({
            "object": String::from_utf8_lossy(&warning.object),
            "message": warning.message,
            "skipped": warning.skipped,
        })
    });
    json!({
        "snapshot": report.snapshot.to_string(),
        "head": report.head.to_string(),
        "parent": report.parent.map(|id| id.to_string()),
        "item": report.item.name,
        "entries": facts.entries,
        "entries_new": facts.entries_new,
        "entries_changed": facts.entries_changed,
        "entries_unchanged": facts.entries_unchanged,
        "entries_skipped": facts.entries_skipped,
        "bytes": facts.bytes,
        "bytes_read": facts.bytes_read,
        "bytes_new": facts.bytes_new,
        "bytes_stored": report.bytes_stored,
        "packs": report.packs,
        "seconds": report.seconds,
        "rate": facts.bytes as f64 / report.seconds.max(1e-9),
        "consistency": consistency(facts),
        "efficiency": efficiency(report),
        "method": method_name(&report.item),
        "live": !report.item.in_use_by.is_empty(),
        "degraded": report.item.degraded,
        "warnings": warnings.collect::<Vec<_>>(),
    })
}

/// The sources named one by one, each of them once.
fn sources(args: &BackupArgs, context: &Context) -> Result<Vec<SourceName>, CliError> {
    let mut sources: Vec<SourceName> = Vec::new();
    for text in &args.sources {
        let source = SourceName::parse(text)?.absolute_in(context.current_dir())?;
        if !sources.contains(&source) {
            sources.push(source);
        }
    }
    let streams = sources.iter().filter(|source| source.kind() == "stdin").count();
    if streams > 1 {
        return Err(CliError::usage("standard input can be read only once"));
    }
    if args.tar && streams == 0 {
        return Err(CliError::usage("`--tar` says how to read standard input, but none is named")
            .hint("name it: `stdin:NAME`"));
    }
    Ok(sources)
}
