//! Snapshots and items as people and machines are shown them.

use serde_json::{Map, Value, json};
use volume_vault::format::{Item, ItemKind, Method};
use volume_vault::repo::Snapshot;

use super::super::output::{escape_text, rfc3339};

/// The name of a kind of item, in JSON too.
pub(crate) fn kind_name(kind: ItemKind) -> &'static str {
    match kind {
        ItemKind::Volume => "volume",
        ItemKind::Directory => "directory",
        ItemKind::Stream => "stream",
    }
}

/// The name of a method, in JSON too.
pub(crate) fn method_name(method: Method) -> &'static str {
    match method {
        Method::HostPath => "host_path",
        Method::Archive => "archive",
        Method::Agent => "agent",
        Method::Stream => "stream",
    }
}

/// An item as it is named on the command line.
pub(crate) fn item_source(item: &Item) -> String {
    let name = escape_text(&item.name);
    match item.kind {
        ItemKind::Volume | ItemKind::Directory => name,
        ItemKind::Stream => format!("stdin:{name}"),
    }
}

/// What a list says of a snapshot: the figures of its items together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SnapshotRow {
    /// Its items as they are named on the command line.
    pub(crate) sources: Vec<String>,
    /// Bytes of content.
    pub(crate) size: u64,
    /// Entries.
    pub(crate) entries: u64,
    /// Bytes that were stored for it and were not there before.
    pub(crate) stored: u64,
    /// Warnings that were kept.
    pub(crate) warnings: u64,
    /// Whether something is missing in it, or may be.
    pub(crate) partial: bool,
    /// Whether it is what could be had of a damaged one.
    pub(crate) salvaged: bool,
    /// Whether containers were using the data while it was read.
    pub(crate) live: bool,
    /// How it was read, each method once.
    pub(crate) methods: Vec<&'static str>,
}

impl SnapshotRow {
    /// Adds up the items of a snapshot.
    pub(crate) fn of(snapshot: &Snapshot) -> Self {
        let mut row = Self { salvaged: snapshot.body.salvaged.is_some(), ..Self::default() };
        for item in snapshot.items() {
            row.sources.push(item_source(item));
            row.size = row.size.saturating_add(item.facts.bytes);
            row.entries = row.entries.saturating_add(item.facts.entries);
            row.stored = row.stored.saturating_add(item.facts.bytes_stored);
            row.warnings += item.warnings.len() as u64;
            row.partial |= item.is_partial();
            row.live |= !item.in_use_by.is_empty();
            let method = method_name(item.method);
            if !row.methods.contains(&method) {
                row.methods.push(method);
            }
        }
        row
    }

    /// The method as a list shows it: `live` says more than how the bytes were reached.
    pub(crate) fn method(&self) -> String {
        match self.live {
            true => "live".to_owned(),
            false => self.methods.join(", ").replace('_', " "),
        }
    }

    /// What is to be kept in mind, in few words.
    pub(crate) fn notes(&self) -> String {
        let mut notes = Vec::new();
        if self.salvaged {
            notes.push("salvaged".to_owned());
        }
        if self.partial {
            notes.push("partial".to_owned());
        }
        match self.warnings {
            0 => {}
            1 => notes.push("1 warning".to_owned()),
            more => notes.push(format!("{more} warnings")),
        }
        notes.join(", ")
    }
}

/// A snapshot as JSON, as far as a list says it.
pub(crate) fn snapshot_fields(snapshot: &Snapshot) -> Map<String, Value> {
    let row = SnapshotRow::of(snapshot);
    let items: Vec<_> =
        snapshot.items().iter().map(|item| Value::Object(item_fields(item))).collect();
    let fields = json!({
        "id": snapshot.id.to_string(),
        "time": rfc3339(snapshot.time()),
        "host": snapshot.body.host.name,
        "tags": snapshot.body.tags,
        "bytes": row.size,
        "entries": row.entries,
        "bytes_stored": row.stored,
        "warning_count": row.warnings,
        "partial": row.partial,
        "live": row.live,
        "salvaged_from": snapshot.body.salvaged.map(|id| id.to_string()),
        "copied_from": snapshot.body.copied.map(|origin| json!({
            "repository": origin.repository.to_string(),
            "snapshot": origin.snapshot.to_string(),
            "stored": rfc3339(origin.stored()),
        })),
        "items": items,
    });
    match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// An item as JSON, as far as a list says it.
pub(crate) fn item_fields(item: &Item) -> Map<String, Value> {
    let fields = json!({
        "kind": kind_name(item.kind),
        "name": item.name,
        "method": method_name(item.method),
        "live": !item.in_use_by.is_empty(),
        "degraded": item.degraded,
        "partial": item.is_partial(),
        "bytes": item.facts.bytes,
        "entries": item.facts.entries,
        "bytes_stored": item.facts.bytes_stored,
        "warning_count": item.warnings.len(),
    });
    match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}
