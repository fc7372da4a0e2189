//! `vault forget`

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::sync::Arc;

use serde_json::{Value, json};
use volume_vault::event::{Observer, Recorder};
use volume_vault::id::SnapshotId;
use volume_vault::near::{did_you_mean, near_names};
use volume_vault::ops::Interrupt;
use volume_vault::ops::forget::{
    ForgetOptions, Forgotten, Plan, Policy, Selection, SeriesFilter, forgotten, plan_in,
    run as forget, undo,
};
use volume_vault::ops::prune::PruneOptions;
use volume_vault::repo::SnapshotList;

use self::table::{plan_json, plan_table, series_text};
use super::context::Context;
use super::engine::host_name;
use super::error::{CliError, ExitCode, Kind};
use super::find::{find_snapshot, series_name};
use super::look::{Looking, warn_of_forged};
use super::names::{Selector, SourceName, parse_duration};
use super::output::{count, document, escape_text, size};
use super::prune::{self, PruneArgs};
use super::snapshots;

mod table;

const EXAMPLES: &str = "\
Examples:
  vault forget my-data --keep-daily 7 --keep-weekly 4 --dry-run    which would go, and why
  vault forget 1a2b3c4d                      just this one
  vault forget --undo 1a2b3c4d               and back, until it is swept

A policy is for the series of SOURCE on this host, or for all of them without SOURCE. Times are
those at which snapshots were stored, days and weeks those of the local time zone (TZ). The last
good snapshot of a series is always kept. Without a policy, snapshots are named as elsewhere: a
SOURCE alone means its newest one.";

/// Forget snapshots: by name, or those that a retention policy does not keep
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ForgetArgs {
    /// The snapshots to forget or, with a policy, the sources that it is for
    #[arg(value_name = "SNAPSHOT|SOURCE")]
    pub(crate) names: Vec<OsString>,

    /// Apply the policy to what this host saved, or to all hosts for '*' [default: this host]
    #[arg(long, value_name = "HOST", requires = "policy")]
    pub(crate) from: Option<String>,

    /// Apply the policy only to what carries this tag; several must all be carried
    #[arg(long, value_name = "TAG", requires = "policy")]
    pub(crate) tag: Vec<String>,

    #[command(flatten)]
    pub(crate) policy: PolicyArgs,

    /// Sweep afterwards what nothing needs any more
    #[arg(long, conflicts_with = "undo")]
    pub(crate) prune: bool,

    /// Take forgotten snapshots back; `vault snapshots --forgotten` lists them
    #[arg(long, conflicts_with = "policy")]
    pub(crate) undo: bool,
}

/// A retention policy: what any of its rules keeps is kept.
#[derive(Debug, Clone, Default, clap::Args)]
#[group(id = "policy", multiple = true)]
pub(crate) struct PolicyArgs {
    /// Keep the newest N snapshots
    #[arg(long, value_name = "N", help_heading = "Policy")]
    pub(crate) keep_last: Option<u32>,

    /// Keep the newest snapshot of each of the latest N hours that have one
    #[arg(long, value_name = "N", help_heading = "Policy")]
    pub(crate) keep_hourly: Option<u32>,

    /// Keep the newest of each of the latest N days
    #[arg(long, value_name = "N", help_heading = "Policy")]
    pub(crate) keep_daily: Option<u32>,

    /// Keep the newest of each of the latest N weeks, which begin on Monday
    #[arg(long, value_name = "N", help_heading = "Policy")]
    pub(crate) keep_weekly: Option<u32>,

    /// Keep the newest of each of the latest N months
    #[arg(long, value_name = "N", help_heading = "Policy")]
    pub(crate) keep_monthly: Option<u32>,

    /// Keep the newest of each of the latest N years
    #[arg(long, value_name = "N", help_heading = "Policy")]
    pub(crate) keep_yearly: Option<u32>,

    /// Keep all that are not older than the newest of their series by more than this: 36h, 30d, 1y
    #[arg(long, value_name = "DURATION", help_heading = "Policy")]
    pub(crate) keep_within: Option<String>,

    /// Keep all that carry this tag, or one of several
    #[arg(long, value_name = "TAG", help_heading = "Policy")]
    pub(crate) keep_tag: Vec<String>,
}

impl PolicyArgs {
    /// The policy; none if no rule was given.
    ///
    /// Errors: usage, if it keeps nothing.
    pub(crate) fn policy(&self) -> Result<Option<Policy>, CliError> {
        let counts = [
            self.keep_last,
            self.keep_hourly,
            self.keep_daily,
            self.keep_weekly,
            self.keep_monthly,
            self.keep_yearly,
        ];
        let none = counts.iter().all(Option::is_none)
            && self.keep_within.is_none()
            && self.keep_tag.is_empty();
        if none {
            return Ok(None);
        }
        let [last, hourly, daily, weekly, monthly, yearly] = counts.map(Option::unwrap_or_default);
        let within = self.keep_within.as_deref().map(parse_duration).transpose()?;
        let tags = self.keep_tag.clone();
        let policy = Policy { last, hourly, daily, weekly, monthly, yearly, within, tags };
        if policy.keeps_nothing() {
            let error = CliError::usage("this policy keeps nothing");
            return Err(error.hint("one of its figures must be 1 at least"));
        }
        Ok(Some(policy))
    }
}

pub(crate) fn run(args: ForgetArgs, context: &Context) -> Result<ExitCode, CliError> {
    let policy = args.policy.policy()?;
    if args.names.is_empty() && (args.undo || policy.is_none()) {
        let error = CliError::usage("neither a snapshot nor a policy is named");
        return Err(error.hint("`vault forget SNAPSHOT`, or `vault forget --keep-daily 7`"));
    }
    if args.undo {
        return take_back(&args.names, context);
    }
    let sources = match policy {
        Some(_) => snapshots::sources(&args.names, context)?,
        None => Vec::new(),
    };
    let by_policy = policy.is_some();
    // Asked before anything is forgotten, so that nothing is done by halves.
    let pruning = args.prune.then(|| PruneArgs::default().options(context)).transpose()?;
    let looking = Looking::open(context)?;
    let list = &looking.list;
    warn_of_forged(list, context);
    let selection = match policy {
        Some(policy) => {
            let filter = filter(&args, &sources, list, context)?;
            Selection::Series(filter, policy)
        }
        None => {
            let named = args.names.iter().map(|name| named(name, &looking, context));
            Selection::Named(named.collect::<Result<BTreeSet<_>, _>>()?)
        }
    };
    let zone = context.zone.clone();
    let options = ForgetOptions { selection, drilled: BTreeSet::new(), zone };
    let plan = plan_in(list, &options)?;
    warn(&plan, context);
    if context.dry_run {
        let forgotten = plan.going().collect();
        let options = pruning.map(|options| PruneOptions { forgotten, ..options });
        let freed = options.map(|o| prune::look(&looking.repo, &o, context)).transpose()?;
        show(&plan, &[], freed.as_ref().map(prune::plan_json), context)?;
        if let (Some(freed), false) = (freed, context.output.format.is_json()) {
            let _ = prune::print_plan(&freed, context)?;
        }
        return Ok(ExitCode::Done);
    }
    confirm(&plan, by_policy, context)?;
    let report = forget(&looking.repo, &plan, &Interrupt::new(context.interrupted.clone()));
    if let Some(error) = report.error {
        let done: Vec<_> = report.forgotten.iter().map(ToString::to_string).collect();
        return Err(CliError::from(error).after(json!({ "forgotten": done })));
    }
    let json = context.output.format.is_json();
    if !json {
        show(&plan, &report.forgotten, None, context)?;
    }
    let pruned = pruning.map(|options| prune::prune(&looking.repo, &options, context));
    let pruned = pruned.transpose().map_err(|error| {
        let done: Vec<_> = report.forgotten.iter().map(ToString::to_string).collect();
        error.after(json!({ "forgotten": done }))
    })?;
    if json {
        let pruned = pruned.as_ref().map(prune::report_json);
        show(&plan, &report.forgotten, pruned, context)?;
    } else if let Some(pruned) = pruned {
        let _ = prune::print_report(&pruned, context)?;
    }
    match by_policy && !plan.unreadable.is_empty() {
        true => Ok(ExitCode::Skipped),
        false => Ok(ExitCode::Done),
    }
}

/// The series that a policy is for.
///
/// Errors: not found, for a source or host that has no snapshot.
fn filter(
    args: &ForgetArgs,
    sources: &[SourceName],
    list: &SnapshotList,
    context: &Context,
) -> Result<SeriesFilter, CliError> {
    let host = match args.from.as_deref() {
        Some("*") => None,
        Some(host) => Some(host.to_owned()),
        None => Some(host_name(context)?),
    };
    let filter = SeriesFilter {
        sources: sources.iter().map(series_name).collect(),
        host,
        tags: args.tag.clone(),
    };
    // With records missing nobody can say that there is no such series.
    if list.damaged.is_empty() {
        check_host(list, &filter)?;
        check_sources(list, sources, &filter)?;
    }
    Ok(filter)
}

fn check_host(list: &SnapshotList, filter: &SeriesFilter) -> Result<(), CliError> {
    let hosts: BTreeSet<&str> =
        list.snapshots.iter().map(|snapshot| snapshot.body.host.name.as_str()).collect();
    let Some(host) = filter.host.as_deref().filter(|host| !hosts.contains(host)) else {
        return Ok(());
    };
    let message = format!("the repository has no snapshot of host `{}`", escape_text(host));
    let near = did_you_mean(&near_names(host, hosts.iter().copied()));
    let known: Vec<_> = hosts.into_iter().map(escape_text).collect();
    let hint = match known.is_empty() {
        true => None,
        false => near.or(Some(format!("`--from HOST` names one of: {}", known.join(", ")))),
    };
    Err(CliError::new(Kind::NotFound, message).object(host).hint_if(hint))
}

fn check_sources(
    list: &SnapshotList,
    sources: &[SourceName],
    filter: &SeriesFilter,
) -> Result<(), CliError> {
    for source in sources {
        let (kind, name) = series_name(source);
        let saved = |host: Option<&str>| -> Vec<&str> {
            let ours = list.snapshots.iter().filter(|snapshot| {
                host.is_none_or(|host| snapshot.body.host.name == host)
                    && snapshot.items().iter().any(|item| item.kind == kind && item.name == name)
            });
            let hosts: BTreeSet<_> = ours.map(|s| s.body.host.name.as_str()).collect();
            hosts.into_iter().collect()
        };
        if !saved(filter.host.as_deref()).is_empty() {
            continue;
        }
        let elsewhere: Vec<_> = saved(None).into_iter().map(escape_text).collect();
        let error = match (&filter.host, elsewhere.is_empty()) {
            (Some(host), false) => {
                let host = escape_text(host);
                let message = format!("`{source}` was not saved on host `{host}`");
                let hint = format!("it was on {}: add `--from HOST`", elsewhere.join(", "));
                CliError::new(Kind::NotFound, message).hint(hint)
            }
            _ => super::find::unknown(list, source),
        };
        return Err(error.object(name));
    }
    Ok(())
}

/// The snapshot that a word means; one whose record cannot be read only by its id.
fn named(word: &OsStr, looking: &Looking, context: &Context) -> Result<SnapshotId, CliError> {
    let name = context.snapshot_name(&text(word)?)?;
    let list = &looking.list;
    let error = match find_snapshot(list, &name, context) {
        Ok((snapshot, _)) => return Ok(snapshot.id),
        Err(error) if error.kind() == Kind::NotFound => error,
        Err(error) => return Err(error),
    };
    let Selector::Series { id_prefix: Some(prefix), .. } = &name.selector else {
        return Err(error);
    };
    let ids = list.damaged.iter().filter_map(|(object, _)| object.base().split('.').next());
    let ids: BTreeSet<&str> = ids.filter(|id| id.starts_with(prefix.as_str())).collect();
    if let Some(id) = ids.first().filter(|_| ids.len() == 1).and_then(|id| id.parse().ok()) {
        return Ok(id);
    }
    if ids.len() > 1 {
        let message = format!("several snapshots start with {prefix}");
        return Err(CliError::new(Kind::Ambiguous, message));
    }
    let unfinished = list.unfinished.iter().find(|id| id.to_string().starts_with(prefix.as_str()));
    match unfinished {
        Some(id) => {
            let message = format!("backup {} is under way or did not come to an end", id.short());
            Err(CliError::new(Kind::Refused, message).object(id.to_string()))
        }
        None => Err(error),
    }
}

fn text(word: &OsStr) -> Result<String, CliError> {
    let text = word.to_str().map(str::to_owned);
    text.ok_or_else(|| CliError::usage(format!("`{}` is no snapshot", word.display())))
}

fn warn(plan: &Plan, context: &Context) {
    let output = &context.output;
    for name in &plan.unreadable {
        output.remark(&format!("warning: `{name}` cannot be read; what it is of is not judged"));
    }
    for id in &plan.blind {
        output.remark(&format!("warning: nobody can say what snapshot {} holds", id.short()));
    }
    if plan.doubtful_times > 0 {
        let many = count(plan.doubtful_times as u64);
        output.remark(&format!(
            "warning: snapshots stored days away from the time their hosts say: {many}; was the \
             repository copied without its times?"
        ));
    }
    for share in plan.series.iter().filter(|share| share.loses_last_good) {
        let series = series_text(&share.series);
        output.remark(&format!("warning: no good snapshot of {series} is left"));
    }
}

/// Asks somebody at a terminal whether much may go; elsewhere what was typed is obeyed. What rests
/// on a doubtful reading needs a yes everywhere.
fn confirm(plan: &Plan, by_policy: bool, context: &Context) -> Result<(), CliError> {
    let going = plan.going().count();
    let alarming: Vec<_> = plan.series.iter().filter(|share| share.is_alarming()).collect();
    let doubtful = by_policy && (plan.doubtful_times > 0 || !plan.unreadable.is_empty())
        || !plan.blind.is_empty();
    let much = !alarming.is_empty() && context.may_ask();
    if going == 0 || !(much || doubtful) {
        return Ok(());
    }
    let mut whats: Vec<String> = alarming
        .iter()
        .take(5)
        .map(|share| {
            format!("{} of {} of {}", share.going, share.total, series_text(&share.series))
        })
        .collect();
    if alarming.len() > whats.len() {
        whats.push(format!("and of {} series more", alarming.len() - whats.len()));
    }
    let what = match whats.is_empty() {
        true => format!("forget {}", snapshots_of(going)),
        false => format!("forget {}: {}", snapshots_of(going), whats.join(", ")),
    };
    context.confirm(&what)
}

fn snapshots_of(number: usize) -> String {
    match number {
        1 => "1 snapshot".to_owned(),
        more => format!("{} snapshots", count(more as u64)),
    }
}

/// Prints what was done or, in a dry run, would be.
/// `pruned` is what the document says of that, where space is freed too.
fn show(
    plan: &Plan,
    forgotten: &[SnapshotId],
    pruned: Option<Value>,
    context: &Context,
) -> Result<(), CliError> {
    let output = &context.output;
    if output.format.is_json() {
        let mut fields = plan_json(plan, forgotten, context.dry_run);
        if let Some(pruned) = pruned {
            fields["prune"] = pruned;
        }
        return output.document(&document(fields));
    }
    let going: Vec<SnapshotId> = plan.going().collect();
    if output.quiet {
        return going.iter().try_for_each(|id| output.line(&id.to_string()));
    }
    if context.dry_run || output.verbose > 0 {
        plan_table(plan, context).lines().iter().try_for_each(|line| output.line(line))?;
    }
    if going.is_empty() {
        return output.line("nothing to forget");
    }
    let verb = if context.dry_run { "would forget" } else { "forgot" };
    for share in plan.series.iter().filter(|share| share.going > 0) {
        let (going, total) = (count(share.going as u64), count(share.total as u64));
        output.line(&format!("{verb} {going} of {total} of {}", series_text(&share.series)))?;
    }
    for id in &plan.blind {
        output.line(&format!("{verb} {}, which cannot be read", id.short()))?;
    }
    if !context.dry_run {
        output.remark("until they are swept, `vault forget --undo SNAPSHOT` takes them back");
    }
    Ok(())
}

/// `--undo`
fn take_back(names: &[OsString], context: &Context) -> Result<ExitCode, CliError> {
    let names: Vec<_> = names
        .iter()
        .map(|name| context.snapshot_name(&text(name)?))
        .collect::<Result<_, CliError>>()?;
    let looking = Looking::open(context)?;
    let gone = forgotten(&looking.repo, &looking.list)?;
    let mut candidates = SnapshotList::default();
    candidates.snapshots = gone.iter().map(|gone| gone.snapshot.clone()).collect();
    let mut chosen: Vec<&Forgotten> = Vec::new();
    for name in &names {
        let found = find_snapshot(&candidates, name, context).map_err(|error| match error.kind() {
            Kind::NotFound => {
                let message = format!("no forgotten snapshot is meant by `{name}`");
                let hint = "`vault snapshots --forgotten` lists what can be taken back";
                CliError::new(Kind::NotFound, message).hint(hint)
            }
            _ => error,
        });
        let id = found?.0.id;
        chosen.extend(gone.iter().find(|gone| gone.snapshot.id == id));
    }
    let observer: Arc<dyn Observer> = Arc::new(Recorder::default());
    let mut done = Vec::new();
    for gone in chosen {
        let id = gone.snapshot.id;
        let dry_run = context.dry_run;
        let report =
            undo(&looking.repo, &looking.list, gone, dry_run, &observer).map_err(|error| {
                let error = CliError::from(error).object(id.to_string());
                error.after(json!({ "taken_back": done }))
            })?;
        let stored = match report.stored_bytes {
            0 => String::new(),
            bytes => format!("; {} were stored anew", size(bytes)),
        };
        let verb = if dry_run { "would take back" } else { "took back" };
        context.output.say(&format!("{verb} snapshot {}{stored}", id.short()))?;
        done.push(json!({ "snapshot": id.to_string(), "bytes_stored": report.stored_bytes }));
    }
    if context.output.format.is_json() {
        let fields = json!({ "taken_back": done, "dry_run": context.dry_run });
        context.output.document(&document(fields))?;
    }
    Ok(ExitCode::Done)
}
