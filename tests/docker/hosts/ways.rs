//! Every way to an engine lists, saves and brings back.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use volume_vault::docker::{DockerError, Engine, Environment, Host, VolumeSpec, WhyNot};

use super::super::vault::{Machine, snapshot_of};
use super::super::{TestVolume, engine, noise};
use super::{FAR, Far, NEW, assert_same, filled_volume, fresh_name, made_volume};
use crate::support::tree::{self, Aspect};

/// How an engine is named to the program, beside what the environment says.
struct Way {
    machine: Machine,
    flags: Vec<String>,
    /// Whether its volumes are used in place.
    in_place: bool,
}

impl Way {
    fn json(&self, arguments: &[&str], code: i32) -> Value {
        let flags: Vec<_> = self.flags.iter().map(String::as_str).collect();
        self.machine.json(&[&flags[..], arguments].concat(), code)
    }
}

/// Saves a volume, restores it beside itself, and holds both against each other.
#[track_caller]
fn assert_round_trip(far: Far, way: &Way) {
    let direct = far.engine();
    let volume = filled_volume(&direct);
    let mark = format!("mark={}", volume.info().labels["mark"]);
    let would = way.json(&["backup", "--label", &mark, "--dry-run"], 0);
    assert_eq!(would["would_save"], json!([format!("volume {}", volume.name())]));
    let saved = way.json(&["backup", volume.name()], 0);
    let backup = &saved["backups"][0];
    let method = if way.in_place { "host path" } else { "agent" };
    assert_eq!(
        (&backup["degraded"], &backup["method"]),
        (&json!(false), &json!(method)),
        "{saved}"
    );
    let copy = fresh_name("copy");
    let restored = way.json(&["restore", &snapshot_of(&saved), "--as", &copy], 0);
    assert_eq!(restored["restores"][0]["target"]["volume"], json!(copy));
    let copy = made_volume(&direct, &copy);
    assert_same((&direct, &volume), (&direct, &copy));
    let list = way.machine.json(&["snapshots"], 0);
    assert_eq!(list["snapshots"][0]["host"], json!(direct.info().name), "{list}");
}

fn with_flag(machine: Machine, host: impl Into<String>, in_place: bool) -> Way {
    Way { machine, flags: vec!["--host".into(), host.into()], in_place }
}

/// Adds a context as the docker command would.
fn add_context(machine: &Machine, name: &str, endpoint: &Value, certificates: Option<&Path>) {
    let config = machine.path("home/.docker");
    let digest = |name: &str| {
        let mut sum = Command::new("sh");
        let _ = sum.args(["-c", "printf %s \"$1\" | sha256sum", "sh", name]);
        let text = String::from_utf8(sum.output().expect("it runs").stdout).expect("text");
        text[..64].to_owned()
    };
    let meta = config.join("contexts/meta").join(digest(name));
    fs::create_dir_all(&meta).expect("made");
    let text = json!({"Name": name, "Metadata": {}, "Endpoints": {"docker": endpoint}});
    fs::write(meta.join("meta.json"), text.to_string()).expect("written");
    if let Some(from) = certificates {
        let tls = config.join("contexts/tls").join(digest(name)).join("docker");
        fs::create_dir_all(&tls).expect("made");
        for file in ["ca.pem", "cert.pem", "key.pem"] {
            let _ = fs::copy(from.join(file), tls.join(file)).expect("copied");
        }
    }
}

#[test]
fn volume_comes_back_over_a_unix_socket_of_another_engine() {
    let machine = Machine::new();
    assert_round_trip(FAR, &with_flag(machine, FAR.setting("UNIX"), true));
}

#[test]
fn volume_comes_back_over_ssh() {
    assert_round_trip(FAR, &with_flag(FAR.known_machine(), FAR.setting("SSH"), false));
}

#[test]
fn volume_comes_back_over_a_name_of_the_ssh_configuration() {
    assert_round_trip(FAR, &with_flag(FAR.known_machine(), "far", false));
}

#[test]
fn volume_comes_back_over_tls_with_certificates_from_the_environment() {
    let mut machine = Machine::new();
    machine.set("DOCKER_HOST", FAR.setting("TCP"));
    machine.set("DOCKER_TLS_VERIFY", "1");
    machine.set("DOCKER_CERT_PATH", FAR.certificates());
    assert_round_trip(FAR, &Way { machine, flags: Vec::new(), in_place: false });
}

#[test]
fn volume_comes_back_over_contexts_with_certificates_and_with_ssh() {
    let mut machine = Machine::new();
    machine.unset("DOCKER_HOST");
    let certificates = FAR.certificates();
    add_context(&machine, "safe", &json!({"Host": FAR.setting("TCP")}), Some(&certificates));
    machine.set("DOCKER_CONTEXT", "safe");
    assert_round_trip(FAR, &Way { machine, flags: Vec::new(), in_place: false });

    let machine = FAR.known_machine();
    add_context(&machine, "shell", &json!({"Host": FAR.setting("SSH")}), None);
    let current = machine.path("home/.docker/config.json");
    fs::write(current, r#"{"currentContext":"shell"}"#).expect("written");
    assert_round_trip(FAR, &Way { machine, flags: Vec::new(), in_place: false });

    // who vouches for the engine is not asked, but as whom we come is
    let machine = Machine::new();
    let blind = json!({"Host": FAR.setting("TCP"), "SkipTLSVerify": true});
    add_context(&machine, "blind", &blind, Some(&distrusting(&machine, &certificates)));
    assert_round_trip(FAR, &with_flag(machine, "blind", false));
}

/// A folder with the client's certificate and the authority of another engine.
fn distrusting(machine: &Machine, certificates: &Path) -> PathBuf {
    let folder = machine.path("foreign");
    fs::create_dir(&folder).expect("made");
    for file in ["cert.pem", "key.pem"] {
        let _ = fs::copy(certificates.join(file), folder.join(file)).expect("copied");
    }
    let _ = fs::copy(NEW.certificates().join("ca.pem"), folder.join("ca.pem")).expect("copied");
    folder
}

#[test]
fn volume_comes_back_over_a_current_engine_by_ssh_and_in_place() {
    let machine = Machine::new();
    assert_round_trip(NEW, &with_flag(machine, NEW.setting("UNIX"), true));
    assert_round_trip(NEW, &with_flag(NEW.known_machine(), NEW.setting("SSH"), false));
}

#[test]
fn configured_host_brings_its_certificates_and_gives_its_name_to_the_series() {
    let machine = FAR.known_machine();
    let config = machine.path("config/vault/config.toml");
    fs::create_dir_all(config.parent().expect("a folder")).expect("made");
    let repository = machine.path("repository");
    let text = format!(
        "[repository.main]\nurl = '{}'\n[hosts.shop]\nurl = '{}'\ncert_path = '{}'\n",
        repository.display(),
        FAR.setting("TCP"),
        FAR.certificates().display()
    );
    fs::write(&config, text).expect("written");
    let mut machine = machine;
    machine.set("VAULT_PASSWORD", "secret");
    let _ = machine.run(&["init"]).expect(0);
    let direct = FAR.engine();
    let volume = filled_volume(&direct);
    let _ = machine.json(&["-H", "shop", "backup", volume.name()], 0);
    // the same address without the name is the same host
    machine.set("DOCKER_TLS_VERIFY", "1");
    machine.set("DOCKER_CERT_PATH", FAR.certificates());
    let tcp = FAR.setting("TCP");
    let second = machine.json(&["-H", &tcp, "backup", volume.name()], 0);
    assert_ne!(second["backups"][0]["parent"], Value::Null, "{second}");
    let list = machine.json(&["snapshots"], 0);
    let hosts: Vec<_> = list["snapshots"].as_array().expect("a list").iter().collect();
    assert!(hosts.len() == 2 && hosts.iter().all(|one| one["host"] == "shop"), "{list}");
    let named = format!("shop/{}", volume.name());
    let _ = machine.json(&["ls", &named], 0);
}

#[test]
fn the_same_volume_by_ssh_and_in_place_is_one_series() {
    let machine = FAR.known_machine();
    let direct = FAR.engine();
    let volume = filled_volume(&direct);
    let _ = machine.json(&["-H", "far", "backup", volume.name()], 0);
    let unix = FAR.setting("UNIX");
    let second = machine.json(&["-H", &unix, "backup", volume.name()], 0);
    assert_ne!(second["backups"][0]["parent"], Value::Null, "{second}");
}

#[test]
fn two_engines_that_call_their_machines_alike_are_told_apart() {
    let machine = Machine::new();
    let (first, second) = (FAR.engine(), NEW.engine());
    assert_eq!(first.info().name, second.info().name);
    let volume = filled_volume(&first);
    let spec = VolumeSpec::local(volume.name());
    let info = second.create_volume(&spec).expect("the name is free");
    let _other = TestVolume { engine: second.clone(), info };
    let saved = |far: Far| {
        let unix = far.setting("UNIX");
        machine.json(&["-H", &unix, "backup", volume.name()], 0)["backups"][0].clone()
    };
    assert_eq!(saved(FAR)["warnings"], json!([]));
    let mixed = saved(NEW);
    assert_eq!(mixed["parent"], Value::Null);
    let warning = mixed["warnings"][0]["message"].as_str().expect("a warning");
    assert!(warning.contains("another docker engine"), "{warning}");
}

#[test]
fn volume_of_this_host_is_restored_onto_another() {
    let here = engine();
    let volume = filled_volume(&here);
    let mut machine = FAR.known_machine();
    machine.set_engine(&super::super::socket());
    let saved = machine.json(&["backup", volume.name()], 0);
    let snapshot = snapshot_of(&saved);
    let _ = machine.json(&["restore", &snapshot, "--to", "far"], 0);
    let there = FAR.engine();
    let copy = made_volume(&there, volume.name());
    assert_same((&here, &volume), (&there, &copy));
    // the name is taken there now, and free here
    let _ = machine.run(&["restore", &snapshot, "--to", "far"]).expect_error(14, &[volume.name()]);
    let _ = machine.run(&["restore", &snapshot, "--to", "nobody"]).expect_error(2, &["nobody"]);
    let checked = fresh_name("checked");
    let arguments = ["restore", &snapshot, "--as", &checked, "--to", "far", "--verify"];
    let _ = machine.run(&arguments).expect(0);
    assert_same((&here, &volume), (&there, &made_volume(&there, &checked)));
}

#[test]
fn the_path_of_a_volume_of_another_host_is_never_used_here() {
    let direct = FAR.engine();
    let volume = filled_volume(&direct);
    let copy = fresh_name("copy");
    let machine = FAR.known_machine();
    // what lies at those paths on this machine is another thing than what the engine has there
    let volumes = Path::new(&direct.info().root_dir).join("volumes");
    let script = "set -e; mount -t tmpfs tmpfs \"$1\"; for name in \"$2\" \"$3\"; do \
                  mkdir -p \"$1/$name/_data\"; echo decoy >\"$1/$name/_data/decoy\"; done; \
                  code=0; \"$4\" -H far backup \"$2\" || code=$?; [ $code = 0 ]; code=0; \
                  \"$4\" -H far restore \"$2\" --as \"$3\" || code=$?; [ $code = 0 ]; \
                  [ \"$(ls \"$1/$3/_data\")\" = decoy ]";
    let mut command = Command::new("unshare");
    let _ = command.args(["--mount", "sh", "-c", script, "sh"]);
    let _ = command.arg(&volumes).args([volume.name(), &copy]).arg(env!("CARGO_BIN_EXE_vault"));
    machine.furnish(&mut command);
    let ended: super::super::vault::Ended = command.output().expect("unshare runs").into();
    let _ = ended.expect(0);
    let copy = made_volume(&direct, &copy);
    assert_same((&direct, &volume), (&direct, &copy));
}

#[test]
fn host_path_is_refused_for_every_way_that_is_no_unix_socket() {
    let machine = FAR.known_machine();
    let volume = TestVolume::new(&FAR.engine());
    for host in ["far".to_owned(), FAR.setting("SSH")] {
        let run = machine.run(&["-H", &host, "backup", "--host-path", volume.name()]);
        let _ = run.expect_error(14, &[volume.name(), "over the network"]);
    }
    let environment = Environment {
        tls_verify: true,
        cert_path: Some(FAR.certificates()),
        ..Environment::default()
    };
    let host = Host::resolve(Some(&FAR.setting("TCP")), &environment).expect("an address");
    let engine = Engine::connect(&host).expect("it answers");
    assert_eq!(engine.host_path(volume.info()), Err(WhyNot::Remote));
}

#[test]
fn each_engine_is_spoken_to_in_the_newest_version_both_sides_know() {
    let environment = |far: Far| Environment {
        tls_verify: true,
        cert_path: Some(far.certificates()),
        ..Environment::default()
    };
    let mut spoken = Vec::new();
    for far in [FAR, NEW] {
        let host = Host::resolve(Some(&far.setting("TCP")), &environment(far)).expect("an address");
        let engine = Engine::connect(&host).expect("it answers");
        let name = fresh_name("volume");
        let made = engine.create_volume(&VolumeSpec::local(&name)).expect("the name is free");
        assert!(engine.volumes().expect("a list").volumes.contains(&made));
        engine.remove_volume(&name).expect("nobody uses it");
        let gone = engine.volume(&name).expect_err("it is gone");
        assert!(matches!(gone, DockerError::NotFound { .. }), "{gone:?}");
        spoken.push(engine.info().api_version.clone());
    }
    // the new one knows more than this program does
    assert_ne!(spoken[0], spoken[1]);
    assert_eq!(spoken[1], "1.47");
}

#[test]
fn a_volume_of_another_host_becomes_what_was_saved_of_it() {
    let machine = FAR.known_machine();
    let direct = FAR.engine();
    let volume = filled_volume(&direct);
    let place = direct.host_path(volume.info()).expect("on this machine");
    let saved = tree::describe(&place);
    let document = machine.json(&["-H", "far", "backup", volume.name()], 0);
    assert_eq!(document["backups"][0]["method"], "agent");
    fs::write(place.join("file"), noise(300_001)).expect("written");
    fs::write(place.join("extra"), "extra").expect("written");
    fs::remove_file(place.join("sub/other")).expect("removed");
    let snapshot = snapshot_of(&document);
    let arguments = ["-H", "far", "restore", &snapshot, "--into-existing"];
    let _ = machine.run(&arguments).expect(0);
    assert_eq!(tree::diff_except(&saved, &tree::describe(&place), &[Aspect::Holes]), [""; 0]);
}

#[test]
fn live_state_of_a_volume_of_another_host_is_refused_with_the_reason() {
    let machine = FAR.known_machine();
    let direct = FAR.engine();
    let volume = TestVolume::new(&direct);
    let place = direct.host_path(volume.info()).expect("on this machine");
    fs::write(place.join("file"), noise(1000)).expect("written");
    let _ = machine.json(&["-H", "far", "backup", volume.name()], 0);
    let live = format!("live:{}", volume.name());
    for arguments in [
        vec!["-H", "far", "diff", volume.name(), &live],
        vec![
            "-H",
            "far",
            "cp",
            &format!("{}:/file", volume.name()),
            &format!("volume:{}:/x", volume.name()),
        ],
    ] {
        let _ = machine.run(&arguments).expect_error(1, &[volume.name(), "over the network"]);
    }
    assert!(!place.join("x").exists());
}
