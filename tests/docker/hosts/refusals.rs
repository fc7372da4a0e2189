//! Ways to an engine that do not work: each says what is in the way, and nobody is asked anything.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::thread;

use serde_json::json;

use super::super::vault::Machine;
use super::{FAR, NEW};

/// That listing volumes of a host fails with this code and these words, and made nothing.
#[track_caller]
fn assert_refused(machine: &Machine, host: &str, code: i32, parts: &[&str]) {
    let run = machine.run(&["-H", host, "backup", "my-data"]);
    let _ = run.expect_error(code, &[&["hint: "][..], parts].concat());
    assert!(!machine.repository().exists());
    let error = &machine.json(&["-H", host, "backup", "my-data"], code)["error"];
    assert_eq!(error["exit_code"], json!(code), "{error}");
}

/// A machine that speaks TLS with the files of a folder.
fn with_certificates(folder: &Path) -> Machine {
    let mut machine = Machine::new();
    machine.set("DOCKER_TLS_VERIFY", "1");
    machine.set("DOCKER_CERT_PATH", folder);
    machine
}

/// A copy of the certificates of a host with some files left out.
fn certificates_without(machine: &Machine, left_out: &[&str]) -> PathBuf {
    let folder = machine.path("certs");
    fs::create_dir(&folder).expect("made");
    for file in ["ca.pem", "cert.pem", "key.pem"] {
        if !left_out.contains(&file) {
            let _ = fs::copy(FAR.certificates().join(file), folder.join(file)).expect("copied");
        }
    }
    folder
}

#[test]
fn nobody_listens() {
    let machine = FAR.known_machine();
    let address = FAR.address();
    let ssh = format!("ssh://root@{address}:1");
    assert_refused(&machine, &ssh, 16, &[&ssh, "refused"]);
    let tcp = format!("tcp://{address}:1");
    assert_refused(&machine, &tcp, 16, &[&tcp, "refused"]);
}

#[test]
fn host_key_that_is_not_known_is_not_accepted() {
    let empty = tempfile::NamedTempFile::new().expect("a file");
    let machine = FAR.machine("id", empty.path());
    assert_refused(&machine, "far", 1, &["ssh://far", "host key is not known", "accept it"]);
    assert_eq!(fs::read(empty.path()).expect("still there"), b"");
}

#[test]
fn host_key_that_changed_is_not_accepted() {
    let known = fs::read_to_string(FAR.key("known_hosts")).expect("readable");
    let name = known.split(' ').next().expect("a name");
    let other = fs::read_to_string(FAR.key("stranger.pub")).expect("readable");
    let changed = tempfile::NamedTempFile::new().expect("a file");
    fs::write(changed.path(), format!("{name} {other}")).expect("written");
    let machine = FAR.machine("id", changed.path());
    assert_refused(&machine, "far", 1, &["another than the one that is known", "ssh-keygen -R"]);
}

#[test]
fn login_that_would_ask_for_something_fails_at_once() {
    let machine = FAR.machine("stranger", &FAR.key("known_hosts"));
    assert_refused(
        &machine,
        "far",
        1,
        &["without being asked", "Permission denied", "ssh-copy-id"],
    );
}

#[test]
fn machine_without_the_docker_command_is_named() {
    let machine = FAR.machine("bare", &FAR.key("known_hosts"));
    assert_refused(&machine, "far", 1, &["ssh://far", "`docker` is not found there"]);
}

#[test]
fn machine_whose_engine_is_down_is_unreachable() {
    let machine = FAR.known_machine();
    let host = format!("{}/nowhere/docker.sock", FAR.setting("SSH"));
    assert_refused(&machine, &host, 16, &[&host, "/nowhere/docker.sock"]);
}

#[test]
fn missing_ssh_is_named() {
    let mut machine = FAR.known_machine();
    fs::create_dir(machine.path("empty")).expect("made");
    machine.set("PATH", machine.path("empty"));
    assert_refused(&machine, "far", 1, &["the program `ssh` cannot be run", "openssh-client"]);
}

#[test]
fn engine_that_nobody_vouches_for_is_not_trusted() {
    let machine = Machine::new();
    let folder = certificates_without(&machine, &["ca.pem"]);
    let tcp = FAR.setting("TCP");
    let machine = with_certificates(&folder);
    assert_refused(&machine, &tcp, 1, &[&tcp, "certificate is not trusted", "ca.pem"]);
    let _ = fs::copy(NEW.certificates().join("ca.pem"), folder.join("ca.pem")).expect("copied");
    assert_refused(&machine, &tcp, 1, &[&tcp, "certificate is not trusted", "ca.pem"]);
}

#[test]
fn engine_under_another_name_than_its_certificate_has_is_not_trusted() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let here = format!("tcp://{}", listener.local_addr().expect("an address"));
    let there = FAR.setting("TCP").strip_prefix("tcp://").expect("an address").to_owned();
    let _ = thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let engine = std::net::TcpStream::connect(&there).expect("it listens");
            let (mut up, mut down) = (client.try_clone().expect("a copy"), client);
            let (mut to, mut back) = (engine.try_clone().expect("a copy"), engine);
            let _ = thread::spawn(move || std::io::copy(&mut up, &mut to));
            let _ = thread::spawn(move || std::io::copy(&mut back, &mut down));
        }
    });
    let machine = with_certificates(&FAR.certificates());
    assert_refused(&machine, &here, 1, &[&here, "for another name"]);
}

#[test]
fn client_without_a_certificate_is_told_that_one_is_missing() {
    let machine = Machine::new();
    let folder = certificates_without(&machine, &["cert.pem", "key.pem"]);
    let tcp = FAR.setting("TCP");
    assert_refused(&with_certificates(&folder), &tcp, 1, &[&tcp, "refuses us", "cert.pem"]);
}

#[test]
fn half_a_client_certificate_and_files_that_are_none_are_named() {
    let tcp = FAR.setting("TCP");
    for missing in ["key.pem", "cert.pem"] {
        let machine = Machine::new();
        let folder = certificates_without(&machine, &[missing]);
        let path = folder.join(missing).display().to_string();
        assert_refused(&with_certificates(&folder), &tcp, 2, &[&path, "it is missing"]);
    }
    for damaged in ["ca.pem", "cert.pem", "key.pem"] {
        let machine = Machine::new();
        let folder = certificates_without(&machine, &[]);
        fs::write(folder.join(damaged), "no certificate\n").expect("written");
        let path = folder.join(damaged).display().to_string();
        assert_refused(&with_certificates(&folder), &tcp, 2, &[&path]);
    }
    let nowhere = Path::new("/no/such/folder");
    assert_refused(&with_certificates(nowhere), &tcp, 2, &["/no/such/folder", "no such folder"]);
}

#[test]
fn tls_is_never_given_up_and_never_forgotten() {
    // spoken to without TLS, an engine with TLS says so
    let tcp = FAR.setting("TCP");
    assert_refused(&Machine::new(), &tcp, 1, &[&tcp, "it speaks TLS", "DOCKER_TLS_VERIFY=1"]);
    // and who does not speak it gets nothing but a greeting
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let plain = format!("tcp://{}", listener.local_addr().expect("an address"));
    let _ = thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.expect("a connection");
            let mut greeting = [0; 5];
            client.read_exact(&mut greeting).expect("a greeting");
            assert_eq!(greeting[0], 0x16, "a record of a TLS handshake");
            let _ = client.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
            // until the client has read it
            let _ = std::io::copy(&mut client, &mut std::io::sink());
        }
    });
    let machine = with_certificates(&FAR.certificates());
    assert_refused(&machine, &plain, 1, &[&plain, "does not speak TLS", "2376"]);
}

#[test]
fn names_that_mean_no_host_are_errors_and_never_another_engine() {
    let mut machine = FAR.known_machine();
    machine.set_engine(&super::super::socket());
    let said = ["no docker host is called `fra`", "`default`", "`far`", "did you mean `far`"];
    assert_refused(&machine, "fra", 2, &said);
    assert_refused(&machine, "root@far", 2, &["root@far", "ssh://"]);
    for wrong in ["ssh://-oProxyCommand=id", "ssh://root:hunter2@far", "fd://", "tcp://h:x"] {
        let ended = machine.run(&["-H", wrong, "backup", "my-data"]);
        assert!(!ended.stderr.contains("hunter2"), "{}", ended.stderr);
        let _ = ended.expect_error(2, &[]);
    }
    machine.unset("DOCKER_HOST");
    machine.set("DOCKER_CONTEXT", "far");
    let run = machine.run(&["backup", "my-data"]);
    let _ = run.expect_error(2, &["no docker context is called `far`", "`default`"]);
    // what was asked for wins, and what the environment says is not looked at
    machine.set("DOCKER_HOST", "tcp://nobody:1");
    let _ = machine.run(&["-H", "far", "backup", "no-such-volume"]).expect_error(15, &[]);
}
