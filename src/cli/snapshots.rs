//! `vault snapshots`

use std::collections::BTreeMap;
use std::ffi::OsString;

use serde_json::{Value, json};
use volume_vault::clock::Time;
use volume_vault::id::SnapshotId;
use volume_vault::near::{did_you_mean, near_names};
use volume_vault::ops::forget::forgotten;
use volume_vault::repo::{Snapshot, SnapshotList};

use super::context::Context;
use super::error::{CliError, ExitCode, Kind};
use super::find::{series_name, unknown};
use super::look::{Looking, SnapshotRow, chain, kind_name, snapshot_fields, warn_of_forged};
use super::names::SourceName;
use super::output::{Align, ListDocument, Table, count, escape_text, rfc3339, size, time};

const EXAMPLES: &str = "\
Examples:
  vault snapshots                         all of them, by series and time
  vault snapshots my-data --tag weekly    the tagged ones of one volume
  vault snapshots --forgotten             what `vault forget --undo` can take back";

/// List snapshots
#[derive(Debug, Default, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SnapshotsArgs {
    /// List only the series of these sources
    #[arg(value_name = "SOURCE")]
    pub(crate) sources: Vec<OsString>,

    /// List only what this host saved
    #[arg(long, value_name = "HOST")]
    pub(crate) from: Option<String>,

    /// List only what carries this tag; several must all be carried
    #[arg(long, value_name = "TAG")]
    pub(crate) tag: Vec<String>,

    /// List what was forgotten and can perhaps be taken back
    #[arg(long)]
    pub(crate) forgotten: bool,
}

/// When snapshots were forgotten, by the store's clock.
type Gone = BTreeMap<SnapshotId, Time>;

pub(crate) fn run(args: SnapshotsArgs, context: &Context) -> Result<ExitCode, CliError> {
    let sources = sources(&args.sources, context)?;
    let looking = Looking::open(context)?;
    let mut gone_list = SnapshotList::default();
    let mut gone = None;
    if args.forgotten {
        let found = forgotten(&looking.repo, &looking.list)?;
        gone = Some(found.iter().filter_map(|f| Some((f.snapshot.id, f.at?))).collect::<Gone>());
        let found = found.into_iter().filter(|found| found.at.is_some());
        gone_list.snapshots = found.map(|found| found.snapshot).collect();
    }
    let list = if args.forgotten { &gone_list } else { &looking.list };
    let damaged = &looking.list.damaged;
    // With records missing nobody can say that there is no such series.
    if damaged.is_empty() {
        check_names(list, &sources, args.from.as_deref())?;
    }
    let wanted = |snapshot: &&Snapshot| wanted(snapshot, &sources, args.from.as_deref(), &args.tag);
    let mut snapshots: Vec<&Snapshot> = list.snapshots.iter().filter(wanted).collect();
    // By series; within one they are by time already.
    snapshots.sort_by_cached_key(|snapshot| {
        let item = snapshot.items().first();
        (snapshot.body.host.name.clone(), item.map(|item| (item.kind, item.name.clone())))
    });
    let document = print(&snapshots, &looking.list, gone.as_ref(), context)?;
    if let Some((object, _)) = damaged.first() {
        let message = match damaged.len() {
            1 => "a snapshot record cannot be read".to_owned(),
            several => format!("{several} snapshot records cannot be read"),
        };
        return Err(CliError::new(Kind::Damaged, message).object(object.to_string()));
    }
    document.map_or(Ok(()), ListDocument::end)?;
    Ok(ExitCode::Done)
}

/// Prints the list; gives the document if it is one, to be ended.
fn print<'o>(
    snapshots: &[&Snapshot],
    list: &SnapshotList,
    gone: Option<&Gone>,
    context: &'o Context,
) -> Result<Option<ListDocument<'o>>, CliError> {
    let output = &context.output;
    warn_of_forged(list, context);
    for (object, why) in &list.damaged {
        let why = escape_text(&chain(why));
        output.remark(&format!("warning: snapshot record `{object}` cannot be read: {why}"));
    }
    if output.format.is_json() {
        let mut document = ListDocument::begin(output, json!({}), "snapshots", "snapshot")?;
        for snapshot in snapshots {
            let mut fields = snapshot_fields(snapshot);
            if let Some(at) = gone.and_then(|gone| gone.get(&snapshot.id)) {
                let _ = fields.insert("forgotten".to_owned(), json!(rfc3339(*at)));
            }
            document.item(Value::Object(fields))?;
        }
        let damaged = list
            .damaged
            .iter()
            .map(|(object, why)| json!({"object": object.to_string(), "message": chain(why)}));
        let unfinished = list.unfinished.iter().map(ToString::to_string);
        document.tail(json!({
            "damaged": damaged.collect::<Vec<_>>(),
            "unfinished": unfinished.collect::<Vec<_>>(),
            "forged": list.forged.iter().map(ToString::to_string).collect::<Vec<_>>(),
        }))?;
        return Ok(Some(document));
    }
    if output.quiet {
        for snapshot in snapshots {
            output.line(&snapshot.id.to_string())?;
        }
        return Ok(None);
    }
    if snapshots.is_empty() {
        output.remark("no snapshots");
    } else {
        table(snapshots, gone, context).lines().iter().try_for_each(|line| output.line(line))?;
    }
    match list.unfinished.len() {
        0 => {}
        1 => output.remark("1 backup is under way or did not come to an end"),
        more => output.remark(&format!("{more} backups are under way or did not come to an end")),
    }
    Ok(None)
}

fn table(snapshots: &[&Snapshot], gone: Option<&Gone>, context: &Context) -> Table {
    let mut columns = vec![
        ("ID", Align::Left),
        ("TIME", Align::Left),
        ("HOST", Align::Left),
        ("SOURCE", Align::Left),
        ("TAGS", Align::Left),
        ("SIZE", Align::Right),
        ("ENTRIES", Align::Right),
        ("NEW", Align::Right),
        ("METHOD", Align::Left),
        ("NOTES", Align::Left),
    ];
    if gone.is_some() {
        columns.push(("FORGOTTEN", Align::Left));
    }
    let mut table = Table::new(&columns);
    for snapshot in snapshots {
        let row = SnapshotRow::of(snapshot);
        let at = gone.and_then(|gone| gone.get(&snapshot.id));
        table.row([
            snapshot.id.short(),
            time(snapshot.time(), &context.zone),
            escape_text(&snapshot.body.host.name),
            row.sources.join(", "),
            escape_text(&snapshot.body.tags.join(", ")),
            size(row.size),
            count(row.entries),
            size(row.stored),
            row.method(),
            row.notes(),
            at.map(|at| time(*at, &context.zone)).unwrap_or_default(),
        ]);
    }
    table
}

/// Whether a snapshot has one of these sources (any of them will do if there is none), is of the
/// host and carries all tags.
pub(super) fn wanted(
    snapshot: &Snapshot,
    sources: &[SourceName],
    host: Option<&str>,
    tags: &[String],
) -> bool {
    let ours = |source| {
        let mut items = snapshot.items().iter();
        items.any(|item| series_name(source) == (item.kind, item.name.clone()))
    };
    (sources.is_empty() || sources.iter().any(ours))
        && host.is_none_or(|host| snapshot.body.host.name == *host)
        && tags.iter().all(|tag| snapshot.body.tags.contains(tag))
}

/// Errors: not found, for a source or host that has no snapshot at all.
pub(super) fn check_names(
    list: &SnapshotList,
    sources: &[SourceName],
    host: Option<&str>,
) -> Result<(), CliError> {
    let items = || list.snapshots.iter().flat_map(|snapshot| snapshot.items());
    for source in sources {
        let (kind, name) = series_name(source);
        if !items().any(|item| item.kind == kind && item.name == name) {
            return Err(unknown(list, source).object(format!("{}:{name}", kind_name(kind))));
        }
    }
    let Some(host) = host else { return Ok(()) };
    let hosts = || list.snapshots.iter().map(|snapshot| snapshot.body.host.name.as_str());
    if hosts().any(|known| known == host) {
        return Ok(());
    }
    let message = format!("the repository has no snapshot of host `{}`", escape_text(host));
    let error = CliError::new(Kind::NotFound, message).object(host);
    Err(error.hint_if(did_you_mean(&near_names(host, hosts()))))
}

/// The series to list; all of them if empty.
pub(super) fn sources(texts: &[OsString], context: &Context) -> Result<Vec<SourceName>, CliError> {
    let parse = |text: &OsString| SourceName::parse(text)?.absolute_in(context.current_dir());
    texts.iter().map(parse).collect()
}
