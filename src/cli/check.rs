//! `vault check`

use std::sync::Arc;

use serde_json::{Value, json};
use volume_vault::entry::escape;
use volume_vault::event::Observer;
use volume_vault::ops::Interrupt;
use volume_vault::ops::check::{CheckOptions, CheckReport, ReadData, Touched, check};

use super::context::Context;
use super::error::{CliError, ExitCode, Kind};
use super::open::open;
use super::output::{Progress, count, document, error_value, short_duration, size};

const EXAMPLES: &str = "\
Examples:
  vault check                   does every snapshot reach all it needs?
  vault check --read-data       and read every stored byte
  vault check --read-data=4%    and read some of them, others each time";

/// Check that the repository is whole
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CheckArgs {
    /// Read stored data, too: all of it, or so many percent
    #[arg(long, value_name = "PERCENT", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "100", value_parser = percent)]
    pub(crate) read_data: Option<f64>,
}

pub(crate) fn run(args: CheckArgs, context: &Context) -> Result<ExitCode, CliError> {
    let repo = open(context)?;
    let read = match args.read_data {
        None => ReadData::Trees,
        Some(percent) if percent < 100.0 => ReadData::Percent(percent),
        Some(_) => ReadData::All,
    };
    let options = CheckOptions { read, memory: context.memory_bytes };
    let progress = Arc::new(Progress::start(&context.output, "checking"));
    let observer: Arc<dyn Observer> = progress.clone();
    let interrupt = Interrupt::new(Arc::clone(&context.interrupted));
    let checked = check(&repo, &options, &observer, &interrupt);
    progress.finish();
    let report = checked?;
    if context.output.format.is_json() {
        context.output.document(&document(to_json(&report)))?;
    } else {
        for line in lines(&report) {
            context.output.line(&line)?;
        }
        context.output.say(&summary(&report))?;
    }
    Ok(if report.is_clean() { ExitCode::Done } else { ExitCode::Damaged })
}

fn verdict(report: &CheckReport) -> String {
    let objects = report.damage.len() as u64 + report.damage_more;
    let snapshots = touched_snapshots(report);
    format!("{} damaged, touching {}", counted(objects, "object"), counted(snapshots, "snapshot"))
}

fn touched_snapshots(report: &CheckReport) -> u64 {
    let ids: std::collections::BTreeSet<_> = report.touched.iter().map(|t| t.snapshot).collect();
    ids.len() as u64
}

fn counted(number: u64, what: &str) -> String {
    format!("{} {what}{}", count(number), if number == 1 { "" } else { "s" })
}

/// Damage, what it touches, remarks; nothing for a sound repository.
fn lines(report: &CheckReport) -> Vec<String> {
    let mut lines = Vec::new();
    for damage in &report.damage {
        // What damaged objects say of themselves may hold anything.
        let why = escape(damage.why.as_bytes());
        lines.push(format!("{} {}: {why}", damage.fault.name(), damage.object));
    }
    if report.damage_more > 0 {
        lines.push(format!("and {} more", counted(report.damage_more, "object")));
    }
    for touched in &report.touched {
        lines.extend(touched_lines(touched));
    }
    for (object, message) in &report.notices {
        lines.push(format!("note: {object}: {message}"));
    }
    lines
}

fn touched_lines(touched: &Touched) -> Vec<String> {
    let snapshot = touched.snapshot.short();
    let Some(item) = &touched.item else {
        return vec![format!("snapshot {snapshot}: its record is lost, and with it all of it")];
    };
    let item = escape(item.as_bytes());
    let mut lines = Vec::new();
    if touched.files_total > 0 {
        let files = counted(touched.files_total, "file");
        lines.push(format!("snapshot {snapshot}, {item}: {files} cannot be brought back whole:"));
    }
    let mut named = 0;
    for file in &touched.files {
        named += file.entries.unwrap_or(1);
        let path = match file.path.is_root() {
            true => ".".to_owned(),
            false => file.path.to_string(),
        };
        lines.push(match file.entries {
            None => format!("  {path}"),
            Some(entries) => format!("  {path} and all behind it, {entries} entries"),
        });
    }
    if named < touched.files_total {
        lines.push(format!("  and {} more", count(touched.files_total - named)));
    }
    if touched.hints {
        lines.push(format!(
            "snapshot {snapshot}, {item}: the next backup will read every file once"
        ));
    }
    lines
}

fn summary(report: &CheckReport) -> String {
    let mut seen = format!(
        "{}, {}, {}, {}",
        counted(report.snapshots, "snapshot"),
        counted(report.packs, "pack"),
        counted(report.nodes, "tree node"),
        counted(report.chunks, "chunk"),
    );
    if report.packs_read > 0 {
        let packs = counted(report.packs_read, "pack");
        seen.push_str(&format!("; read {packs}, {}", size(report.bytes_read)));
    }
    let verdict = match report.is_clean() {
        true => "no damage found".to_owned(),
        false => verdict(report),
    };
    let time = short_duration(std::time::Duration::from_secs_f64(report.seconds.max(0.0)));
    format!("{verdict} ({seen}; {time})")
}

fn to_json(report: &CheckReport) -> Value {
    let damage = report.damage.iter().map(|damage| {
        json!({ "object": damage.object, "fault": damage.fault.name(), "why": damage.why })
    });
    let touched = report.touched.iter().map(|touched| {
        let files = touched.files.iter().map(|file| {
            json!({
                "path": String::from_utf8_lossy(&file.path.to_slashed()),
                "entries": file.entries.unwrap_or(1),
                "whole_branch": file.entries.is_some(),
                "objects": file.objects,
            })
        });
        json!({
            "snapshot": touched.snapshot.to_string(),
            "item": touched.item,
            "files": files.collect::<Vec<_>>(),
            "files_total": touched.files_total,
            "hints": touched.hints,
        })
    });
    let notices = report.notices.iter();
    let mut fields = json!({
        "clean": report.is_clean(),
        "snapshots": report.snapshots,
        "segments": report.segments,
        "packs": report.packs,
        "packs_read": report.packs_read,
        "bytes_read": report.bytes_read,
        "nodes": report.nodes,
        "chunks": report.chunks,
        "damage": damage.collect::<Vec<_>>(),
        "damage_more": report.damage_more,
        "touched": touched.collect::<Vec<_>>(),
        "notices": notices
            .map(|(object, message)| json!({ "object": object, "message": message }))
            .collect::<Vec<_>>(),
        "seconds": report.seconds,
    });
    if !report.is_clean() {
        let error = CliError::new(Kind::Damaged, verdict(report));
        fields["error"] = error_value(&error);
    }
    fields
}

/// Above 0 and up to 100, with or without a percent sign.
fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse::<f64>();
    match number {
        Ok(percent) if percent > 0.0 && percent <= 100.0 => Ok(percent),
        _ => Err("must be above 0 and at most 100".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_lie_above_nothing_and_up_to_all() {
        for (text, good) in [
            ("100", true),
            ("4%", true),
            ("0.5", true),
            ("0", false),
            ("101", false),
            ("-1", false),
            ("NaN", false),
            ("", false),
        ] {
            assert_eq!(percent(text).is_ok(), good, "{text}");
        }
    }
}
