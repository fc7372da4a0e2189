//! A row of the fault matrix, and the document that is made of all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use super::rows::ROWS;

/// Whether a row is proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// By tests that carry its number, in every run.
    Tested,
    /// As [`State::Tested`], but for this.
    Partly(&'static str),
    /// By a test that carries its number and that `tests/rare/run.sh` runs.
    Rare,
    /// As [`State::Rare`], but for this.
    RarePartly(&'static str),
    /// Not, and why.
    NotYet(&'static str),
}

/// A fault that must be borne.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub(super) number: u16,
    /// P: in every run of the tests; N, W: now and then.
    pub(super) tier: char,
    pub(super) fault: &'static str,
    /// How it comes about.
    pub(super) injected: &'static str,
    pub(super) state: State,
}

const DOCUMENT: &str = "docs/faults.md";

/// Written by `tests/rare/run.sh`: row, date, commit, result and what was met.
const RUNS: &str = "tests/rare/runs.txt";

const HEAD: &str = "\
# Faults

Made by `tests/faults/row.rs` from the table in `tests/faults/rows.rs` and the names of the \
tests; after a change:

    cargo nextest run --run-ignored only -E 'test(write_the_faults)'

Tier **P** is part of every run of the tests; **N** and **W** are run now and then where \
they cost more:

    bash tests/rare/run.sh N        # or W, or the rows: F-011 F-012

A row counts as a *test* only if the
fault was proven hit: a test that disturbs nothing fails. What the driver (F-071) met stands in \
[testing.md](testing.md#the-driver).
";

/// Test functions, by the number of the row they are for.
fn proofs() -> BTreeMap<u16, BTreeSet<String>> {
    let mut proofs: BTreeMap<u16, BTreeSet<String>> = BTreeMap::new();
    let mut folders = vec![PathBuf::from("src"), PathBuf::from("tests")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the clone has this folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let text = fs::read_to_string(&path).expect("source is text");
                let lines = text.lines().map(str::trim_start);
                let names = lines.filter_map(|line| line.strip_prefix("fn "));
                for name in names.filter_map(|line| line.split('(').next()) {
                    if let Some(number) = row_of(name) {
                        let _ = proofs.entry(number).or_default().insert(name.to_owned());
                    }
                }
            }
        }
    }
    proofs
}

/// The row that a test's name begins or ends with: `f017_…` or `…_f017`.
fn row_of(name: &str) -> Option<u16> {
    let first = name.split('_').next()?;
    let last = name.rsplit('_').next()?;
    [first, last].into_iter().find_map(|part| {
        let digits = part.strip_prefix('f').filter(|digits| digits.len() == 3)?;
        digits.parse().ok()
    })
}

/// What the last run of a row that is run now and then came to.
fn last_run(number: u16) -> String {
    let runs = fs::read_to_string(RUNS).expect("there is a list of runs");
    let row = format!("F-{number:03}");
    let run = runs.lines().find(|line| line.split('|').next() == Some(&row));
    let Some(run) = run else { return "command, **never run**".to_owned() };
    let fields: Vec<&str> = run.splitn(5, '|').collect();
    let [_, date, commit, result, met] = fields[..] else { panic!("{RUNS}: {run}") };
    let met = if met.is_empty() { String::new() } else { format!(": {met}") };
    format!("command, last run {date} at {commit}: {result}{met}")
}

fn document() -> String {
    let proofs = proofs();
    let mut text = HEAD.to_owned();
    let count = |is: fn(State) -> bool| ROWS.iter().filter(|row| is(row.state)).count();
    let tested = count(|state| matches!(state, State::Tested));
    let partly = count(|state| matches!(state, State::Partly(_) | State::RarePartly(_)));
    let commands = count(|state| matches!(state, State::Rare));
    let missing = count(|state| matches!(state, State::NotYet(_)));
    let all = ROWS.len();
    write!(
        text,
        "\nOf {all} rows {tested} are tested, {partly} in part, {commands} by the command above, \
         {missing} not yet.\n\n| # | Tier | Fault | Injected by | State | Tests |\n\
         |---|---|---|---|---|---|\n"
    )
    .expect("text");
    for row in ROWS {
        let state = match row.state {
            State::Tested => "test".to_owned(),
            State::Partly(why) => format!("in part: {why}"),
            State::Rare => last_run(row.number),
            State::RarePartly(why) => format!("in part: {why}; {}", last_run(row.number)),
            State::NotYet(why) => format!("**not yet**: {why}"),
        };
        let tests = proofs.get(&row.number).into_iter().flatten();
        let tests: Vec<String> = tests.map(|name| format!("`{name}`")).collect();
        let Row { number, tier, fault, injected, .. } = row;
        let tests = tests.join(" ");
        writeln!(text, "| F-{number:03} | {tier} | {fault} | {injected} | {state} | {tests} |")
            .expect("text");
    }
    text
}

#[test]
fn every_row_that_claims_a_test_has_one_and_no_other_has() {
    let proofs = proofs();
    let numbers: Vec<u16> = ROWS.iter().map(|row| row.number).collect();
    assert_eq!(numbers, (1..=81).collect::<Vec<u16>>(), "each row once, in order");
    for row in ROWS {
        let has_test = proofs.contains_key(&row.number);
        let is_open = matches!(row.state, State::NotYet(_));
        assert_ne!(has_test, is_open, "F-{:03}: {:?}", row.number, row.state);
    }
    assert_eq!(row_of("f017_a_name"), Some(17));
    assert_eq!(row_of("a_name_f029"), Some(29));
    assert_eq!(row_of("f17_a_name_of_none"), None);
}

#[test]
fn the_document_of_faults_is_what_the_table_makes_of_it() {
    let written = fs::read_to_string(DOCUMENT).expect("the document is there");
    assert!(written == document(), "{DOCUMENT} is out of date: see its head for the command");
}

#[test]
#[ignore = "writes docs/faults.md"]
fn write_the_faults() {
    fs::write(DOCUMENT, document()).expect("written");
}
