//! `vault repair`

use std::sync::Arc;

use serde_json::{Value, json};
use volume_vault::entry::escape;
use volume_vault::event::Observer;
use volume_vault::ops::Interrupt;
use volume_vault::ops::check::ReadData;
use volume_vault::ops::repair::{
    DamagedPack, IndexPlan, IndexReport, OldOnes, PacksPlan, RepairOptions, Row, SnapshotsPlan,
    SnapshotsReport, Way, plan_index, plan_packs, plan_snapshots, run_index, run_packs,
    run_snapshots,
};

use super::check::{touched_json, touched_lines};
use super::context::Context;
use super::error::{CliError, ExitCode, Kind};
use super::look::item_source;
use super::open::{Opened, open};
use super::output::{Progress, count, document, error_value, escape_text, rfc3339, size, time};

/// Repair what `vault check` finds damaged
///
/// In this order: `index`, `packs`, then the backups once more, and `snapshots` for what no source
/// has any more. `vault prune` frees what was set aside.
#[derive(Debug, clap::Args)]
pub(crate) struct RepairArgs {
    #[command(subcommand)]
    what: RepairCommand,
}

#[derive(Debug, clap::Subcommand)]
enum RepairCommand {
    Index(IndexArgs),
    Packs(PacksArgs),
    Snapshots(SnapshotsArgs),
}

/// Asked first if more packs than this are to be set aside, and more than so many percent.
const PACKS_UNASKED: u64 = 10;
const PACKS_SHARE: u64 = 30;

const INDEX_EXAMPLES: &str = "\
Examples:
  vault repair index               make lost index segments anew from the packs
  vault repair index --dry-run     which packs would be read";

/// Make lost or damaged index segments anew from the packs
#[derive(Debug, clap::Args)]
#[command(after_help = INDEX_EXAMPLES)]
struct IndexArgs {}

const PACKS_EXAMPLES: &str = "\
Examples:
  vault repair packs               set damaged packs aside; the next backups heal what they can
  vault repair packs --dry-run     which packs are damaged";

/// Set damaged packs aside, so that the next backups store again what they hold
#[derive(Debug, clap::Args)]
#[command(after_help = PACKS_EXAMPLES)]
struct PacksArgs {}

const SNAPSHOTS_EXAMPLES: &str = "\
Examples:
  vault repair snapshots --dry-run    which snapshots are damaged, and what each would lose
  vault repair snapshots              store what can be had of them as new snapshots
  vault repair snapshots --forget     and forget the damaged ones, so that `vault prune` works";

/// Store what can be had of damaged snapshots as new ones
#[derive(Debug, clap::Args)]
#[command(after_help = SNAPSHOTS_EXAMPLES)]
struct SnapshotsArgs {
    /// Forget the damaged snapshots afterwards, and those of which nothing can be read
    #[arg(long)]
    forget: bool,

    /// Look only at what the store lists and at trees, not at every byte
    #[arg(long)]
    no_read_data: bool,
}

pub(crate) fn run(args: RepairArgs, context: &Context) -> Result<ExitCode, CliError> {
    let repo = open(context)?;
    match args.what {
        RepairCommand::Index(_) => index(&repo, context),
        RepairCommand::Packs(_) => packs(&repo, context),
        RepairCommand::Snapshots(args) => snapshots(&args, &repo, context),
    }
}

fn options(context: &Context) -> RepairOptions {
    RepairOptions { memory: context.memory_bytes, clock: context.clock, ..Default::default() }
}

/// Does something long with whoever watches and may interrupt it.
fn watched<T>(
    context: &Context,
    what: &str,
    work: impl FnOnce(&Arc<dyn Observer>, &Interrupt) -> T,
) -> T {
    let progress = Arc::new(Progress::start(&context.output, what));
    let observer: Arc<dyn Observer> = progress.clone();
    let done = work(&observer, &Interrupt::new(Arc::clone(&context.interrupted)));
    progress.finish();
    done
}

fn counted(number: u64, what: &str) -> String {
    format!("{} {what}{}", count(number), if number == 1 { "" } else { "s" })
}

/// Prints the document, with the error if something stays damaged, or the lines.
fn print(
    context: &Context,
    mut fields: Value,
    lines: &[String],
    left: Option<String>,
    otherwise: ExitCode,
) -> Result<ExitCode, CliError> {
    if context.output.format.is_json() {
        if let Some(left) = &left {
            let error = CliError::new(Kind::Damaged, left.clone());
            fields["error"] = error_value(&error);
        }
        context.output.document(&document(fields))?;
    } else {
        lines.iter().try_for_each(|line| context.output.line(line))?;
    }
    Ok(if left.is_some() { ExitCode::Damaged } else { otherwise })
}

fn pairs_json(pairs: &[(String, String)]) -> Value {
    let pair = |(object, why): &(String, String)| json!({ "object": object, "why": why });
    pairs.iter().map(pair).collect()
}

fn index(repo: &Opened, context: &Context) -> Result<ExitCode, CliError> {
    let plan = watched(context, "looking", |observer, _| plan_index(repo, observer))?;
    if context.dry_run {
        let lines = index_plan_lines(&plan);
        return print(context, index_plan_json(&plan), &lines, None, ExitCode::Done);
    }
    let mut fields = index_plan_json(&plan);
    let report = watched(context, "repairing", |observer, interrupt| {
        run_index(repo, plan, &options(context), observer, interrupt)
    })?;
    fields["dry_run"] = json!(false);
    fields["packs_named"] = json!({ "objects": report.packs, "bytes": report.bytes });
    fields["chunks"] = json!(report.chunks);
    fields["segments_stored"] = json!({ "objects": report.segments, "bytes": report.stored_bytes });
    fields["left"] = pairs_json(&report.left);
    let left = report.left.len() + report.others.len();
    let left = (!report.is_whole())
        .then(|| format!("{} cannot be repaired", counted(left as u64, "object")));
    print(context, fields, &index_lines(&report), left, ExitCode::Done)
}

fn index_plan_json(plan: &IndexPlan) -> Value {
    let bytes: u64 = plan.packs.iter().map(|(_, size)| size).sum();
    let segments: Vec<_> =
        plan.segments.iter().map(|(id, why)| (format!("index/{id}"), why.clone())).collect();
    json!({
        "dry_run": true,
        "packs_unnamed": { "objects": plan.packs.len(), "bytes": bytes },
        "segments_unreadable": pairs_json(&segments),
        "others_unreadable": pairs_json(&plan.others),
    })
}

fn index_plan_lines(plan: &IndexPlan) -> Vec<String> {
    let bytes = plan.packs.iter().map(|(_, size)| size).sum();
    let packs = counted(plan.packs.len() as u64, "pack");
    let mut lines = vec![format!("{packs} in no index segment, {} to be read", size(bytes))];
    for (id, why) in &plan.segments {
        let why = escape_text(why);
        lines.push(format!("index/{id}: {why}; a new one would stand for it"));
    }
    for (object, why) in &plan.others {
        lines.push(format!("{object}: {}; this does not repair it", escape_text(why)));
    }
    lines
}

fn index_lines(report: &IndexReport) -> Vec<String> {
    let mut lines = Vec::new();
    for (object, why) in report.left.iter().chain(&report.others) {
        lines.push(format!("damaged {object}: {}", escape_text(why)));
    }
    if report.segments == 0 {
        lines.push("the index names every pack: nothing to repair".to_owned());
        return lines;
    }
    lines.push(format!(
        "named {} ({}) with {} in {}",
        counted(report.packs, "pack"),
        size(report.bytes),
        counted(report.chunks, "chunk"),
        counted(report.segments, "new segment"),
    ));
    if report.superseded > 0 {
        lines.push(format!(
            "{} that cannot be read: the new ones stand for it; `vault prune` removes it",
            counted(report.superseded, "segment"),
        ));
    }
    lines
}

fn packs(repo: &Opened, context: &Context) -> Result<ExitCode, CliError> {
    let plan = watched(context, "reading", |observer, interrupt| {
        plan_packs(repo, &options(context), observer, interrupt)
    })?;
    let mut fields = packs_json(&plan);
    let mut lines = packs_lines(&plan);
    let found = plan.going().count() as u64;
    if context.dry_run {
        lines.push(format!("{} would be set aside", counted(found, "pack")));
        return print(context, fields, &lines, None, ExitCode::Done);
    }
    // A store that shows half of what it holds is no reason to store all of it again.
    if found > PACKS_UNASKED && found * 100 > plan.packs * PACKS_SHARE {
        lines.iter().for_each(|line| context.output.remark(line));
        let of = counted(plan.packs, "pack");
        context.confirm(&format!("{} would be set aside beside {of}", count(found)))?;
    }
    let report = run_packs(repo, plan)?;
    fields["dry_run"] = json!(false);
    lines.push(match report.set_aside {
        0 => format!("no damaged packs among {}", count(report.found.packs)),
        _ => format!("{} set aside", counted(report.set_aside, "pack")),
    });
    if report.set_aside > 0 {
        context.output.remark(
            "run the backups again: they store what is missing and their sources still have; then \
             `vault check --read-data` names what no source had",
        );
    }
    let unreadable = report.found.unreadable.len() as u64;
    let left = (unreadable > 0)
        .then(|| format!("{} could not be read and were left alone", counted(unreadable, "pack")));
    print(context, fields, &lines, left, ExitCode::Done)
}

fn packs_json(plan: &PacksPlan) -> Value {
    let all = |packs: &[DamagedPack]| -> Value {
        let one = |pack: &DamagedPack| {
            let DamagedPack { object, size, why, .. } = pack;
            json!({ "object": object, "bytes": size, "why": why })
        };
        packs.iter().map(one).collect()
    };
    json!({
        "dry_run": true,
        "packs_read": plan.packs,
        "set_aside": all(&plan.damaged),
        "missing": all(&plan.missing),
        "unreadable": all(&plan.unreadable),
    })
}

fn packs_lines(plan: &PacksPlan) -> Vec<String> {
    let kinds =
        [("damaged", &plan.damaged), ("missing", &plan.missing), ("unreadable", &plan.unreadable)];
    let line = |(what, pack): (&str, &DamagedPack)| {
        format!("{what} {}: {}", pack.object, escape_text(&pack.why))
    };
    let all = kinds.into_iter().flat_map(|(what, packs)| packs.iter().map(move |p| (what, p)));
    all.map(line).collect()
}

fn snapshots(args: &SnapshotsArgs, repo: &Opened, context: &Context) -> Result<ExitCode, CliError> {
    let read = if args.no_read_data { ReadData::Trees } else { ReadData::All };
    let options = RepairOptions { read, ..options(context) };
    let old = if args.forget { OldOnes::Forget } else { OldOnes::Keep };
    let plan = watched(context, "looking", |observer, interrupt| {
        plan_snapshots(repo, &options, old, observer, interrupt)
    })?;
    let mut fields = snapshots_json(&plan);
    let mut lines = snapshots_lines(&plan, context);
    if context.dry_run {
        let damaged = (plan.rows.len() + plan.lost.len()) as u64;
        let damaged = counted(damaged, "damaged snapshot");
        lines.push(format!("{damaged} among {}", count(plan.snapshots + plan.lost.len() as u64)));
        return print(context, fields, &lines, None, ExitCode::Done);
    }
    let report = watched(context, "salvaging", |observer, interrupt| {
        run_snapshots(repo, &plan, &options, old, observer, interrupt)
    })?;
    fields["dry_run"] = json!(false);
    let ids = |ids: &[volume_vault::id::SnapshotId]| -> Value {
        ids.iter().map(ToString::to_string).collect()
    };
    let salvaged = report.salvaged.iter().map(|done| {
        json!({
            "from": done.from.to_string(),
            "snapshot": done.snapshot.to_string(),
            "head": done.head.to_string(),
            "left_out": done.left_out,
            "bytes_stored": done.stored_bytes,
        })
    });
    fields["salvaged"] = salvaged.collect();
    fields["forgotten"] = ids(&report.forgotten);
    fields["expired"] = ids(&report.expired);
    fields["kept"] = ids(&report.kept);
    fields["left"] = ids(&report.left);
    lines.extend(report_lines(&plan, &report));
    let hopeless = plan.rows.iter().filter(|row| row.way == Way::Hopeless).count();
    let blind = if args.forget { 0 } else { (hopeless + plan.lost.len()) as u64 };
    let left = (blind > 0).then(|| {
        let snapshots = counted(blind, "snapshot");
        format!("nothing can be had of {snapshots}; `--forget` lets go of them")
    });
    let partial = report.salvaged.iter().any(|done| done.left_out > 0);
    let otherwise = if partial { ExitCode::Skipped } else { ExitCode::Done };
    print(context, fields, &lines, left, otherwise)
}

fn way_name(row: &Row) -> &'static str {
    match row.way {
        Way::Salvage => "salvage",
        Way::Salvaged(_) => "salvaged",
        Way::Hopeless => "hopeless",
        Way::Keep => "keep",
    }
}

fn snapshots_json(plan: &SnapshotsPlan) -> Value {
    let rows = plan.rows.iter().map(|row| {
        let before = match row.way {
            Way::Salvaged(id) => Some(id.to_string()),
            _ => None,
        };
        json!({
            "snapshot": row.snapshot.id.to_string(),
            "time": rfc3339(row.snapshot.time()),
            "host": row.snapshot.body.host.name,
            "way": way_name(row),
            "salvaged_as": before,
            "commit_lost": row.lost_commit,
            "touched": row.touched.iter().map(touched_json).collect::<Vec<_>>(),
        })
    });
    let lost = plan.lost.iter().map(|lost| {
        json!({
            "snapshot": lost.id.to_string(),
            "object": lost.object,
            "why": lost.why,
            "committed": lost.committed,
        })
    });
    json!({
        "dry_run": true,
        "snapshots": plan.snapshots,
        "damaged": rows.collect::<Vec<_>>(),
        "lost": lost.collect::<Vec<_>>(),
    })
}

fn snapshots_lines(plan: &SnapshotsPlan, context: &Context) -> Vec<String> {
    let mut lines = Vec::new();
    for row in &plan.rows {
        let snapshot = &row.snapshot;
        let sources: Vec<_> = snapshot.items().iter().map(item_source).collect();
        let what = match row.way {
            Way::Salvage if row.lost_commit => "its commit is damaged".to_owned(),
            Way::Salvage => "damaged".to_owned(),
            Way::Salvaged(id) => format!("damaged; what could be had of it is {}", id.short()),
            Way::Hopeless => "nothing of it can be had".to_owned(),
            Way::Keep => "whole; what was said of it last cannot be read, so it stays".to_owned(),
        };
        lines.push(format!(
            "snapshot {} of {}, {}: {what}",
            snapshot.id.short(),
            time(snapshot.time(), &context.zone),
            sources.join(", "),
        ));
        lines.extend(row.touched.iter().flat_map(touched_lines));
    }
    for lost in &plan.lost {
        let why = escape(lost.why.as_bytes());
        lines.push(format!("snapshot {}: nothing of it can be read: {why}", lost.id.short()));
    }
    lines
}

fn report_lines(plan: &SnapshotsPlan, report: &SnapshotsReport) -> Vec<String> {
    let mut lines = Vec::new();
    for done in &report.salvaged {
        lines.push(format!(
            "salvaged {} as {}, left out {}; head {}",
            done.from.short(),
            done.snapshot.short(),
            counted(done.left_out, "piece"),
            done.head,
        ));
    }
    for (ids, what) in [
        (&report.forgotten, "forgot"),
        (&report.expired, "gave up the unfinished"),
        (&report.kept, "kept"),
    ] {
        lines.extend(ids.iter().map(|id| format!("{what} {}", id.short())));
    }
    match (plan.rows.len() + plan.lost.len(), report.left.len()) {
        (0, _) => lines.push(format!("no damage in {}", counted(plan.snapshots, "snapshot"))),
        (_, 0) => {}
        (_, left) => lines.push(format!(
            "{} still there: `--forget` lets go of them",
            counted(left as u64, "damaged snapshot"),
        )),
    }
    lines
}
