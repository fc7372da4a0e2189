//! `vault stats`

use serde_json::{Value, json};
use volume_vault::entry::escape;
use volume_vault::ops::Interrupt;
use volume_vault::ops::stats::{
    Amount, Chunks, ItemStats, RepositoryStats, item_stats, repository_stats,
};
use volume_vault::repo::SnapshotList;

use super::context::Context;
use super::error::{CliError, ExitCode};
use super::find::find;
use super::open::open;
use super::output::{Align, Table, count, document, size};

const EXAMPLES: &str = "\
Examples:
  vault stats              what the repository holds and what it saves
  vault stats my-data      what one snapshot needs
  vault stats --json       raw bytes";

/// Show how much is stored and how much that saves
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct StatsArgs {
    /// Count only what this snapshot needs
    #[arg(value_name = "SNAPSHOT")]
    pub(crate) snapshot: Option<String>,
}

pub(crate) fn run(args: StatsArgs, context: &Context) -> Result<ExitCode, CliError> {
    let name = args.snapshot.as_deref().map(|text| context.snapshot_name(text)).transpose()?;
    let repo = open(context)?;
    let interrupt = Interrupt::new(std::sync::Arc::clone(&context.interrupted));
    let Some(name) = name else {
        let stats = repository_stats(&repo, &interrupt)?;
        return print(context, repository_json(&stats), repository_lines(&stats));
    };
    let list = SnapshotList::load(&repo)?;
    let (snapshot, item) = find(&list, &name, context)?;
    let stats = item_stats(&repo, item, &interrupt)?;
    let mut fields = item_json(&stats);
    fields["snapshot"] = json!(snapshot.id.to_string());
    fields["item"] = json!(item.name);
    let title = format!("snapshot {}, {}", snapshot.id.short(), escape(item.name.as_bytes()));
    let lines = std::iter::once(title).chain(item_lines(&stats)).collect();
    print(context, fields, lines)
}

fn print(context: &Context, fields: Value, lines: Vec<String>) -> Result<ExitCode, CliError> {
    if context.output.format.is_json() {
        context.output.document(&document(fields))?;
    } else {
        lines.iter().try_for_each(|line| context.output.line(line))?;
    }
    Ok(ExitCode::Done)
}

fn amounts(rows: &[(&str, Amount)]) -> Table {
    let mut table =
        Table::new(&[("STORED", Align::Left), ("OBJECTS", Align::Right), ("SIZE", Align::Right)]);
    for (name, amount) in rows {
        table.row([(*name).to_owned(), count(amount.objects), size(amount.bytes)]);
    }
    table
}

fn facts(rows: &[(&str, String)]) -> Vec<String> {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    rows.iter().map(|(name, value)| format!("{name:<width$}  {value}")).collect()
}

fn repository_lines(stats: &RepositoryStats) -> Vec<String> {
    let all = Amount { objects: 0, bytes: stats.stored_bytes() };
    let mut rows = vec![
        ("data packs", stats.data_packs),
        ("tree packs", stats.tree_packs),
        ("index segments", stats.segments),
        ("snapshot records", stats.records),
        ("keys and settings", stats.other),
    ];
    if stats.unknown_packs.objects > 0 {
        rows.push(("packs in no segment", stats.unknown_packs));
    }
    let objects = rows.iter().map(|(_, amount)| amount.objects).sum();
    rows.push(("all", Amount { objects, ..all }));
    let mut lines = facts(&[
        ("snapshots", format!("{} of {} series", count(stats.snapshots), count(stats.series))),
        ("content of all of them", size(stats.logical_bytes)),
        ("content of the latest", size(stats.latest_bytes)),
        ("different chunks", chunks(&stats.data)),
        ("deduplication", ratio(stats.logical_bytes, stats.data.bytes)),
        ("compression", ratio(stats.data.bytes, stats.data_packs.bytes)),
        ("in all", ratio(stats.logical_bytes, stats.stored_bytes())),
    ]);
    lines.push(String::new());
    lines.extend(amounts(&rows).lines());
    lines
}

fn item_lines(stats: &ItemStats) -> Vec<String> {
    facts(&[
        ("entries", count(stats.entries)),
        ("content", size(stats.logical_bytes)),
        ("different chunks", chunks(&stats.data)),
        ("chunks of its trees", chunks(&stats.tree)),
        ("read by a full restore", {
            format!("{} in {} frames", size(stats.frames.bytes), count(stats.frames.objects))
        }),
    ])
}

fn chunks(chunks: &Chunks) -> String {
    format!("{} in {} chunks", size(chunks.bytes), count(chunks.chunks))
}

/// `3.25x`; a dash where there is nothing to compare.
fn ratio(raw: u64, stored: u64) -> String {
    match hundredths(raw, stored) {
        Some(hundredths) => format!("{}.{:02}x", hundredths / 100, hundredths % 100),
        None => "-".to_owned(),
    }
}

fn hundredths(raw: u64, stored: u64) -> Option<u128> {
    (raw > 0 && stored > 0).then(|| u128::from(raw) * 100 / u128::from(stored))
}

fn amount_json(amount: Amount) -> Value {
    json!({ "objects": amount.objects, "bytes": amount.bytes })
}

fn chunks_json(chunks: Chunks) -> Value {
    json!({ "chunks": chunks.chunks, "bytes": chunks.bytes, "copies": chunks.copies })
}

fn repository_json(stats: &RepositoryStats) -> Value {
    json!({
        "snapshots": stats.snapshots,
        "series": stats.series,
        "logical_bytes": stats.logical_bytes,
        "logical_entries": stats.logical_entries,
        "latest_bytes": stats.latest_bytes,
        "data_chunks": chunks_json(stats.data),
        "tree_chunks": chunks_json(stats.tree),
        "data_packs": amount_json(stats.data_packs),
        "tree_packs": amount_json(stats.tree_packs),
        "unknown_packs": amount_json(stats.unknown_packs),
        "index_segments": amount_json(stats.segments),
        "snapshot_records": amount_json(stats.records),
        "other": amount_json(stats.other),
        "stored_bytes": stats.stored_bytes(),
    })
}

fn item_json(stats: &ItemStats) -> Value {
    json!({
        "entries": stats.entries,
        "logical_bytes": stats.logical_bytes,
        "data_chunks": chunks_json(stats.data),
        "tree_chunks": chunks_json(stats.tree),
        "frames": amount_json(stats.frames),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_have_two_digits_and_nothing_has_none() {
        assert_eq!(ratio(325, 100), "3.25x");
        assert_eq!(ratio(1, 3), "0.33x");
        assert_eq!(ratio(0, 3), "-");
        assert_eq!(ratio(3, 0), "-");
    }

    #[test]
    fn the_table_adds_up_all_that_is_stored() {
        let one = Amount { objects: 1, bytes: 1 << 20 };
        let stats = RepositoryStats { data_packs: one, tree_packs: one, ..Default::default() };
        let lines = repository_lines(&stats);
        assert_eq!(lines.last().map(String::as_str), Some("all                      2  2.00 MiB"));
    }
}
