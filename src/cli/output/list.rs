//! Long lists on standard output, printed as they are found: neither rows nor JSON pile up.
//!
//! A JSON document that was begun and cannot be ended well is still one document: its end then
//! holds the error.

use std::sync::Mutex;

use serde_json::{Value, json};

use super::super::error::CliError;
use super::{Format, Output, document, to_text};

/// Text that is kept before it is printed, in bytes.
const KEPT_MAX: usize = 32 << 10;

/// What has to follow before a field can be added to the document that is being printed.
static OPEN: Mutex<Option<&'static str>> = Mutex::new(None);

fn open() -> std::sync::MutexGuard<'static, Option<&'static str>> {
    OPEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// What ends the document that was begun with this error, if one was.
pub(super) fn end_of_begun(error: &Value) -> Option<String> {
    let closing = open().take()?;
    let error = to_text(&error["error"], false);
    Some(format!("{closing},\"error\":{error}}}"))
}

/// Lines that are printed many at a time. What is left is printed when it is dropped.
pub(crate) struct Lines<'o> {
    output: &'o Output,
    text: String,
}

impl<'o> Lines<'o> {
    /// No lines yet.
    pub(crate) fn new(output: &'o Output) -> Self {
        Self { output, text: String::new() }
    }

    /// Adds a line.
    ///
    /// Errors: those of [`Output::bytes`].
    pub(crate) fn line(&mut self, line: &str) -> Result<(), CliError> {
        self.text.push_str(line);
        self.text.push('\n');
        if self.text.len() < KEPT_MAX { Ok(()) } else { self.flush() }
    }

    /// Prints what was kept.
    ///
    /// Errors: those of [`Output::bytes`].
    pub(crate) fn flush(&mut self) -> Result<(), CliError> {
        let text = std::mem::take(&mut self.text);
        self.output.bytes(text.as_bytes())
    }
}

impl Drop for Lines<'_> {
    fn drop(&mut self) {
        // Something failed before, which is reported.
        let _ = self.flush();
    }
}

/// A document with a list in it; with `--json=lines`, a line for each item and the rest as the
/// document.
pub(crate) struct ListDocument<'o> {
    lines: Lines<'o>,
    event: &'static str,
    fields: Value,
    is_empty: bool,
}

impl<'o> ListDocument<'o> {
    /// Begins a document with the fields of `head` and the list `name`, each item of which is an
    /// `event`.
    ///
    /// Errors: those of [`Output::bytes`].
    pub(crate) fn begin(
        output: &'o Output,
        head: Value,
        name: &str,
        event: &'static str,
    ) -> Result<Self, CliError> {
        let mut lines = Lines::new(output);
        let fields = document(head);
        if output.format != Format::JsonLines {
            let text = to_text(&fields, false);
            let text = text.strip_suffix('}').unwrap_or(&text);
            lines.line(&format!("{text},\"{name}\":["))?;
            *open() = Some("]");
        }
        Ok(Self { lines, event, fields, is_empty: true })
    }

    /// Adds an item, an object, to the list.
    ///
    /// Errors: those of [`Output::bytes`].
    pub(crate) fn item(&mut self, mut item: Value) -> Result<(), CliError> {
        if self.lines.output.format == Format::JsonLines {
            item["event"] = json!(self.event);
            return self.lines.line(&to_text(&document(item), false));
        }
        let comma = if self.is_empty { "" } else { "," };
        self.is_empty = false;
        self.lines.line(&format!("{comma}{}", to_text(&item, false)))
    }

    /// Ends the list and adds the fields of `tail`. The document can still end with an error.
    ///
    /// Errors: those of [`Output::bytes`].
    pub(crate) fn tail(&mut self, tail: Value) -> Result<(), CliError> {
        let Value::Object(tail) = tail else { return Ok(()) };
        if self.lines.output.format == Format::JsonLines {
            if let Value::Object(fields) = &mut self.fields {
                fields.extend(tail);
            }
            return Ok(());
        }
        let mut text = "]".to_owned();
        for (name, value) in &tail {
            text.push_str(&format!(",\n\"{name}\":{}", to_text(value, false)));
        }
        *open() = Some("");
        self.lines.line(&text)
    }

    /// Ends the document, whose list was ended before.
    ///
    /// Errors: those of [`Output::bytes`].
    pub(crate) fn end(mut self) -> Result<(), CliError> {
        let last = match self.lines.output.format {
            Format::JsonLines => to_text(&self.fields, false),
            _ => "}".to_owned(),
        };
        *open() = None;
        self.lines.line(&last)?;
        self.lines.flush()
    }
}
