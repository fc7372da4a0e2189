//! `vault cp`

use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use volume_vault::entry::{EntryPath, escape};
use volume_vault::event::Observer;
use volume_vault::format::Item;
use volume_vault::ops::restore::RestoreRun;
use volume_vault::ops::{Interrupt, copy_out};
use volume_vault::sink::{DirectoryOptions, SinkError, Special, Spot};
use volume_vault::source::Selection;

use super::context::Context;
use super::error::{CliError, ExitCode, Kind};
use super::live::volume_path;
use super::look::{Looking, entry_at, entry_path, kind_name, put_bytes, shown_path};
use super::names::{SnapshotName, SourceName};
use super::output::{Progress, count, document, short_duration, size};

const EXAMPLES: &str = "\
Examples:
  vault cp my-data:/etc/app.conf .             one file into this folder
  vault cp my-data@2d:/www ./www-before        a folder as it was
  vault cp my-data:/www volume:scratch:/www    into a volume, with owner and mode

What is there already is never replaced (exit code 14). An existing directory receives the copy
under its own name.";

/// Copy files out of a snapshot, with owner and mode
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CpArgs {
    /// What to copy: SNAPSHOT[:ITEM]:PATH
    #[arg(value_name = "SNAPSHOT:PATH")]
    pub(crate) from: OsString,

    /// Where to: a path, or volume:NAME:PATH
    #[arg(value_name = "DEST")]
    pub(crate) to: OsString,
}

/// Where a copy goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Destination {
    /// A path on this machine.
    Path(PathBuf),
    /// A path in a volume.
    Volume {
        /// The volume.
        name: String,
        /// The path in it.
        path: String,
    },
}

pub(crate) fn run(args: CpArgs, context: &Context) -> Result<ExitCode, CliError> {
    let (name, path) = from(&args.from, context)?;
    let to = destination(&args.to)?;
    let looking = Looking::open(context)?;
    let (snapshot, item) = looking.find(&name, context)?;
    let reader = looking.reader()?;
    let stored = entry_at(&reader, snapshot, item, &path)?;
    let spot = spot(&to, &own_name(&path, item), stored.entry.is_directory(), context)?;
    let shown = spot.shown().to_owned();
    if context.dry_run {
        context.output.say(&format!("would copy `{}` to {shown}", escape(&shown_path(&path))))?;
        return Ok(ExitCode::Done);
    }
    let special = match to {
        // A volume is what it was saved from; a directory of the host is not.
        Destination::Volume { .. } => Special::Restore,
        Destination::Path(_) => Special::LeaveOut,
    };
    let progress = Arc::new(Progress::start(&context.output, "copying"));
    let observer: Arc<dyn Observer> = progress.clone();
    let interrupt = Interrupt::new(context.interrupted.clone());
    let selection = Selection::all();
    let run = RestoreRun { reader: &reader, selection, observer: &observer, interrupt: &interrupt };
    let report = copy_out(&run, item, &path, spot, DirectoryOptions { special })?;
    progress.finish();
    if context.output.format.is_json() {
        let mut fields = Map::new();
        put_bytes(&mut fields, "path", &shown_path(&path));
        let rest = json!({
            "snapshot": snapshot.id.to_string(),
            "item": item.name,
            "item_kind": kind_name(item.kind),
            "target": shown,
            "entries": report.entries,
            "bytes": report.bytes,
            "damaged": report.damaged,
            "warning_count": progress.warning_count(),
            "seconds": progress.elapsed().as_secs_f64(),
        });
        if let Value::Object(rest) = rest {
            fields.extend(rest);
        }
        context.output.document(&document(Value::Object(fields)))?;
    } else {
        let entries = match report.entries {
            1 => "1 entry".to_owned(),
            more => format!("{} entries", count(more)),
        };
        let (bytes, time) = (size(report.bytes), short_duration(progress.elapsed()));
        context.output.say(&format!("copied {entries}, {bytes}, to {shown} in {time}"))?;
    }
    Ok(if progress.has_skipped() { ExitCode::Skipped } else { ExitCode::Done })
}

/// `SNAPSHOT:PATH`; the path need not be UTF-8.
fn from(text: &OsString, context: &Context) -> Result<(SnapshotName, EntryPath), CliError> {
    let bytes = text.as_bytes();
    let (start, rest) = match std::str::from_utf8(bytes) {
        Ok(text) => (text.to_owned(), &b""[..]),
        Err(error) => {
            let (start, rest) = bytes.split_at(error.valid_up_to());
            // The letter makes it a path even where the first byte of the path is no text.
            (format!("{}x", String::from_utf8_lossy(start)), rest)
        }
    };
    let parsed = context.snapshot_path(&start)?;
    let path = match rest {
        b"" => parsed.path.into_bytes(),
        rest => [parsed.path.strip_suffix('x').unwrap_or_default().as_bytes(), rest].concat(),
    };
    Ok((parsed.snapshot, entry_path(&path)?))
}

/// The name of a copy in a directory that exists; that of the item for its root.
fn own_name(path: &EntryPath, item: &Item) -> Vec<u8> {
    if let Some(name) = path.name() {
        return name.to_vec();
    }
    let last = item.name.rsplit('/').next().unwrap_or_default();
    match EntryPath::root().child(last.as_bytes()) {
        Ok(_) => last.as_bytes().to_vec(),
        Err(_) => b"root".to_vec(),
    }
}

/// Where the copy will lie.
///
/// Errors: refused, if something is there; not found, if the directory it belongs in is missing.
fn spot(
    to: &Destination,
    name: &[u8],
    directory: bool,
    context: &Context,
) -> Result<Spot, CliError> {
    let spot = match to {
        Destination::Path(path) => {
            let path = context.current_dir().join(path);
            if path.as_os_str().as_bytes().ends_with(b"/") && !directory && !path.is_dir() {
                let shown = escape(path.as_os_str().as_bytes());
                return Err(CliError::new(Kind::NotFound, format!("no directory `{shown}`"))
                    .hint("make it first, or leave the slash away"));
            }
            Spot::of(&path, name)
        }
        Destination::Volume { name: volume, path } => {
            let path = entry_path(path.as_bytes())?;
            Spot::beneath(&volume_path(volume, context)?, &path, name)
        }
    };
    spot.map_err(|error| match &error {
        SinkError::Refused(_) => {
            CliError::from(error).hint("nothing is ever replaced; name another DEST")
        }
        SinkError::Target { source, .. }
            if matches!(source.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
        {
            CliError::wrap(Kind::NotFound, error).hint("make that directory first")
        }
        _ => error.into(),
    })
}

/// `volume:NAME:PATH`; everything else is a path, as the `cp` command takes it.
fn destination(text: &OsString) -> Result<Destination, CliError> {
    let Some(rest) = text.to_str().and_then(|text| text.strip_prefix("volume:")) else {
        return Ok(Destination::Path(PathBuf::from(text)));
    };
    let (name, path) = rest.split_once(':').ok_or_else(|| {
        CliError::usage(format!("`volume:{rest}` names no path"))
            .hint(format!("write `volume:{rest}:/`"))
    })?;
    match SourceName::parse(format!("volume:{name}").as_ref())? {
        SourceName::Volume(name) => Ok(Destination::Volume { name, path: path.to_owned() }),
        _ => Err(CliError::usage(format!("`{name}` is no volume"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_paths_unless_they_say_volume() {
        let volume = |name: &str, path: &str| Destination::Volume {
            name: name.to_owned(),
            path: path.to_owned(),
        };
        for (text, expected) in [
            (".", Destination::Path(".".into())),
            ("a:b", Destination::Path("a:b".into())),
            ("volume:v:/", volume("v", "/")),
            ("volume:v:a/b:c", volume("v", "a/b:c")),
        ] {
            assert_eq!(destination(&text.into()).expect(text), expected);
        }
        for text in ["volume:v", "volume::/", "volume:a b:/"] {
            assert_eq!(destination(&text.into()).expect_err(text).code(), 2);
        }
    }
}
