//! Sixteen programs at once on one repository, of which many are killed at any moment. It looks at
//! the clock, so it is no part of every run of the tests.

use std::process::Child;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::machine::{Machine, arg, said, signal};
use crate::support::repo::{noise, scratch};

/// Programs at a time.
const PROGRAMS: usize = 16;

/// Directories that are saved.
const DIRS: usize = 6;

#[test]
#[ignore = "a minute; VAULT_THRASH_ROUNDS says how many rounds"]
#[expect(clippy::print_stderr, reason = "says what it met")]
#[expect(clippy::disallowed_methods, reason = "whoever runs it says how long")]
fn f072_sixteen_programs_killed_at_any_moment_leave_nothing_that_cannot_be_read() {
    let rounds = std::env::var("VAULT_THRASH_ROUNDS").map_or(20, |n| n.parse().expect("a number"));
    let machine = Machine::new();
    let dirs: Vec<_> = (0..DIRS).map(|_| scratch()).collect();
    let (mut killed, mut ended, mut acked) = (0, 0, Vec::new());
    for round in 0..rounds {
        for (number, dir) in (0..).zip(&dirs) {
            let file = dir.path().join(format!("{}", round % 4));
            std::fs::write(file, noise(round / 3 + number % 2, 400_000)).expect("written");
        }
        let start = |number: usize| -> Child {
            let args: Vec<&str> = match number {
                0 | 1 => vec!["-q", "prune", "--grace", "0s"],
                2 => vec!["-q", "check"],
                3 => vec!["-q", "snapshots"],
                number => vec!["-q", "backup", arg(dirs[number % DIRS].path())],
            };
            machine.vault(&args).spawn().expect("vault runs")
        };
        let children: Vec<Child> = (0..PROGRAMS).map(start).collect();
        for (number, mut child) in children.into_iter().enumerate() {
            let draw = noise(round * 100 + number as u64, 2);
            if draw[0].is_multiple_of(2) {
                std::thread::park_timeout(Duration::from_millis(u64::from(draw[1] / 8)));
                if child.try_wait().expect("it can be asked").is_none() {
                    signal(child.id(), Signal::KILL);
                    killed += 1;
                }
            }
            let output = child.wait_with_output().expect("it ends");
            ended += usize::from(output.status.success());
            assert_ne!(output.status.code(), Some(101), "O6: {}", said(&output));
            if number > 3 && output.status.success() {
                acked.push(String::from_utf8(output.stdout).expect("text").trim().to_owned());
            }
        }
        let check = machine.vault(&["check", "--read-data"]).output().expect("vault runs");
        assert!(check.status.success(), "O2, round {round}: {}", said(&check));
        let listed = machine.vault(&["snapshots", "--json"]).output().expect("vault runs");
        let listed = String::from_utf8(listed.stdout).expect("JSON");
        let lost = acked.iter().filter(|id| !listed.contains(id.as_str())).count();
        assert_eq!(lost, 0, "O1, round {round}");
    }
    assert!(killed > 0 && !acked.is_empty(), "{killed} killed, {} acknowledged", acked.len());
    let acked = acked.len();
    eprintln!("met: {rounds} rounds: {ended} ended well, {killed} killed, {acked} acknowledged");
}
