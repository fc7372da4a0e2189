//! Repositories on file systems that limit, lack or lose something.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::{Mounted, met, run, text};
use crate::support::machine::{Machine, arg, assert_success, feed, said, signal, wait_until};
use crate::support::repo::{copy, make_tree, noise, scratch};
use crate::support::tree::{describe, diff};

/// A machine whose repository lies below a folder.
fn machine_at(folder: &Path) -> Machine {
    let mut machine = Machine::new();
    machine.repository = folder.join("r");
    vault(&machine, &["-q", "init", arg(&machine.repository)]);
    machine
}

fn vault(machine: &Machine, args: &[&str]) {
    assert_success(&machine.vault(args).output().expect("vault runs"));
}

fn listed(machine: &Machine) -> usize {
    let output = machine.vault(&["snapshots", "--json"]).output().expect("vault runs");
    assert_success(&output);
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    document["snapshots"].as_array().expect("a list").len()
}

/// Saves, checks all bytes, restores and compares.
fn goes_round(machine: &Machine, dir: &Path) {
    vault(machine, &["-q", "backup", arg(dir)]);
    vault(machine, &["-q", "check", "--read-data"]);
    let target = scratch();
    let place = target.path().join("target");
    vault(machine, &["-q", "restore", "latest", "--target", arg(&place)]);
    assert_eq!(diff(&describe(dir), &describe(&place)), [""; 0]);
}

/// A tree that any restore without the owner's rights brings back.
fn plain_tree() -> tempfile::TempDir {
    let dir = scratch();
    make_tree(dir.path());
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(dir.path().join("none"), mode).expect("set");
    dir
}

#[test]
#[ignore = "needs btrfs"]
fn f020_whenever_a_quota_is_used_up_the_backup_fails_clean_and_goes_on_with_more() {
    let image = scratch();
    let image = image.path().join("image");
    std::fs::File::create(&image).and_then(|file| file.set_len(320 << 20)).expect("made");
    let _ = run(&["mkfs.btrfs", "-q", text(&image)]);
    let disk = Mounted::image(&image);
    let sub = disk.join("sub");
    let _ = run(&["btrfs", "subvolume", "create", text(&sub)]);
    let _ = run(&["btrfs", "quota", "enable", text(disk.path())]);
    let machine = machine_at(&sub);
    let dir = plain_tree();
    vault(&machine, &["-q", "backup", arg(dir.path())]);
    std::fs::write(dir.path().join("more"), noise(9, 8 << 20)).expect("written");
    let _ = run(&["sync", "-f", text(disk.path())]);
    let limit = |size: &str| run(&["btrfs", "qgroup", "limit", size, text(&sub)]);
    let (mut full, mut told) = (0, String::new());
    // What is there takes less than 4 MiB, all of it together less than 16.
    for mib in (4..12).map(|mib| mib.to_string()) {
        let _ = limit(&format!("{mib}M"));
        let output = machine.vault(&["-q", "backup", arg(dir.path())]).output();
        let output = output.expect("vault runs");
        if output.status.success() {
            break;
        }
        told = said(&output);
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains("no space left in"), "{told}");
        assert_eq!(listed(&machine), 1, "what is there can be read");
        machine.assert_tidy();
        full += 1;
    }
    // The disk itself has room: it was the quota.
    let stat = rustix::fs::statvfs(disk.path()).expect("a file system");
    assert!(stat.f_bavail * stat.f_frsize > 64 << 20);
    assert!(full > 2, "{full}: {told}");
    let _ = limit("none");
    goes_round(&machine, dir.path());
    met(&format!("the quota was used up {full} times"));
}

#[test]
#[ignore = "needs FUSE and exfat-fuse"]
fn f033_a_file_system_without_case_and_links_holds_a_repository() {
    let image = scratch();
    let image = image.path().join("image");
    std::fs::File::create(&image).and_then(|file| file.set_len(128 << 20)).expect("made");
    let _ = run(&["mkfs.exfat", text(&image)]);
    let device = run(&["losetup", "--find", "--show", text(&image)]);
    let disk = Mounted::by(&["mount.exfat-fuse", device.trim()]);
    // It goes when nothing uses it any more.
    let _ = run(&["losetup", "--detach", device.trim()]);
    let (lower, upper) = (disk.join("name"), disk.join("NAME"));
    std::fs::write(&lower, "one").expect("written");
    assert_eq!(std::fs::read(&upper).expect("the same file"), b"one");
    let linked = std::fs::hard_link(&lower, disk.join("other"));
    let refusal = linked.expect_err("there are no links").raw_os_error();
    std::fs::remove_file(lower).expect("removed");
    let machine = machine_at(disk.path());
    let dir = plain_tree();
    goes_round(&machine, dir.path());
    std::fs::write(dir.path().join("big"), noise(77, 1 << 20)).expect("written");
    goes_round(&machine, dir.path());
    vault(&machine, &["-q", "forget", "--keep-last", "1", "--yes"]);
    vault(&machine, &["-q", "prune", "--grace", "0s", "--max-unused", "0%"]);
    goes_round(&machine, dir.path());
    met(&format!("exfat by FUSE: names without case, links refused with errno {refusal:?}"));
}

/// An sshfs of a folder of the tests' own server.
struct Sshfs {
    server: Child,
    at: tempfile::TempDir,
    config: String,
}

impl Sshfs {
    fn of(folder: &Path, config: &str) -> Self {
        let at = tempfile::tempdir().expect("a directory");
        let from = format!("127.0.0.1:{}", text(folder));
        let words = ["-f", "-F", config, &from, text(at.path())];
        let server = Command::new("sshfs").args(words).spawn().expect("sshfs runs");
        let mounted = || Command::new("mountpoint").arg("-q").arg(at.path()).status();
        wait_until("it is mounted", || mounted().is_ok_and(|status| status.success()));
        Self { server, at, config: config.to_owned() }
    }

    /// Ends the connection: the one ssh that uses this configuration, which sshfs has let go of.
    fn drop_link(&self) {
        let ssh = run(&["pgrep", "-f", &format!("^ssh .*-F{} .*sftp$", self.config)]);
        let mut ssh = ssh.split_whitespace().map(|pid| pid.parse().expect("a number"));
        signal(ssh.next().expect("ssh runs"), rustix::process::Signal::KILL);
        assert_eq!(ssh.next(), None, "there is one");
    }
}

impl Drop for Sshfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.at.path()).status();
        let _ = self.server.wait();
    }
}

#[test]
#[ignore = "needs sshfs and the server of tests/parts/sftp.sh"]
#[expect(clippy::disallowed_methods, reason = "the server is named by the environment")]
fn f034_when_sshfs_loses_its_link_the_backup_fails_clean_and_the_next_goes_on() {
    let variable = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
    let config = variable("VAULT_TEST_SFTP_CONFIG");
    let folder = scratch();
    let mut machine = Machine::new();
    let local = machine.repository.clone();
    let dir = plain_tree();
    copy(&local, &folder.path().join("r"));
    let mut drops = 0;
    for packs in [0, 1, 2] {
        let far = Sshfs::of(folder.path(), &config);
        machine.repository = far.at.path().join("r");
        vault(&machine, &["-q", "backup", arg(dir.path())]);
        let before = machine.packs();
        let snapshots = listed(&machine);
        let args = ["--memory", "64MiB", "--no-progress", "backup", "stdin:stream"];
        let mut child = machine.vault(&args).stdin(Stdio::piped()).spawn().expect("vault runs");
        let feeder = feed(&mut child, u64::MAX, true);
        wait_until("packs are stored", || machine.packs() > before + packs);
        far.drop_link();
        let ended = {
            wait_until("it ends", || child.try_wait().expect("it can be asked").is_some());
            drop(feeder);
            child.wait_with_output().expect("ended")
        };
        assert!([Some(1), Some(16)].contains(&ended.status.code()), "{}", said(&ended));
        assert!(!said(&ended).contains("panicked"), "{}", said(&ended));
        drops += 1;
        drop(far);
        let far = Sshfs::of(folder.path(), &config);
        machine.repository = far.at.path().join("r");
        assert_eq!(listed(&machine), snapshots, "it was not acknowledged");
        goes_round(&machine, dir.path());
    }
    met(&format!("the link was dropped {drops} times"));
}
