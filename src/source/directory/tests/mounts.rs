//! Other file systems in the tree.

use super::*;

/// Mounts while it lives.
pub(super) struct Mounted(std::path::PathBuf);

impl Mounted {
    pub(super) fn new(arguments: &[&str], at: std::path::PathBuf) -> Self {
        let status = Command::new("mount").args(arguments).arg(&at).status().expect("mount runs");
        assert!(status.success(), "mount {arguments:?}");
        Self(at)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn mount_points_are_not_entered() {
    let bench = Bench::new();
    for dir in ["bind", "real", "tmpfs"] {
        bench.mkdir(dir);
    }
    bench.write("file", b"below");
    bench.write("real/inside", b"x");
    let real = bench.at("real");
    let _tmpfs = Mounted::new(&["-t", "tmpfs", "none"], bench.at("tmpfs"));
    let _bind = Mounted::new(&["--bind", real.to_str().expect("text")], bench.at("bind"));
    let inside = bench.at("real/inside");
    let _file = Mounted::new(&["--bind", inside.to_str().expect("text")], bench.at("file"));
    bench.write("tmpfs/hidden", b"x");
    assert_eq!(paths(&mut bench.open()), ["", "bind", "real", "real/inside", "tmpfs"]);
    let expected = [
        "bind: is a mount point and was not entered",
        "!file: is a mount point and was not read",
        "tmpfs: is a mount point and was not entered",
    ];
    assert_eq!(bench.warnings(), expected);
}
