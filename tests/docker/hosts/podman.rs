//! Podman behind Docker's interface.

use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread;

use volume_vault::docker::{Engine, Host};

use super::super::vault::{Machine, snapshot_of};
use super::{assert_same, filled_volume, fresh_name, made_volume, setting};

fn socket() -> PathBuf {
    let path = setting("VAULT_TEST_PODMAN");
    path.strip_prefix("unix://").expect("a unix socket").into()
}

fn engine() -> Engine {
    Engine::connect(&Host::unix(socket())).expect("tests/parts/podman.sh has started it")
}

#[test]
fn volumes_of_podman_are_listed_saved_and_brought_back_in_place() {
    let engine = engine();
    assert!(engine.info().podman && engine.info().local, "{:?}", engine.info());
    let volume = filled_volume(&engine);
    let machine = Machine::beside(&socket());
    let saved = machine.json(&["backup", volume.name()], 0);
    let copy = fresh_name("copy");
    let _ = machine.json(&["restore", &snapshot_of(&saved), "--as", &copy], 0);
    let copy = made_volume(&engine, &copy);
    assert_same((&engine, &volume), (&engine, &copy));
}

#[test]
fn volumes_of_podman_elsewhere_are_saved_and_brought_back_by_an_agent() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let host = format!("tcp://{}", listener.local_addr().expect("an address"));
    let _ = thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let engine = UnixStream::connect(socket()).expect("podman");
            let (mut up, mut down) = (client.try_clone().expect("a copy"), client);
            let (mut to, mut back) = (engine.try_clone().expect("a copy"), engine);
            let _ = thread::spawn(move || io::copy(&mut up, &mut to));
            let _ = thread::spawn(move || io::copy(&mut back, &mut down));
        }
    });
    let engine = engine();
    let volume = filled_volume(&engine);
    let machine = Machine::new();
    let saved = machine.json(&["-H", &host, "backup", volume.name()], 0);
    assert_eq!(saved["backups"][0]["method"], "agent");
    let copy = fresh_name("copy");
    let _ = machine.json(&["-H", &host, "restore", &snapshot_of(&saved), "--as", &copy], 0);
    let copy = made_volume(&engine, &copy);
    assert_same((&engine, &volume), (&engine, &copy));
    let run = machine.run(&["-H", &host, "backup", volume.name(), "--archive-api"]);
    let _ = run.expect_error(2, &["podman loses the owners"]);
}
