//! What `vault doctor` says of other hosts.

use serde_json::Value;

use super::super::vault::Machine;
use super::{FAR, NEW};

/// State and text of the findings about something.
fn findings(report: &Value, what: &str) -> Vec<(String, String)> {
    let all = report["findings"].as_array().expect("a list").iter();
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let wanted = all.filter(|one| one["what"] == what);
    wanted.map(|one| (text(&one["state"]), text(&one["text"]))).collect()
}

#[track_caller]
fn assert_says(found: &[(String, String)], state: &str, part: &str) {
    let said = found.iter().any(|(have, text)| have == state && text.contains(part));
    assert!(said, "no `{state}` with `{part}` in {found:#?}");
}

#[test]
fn each_way_is_described_with_what_works_there_and_what_does_not() {
    let machine = FAR.known_machine();
    let report = machine.json(&["-H", "far", "doctor"], 0);
    assert_says(&findings(&report, "engine"), "ok", "(API 1.41)");
    assert_says(&findings(&report, "engine"), "ok", "at ssh://far");
    assert_says(&findings(&report, "connection"), "ok", "ssh");
    let volumes = findings(&report, "volumes");
    assert_says(&volumes, "ok", "by an agent beside them");
    assert_says(&volumes, "warn", "do not work from here");

    let unix = FAR.setting("UNIX");
    let report = machine.json(&["-H", &unix, "doctor"], 0);
    assert_says(&findings(&report, "volumes"), "ok", "read in place");
    assert_says(&findings(&report, "connection"), "ok", "unix socket");

    let mut machine = Machine::new();
    machine.set("DOCKER_TLS_VERIFY", "1");
    machine.set("DOCKER_CERT_PATH", NEW.certificates());
    let report = machine.json(&["-H", &NEW.setting("TCP"), "doctor"], 0);
    assert_says(&findings(&report, "connection"), "ok", "TLS");
    assert_says(&findings(&report, "engine"), "ok", "(API 1.47)");
}

#[test]
fn named_host_that_cannot_be_reached_is_a_failure_with_its_way_out() {
    let machine = FAR.machine("stranger", &FAR.key("known_hosts"));
    let report = machine.json(&["-H", "far", "doctor"], 1);
    let engine = findings(&report, "engine");
    assert_says(&engine, "fail", "without being asked");
    // without one, directories can still be saved
    let mut machine = Machine::new();
    machine.set("DOCKER_HOST", "unix:///no/such.sock");
    let report = machine.json(&["doctor"], 0);
    assert_says(&findings(&report, "engine"), "warn", "/no/such.sock");
}
