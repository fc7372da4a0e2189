//! The fault harness: several hosts do whatever they like with one repository, at the same time,
//! over a store that fails as its seed says; and a reference model says what must hold.
//!
//! - `draw`: numbers from a seed; `plot`: small trees, as saved and as they must come back;
//! - `actor`: what a host does, by the library's own verbs; `stage`: the store, the time, and the
//!   order in which calls are let go, one at a time;
//! - `world`: what was promised, and the oracles; `run`: one run, from a seed to its end.
//!
//! `VAULT_DRIVER_SEED=17` repeats one run and shows it; `VAULT_DRIVER_RUNS` says how many are made
//! by the test that is ignored otherwise. `docs/testing.md` has the figures.

#![expect(clippy::cast_possible_truncation, reason = "numbers drawn here are small")]

mod actor;
mod draw;
mod plot;
mod run;
mod stage;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};

use self::run::{Tally, run, run_with};

/// Runs that every run of the tests makes.
const RUNS: u64 = 200;

/// Makes the runs of these seeds, on two threads.
fn run_all(seeds: std::ops::Range<u64>) -> Tally {
    let next = AtomicU64::new(seeds.start);
    let part = || {
        let mut tally = Tally::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return tally;
            }
            tally.add(&run(seed));
        }
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(part);
        let mut tally = part();
        tally.add(&other.join().expect("a run that failed says so itself"));
        tally
    })
}

#[expect(clippy::disallowed_methods, reason = "whoever repeats a run says which")]
fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

#[test]
#[expect(clippy::print_stderr, reason = "says what the runs met")]
fn f071_whatever_hosts_do_at_once_and_whatever_fails_nothing_acknowledged_is_lost() {
    let tally = match number("VAULT_DRIVER_SEED") {
        Some(seed) => run(seed),
        None => run_all(0..RUNS),
    };
    eprintln!("{tally}");
    if number("VAULT_DRIVER_SEED").is_none() {
        tally.assert_telling();
    }
}

#[test]
#[ignore = "minutes; VAULT_DRIVER_RUNS=10000"]
#[expect(clippy::print_stderr, reason = "says what the runs met")]
fn f071_many_runs() {
    let runs = number("VAULT_DRIVER_RUNS").unwrap_or(10_000);
    let from = number("VAULT_DRIVER_FROM").unwrap_or(0);
    let tally = run_all(from..from + runs);
    eprintln!("{tally}");
    tally.assert_telling();
}

#[test]
fn f080_a_host_whose_clock_is_ten_years_off_loses_nothing() {
    for seed in 500..512 {
        for years in [10, -10] {
            let _ = run_with(seed, years);
        }
    }
}
