//! A plan of what is forgotten as a table and as JSON: for each snapshot, why it stays or goes.

use serde_json::{Value, json};
use volume_vault::format::ItemKind;
use volume_vault::id::SnapshotId;
use volume_vault::ops::Series;
use volume_vault::ops::forget::{Kept, Plan, Row, Rule, SeriesShare, Verdict};

use super::super::context::Context;
use super::super::look::kind_name;
use super::super::output::{Align, Table, escape_text, rfc3339, time};

/// A series as it is named on the command line, with its host.
pub(super) fn series_text(series: &Series) -> String {
    format!("{} on {}", name_text(series), escape_text(&series.host))
}

fn name_text(series: &Series) -> String {
    let name = escape_text(&series.name);
    match series.kind {
        ItemKind::Volume | ItemKind::Directory => name,
        ItemKind::Stream => format!("stdin:{name}"),
    }
}

/// The table: a line for each snapshot, by series, newest first.
pub(super) fn plan_table(plan: &Plan, context: &Context) -> Table {
    let mut table = Table::new(&[
        ("ID", Align::Left),
        ("STORED", Align::Left),
        ("HOST", Align::Left),
        ("SOURCE", Align::Left),
        ("TAGS", Align::Left),
        ("", Align::Left),
        ("WHY", Align::Left),
    ]);
    for row in &plan.rows {
        let names: Vec<_> = row.series.iter().map(name_text).collect();
        let host = row.series.first().map(|series| escape_text(&series.host));
        table.row([
            row.id.short(),
            time(row.stored, &context.zone),
            host.unwrap_or_default(),
            names.join(", "),
            escape_text(&row.tags.join(", ")),
            if row.verdict.keeps() { "keep" } else { "forget" }.to_owned(),
            reasons(&row.verdict).join(", "),
        ]);
    }
    table
}

/// Why a snapshot stays or goes.
fn reasons(verdict: &Verdict) -> Vec<String> {
    match verdict {
        Verdict::Keep(kept) => kept.iter().map(kept_text).collect(),
        Verdict::GoUnkept => vec!["no rule keeps it".to_owned()],
        Verdict::GoNamed => vec!["it was named".to_owned()],
    }
}

fn kept_text(kept: &Kept) -> String {
    match kept {
        Kept::Rule(rule) => rule_text(rule),
        Kept::LastGood => "last good".to_owned(),
        Kept::LastOfPartial => "last, none is whole".to_owned(),
        Kept::LastDrilled => "last drilled".to_owned(),
        Kept::OtherTags => "other tags".to_owned(),
        Kept::Holds(name) => format!("holds {}", escape_text(name)),
    }
}

fn rule_text(rule: &Rule) -> String {
    match rule {
        Rule::Last(place) => format!("last {place}"),
        Rule::Hourly(hour) => format!("hourly {hour}"),
        Rule::Daily(day) => format!("daily {day}"),
        Rule::Weekly(week) => format!("weekly {week}"),
        Rule::Monthly(month) => format!("monthly {month}"),
        Rule::Yearly(year) => format!("yearly {year}"),
        Rule::Within => "within".to_owned(),
        Rule::Tag(tag) => format!("tag {}", escape_text(tag)),
    }
}

/// The plan as JSON.
pub(super) fn plan_json(plan: &Plan, forgotten: &[SnapshotId], dry_run: bool) -> Value {
    let ids = |ids: &[SnapshotId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
    json!({
        "dry_run": dry_run,
        "snapshots": plan.rows.iter().map(row_json).collect::<Vec<_>>(),
        "series": plan.series.iter().map(share_json).collect::<Vec<_>>(),
        "forgotten": ids(forgotten),
        "blind": ids(&plan.blind),
        "unreadable": plan.unreadable.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "doubtful_times": plan.doubtful_times,
    })
}

fn series_json(series: &Series) -> Value {
    json!({"host": series.host, "kind": kind_name(series.kind), "name": series.name})
}

fn row_json(row: &Row) -> Value {
    json!({
        "id": row.id.to_string(),
        "stored": rfc3339(row.stored),
        "time": rfc3339(row.made),
        "series": row.series.iter().map(series_json).collect::<Vec<_>>(),
        "tags": row.tags,
        "partial": !row.is_good,
        "keep": row.verdict.keeps(),
        "reasons": reasons(&row.verdict),
    })
}

fn share_json(share: &SeriesShare) -> Value {
    let mut fields = series_json(&share.series);
    fields["total"] = json!(share.total);
    fields["going"] = json!(share.going);
    fields
}
