//! `snapshots/<id>.pending` and `.ok`: what was saved, and that it was saved whole.
//!
//! A record has two parts. All who write to the repository can read the first: who wrote it, as
//! which of theirs, after which of theirs. The second, with names and roots, is sealed under the
//! run's secret, which only an owner can open.

use std::collections::BTreeMap;

use minicbor::{Decode, Encode};

use super::content_node::ContentRef;
use super::{FormatError, from_cbor, to_cbor};
use crate::clock::Time;
use crate::crypto::{Key, Plaintext, Purpose, RandomError, RunSeal, open, seal};
use crate::id::{ChunkId, RecordHash, RepositoryId, SnapshotId, WriterId};

/// Longest record accepted, in bytes.
pub const RECORD_BYTES_MAX: u64 = 16 << 20;

const WHAT: &str = "snapshot record";

/// The record of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingRecord {
    /// The snapshot's id.
    pub snapshot: SnapshotId,
    /// Who wrote it.
    pub writer: WriterId,
    /// The how manieth record of this writer it is, from 1.
    pub sequence: u64,
    /// The hash of this writer's record before, as it is stored.
    pub previous: Option<RecordHash>,
    /// The sealed secret of the run.
    pub seal: RunSeal,
    /// The sealed part.
    pub body: Vec<u8>,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct PendingDocument {
    #[n(0)]
    snapshot: SnapshotId,
    #[n(1)]
    writer: WriterId,
    #[n(2)]
    sequence: u64,
    #[n(3)]
    previous: Option<RecordHash>,
    #[cbor(n(4), with = "minicbor::bytes")]
    seal: Vec<u8>,
    #[cbor(n(5), with = "minicbor::bytes")]
    body: Vec<u8>,
}

impl PendingRecord {
    /// The message to be signed and sealed: CBOR.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        to_cbor(&PendingDocument {
            snapshot: self.snapshot,
            writer: self.writer,
            sequence: self.sequence,
            previous: self.previous,
            seal: self.seal.as_bytes().to_vec(),
            body: self.body.clone(),
        })
    }

    /// Reads the message.
    ///
    /// Errors: [`FormatError::Damaged`].
    pub fn decode(message: &[u8]) -> Result<Self, FormatError> {
        let document: PendingDocument = from_cbor(WHAT, message)?;
        let seal = RunSeal::from_slice(&document.seal)
            .ok_or_else(|| FormatError::damaged(WHAT, "its run seal has another length"))?;
        Ok(Self {
            snapshot: document.snapshot,
            writer: document.writer,
            sequence: document.sequence,
            previous: document.previous,
            seal,
            body: document.body,
        })
    }
}

/// The commit point of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct OkRecord {
    /// The snapshot.
    #[n(0)]
    pub snapshot: SnapshotId,
    /// The hash of its record, as that is stored.
    #[n(1)]
    pub pending: RecordHash,
}

impl OkRecord {
    /// The message to be signed and sealed: CBOR.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        to_cbor(self)
    }

    /// Reads the message.
    ///
    /// Errors: [`FormatError::Damaged`].
    pub fn decode(message: &[u8]) -> Result<Self, FormatError> {
        from_cbor("snapshot commit", message)
    }
}

/// What a snapshot holds, for an owner's eyes.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct SnapshotBody {
    /// When the backup started, in seconds since 1970, by the clock of the host.
    #[n(0)]
    pub seconds: i64,
    /// Nanoseconds past `seconds`.
    #[n(1)]
    pub nanos: u32,
    /// Where it was made.
    #[n(2)]
    pub host: HostFacts,
    /// Tags.
    #[n(3)]
    pub tags: Vec<String>,
    /// What is in it.
    #[n(4)]
    pub items: Vec<Item>,
    /// The program that made it.
    #[n(5)]
    pub program: String,
    /// The damaged snapshot it is what could be saved of; none if it was made from a source.
    #[n(6)]
    pub salvaged: Option<SnapshotId>,
    /// Where it was first made, if it was copied into this repository.
    #[n(7)]
    pub copied: Option<Origin>,
}

/// Where a copied snapshot was first made. A copy of a copy keeps that of the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Origin {
    /// The repository.
    #[n(0)]
    pub repository: RepositoryId,
    /// The snapshot there.
    #[n(1)]
    pub snapshot: SnapshotId,
    /// When its commit was stored there, by the clock of that store, in seconds since 1970.
    #[n(2)]
    pub seconds: i64,
    /// Nanoseconds past `seconds`.
    #[n(3)]
    pub nanos: u32,
}

impl Origin {
    /// When its commit was stored there.
    #[must_use]
    pub fn stored(&self) -> Time {
        Time::new(self.seconds, self.nanos)
    }
}

/// The Docker host, or the machine, a snapshot comes from.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct HostFacts {
    /// Its name: one part of a series.
    #[n(0)]
    pub name: String,
    /// The engine's id, where one was involved.
    #[n(1)]
    pub engine_id: Option<String>,
    /// The engine's version.
    #[n(2)]
    pub engine_version: Option<String>,
}

/// One thing in a snapshot.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct Item {
    /// What it is.
    #[n(0)]
    pub kind: ItemKind,
    /// Its name: of a volume its name, of a directory its path.
    #[n(1)]
    pub name: String,
    /// The root of its tree.
    #[n(2)]
    pub root: ChunkId,
    /// The level of that root.
    #[n(3)]
    pub root_level: u8,
    /// The hints beside the tree; id, length and level of their root.
    #[n(4)]
    pub hints: Option<(ChunkId, u64, u8)>,
    /// How the data was read.
    #[n(5)]
    pub method: Method,
    /// Whether the method cannot prove that it saw everything, or keeps less than everything.
    #[n(6)]
    pub degraded: bool,
    /// Volume definition, for volumes.
    #[n(7)]
    pub volume: Option<VolumeFacts>,
    /// What was counted.
    #[n(8)]
    pub facts: BackupFacts,
    /// Warnings, the first thousand of them.
    #[n(9)]
    pub warnings: Vec<WarningFact>,
    /// Containers that were using the data while it was read.
    #[n(10)]
    pub in_use_by: Vec<String>,
}

impl Item {
    /// The root of the hints, if there are any.
    #[must_use]
    pub fn hints_root(&self) -> Option<ContentRef> {
        self.hints.map(|(id, len, level)| ContentRef { id, len, level })
    }

    /// Whether something is missing in it, or may be: its backup ended with exit code 3.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.degraded
            || self.facts.entries_skipped > 0
            || self.warnings.iter().any(|warning| warning.skipped)
    }
}

/// What an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum ItemKind {
    /// A Docker volume.
    #[n(0)]
    Volume,
    /// A directory.
    #[n(1)]
    Directory,
    /// A stream from standard input.
    #[n(2)]
    Stream,
}

/// How data was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Method {
    /// From its place on the host.
    #[n(0)]
    HostPath,
    /// Through the engine's archive interface.
    #[n(1)]
    Archive,
    /// From standard input.
    #[n(2)]
    Stream,
    /// By an agent beside it.
    #[n(3)]
    Agent,
}

/// A volume's definition.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct VolumeFacts {
    /// The driver.
    #[n(0)]
    pub driver: String,
    /// Driver options; they may hold secrets.
    #[n(1)]
    pub options: BTreeMap<String, String>,
    /// Labels.
    #[n(2)]
    pub labels: BTreeMap<String, String>,
    /// `local` or `global`.
    #[n(3)]
    pub scope: String,
}

/// What a backup counted for one item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(map)]
pub struct BackupFacts {
    /// Entries in the tree.
    #[n(0)]
    pub entries: u64,
    /// Bytes of content in the tree.
    #[n(1)]
    pub bytes: u64,
    /// Entries that the snapshot before did not have.
    #[n(2)]
    pub entries_new: u64,
    /// Entries that differ from the snapshot before.
    #[n(3)]
    pub entries_changed: u64,
    /// Entries taken over without a look at their content.
    #[n(4)]
    pub entries_unchanged: u64,
    /// Entries that were left out because they could not be read.
    #[n(5)]
    pub entries_skipped: u64,
    /// Bytes of content that were read.
    #[n(6)]
    pub bytes_read: u64,
    /// Bytes of new chunks before compression.
    #[n(7)]
    pub bytes_new: u64,
    /// Bytes of the new chunks as they are stored.
    #[n(8)]
    pub bytes_stored: u64,
}

/// A warning as a snapshot keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct WarningFact {
    /// The object it is about, as raw bytes.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub object: Vec<u8>,
    /// What happened.
    #[n(1)]
    pub message: String,
    /// Whether something is missing because of it.
    #[n(2)]
    pub skipped: bool,
}

impl SnapshotBody {
    /// Seals the body under its run's secret, for this snapshot.
    ///
    /// Shape: `seal[derive[secret](record body)]`(CBOR, the snapshot's id as AAD).
    /// Errors: [`RandomError`].
    pub fn seal(&self, run_secret: &Key, snapshot: &SnapshotId) -> Result<Vec<u8>, RandomError> {
        let document = to_cbor(self);
        let mut plaintext = Plaintext::with_capacity(document.len());
        plaintext.extend(&document);
        let key = run_secret.derive(Purpose::RecordBody, b"");
        Ok(seal(&key, plaintext, snapshot.as_bytes())?.as_bytes().to_vec())
    }

    /// Opens a body.
    ///
    /// Errors: [`FormatError::Damaged`].
    pub fn open(
        run_secret: &Key,
        snapshot: &SnapshotId,
        sealed: &[u8],
    ) -> Result<Self, FormatError> {
        let key = run_secret.derive(Purpose::RecordBody, b"");
        let document = open(&key, sealed, snapshot.as_bytes())
            .map_err(|error| FormatError::damaged(WHAT, error))?;
        from_cbor(WHAT, &document)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body() -> SnapshotBody {
        SnapshotBody {
            seconds: -1,
            nanos: 2,
            host: HostFacts { name: "h".to_owned(), engine_id: None, engine_version: None },
            tags: vec!["t".to_owned()],
            items: vec![Item {
                kind: ItemKind::Volume,
                name: "data".to_owned(),
                root: ChunkId::new([1; 32]),
                root_level: 2,
                hints: Some((ChunkId::new([2; 32]), 9, 1)),
                method: Method::HostPath,
                degraded: false,
                volume: Some(VolumeFacts {
                    driver: "local".to_owned(),
                    options: BTreeMap::from([("o".to_owned(), "x".to_owned())]),
                    labels: BTreeMap::new(),
                    scope: "local".to_owned(),
                }),
                facts: BackupFacts { entries: 5, ..BackupFacts::default() },
                warnings: vec![WarningFact {
                    object: vec![0xff],
                    message: "m".to_owned(),
                    skipped: true,
                }],
                in_use_by: vec!["web".to_owned()],
            }],
            program: "vault 0".to_owned(),
            salvaged: Some(SnapshotId::new([9; 32])),
            copied: Some(Origin {
                repository: RepositoryId::new([8; 16]),
                snapshot: SnapshotId::new([7; 32]),
                seconds: -2,
                nanos: 6,
            }),
        }
    }

    #[test]
    fn a_body_opens_only_for_its_own_snapshot_and_run() {
        let (secret, id) = (Key::new([1; 32]), SnapshotId::new([3; 32]));
        let sealed = body().seal(&secret, &id).expect("randomness");
        assert_eq!(SnapshotBody::open(&secret, &id, &sealed).expect("it opens"), body());
        assert!(SnapshotBody::open(&Key::new([2; 32]), &id, &sealed).is_err());
        assert!(SnapshotBody::open(&secret, &SnapshotId::new([4; 32]), &sealed).is_err());
    }

    #[test]
    fn records_read_back() {
        let record = PendingRecord {
            snapshot: SnapshotId::new([1; 32]),
            writer: WriterId::new([2; 16]),
            sequence: 7,
            previous: Some(RecordHash::new([3; 32])),
            seal: RunSeal::from_slice(&[4; RunSeal::LEN]).expect("a seal"),
            body: vec![5; 100],
        };
        assert_eq!(PendingRecord::decode(&record.encode()).expect("it reads"), record);
        let ok = OkRecord { snapshot: record.snapshot, pending: RecordHash::new([9; 32]) };
        assert_eq!(OkRecord::decode(&ok.encode()).expect("it reads"), ok);
    }
}
