//! A virtual machine whose power goes while it backs up and collects.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use super::{Mounted, met, run, text};
use crate::support::machine::{Machine, arg, assert_success, said, signal};
use crate::support::repo::{copy, noise, scratch};

/// What the guest does until its power goes: the source changes, is saved, and every third time
/// all but the two newest are given up and collected.
const SCRIPT: &str = r#"
mount -t ext4 /dev/vda /disk || exit 1
export VAULT_REPO=/disk/repository
for name in DATA CONFIG CACHE STATE; do
  export XDG_${name}_HOME=/disk/$(echo $name | tr A-Z a-z)
done
mkdir -p /src
n=0
while true; do
  n=$((n + 1))
  dd if=/dev/urandom of=/src/file-$((n % 3)) bs=64k count=6 2>/dev/null
  if [ $((n % 3)) = 0 ]; then
    echo "BEGIN forget"
    program -q forget --keep-last 2 --yes || exit 2
    echo "BEGIN prune"
    program -q prune --max-unused 0% --grace 0s || exit 3
    echo "END prune"
  fi
  echo "BEGIN backup"
  id=$(program -q backup /src) || exit 4
  echo "ACK $id"
done
"#;

/// How long a guest may take for one line.
const LINES_MAX: usize = 10_000;

struct Guest {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Guest {
    fn boot(disk: &Path, script: &Path) -> Self {
        let program = env!("CARGO_BIN_EXE_vault");
        let words = ["tests/parts/guest.sh", "boot", text(disk), program, text(script)];
        let mut command = Command::new("bash");
        let _ = command.args(words).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("bash runs");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let mut guest = Self { child, lines };
        let _ = guest.until(|line| line.contains("VM-BEGIN"));
        guest
    }

    fn until(&mut self, is_it: impl Fn(&str) -> bool) -> String {
        for _ in 0..LINES_MAX {
            let line = self.lines.next().expect("the guest goes on").expect("text");
            let line = line.trim_end().to_owned();
            assert!(!line.contains("VM-END"), "{line}");
            if is_it(&line) {
                return line;
            }
        }
        panic!("too many lines");
    }

    /// Pulls the plug; what it had said by then.
    fn cut(mut self) -> Vec<String> {
        signal(self.child.id(), Signal::KILL);
        let _ = self.child.wait().expect("ended");
        self.lines.map_while(Result::ok).map(|line| line.trim_end().to_owned()).collect()
    }
}

#[test]
#[ignore = "minutes; needs qemu and a kernel from apt"]
fn f014_a_virtual_machine_that_loses_its_power_keeps_what_it_has_acknowledged() {
    let machine = Machine::new();
    let files = scratch();
    let (disk, script) = (files.path().join("disk"), files.path().join("script"));
    std::fs::write(&script, SCRIPT).expect("written");
    std::fs::File::create(&disk).and_then(|file| file.set_len(192 << 20)).expect("made");
    let _ = run(&["mkfs.ext4", "-q", "-F", text(&disk)]);
    let mounted = Mounted::image(&disk);
    copy(machine.home.path(), mounted.path());
    drop(mounted);
    let (mut kept, mut amid) = (Vec::<String>::new(), [0, 0]);
    // Each goes on where the one before was cut.
    for (round, verb) in (0_u64..).zip(["backup", "prune", "backup", "prune", "backup", "prune"]) {
        let mut guest = Guest::boot(&disk, &script);
        let mut given_up = Vec::new();
        let mut note = |line: &str, kept: &mut Vec<String>| {
            if let Some(id) = line.strip_prefix("ACK ") {
                kept.push(id.to_owned());
            } else if line == "BEGIN forget" {
                let newest = kept.len().saturating_sub(2);
                given_up.extend(kept.drain(..newest));
            }
        };
        let mut left = 2 + round % 2;
        while left > 0 {
            let line = guest.until(|line| line.starts_with("BEGIN") || line.starts_with("ACK"));
            note(&line, &mut kept);
            left -= u64::from(line == format!("BEGIN {verb}"));
        }
        let pause = u64::from(noise(round, 1)[0]) * 12;
        std::thread::park_timeout(Duration::from_millis(pause));
        let rest = guest.cut();
        rest.iter().for_each(|line| note(line, &mut kept));
        let last = rest.iter().rev().find(|line| !line.is_empty());
        amid[usize::from(verb == "prune")] +=
            usize::from(last.is_none_or(|line| line.starts_with("BEGIN")));
        judge(&disk, &kept);
    }
    assert!(amid[0] > 0 && amid[1] > 0, "cut amid backups and collections: {amid:?}");
    met(&format!(
        "6 cuts, {} amid a backup, {} amid a collection; {} acknowledged snapshots kept",
        amid[0],
        amid[1],
        kept.len()
    ));
}

/// What the disk holds after a cut, as the same host finds it: all that was acknowledged, whole,
/// and room for more.
fn judge(disk: &Path, kept: &[String]) {
    let copied = scratch();
    let image = copied.path().join("image");
    let _ = run(&["cp", "--sparse=always", text(disk), text(&image)]);
    let mounted = Mounted::image(&image);
    let home = scratch();
    copy(mounted.path(), home.path());
    let machine = Machine { repository: home.path().join("repository"), home };
    let output = machine.vault(&["snapshots", "--json"]).output().expect("vault runs");
    assert_success(&output);
    let listed = String::from_utf8_lossy(&output.stdout).into_owned();
    for id in kept {
        assert!(listed.contains(id.as_str()), "{id} was acknowledged: {listed}");
    }
    let check = machine.vault(&["check", "--read-data"]).output().expect("vault runs");
    assert!(check.status.success(), "{}", said(&check));
    let dir = scratch();
    std::fs::write(dir.path().join("file"), "content").expect("written");
    let next = machine.vault(&["-q", "backup", arg(dir.path())]).output().expect("vault runs");
    assert_success(&next);
}
