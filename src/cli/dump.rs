//! `vault dump`

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;

use volume_vault::entry::{Entry, EntryPath, Kind as EntryKind, escape};
use volume_vault::event::Observer;
use volume_vault::ops::restore::{RestoreRun, restore_tar};
use volume_vault::ops::{Interrupt, dump_file};
use volume_vault::sink::TarWriterOptions;
use volume_vault::source::Selection;

use super::context::Context;
use super::error::{CliError, ExitCode, Kind};
use super::look::{Looking, entry_at, entry_path, type_name};
use super::output::{Format, Output, Progress};

/// What the stream is called in messages.
const STDOUT: &str = "standard output";

const EXAMPLES: &str = "\
Examples:
  vault dump my-data /etc/app.conf > app.conf   one file
  vault dump my-data --tar > my-data.tar        all of it as a tar
  vault dump my-data@2d --tar | tar -t          look without restoring";

/// Print a file, or everything as a tar stream
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DumpArgs {
    /// The snapshot, perhaps with :ITEM
    #[arg(value_name = "SNAPSHOT")]
    pub(crate) snapshot: String,

    /// The file in it
    #[arg(value_name = "PATH", required_unless_present = "tar", conflicts_with = "tar")]
    pub(crate) path: Option<OsString>,

    /// Print the whole item as a tar stream
    #[arg(long)]
    pub(crate) tar: bool,
}

pub(crate) fn run(args: DumpArgs, context: &Context) -> Result<ExitCode, CliError> {
    let name = context.snapshot_name(&args.snapshot)?;
    if context.output.format.is_json() {
        return Err(CliError::usage("a dump is the data itself and cannot be JSON")
            .hint("`vault ls --json` and `vault inspect --json` tell about it"));
    }
    let path = args.path.as_ref().map(|path| entry_path(path.as_bytes())).transpose()?;
    let stdout = context.output.binary("a dump")?;
    let looking = Looking::open(context)?;
    let (snapshot, item) = looking.find(&name, context)?;
    let reader = looking.reader()?;
    if let Some(path) = &path {
        let stored = entry_at(&reader, snapshot, item, path)?;
        check_file(path, &stored.entry, &args)?;
    }
    // Not line by line, as Rust's own standard output is written.
    let writer = stdout.as_fd().try_clone_to_owned().map(File::from).map_err(|error| {
        CliError::new(Kind::Failed, format!("write to {STDOUT}")).because(error)
    })?;
    // A bar would stand in the way of whatever shows the file.
    let shown = context.output.progress && args.tar;
    let output = Output::new(Format::Human, context.output.quiet, context.output.verbose, shown);
    let progress = Arc::new(Progress::start(&output, "dump"));
    let observer: Arc<dyn Observer> = progress.clone();
    let interrupt = Interrupt::new(context.interrupted.clone());
    let selection = Selection::all();
    let run = RestoreRun { reader: &reader, selection, observer: &observer, interrupt: &interrupt };
    match &path {
        Some(path) => drop(dump_file(&run, item, path, &mut &writer, STDOUT)?),
        None => drop(restore_tar(&run, item, &writer, TarWriterOptions::new(STDOUT))?),
    }
    progress.finish();
    drop(stdout);
    Ok(if progress.has_skipped() { ExitCode::Skipped } else { ExitCode::Done })
}

/// Errors: usage, for anything that has no content, with what to do instead.
fn check_file(path: &EntryPath, entry: &Entry, args: &DumpArgs) -> Result<(), CliError> {
    let snapshot = &args.snapshot;
    let (what, hint) = match &entry.kind {
        EntryKind::File { .. } => return Ok(()),
        EntryKind::Directory => {
            let hint = format!(
                "`vault dump {snapshot} --tar` prints everything as a tar; \
                 `vault cp '{snapshot}:/{path}' DEST` copies the directory"
            );
            ("a directory".to_owned(), hint)
        }
        EntryKind::Symlink { target } => {
            let hint = "links are not followed: name what it leads to, if that is in the snapshot";
            (format!("a symbolic link to `{}`", escape(target)), hint.to_owned())
        }
        kind => {
            let hint = format!("`vault ls -l {snapshot} '/{path}'` shows all there is of it");
            (format!("a {} and has no content", type_name(kind)), hint)
        }
    };
    let shown = if path.is_root() { "/".to_owned() } else { path.to_string() };
    Err(CliError::usage(format!("`{shown}` is {what}")).object(path.to_string()).hint(hint))
}
