//! `vault ls`

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;

use serde_json::{Map, Value, json};
use volume_vault::entry::{Entry, EntryPath, escape};
use volume_vault::ops::{Depth, Interrupt, Listing};

use super::context::Context;
use super::error::{CliError, ExitCode};
use super::look::{
    Looking, entry_at, entry_fields, entry_path, kind_name, long_line, put_bytes, shown_path,
};
use super::output::{Lines, ListDocument};
use super::snapshots::{self, SnapshotsArgs};

const EXAMPLES: &str = "\
Examples:
  vault ls                       the snapshots
  vault ls my-data /etc          one folder of the latest snapshot
  vault ls -lR my-data@2d        everything, with modes, owners and times";

/// List what a snapshot holds
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct LsArgs {
    /// The snapshot, perhaps with :ITEM; the snapshots are listed if left out
    #[arg(value_name = "SNAPSHOT")]
    pub(crate) snapshot: Option<String>,

    /// The folder or file in it; the root if left out
    #[arg(value_name = "PATH")]
    pub(crate) path: Option<OsString>,

    /// Show modes, owners, sizes and times
    #[arg(short, long)]
    pub(crate) long: bool,

    /// List what lies below, too
    #[arg(short = 'R', long)]
    pub(crate) recursive: bool,
}

pub(crate) fn run(args: LsArgs, context: &Context) -> Result<ExitCode, CliError> {
    let Some(name) = &args.snapshot else {
        return snapshots::run(SnapshotsArgs::default(), context);
    };
    let name = context.snapshot_name(name)?;
    let path = entry_path(args.path.as_ref().map_or(b"", |path| path.as_bytes()))?;
    let looking = Looking::open(context)?;
    let (snapshot, item) = looking.find(&name, context)?;
    let reader = looking.reader()?;
    let stored = entry_at(&reader, snapshot, item, &path)?;
    let mut printer = match context.output.format.is_json() {
        true => {
            let mut head = Map::new();
            let _ = head.insert("snapshot".to_owned(), json!(snapshot.id.to_string()));
            let _ = head.insert("item".to_owned(), json!(item.name));
            let _ = head.insert("item_kind".to_owned(), json!(kind_name(item.kind)));
            put_bytes(&mut head, "path", &shown_path(&path));
            let head = Value::Object(head);
            Printer::Json(ListDocument::begin(&context.output, head, "entries", "entry")?)
        }
        false => Printer::Human(Lines::new(&context.output)),
    };
    if !stored.entry.is_directory() {
        printer.entry(&path, &stored.entry, &args, context)?;
        return printer.end();
    }
    let depth = if args.recursive { Depth::All } else { Depth::Children };
    let mut listing = Listing::new(&reader, item, &path, depth);
    let interrupt = Interrupt::new(context.interrupted.clone());
    while let Some((path, stored)) = listing.next()? {
        interrupt.check()?;
        if context.output.is_closed() {
            break;
        }
        printer.entry(&path, &stored.entry, &args, context)?;
    }
    printer.end()
}

/// Where entries are printed.
enum Printer<'o> {
    Human(Lines<'o>),
    Json(ListDocument<'o>),
}

impl Printer<'_> {
    fn entry(
        &mut self,
        path: &EntryPath,
        entry: &Entry,
        args: &LsArgs,
        context: &Context,
    ) -> Result<(), CliError> {
        let lines = match self {
            Self::Json(document) => {
                let mut fields = entry_fields(entry);
                put_bytes(&mut fields, "path", &shown_path(path));
                return document.item(Value::Object(fields));
            }
            Self::Human(lines) => lines,
        };
        // Of a recursive list the name alone would not say where.
        let name = match (args.recursive, path.name()) {
            (false, Some(name)) => escape(name),
            _ => escape(&shown_path(path)),
        };
        match args.long && !context.output.quiet {
            true => lines.line(&long_line(&name, entry, &context.zone)),
            false => lines.line(&name),
        }
    }

    fn end(self) -> Result<ExitCode, CliError> {
        match self {
            Self::Human(mut lines) => lines.flush()?,
            Self::Json(mut document) => {
                document.tail(json!({}))?;
                document.end()?;
            }
        }
        Ok(ExitCode::Done)
    }
}
