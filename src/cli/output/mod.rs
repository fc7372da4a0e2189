//! The only place that prints.
//!
//! Data goes to standard output, everything for people watching goes to standard error. When
//! whoever reads standard output goes away, the rest is dropped quietly: that is how `| head` ends.

mod human;
mod json;
mod list;
mod progress;

use std::io::{self, ErrorKind, IsTerminal as _, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::MultiProgress;

pub(crate) use self::human::{Align, Table, count, rate, short_duration, size, time};
pub(crate) use self::json::{document, error_document, error_value, rfc3339, to_text};
pub(crate) use self::list::{Lines, ListDocument};
pub(crate) use self::progress::{Progress, escape_text};

use super::error::{CliError, Kind};

/// What standard output carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Format {
    /// Text for people.
    #[default]
    Human,
    /// One JSON document.
    Json,
    /// JSON lines: events and progress, then the document.
    JsonLines,
}

impl Format {
    /// What an argument list asks for, read without the parser, whose failure has to be reported
    /// in that form too.
    pub(crate) fn wanted_by(arguments: &[std::ffi::OsString]) -> Self {
        let before_end = arguments.iter().take_while(|argument| *argument != "--");
        before_end.fold(Self::Human, |format, argument| match argument.to_str() {
            Some("--json" | "--json=document") => Self::Json,
            Some("--json=lines") => Self::JsonLines,
            _ => format,
        })
    }

    /// Whether standard output carries JSON.
    pub(crate) fn is_json(self) -> bool {
        self != Self::Human
    }
}

/// Where a verb prints.
#[derive(Debug)]
pub(crate) struct Output {
    /// What standard output carries.
    pub(crate) format: Format,
    /// `--quiet`.
    pub(crate) quiet: bool,
    /// How often `--verbose` was given.
    pub(crate) verbose: u8,
    /// Whether bars and progress lines are wanted.
    pub(crate) progress: bool,
    closed: AtomicBool,
}

impl Output {
    /// An output in this form.
    pub(crate) fn new(format: Format, quiet: bool, verbose: u8, progress: bool) -> Self {
        Self { format, quiet, verbose, progress, closed: AtomicBool::new(false) }
    }

    /// Prints a line of data on standard output.
    ///
    /// Errors: standard output cannot be written; not that its reader has gone.
    pub(crate) fn line(&self, line: &str) -> Result<(), CliError> {
        self.write(&[line.as_bytes(), b"\n"])
    }

    /// Prints generated text as it is.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> Result<(), CliError> {
        self.write(&[bytes])
    }

    /// Prints a line for people: nothing with `--json` or `--quiet`.
    pub(crate) fn say(&self, line: &str) -> Result<(), CliError> {
        if self.format.is_json() || self.quiet { Ok(()) } else { self.line(line) }
    }

    /// Prints the verb's JSON document, `schema` included.
    pub(crate) fn document(&self, document: &serde_json::Value) -> Result<(), CliError> {
        self.line(&to_text(document, self.format != Format::JsonLines))
    }

    /// Prints a remark on standard error, above any bar; nothing with `--quiet`.
    pub(crate) fn remark(&self, line: &str) {
        if !self.quiet {
            notice(line);
        }
    }

    /// Whether the reader of standard output has gone: long listings stop then.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Standard output for binary data, such as a dump. A write after the reader has gone fails
    /// with `BrokenPipe`.
    ///
    /// Errors: refused, if it is a terminal.
    pub(crate) fn binary(&self, what: &str) -> Result<io::StdoutLock<'static>, CliError> {
        let stdout = io::stdout();
        if stdout.is_terminal() {
            let message = format!("{what} is not printed on a terminal");
            return Err(CliError::new(Kind::Refused, message).hint("redirect it: `> FILE`"));
        }
        Ok(stdout.lock())
    }

    fn write(&self, parts: &[&[u8]]) -> Result<(), CliError> {
        if self.is_closed() {
            return Ok(());
        }
        let mut stdout = io::stdout().lock();
        let written = parts.iter().try_for_each(|part| stdout.write_all(part));
        self.after(written)
    }

    /// Writes out what is buffered; called once at the end, or a full disk would go unnoticed.
    pub(crate) fn flush(&self) -> Result<(), CliError> {
        if self.is_closed() { Ok(()) } else { self.after(io::stdout().lock().flush()) }
    }

    fn after(&self, written: io::Result<()>) -> Result<(), CliError> {
        match written {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.closed.store(true, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => {
                Err(CliError::new(Kind::Failed, "write to standard output").because(error))
            }
        }
    }
}

/// The bars on the screen, if any; lines have to go above them.
static BARS: Mutex<Option<MultiProgress>> = Mutex::new(None);

fn bars() -> std::sync::MutexGuard<'static, Option<MultiProgress>> {
    BARS.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Prints a line on standard error, above any bar. A standard error that is gone is no failure.
pub(crate) fn notice(line: &str) {
    let bars = bars().clone();
    let print = || {
        let _ = writeln!(io::stderr().lock(), "{line}");
    };
    match bars {
        Some(bars) => bars.suspend(print),
        None => print(),
    }
}

/// Reports how the program ends badly: the chain on standard error and, with `--json`, the error
/// document on standard output. Nothing if only the reader of standard output has gone.
pub(crate) fn report(error: &CliError, format: Format) {
    if error.kind() == Kind::OutputClosed {
        return;
    }
    let output = Output::new(format, false, 0, false);
    if format.is_json() {
        let document = error_document(error);
        let printed = match list::end_of_begun(&document) {
            Some(end) => output.line(&end),
            None => output.document(&document),
        };
        let _ = printed.and_then(|()| output.flush());
    }
    notice(&error.to_string());
}

/// Reports what the parser says: help and version on standard output, mistakes on standard error
/// and, with `--json`, as a document. Says how the process ends.
pub(crate) fn report_parser(error: &clap::Error, format: Format) -> u8 {
    if !error.use_stderr() {
        let _ = error.print();
        return 0;
    }
    if format.is_json() {
        let text = error.to_string();
        let first = text.lines().next().unwrap_or_default();
        let error = CliError::usage(first.strip_prefix("error: ").unwrap_or(first));
        let output = Output::new(format, false, 0, false);
        let _ = output.document(&error_document(&error)).and_then(|()| output.flush());
    }
    let _ = error.print();
    Kind::Usage.code()
}

/// Whether a person sits at standard input and sees standard error.
pub(crate) fn is_interactive() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}
