//! The tables in the cache directory: opened, written from segments, and merged.
//!
//! A table is named after the segments it holds. Losing one, or all, costs time and nothing else.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hashbrown::HashMap;

use super::error::RepoError;
use super::index_table::{Record, Table, TableError, TablePack};
use super::index_table_writer::{TableWriter, Written};
use crate::crypto::digest;
use crate::format::SegmentRecord;
use crate::id::{PackId, SegmentId, hex};

fn table_path(dir: &Path, segments: &[SegmentId]) -> PathBuf {
    let name = match segments {
        [one] => one.to_string(),
        many => hex(&digest(&many.iter().flat_map(|id| *id.as_bytes()).collect::<Vec<_>>())),
    };
    dir.join(format!("{name}.table"))
}

/// Opens the tables that hold nothing but sound segments, and those that hold nothing but
/// condemned ones; each segment once. Other tables are removed.
pub(super) fn open_tables(
    dir: &Path,
    sound: &BTreeSet<SegmentId>,
    condemned: &BTreeSet<SegmentId>,
) -> Result<(Vec<Table>, Vec<Table>), RepoError> {
    let mut found = Vec::new();
    // A directory that is not there, or cannot be listed, holds none.
    for path in
        std::fs::read_dir(dir).into_iter().flatten().filter_map(|file| Some(file.ok()?.path()))
    {
        if path.extension().is_none_or(|extension| extension != "table") {
            continue;
        }
        let all_in = |table: &Table, wanted: &BTreeSet<SegmentId>| {
            table.segments().iter().all(|id| wanted.contains(id))
        };
        match Table::open(&path) {
            Ok(table) if all_in(&table, sound) || all_in(&table, condemned) => found.push(table),
            // What it held is fetched again. Another process may still read it: it keeps its file.
            _ => drop(std::fs::remove_file(&path)),
        }
    }
    // Of two tables with a common segment, as a merge that was cut short leaves them, the one with
    // more segments stays.
    found.sort_by_key(|table| std::cmp::Reverse(table.segments().len()));
    let mut covered = BTreeSet::new();
    found.retain(|table| {
        let fresh = table.segments().iter().all(|id| !covered.contains(id));
        if fresh {
            covered.extend(table.segments().iter().copied());
        } else {
            let _ = std::fs::remove_file(table.path());
        }
        fresh
    });
    found.sort_by_key(|table| std::cmp::Reverse(table.records()));
    Ok(found.into_iter().partition(|table| table.segments().iter().all(|id| sound.contains(id))))
}

pub(super) fn write_table(
    dir: &Path,
    segments: &[SegmentId],
    record: &SegmentRecord,
) -> Result<Table, RepoError> {
    let mut records = Vec::new();
    for (number, pack) in (0u32..).zip(&record.packs) {
        for (frame_offset, frame) in pack.directory.placed() {
            let mut offset = 0;
            for (prefix, len) in &frame.chunks {
                records.push(Record {
                    prefix: *prefix,
                    pack: number,
                    frame_offset,
                    frame_len: frame.stored_len,
                    offset,
                    len: *len,
                });
                offset += len;
            }
        }
    }
    records.sort_unstable_by_key(|record| record.prefix);
    let seals: Vec<_> = record.seals.iter().cloned().map(Arc::new).collect();
    let packs: Vec<_> = record
        .packs
        .iter()
        .map(|pack| TablePack {
            id: pack.id,
            kind: pack.kind,
            size: pack.size,
            salt: pack.salt,
            seal: seals[pack.seal].clone(),
        })
        .collect();
    let path = table_path(dir, segments);
    let written = write_anywhere(&path, records.len() as u64, |mut writer| {
        records.iter().try_for_each(|record| writer.push(record))?;
        writer.finish(segments, &packs)
    })?;
    drop(records);
    open_written(written)
}

/// Writes a table of so many records as a file, or in memory if no file can be written: a cache
/// that is full costs memory and time, and nothing else while there is enough of both.
fn write_anywhere(
    path: &Path,
    records: u64,
    write: impl Fn(TableWriter) -> Result<Written, RepoError>,
) -> Result<Written, RepoError> {
    match TableWriter::create(path).and_then(&write) {
        Err(error @ RepoError::Local { .. }) => {
            match TableWriter::create_in_memory(path, records) {
                Some(writer) => write(writer),
                None => Err(error),
            }
        }
        written => written,
    }
}

/// Opens a table that was written just now.
pub(super) fn open_written(written: Written) -> Result<Table, RepoError> {
    let path = written.path.clone();
    Table::open_written(written).map_err(|error| match error {
        TableError::Io(source) => RepoError::local("read", &path)(source),
        TableError::Damaged => {
            RepoError::local("read", &path)(std::io::Error::other("it does not read back"))
        }
    })
}

/// Sorts tables by size and says how many of the smallest are to be merged: all but those that are
/// larger than twice all smaller ones together, so that every record is written again only
/// logarithmically often.
pub(super) fn sort_for_merge<T: AsRef<Table>>(tables: &mut [T]) -> usize {
    tables.sort_by_key(|table| table.as_ref().records());
    let mut sum = 0;
    let mut small = 0;
    for table in tables {
        let records = table.as_ref().records();
        if small > 1 && records > 2 * sum {
            break;
        }
        sum += records;
        small += 1;
    }
    small
}

/// Merges the small tables.
pub(super) fn merge_small(dir: &Path, mut tables: Vec<Table>) -> Result<Vec<Table>, RepoError> {
    let small = sort_for_merge(&mut tables);
    let mut large = tables.split_off(small);
    let merged = merge(dir, &tables)?;
    remove(&tables, &merged);
    // Their filters are given back before that of the merged table is read.
    drop(tables);
    large.push(open_written(merged)?);
    Ok(large)
}

/// Removes the files of tables that were merged; those of a table in memory are still of use.
pub(super) fn remove<T: AsRef<Table>>(tables: &[T], merged: &Written) {
    for table in tables {
        if table.as_ref().path() != merged.path && merged.memory.is_none() {
            let _ = std::fs::remove_file(table.as_ref().path());
        }
    }
}

/// A table that is read page by page while tables are merged.
struct Cursor<'a> {
    table: &'a Table,
    page: usize,
    records: std::vec::IntoIter<Record>,
    packs: Vec<u32>,
}

impl Cursor<'_> {
    fn next(&mut self) -> Result<Option<Record>, RepoError> {
        loop {
            if let Some(record) = self.records.next() {
                let pack = self.packs.get(record.pack as usize).copied();
                return Ok(pack.map(|pack| Record { pack, ..record }));
            }
            match self.table.page_records(self.page)? {
                Some(records) => self.records = records.into_iter(),
                None => return Ok(None),
            }
            self.page += 1;
        }
    }
}

/// Writes the table that holds what these hold.
pub(super) fn merge<T: AsRef<Table>>(dir: &Path, tables: &[T]) -> Result<Written, RepoError> {
    let tables = tables.iter().map(AsRef::as_ref);
    let mut segments: Vec<_> = tables.clone().flat_map(Table::segments).copied().collect();
    segments.sort_unstable();
    segments.dedup();
    let mut packs: Vec<TablePack> = Vec::new();
    let mut numbers: HashMap<PackId, u32> = HashMap::new();
    let mut sources: Vec<(&Table, Vec<u32>)> = Vec::new();
    let records = tables.clone().map(Table::records).sum();
    for table in tables {
        let mapped = table.packs().iter().map(|pack| {
            *numbers.entry(pack.id).or_insert_with(|| {
                packs.push(pack.clone());
                u32::try_from(packs.len() - 1).expect("because packs are counted in 32 bits")
            })
        });
        sources.push((table, mapped.collect()));
    }
    let path = table_path(dir, &segments);
    write_anywhere(&path, records, |mut writer| {
        merge_records(sources.clone(), |record| writer.push(&record))?;
        writer.finish(&segments, &packs)
    })
}

/// Calls `each` with the records of all tables in order, with packs numbered as each table is told.
pub(super) fn merge_records(
    tables: Vec<(&Table, Vec<u32>)>,
    mut each: impl FnMut(Record) -> Result<(), RepoError>,
) -> Result<(), RepoError> {
    let mut cursors: Vec<_> = tables
        .into_iter()
        .map(|(table, packs)| Cursor { table, page: 0, records: Vec::new().into_iter(), packs })
        .collect();
    let mut heap = std::collections::BinaryHeap::new();
    let mut heads = Vec::new();
    for (at, cursor) in cursors.iter_mut().enumerate() {
        let head = cursor.next()?;
        heap.extend(head.map(|record| std::cmp::Reverse((record.prefix, at))));
        heads.push(head);
    }
    while let Some(std::cmp::Reverse((_, at))) = heap.pop() {
        let next = cursors[at].next()?;
        if let Some(record) = std::mem::replace(&mut heads[at], next) {
            each(record)?;
        }
        heap.extend(next.map(|record| std::cmp::Reverse((record.prefix, at))));
    }
    Ok(())
}
