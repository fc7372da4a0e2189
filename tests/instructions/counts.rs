//! The counts that are written down, what they were made with, and how far off others may be.

use std::path::{Path, PathBuf};
use std::process::Command;

const HEAD: &str = "\
# Instructions of a fixed small backup, see docs/testing.md. Written by
#   cargo nextest run --run-ignored only -E 'test(write_the_counts)'
";

/// With the same compilers counts of equal code differ by less than 0.1 per cent: random bytes,
/// and who waits for whom. Three per cent is far from that and still shows what a change does.
const PERCENT: u64 = 3;

/// Other compilers make other code of the same work.
const PERCENT_OTHER_TOOLS: u64 = 15;

/// The compilers of the program: of Rust, and of C for zstd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tools {
    pub(super) rustc: String,
    pub(super) cc: String,
}

/// Instructions of some verbs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) tools: Tools,
    pub(super) verbs: Vec<(String, u64)>,
}

impl Tools {
    /// Those this test was built with.
    pub(super) fn present() -> Self {
        let rustc = Path::new(env!("CARGO")).with_file_name("rustc");
        let said = said_by(&rustc, "--version");
        let rustc = said.split(' ').nth(1).expect("`rustc <version> (…)`").to_owned();
        Self { rustc, cc: said_by(Path::new("cc"), "-dumpfullversion") }
    }
}

fn said_by(program: &Path, argument: &str) -> String {
    let output = Command::new(program).arg(argument).output().expect("the compiler is here");
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

/// Whether this processor has what the counted paths need.
pub(super) fn has_avx2() -> bool {
    let info = std::fs::read_to_string("/proc/cpuinfo").expect("Linux has it");
    info.split_whitespace().any(|flag| flag == "avx2")
}

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/instructions/counts.txt")
}

impl Counts {
    pub(super) fn read() -> Self {
        Self::parse(&std::fs::read_to_string(file()).expect("the counts are there"))
    }

    pub(super) fn write(&self) {
        std::fs::write(file(), self.to_text()).expect("the counts are written");
    }

    fn to_text(&self) -> String {
        let Tools { rustc, cc } = &self.tools;
        let verbs = self.verbs.iter().map(|(verb, count)| format!("{verb} {count}\n"));
        format!("{HEAD}rustc {rustc}\ncc {cc}\n{}", verbs.collect::<String>())
    }

    fn parse(text: &str) -> Self {
        let mut pairs = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split_once(' ').expect("a name and a value"));
        let mut tool = |wanted| {
            let (name, value) = pairs.next().expect("a tool");
            assert_eq!(name, wanted);
            value.to_owned()
        };
        let tools = Tools { rustc: tool("rustc"), cc: tool("cc") };
        let count = |(verb, count): (&str, &str)| (verb.to_owned(), count.parse().expect("digits"));
        Self { tools, verbs: pairs.map(count).collect() }
    }

    /// Says which counts are off, in either direction.
    pub(super) fn compare(&self, now: &Self) -> Result<(), String> {
        let same = self.tools == now.tools;
        let percent = if same { PERCENT } else { PERCENT_OTHER_TOOLS };
        let mut off = String::new();
        let names = |counts: &Self| counts.verbs.iter().map(|(v, _)| v.clone()).collect::<Vec<_>>();
        if names(self) != names(now) {
            off += "other verbs are counted than are written down\n";
        }
        for ((verb, written), (_, now)) in self.verbs.iter().zip(&now.verbs) {
            let permille = i128::from(*now) * 1000 / i128::from(*written) - 1000;
            if written.abs_diff(*now) > written * percent / 100 {
                off += &format!(
                    "{verb} takes {now} instructions, {written} are written down: {}{}.{} %\n",
                    if permille < 0 { '-' } else { '+' },
                    permille.abs() / 10,
                    permille.abs() % 10,
                );
            }
        }
        if off.is_empty() {
            return Ok(());
        }
        let made = if same { "" } else { "; they were made with other compilers" };
        Err(format!("{off}allowed are {percent} %{made}. If it must be so:\n{HEAD}"))
    }
}

fn counts(rustc: &str, backup: u64) -> Counts {
    let tools = Tools { rustc: rustc.to_owned(), cc: "12.2.0".to_owned() };
    Counts { tools, verbs: vec![("backup".to_owned(), backup), ("check".to_owned(), 5000)] }
}

#[test]
fn a_count_that_is_off_in_either_direction_is_refused() {
    let written = counts("1.95.0", 1_000_000);
    for (count, is_ok) in [(970_000, true), (969_999, false), (1_030_000, true), (1_030_001, false)]
    {
        assert_eq!(written.compare(&counts("1.95.0", count)).is_ok(), is_ok, "{count}");
    }
    for (count, is_ok) in [(850_000, true), (849_999, false), (1_150_000, true), (1_150_001, false)]
    {
        assert_eq!(written.compare(&counts("1.96.0", count)).is_ok(), is_ok, "{count}");
    }
    let mut fewer = written.clone();
    let _ = fewer.verbs.pop();
    assert!(written.compare(&fewer).is_err());
}

#[test]
fn counts_read_as_they_are_written() {
    let written = counts("1.95.0", 7);
    assert_eq!(Counts::parse(&written.to_text()), written);
}
