//! Stores that cannot be reached, or that nobody vouches for. No server of `tests/parts` is needed.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use volume_vault::store::{Access, Store as _, StoreError};

use super::{fresh, name, open, payload, s3_access, told};
use crate::support::repo::scratch;

fn put(endpoint: &str) -> StoreError {
    let mut access: Access = s3_access(endpoint);
    access.patience.budget = Duration::from_millis(200);
    let store = open(&format!("s3://vault/{}", fresh()), &access);
    store.put(&name("a"), &payload(b"x")).expect_err("nothing is there")
}

#[test]
fn f066_a_name_that_does_not_resolve_is_given_up_and_named() {
    // RFC 6761: such names never resolve.
    let error = put("http://store.invalid:9");
    assert!(matches!(error, StoreError::Io { .. }), "{error:?}");
    let text = told(&error);
    assert!(text.contains("write `a`"), "{text}");
    assert!(text.contains("dns") || text.contains("resolve") || text.contains("lookup"), "{text}");
}

/// A server whose certificate nobody vouches for.
struct Impostor {
    server: Child,
    port: String,
}

impl Impostor {
    fn start(subject: &str, days: &str) -> Self {
        let dir = scratch();
        let (key, cert) = (dir.path().join("key"), dir.path().join("cert"));
        let made = Command::new("openssl")
            .args([
                "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", days, "-subj", subject,
            ])
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&cert)
            .stderr(Stdio::null())
            .status();
        assert!(made.expect("openssl runs").success());
        let mut server = Command::new("openssl")
            .args(["s_server", "-accept", "127.0.0.1:0", "-www", "-key"])
            .arg(&key)
            .arg("-cert")
            .arg(&cert)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl runs");
        let mut lines = BufReader::new(server.stdout.take().expect("a pipe")).lines();
        let line = lines.find_map(|line| line.ok().filter(|line| line.starts_with("ACCEPT")));
        let line = line.expect("it says where it listens");
        let port = line.rsplit(':').next().expect("a port").to_owned();
        Self { server, port }
    }
}

impl Drop for Impostor {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

#[test]
fn f067_a_server_that_nobody_vouches_for_is_refused_and_never_spoken_to_plainly() {
    for subject in ["/CN=127.0.0.1", "/CN=elsewhere"] {
        let impostor = Impostor::start(subject, "2");
        let error = put(&format!("https://127.0.0.1:{}", impostor.port));
        let text = told(&error).to_lowercase();
        assert!(text.contains("certificate"), "{text}");
    }
}
