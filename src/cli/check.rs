//! `vault check`

use std::sync::Arc;

use serde_json::{Value, json};
use volume_vault::entry::escape;
use volume_vault::event::Observer;
use volume_vault::ops::Interrupt;
use volume_vault::ops::check::{
    CheckOptions, CheckReport, Coverage, Damage, ReadData, ScrubOptions, ScrubReport, Touched,
    check, scrub,
};

use super::context::Context;
use super::error::{CliError, ExitCode, Kind};
use super::open::{open, open_store};
use super::output::{Progress, count, document, error_value, rfc3339, short_duration, size, time};

const EXAMPLES: &str = "\
Examples:
  vault check --read-data       does every snapshot reach all it needs? Read every byte
  vault check --read-data=4%    read the next 4 percent: 25 such runs read all
  vault check --scrub           are stored bytes what they were? No password is needed";

/// Check that the repository is whole
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CheckArgs {
    /// Read stored data, too: all of it, or the next so many percent of the packs
    #[arg(long, value_name = "PERCENT", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "100", value_parser = percent)]
    pub(crate) read_data: Option<f64>,

    /// Only compare stored bytes with the hashes that are their names; opens no key
    #[arg(long, conflicts_with = "read_data")]
    pub(crate) scrub: bool,
}

pub(crate) fn run(args: CheckArgs, context: &Context) -> Result<ExitCode, CliError> {
    if args.scrub {
        return run_scrub(context);
    }
    let repo = open(context)?;
    let read = match args.read_data {
        None => ReadData::Trees,
        Some(percent) if percent < 100.0 => ReadData::Percent(percent),
        Some(_) => ReadData::All,
    };
    let options = CheckOptions { read, memory: context.memory_bytes, clock: context.clock };
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
        if let Some(coverage) = &report.coverage {
            context.output.say(&covered(coverage, context))?;
        }
    }
    Ok(if report.is_clean() { ExitCode::Done } else { ExitCode::Damaged })
}

/// Keyless: only the store is opened.
fn run_scrub(context: &Context) -> Result<ExitCode, CliError> {
    let store = open_store(context, &context.repository()?)?;
    let progress = Arc::new(Progress::start(&context.output, "scrubbing"));
    let observer: Arc<dyn Observer> = progress.clone();
    let interrupt = Interrupt::new(Arc::clone(&context.interrupted));
    let options = ScrubOptions { memory: context.memory_bytes };
    let scrubbed = scrub(&store, options, &observer, &interrupt);
    progress.finish();
    let report = scrubbed?;
    let damaged = report.damage.len() as u64 + report.damage_more;
    let verdict = format!("{} damaged", counted(damaged, "object"));
    if context.output.format.is_json() {
        let mut fields = scrub_json(&report);
        if !report.is_clean() {
            fields["error"] = error_value(&CliError::new(Kind::Damaged, verdict));
        }
        context.output.document(&document(fields))?;
    } else {
        damage_lines(&report.damage, report.damage_more)
            .into_iter()
            .chain(notice_lines(&report.notices))
            .try_for_each(|line| context.output.line(&line))?;
        let verdict = if report.is_clean() { "no damage found".to_owned() } else { verdict };
        let objects = counted(report.objects, "object");
        let took = short_duration(std::time::Duration::from_secs_f64(report.seconds.max(0.0)));
        let line = format!("{verdict} (read {objects}, {}; {took})", size(report.bytes));
        context.output.say(&line)?;
    }
    Ok(if report.is_clean() { ExitCode::Done } else { ExitCode::Damaged })
}

fn scrub_json(report: &ScrubReport) -> Value {
    json!({
        "clean": report.is_clean(),
        "objects": report.objects,
        "bytes": report.bytes,
        "damage": damage_json(&report.damage),
        "damage_more": report.damage_more,
        "notices": notices_json(&report.notices),
        "seconds": report.seconds,
    })
}

fn covered(coverage: &Coverage, context: &Context) -> String {
    let since = time(coverage.since, &context.zone);
    if coverage.is_complete() {
        return format!("this host has read every pack since {since}");
    }
    format!(
        "this host has read {:.0}% of the packs since {since}: {} of {}, {} of {}",
        // Not all is never shown as 100.
        coverage.percent().floor(),
        count(coverage.packs),
        count(coverage.packs_total),
        size(coverage.bytes),
        size(coverage.bytes_total),
    )
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
    let mut lines = damage_lines(&report.damage, report.damage_more);
    lines.extend(report.touched.iter().flat_map(touched_lines));
    lines.extend(notice_lines(&report.notices));
    lines
}

fn damage_lines(damage: &[Damage], more: u64) -> Vec<String> {
    let line = |damage: &Damage| {
        // What damaged objects say of themselves may hold anything.
        let why = escape(damage.why.as_bytes());
        format!("{} {}: {why}", damage.fault.name(), damage.object)
    };
    let mut lines: Vec<_> = damage.iter().map(line).collect();
    if more > 0 {
        lines.push(format!("and {} more", counted(more, "object")));
    }
    lines
}

fn notice_lines(notices: &[(String, String)]) -> impl Iterator<Item = String> {
    notices.iter().map(|(object, message)| format!("note: {object}: {message}"))
}

pub(super) fn touched_lines(touched: &Touched) -> Vec<String> {
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
    let mut fields = json!({
        "clean": report.is_clean(),
        "snapshots": report.snapshots,
        "segments": report.segments,
        "packs": report.packs,
        "packs_read": report.packs_read,
        "bytes_read": report.bytes_read,
        "nodes": report.nodes,
        "chunks": report.chunks,
        "coverage": report.coverage.as_ref().map(coverage_json),
        "damage": damage_json(&report.damage),
        "damage_more": report.damage_more,
        "touched": report.touched.iter().map(touched_json).collect::<Vec<_>>(),
        "notices": notices_json(&report.notices),
        "seconds": report.seconds,
    });
    if !report.is_clean() {
        let error = CliError::new(Kind::Damaged, verdict(report));
        fields["error"] = error_value(&error);
    }
    fields
}

fn coverage_json(coverage: &Coverage) -> Value {
    json!({
        "since": rfc3339(coverage.since),
        "percent": coverage.percent(),
        "complete": coverage.is_complete(),
        "packs": coverage.packs,
        "packs_total": coverage.packs_total,
        "bytes": coverage.bytes,
        "bytes_total": coverage.bytes_total,
    })
}

fn damage_json(damage: &[Damage]) -> Value {
    let one = |damage: &Damage| {
        let Damage { object, fault, why } = damage;
        json!({ "object": object, "fault": fault.name(), "why": why })
    };
    damage.iter().map(one).collect()
}

fn notices_json(notices: &[(String, String)]) -> Value {
    let one =
        |(object, message): &(String, String)| json!({ "object": object, "message": message });
    notices.iter().map(one).collect()
}

pub(super) fn touched_json(touched: &Touched) -> Value {
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
