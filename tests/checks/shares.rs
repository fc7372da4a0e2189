//! Checks that read a share each come around to every pack.

use std::sync::Arc;

use volume_vault::clock::{Clock, Time};
use volume_vault::event::{Observer, Recorder};
use volume_vault::ops::check::{CheckOptions, CheckReport, Coverage, ReadData, check};
use volume_vault::ops::{Interrupt, OpsError};
use volume_vault::repo::Repository;
use volume_vault::store::{CallKind, Fault, FaultPlan};

use crate::support::repo::{Bench, backup, make_tree, noise, open, scratch};

fn share(
    repo: &Arc<Repository>,
    percent: f64,
    now: i64,
    interrupt: &Interrupt,
) -> Result<CheckReport, OpsError> {
    let observer: Arc<dyn Observer> = Arc::new(Recorder::default());
    let read = if percent < 100.0 { ReadData::Percent(percent) } else { ReadData::All };
    let clock = Clock::Fixed(Time::new(now, 0));
    // So little memory that one thread reads one pack after the other.
    check(repo, &CheckOptions { read, memory: 0, clock }, &observer, interrupt)
}

fn covered(repo: &Arc<Repository>, percent: f64, now: i64) -> (u64, Coverage) {
    let report = share(repo, percent, now, &Interrupt::default()).expect("it checks");
    assert!(report.is_clean());
    (report.packs_read, report.coverage.expect("packs were read"))
}

/// A repository of a dozen packs or more.
fn filled() -> (Bench, tempfile::TempDir) {
    let (bench, dir) = (Bench::new(), scratch());
    make_tree(dir.path());
    for number in 0..8 {
        let path = dir.path().join(format!("more-{number}"));
        std::fs::write(path, noise(number, 900_000)).expect("written");
    }
    let _ = backup(&bench.open(), dir.path()).expect("acknowledged");
    assert!(bench.names("packs").len() >= 8);
    (bench, dir)
}

#[test]
fn a_month_of_days_covers_every_pack_and_those_that_came_meanwhile() {
    let (bench, dir) = filled();
    let repo = bench.open();
    let (mut day, mut read) = (0, 0);
    let complete = loop {
        day += 1;
        assert!(day <= 30, "a month");
        let (packs, coverage) = covered(&repo, 4.0, 1000 + day * 86_400);
        read += packs;
        assert_eq!(coverage.since, Time::new(1000 + 86_400, 0), "the round that began first");
        if coverage.is_complete() {
            break coverage;
        }
        if day == 3 {
            std::fs::write(dir.path().join("new"), noise(99, 2_000_000)).expect("written");
            let _ = backup(&bench.open(), dir.path()).expect("acknowledged");
        }
    };
    assert!(day > 3, "day {day}");
    let packs = bench.names("packs").len() as u64;
    assert_eq!((read, complete.packs, complete.packs_total), (packs, packs, packs));
    assert_eq!(complete.bytes, complete.bytes_total);
    // The next day a new round begins.
    let (_, coverage) = covered(&repo, 4.0, 5_000_000);
    assert_eq!((coverage.packs, coverage.since), (1, Time::new(5_000_000, 0)));
}

#[test]
fn what_was_remembered_is_lost_without_harm_and_all_at_once_ends_a_round() {
    let (bench, _dir) = filled();
    let repo = bench.open();
    let (_, coverage) = covered(&repo, 30.0, 1000);
    let packs = coverage.packs;
    assert_eq!(covered(&repo, 30.0, 2000).1.packs, 2 * packs);
    let state = repo.dirs().state.join("checked");
    for how in ["gone", "rotten"] {
        match how {
            "gone" => std::fs::remove_file(&state).expect("removed"),
            _ => std::fs::write(&state, "no state").expect("written"),
        }
        let (_, coverage) = covered(&repo, 30.0, 3000);
        assert_eq!((coverage.packs, coverage.since), (packs, Time::new(3000, 0)), "{how}");
    }
    // Another host has a round of its own.
    let (_, other) = covered(&bench.other_host().open(), 30.0, 3500);
    assert_eq!((other.packs, other.since), (packs, Time::new(3500, 0)));
    let (read, coverage) = covered(&repo, 100.0, 4000);
    assert!(coverage.is_complete() && read == coverage.packs_total);
    assert_eq!(coverage.since, Time::new(4000, 0));
    // A clock that was set back neither ends a round nor keeps one from beginning.
    for now in [500, 400] {
        let (_, coverage) = covered(&repo, 30.0, now);
        assert_eq!(coverage.since, Time::new(500, 0));
    }
}

#[test]
fn a_share_that_is_interrupted_keeps_what_it_read() {
    let (bench, _dir) = filled();
    let (_, first) = covered(&bench.open(), 1.0, 1000);
    assert_eq!(first.packs, 1);
    let interrupt = Interrupt::default();
    let request = interrupt.clone();
    let stop = Fault::Delay(Arc::new(move |_| request.request()));
    let plan = FaultPlan::none().and(Some(CallKind::GetRange), "packs/", 3..=3, stop);
    let store = bench.disturbed(plan);
    let repo = open(store.clone(), bench.home.path()).expect("opens");
    let error = share(&repo, 90.0, 2000, &interrupt).expect_err("it is interrupted");
    assert!(matches!(error, OpsError::Interrupted), "{error:?}");
    assert_eq!(store.hits().len(), 1);
    let (_, next) = covered(&bench.open(), 1.0, 3000);
    assert_eq!((next.packs, next.since), (1 + 3 + 1, Time::new(1000, 0)));
}
