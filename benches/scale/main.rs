//! What index and tree cost as they grow: time, memory and store, as one JSON document.
//!
//!     cargo bench --bench scale -- [--what index,tree] [--size 10k,1M] [--dir DIR] [--out FILE]
//!
//! Every size is measured in a process of its own, so that no peak of memory is another's. At full
//! size (`--what index --size 100M`, `--what tree --size 5M`) DIR needs 12 GB.

#![expect(clippy::panic, clippy::print_stdout, clippy::print_stderr, reason = "a program to run")]

mod index;
mod tree;
mod world;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

/// Sizes when none are given: a minute.
const SIZES: &str = "10k,100k";

fn main() {
    let options = options();
    let given =
        |name: &str, other: &str| options.get(name).map_or(other, String::as_str).to_owned();
    let dir = PathBuf::from(given("dir", &std::env::temp_dir().display().to_string()));
    if let Some(size) = options.get("child") {
        let size = parse(size);
        let phases = match given("what", "").as_str() {
            "index" => index::measure(&dir, size),
            _ => tree::measure(&dir, size),
        };
        println!("{phases}");
        return;
    }
    let mut found = Vec::new();
    for what in given("what", "index,tree").split(',') {
        for size in given("size", SIZES).split(',') {
            eprintln!("{what} of {size}");
            let phases = run_child(what, size, &dir);
            eprintln!("{phases:#}");
            found.push(json!({ "what": what, "size": parse(size), "phases": phases }));
        }
    }
    let document = format!("{:#}\n", json!({ "scale": found }));
    match options.get("out") {
        Some(path) => std::fs::write(path, document).expect("the report is written"),
        None => print!("{document}"),
    }
}

/// Options as `--name value`; what cargo adds by itself is passed over.
fn options() -> BTreeMap<String, String> {
    let mut options = BTreeMap::new();
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
    while let Some(word) = words.next() {
        let name = word.strip_prefix("--").unwrap_or_else(|| panic!("`{word}` is no option"));
        assert!(["what", "size", "dir", "out", "child"].contains(&name), "`{word}` is unknown");
        let value = words.next().unwrap_or_else(|| panic!("`{word}` needs a value"));
        let _ = options.insert(name.to_owned(), value);
    }
    options
}

/// A number with `k` or `M` behind it.
fn parse(size: &str) -> u64 {
    let (digits, factor) = match size.strip_suffix('M') {
        Some(digits) => (digits, 1_000_000),
        None => size.strip_suffix('k').map_or((size, 1), |digits| (digits, 1_000)),
    };
    let number: u64 = digits.parse().unwrap_or_else(|_| panic!("`{size}` is no size"));
    number * factor
}

fn run_child(what: &str, size: &str, dir: &std::path::Path) -> Value {
    let program = std::env::current_exe().expect("this program has a path");
    let output = Command::new(program)
        .args(["--what", what, "--child", size, "--dir"])
        .arg(dir)
        .stderr(Stdio::inherit())
        .output()
        .expect("it starts");
    assert!(output.status.success(), "{what} of {size}: {}", output.status);
    serde_json::from_slice(&output.stdout).expect("it prints JSON")
}
