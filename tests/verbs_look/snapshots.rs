//! `vault snapshots` and `vault inspect`.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use volume_vault::format::VolumeFacts;
use volume_vault::ops::backup::NewItem;

use super::world::World;

/// Two snapshots of `a`, one of `b` on another host.
fn three(world: &World) -> [String; 3] {
    let dir = world.folder("src");
    std::fs::write(dir.join("file"), vec![7; 3000]).expect("written");
    let first = world.save_as(&World::item("a"), &dir, "h", &["weekly", "x"]);
    let other = world.save_as(&World::item("b"), &dir, "other", &["weekly"]);
    [first, world.save("a", &dir), other]
}

fn ids(document: &Value) -> Vec<String> {
    let list = document["snapshots"].as_array().expect("a list");
    list.iter().map(|s| s["id"].as_str().expect("an id").to_owned()).collect()
}

#[test]
fn snapshots_are_listed_by_series_and_time_with_their_figures() {
    let world = World::new();
    let [a1, a2, b] = three(&world);
    let ran = world.vault(&["snapshots"]);
    let lines = ran.lines();
    assert_eq!(lines.len(), 4, "{lines:#?}");
    assert!(lines[0].starts_with("ID"), "{}", lines[0]);
    for (line, id) in lines[1..].iter().zip([&a1, &a2, &b]) {
        assert!(line.starts_with(&id[..8]), "{line}");
    }
    for part in ["2026-11-20 12:00:00 UTC", "weekly, x", "2.92 KiB", "host path"] {
        assert!(lines[1].contains(part), "{} lacks {part}", lines[1]);
    }
    assert_eq!(world.vault(&["snapshots", "-q"]).lines(), [&a1, &a2, &b]);
    assert_eq!(world.vault(&["ls"]).stdout, ran.stdout);

    let document = world.json(&["snapshots"], 0);
    assert_eq!(ids(&document), [a1, a2, b]);
    let first = &document["snapshots"][0];
    assert_eq!(first["time"], "2026-11-20T12:00:00Z");
    assert_eq!((&first["host"], &first["tags"]), (&json!("h"), &json!(["weekly", "x"])));
    assert_eq!((&first["bytes"], &first["entries"]), (&json!(3000), &json!(2)));
    assert_eq!(document["snapshots"][1]["bytes_stored"], 0, "nothing of it was new");
    assert_eq!((&document["damaged"], &document["unfinished"]), (&json!([]), &json!([])));
}

#[test]
fn with_json_lines_each_snapshot_is_a_line_of_its_own() {
    let world = World::new();
    let [a1, ..] = three(&world);
    let ran = world.vault(&["snapshots", "--json=lines"]);
    let lines: Vec<Value> =
        ran.lines().iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 4);
    assert_eq!((&lines[0]["event"], &lines[0]["id"]), (&json!("snapshot"), &json!(a1)));
    assert_eq!(lines[3], json!({"schema": 1, "damaged": [], "unfinished": [], "forged": []}));
}

#[test]
fn filters_leave_what_is_asked_for() {
    let world = World::new();
    let [a1, a2, b] = three(&world);
    for (args, left) in [
        (&["a"][..], vec![&a1, &a2]),
        (&["a", "b"], vec![&a1, &a2, &b]),
        (&["--tag", "weekly"], vec![&a1, &b]),
        (&["--tag", "weekly", "--tag", "x"], vec![&a1]),
        (&["--tag", "no-such"], vec![]),
        (&["--from", "other"], vec![&b]),
        (&["--from", "other", "a"], vec![]),
    ] {
        let all: Vec<&str> = ["snapshots"].iter().chain(args).copied().collect();
        assert_eq!(ids(&world.json(&all, 0)).iter().collect::<Vec<_>>(), left, "{args:?}");
    }
}

#[test]
fn what_was_never_saved_is_not_found_and_near_names_are_given() {
    let world = World::new();
    let dir = world.folder("src");
    let _ = world.save("my-data", &dir);
    for (args, near) in [(&["my-dta"][..], "`my-data`"), (&["--from", "hh"], "")] {
        let all: Vec<&str> = ["snapshots"].iter().chain(args).copied().collect();
        let error = world.json(&all, 15)["error"].clone();
        assert_eq!(error["kind"], "not_found");
        let hint = error["hint"].as_str().expect("a hint");
        assert!(hint.contains(near), "{hint}");
    }
}

#[test]
fn live_and_partial_snapshots_are_marked() {
    let world = World::new();
    let dir = world.folder("src");
    let live = NewItem { in_use_by: vec!["web".to_owned()], ..World::item("live") };
    let part = NewItem { degraded: vec!["it keeps less".to_owned()], ..World::item("part") };
    let _ = world.save_as(&live, &dir, "h", &[]);
    let _ = world.save_as(&part, &dir, "h", &[]);
    let ran = world.vault(&["snapshots"]);
    let lines = ran.lines();
    assert!(lines[1].ends_with("live"), "{}", lines[1]);
    assert!(lines[2].ends_with("host path  partial, 1 warning"), "{}", lines[2]);
    let document = world.json(&["snapshots"], 0);
    let said =
        |at: usize| [&document["snapshots"][at]["live"], &document["snapshots"][at]["partial"]];
    assert_eq!(said(0), [&json!(true), &json!(false)]);
    assert_eq!(said(1), [&json!(false), &json!(true)]);
}

#[test]
fn a_damaged_record_is_named_and_the_rest_is_listed() {
    let world = World::new();
    let [a1, a2, b] = three(&world);
    let record = world.path("repository").join(format!("snapshots/{a1}.pending"));
    std::fs::write(&record, b"not what was written").expect("damaged");
    let ran = world.vault(&["snapshots"]);
    assert_eq!(ran.text(13).lines().count(), 3);
    assert!(ran.stderr.contains(&a1), "{}", ran.stderr);
    let document = world.json(&["snapshots"], 13);
    assert_eq!(ids(&document), [a2, b]);
    assert_eq!(document["error"]["kind"], "damaged");
    let object = document["damaged"][0]["object"].as_str().expect("an object");
    assert!(object.contains(&a1), "{object}");
    // Who asks for just that one is not told that it never was.
    assert_eq!(world.json(&["inspect", &a1], 13)["error"]["kind"], "damaged");
}

#[test]
fn names_that_fit_several_things_are_refused_with_the_candidates() {
    let world = World::new();
    let dir = world.folder("src");
    for host in ["h1", "h2"] {
        let _ = world.save_as(&World::item("same"), &dir, host, &[]);
    }
    for verb in ["inspect", "ls"] {
        let error = world.json(&[verb, "same"], 2)["error"].clone();
        assert_eq!(error["kind"], "ambiguous");
        assert!(error["message"].as_str().is_some_and(|text| text.contains("h1, h2")), "{error}");
    }
    assert_eq!(world.json(&["inspect", "h2/same"], 0)["host"], "h2");
    assert_eq!(world.json(&["inspect", "no-such"], 15)["error"]["kind"], "not_found");
    assert_eq!(world.json(&["ls", "same:no-such"], 2)["error"]["kind"], "ambiguous");
    assert_eq!(world.json(&["ls", "h1/same:no-such"], 15)["error"]["kind"], "not_found");
}

#[test]
fn inspect_shows_all_of_the_record_but_no_secret() {
    let world = World::new();
    let dir = world.folder("src");
    let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    };
    let volume = VolumeFacts {
        driver: "local".to_owned(),
        options: map(&[("type", "cifs"), ("o", "username=u,password=hunter2")]),
        labels: map(&[("app", "shop\u{1b}[2J")]),
        scope: "local".to_owned(),
    };
    let item = NewItem {
        volume: Some(volume),
        in_use_by: vec!["web".to_owned()],
        degraded: vec!["it keeps less".to_owned()],
        ..World::item("v")
    };
    let first = world.save("v", &dir);
    let second = world.save_as(&item, &dir, "h", &["t"]);
    let ran = world.vault(&["inspect", "v"]);
    let text = ran.text(0);
    for part in [
        &second,
        "engine-id",
        "vault test",
        "its record 2",
        "username=u,password=***",
        "app=shop\\u{1b}[2J",
        "used meanwhile by web",
        "it keeps less",
        &first[..8],
    ] {
        assert!(text.contains(part), "{text}\nlacks {part}");
    }
    assert!(!text.contains("hunter2"));
    assert_eq!(world.vault(&["inspect", "-q", &second[..9]]).lines(), [&second]);
    let ran = world.vault(&["inspect", "v", "--json"]);
    assert!(!String::from_utf8_lossy(&ran.stdout).contains("hunter2"));
    let document = world.json(&["inspect", "v"], 0);
    assert_eq!(document["sequence"], 2);
    assert_eq!(document["chain"][0]["snapshot"], json!(first));
    assert_eq!(document["previous"], document["chain"][0]["head"]);
    let item = &document["items"][0];
    assert_eq!(item["parent"], json!(first));
    assert_eq!(item["volume"]["labels"]["app"], "shop\u{1b}[2J");
    assert_eq!(item["warnings"][0]["skipped"], true);
    assert_eq!(item["in_use_by"], json!(["web"]));
}
