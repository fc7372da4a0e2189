//! `vault prune`

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use volume_vault::event::Observer;
use volume_vault::ops::prune::{
    Figures, Grace, Heap, MaxUnused, PruneOptions, Report, Requests, plan, run as run_plan,
};
use volume_vault::ops::{Interrupt, OpsError};
use volume_vault::repo::{Repository, grace_min};
use volume_vault::store::Location;

use super::context::Context;
use super::error::{CliError, ExitCode, Kind};
use super::names::{parse_duration, parse_size};
use super::open::open;
use super::output::{Progress, count, document, rfc3339, short_duration, size, time};

const EXAMPLES: &str = "\
Examples:
  vault prune                       free the space of what was forgotten
  vault prune --dry-run             show what that would free, and what it costs
  vault prune --max-repack 2GiB     move no more than that; leave more behind";

/// Free the space of what no snapshot needs
#[derive(Debug, Default, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PruneArgs {
    /// Wait so long between condemning and deleting [default: 0s for a local repository that only
    /// this host writes to, else 24h]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) grace: Option<Duration>,

    /// Leave so much unused space in packs: a percentage, a size or `unlimited` [default: 5%]
    #[arg(long, value_name = "AMOUNT", value_parser = max_unused)]
    pub(crate) max_unused: Option<MaxUnused>,

    /// Store at most so much anew
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    pub(crate) max_repack: Option<u64>,

    /// Give up backups that have not come to their end after so long [default: 7d]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) expire_pending: Option<Duration>,
}

impl PruneArgs {
    /// What these flags mean for the repository at hand.
    pub(crate) fn options(&self, context: &Context) -> Result<PruneOptions, CliError> {
        let mut options = PruneOptions {
            memory: context.memory_bytes,
            clock: context.clock,
            ..Default::default()
        };
        options.grace = match self.grace {
            Some(grace) => Grace::Given(grace),
            None if matches!(context.repository()?.location()?, Location::Local(_)) => Grace::Local,
            None => options.grace,
        };
        options.max_unused = self.max_unused.unwrap_or(options.max_unused);
        options.max_repack = self.max_repack;
        if let Some(age) = self.expire_pending {
            // What such a backup stored goes with it.
            (options.expire_pending, options.orphan_age) = (age, age);
        }
        Ok(options)
    }
}

pub(crate) fn run(args: PruneArgs, context: &Context) -> Result<ExitCode, CliError> {
    let options = args.options(context)?;
    let repo = open(context)?;
    match context.dry_run {
        true => print_plan(&look(&repo, &options, context)?, context),
        false => print_report(&prune(&repo, &options, context)?, context),
    }
}

/// What a prune would do.
pub(crate) fn look(
    repo: &Arc<Repository>,
    options: &PruneOptions,
    context: &Context,
) -> Result<Figures, CliError> {
    let progress = Arc::new(Progress::start(&context.output, "looking"));
    let observer: Arc<dyn Observer> = progress.clone();
    let interrupt = Interrupt::new(Arc::clone(&context.interrupted));
    let planned = plan(repo, options, &observer, &interrupt);
    progress.finish();
    Ok(planned.map_err(|error| advised(error, repo))?.figures().clone())
}

/// Prunes, and shows how far it is.
pub(crate) fn prune(
    repo: &Arc<Repository>,
    options: &PruneOptions,
    context: &Context,
) -> Result<Report, CliError> {
    let progress = Arc::new(Progress::start(&context.output, "pruning"));
    let observer: Arc<dyn Observer> = progress.clone();
    let interrupt = Interrupt::new(Arc::clone(&context.interrupted));
    let planned = plan(repo, options, &observer, &interrupt);
    let done = planned.and_then(|plan| run_plan(plan, &observer, &interrupt));
    progress.finish();
    done.map_err(|error| advised(error, repo))
}

/// Says which wait to ask for where the store's lists need one.
fn advised(error: OpsError, repo: &Repository) -> CliError {
    let error = CliError::from(error);
    let least = grace_min(repo).filter(|_| error.kind() == Kind::Refused);
    error.hint_if(
        least.map(|least| {
            format!("`vault prune --grace {}` waits long enough", short_duration(least))
        }),
    )
}

/// Prints what would be done.
pub(crate) fn print_plan(figures: &Figures, context: &Context) -> Result<ExitCode, CliError> {
    if context.output.format.is_json() {
        let mut fields = plan_json(figures);
        fields["dry_run"] = json!(true);
        context.output.document(&document(fields))?;
    } else {
        plan_lines(figures, context).iter().try_for_each(|line| context.output.line(line))?;
    }
    Ok(ExitCode::Done)
}

/// Prints what was done.
pub(crate) fn print_report(report: &Report, context: &Context) -> Result<ExitCode, CliError> {
    if context.output.format.is_json() {
        context.output.document(&document(report_json(report)))?;
    } else {
        report_lines(report, context).iter().try_for_each(|line| context.output.say(line))?;
    }
    Ok(ExitCode::Done)
}

fn heap(heap: Heap, what: &str) -> String {
    let plural = if heap.objects == 1 { "" } else { "s" };
    format!("{} in {} {what}{plural}", size(heap.bytes), count(heap.objects))
}

fn plan_lines(figures: &Figures, context: &Context) -> Vec<String> {
    let mut rows = vec![
        ("stored", heap(figures.packs, "pack")),
        ("needed by nothing", heap(figures.free, "pack")),
        ("to be repacked", heap(figures.repack, "pack")),
        ("stored anew", format!("about {}", size(figures.moved))),
        ("left unused", format!("about {}", size(figures.unused))),
    ];
    if figures.due.objects > 0 {
        rows.push(("condemned before, due", heap(figures.due, "pack")));
    }
    if figures.waiting.objects > 0 {
        rows.push(("condemned before, waiting", heap(figures.waiting, "pack")));
    }
    if figures.young.objects > 0 {
        rows.push(("perhaps of a backup under way", heap(figures.young, "pack")));
    }
    if figures.segments.objects > 0 {
        rows.push(("index segments to go", heap(figures.segments, "segment")));
    }
    if figures.expired > 0 {
        rows.push(("unfinished backups given up", count(figures.expired)));
    }
    let Requests { list, get, put, delete } = figures.requests;
    rows.push((
        "requests",
        format!(
            "about {list} list, {} get, {} put, {} delete",
            count(get),
            count(put),
            count(delete)
        ),
    ));
    rows.push(("freed now", format!("about {}", size(figures.freed_now))));
    if figures.freed_later > 0 {
        let when =
            figures.later.map_or(String::new(), |at| format!(", from {}", time(at, &context.zone)));
        rows.push(("freed later", format!("about {}{when}", size(figures.freed_later))));
    }
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    rows.iter().map(|(name, value)| format!("{name:<width$}  {value}")).collect()
}

fn report_lines(report: &Report, context: &Context) -> Vec<String> {
    let done = &report.done;
    let took = short_duration(Duration::from_secs_f64(report.seconds.max(0.0)));
    let mut line = format!("freed {}", size(report.freed()));
    if done.packs.objects > 0 {
        line.push_str(&format!(", deleted {}", heap(done.packs, "pack")));
    }
    if done.stored.objects > 0 {
        line.push_str(&format!(", stored {} anew", heap(done.stored, "pack")));
    }
    let mut lines = vec![format!("{line} ({took})")];
    if report.freed_later() > 0 {
        let when = report
            .planned
            .later
            .map_or(String::new(), |at| format!(" from {} on", time(at, &context.zone)));
        let grace = short_duration(report.planned.grace);
        lines.push(format!(
            "{} condemned: `vault prune` frees them{when} (grace {grace})",
            size(report.freed_later())
        ));
    }
    if done.spared > 0 {
        lines.push(format!(
            "{} condemned packs are needed after all and were kept; the next prune repacks them",
            count(done.spared)
        ));
    }
    if done.expired > 0 {
        lines.push(format!("{} unfinished backups were given up", count(done.expired)));
    }
    if report.planned.unused > 0 {
        lines.push(format!("about {} stay unused in packs", size(report.planned.unused)));
    }
    lines
}

fn heap_json(heap: Heap) -> Value {
    json!({ "objects": heap.objects, "bytes": heap.bytes })
}

/// The fields of a plan.
pub(crate) fn plan_json(figures: &Figures) -> Value {
    let Requests { list, get, put, delete } = figures.requests;
    json!({
        "snapshots": figures.snapshots,
        "packs": heap_json(figures.packs),
        "free": heap_json(figures.free),
        "repack": heap_json(figures.repack),
        "moved_bytes": figures.moved,
        "unused_bytes": figures.unused,
        "young": heap_json(figures.young),
        "due": heap_json(figures.due),
        "waiting": heap_json(figures.waiting),
        "segments": heap_json(figures.segments),
        "segments_merged": figures.merged,
        "unfinished_expired": figures.expired,
        "grace_seconds": figures.grace.as_secs(),
        "freed_now_bytes": figures.freed_now,
        "freed_later_bytes": figures.freed_later,
        "freed_later_from": figures.later.map(rfc3339),
        "requests": { "list": list, "get": get, "put": put, "delete": delete },
    })
}

/// The fields of a report: those of its plan as `plan`, and what was done.
pub(crate) fn report_json(report: &Report) -> Value {
    let done = &report.done;
    json!({
        "dry_run": false,
        "plan": plan_json(&report.planned),
        "freed_bytes": report.freed(),
        "freed_later_bytes": report.freed_later(),
        "freed_later_from": report.planned.later.map(rfc3339),
        "condemned": heap_json(done.condemned),
        "segments_condemned": done.segments_condemned,
        "stored": heap_json(done.stored),
        "packs_deleted": heap_json(done.packs),
        "segments_deleted": heap_json(done.segments),
        "packs_spared": done.spared,
        "records_done": done.records,
        "unfinished_expired": done.expired,
        "seconds": report.seconds,
    })
}

fn duration(text: &str) -> Result<Duration, String> {
    match text {
        "0" => Ok(Duration::ZERO),
        text => parse_duration(text).map_err(|_| "write it as 24h, 7d or 0s".to_owned()),
    }
}

fn bytes(text: &str) -> Result<u64, String> {
    parse_size(text).map_err(|_| "write it as 64MiB, 2GiB or 500MB".to_owned())
}

/// `5%`, `1GiB` or `unlimited`.
fn max_unused(text: &str) -> Result<MaxUnused, String> {
    if text == "unlimited" {
        return Ok(MaxUnused::Unlimited);
    }
    let Some(percent) = text.strip_suffix('%') else {
        return bytes(text).map(MaxUnused::Bytes);
    };
    match percent.parse::<f64>() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(MaxUnused::Percent(percent)),
        _ => Err("a percentage lies between 0 and 100".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_that_may_stay_unused() {
        assert_eq!(max_unused("5%"), Ok(MaxUnused::Percent(5.0)));
        assert_eq!(max_unused("0%"), Ok(MaxUnused::Percent(0.0)));
        assert_eq!(max_unused("2GiB"), Ok(MaxUnused::Bytes(2 << 30)));
        assert_eq!(max_unused("unlimited"), Ok(MaxUnused::Unlimited));
        for text in ["101%", "-1%", "NaN%", "%", "5 %", "much", ""] {
            assert!(max_unused(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_wait_of_nothing_needs_no_unit() {
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        assert_eq!(duration("24h"), Ok(Duration::from_secs(86_400)));
        assert!(duration("24").is_err());
    }
}
