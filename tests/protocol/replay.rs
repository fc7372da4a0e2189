//! F-070: traces of the model, done by the real writer on a real store.
//!
//! What collectors and the owner do is done as the model decides it; the backup is the real one,
//! held at each step of the protocol until the model takes that step.

use std::sync::{Arc, OnceLock};

use stateright::{Checker, Model};
use volume_vault::format::{CondemnRecord, ForgetKind, ForgetRecord, ObjectKind};
use volume_vault::id::{RecordHash, SnapshotId, WriterId};
use volume_vault::store::{CallKind, Fault, FaultPlan, ObjectName, Store};

use super::action::{Action, Message, Upload};
use super::model::NOTHING_LOST;
use super::rules::{Expiry, Protocol, Rules};
use super::schedule::{At, ScheduledBackup};
use super::world::{FIRST_SNAPSHOTS, NEEDS, Object, PACKS, Packs, World, bits};
use crate::support::repo::{Bench, assert_restores, backup, noise, open, put_signed, scratch};
use crate::support::tree::{Tree, describe};

/// Bytes of a chunk of the model. It is the whole content of a file.
const CHUNK_BYTES: usize = 20_000;
/// The writer of the model that is replayed, and its snapshot.
const WRITER: usize = 0;
const SNAPSHOT: usize = FIRST_SNAPSHOTS + WRITER;

/// A directory that holds chunks of the model, one file each.
fn directory(chunks: &[u64]) -> tempfile::TempDir {
    let dir = scratch();
    for chunk in chunks {
        let content = noise(100 + chunk, CHUNK_BYTES);
        std::fs::write(dir.path().join(format!("chunk-{chunk}")), content).expect("written");
    }
    dir
}

/// The first state of the model as a repository.
struct Stage {
    bench: Bench,
    packs: [Vec<ObjectName>; FIRST_SNAPSHOTS],
    snapshots: [(SnapshotId, Tree); FIRST_SNAPSHOTS],
    dir: tempfile::TempDir,
}

impl Stage {
    /// Two hosts save the same chunk at the same time, so that it lies in a pack of each.
    fn new() -> Self {
        let bench = Bench::new();
        let (both, one) = (directory(&[0, 1]), directory(&[0]));
        let first = Arc::new(OnceLock::new());
        let (host, path, found) = (bench.other_host(), both.path().to_owned(), first.clone());
        let save = move |_: &_| {
            let snapshot = backup(&host.open(), &path).expect("acknowledged").snapshot;
            // The other host has published nothing yet: what is known is of this one.
            let known = host.open().load_index().expect("loads").packs();
            let packs: Vec<String> = known.iter().map(|(pack, _)| pack.id.to_string()).collect();
            found.set((snapshot, packs)).expect("once");
        };
        let fault = Fault::Delay(Arc::new(save));
        let plan = FaultPlan::none().and(Some(CallKind::Put), "packs/", 1..=1, fault);
        let home = scratch();
        let repo = open(bench.disturbed(plan), home.path()).expect("opens");
        let second = backup(&repo, one.path()).expect("acknowledged").snapshot;
        let (first, known) = first.get().expect("the first host came between");
        let all = bench.names("packs");
        let packs = all.into_iter().partition(|name| known.iter().any(|id| *id == name.base()));
        let snapshots = [(*first, describe(both.path())), (second, describe(one.path()))];
        Self { bench, packs: packs.into(), snapshots, dir: directory(&[1]) }
    }
}

/// A trace that is being replayed.
struct Replay<'a> {
    stage: &'a Stage,
    bench: Bench,
    /// The packs that stand for those of the model.
    packs: [Vec<ObjectName>; PACKS],
    backup: Option<ScheduledBackup>,
    crashed: bool,
    /// The real backup did something else than the model; it is then on its own.
    strayed: bool,
    gave_up: bool,
    outcome: Option<bool>,
}

impl<'a> Replay<'a> {
    fn new(stage: &'a Stage) -> Self {
        let mut packs = [const { Vec::new() }; PACKS];
        packs[..FIRST_SNAPSHOTS].clone_from_slice(&stage.packs);
        let bench = stage.bench.fork();
        Self {
            stage,
            bench,
            packs,
            backup: None,
            crashed: false,
            strayed: false,
            gave_up: false,
            outcome: None,
        }
    }

    /// Does a step of the model, which leads to the state `after`.
    fn step(&mut self, action: Action, after: &World) {
        match action {
            Action::Begin { upload, .. } => {
                let old = self.bench.names("packs");
                let backup = ScheduledBackup::start(&self.bench.store, self.stage.dir.path());
                self.backup = Some(backup);
                self.uploaded(&old, upload);
            }
            Action::Land(Message::Pending(SNAPSHOT)) => self.land(At::PutPending, At::ListCondemns),
            Action::Land(Message::Ok(SNAPSHOT)) => self.land(At::PutOk, At::ListForgets),
            Action::Commit { .. } => self.advance(At::ListCondemns, At::PutOk),
            Action::Rescue { upload, .. } => self.rescue(upload, after),
            Action::Finish { acked, .. } => {
                self.advance(At::ListForgets, At::End);
                self.end();
                self.strayed |= self.outcome != Some(acked);
            }
            Action::CrashWriter { .. } => self.crash(),
            Action::Forget { snapshot } => {
                self.entomb(ForgetKind::Forget, self.stage.snapshots[snapshot].0);
            }
            Action::Land(Message::Expire(SNAPSHOT)) => {
                let snapshot = self.backup.as_ref().expect("it began").snapshot();
                self.entomb(ForgetKind::Expire, snapshot);
            }
            Action::Land(Message::Condemn(record)) => {
                self.condemn(record, after.condemns[record].packs);
            }
            Action::Land(Message::DeletePack(pack)) => {
                for name in &self.packs[pack] {
                    self.bench.store.delete(name).expect("deleted");
                }
            }
            // What collectors and the owner see or send changes nothing in the store.
            _ => {}
        }
    }

    /// New packs stand for the model's new pack, if it has one. If it has not, the backup stored
    /// its tree and no content.
    fn uploaded(&mut self, old: &[ObjectName], upload: Upload) {
        let listed = self.bench.store.list("packs").expect("lists").into_iter();
        let new: Vec<_> = listed.filter(|object| !old.contains(&object.name)).collect();
        let bytes: u64 = new.iter().map(|object| object.size).sum();
        let stored_content = bytes >= CHUNK_BYTES as u64;
        assert_eq!(stored_content, upload.chunks != 0, "{bytes} bytes in new packs");
        if stored_content {
            self.packs[upload.slot] = new.into_iter().map(|object| object.name).collect();
        }
    }

    /// The model stores chunks again in any case; the real one must find them in a pack.
    fn rescue(&mut self, upload: Upload, after: &World) {
        let old = self.bench.names("packs");
        let on_course = !self.strayed;
        self.advance(At::ListCondemns, At::ListCondemns);
        if !self.strayed {
            self.uploaded(&old, upload);
        } else if on_course {
            self.end();
            let left = after.chunks(after.stored & !(1 << upload.slot));
            self.gave_up = self.outcome == Some(false) && NEEDS[SNAPSHOT] & !left != 0;
        }
    }

    /// Lets the backup go on from where the model is to where it must come next.
    fn advance(&mut self, from: At, to: At) {
        let backup = self.backup.as_mut().expect("it began");
        if !self.strayed {
            assert_eq!(backup.at(), from);
            self.strayed = backup.go_on() != to;
        }
    }

    fn land(&mut self, from: At, to: At) {
        if self.crashed {
            self.backup.as_mut().expect("it began").land_and_die();
        } else {
            self.advance(from, to);
        }
    }

    /// What it sent may land later.
    fn crash(&mut self) {
        let backup = self.backup.as_mut().expect("it began");
        self.crashed = true;
        if !matches!(backup.at(), At::PutPending | At::PutOk) {
            backup.die();
        }
    }

    fn entomb(&self, kind: ForgetKind, snapshot: SnapshotId) {
        let tombstone = ForgetRecord {
            snapshot,
            kind,
            round: 0,
            writer: WriterId::new([1; 16]),
            sequence: 1,
            record: RecordHash::new([0; 32]),
        };
        self.put(ObjectKind::Forget, &format!("forget/{snapshot}"), &tombstone.encode());
    }

    fn condemn(&self, record: usize, packs: Packs) {
        let names = bits(packs).flat_map(|pack| &self.packs[pack]);
        let packs = names.map(|name| name.base().parse().expect("a pack")).collect();
        let message = CondemnRecord { packs, segments: Vec::new() }.encode();
        self.put(ObjectKind::Condemn, &format!("gc/{record:032x}.condemn"), &message);
    }

    fn put(&self, kind: ObjectKind, name: &str, message: &[u8]) {
        put_signed(&self.bench.store, &self.bench.open(), kind, name, message);
    }

    fn end(&mut self) {
        let backup = self.backup.as_mut().expect("it began");
        while backup.at() != At::End {
            let _ = backup.go_on();
        }
        if let Some(result) = backup.result() {
            self.outcome = Some(result.is_ok());
        }
    }

    /// Ends the trace and looks whether all that was promised restores, and whether the next
    /// plain backup does.
    fn judge(&mut self, world: &World) {
        let new = self.backup.as_ref().map(ScheduledBackup::snapshot);
        match &mut self.backup {
            // On its own, it comes to its end.
            Some(_) if self.strayed && !self.crashed => self.end(),
            Some(backup) if backup.at() != At::End => backup.die(),
            _ => {}
        }
        let repo = self.bench.other_host().open();
        for (number, (snapshot, tree)) in self.stage.snapshots.iter().enumerate() {
            if world.snapshots[number].forget == Object::Absent {
                assert_restores(&repo, snapshot, tree);
            }
        }
        let tree = describe(self.stage.dir.path());
        let expired = world.snapshots[SNAPSHOT].expire.is_landed();
        let committed = new.filter(|id| self.bench.has_ok(id));
        if let Some(snapshot) = committed.filter(|_| self.outcome == Some(true) || !expired) {
            assert_restores(&repo, &snapshot, &tree);
        }
        let next = backup(&repo, self.stage.dir.path()).expect("the next plain backup");
        assert_restores(&repo, &next.snapshot, &tree);
    }
}

/// How a replay ended.
struct Outcome {
    /// The backup did something else than the model's.
    strayed: bool,
    /// It found nothing left to rescue its chunks from.
    gave_up: bool,
    /// It said that it succeeded, or that it did not.
    acked: Option<bool>,
}

/// Replays a trace and judges the store it leaves.
fn replay(stage: &Stage, trace: &[(Action, World)]) -> Outcome {
    let mut replay = Replay::new(stage);
    for (action, after) in trace {
        replay.step(*action, after);
    }
    let (strayed, gave_up) = (replay.strayed, replay.gave_up);
    replay.judge(&trace.last().expect("a step").1);
    Outcome { strayed, gave_up, acked: replay.outcome }
}

/// A trace that is drawn step by step.
fn walk(protocol: &Protocol, seed: u64) -> Vec<(Action, World)> {
    let mut world = World::new();
    let mut trace = Vec::new();
    let mut actions = Vec::new();
    for draw in noise(seed, STEPS_MAX) {
        actions.clear();
        protocol.actions(&world, &mut actions);
        if actions.is_empty() {
            break;
        }
        let action = actions[usize::from(draw) % actions.len()];
        if let Some(next) = protocol.next_state(&world, action) {
            world = next;
            trace.push((action, world));
        }
    }
    trace
}

/// A shortest trace that loses data under broken rules.
fn losing(breaks: impl FnOnce(&mut Rules)) -> Vec<(Action, World)> {
    let protocol = Protocol::new(1, 1, 1).without_repacking().with(breaks);
    let path = protocol.checker().spawn_bfs().join().discovery(NOTHING_LOST).expect("it loses");
    let states = path.clone().into_states().into_iter().skip(1);
    path.into_actions().into_iter().zip(states).collect()
}

#[test]
#[expect(clippy::print_stderr, reason = "says what the traces met")]
fn f070_the_real_writer_takes_the_steps_of_the_model_and_loses_nothing() {
    let stage = Stage::new();
    let expiry = |rules: &mut Rules| rules.expiry = Expiry::VoidIfOkAndRechecked;
    let protocols = [
        Protocol::new(1, 2, 1),
        Protocol::new(1, 2, 1).without_crash_steps(),
        Protocol::new(1, 1, 2).with(expiry).without_crash_steps(),
    ];
    // Acknowledged, refused, rescued, given up, died with something on its way.
    let mut met = [0; 5];
    let mut replayed = 0;
    for (number, protocol) in (0..).zip(protocols) {
        let protocol = protocol.without_repacking();
        for seed in 0..SEEDS {
            let trace = walk(&protocol, number * SEEDS + seed);
            if !is_telling(&trace) {
                continue;
            }
            let outcome = replay(&stage, &trace);
            let what = || trace.iter().map(|step| format!("\n{}", step.0)).collect::<String>();
            assert!(!outcome.strayed || outcome.gave_up, "it strayed on{}", what());
            let rescued = |step: &(Action, World)| matches!(step.0, Action::Rescue { .. });
            let crashed = |step: &(Action, World)| matches!(step.0, Action::CrashWriter { .. });
            replayed += 1;
            met[0] += usize::from(outcome.acked == Some(true));
            met[1] += usize::from(outcome.acked == Some(false) && !outcome.gave_up);
            met[2] += usize::from(trace.iter().any(rescued) && !outcome.gave_up);
            met[3] += usize::from(outcome.gave_up);
            met[4] += usize::from(trace.iter().any(crashed));
        }
    }
    eprintln!("{replayed} traces met {met:?}");
    assert!(met.iter().all(|count| *count > 0), "of {replayed} traces: {met:?}");
}

#[test]
fn f070_where_a_writer_without_b4_loses_its_packs_the_real_one_rescues_them() {
    let trace = losing(|rules| rules.b4_relists = false);
    let outcome = replay(&Stage::new(), &trace);
    assert!(outcome.strayed, "the real one looks");
}

#[test]
fn f070_where_a_writer_without_b6_is_acknowledged_on_deleted_packs_the_real_one_is_not() {
    let trace = losing(|rules| rules.expiry = Expiry::VoidIfOk);
    let outcome = replay(&Stage::new(), &trace);
    assert_eq!((outcome.strayed, outcome.acked), (true, Some(false)));
}

/// Whether somebody came between a backup's steps, or it died.
fn is_telling(trace: &[(Action, World)]) -> bool {
    let begun = trace.iter().position(|step| matches!(step.0, Action::Begin { .. }));
    trace[begun.unwrap_or(trace.len())..].iter().any(|(action, _)| {
        use Message::{Condemn, DeletePack, Expire};
        matches!(action, Action::Land(Condemn(_) | DeletePack(_) | Expire(_)))
    })
}

/// Traces drawn from each protocol; most tell something.
const SEEDS: u64 = 40;
/// No trace is longer.
const STEPS_MAX: usize = 60;
