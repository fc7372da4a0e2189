//! A link that loses packets or is slow: the program in a network of its own, a server of the tests
//! on the other side.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread;

use super::{met, run, watched};
use crate::support::machine::{Machine, arg, assert_success};
use crate::support::repo::{make_tree, noise, scratch};
use crate::support::tree::{describe, diff};

/// This side of the link.
const HERE: &str = "10.232.77.1";

/// A namespace with one link to this machine; it goes with this.
struct Link {
    name: String,
    port: u16,
}

impl Link {
    /// A link behind which a server of this machine answers.
    fn to(server: &str) -> Self {
        let name = format!("vault{}", std::process::id());
        let (ours, theirs) = (format!("vh{}", std::process::id()), "inside");
        let _ = run(&["ip", "netns", "add", &name]);
        let mut link = Self { name: name.clone(), port: 0 };
        let peer = ["type", "veth", "peer", "name", theirs, "netns", &name];
        let _ = run(&[&["ip", "link", "add", &ours][..], &peer].concat());
        let _ = run(&["ip", "addr", "add", &format!("{HERE}/30"), "dev", &ours]);
        let _ = run(&["ip", "link", "set", &ours, "up"]);
        let _ = link.inside(&["ip", "addr", "add", "10.232.77.2/30", "dev", theirs]);
        let _ = link.inside(&["ip", "link", "set", theirs, "up"]);
        link.port = forward(server);
        link
    }

    /// Slows what goes to the program and what comes from it.
    fn slow(&self, rate: &str) {
        let shape = ["root", "tbf", "rate", rate, "burst", "16kb", "latency", "400ms"];
        let ours = format!("vh{}", std::process::id());
        let _ = run(&[&["tc", "qdisc", "add", "dev", &ours][..], &shape].concat());
        let _ = self.inside(&[&["tc", "qdisc", "add", "dev", "inside"][..], &shape].concat());
    }

    /// Loses so much of what comes to the program.
    fn lossy(&self, probability: &str) {
        let rule = ["-m", "statistic", "--mode", "random", "--probability", probability];
        let words = [&["iptables", "-A", "INPUT"][..], &rule, &["-j", "DROP"]].concat();
        let _ = self.inside(&words);
    }

    /// Packets that the rule has dropped.
    fn dropped(&self) -> u64 {
        let listed = self.inside(&["iptables", "-L", "INPUT", "-v", "-x", "-n"]);
        let rule = listed.lines().find(|line| line.contains("DROP")).expect("a rule");
        rule.split_whitespace().next().expect("a count").parse().expect("a number")
    }

    /// How often a packet had to wait for the rate.
    fn held(&self) -> u64 {
        let shown = self.inside(&["tc", "-s", "qdisc", "show", "dev", "inside"]);
        let after = shown.split_once("overlimits ").expect("a count").1;
        after.split_whitespace().next().expect("a count").parse().expect("a number")
    }

    fn inside(&self, words: &[&str]) -> String {
        run(&[&["nsenter", &format!("--net=/run/netns/{}", self.name)][..], words].concat())
    }

    /// The program on the other side, with a repository in the bucket.
    fn vault(&self, machine: &Machine, args: &[&str]) -> Command {
        let net = format!("--net=/run/netns/{}", self.name);
        let mut command = machine.under(&["nsenter", &net], args);
        let endpoint = format!("http://{HERE}:{}", self.port);
        let _ = command.env("VAULT_REPO", format!("s3://vault/rare-{}", self.port));
        let _ = command.env("AWS_ENDPOINT_URL", endpoint).env("AWS_REGION", "us-east-1");
        let _ = command.env("AWS_ACCESS_KEY_ID", "key").env("AWS_SECRET_ACCESS_KEY", "secret");
        command
    }

    fn done(&self, machine: &Machine, args: &[&str]) {
        assert_success(&self.vault(machine, args).output().expect("vault runs"));
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let ours = format!("vh{}", std::process::id());
        let _ = Command::new("ip").args(["link", "del", &ours]).status();
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

/// Passes connections to this side of the link on to a server, `http://HOST:PORT`; gives the port.
fn forward(server: &str) -> u16 {
    let to = server.strip_prefix("http://").expect("plain HTTP").to_owned();
    let listener = TcpListener::bind((HERE, 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let _ = thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let Ok(server) = TcpStream::connect(&to) else { continue };
            for (mut from, mut to) in [(&client, &server), (&server, &client)]
                .map(|(a, b)| (a.try_clone().expect("open"), b.try_clone().expect("open")))
            {
                let _ = thread::spawn(move || {
                    let _ = io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Write);
                });
            }
        }
    });
    port
}

#[expect(clippy::disallowed_methods, reason = "the server is named by the environment")]
fn server() -> String {
    std::env::var("VAULT_TEST_S3").expect("tests/parts/s3.sh is up and VAULT_TEST_S3 names it")
}

/// Seven megabytes: a minute's worth.
fn tree() -> tempfile::TempDir {
    let dir = scratch();
    make_tree(dir.path());
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(dir.path().join("none"), mode).expect("set");
    std::fs::write(dir.path().join("more"), noise(5, 4 << 20)).expect("written");
    dir
}

fn restores(link: &Link, machine: &Machine, dir: &Path) {
    let target = machine.path("target");
    link.done(machine, &["-q", "restore", "latest", "--target", arg(&target)]);
    assert_eq!(diff(&describe(dir), &describe(&target)), [""; 0]);
}

#[test]
#[ignore = "minutes; needs network namespaces, iptables and the server of tests/parts/s3.sh"]
fn f063_with_a_third_of_packets_lost_all_ends_well_and_only_takes_longer() {
    let link = Link::to(&server());
    let machine = Machine::new();
    link.done(&machine, &["-q", "init"]);
    link.lossy("0.3");
    // A few kilobytes a second come through.
    let dir = scratch();
    std::fs::write(dir.path().join("file"), noise(5, 60_000)).expect("written");
    link.done(&machine, &["-q", "backup", arg(dir.path())]);
    link.done(&machine, &["-q", "check", "--read-data"]);
    restores(&link, &machine, dir.path());
    let dropped = link.dropped();
    assert!(dropped > 30, "{dropped} packets lost");
    met(&format!("{dropped} packets lost"));
}

#[test]
#[ignore = "minutes; needs network namespaces, tc and the server of tests/parts/s3.sh"]
fn f064_over_a_megabit_a_second_all_ends_well_and_memory_is_bounded() {
    let link = Link::to(&server());
    let machine = Machine::new();
    link.done(&machine, &["-q", "init"]);
    link.slow("1mbit");
    let dir = tree();
    let args = ["--memory", "64MiB", "-q", "backup", arg(dir.path())];
    let (output, most) = watched(link.vault(&machine, &args).spawn().expect("vault runs"));
    assert_success(&output);
    assert!(most > 10_000 && most < 160 << 10, "{most} KiB resident");
    restores(&link, &machine, dir.path());
    let held = link.held();
    assert!(held > 1000, "{held} packets held");
    met(&format!("{held} packets held, {} MiB resident at most", most >> 10));
}
