//! Many sorted sequences of records read as one.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::sync::Arc;

use super::run::{Run, RunReader};
use crate::codec::{WireError, WireReader, put_bytes, put_varint};
use crate::entry::{EntryPath, PATH_LEN_MAX};
use crate::ops::OpsError;

/// A pushed entry. Sorts by path, and the last push of a path before the others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Record {
    pub(super) path: EntryPath,
    /// How many pushes there had been with this one.
    pushed: Reverse<u64>,
    /// The entry as a tree stores it.
    pub(super) value: Vec<u8>,
}

impl Record {
    pub(super) fn new(path: EntryPath, pushed: u64, value: Vec<u8>) -> Self {
        Self { path, pushed: Reverse(pushed), value }
    }

    /// Appends: path ‖ number of the push ‖ value.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_bytes(out, self.path.as_key());
        put_varint(out, self.pushed.0);
        put_bytes(out, &self.value);
    }

    /// Reads a record; others may follow it.
    pub(super) fn decode(reader: &mut WireReader<'_>) -> Result<Self, WireError> {
        let key = reader.sized(PATH_LEN_MAX, "length of a path")?;
        let path = EntryPath::from_key(key).map_err(|_| WireError::Invalid("path is none"))?;
        let pushed = reader.varint()?;
        let value = reader.sized(reader.remaining(), "length of an entry")?;
        Ok(Self::new(path, pushed, value.to_vec()))
    }
}

/// Sorts records and keeps the last push of each path.
pub(super) fn last_pushes(mut records: Vec<Record>) -> Arc<Vec<Record>> {
    records.sort_unstable();
    records.dedup_by(|later, kept| later.path == kept.path);
    Arc::new(records)
}

/// The last push of each path from several sorted sequences, in order.
#[derive(Debug)]
pub(super) struct Merge {
    cursors: Vec<Cursor>,
    /// The foremost record of each cursor that has one left.
    heads: BinaryHeap<Reverse<(Record, usize)>>,
    last: Option<EntryPath>,
}

impl Merge {
    /// Merges spilled runs and records that are sorted already.
    pub(super) fn new(runs: &[Arc<Run>], records: &Arc<Vec<Record>>) -> Result<Self, OpsError> {
        let runs = runs.iter().map(|run| Cursor::Run(RunReader::new(Arc::clone(run))));
        let memory = Cursor::Memory(Arc::clone(records), 0);
        let mut cursors: Vec<_> = runs.chain([memory]).collect();
        let mut heads = BinaryHeap::with_capacity(cursors.len());
        for (at, cursor) in cursors.iter_mut().enumerate() {
            if let Some(record) = cursor.next()? {
                heads.push(Reverse((record, at)));
            }
        }
        Ok(Self { cursors, heads, last: None })
    }

    /// The next path's last push. Nothing is lost by an error: it comes again with each call.
    pub(super) fn next(&mut self) -> Result<Option<Record>, OpsError> {
        while let Some(mut head) = self.heads.peek_mut() {
            let at = head.0.1;
            let Reverse((record, _)) = match self.cursors[at].next()? {
                Some(following) => std::mem::replace(&mut *head, Reverse((following, at))),
                None => PeekMut::pop(head),
            };
            if self.last.as_ref() != Some(&record.path) {
                self.last = Some(record.path.clone());
                return Ok(Some(record));
            }
        }
        Ok(None)
    }
}

/// A place in one sorted sequence.
#[derive(Debug)]
enum Cursor {
    Memory(Arc<Vec<Record>>, usize),
    Run(RunReader),
}

impl Cursor {
    fn next(&mut self) -> Result<Option<Record>, OpsError> {
        match self {
            Self::Memory(records, at) => {
                *at += 1;
                Ok(records.get(*at - 1).cloned())
            }
            Self::Run(reader) => reader.next(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn records_read_back(name in "[a-z]{1,9}", pushed: u64, value: Vec<u8>, rest: Vec<u8>) {
            let path = EntryPath::root().child(name.as_bytes()).expect("a name");
            let record = Record::new(path, pushed, value);
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            bytes.extend_from_slice(&rest);
            let mut reader = WireReader::new(&bytes);
            prop_assert_eq!(Record::decode(&mut reader), Ok(record));
            prop_assert_eq!(reader.remaining(), rest.len());
        }
    }
}
