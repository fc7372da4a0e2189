//! `vault forget`, and what the other verbs say afterwards.

use std::io::{BufReader, Read as _, Write as _};
use std::process::Stdio;

use serde_json::{Value, json};

use super::world::{START, World, noise};

const HOUR: i64 = 3600;

/// Ten snapshots of the volume `a`, an hour apart, and two of `b` on another host; stored when
/// they were made.
fn twelve(world: &World) -> Vec<String> {
    let dir = world.folder("src");
    let save = |number: i64| {
        let seed = u64::try_from(number).expect("small");
        std::fs::write(dir.join("file"), noise(seed, 5000)).expect("written");
        let (name, host) = if number < 10 { ("a", "h") } else { ("b", "other") };
        let tags: &[&str] = if number == 3 { &["keep"] } else { &[] };
        let id = world.save_as(&World::item(name), &dir, host, tags);
        world.set_stored(&id, START + HOUR * number);
        id
    };
    (0..12).map(save).collect()
}

fn ids(document: &Value, name: &str) -> Vec<String> {
    let list = document[name].as_array().expect("a list").iter();
    list.map(|id| id.as_str().or(id["id"].as_str()).expect("an id").to_owned()).collect()
}

fn listed(world: &World) -> Vec<String> {
    ids(&world.json(&["snapshots"], 0), "snapshots")
}

#[test]
fn a_dry_run_says_of_each_snapshot_why_it_stays_or_goes_and_changes_nothing() {
    let world = World::new();
    let all = twelve(&world);
    let args = ["forget", "--from", "h", "a", "--keep-last", "2", "--keep-daily", "2"];
    let args: Vec<_> = args.into_iter().chain(["--keep-tag", "keep", "--dry-run"]).collect();
    let ran = world.vault(&args);
    let lines = ran.lines();
    assert!(lines[0].starts_with("ID        STORED"), "{}", lines[0]);
    let line = |number: usize| lines.iter().find(|l| l.starts_with(&all[number][..8])).copied();
    for (number, expected) in [
        (9, "keep    last 1, daily 2026-11-20, last good"),
        (8, "keep    last 2"),
        (7, "forget  no rule keeps it"),
        (3, "keep    tag keep"),
    ] {
        let line = line(number).expect("each has a line");
        assert!(line.ends_with(expected), "{line}");
    }
    assert!(line(10).is_none(), "of other series nothing is said");
    assert_eq!(lines.last(), Some(&"would forget 7 of 10 of a on h"));
    let document = world.json(&args, 0);
    assert_eq!(document["dry_run"], true);
    assert_eq!(document["snapshots"].as_array().map(Vec::len), Some(10));
    let first = &document["snapshots"][0];
    assert_eq!((&first["id"], &first["keep"]), (&json!(all[9]), &json!(true)));
    assert_eq!(first["reasons"], json!(["last 1", "daily 2026-11-20", "last good"]));
    assert_eq!(first["stored"], "2026-11-20T21:00:00Z");
    assert_eq!(document["series"][0]["going"], 7);
    assert_eq!(document["forgotten"], json!([]));
    assert_eq!(listed(&world), all);
}

#[test]
fn neither_a_snapshot_nor_a_policy_or_one_that_keeps_nothing_is_a_mistake() {
    let world = World::new();
    let all = twelve(&world);
    for args in [
        &["forget"][..],
        &["forget", "--undo"],
        &["forget", "--from", "h"],
        &["forget", "--keep-last", "0"],
        &["forget", "--keep-last", "0", "--keep-daily", "0", "--keep-within", "0s"],
        &["forget", "--keep-within", "soon"],
        &["forget", "--keep-last", "1", "no/source"],
    ] {
        let all: Vec<&str> = args.iter().copied().chain(["--yes"]).collect();
        assert_eq!(world.json(&all, 2)["error"]["kind"], "usage", "{args:?}");
    }
    for (args, hint) in [
        (&["forget", "--keep-last", "1"][..], "h, other"),
        (&["forget", "--keep-last", "1", "--from", "othr"], "`other`"),
        (&["forget", "--keep-last", "1", "--from", "h", "b"], "other: add `--from HOST`"),
        (&["forget", "--keep-last", "1", "--from", "*", "bb"], ""),
        (&["forget", "--yes", "ffffffff"], ""),
    ] {
        let error = world.json(args, 15)["error"].clone();
        let said = error["hint"].as_str().expect("a hint");
        assert!(said.contains(hint), "{args:?}: {said}");
    }
    assert_eq!(listed(&world), all);
}

/// Runs it at a terminal where somebody types `answer` when asked; returns the exit code and what
/// was shown.
fn at_terminal(world: &World, args: &str, answer: &str) -> (Option<i32>, String) {
    let program = world.command();
    let line = format!("{} {args}", program.get_program().to_str().expect("text"));
    let mut script = std::process::Command::new("script");
    let _ = script.args(["-qec", &line, "/dev/null"]).env_clear();
    for (name, value) in program.get_envs() {
        let _ = script.env(name, value.expect("set"));
    }
    let _ = script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = script.spawn().expect("started");
    let mut typing = child.stdin.take();
    let mut shown = Vec::new();
    for byte in BufReader::new(child.stdout.take().expect("a pipe")).bytes() {
        shown.push(byte.expect("read"));
        if shown.ends_with(b"[y/N] ")
            && let Some(mut typing) = typing.take()
        {
            // What was typed before the question is thrown away.
            typing.write_all(format!("{answer}\n").as_bytes()).expect("typed");
        }
    }
    let ended = child.wait().expect("ended");
    (ended.code(), String::from_utf8_lossy(&shown).into_owned())
}

#[test]
fn at_a_terminal_more_than_three_tenths_of_a_series_go_only_if_somebody_says_yes() {
    let world = World::new();
    let all = twelve(&world);
    // Three of ten is not more than three tenths: nothing is asked, and so nothing answered.
    let (code, shown) = at_terminal(&world, "forget --from h --keep-last 7", "n");
    assert_eq!((code, listed(&world)), (Some(0), all[3..].to_vec()), "{shown}");
    // Three of seven is.
    let much = "forget --from h --keep-last 4";
    let (code, shown) = at_terminal(&world, much, "n");
    assert!(shown.contains("3 of 7 of a on h. Go on?"), "{shown}");
    assert_eq!((code, listed(&world)), (Some(14), all[3..].to_vec()), "{shown}");
    let (code, shown) = at_terminal(&world, &format!("{much} --yes"), "n");
    assert!(!shown.contains("Go on?"), "{shown}");
    assert_eq!((code, listed(&world)), (Some(0), all[6..].to_vec()), "{shown}");
    // One of two is half of it, by name too.
    let by_name = "forget other/b@2026-11-20T22:30";
    let (code, shown) = at_terminal(&world, by_name, "y");
    assert!(shown.contains("1 of 2 of b on other. Go on?"), "{shown}");
    assert_eq!((code, listed(&world).len()), (Some(0), 5), "{shown}");
}

#[test]
fn away_from_a_terminal_what_was_typed_is_obeyed() {
    let world = World::new();
    let all = twelve(&world);
    let ran = world.vault(&["forget", "--from", "h", "--keep-last", "4"]);
    assert_eq!(ran.lines(), ["forgot 6 of 10 of a on h"]);
    let ran = world.vault(&["forget", &all[9][..12], "other/b@2026-11-20T22:30", "-q"]);
    assert_eq!(ran.lines(), [&all[9], &all[10]]);
    let left = [6, 7, 8, 11].map(|number: usize| all[number].clone());
    assert_eq!(listed(&world), left);
    assert_eq!(
        world.vault(&["forget", "--from", "h", "--keep-last", "3"]).lines(),
        ["nothing to forget"]
    );
}

#[test]
fn all_hosts_are_meant_only_by_a_star_and_each_series_has_its_own_policy() {
    let world = World::new();
    let all = twelve(&world);
    let args = ["forget", "--from", "*", "--keep-last", "1", "--yes"];
    let document = world.json(&args, 0);
    assert_eq!(document["forgotten"].as_array().map(Vec::len), Some(10));
    assert_eq!(listed(&world), [all[9].clone(), all[11].clone()]);
}

#[test]
fn what_other_verbs_say_afterwards_is_right() {
    let world = World::new();
    let all = twelve(&world);
    let stats = world.json(&["stats"], 0);
    assert_eq!((&stats["snapshots"], &stats["series"]), (&json!(12), &json!(2)));
    let _ = world.json(&["forget", &all[9], &all[10], &all[11], "--yes"], 0);
    // What is named by its series is the newest that is left.
    assert_eq!(world.json(&["ls", "latest"], 0)["snapshot"], json!(all[8]));
    assert_eq!(world.json(&["ls", "a"], 0)["snapshot"], json!(all[8]));
    assert_eq!(world.json(&["inspect", "latest"], 0)["id"], json!(all[8]));
    let _ = world.json(&["ls", "b"], 15);
    let _ = world.json(&["ls", &all[9][..16]], 15);
    let stats = world.json(&["stats"], 0);
    assert_eq!((&stats["snapshots"], &stats["series"]), (&json!(9), &json!(1)));
    assert_eq!((&stats["logical_bytes"], &stats["latest_bytes"]), (&json!(45_000), &json!(5000)));
    let report = world.json(&["check", "--read-data"], 0);
    assert_eq!((&report["clean"], &report["snapshots"]), (&json!(true), &json!(9)));
    // The next backup goes on from what is left, and after what was forgotten.
    let next = world.save("a", &world.folder("src"));
    let inspected = world.json(&["inspect", &next], 0);
    assert_eq!(inspected["items"][0]["parent"], json!(all[8]));
    assert_eq!(inspected["sequence"], 13);
    let ran = world.vault(&["inspect", &next]);
    assert!(ran.text(0).contains("record 12, which was forgotten"), "{}", ran.text(0));
    assert_eq!(world.json(&["check"], 0)["clean"], true);
}

#[test]
fn what_was_forgotten_is_listed_and_taken_back() {
    let world = World::new();
    let all = twelve(&world);
    let _ = world.json(&["forget", &all[4], &all[5], "--yes"], 0);
    let gone = world.json(&["snapshots", "--forgotten"], 0);
    assert_eq!(ids(&gone, "snapshots"), all[4..6]);
    assert!(gone["snapshots"][0]["forgotten"].is_string(), "{gone}");
    let ran = world.vault(&["snapshots", "--forgotten", "a"]);
    assert!(ran.lines()[0].ends_with("FORGOTTEN"), "{}", ran.lines()[0]);
    assert_eq!(ran.lines().len(), 3);
    let dry = world.json(&["forget", "--undo", &all[4], "--dry-run"], 0);
    assert_eq!(dry["dry_run"], true);
    assert_eq!(listed(&world).len(), 10);
    let back = world.json(&["forget", "--undo", &all[4][..10]], 0);
    assert_eq!(back["taken_back"][0]["snapshot"], json!(all[4]));
    assert_eq!(listed(&world).len(), 11);
    let gone = world.json(&["snapshots", "--forgotten"], 0);
    assert_eq!(ids(&gone, "snapshots"), all[5..6]);
    let target = world.path("target");
    let ran = world.vault(&["restore", &all[4], "--target", target.to_str().expect("text")]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(std::fs::read(target.join("file")).expect("restored"), noise(4, 5000));
    // What was never forgotten is none of those.
    let error = world.json(&["forget", "--undo", &all[0]], 15)["error"].clone();
    assert!(error["hint"].as_str().is_some_and(|hint| hint.contains("--forgotten")), "{error}");
    // Twice is once.
    let _ = world.json(&["forget", "--undo", &all[4]], 0);
}

#[test]
fn a_record_that_cannot_be_read_is_never_forgotten_silently() {
    let world = World::new();
    let all = twelve(&world);
    let record = world.path("repository").join(format!("snapshots/{}.pending", all[5]));
    std::fs::write(&record, b"not what was written").expect("damaged");
    let policy = ["forget", "--from", "h", "--keep-last", "8"];
    assert_eq!(world.json(&policy, 14)["error"]["kind"], "refused");
    let ran = world.vault(&[&policy[..], &["--yes"]].concat());
    assert_eq!(ran.text(3), "forgot 1 of 9 of a on h\n");
    assert!(ran.stderr.contains(&all[5]), "{}", ran.stderr);
    let by_id = ["forget", &all[5][..16]];
    assert_eq!(world.json(&by_id, 14)["error"]["kind"], "refused");
    let done = world.json(&[&by_id[..], &["--yes"]].concat(), 0);
    assert_eq!((&done["forgotten"], &done["blind"]), (&json!([all[5]]), &json!([all[5]])));
    assert_eq!(listed(&world).len(), 10);
    assert_eq!(world.json(&["check"], 0)["clean"], true);
}

#[test]
fn days_are_those_of_the_local_time_zone() {
    let world = World::new();
    let all = twelve(&world);
    let args = ["forget", "--from", "h", "--keep-daily", "9", "--dry-run", "--json"];
    let kept = |zone: &str| {
        let ran = world.command().env("TZ", zone).args(args).output().expect("it runs");
        let document: Value = serde_json::from_slice(&ran.stdout).expect("one document");
        let rows = document["snapshots"].as_array().expect("a list").clone();
        let kept = rows.iter().filter(|row| row["keep"] == true);
        kept.map(|row| row["id"].as_str().expect("an id").to_owned()).collect::<Vec<_>>()
    };
    // From 12:00 to 21:00 UTC, and so from 20:00 to 05:00 eight hours to the east.
    assert_eq!(kept("UTC"), all[9..10]);
    assert_eq!(kept("XXX-8"), [all[9].clone(), all[3].clone()]);
}

#[test]
fn a_repository_copied_without_its_times_asks_first() {
    let world = World::new();
    let all = twelve(&world);
    for id in &all[..10] {
        world.set_stored(id, START + 400 * 86_400);
    }
    let args = ["forget", "--from", "h", "--keep-last", "9"];
    assert_eq!(world.json(&args, 14)["error"]["kind"], "refused");
    let ran = world.vault(&[&args[..], &["--yes"]].concat());
    assert_eq!(ran.lines(), ["forgot 1 of 10 of a on h"]);
    assert!(ran.stderr.contains("copied without its times"), "{}", ran.stderr);
    // Stored at one time they go by their own.
    assert_eq!(listed(&world), all[1..]);
}

#[test]
fn f095_a_tombstone_that_is_not_the_owners_is_told_of() {
    let world = World::new();
    let all = twelve(&world);
    let _ = world.json(&["forget", &all[0]], 0);
    let tombstones = world.path("repository").join("forget");
    // The tombstone of one snapshot in the place of another's.
    let name = format!("forget/{}", all[1]);
    let copied = std::fs::copy(tombstones.join(&all[0]), tombstones.join(&all[1]));
    let _ = copied.expect("copied");
    let ran = world.vault(&["snapshots"]);
    assert_eq!(ran.lines().len(), 12);
    assert!(ran.stderr.contains(&name), "{}", ran.stderr);
    assert_eq!(world.json(&["snapshots"], 0)["forged"], json!([name]));
    let report = world.json(&["check"], 0);
    assert!(report.to_string().contains(&name), "{report}");
}

#[test]
fn forget_with_prune_condemns_what_was_forgotten_and_a_dry_run_only_tells() {
    let world = World::new();
    let all = twelve(&world);
    let flags = ["forget", "--keep-last", "1", "--from", "*", "--prune", "--yes"];
    let stored = || crate::support::repo::files_below(&world.path("repository"));
    let number = |value: &serde_json::Value| value.as_u64().expect("a number");
    let before = stored();
    let told = world.json(&[&flags[..], &["--dry-run"]].concat(), 0);
    assert!(number(&told["prune"]["free"]["bytes"]) > 0, "{told}");
    assert_eq!((stored(), listed(&world)), (before.clone(), all.clone()), "nothing was done");
    // Another host writes here too: what is condemned now is deleted a day later.
    let done = world.json(&flags, 0);
    assert!(number(&done["prune"]["condemned"]["objects"]) > 0, "{done}");
    assert_eq!(done["prune"]["plan"]["grace_seconds"], 86_400);
    assert!(listed(&world).len() < all.len());
    let swept = world.json(&["prune", "--grace", "0s"], 0);
    assert!(number(&swept["packs_deleted"]["objects"]) > 0, "{swept}");
    assert!(stored().len() < before.len());
    let _ = world.json(&["check", "--read-data"], 0);
}
