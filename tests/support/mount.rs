//! A small file system of one's own. Needs root.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A tmpfs, unmounted with this.
pub(crate) struct Tmpfs {
    dir: TempDir,
}

impl Tmpfs {
    /// Mounts one with options such as `size=1m` or `nr_inodes=20`.
    pub(crate) fn new(options: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", options, "none"]).arg(dir.path()));
        Self { dir }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Changes its options; says whether that was possible.
    pub(crate) fn remount(&self, options: &str) -> bool {
        let options = format!("remount,{options}");
        let done = Command::new("mount").args(["-o", &options]).arg(self.path()).output();
        done.expect("mount runs").status.success()
    }

    /// Bytes and inodes in use.
    pub(crate) fn used(&self) -> (u64, u64) {
        let stat = rustix::fs::statvfs(self.path()).expect("a file system");
        ((stat.f_blocks - stat.f_bfree) * stat.f_frsize, stat.f_files - stat.f_ffree)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        run(Command::new("umount").arg("--lazy").arg(self.path()));
    }
}

fn run(command: &mut Command) {
    let done = command.output().expect("it runs");
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
}
