//! The Docker face, and the program itself, against a real engine, which
//! `tests/parts/engine.sh` starts.
//!
//! `VAULT_TEST_DOCKER_HOST` must name its unix socket; without it these tests fail, since a skipped
//! test proves nothing. Every object a test makes carries a name of its own and goes with the test.

mod agent;
mod archive;
mod bad_input;
mod connect;
mod container;
mod faults;
mod first_use;
mod gone;
mod helper;
mod hosts;
mod into_existing;
mod postgres;
mod private;
mod selection;
mod vault;
mod volume;

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use volume_vault::docker::{Access, Address, Engine, Helper, Host, VolumeInfo, VolumeSpec};

/// The socket of the engine for tests.
pub(crate) fn socket() -> PathBuf {
    let host = std::env::vars().find(|(name, _)| name == "VAULT_TEST_DOCKER_HOST");
    let (_, host) = host.expect(
        "VAULT_TEST_DOCKER_HOST is not set: run `tests/parts/engine.sh up`, then \
         `eval \"$(tests/parts/engine.sh env)\"`",
    );
    let path = host.strip_prefix("unix://").expect("VAULT_TEST_DOCKER_HOST must be unix://...");
    PathBuf::from(path)
}

/// A connection to it.
pub(crate) fn engine() -> Engine {
    Engine::connect(&Host::unix(socket())).expect("the engine of VAULT_TEST_DOCKER_HOST answers")
}

/// A name that nothing else in the engine has.
fn fresh_name(what: &str) -> String {
    static LAST: AtomicU32 = AtomicU32::new(0);
    let number = LAST.fetch_add(1, Ordering::Relaxed);
    format!("vault-test-{what}-{}-{number}", std::process::id())
}

/// A volume that is removed with this.
pub(crate) struct TestVolume {
    engine: Engine,
    info: VolumeInfo,
}

impl TestVolume {
    pub(crate) fn new(engine: &Engine) -> Self {
        Self::with(engine, |_| {})
    }

    fn with(engine: &Engine, change: impl FnOnce(&mut VolumeSpec)) -> Self {
        let mut spec = VolumeSpec::local(fresh_name("volume"));
        change(&mut spec);
        let info = engine.create_volume(&spec).expect("the name is free");
        Self { engine: engine.clone(), info }
    }

    pub(crate) fn name(&self) -> &str {
        &self.info.name
    }

    pub(crate) fn info(&self) -> &VolumeInfo {
        &self.info
    }

    fn helper(&self, access: Access) -> Helper {
        Helper::create(&self.engine, self.name(), access).expect("a helper")
    }
}

impl Drop for TestVolume {
    fn drop(&mut self) {
        let _ = self.engine.remove_volume(self.name());
    }
}

/// An answer of the engine to a request made by hand: its status and the body.
struct Answer {
    status: u16,
    text: String,
}

impl Answer {
    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.text).expect("the engine answers in JSON")
    }
}

/// Asks the engine without the code under test.
fn ask(engine: &Engine, method: &str, path: &str, body: &str) -> Answer {
    let Address::Unix(socket) = &engine.host().address else { unreachable!("tests use a socket") };
    let mut stream = UnixStream::connect(socket).expect("the socket");
    let mut request = format!("{method} /v1.41{path} HTTP/1.0\r\nHost: engine\r\n");
    let _ = write!(request, "Content-Type: application/json\r\n");
    let _ = write!(request, "Content-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(request.as_bytes()).expect("the request is taken");
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer).expect("an answer");
    let (head, text) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    Answer { status, text: text.to_owned() }
}

/// Labels of the container `id`; none if there is no such container.
fn container_label(engine: &Engine, id: &str, label: &str) -> Option<String> {
    let answer = ask(engine, "GET", &format!("/containers/{id}/json"), "");
    if answer.status == 404 {
        return None;
    }
    Some(answer.json()["Config"]["Labels"][label].as_str().expect("the label").to_owned())
}

/// Whether the container `id` exists.
fn exists(engine: &Engine, id: &str) -> bool {
    ask(engine, "GET", &format!("/containers/{id}/json"), "").status == 200
}

/// Bytes without a pattern, always the same.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_le_bytes()[7]
    };
    std::iter::repeat_with(next).take(len).collect()
}
