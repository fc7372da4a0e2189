//! Where actors meet: one store, one clock, and one call at a time, in an order that is drawn.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use volume_vault::clock::{Clock, Time};
use volume_vault::entry::EntryPath;
use volume_vault::id::SnapshotId;
use volume_vault::store::{
    Call, CallKind, Fault, FaultPlan, FaultStore, Lens, Listed, MemoryStore, Store,
};

use super::actor::{Deed, Outcome, act};
use super::draw::{Draw, For};
use crate::support::gate::{Arrival, Event, Gate};

/// O6: nothing here takes so long unless it hangs.
const DEADLINE: Duration = Duration::from_secs(120);

/// Lines that are shown of what led to a failure.
const TRACE_MAX: usize = 4000;

/// The host whose clock is off, as the folder of its things is called.
pub(super) const OFF: &str = "off";

/// Listings lag by less than this, in seconds: half of what is waited between condemning and
/// deleting.
pub(super) const LAG: i64 = 12 * 3600;

/// What the store does to those who use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weather {
    /// Nothing. Others are there at the same time.
    Calm,
    /// Calls fail, replies are lost, what was sent arrives late or twice, actors are killed.
    Rough,
    /// As rough, and lists lag.
    Lagging,
    /// As rough, and packs and segments are acknowledged that are not there or cut short.
    Lying,
}

/// What became of one deed.
pub(super) struct Ended {
    pub(super) deed: Deed,
    pub(super) outcome: Outcome,
    /// What of a tree could not be read.
    pub(super) lost: Vec<EntryPath>,
    /// Its snapshot, if it came to sending its record.
    pub(super) snapshot: Option<SnapshotId>,
    /// Whether it came to saying anything of a snapshot.
    pub(super) said: bool,
    /// Calls that were disturbed.
    pub(super) hits: usize,
    /// Whether it was told that something is stored that is not.
    pub(super) deceived: bool,
}

/// A deed under way.
struct Actor {
    store: Arc<FaultStore<MemoryStore>>,
    held: Vec<Arrival>,
    /// Calls let go that have not ended.
    at_work: usize,
    ended: bool,
    calls: u64,
    snapshot: Option<SnapshotId>,
    said: bool,
}

/// One store, and the time there.
pub(super) struct Stage {
    pub(super) seed: u64,
    pub(super) weather: Weather,
    pub(super) store: MemoryStore,
    pub(super) now: i64,
    /// What happened, for whoever looks at a failure.
    pub(super) trace: Vec<String>,
    pub(super) hits: usize,
    /// Of every so many calls one goes on with another actor.
    pub(super) burst: u64,
    /// Of every so many calls one is disturbed.
    pub(super) calm: u64,
    /// So many seconds the clock of one host is off, which others are not.
    pub(super) skew: i64,
    turn: u64,
    /// What was deleted of late, and when.
    gone: Arc<Mutex<Vec<(Listed, i64)>>>,
    /// Stores over which something is still under way.
    posts: Vec<Arc<FaultStore<MemoryStore>>>,
}

impl Stage {
    pub(super) fn new(seed: u64, weather: Weather, store: MemoryStore) -> Self {
        let mut draw = Draw::new(seed, For::Plan, [1, 0, 0]);
        let mut stage = Self {
            seed,
            weather,
            store,
            now: 1_700_000_000,
            trace: Vec::new(),
            hits: 0,
            burst: draw.of(&[2, 6, 24]),
            calm: draw.of(&[15, 40, 120]),
            skew: 0,
            turn: 0,
            gone: Arc::default(),
            posts: Vec::new(),
        };
        stage.pass(0);
        stage
    }

    /// Time passes, in seconds.
    pub(super) fn pass(&mut self, seconds: i64) {
        self.now += seconds;
        self.store.set_clock(Clock::Fixed(self.time()));
    }

    pub(super) fn time(&self) -> Time {
        Time::new(self.now, 0)
    }

    /// All that is under way arrives.
    pub(super) fn land_all(&mut self) {
        for post in std::mem::take(&mut self.posts) {
            while let Some(name) = post.land(0) {
                self.trace.push(format!("    lands: {name}"));
            }
        }
    }

    /// Several hosts do one thing each at the same time. Gives what became of it, in their order.
    pub(super) fn play(&mut self, round: u64, deeds: Vec<(Deed, PathBuf)>) -> Vec<Ended> {
        let (sender, events) = channel();
        let mut actors = Vec::new();
        let ended = std::thread::scope(|scope| {
            let mut threads = Vec::new();
            for (number, (deed, home)) in deeds.into_iter().enumerate() {
                self.trace.push(format!("  {number}: {deed}"));
                let gate = Arc::new(Gate { actor: number, events: sender.clone() });
                let plan = FaultPlan::directed(gate.clone());
                let store = Arc::new(FaultStore::new(self.store.clone(), plan));
                actors.push(Actor::new(store.clone()));
                let skew = if home.ends_with(OFF) { self.skew } else { 0 };
                let now = Time::new(self.now + skew, 0);
                threads.push(scope.spawn(move || {
                    let lost = Arc::default();
                    let last = LastWord(gate);
                    let outcome = act(&deed, store, &home, now, &lost);
                    drop(last);
                    let lost = std::mem::take(&mut *lost.lock().expect("nobody panics"));
                    (deed, outcome, lost)
                }));
                // One after the other, so that each begins where the seed says.
                wait(&events, &mut actors, number);
            }
            drop(sender);
            self.schedule(round, &events, &mut actors);
            let ends = threads.into_iter().map(|thread| thread.join().expect("O6: no panic"));
            ends.collect::<Vec<_>>()
        });
        ended.into_iter().zip(actors).map(|(end, actor)| self.end(end, actor)).collect()
    }

    fn end(
        &mut self,
        (deed, outcome, lost): (Deed, Outcome, Vec<EntryPath>),
        actor: Actor,
    ) -> Ended {
        let hits = actor.store.hits();
        self.hits += hits.len();
        let deceived = |hit: &volume_vault::store::Hit| match hit.fault {
            Fault::Lie => true,
            Fault::Truncate(_) => hit.call.kind == CallKind::Put,
            _ => false,
        };
        let ended = Ended {
            lost,
            snapshot: actor.snapshot,
            said: actor.said,
            hits: hits.len(),
            deceived: hits.iter().any(deceived),
            deed,
            outcome,
        };
        if actor.store.late() > 0 {
            self.posts.push(actor.store);
        }
        let how = match &ended.outcome {
            Outcome::Acked { id, .. } => format!("acknowledged {}", id.short()),
            Outcome::Done => "done".to_owned(),
            Outcome::Read(_) => "read".to_owned(),
            Outcome::Failed(why) => format!("failed: {why}"),
        };
        self.trace.push(format!("  {}: {how}", ended.deed));
        ended
    }

    fn schedule(&mut self, round: u64, events: &Receiver<Event>, actors: &mut [Actor]) {
        let mut current = 0;
        loop {
            let live: Vec<usize> =
                (0..actors.len()).filter(|number| !actors[*number].held.is_empty()).collect();
            if live.is_empty() {
                return;
            }
            self.turn += 1;
            let mut draw = Draw::new(self.seed, For::Turn, [self.turn, 0, 0]);
            if !live.contains(&current) || draw.once_in(self.burst) {
                current = draw.of(&live);
            }
            self.meanwhile(&mut draw);
            let actor = &mut actors[current];
            let arrival = actor.next();
            let place = [round, current as u64, actor.calls];
            let fault = self.fault(&arrival.call, &mut Draw::new(self.seed, For::Call, place));
            let shown = fault.as_ref().map_or(String::new(), |fault| format!(" {fault:?}"));
            self.trace.push(format!("    {current}: {}{shown}", arrival.call));
            self.note(&arrival.call);
            actor.at_work += 1;
            // Whoever has given up since does not wait any more.
            let _ = arrival.go.send(fault);
            wait(events, actors, current);
        }
    }

    /// What happens between two calls.
    fn meanwhile(&mut self, draw: &mut Draw) {
        if !self.posts.is_empty() && draw.once_in(6) {
            let number = draw.below(self.posts.len() as u64) as usize;
            let post = &self.posts[number];
            let landed = post.land(draw.below(post.late().max(1) as u64) as usize);
            self.trace.push(format!("    lands: {landed:?}"));
            if post.late() == 0 {
                let _ = self.posts.remove(number);
            }
        }
        if self.weather == Weather::Lagging && draw.once_in(8) {
            self.pass(draw.below(LAG as u64 / 3) as i64);
        }
    }

    /// Remembers what is about to be deleted: lists may show it for a while.
    fn note(&self, call: &Call) {
        if call.kind == CallKind::Delete && self.weather == Weather::Lagging {
            let folder = call.target.split('/').next().unwrap_or_default();
            let listed = self.store.list(folder).expect("lists").into_iter();
            let mut gone = self.gone.lock().expect("nobody panics");
            gone.extend(listed.filter(|o| o.name.as_str() == call.target).map(|o| (o, self.now)));
        }
    }

    fn fault(&self, call: &Call, draw: &mut Draw) -> Option<Fault> {
        let is_write = matches!(call.kind, CallKind::Put | CallKind::Delete);
        if self.weather == Weather::Lagging && call.kind == CallKind::List {
            return Some(Fault::Show(self.lens(draw)));
        }
        if self.weather == Weather::Lying && is_write && draw.once_in(12) {
            let is_pack = call.target.starts_with("packs/") && call.kind == CallKind::Put;
            let is_record = ["snapshots/", "forget/"].iter().any(|at| call.target.starts_with(at));
            match is_pack && draw.once_in(2) {
                true => return Some(Fault::Truncate(1 + draw.below(call.bytes.max(2) - 1))),
                false if !is_record => return Some(Fault::Lie),
                false => {}
            }
        }
        if self.weather == Weather::Calm || !draw.once_in(self.calm) {
            return None;
        }
        let is_read = matches!(call.kind, CallKind::Get | CallKind::GetRange);
        Some(match draw.below(if is_write { 7 } else { 4 }) {
            0 => Fault::StopBefore,
            1 => Fault::StopAfter,
            2 => Fault::FailBefore,
            3 if is_read => Fault::Truncate(1 + draw.below(64)),
            3 | 4 => Fault::FailAfter,
            5 => Fault::Late,
            _ => Fault::Again,
        })
    }

    /// A list that misses some of what came of late and shows some of what went of late.
    fn lens(&self, draw: &mut Draw) -> Lens {
        let (now, gone, draw) = (self.now, self.gone.clone(), Mutex::new(draw.clone()));
        Arc::new(move |mut listed: Vec<Listed>| {
            let mut draw = draw.lock().expect("nobody panics");
            let folder = |o: &Listed| o.name.as_str().split('/').next().map(str::to_owned);
            let shown = listed.first().and_then(folder);
            listed.retain(|object| object.modified.seconds <= now - LAG || draw.once_in(2));
            for (object, at) in gone.lock().expect("nobody panics").iter() {
                let fits = shown.is_some() && folder(object) == shown;
                let known = listed.iter().any(|other| other.name == object.name);
                if fits && !known && *at > now - LAG && draw.once_in(2) {
                    listed.push(object.clone());
                }
            }
            listed.sort_by(|left, right| left.name.cmp(&right.name));
            listed
        })
    }
}

/// Says that an actor has ended, also if it panics.
struct LastWord(Arc<Gate>);

impl Drop for LastWord {
    fn drop(&mut self) {
        let _ = self.0.events.send(Event::Ended(self.0.actor));
    }
}

impl Drop for Stage {
    #[expect(clippy::print_stderr, reason = "a failure is of use only with how it came about")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            let from = self.trace.len().saturating_sub(TRACE_MAX);
            eprintln!("{}", self.trace[from..].join("\n"));
            eprintln!("VAULT_DRIVER_SEED={} repeats this ({:?})", self.seed, self.weather);
        }
    }
}

impl Actor {
    fn new(store: Arc<FaultStore<MemoryStore>>) -> Self {
        let (held, at_work, calls) = (Vec::new(), 0, 0);
        Self { store, held, at_work, ended: false, calls, snapshot: None, said: false }
    }

    /// The call that is to go on. Of several that wait at once, the order is that of their kind
    /// and folder, not of threads.
    fn next(&mut self) -> Arrival {
        self.held.sort_by_key(|arrival| {
            let folder = arrival.call.target.split('/').next().map(str::to_owned);
            (arrival.call.kind, folder, arrival.call.bytes)
        });
        let arrival = self.held.remove(0);
        self.calls += 1;
        if arrival.call.kind == CallKind::Put {
            let target = &arrival.call.target;
            let record = target.strip_prefix("snapshots/").and_then(|n| n.strip_suffix(".pending"));
            self.snapshot = record.map(|id| id.parse().expect("an id")).or(self.snapshot);
            self.said |= target.starts_with("forget/");
        }
        arrival
    }
}

/// Waits until an actor has nothing left to do but what waits for its turn.
fn wait(events: &Receiver<Event>, actors: &mut [Actor], number: usize) {
    let is_still = |actor: &Actor| actor.ended || actor.at_work == 0 && !actor.held.is_empty();
    while !is_still(&actors[number]) {
        match events.recv_timeout(DEADLINE) {
            Ok(Event::Arrived(arrival)) => actors[arrival.actor].held.push(arrival),
            Ok(Event::Done(actor)) => actors[actor].at_work -= 1,
            Ok(Event::Ended(actor)) => actors[actor].ended = true,
            Err(_) => {
                // Others that wait come to their end, so that this can be told.
                actors.iter_mut().for_each(|actor| actor.held.clear());
                panic!("O6: actor {number} hangs");
            }
        }
    }
}
