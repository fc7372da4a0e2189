//! Faults that cost more than every run of the tests may: `tests/rare/run.sh` runs them.
//!
//! Each proves that its fault came about and says on standard error how often (`met: …`), which
//! ends up in `docs/faults.md`.

mod calls;
mod disk;
mod mounts;
mod network;
mod power;
mod virtual_machine;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::time::Duration;

use tempfile::TempDir;

/// Says what a test met.
#[expect(clippy::print_stderr, reason = "goes into the table of faults")]
fn met(text: &str) {
    eprintln!("met: {text}");
}

/// Runs a program that must succeed; gives what it printed.
fn run(words: &[&str]) -> String {
    let output = Command::new(words[0]).args(&words[1..]).output();
    let output = output.unwrap_or_else(|error| panic!("{words:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

/// Waits for a program; gives the most memory that was resident, in KiB.
fn watched(mut child: Child) -> (Output, u64) {
    let mut most = 0;
    let path = format!("/proc/{}/status", child.id());
    while child.try_wait().expect("it can be asked").is_none() {
        let status = std::fs::read_to_string(&path).unwrap_or_default();
        let peak = status.lines().find_map(|line| {
            line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.trim().parse().ok()
        });
        most = most.max(peak.unwrap_or(0));
        std::thread::park_timeout(Duration::from_millis(20));
    }
    (child.wait_with_output().expect("ended"), most)
}

/// A mounted file system, unmounted with this.
struct Mounted(TempDir);

impl Mounted {
    /// Mounts by these words, to which the place is added.
    fn by(words: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let _ = run(&[words, &[text(dir.path())]].concat());
        Self(dir)
    }

    /// The file system in an image.
    fn image(image: &Path) -> Self {
        Self::by(&["mount", "-o", "loop", text(image)])
    }

    fn join(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let gone = |lazy: &[&str]| {
            Command::new("umount").args(lazy).arg(self.0.path()).status().is_ok_and(|s| s.success())
        };
        let _ = gone(&[]) || gone(&["--lazy"]);
    }
}
