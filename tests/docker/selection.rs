//! Which volumes are meant, what is printed about them, and what must never be printed.

use std::fs;
use std::path::Path;

use volume_vault::docker::{Engine, VolumeSpec};

use super::private::PrivateEngine;
use super::vault::{Ended, Machine, snapshot_of};
use super::{TestVolume, engine, fresh_name};

fn make(engine: &Engine, name: &str, labels: &[(&str, &str)]) {
    let mut spec = VolumeSpec::local(name);
    spec.labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let info = engine.create_volume(&spec).expect("the name is free");
    fs::write(Path::new(&info.mountpoint).join("name"), name).expect("written");
}

#[test]
fn selectors_take_the_volumes_they_name_and_a_dry_run_makes_nothing() {
    let private = PrivateEngine::start();
    let engine = private.engine();
    let machine = Machine::beside(&private.socket());
    let _ = machine.run(&["backup", "--all-volumes"]).expect_error(15, &["no volume"]);
    make(&engine, "web", &[("tier", "front"), ("keep", "")]);
    make(&engine, "db", &[("tier", "back"), ("keep", "")]);
    make(&engine, "cache-1", &[("tier", "front")]);
    make(&engine, "cache-2", &[]);

    let planned = |arguments: &[&str]| {
        let all = [&["backup", "--dry-run"], arguments].concat();
        let document = machine.json(&all, 0);
        let names = document["would_save"].as_array().expect("a list").iter();
        let names = names.map(|name| name.as_str().expect("text").replace("volume ", ""));
        names.collect::<Vec<_>>()
    };
    assert_eq!(planned(&["--all-volumes"]), ["cache-1", "cache-2", "db", "web"]);
    assert_eq!(planned(&["--all-volumes", "--except", "cache-*"]), ["db", "web"]);
    assert_eq!(planned(&["--label", "tier=front"]), ["cache-1", "web"]);
    assert_eq!(planned(&["--label", "tier=front", "--label", "keep"]), ["web"]);
    assert_eq!(planned(&["--label", "keep", "--except", "db"]), ["web"]);
    assert_eq!(planned(&["--label", "keep", "cache-2"]), ["cache-2", "db", "web"]);
    assert_eq!(planned(&["web", "volume:web"]), ["web"]);
    let _ = machine.run(&["backup", "--label", "tier=none"]).expect_error(15, &["no volume"]);
    let ended = machine.run(&["backup", "--all-volumes", "--dry-run"]).expect(0);
    assert!(ended.text().contains("would save volume cache-1"), "{ended:?}");
    assert!(!machine.path("data").exists() && !machine.path("config").exists());
    assert!(!machine.path("state").exists() && !machine.path("cache").exists());

    let quiet = machine.run(&["backup", "-q", "--all-volumes", "--except", "cache-*"]).expect(0);
    let mut printed: Vec<_> = quiet.text().lines().map(str::to_owned).collect();
    printed.sort();
    assert_eq!(printed, machine.acknowledged());
    assert_eq!(printed.len(), 2);

    for name in ["web", "db"] {
        engine.remove_volume(name).expect("nobody uses it");
    }
    let plan = machine.json(&["restore", "--dry-run"], 0);
    assert_eq!(plan["would_restore"].as_array().map(Vec::len), Some(2), "{plan}");
    assert_eq!(engine.volumes().expect("a list").volumes.len(), 2);
    let _ = machine.run(&["restore"]).expect_error(14, &["restore 2 items", "--yes"]);
    assert_eq!(engine.volumes().expect("a list").volumes.len(), 2);
    let _ = machine.run(&["restore", "--yes"]).expect(0);
    for name in ["web", "db"] {
        let info = engine.volume(name).expect("it is back");
        let read = fs::read_to_string(Path::new(&info.mountpoint).join("name"));
        assert_eq!(read.expect("it is there"), name);
        assert!(info.labels.contains_key("keep"));
    }
    let _ = machine.run(&["restore", "--yes"]).expect_error(14, &["exists"]);
}

#[test]
fn every_failure_is_one_document_with_kind_code_object_and_message() {
    let engine = engine();
    let volume = TestVolume::new(&engine);
    let machine = Machine::new();
    let _ = machine.run(&["backup", volume.name()]).expect(0);
    let full = machine.path("");
    let target = full.to_str().expect("text");
    let cases: [(&[&str], &str, i32); 8] = [
        (&["backup", "no-such-volume"], "not_found", 15),
        (&["backup", "dir:/no/such/folder"], "not_found", 15),
        (&["backup"], "usage", 2),
        (&["backup", "stdin:a", "stdin:b"], "usage", 2),
        (&["restore", volume.name()], "refused", 14),
        (&["restore", volume.name(), "--target", target], "refused", 14),
        (&["restore", "no-such-snapshot", "--as", "x"], "not_found", 15),
        (&["backup", volume.name(), "--repo", "/no/such/repository"], "no_repository", 10),
    ];
    for (arguments, kind, code) in cases {
        let document = machine.json(arguments, code);
        let error = document["error"].as_object().expect("an error");
        assert_eq!(error["kind"], kind, "{document}");
        assert_eq!(error["exit_code"], code, "{document}");
        assert!(error.contains_key("object"), "{document}");
        let message = error["message"].as_str().expect("text");
        let named = arguments
            .iter()
            .any(|argument| message.contains(argument.rsplit(':').next().unwrap_or(argument)));
        assert!(named || code == 2, "{document}");
    }
}

#[test]
fn failure_of_one_source_of_several_is_told_beside_what_was_saved() {
    let engine = engine();
    let volume = TestVolume::new(&engine);
    let machine = Machine::new();
    let _ = machine.run(&["init"]).expect(0);
    let options = ["backup", volume.name(), "stdin:cut", "--tar"];
    let ended = machine.run_with(&[&options[..], &["--json"]].concat(), b"no tar").expect(1);
    let documents = serde_json::Deserializer::from_slice(&ended.stdout);
    let documents: Vec<serde_json::Value> =
        documents.into_iter().collect::<Result<_, _>>().expect("JSON");
    assert_eq!(documents.len(), 1, "one document: {documents:?}");
    assert_eq!(documents[0]["backups"].as_array().map(Vec::len), Some(1), "{documents:?}");
    assert!(documents[0]["error"]["object"].to_string().contains("cut"), "{documents:?}");
    assert_eq!(machine.acknowledged().len(), 1);
}

/// Whether bytes occur in a file, or in any file below a folder.
fn holds(path: &Path, wanted: &[u8]) -> Vec<String> {
    let Ok(metadata) = fs::symlink_metadata(path) else { return Vec::new() };
    if metadata.is_dir() {
        let entries = fs::read_dir(path).expect("it lists");
        return entries.flat_map(|e| holds(&e.expect("listed").path(), wanted)).collect();
    }
    let bytes = fs::read(path).expect("it reads");
    let found = bytes.windows(wanted.len()).any(|window| window == wanted);
    if found { vec![path.display().to_string()] } else { Vec::new() }
}

#[test]
fn neither_password_nor_content_nor_names_show_anywhere_outside_the_sealed_repository() {
    const PASSWORD: &str = "canary-password-5f3a9c";
    const CONTENT: &str = "canary-content-81be20";
    const FILE: &str = "canary-file-name-d11f07";
    const LABEL: &str = "canary-label-44c0aa";
    let engine = engine();
    let volume = TestVolume::with(&engine, |spec| {
        let _ = spec.labels.insert("secret".into(), LABEL.into());
    });
    let place = engine.host_path(&volume.info).expect("root on the same machine");
    fs::write(place.join(FILE), CONTENT.repeat(1000)).expect("written");
    let mut machine = Machine::new();
    machine.set("VAULT_REPO", machine.path("repository"));
    machine.set("VAULT_PASSWORD", PASSWORD);
    let mut ended: Vec<Ended> = vec![machine.run(&["init", "-v"]).expect(0)];
    ended.push(machine.run(&["backup", "-v", volume.name()]).expect(0));
    let document = machine.run(&["backup", "--json=lines", volume.name()]).expect(0);
    ended.push(document);

    machine.unset("VAULT_PASSWORD");
    let file = machine.path("work/password");
    fs::write(&file, format!("{PASSWORD}\n")).expect("written");
    let by_file = ["--password-file", file.to_str().expect("text")];
    let open = |mode| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        fs::set_permissions(&file, mode).expect("set");
    };
    let backup = [&["backup", volume.name()], &by_file[..]].concat();
    open(0o644);
    ended.push(machine.run(&backup).expect_error(14, &["password"]));
    open(0o600);
    ended.push(machine.run(&backup).expect(0));
    let copy = fresh_name("copy");
    let restore = ["restore", "-vv", volume.name(), "--as", &copy];
    ended.push(machine.run(&[&restore[..], &by_file].concat()).expect(0));
    engine.remove_volume(&copy).expect("nobody uses it");
    fs::write(&file, format!("{PASSWORD} not\n")).expect("written");
    ended.push(machine.run(&[&backup[..], &["-vv"]].concat()).expect_error(12, &[]));
    ended.push(machine.run(&[&backup[..], &["--json"]].concat()).expect(12));
    let command = format!("echo {PASSWORD}; echo and more >&2; exit 3");
    machine.set("VAULT_PASSWORD_COMMAND", command);
    let failed = machine.run(&["backup", volume.name()]);
    assert!(failed.code.is_some_and(|code| code != 0), "{failed:?}");
    ended.push(failed);
    fs::remove_file(&file).expect("removed");

    for run in &ended {
        for canary in [PASSWORD, CONTENT, LABEL] {
            let printed = run.text() + &run.stderr;
            assert!(!printed.contains(canary), "{canary} in {printed}");
        }
    }
    assert_eq!(machine.acknowledged(), [""; 0]);
    assert_eq!(super::vault::acknowledged(&machine.path("repository")).len(), 3);
    for canary in [PASSWORD, CONTENT, LABEL, FILE, volume.name()] {
        assert_eq!(holds(&machine.path(""), canary.as_bytes()), [""; 0], "{canary}");
    }
}

#[test]
fn documents_of_backup_and_restore_name_what_was_done() {
    let engine = engine();
    let volume = TestVolume::new(&engine);
    let machine = Machine::new();
    let document = machine.json(&["backup", volume.name()], 0);
    let backup = &document["backups"][0];
    for field in [
        "snapshot",
        "head",
        "item",
        "entries",
        "bytes",
        "bytes_read",
        "bytes_new",
        "bytes_stored",
        "rate",
        "consistency",
        "efficiency",
        "method",
        "live",
        "warnings",
    ] {
        assert!(!backup[field].is_null(), "{field} in {backup}");
    }
    assert_eq!(backup["snapshot"].as_str().map(str::len), Some(64));
    assert_eq!(machine.acknowledged(), [snapshot_of(&document)]);
    let copy = fresh_name("copy");
    let restored = machine.json(&["restore", volume.name(), "--as", &copy], 0);
    let restore = &restored["restores"][0];
    assert_eq!(restore["target"]["volume"], copy.as_str());
    assert_eq!(restore["snapshot"], backup["snapshot"]);
    engine.remove_volume(&copy).expect("nobody uses it");
    let lines = machine.run(&["backup", "--json=lines", volume.name()]).expect(0).text();
    for line in lines.lines() {
        let value: serde_json::Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(value["schema"], 1, "{line}");
    }
}
