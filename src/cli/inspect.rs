//! `vault inspect`

use serde_json::{Map, Value, json};
use volume_vault::entry::escape;
use volume_vault::format::{Item, Method, WarningFact};
use volume_vault::ops::Series;
use volume_vault::repo::{Snapshot, SnapshotList};

use super::context::Context;
use super::error::{CliError, ExitCode};
use super::look::{
    Looking, item_fields, item_source, kind_name, masked, put_bytes, snapshot_fields,
};
use super::output::{count, document, escape_text, size, time};

/// Records of the chain that are named to people.
const CHAIN_SHOWN: usize = 3;

const EXAMPLES: &str = "\
Examples:
  vault inspect latest            the newest snapshot
  vault inspect my-data@3d        the one a volume had three days ago
  vault inspect 1a2b3c4d --json   all of it, for a script";

/// Show all that is recorded of a snapshot
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct InspectArgs {
    /// The snapshot: an id prefix, `latest` or [HOST/]SOURCE[@TIME]
    #[arg(value_name = "SNAPSHOT")]
    pub(crate) snapshot: String,
}

pub(crate) fn run(args: InspectArgs, context: &Context) -> Result<ExitCode, CliError> {
    let name = context.snapshot_name(&args.snapshot)?;
    let looking = Looking::open(context)?;
    let snapshot = looking.find_snapshot(&name, context)?;
    let output = &context.output;
    if output.format.is_json() {
        output.document(&document(Value::Object(fields(snapshot, &looking.list))))?;
    } else if output.quiet {
        output.line(&snapshot.id.to_string())?;
    } else {
        for line in lines(snapshot, &looking.list, context) {
            output.line(line.trim_end())?;
        }
    }
    Ok(ExitCode::Done)
}

/// The records of the same writer before this one, newest first, as far as they are still there.
fn chain<'l>(snapshot: &Snapshot, list: &'l SnapshotList) -> Vec<&'l Snapshot> {
    let mut before: Vec<&Snapshot> = list
        .snapshots
        .iter()
        .filter(|other| other.writer == snapshot.writer && other.sequence < snapshot.sequence)
        .collect();
    before.sort_by_key(|other| std::cmp::Reverse(other.sequence));
    before
}

/// The snapshot before in the series of an item.
fn before_in_series<'l>(
    snapshot: &Snapshot,
    item: &Item,
    list: &'l SnapshotList,
) -> Option<&'l Snapshot> {
    let series = Series::of(snapshot, item);
    let at = list.snapshots.iter().position(|other| other.id == snapshot.id)?;
    list.snapshots[..at]
        .iter()
        .rev()
        .find(|other| other.items().iter().any(|item| Series::of(other, item) == series))
}

fn fields(snapshot: &Snapshot, list: &SnapshotList) -> Map<String, Value> {
    let mut fields = snapshot_fields(snapshot);
    let body = &snapshot.body;
    let chain: Vec<_> = chain(snapshot, list)
        .iter()
        .map(|other| {
            json!({"snapshot": other.id.to_string(), "sequence": other.sequence,
                "head": other.head.to_string()})
        })
        .collect();
    let items = snapshot.items().iter().map(|item| {
        let before = before_in_series(snapshot, item, list);
        Value::Object(all_item_fields(item, before))
    });
    let rest = json!({
        "writer": snapshot.writer.to_string(),
        "sequence": snapshot.sequence,
        "head": snapshot.head.to_string(),
        "previous": snapshot.previous.map(|head| head.to_string()),
        "chain": chain,
        "engine_id": body.host.engine_id,
        "engine_version": body.host.engine_version,
        "program": body.program,
        "items": items.collect::<Vec<_>>(),
    });
    if let Value::Object(rest) = rest {
        fields.extend(rest);
    }
    fields
}

fn all_item_fields(item: &Item, before: Option<&Snapshot>) -> Map<String, Value> {
    let mut fields = item_fields(item);
    let facts = &item.facts;
    let volume = item.volume.as_ref().map(|volume| {
        let map = |map: &std::collections::BTreeMap<String, String>| -> Map<String, Value> {
            map.iter().map(|(k, v)| (k.clone(), json!(masked(k, v)))).collect()
        };
        json!({"driver": volume.driver, "scope": volume.scope, "options": map(&volume.options),
            "labels": map(&volume.labels)})
    });
    let warnings = item.warnings.iter().map(|warning| {
        let mut fields = Map::new();
        put_bytes(&mut fields, "object", &warning.object);
        let _ = fields.insert("message".to_owned(), json!(warning.message));
        let _ = fields.insert("skipped".to_owned(), json!(warning.skipped));
        Value::Object(fields)
    });
    let rest = json!({
        "in_use_by": item.in_use_by,
        "parent": before.map(|snapshot| snapshot.id.to_string()),
        "tree": {"root": item.root.to_string(), "level": item.root_level},
        "volume": volume,
        "entries_new": facts.entries_new,
        "entries_changed": facts.entries_changed,
        "entries_unchanged": facts.entries_unchanged,
        "entries_skipped": facts.entries_skipped,
        "bytes_read": facts.bytes_read,
        "bytes_new": facts.bytes_new,
        "warnings": warnings.collect::<Vec<_>>(),
    });
    if let Value::Object(rest) = rest {
        fields.extend(rest);
    }
    fields
}

fn lines(snapshot: &Snapshot, list: &SnapshotList, context: &Context) -> Vec<String> {
    let body = &snapshot.body;
    let mut lines = Vec::new();
    let mut put = |name: &str, text: String| lines.push(format!("{name:<11} {text}"));
    put("snapshot", snapshot.id.to_string());
    put("time", time(snapshot.time(), &context.zone));
    put("host", escape_text(&body.host.name));
    if let Some(id) = &body.host.engine_id {
        let version = body.host.engine_version.as_deref().unwrap_or("of unknown version");
        put("engine", format!("{} {}", escape_text(version), escape_text(id)));
    }
    if !body.tags.is_empty() {
        put("tags", escape_text(&body.tags.join(", ")));
    }
    put("program", escape_text(&body.program));
    if let Some(from) = &body.salvaged {
        put("salvaged", format!("what could be had of the damaged snapshot {from}"));
    }
    if let Some(origin) = &body.copied {
        let (snapshot, repository) = (origin.snapshot, origin.repository);
        put("copied", format!("from snapshot {snapshot} of repository {repository}"));
    }
    put("writer", format!("{}, its record {}", snapshot.writer, snapshot.sequence));
    put("head", snapshot.head.to_string());
    put("follows", follows(snapshot, list));
    for item in snapshot.items() {
        lines.push(String::new());
        let before = before_in_series(snapshot, item, list);
        item_lines(item, before, context, &mut lines);
    }
    lines
}

fn follows(snapshot: &Snapshot, list: &SnapshotList) -> String {
    let Some(previous) = &snapshot.previous else {
        return "nothing: it is the first of its writer".to_owned();
    };
    let chain = chain(snapshot, list);
    let mut named: Vec<_> = chain
        .iter()
        .take(CHAIN_SHOWN)
        .map(|other| format!("{} (record {})", other.id.short(), other.sequence))
        .collect();
    if chain.len() > CHAIN_SHOWN {
        named.push(format!("{} more", chain.len() - CHAIN_SHOWN));
    }
    match chain.first().is_some_and(|first| first.head == *previous) {
        true => named.join(", "),
        false => {
            named.insert(0, format!("record {}, which was forgotten", snapshot.sequence - 1));
            named.join(", ")
        }
    }
}

fn item_lines(item: &Item, before: Option<&Snapshot>, context: &Context, lines: &mut Vec<String>) {
    let facts = &item.facts;
    lines.push(format!("{} {}", kind_name(item.kind), item_source(item)));
    let mut put = |name: &str, text: String| lines.push(format!("  {name:<9} {text}"));
    let method = match item.method {
        Method::HostPath => "from its path on the host",
        Method::Archive => "through the engine's archive interface",
        Method::Agent => "by an agent beside it",
        Method::Stream => "from standard input",
    };
    put("read", method.to_owned());
    if !item.in_use_by.is_empty() {
        put("live", format!("used meanwhile by {}", escape_text(&item.in_use_by.join(", "))));
    }
    if item.degraded {
        put("degraded", "the method cannot prove that it saw everything".to_owned());
    }
    if let Some(volume) = &item.volume {
        put("driver", format!("{}, {}", escape_text(&volume.driver), escape_text(&volume.scope)));
        for (word, map) in [("option", &volume.options), ("label", &volume.labels)] {
            for (key, value) in map {
                put(word, escape_text(&format!("{key}={}", masked(key, value))));
            }
        }
    }
    put("holds", format!("{} in {} entries", size(facts.bytes), count(facts.entries)));
    put(
        "entries",
        format!(
            "{} new, {} changed, {} unchanged, {} skipped",
            count(facts.entries_new),
            count(facts.entries_changed),
            count(facts.entries_unchanged),
            count(facts.entries_skipped),
        ),
    );
    put(
        "bytes",
        format!(
            "{} read, {} new, {} stored",
            size(facts.bytes_read),
            size(facts.bytes_new),
            size(facts.bytes_stored),
        ),
    );
    put("tree", format!("{}, level {}", item.root, item.root_level));
    put(
        "before",
        match before {
            Some(other) => format!("{} of {}", other.id.short(), time(other.time(), &context.zone)),
            None => "nothing: it is the first of its series".to_owned(),
        },
    );
    for warning in &item.warnings {
        put(if warning.skipped { "skipped" } else { "warning" }, warning_text(warning));
    }
}

fn warning_text(warning: &WarningFact) -> String {
    let message = escape_text(&warning.message);
    match warning.object.is_empty() {
        true => message,
        false => format!("{}: {message}", escape(&warning.object)),
    }
}
