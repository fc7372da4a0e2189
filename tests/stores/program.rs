//! The program with repositories elsewhere.

use std::fs;
use std::path::Path;

use super::proxy::{Fault, Proxy};
use super::{fresh, server};
use crate::support::program::{Ended, Program};

/// A key that must show nowhere.
const SECRET: &str = "hunter2hunter2";

/// A home with a source and a password file.
fn home() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt as _;
    let home = tempfile::tempdir().expect("a directory");
    let source = home.path().join("source");
    fs::create_dir_all(source.join("deep/er")).expect("made");
    for (at, seed, size) in [("one", 1, 10), ("two", 2, 3_000_000), ("deep/er/three", 3, 200_000)] {
        let bytes = crate::support::repository::noise(seed, size);
        fs::write(source.join(at), bytes).expect("written");
    }
    let password = home.path().join("password");
    fs::write(&password, "correct horse battery").expect("written");
    fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).expect("set");
    home
}

fn program<'h>(home: &'h Path, url: &str, variables: &[(&'static str, &str)]) -> Program<'h> {
    let mut program = Program::at(home);
    program.variables.push(("VAULT_REPO", url.to_owned()));
    let password = home.join("password").display().to_string();
    program.variables.push(("VAULT_PASSWORD_FILE", password));
    let pairs = variables.iter().map(|(name, value)| (*name, (*value).to_owned()));
    program.variables.extend(pairs);
    program
}

fn s3_variables(endpoint: &str) -> [(&'static str, &str); 4] {
    [
        ("AWS_ENDPOINT_URL", endpoint),
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", SECRET),
        ("AWS_REGION", "us-east-1"),
    ]
}

fn source(home: &Path) -> String {
    format!("dir:{}", home.join("source").display())
}

fn keeps_secrets(ended: Ended) -> Ended {
    let all = format!("{}{}", ended.stdout, ended.stderr);
    assert!(!all.contains(SECRET), "{all}");
    ended
}

/// Makes a repository, saves, changes, saves, checks all bytes, restores and compares.
fn goes_round(program: &Program<'_>, home: &Path) {
    let _ = program.run(&["init"]).expect(0);
    let _ = program.run(&["backup", &source(home)]).expect(0);
    fs::write(home.join("source/four"), "new").expect("written");
    let _ = program.run(&["backup", &source(home)]).expect(0);
    let _ = program.run(&["check", "--read-data"]).expect(0);
    let target = home.join("target");
    let target = target.to_str().expect("text");
    let _ = program.run(&["restore", &source(home), "--target", target]).expect(0);
    let compared = std::process::Command::new("diff")
        .args(["-r", &home.join("source").display().to_string(), target])
        .output()
        .expect("diff runs");
    assert!(compared.status.success(), "{}", String::from_utf8_lossy(&compared.stdout));
    let report = program.run(&["doctor", "--json"]);
    let findings = report.json()["findings"].to_string();
    assert!(findings.contains("what was just written can be read"), "{findings}");
}

#[test]
fn a_repository_in_s3_is_filled_checked_and_restored() {
    let home = home();
    let (home, url) = (home.path(), format!("s3://vault/{}", fresh()));
    goes_round(&program(home, &url, &s3_variables(&server("VAULT_TEST_S3"))), home);
}

#[test]
fn a_repository_in_azure_is_filled_checked_and_restored() {
    let home = home();
    let (home, url) = (home.path(), format!("az://vault/{}", fresh()));
    let (endpoint, key) = (server("VAULT_TEST_AZURE"), server("VAULT_TEST_AZURE_KEY"));
    let variables = [
        ("AZURE_STORAGE_ACCOUNT", "vaulttest"),
        ("AZURE_STORAGE_KEY", key.as_str()),
        ("AZURE_BLOB_ENDPOINT", endpoint.as_str()),
    ];
    goes_round(&program(home, &url, &variables), home);
}

#[test]
fn f036_a_backup_goes_through_failures_of_every_kind_of_request() {
    let home = home();
    let home = home.path();
    let proxy = Proxy::before(&server("VAULT_TEST_S3"));
    let (url, endpoint) = (format!("s3://vault/{}", fresh()), proxy.url());
    let program = program(home, &url, &s3_variables(&endpoint));
    for method in ["PUT", "GET", "HEAD"] {
        proxy.next(2, method, "", Fault::s3(503, "SlowDown"));
        proxy.next(1, method, "", Fault::LoseReply);
    }
    goes_round(&program, home);
    assert_eq!(proxy.hits(), 9);
}

/// The requests since the last time, sorted: their method, and what is asked for without ids.
fn requests(proxy: &Proxy, prefix: &str) -> Vec<String> {
    let shown = |path: &str| {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let listed = query.split('&').find_map(|part| part.strip_prefix("prefix="));
        let name = match listed {
            Some(folder) => format!("list {}", folder.replace("%2F", "/")),
            None => path.to_owned(),
        };
        let name = name.replace(&format!("{prefix}/"), "").replace("/vault/", "");
        let parts = name.split('/').map(|part| match part.split_once('.') {
            Some((id, end)) if id.len() >= 32 => end.to_owned(),
            _ if part.len() >= 32 => "ID".to_owned(),
            _ => part.to_owned(),
        });
        parts.collect::<Vec<_>>().join("/").trim_end_matches('/').to_owned()
    };
    let mut all: Vec<_> =
        proxy.seen().iter().map(|s| format!("{} {}", s.method, shown(&s.path))).collect();
    all.sort();
    proxy.clear();
    all
}

#[test]
fn with_a_warm_cache_a_handful_of_requests_will_do_and_these_are_they() {
    let home = home();
    let home = home.path();
    let proxy = Proxy::before(&server("VAULT_TEST_S3"));
    let prefix = fresh();
    let (url, endpoint) = (format!("s3://vault/{prefix}"), proxy.url());
    let program = program(home, &url, &s3_variables(&endpoint));
    let _ = program.run(&["init"]).expect(0);
    let source = source(home);
    let _ = program.run(&["backup", &source]).expect(0);
    let snapshots = [
        "GET keys/ID",
        "GET list config",
        "GET list forget",
        "GET list snapshots",
        "GET vault.json",
    ];
    let index = ["GET list gc", "GET list index", "GET list packs"];
    // A put is looked at.
    let commit = [
        "GET list forget",
        "GET list gc",
        "HEAD snapshots/ok",
        "HEAD snapshots/pending",
        "PUT snapshots/ok",
        "PUT snapshots/pending",
    ];
    let sorted = |parts: &[&[&'static str]]| {
        let mut all = parts.concat();
        all.sort_unstable();
        all
    };
    proxy.clear();
    let _ = program.run(&["snapshots"]).expect(0);
    assert_eq!(requests(&proxy, &prefix), sorted(&[&snapshots]));
    let _ = program.run(&["ls", "-R", "latest"]).expect(0);
    assert_eq!(requests(&proxy, &prefix), sorted(&[&snapshots, &index]));
    // The first that finds files older than two seconds stores hints of them.
    let unchanged = (0..9).find_map(|_| {
        let _ = program.run(&["backup", &source]).expect(0);
        let seen = requests(&proxy, &prefix);
        (!seen.iter().any(|request| request.starts_with("PUT packs"))).then_some(seen)
    });
    assert_eq!(unchanged.expect("one of them"), sorted(&[&snapshots, &index, &commit]));
}

#[test]
fn wrong_places_and_credentials_end_with_their_own_codes() {
    let home = home();
    let home = home.path();
    let endpoint = server("VAULT_TEST_S3");
    let run = |url: &str, endpoint: &str, arguments: &[&str]| {
        keeps_secrets(program(home, url, &s3_variables(endpoint)).run(arguments))
    };
    let ended = run("s3://no-such-bucket/x", &endpoint, &["init"]).expect(10);
    assert!(ended.stderr.contains("there is no bucket `no-such-bucket`"), "{}", ended.stderr);
    let ended = run(&format!("s3://vault/{}", fresh()), &endpoint, &["snapshots"]).expect(10);
    assert!(ended.stderr.contains("vault init"), "{}", ended.stderr);
    let ended = run("s3://vault/x?secret=1", &endpoint, &["snapshots"]).expect(10);
    assert!(ended.stderr.contains("takes no options"), "{}", ended.stderr);
    let ended = run(&format!("https://me:{SECRET}@h/x"), &endpoint, &["snapshots"]).expect(10);
    assert!(ended.stderr.contains("must not hold a password"), "{}", ended.stderr);
    let proxy = Proxy::before(&endpoint);
    proxy.next(99, "", "", Fault::s3(403, "SignatureDoesNotMatch"));
    let ended = run("s3://vault/x", &proxy.url(), &["init"]).expect(1);
    assert!(ended.stderr.contains("SignatureDoesNotMatch"), "{}", ended.stderr);
    assert_eq!(proxy.hits(), 1);
}

#[test]
fn a_prefix_that_holds_other_things_is_refused() {
    let home = home();
    let (home, url) = (home.path(), format!("s3://vault/{}", fresh()));
    let endpoint = server("VAULT_TEST_S3");
    let store = super::open(&url, &super::s3_access(&endpoint));
    let stray = super::name("photos/cat");
    volume_vault::store::Store::put(&store, &stray, &super::payload(b"x")).expect("puts");
    let ended = program(home, &url, &s3_variables(&endpoint)).run(&["init"]).expect(14);
    assert!(ended.stderr.contains("is not empty"), "{}", ended.stderr);
}

#[test]
fn what_is_here_is_copied_to_s3_and_from_there_to_another_prefix() {
    let home = home();
    let (home, url) = (home.path(), format!("s3://vault/{}", fresh()));
    let (endpoint, other) = (server("VAULT_TEST_S3"), format!("s3://vault/{}", fresh()));
    let here = home.join("here").display().to_string();
    let variables = s3_variables(&endpoint);
    let mut from_here = program(home, &here, &variables);
    let password = home.join("password").display().to_string();
    from_here.variables.push(("VAULT_TO_PASSWORD_FILE", password.clone()));
    let mut from_s3 = program(home, &url, &variables);
    from_s3.variables.push(("VAULT_TO_PASSWORD_FILE", password));
    let there = program(home, &other, &variables);
    for made in [&from_here, &from_s3, &there] {
        let _ = made.run(&["init"]).expect(0);
    }
    let _ = from_here.run(&["backup", &source(home)]).expect(0);
    fs::write(home.join("source/four"), "new").expect("written");
    let _ = from_here.run(&["backup", &source(home)]).expect(0);
    let done = keeps_secrets(from_here.run(&["copy", "--to-repo", &url])).expect(0);
    assert!(done.stdout.contains("2 copied, 0 there already"), "{}", done.stdout);
    let _ = keeps_secrets(from_s3.run(&["copy", "--to-repo", &other])).expect(0);
    let again = from_here.run(&["copy", "--to-repo", &other]).expect(0);
    assert!(again.stdout.contains("0 copied, 2 there already"), "{}", again.stdout);
    let _ = there.run(&["check", "--read-data"]).expect(0);
    let target = home.join("target").display().to_string();
    let _ = there.run(&["restore", &source(home), "--target", &target]).expect(0);
    let two = fs::read(home.join("target/two")).expect("read");
    assert!(two == crate::support::repository::noise(2, 3_000_000), "it came back as it was");
}
