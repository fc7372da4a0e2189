//! A backup whose every call to the store waits for a schedule.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use tempfile::TempDir;
use volume_vault::crypto::Payload;
use volume_vault::id::SnapshotId;
use volume_vault::ops::OpsError;
use volume_vault::ops::backup::BackupReport;
use volume_vault::store::{CallKind, Listed, MemoryStore, ObjectName, Store, StoreError};

use crate::support::repo::{backup, open, scratch};

/// A call that waits. It is done once `go` says so, and fails if that is dropped.
struct Arrival {
    kind: CallKind,
    target: String,
    go: Sender<()>,
}

/// A store that asks before it does anything.
#[derive(Debug)]
struct Scheduled {
    inner: MemoryStore,
    arrivals: Sender<Arrival>,
}

impl Scheduled {
    fn wait(&self, kind: CallKind, target: &str) -> Result<(), StoreError> {
        let (go, verdict) = channel();
        // Who listens no more has let go of all calls that wait.
        let _ = self.arrivals.send(Arrival { kind, target: target.to_owned(), go });
        verdict.recv().map_err(|_| StoreError::Io {
            action: format!("{kind:?} {target}"),
            location: self.location(),
            source: std::io::Error::other("the schedule ends here"),
        })
    }
}

impl Store for Scheduled {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn put(&self, name: &ObjectName, payload: &Payload) -> Result<(), StoreError> {
        self.wait(CallKind::Put, name.as_str())?;
        self.inner.put(name, payload)
    }

    fn get(&self, name: &ObjectName, size_max: u64) -> Result<Vec<u8>, StoreError> {
        self.wait(CallKind::Get, name.as_str())?;
        self.inner.get(name, size_max)
    }

    fn get_range(
        &self,
        name: &ObjectName,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<(), StoreError> {
        self.wait(CallKind::GetRange, name.as_str())?;
        self.inner.get_range(name, offset, buffer)
    }

    fn list(&self, folder: &str) -> Result<Vec<Listed>, StoreError> {
        self.wait(CallKind::List, folder)?;
        self.inner.list(folder)
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.wait(CallKind::Delete, name.as_str())?;
        self.inner.delete(name)
    }
}

/// Where a backup waits: the call named here is not done yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum At {
    /// B3.
    PutPending,
    /// B4.
    ListCondemns,
    /// B5.
    PutOk,
    /// B6.
    ListForgets,
    /// Nowhere: it has ended.
    End,
}

/// A backup under way, on a host of its own.
pub(crate) struct ScheduledBackup {
    arrivals: Option<Receiver<Arrival>>,
    held: Option<Arrival>,
    at: At,
    snapshot: Option<SnapshotId>,
    thread: Option<JoinHandle<Result<BackupReport, OpsError>>>,
    _home: TempDir,
}

impl ScheduledBackup {
    /// B1 and B2: a backup of a directory up to its pending record.
    pub(crate) fn start(store: &MemoryStore, dir: &Path) -> Self {
        let (sender, arrivals) = channel();
        let store = Arc::new(Scheduled { inner: store.clone(), arrivals: sender });
        let home = scratch();
        let (dir, host) = (dir.to_owned(), home.path().to_owned());
        let thread = std::thread::spawn(move || backup(&open(store, &host)?, &dir));
        let mut started = Self {
            arrivals: Some(arrivals),
            held: None,
            at: At::End,
            snapshot: None,
            thread: Some(thread),
            _home: home,
        };
        assert_eq!(started.go_on(), At::PutPending);
        started
    }

    pub(crate) fn at(&self) -> At {
        self.at
    }

    /// Its snapshot, as its pending record is named.
    pub(crate) fn snapshot(&self) -> SnapshotId {
        self.snapshot.expect("it came to its pending record")
    }

    /// Does the call that waits, and all after it up to the next that is a step of the protocol.
    pub(crate) fn go_on(&mut self) -> At {
        self.release();
        self.at = loop {
            let Some(Ok(arrival)) = self.arrivals.as_ref().map(Receiver::recv) else {
                break At::End;
            };
            match self.step(arrival.kind, &arrival.target) {
                Some(at) => {
                    self.held = Some(arrival);
                    break at;
                }
                None => arrival.go.send(()).expect("it waits"),
            }
        };
        self.at
    }

    fn step(&mut self, kind: CallKind, target: &str) -> Option<At> {
        let record = target.strip_prefix("snapshots/");
        let pending = record.and_then(|name| name.strip_suffix(".pending"));
        match (kind, pending) {
            (CallKind::Put, Some(id)) => {
                self.snapshot = Some(id.parse().expect("an id"));
                Some(At::PutPending)
            }
            (CallKind::Put, _) if target.ends_with(".ok") => Some(At::PutOk),
            // Before its record is there, whatever it lists belongs to B1.
            (CallKind::List, _) if self.snapshot.is_some() => match target {
                "gc" => Some(At::ListCondemns),
                "forget" => Some(At::ListForgets),
                _ => None,
            },
            _ => None,
        }
    }

    fn release(&mut self) {
        if let Some(arrival) = self.held.take() {
            arrival.go.send(()).expect("it waits");
        }
    }

    /// Does the call that waits and no other: what was sent lands, its sender is dead.
    pub(crate) fn land_and_die(&mut self) {
        self.release();
        self.die();
    }

    /// No call is done any more.
    pub(crate) fn die(&mut self) {
        self.arrivals = None;
        self.held = None;
        self.at = At::End;
        let _ = self.result();
    }

    /// How it ended, if it ended and was not asked before.
    pub(crate) fn result(&mut self) -> Option<Result<BackupReport, OpsError>> {
        assert_eq!(self.at, At::End);
        self.thread.take().map(|thread| thread.join().expect("it does not panic"))
    }
}
