//! `vault restore`

use std::collections::{BTreeSet, HashSet};
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;
use volume_vault::docker::Engine;
use volume_vault::entry::{EntryPath, escape};
use volume_vault::event::Observer;
use volume_vault::format::{Item, ItemKind};
use volume_vault::id::RecordHash;
use volume_vault::near::{did_you_mean, near_names};
use volume_vault::ops::backup::BackupOptions;
use volume_vault::ops::restore::{
    Existing, Extra, RestoreReport, RestoreRun, VolumeRestore, VolumeState, plan_volume_restore,
    restore_directory, restore_tar, restore_volume, verify_directory, verify_volume,
};
use volume_vault::ops::{Interrupt, OpsError, Series};
use volume_vault::repo::{ChunkReader, Repository, Snapshot, SnapshotList};
use volume_vault::sink::{DirectoryOptions, SinkError, TarWriterOptions};
use volume_vault::source::Selection;

use super::backup::{LEVEL_DEFAULT, backup_options, sweep_helpers};
use super::context::{Context, HostSettings};
use super::engine::{connect, connect_to, host_facts, host_name};
use super::error::{CliError, ExitCode, Kind};
use super::find::find;
use super::open::open;
use super::output::{Progress, count, document, rate, short_duration, size, time};

/// Opened frames that are kept, in bytes.
const FRAME_CACHE: usize = 32 << 20;

const EXAMPLES: &str = "\
Examples:
  vault restore my-data --as my-data-2          the latest snapshot into a new volume
  vault restore my-data@2d --into-existing      make the volume what it was two days ago
  vault restore --to host2 --yes                all of a lost host onto another one

An existing volume is never touched without --into-existing, and its state is saved first.
Without SNAPSHOT the latest of every series of one host is restored.";

/// Bring back volumes or directories
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
#[command(group = clap::ArgGroup::new("where").args(["name", "target", "tar"]))]
pub(crate) struct RestoreArgs {
    /// What to restore: an id prefix, `latest` or [HOST/]SOURCE[@TIME], perhaps with :ITEM
    #[arg(value_name = "SNAPSHOT")]
    pub(crate) snapshot: Option<String>,

    /// Restore what this host saved
    #[arg(long, value_name = "HOST")]
    pub(crate) from: Option<String>,

    /// Restore into volumes of this Docker host instead of the one of --host
    #[arg(long, value_name = "HOST", conflicts_with_all = ["target", "tar"])]
    pub(crate) to: Option<String>,

    /// Name of the volume to restore into; the one it was saved from if left out
    #[arg(long = "as", value_name = "NAME")]
    pub(crate) name: Option<String>,

    /// Restore into this directory, which must be new or empty
    #[arg(long, value_name = "DIR")]
    pub(crate) target: Option<PathBuf>,

    /// Write a tar stream to this file, or to standard output for `-`
    #[arg(long, value_name = "FILE")]
    pub(crate) tar: Option<PathBuf>,

    /// Restore only paths that match
    #[arg(long, value_name = "GLOB")]
    pub(crate) include: Vec<String>,

    /// Leave out paths that match
    #[arg(long, value_name = "GLOB")]
    pub(crate) exclude: Vec<String>,

    /// Make an existing volume exactly what the snapshot holds; its present state is saved first
    #[arg(long, conflicts_with_all = ["target", "tar"])]
    pub(crate) into_existing: bool,

    /// Keep what the volume holds beyond the snapshot
    #[arg(long, requires = "into_existing")]
    pub(crate) keep_extra: bool,

    /// Do not save the volume's present state first
    #[arg(long, requires = "into_existing")]
    pub(crate) no_safety_backup: bool,

    /// Leave out volumes that exist already
    #[arg(long, conflicts_with_all = ["into_existing", "target", "tar"])]
    pub(crate) skip_existing: bool,

    /// Driver of the new volume; the one it had if left out
    #[arg(long, value_name = "DRIVER", conflicts_with_all = ["into_existing", "target", "tar"])]
    pub(crate) driver: Option<String>,

    /// Read back and compare what was written
    #[arg(long, conflicts_with = "tar")]
    pub(crate) verify: bool,

    /// Refuse a repository without the backup that printed this head: an old copy of it
    #[arg(long, value_name = "HEAD")]
    pub(crate) expect_head: Option<RecordHash>,
}

pub(crate) fn run(args: RestoreArgs, context: &Context) -> Result<ExitCode, CliError> {
    let wanted = args.snapshot.as_deref().map(|text| context.snapshot_name(text)).transpose()?;
    if args.snapshot.is_none() && (args.name.is_some() || args.tar.is_some()) {
        return Err(CliError::usage("`--as` and `--tar` need a SNAPSHOT"));
    }
    let selection = Selection::new(&args.include, &args.exclude).map_err(OpsError::from)?;
    let repo = open(context)?;
    let list = SnapshotList::load(&repo)?;
    if let Some(head) = args.expect_head.filter(|head| !list.knows_head(head)) {
        let message = format!("the repository does not have the backup with the head {head}");
        return Err(CliError::new(Kind::RolledBack, message)
            .hint("it is an older copy, or another repository than the one that was meant"));
    }
    if !list.damaged.is_empty() {
        let count = list.damaged.len();
        context.output.remark(&format!(
            "warning: {count} snapshot records cannot be read; `vault check` names them"
        ));
    }
    let chosen = match &wanted {
        Some(wanted) => vec![find(&list, wanted, context)?],
        None => latest_of_host(&list, args.from.as_deref(), context)?,
    };
    let plans = plan(&args, context, &chosen)?;
    if context.dry_run {
        return show_plans(&plans, context);
    }
    if plans.len() > 1 {
        for plan in &plans {
            context.output.remark(&plan.line(context));
        }
        context.confirm(&format!("restore {} items", plans.len()))?;
    }
    let index = Arc::new(repo.load_index()?);
    let reader = Arc::new(ChunkReader::new(&repo, &index, FRAME_CACHE));
    let mut worst = ExitCode::Done;
    let mut reports = Vec::new();
    let mut failed: Vec<CliError> = Vec::new();
    for plan in plans {
        let name = escape(plan.item.name.as_bytes());
        let done = match bring_back(&plan, &args, &selection, &repo, &reader, context) {
            Ok(done) => done,
            Err(error) if error.kind() == Kind::Interrupted => {
                return Err(error.after(json!({ "restores": reports })));
            }
            Err(error) => {
                failed.push(error.object(name));
                continue;
            }
        };
        show(&plan, &done, context)?;
        if done.damaged > 0 {
            let message = format!("damaged files of {name}: {}", done.damaged);
            failed.push(CliError::new(Kind::Damaged, message).object(name).hint(
                "all its other files were restored; `vault check --read-data` names the damage",
            ));
        }
        if done.skipped {
            worst = ExitCode::Skipped;
        }
        reports.push(done.json(&plan));
    }
    if !failed.is_empty() {
        let first = failed.remove(0);
        for error in &failed {
            context.output.remark(&format!("error: {}", error.one_line()));
        }
        return Err(first.after(json!({ "restores": reports })));
    }
    if context.output.format.is_json() {
        context.output.document(&document(json!({ "restores": reports })))?;
    }
    Ok(worst)
}

/// Where an item goes.
enum Target {
    Directory(PathBuf),
    Tar(PathBuf),
    Volume(Box<Engine>, Box<VolumeRestore>),
}

/// An item, and where it goes.
struct Plan<'l> {
    snapshot: &'l Snapshot,
    item: &'l Item,
    target: Target,
}

impl Plan<'_> {
    fn line(&self, context: &Context) -> String {
        let target = match &self.target {
            Target::Directory(path) => format!("directory {}", path.display()),
            Target::Tar(path) if is_stdout(path) => "a tar stream".to_owned(),
            Target::Tar(path) => format!("tar file {}", path.display()),
            Target::Volume(_, plan) => match &plan.state {
                VolumeState::New => format!("new volume {}", plan.name),
                VolumeState::Unfinished(_) => format!("unfinished volume {}", plan.name),
                VolumeState::Existing(_) => format!("existing volume {}", plan.name),
            },
        };
        format!(
            "{} of {} ({}, snapshot {}) into {target}",
            escape(self.item.name.as_bytes()),
            time(self.snapshot.time(), &context.zone),
            size(self.item.facts.bytes),
            self.snapshot.id.short(),
        )
    }
}

/// What was brought back.
struct Done {
    entries: u64,
    bytes: u64,
    damaged: u64,
    skipped: bool,
    seconds: f64,
    safety: Option<String>,
}

impl Done {
    fn json(&self, plan: &Plan<'_>) -> serde_json::Value {
        let target = match &plan.target {
            Target::Directory(path) => json!({ "directory": path }),
            Target::Tar(path) => json!({ "tar": path }),
            Target::Volume(_, plan) => json!({ "volume": plan.name }),
        };
        json!({
            "snapshot": plan.snapshot.id.to_string(),
            "item": plan.item.name,
            "target": target,
            "entries": self.entries,
            "bytes": self.bytes,
            "seconds": self.seconds,
            "rate": self.bytes as f64 / self.seconds.max(1e-9),
            "skipped": self.skipped,
            "safety_snapshot": self.safety,
        })
    }
}

/// The latest snapshot of every series of one host: the one named, else this one, else the only.
fn latest_of_host<'l>(
    list: &'l SnapshotList,
    from: Option<&str>,
    context: &Context,
) -> Result<Vec<(&'l Snapshot, &'l Item)>, CliError> {
    let all: BTreeSet<Series> = list
        .snapshots
        .iter()
        .flat_map(|snapshot| snapshot.items().iter().map(|item| Series::of(snapshot, item)))
        .collect();
    let hosts: BTreeSet<&str> = all.iter().map(|series| series.host.as_str()).collect();
    // Asked only where it matters: a lost host is restored without it.
    let here = if from.is_none() && hosts.len() > 1 { host_name(context).ok() } else { None };
    let host = match from {
        Some(host) if hosts.contains(host) => host.to_owned(),
        Some(host) => {
            let near = near_names(host, hosts.iter().copied());
            let message = format!("the repository has no snapshot of host `{host}`");
            return Err(CliError::new(Kind::NotFound, message).hint_if(did_you_mean(&near)));
        }
        None if here.as_deref().is_some_and(|here| hosts.contains(here)) => {
            here.unwrap_or_default()
        }
        None => match Vec::from_iter(&hosts)[..] {
            [only] => (*only).to_owned(),
            [] => return Err(CliError::new(Kind::NotFound, "the repository has no snapshot")),
            _ => {
                let names: Vec<_> = hosts.into_iter().collect();
                let message = format!("there are snapshots of several hosts: {}", names.join(", "));
                return Err(CliError::new(Kind::Ambiguous, message).hint("add `--from HOST`"));
            }
        },
    };
    let ours = all.iter().filter(|series| series.host == host);
    Ok(ours.filter_map(|series| series.latest(list)).collect())
}

fn plan<'l>(
    args: &RestoreArgs,
    context: &Context,
    chosen: &[(&'l Snapshot, &'l Item)],
) -> Result<Vec<Plan<'l>>, CliError> {
    let mut engine = None;
    let mut plans = Vec::new();
    for (snapshot, item) in chosen {
        let target = if let Some(target) = &args.target {
            let target = context.current_dir().join(target);
            Target::Directory(match chosen.len() {
                1 => target,
                _ => target.join(folder_of(item)?),
            })
        } else if let Some(file) = &args.tar {
            Target::Tar(file.clone())
        } else if item.kind == ItemKind::Volume || args.name.is_some() {
            let engine = match &engine {
                Some(engine) => engine,
                None => engine.insert(target_engine(args, context)?),
            };
            let name = args.name.as_deref().unwrap_or(&item.name);
            let planned = plan_volume_restore(
                engine,
                &snapshot.id,
                item,
                name,
                args.driver.clone(),
                existing(args),
            );
            match planned {
                Ok(plan) => Target::Volume(Box::new(engine.clone()), Box::new(plan)),
                Err(OpsError::Refused(why)) if args.skip_existing => {
                    context.output.remark(&format!("left out: {why}"));
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
        } else if chosen.len() > 1 {
            let name = escape(item.name.as_bytes());
            context.output.remark(&format!("left out: `{name}` is no volume; use `--target DIR`"));
            continue;
        } else {
            let message = format!("`{}` was not saved from a volume", escape(item.name.as_bytes()));
            return Err(CliError::usage(message)
                .hint("say where it goes: `--target DIR`, `--as VOLUME` or `--tar FILE`"));
        };
        plans.push(Plan { snapshot, item, target });
    }
    Ok(plans)
}

/// The host that volumes are restored on.
fn target_host(args: &RestoreArgs, context: &Context) -> HostSettings {
    args.to.as_ref().map_or_else(|| context.host.clone(), |to| context.host_named(to))
}

/// The engine that volumes are restored on.
///
/// Errors: unreachable, usage.
fn target_engine(args: &RestoreArgs, context: &Context) -> Result<Engine, CliError> {
    let engine = match &args.to {
        Some(_) => connect_to(&target_host(args, context), context)?,
        None => connect(context)?,
    };
    // What a killed run has left would count as a container that uses the volume.
    if !context.dry_run {
        sweep_helpers(&engine, context);
    }
    Ok(engine)
}

/// The folder of an item among several. Its name was given on another machine.
fn folder_of(item: &Item) -> Result<String, CliError> {
    let name = item.name.replace('/', "_");
    match EntryPath::root().child(name.as_bytes()) {
        Ok(_) => Ok(name),
        Err(error) => Err(CliError::wrap(Kind::Refused, error)
            .hint("restore it alone, by the id of its snapshot, into a folder of your choice")),
    }
}

fn existing(args: &RestoreArgs) -> Existing {
    if !args.into_existing {
        return Existing::Refuse;
    }
    Existing::Replace {
        extra: if args.keep_extra { Extra::Keep } else { Extra::Remove },
        safety_backup: !args.no_safety_backup,
    }
}

fn show_plans(plans: &[Plan<'_>], context: &Context) -> Result<ExitCode, CliError> {
    let lines: Vec<_> = plans.iter().map(|plan| plan.line(context)).collect();
    if context.output.format.is_json() {
        context.output.document(&document(json!({ "would_restore": lines })))?;
    }
    for line in lines {
        context.output.say(&format!("would restore {line}"))?;
    }
    Ok(ExitCode::Done)
}

fn bring_back(
    plan: &Plan<'_>,
    args: &RestoreArgs,
    selection: &Selection,
    repo: &Arc<Repository>,
    reader: &Arc<ChunkReader>,
    context: &Context,
) -> Result<Done, CliError> {
    let progress = Arc::new(Progress::start(&context.output, "restore"));
    let observer: Arc<dyn Observer> = progress.clone();
    if selection.is_all() {
        observer.counters().bytes_total.store(plan.item.facts.bytes, Ordering::Relaxed);
        observer.counters().entries_total.store(plan.item.facts.entries, Ordering::Relaxed);
    }
    let interrupt = Interrupt::new(context.interrupted.clone());
    let selection = selection.clone();
    let run = RestoreRun { reader, selection, observer: &observer, interrupt: &interrupt };
    let id = &plan.snapshot.id;
    let mut safety = None;
    let result: Result<RestoreReport, CliError> = match &plan.target {
        Target::Directory(path) => {
            let options = DirectoryOptions::default();
            restore_directory(&run, id, plan.item, path, options).map_err(CliError::from)
        }
        Target::Tar(path) => write_tar(&run, plan.item, path, context),
        Target::Volume(engine, volume) => {
            let options = reading_options(args, engine, context);
            let existing = existing(args);
            restore_volume(repo, engine, volume, existing, id, plan.item, &run, &options)
                .map(|(report, saved)| {
                    safety = saved.map(|report| report.snapshot.to_string());
                    report
                })
                .map_err(CliError::from)
        }
    };
    let report = match result {
        Ok(report) if args.verify => {
            verify(plan, args, repo, &run, &progress, context).map(|()| report)
        }
        done => done,
    };
    progress.finish();
    let report = report?;
    Ok(Done {
        entries: report.entries,
        bytes: report.bytes,
        damaged: report.damaged,
        skipped: progress.has_skipped(),
        seconds: progress.elapsed().as_secs_f64(),
        safety,
    })
}

/// How a volume is read that was there before, or is read back.
fn reading_options(args: &RestoreArgs, engine: &Engine, context: &Context) -> BackupOptions {
    let host = host_facts(&target_host(args, context), engine.info(), context);
    backup_options(context, host, &[], LEVEL_DEFAULT)
}

/// Reads everything back; what was said to be left out may be missing.
fn verify(
    plan: &Plan<'_>,
    args: &RestoreArgs,
    repo: &Arc<Repository>,
    run: &RestoreRun<'_>,
    progress: &Progress,
    context: &Context,
) -> Result<(), CliError> {
    let warnings = progress.warnings().into_iter();
    let excused: HashSet<Vec<u8>> = warnings.map(|warning| warning.object).collect();
    let differing = match &plan.target {
        Target::Directory(path) => verify_directory(run, plan.item, path, &excused)?,
        Target::Tar(_) => 0,
        Target::Volume(engine, volume) => {
            let options = reading_options(args, engine, context);
            verify_volume(repo, engine, &volume.name, run, plan.item, &options, &excused)?
        }
    };
    match differing {
        0 => Ok(()),
        count => {
            let message = format!("{count} paths differ from the snapshot after the restore");
            Err(CliError::new(Kind::Failed, message)
                .hint("something else may have written there; restore again into a new place"))
        }
    }
}

fn is_stdout(path: &std::path::Path) -> bool {
    path.as_os_str() == "-"
}

fn write_tar(
    run: &RestoreRun<'_>,
    item: &Item,
    path: &std::path::Path,
    context: &Context,
) -> Result<RestoreReport, CliError> {
    let options = |name: String| TarWriterOptions::new(name);
    if is_stdout(path) {
        let stdout = context.output.binary("a tar stream")?;
        let stdout = std::io::BufWriter::with_capacity(1 << 18, stdout);
        let (report, mut stdout) =
            restore_tar(run, item, stdout, options("standard output".to_owned()))?;
        stdout
            .flush()
            .map_err(|source| SinkError::Target { target: "standard output".to_owned(), source })?;
        return Ok(report);
    }
    let failed = |error: std::io::Error| {
        let kind = match error.kind() {
            std::io::ErrorKind::AlreadyExists => Kind::Refused,
            _ => Kind::Failed,
        };
        CliError::new(kind, format!("write tar file `{}`", path.display())).because(error)
    };
    if path.exists() {
        return Err(failed(std::io::ErrorKind::AlreadyExists.into()));
    }
    // It gets its name when it is whole: half an archive looks like one.
    let mut partial = path.as_os_str().to_owned();
    partial.push(format!(".vault-part-{}", std::process::id()));
    let partial = PathBuf::from(partial);
    let file = std::fs::File::create_new(&partial).map_err(failed)?;
    let writer = std::io::BufWriter::with_capacity(1 << 18, file);
    let written = restore_tar(run, item, writer, options(path.display().to_string()))
        .map_err(CliError::from)
        .and_then(|(report, writer)| {
            let file = writer.into_inner().map_err(|error| failed(error.into_error()))?;
            file.sync_all().map_err(failed)?;
            std::fs::hard_link(&partial, path).map_err(failed)?;
            Ok(report)
        });
    let _ = std::fs::remove_file(&partial);
    if written.is_ok() {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(std::path::Path::new("."));
        std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
    }
    written
}

fn show(plan: &Plan<'_>, done: &Done, context: &Context) -> Result<(), CliError> {
    let took = Duration::from_secs_f64(done.seconds);
    let lines = [
        format!("restored {}", plan.line(context)),
        format!(
            "  {} entries, {} in {}, R {}",
            count(done.entries),
            size(done.bytes),
            short_duration(took),
            rate(done.bytes, took)
        ),
    ];
    let safety = done.safety.as_ref().map(|id| {
        format!("  what was there before is snapshot {}, tagged before-restore", &id[..8])
    });
    // A tar stream has standard output for itself.
    let to_stdout = matches!(&plan.target, Target::Tar(path) if is_stdout(path));
    for line in lines.iter().chain(&safety) {
        if to_stdout {
            context.output.remark(line);
        } else {
            context.output.say(line)?;
        }
    }
    Ok(())
}
