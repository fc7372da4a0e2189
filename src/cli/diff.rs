//! `vault diff`

use std::sync::Arc;

use serde_json::{Map, Value, json};
use volume_vault::entry::{Entry, Kind as EntryKind, escape};
use volume_vault::event::Observer;
use volume_vault::format::Item;
use volume_vault::ops::{Change, ChangeKind, Interrupt, ItemDiff, LiveDiff};
use volume_vault::repo::Snapshot;

use super::context::Context;
use super::error::{CliError, ExitCode};
use super::live::open_live;
use super::look::{Looking, differing, entry_fields, kind_name, put_bytes, shown_path, type_name};
use super::names::{SnapshotName, SourceName};
use super::output::{Lines, ListDocument, Progress, count, size};

const EXAMPLES: &str = "\
Examples:
  vault diff my-data@2d my-data          what changed in two days
  vault diff my-data live:my-data        what changed since the last backup
  vault diff 1a2b3c4d 5e6f7a8b --json    for a script";

/// Show how two snapshots differ
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DiffArgs {
    /// The older one: a snapshot, or live:VOLUME for what a volume holds now
    #[arg(value_name = "A")]
    pub(crate) a: String,

    /// The newer one
    #[arg(value_name = "B")]
    pub(crate) b: String,
}

/// One side of a comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Side {
    /// What a snapshot holds.
    Snapshot(SnapshotName),
    /// What a source holds now.
    Live(SourceName),
}

pub(crate) fn run(args: DiffArgs, context: &Context) -> Result<ExitCode, CliError> {
    let sides = (side(&args.a, context)?, side(&args.b, context)?);
    let looking = Looking::open(context)?;
    let find = |name: &SnapshotName| looking.find(name, context);
    match &sides {
        (Side::Snapshot(a), Side::Snapshot(b)) => {
            let (a, b) = (find(a)?, find(b)?);
            let reader = looking.reader()?;
            let mut diff = ItemDiff::new(&reader, a.1, b.1);
            let mut report = Report::begin(snapshot_side(a), snapshot_side(b), context)?;
            let interrupt = Interrupt::new(context.interrupted.clone());
            while let Some(change) = diff.next()? {
                interrupt.check()?;
                if !report.add(&change)? {
                    break;
                }
            }
            report.end()?;
            Ok(ExitCode::Done)
        }
        (Side::Snapshot(name), Side::Live(source)) => {
            diff_live(&looking, find(name)?, source, Direction::ToLive, context)
        }
        (Side::Live(source), Side::Snapshot(name)) => {
            diff_live(&looking, find(name)?, source, Direction::FromLive, context)
        }
        (Side::Live(_), Side::Live(_)) => Err(CliError::usage("both sides are `live:`")
            .hint("one of them has to be a snapshot; `diff -r` compares two directories")),
    }
}

/// Which side the snapshot is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    /// The older one.
    ToLive,
    /// The newer one.
    FromLive,
}

fn diff_live(
    looking: &Looking,
    found: (&Snapshot, &Item),
    source: &SourceName,
    direction: Direction,
    context: &Context,
) -> Result<ExitCode, CliError> {
    let progress = Arc::new(Progress::start(&context.output, "comparing"));
    let observer: Arc<dyn Observer> = progress.clone();
    let live = open_live(source, context, observer.clone())?;
    let reader = looking.reader()?;
    let interrupt = Interrupt::new(context.interrupted.clone());
    let mut diff = LiveDiff::new(&reader, found.1, live, &observer, &interrupt)?;
    let live = json!({"live": source.to_string()});
    let (old, new) = match direction {
        Direction::ToLive => (snapshot_side(found), live),
        Direction::FromLive => (live, snapshot_side(found)),
    };
    let mut report = Report::begin(old, new, context)?;
    while let Some(change) = diff.next()? {
        let change = match direction {
            Direction::ToLive => change,
            Direction::FromLive => change.reversed(),
        };
        if !report.add(&change)? {
            break;
        }
    }
    progress.finish();
    report.end()?;
    Ok(if progress.has_skipped() { ExitCode::Skipped } else { ExitCode::Done })
}

fn snapshot_side((snapshot, item): (&Snapshot, &Item)) -> Value {
    let kind = kind_name(item.kind);
    json!({"snapshot": snapshot.id.to_string(), "item": item.name, "item_kind": kind})
}

/// What was counted.
#[derive(Default)]
struct Summary {
    added: u64,
    removed: u64,
    types: u64,
    contents: u64,
    metadata: u64,
    bytes_old: u64,
    bytes_new: u64,
}

/// Prints changes as they come.
struct Report<'o> {
    context: &'o Context,
    printer: Printer<'o>,
    summary: Summary,
}

enum Printer<'o> {
    Human(Lines<'o>),
    Json(ListDocument<'o>),
}

impl<'o> Report<'o> {
    fn begin(old: Value, new: Value, context: &'o Context) -> Result<Self, CliError> {
        let output = &context.output;
        let printer = match output.format.is_json() {
            true => {
                let head = json!({"old": old, "new": new});
                Printer::Json(ListDocument::begin(output, head, "changes", "change")?)
            }
            false => Printer::Human(Lines::new(output)),
        };
        Ok(Self { context, printer, summary: Summary::default() })
    }

    /// Says whether anybody still reads.
    fn add(&mut self, change: &Change) -> Result<bool, CliError> {
        let summary = &mut self.summary;
        match change.kind {
            ChangeKind::Added => summary.added += 1,
            ChangeKind::Removed => summary.removed += 1,
            ChangeKind::Type => summary.types += 1,
            ChangeKind::Content => summary.contents += 1,
            ChangeKind::Metadata => summary.metadata += 1,
        }
        summary.bytes_old += change.old.as_ref().map_or(0, Entry::content_len);
        summary.bytes_new += change.new.as_ref().map_or(0, Entry::content_len);
        match &mut self.printer {
            Printer::Human(lines) if self.context.output.quiet => {
                lines.line(&escape(&shown_path(&change.path)))?;
            }
            Printer::Human(lines) => lines.line(&change_line(change))?,
            Printer::Json(document) => document.item(change_fields(change))?,
        }
        Ok(!self.context.output.is_closed())
    }

    fn end(self) -> Result<(), CliError> {
        let s = self.summary;
        match self.printer {
            Printer::Json(mut document) => {
                document.tail(json!({"summary": {
                    "added": s.added,
                    "removed": s.removed,
                    "type": s.types,
                    "content": s.contents,
                    "metadata": s.metadata,
                    "bytes_old": s.bytes_old,
                    "bytes_new": s.bytes_new,
                }}))?;
                document.end()
            }
            Printer::Human(mut lines) => {
                lines.flush()?;
                self.context.output.say(&s.line())
            }
        }
    }
}

impl Summary {
    fn line(&self) -> String {
        let counts = [
            (self.added, "added"),
            (self.removed, "removed"),
            (self.contents, "modified"),
            (self.types, "of another type"),
            (self.metadata, "with other metadata only"),
        ];
        let parts: Vec<_> = counts
            .iter()
            .filter(|(number, _)| *number > 0)
            .map(|(number, what)| format!("{} {what}", count(*number)))
            .collect();
        if parts.is_empty() {
            return "no difference".to_owned();
        }
        format!("{}; {}", parts.join(", "), sizes(self.bytes_old, self.bytes_new))
    }
}

/// A letter, the path, and how size or metadata changed.
fn change_line(change: &Change) -> String {
    let path = escape(&shown_path(&change.path));
    let length = |entry: &Option<Entry>| match entry.as_ref().map(|entry| &entry.kind) {
        Some(EntryKind::File { size, .. }) => Some(*size),
        _ => None,
    };
    let (old, new) = (length(&change.old), length(&change.new));
    let (letter, detail) = match change.kind {
        ChangeKind::Added => ('+', new.map(size)),
        ChangeKind::Removed => ('-', old.map(size)),
        ChangeKind::Content => ('M', old.zip(new).map(|(old, new)| sizes(old, new))),
        ChangeKind::Metadata => ('m', Some(differences(change).join(", "))),
        ChangeKind::Type => {
            let name = |entry: &Option<Entry>| entry.as_ref().map(|e| type_name(&e.kind));
            let both = name(&change.old).zip(name(&change.new));
            ('T', both.map(|(old, new)| format!("{old} -> {new}")))
        }
    };
    match detail {
        Some(detail) => format!("{letter} {path}  ({detail})"),
        None => format!("{letter} {path}"),
    }
}

fn sizes(old: u64, new: u64) -> String {
    let (word, by) = match new.checked_sub(old) {
        Some(0) => return format!("{} as before", size(new)),
        Some(more) => ('+', more),
        None => ('-', old - new),
    };
    format!("{} -> {}, {word}{}", size(old), size(new), size(by))
}

fn differences(change: &Change) -> Vec<&'static str> {
    match (&change.old, &change.new) {
        (Some(old), Some(new)) => differing(old, new),
        _ => Vec::new(),
    }
}

fn change_fields(change: &Change) -> Value {
    let mut fields = Map::new();
    put_bytes(&mut fields, "path", &shown_path(&change.path));
    let kind = match change.kind {
        ChangeKind::Added => "added",
        ChangeKind::Removed => "removed",
        ChangeKind::Type => "type",
        ChangeKind::Content => "content",
        ChangeKind::Metadata => "metadata",
    };
    let _ = fields.insert("change".to_owned(), json!(kind));
    let _ = fields.insert("differs".to_owned(), json!(differences(change)));
    for (name, entry) in [("old", &change.old), ("new", &change.new)] {
        let entry = entry.as_ref().map(entry_fields);
        let _ = fields.insert(name.to_owned(), json!(entry));
    }
    Value::Object(fields)
}

fn side(text: &str, context: &Context) -> Result<Side, CliError> {
    match text.strip_prefix("live:") {
        None => context.snapshot_name(text).map(Side::Snapshot),
        Some(name) => {
            let source = SourceName::parse(name.as_ref())?;
            source.absolute_in(context.current_dir()).map(Side::Live)
        }
    }
}
