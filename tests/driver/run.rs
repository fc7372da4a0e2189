//! One run: what its seed makes hosts do, in rounds, and the end at which all must be in order.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tempfile::TempDir;
use volume_vault::clock::{Clock, Time};
use volume_vault::id::SnapshotId;
use volume_vault::store::{MemoryStore, Store};

use super::actor::{Deed, Outcome};
use super::draw::{Draw, For};
use super::plot::Plot;
use super::stage::{Ended, LAG, OFF, Stage, Weather};
use super::world::World;
use crate::support::garden::assert_tidy;
use crate::support::repo::{CANARY, files_below, make, open, scratch};

/// Hosts of a run.
const HOSTS: u64 = 4;

const HOUR: i64 = 3600;

/// A repository without snapshots.
static EMPTY: LazyLock<MemoryStore> = LazyLock::new(|| {
    let store = MemoryStore::new(Clock::Fixed(Time::new(1_600_000_000, 0)));
    make(&store);
    store
});

/// What runs met.
#[derive(Debug, Default)]
pub(super) struct Tally {
    runs: u64,
    acked: u64,
    bytes_acked: u64,
    refused: u64,
    forgotten: u64,
    undone: u64,
    collected: u64,
    read: u64,
    hits: u64,
    damaged: u64,
    deleted: u64,
}

impl Tally {
    pub(super) fn add(&mut self, other: &Self) {
        for (mine, its) in self.all_mut().into_iter().zip(other.all()) {
            *mine += its;
        }
    }

    fn all_mut(&mut self) -> [&mut u64; 11] {
        [
            &mut self.runs,
            &mut self.acked,
            &mut self.bytes_acked,
            &mut self.refused,
            &mut self.forgotten,
            &mut self.undone,
            &mut self.collected,
            &mut self.read,
            &mut self.hits,
            &mut self.damaged,
            &mut self.deleted,
        ]
    }

    fn all(&self) -> [u64; 11] {
        [
            self.runs,
            self.acked,
            self.bytes_acked,
            self.refused,
            self.forgotten,
            self.undone,
            self.collected,
            self.read,
            self.hits,
            self.damaged,
            self.deleted,
        ]
    }

    /// Runs to which nothing happens prove nothing.
    pub(super) fn assert_telling(&self) {
        assert!(self.all().iter().all(|count| *count > 0), "{self}");
    }

    fn note(&mut self, ended: &Ended) {
        self.hits += ended.hits as u64;
        let count = match (&ended.deed, &ended.outcome) {
            (Deed::Backup { .. }, Outcome::Failed(_)) => &mut self.refused,
            (Deed::Backup { .. }, _) | (_, Outcome::Failed(_)) => return,
            (Deed::Forget(_), _) => &mut self.forgotten,
            (Deed::Undo(_), _) => &mut self.undone,
            (Deed::Prune { .. }, _) => &mut self.collected,
            (Deed::Read(_) | Deed::Restore(_), _) => &mut self.read,
        };
        *count += 1;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} runs: {} backups acknowledged ({} bytes, 0 lost), {} not; {} forgets, {} undos, \
             {} collections ({} packs deleted), {} restores; {} calls disturbed, \
             {} objects damaged",
            self.runs,
            self.acked,
            self.bytes_acked,
            self.refused,
            self.forgotten,
            self.undone,
            self.collected,
            self.deleted,
            self.read,
            self.hits,
            self.damaged
        )
    }
}

/// A run under way.
struct Play {
    stage: Stage,
    world: World,
    plots: Vec<Plot>,
    home: TempDir,
    tally: Tally,
}

/// Does the run of a seed. Panics where an oracle does not hold.
pub(super) fn run(seed: u64) -> Tally {
    let years = if seed % 4 == 3 { [10, -10][(seed / 4 % 2) as usize] } else { 0 };
    run_with(seed, years)
}

/// As [`run`], on hosts of which one has a clock so many years off. Where lists lag, what is
/// waited for must be waited for: there it goes right.
pub(super) fn run_with(seed: u64, years: i64) -> Tally {
    let mut draw = Draw::new(seed, For::Plan, [0, 0, 0]);
    let weather = draw.of(&[
        Weather::Calm,
        Weather::Calm,
        Weather::Rough,
        Weather::Rough,
        Weather::Rough,
        Weather::Lagging,
        Weather::Lying,
    ]);
    let mut play = Play {
        stage: Stage::new(seed, weather, EMPTY.copied()),
        world: World::default(),
        plots: (0..HOSTS).map(|host| Plot::new(host, &mut draw)).collect(),
        home: scratch(),
        tally: Tally { runs: 1, ..Tally::default() },
    };
    if weather != Weather::Lagging {
        play.stage.skew = years * 365 * 24 * HOUR;
    }
    for round in 0..3 + draw.below(4) {
        play.round(round);
    }
    play.finish();
    play.tally
}

impl Play {
    /// The home of a host that nobody disturbs.
    fn observer(&self) -> PathBuf {
        self.home(HOSTS)
    }

    /// The folder of a host's things. The clock of the first may be off.
    fn home(&self, host: u64) -> PathBuf {
        self.home.path().join(if host == 0 { OFF.to_owned() } else { host.to_string() })
    }

    /// Some hosts do one thing each, at once; then time passes.
    fn round(&mut self, round: u64) {
        let seed = self.stage.seed;
        let mut draw = Draw::new(seed, For::Round, [round, 0, 0]);
        let mut hosts: Vec<u64> = (0..HOSTS).collect();
        let mut deeds = Vec::new();
        for _ in 0..draw.of(&[1, 2, 2, 3, 3, 4]) {
            let host = hosts.remove(draw.below(hosts.len() as u64) as usize);
            deeds.push((host, self.deed(host, round, &mut draw)));
        }
        self.stage.trace.push(format!("round {round} at {}", self.stage.now));
        let packs = self.packs();
        let deeds = deeds.into_iter().map(|(host, deed)| (deed, self.home(host))).collect();
        let ended = self.stage.play(round, deeds);
        ended.iter().for_each(|ended| self.tally.note(ended));
        self.world.note(&ended, self.stage.weather);
        self.world.assert_holds(&self.stage.store, &self.observer());
        if Draw::new(seed, For::Damage, [round, 0, 0]).once_in(6) {
            self.damage(round);
        }
        let left = self.packs();
        self.tally.deleted += packs.iter().filter(|pack| !left.contains(pack)).count() as u64;
        self.stage.pass(draw.of(&[0, 1, HOUR, 13 * HOUR, 25 * HOUR, 8 * 24 * HOUR]));
    }

    fn packs(&self) -> Vec<String> {
        let listed = self.stage.store.list("packs").expect("lists").into_iter();
        listed.map(|object| object.name.to_string()).collect()
    }

    fn deed(&mut self, host: u64, round: u64, draw: &mut Draw) -> Deed {
        let alive = |promised: bool| {
            let known = self.world.known.iter();
            let fits = known.filter(|(_, known)| known.promised == promised);
            fits.map(|(id, _)| *id).collect::<Vec<SnapshotId>>()
        };
        let (live, other) = (alive(true), alive(false));
        match draw.below(12) {
            4..7 => self.prune(draw),
            7 | 8 if !live.is_empty() => Deed::Forget(draw.of(&live)),
            9 if !other.is_empty() => Deed::Undo(draw.of(&other)),
            10 if !live.is_empty() => Deed::Read(draw.of(&live)),
            11 if !live.is_empty() && draw.once_in(3) => Deed::Restore(draw.of(&live)),
            _ => {
                let mut draw = Draw::new(self.stage.seed, For::Tree, [round, host, 0]);
                let plot = &mut self.plots[host as usize];
                plot.change(&mut draw);
                Deed::Backup { plot: plot.clone(), series: host % 3 }
            }
        }
    }

    fn prune(&self, draw: &mut Draw) -> Deed {
        let day = Duration::from_secs(2 * LAG.unsigned_abs());
        let grace = match self.stage.weather {
            Weather::Lagging => day,
            _ => draw.of(&[Duration::ZERO, Duration::ZERO, Duration::ZERO, day]),
        };
        let expire = draw.of(&[Duration::ZERO, 7 * day]);
        Deed::Prune { grace, expire, max_repack: draw.of(&[None, None, Some(0)]) }
    }

    /// All that is under way arrives, nothing fails any more, and a month passes: then the next
    /// backup of every host succeeds (O5), garbage goes (O3), and all is clean (O2).
    fn finish(&mut self) {
        self.stage.trace.push("the end".to_owned());
        self.stage.land_all();
        self.world.assert_holds(&self.stage.store, &self.observer());
        self.world.assert_clean(&self.stage, &self.observer());
        self.stage.pass(30 * 24 * HOUR);
        self.stage.weather = Weather::Calm;
        self.resolve();
        self.collect(100);
        for host in 0..HOSTS {
            let plot = self.plots[host as usize].clone();
            let _ = self.alone(102 + host, host, Deed::Backup { plot, series: host % 3 });
        }
        // On a host that knows nothing.
        let fresh = scratch();
        self.world.assert_holds(&self.stage.store, fresh.path());
        self.world.assert_clean(&self.stage, fresh.path());
        let repo = open(Arc::new(self.stage.store.clone()), &self.observer()).expect("it opens");
        self.collect(110);
        assert_tidy(&repo);
        self.assert_secret();
        self.tally.acked = self.world.acked as u64;
        self.tally.bytes_acked = self.world.bytes_acked;
    }

    /// Garbage goes. What the first collection spares is moved by the second.
    fn collect(&mut self, round: u64) {
        let (grace, expire) = (Duration::ZERO, Duration::ZERO);
        for number in 0..2 {
            let deed = Deed::Prune { grace, expire, max_repack: None };
            if let Outcome::Failed(why) = &self.alone(round + number, 0, deed).outcome {
                panic!("O5: nothing can be collected: {why}");
            }
        }
    }

    /// The owner forgets what nothing is known of.
    fn resolve(&mut self) {
        let repo = open(Arc::new(self.stage.store.clone()), &self.observer()).expect("it opens");
        let doubtful = self.world.doubtful(&repo, &self.stage.store);
        for (number, id) in (120..).zip(doubtful) {
            let _ = self.alone(number, 0, Deed::Forget(id));
        }
    }

    fn alone(&mut self, round: u64, host: u64, deed: Deed) -> Ended {
        let home = self.home(host);
        let mut ended = self.stage.play(round, vec![(deed, home)]);
        self.tally.note(&ended[0]);
        self.world.note(&ended, self.stage.weather);
        ended.remove(0)
    }

    /// O2: of a copy in which one object is damaged, a check names what that touches and no more;
    /// and a collection there costs nothing else.
    fn damage(&mut self, round: u64) {
        let mut draw = Draw::new(self.stage.seed, For::Damage, [round, 1, 0]);
        let copy = self.stage.store.copied();
        let mut names = copy.names();
        let kinds = ["packs/", "index/", "snapshots/"];
        names.retain(|name| kinds.iter().any(|kind| name.as_str().starts_with(kind)));
        names.retain(|name| !name.as_str().ends_with(".ok"));
        if names.is_empty() {
            return;
        }
        // Names are random; the one that is taken is not the same in every run of a seed.
        let name = draw.of(&names);
        let len = copy.get(&name, u64::MAX).expect("reads").len();
        let at = draw.below(len as u64) as usize;
        let how = draw.below(4);
        match how {
            0 => copy.delete(&name).expect("deleted"),
            1 => assert!(copy.corrupt(&name, |bytes| bytes.truncate(at))),
            2 => assert!(copy.corrupt(&name, |bytes| bytes[at] ^= 1 << draw.below(8))),
            _ => assert!(copy.corrupt(&name, |bytes| bytes[at..].fill(0))),
        }
        self.stage.trace.push(format!("  damage {how} at {at} of {len} bytes of {name}"));
        self.tally.damaged += 1;
        self.world.assert_named(&copy, &self.observer());
    }

    /// O7: neither the store nor any host holds anything in the clear.
    fn assert_secret(&self) {
        let canary = CANARY.as_bytes();
        let holds = |bytes: &[u8]| bytes.windows(canary.len()).any(|window| window == canary);
        for object in self.stage.store.list("").expect("lists") {
            let bytes = self.stage.store.get(&object.name, u64::MAX).expect("reads");
            assert!(!holds(&bytes), "O7: {} holds plaintext", object.name);
        }
        for file in files_below(self.home.path()) {
            let bytes = std::fs::read(self.home.path().join(&file)).expect("reads");
            assert!(!holds(&bytes), "O7: {file:?} holds plaintext");
        }
    }
}
