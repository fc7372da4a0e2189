//! Helpers: what they carry to and from a volume, and that they go away.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use volume_vault::clock::{Clock, Time};
use volume_vault::docker::{Access, DockerError, Helper, sweep};

use super::{TestVolume, ask, container_label, engine, exists, fresh_name, noise};

const RUN: &str = "volume-vault.run";

/// A tar stream as it is written to a volume: root 750 70:70, a file and a directory.
fn tar_of(content: &[u8]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, mode, content) in
        [("v/", 0o750, None), ("v/data", 0o640, Some(content)), ("v/sub/", 0o711, None)]
    {
        let mut header = tar::Header::new_ustar();
        let directory = content.is_none();
        let kind = if directory { tar::EntryType::Directory } else { tar::EntryType::Regular };
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(70);
        header.set_gid(70);
        header.set_mtime(1_000_000_000);
        header.set_size(content.map_or(0, |c| c.len() as u64));
        tar.append_data(&mut header, path, content.unwrap_or_default()).expect("an entry");
    }
    tar.into_inner().expect("a tar")
}

/// Mode, owner, group and content by path.
fn entries(archive: &[u8]) -> BTreeMap<String, (u32, u64, u64, Vec<u8>)> {
    let mut entries = BTreeMap::new();
    for entry in tar::Archive::new(archive).entries().expect("a tar") {
        let mut entry = entry.expect("an entry");
        let path = entry.path().expect("a path").display().to_string();
        let mut content = Vec::new();
        let _ = entry.read_to_end(&mut content).expect("content");
        let header = entry.header();
        let mode = header.mode().expect("a mode") & 0o7777;
        let owner = (header.uid().expect("a number"), header.gid().expect("a number"));
        let _ = entries.insert(path, (mode, owner.0, owner.1, content));
    }
    entries
}

fn read_all(helper: &Helper) -> Vec<u8> {
    let mut archive = Vec::new();
    let mut reader = helper.read_archive().expect("the volume opens");
    let _ = reader.read_to_end(&mut archive).expect("it is read");
    archive
}

#[test]
fn archive_comes_back_as_it_was_written_with_mode_and_owner_of_the_root() {
    let engine = engine();
    let volume = TestVolume::new(&engine);
    let content = noise(5_000_001);
    let helper = volume.helper(Access::Write);
    helper.write_archive(&tar_of(&content)[..]).expect("it is written");
    helper.remove().expect("it goes");

    let root = engine.host_path(&volume.info).expect("root on the same machine");
    let meta = fs::metadata(&root).expect("the root");
    assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.gid()), (0o750, 70, 70));
    let meta = fs::metadata(root.join("data")).expect("the file");
    assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.mtime()), (0o640, 70, 1_000_000_000));

    let helper = volume.helper(Access::Read);
    let read = entries(&read_all(&helper));
    assert_eq!(read.keys().collect::<Vec<_>>(), ["./", "./data", "./sub/"]);
    assert_eq!(read["./"], (0o750, 70, 70, Vec::new()));
    assert_eq!(read["./sub/"], (0o711, 70, 70, Vec::new()));
    assert!(read["./data"] == (0o640, 70, 70, content), "the content differs");
}

#[test]
fn helper_is_gone_when_it_is_dropped_and_its_volume_stays() {
    let engine = engine();
    let volume = TestVolume::new(&engine);
    let helper = volume.helper(Access::Read);
    let id = helper.id().to_owned();
    assert!(exists(&engine, &id));
    drop(helper);
    assert!(!exists(&engine, &id));
    let _ = engine.volume(volume.name()).expect("the volume is still there");
}

#[test]
fn helper_outlives_its_handle_while_a_stream_is_open_and_goes_with_it() {
    let engine = engine();
    let volume = TestVolume::new(&engine);
    let path = engine.host_path(&volume.info).expect("root on the same machine");
    fs::write(path.join("big"), noise(20_000_000)).expect("a file");
    let helper = volume.helper(Access::Read);
    let id = helper.id().to_owned();
    let mut reader = helper.read_archive().expect("the volume opens");
    drop(helper);
    reader.read_exact(&mut [0; 100_000]).expect("it is still being sent");
    drop(reader);
    assert!(!exists(&engine, &id));
}

#[test]
fn helper_can_neither_run_nor_reach_a_network_nor_write_when_it_only_reads() {
    let engine = engine();
    let volume = TestVolume::new(&engine);
    let helper = volume.helper(Access::Read);
    let id = helper.id();
    let answer = ask(&engine, "GET", &format!("/containers/{id}/json"), "").json();
    let host = &answer["HostConfig"];
    assert_eq!(host["NetworkMode"], "none");
    assert_eq!(host["CapDrop"][0], "ALL");
    assert_eq!(host["LogConfig"]["Type"], "none");
    assert_eq!(host["Mounts"][0]["VolumeOptions"]["NoCopy"], true);
    assert_eq!(host["Mounts"][0]["ReadOnly"], true);
    assert_eq!(answer["State"]["Status"], "created");
    assert_eq!(ask(&engine, "POST", &format!("/containers/{id}/start"), "").status, 400);
    let error = helper.write_archive(&tar_of(b"x")[..]).expect_err("it may only read");
    assert!(matches!(error, DockerError::Unsupported(_)), "{error:?}");
}

#[test]
fn helper_leaves_an_empty_volume_and_its_root_as_they_are() {
    let engine = engine();
    let volume = TestVolume::new(&engine);
    let path = engine.host_path(&volume.info).expect("root on the same machine");
    std::os::unix::fs::chown(&path, Some(70), Some(71)).expect("root may");
    let helper = volume.helper(Access::Write);
    assert_eq!(entries(&read_all(&helper)).keys().collect::<Vec<_>>(), ["./"]);
    let meta = fs::metadata(&path).expect("the root");
    assert_eq!((meta.uid(), meta.gid()), (70, 71));
    assert_eq!(fs::read_dir(&path).expect("a folder").count(), 0);
}

#[test]
fn helper_for_a_missing_volume_is_refused_and_does_not_make_it() {
    let engine = engine();
    let name = fresh_name("none");
    let error = Helper::create(&engine, &name, Access::Read).expect_err("there is none");
    assert!(matches!(error, DockerError::NotFound { kind: "volume", .. }), "{error:?}");
    assert_eq!(ask(&engine, "GET", &format!("/volumes/{name}"), "").status, 404);
}

#[test]
fn writing_refuses_to_put_a_file_where_a_directory_is() {
    let engine = engine();
    let volume = TestVolume::new(&engine);
    let path = engine.host_path(&volume.info).expect("root on the same machine");
    fs::create_dir(path.join("data")).expect("a folder");
    let helper = volume.helper(Access::Write);
    let error = helper.write_archive(&tar_of(b"x")[..]).expect_err("it is a directory");
    assert!(matches!(error, DockerError::Engine { .. }), "{error:?}");
    assert!(path.join("data").is_dir());
}

#[test]
fn archive_the_engine_cannot_read_is_reported_and_not_taken_for_written() {
    let engine = engine();
    let volume = TestVolume::new(&engine);
    let helper = volume.helper(Access::Write);
    // more than any buffer on the way holds, so the engine answers while it is being sent
    let error = helper.write_archive(&noise(50_000_000)[..]).expect_err("this is no tar");
    assert!(
        matches!(error, DockerError::Engine { .. } | DockerError::Interrupted { .. }),
        "{error:?}"
    );
}

#[test]
fn archive_that_cannot_be_read_to_its_end_breaks_off_with_its_own_error() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("pack 17 is damaged"))
        }
    }
    let engine = engine();
    let volume = TestVolume::new(&engine);
    let helper = volume.helper(Access::Write);
    let whole = tar_of(&noise(3_000_000));
    let archive = whole[..1_000_000].chain(Broken);
    let error = helper.write_archive(archive).expect_err("it breaks off");
    assert!(matches!(&error, DockerError::Input(e) if e.to_string() == "pack 17 is damaged"));
    let id = helper.id().to_owned();
    drop(helper);
    assert!(!exists(&engine, &id));
}

#[test]
fn writer_takes_an_archive_in_small_pieces() {
    let engine = engine();
    let volume = TestVolume::new(&engine);
    let helper = volume.helper(Access::Write);
    let content = noise(700_000);
    let mut writer = helper.archive_writer().expect("the volume opens");
    for piece in tar_of(&content).chunks(511) {
        writer.write_all(piece).expect("it is taken");
    }
    writer.finish().expect("it is unpacked");
    let path = engine.host_path(&volume.info).expect("root on the same machine");
    assert!(fs::read(path.join("data")).expect("the file") == content, "the content differs");
}

/// Makes a container that looks like a helper of the run `run`.
fn left_behind(volume: &TestVolume, model: &Helper, run: &str) -> String {
    let engine = &volume.engine;
    let path = format!("/containers/{}/json", model.id());
    let image = ask(engine, "GET", &path, "").json()["Image"].clone();
    let body = serde_json::json!({
        "Image": image, "Cmd": ["/volume-vault"],
        "Labels": { "volume-vault.helper": "1", RUN: run },
        "HostConfig": { "NetworkMode": "none" },
    });
    let answer = ask(engine, "POST", "/containers/create", &body.to_string());
    answer.json()["Id"].as_str().expect("an id").to_owned()
}

#[test]
fn sweep_removes_helpers_of_dead_runs_and_those_of_strangers_after_a_day() {
    let engine = engine();
    let volume = TestVolume::new(&engine);
    let own = volume.helper(Access::Read);
    let label = container_label(&engine, own.id(), RUN).expect("its run");
    let (same_pid, start) = label.rsplit_once('.').expect("a start time");
    let start: u64 = start.parse().expect("a number");
    let dead = left_behind(&volume, &own, &format!("{same_pid}.{}", start - 1));
    let stranger = left_behind(&volume, &own, "1.m.b.1.1.1");
    let now = Clock::System.now();

    let swept = sweep(&engine, Clock::Fixed(now)).expect("they are listed");
    assert!(swept.removed.iter().any(|c| c.id == dead), "{swept:?}");
    assert!(swept.kept.iter().any(|c| c.id == own.id()), "{swept:?}");
    assert!(swept.kept.iter().any(|c| c.id == stranger), "{swept:?}");
    assert!(!exists(&engine, &dead));

    let tomorrow = Clock::Fixed(Time::new(now.seconds + 24 * 3600 + 60, 0));
    let swept = sweep(&engine, tomorrow).expect("they are listed");
    assert!(swept.removed.iter().any(|c| c.id == stranger), "{swept:?}");
    assert!(exists(&engine, own.id()) && !exists(&engine, &stranger));
    assert!(Path::new(&volume.info.mountpoint).is_dir());
}
