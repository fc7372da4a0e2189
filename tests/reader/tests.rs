//! The document is enough to read what the program writes, now and then.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use tempfile::TempDir;

use super::fixture::{FIXTURES, PASSPHRASE, Program, folder, listing, text};
use super::index::Index;
use super::keys::{self, Key, Keys, Secret};
use super::objects::{self, Store};
use super::restore::restore;
use super::trees::{self, Content, Kind};
use super::{Fault, Repository, wire};
use crate::support::tree::plan::random_tree;
use crate::support::tree::{self, Aspect, describe, diff_except};

const VECTORS: &str = include_str!("../../fixtures/vectors/v1.json");

/// A copy of a fixture, and its manifest.
fn thawed(fixture: &str) -> (TempDir, Value) {
    let (dir, from) = (tempfile::tempdir().expect("a directory"), folder().join(fixture));
    copy(&from.join("repository"), &dir.path().join("repository"));
    let manifest = fs::read(from.join("manifest.json")).expect("a manifest");
    (dir, serde_json::from_slice(&manifest).expect("the manifest is JSON"))
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("made");
    for entry in fs::read_dir(from).expect("it lists") {
        let entry = entry.expect("it lists on");
        match entry.file_type().expect("a type").is_dir() {
            true => copy(&entry.path(), &to.join(entry.file_name())),
            false => drop(fs::copy(entry.path(), to.join(entry.file_name())).expect("copied")),
        }
    }
}

fn open(dir: &Path) -> Result<Repository, Fault> {
    Repository::open(dir, &Secret::Passphrase(PASSPHRASE.as_bytes()))
}

/// The repository id and the master key.
fn master(dir: &Path) -> ([u8; 16], Key) {
    let store = Store::new(dir);
    let repository = objects::repository_id(&store).expect("an id");
    let secret = Secret::Passphrase(PASSPHRASE.as_bytes());
    (repository, keys::master(&store, repository, &secret).expect("a key"))
}

/// Says in few words what is not as it should be.
fn assert_listing(found: &Value, expected: &Value) {
    let (found, expected) = (found.as_object().expect("a map"), expected.as_object().expect("one"));
    let paths: BTreeSet<_> = found.keys().chain(expected.keys()).collect();
    for path in paths {
        assert_eq!(found.get(path), expected.get(path), "{path}");
    }
}

#[test]
fn no_fixture_is_without_a_test() {
    let mut found = BTreeSet::new();
    for version in fs::read_dir(folder()).expect("it lists") {
        let version = version.expect("it lists on");
        for name in fs::read_dir(version.path()).expect("it lists") {
            let name = name.expect("it lists on").file_name();
            let _ = found.insert(format!("{}/{}", version.file_name().display(), name.display()));
        }
    }
    assert_eq!(found, FIXTURES.iter().map(|name| (*name).to_owned()).collect());
}

#[test]
fn the_document_is_enough_to_restore_every_fixture() {
    for fixture in FIXTURES {
        let (dir, manifest) = thawed(fixture);
        let repository = open(&dir.path().join("repository")).expect("it opens");
        assert_eq!(repository.reports, [""; 0]);
        let snapshots = manifest["snapshots"].as_array().expect("a list");
        assert_eq!(repository.snapshots.len(), snapshots.len());
        for (found, expected) in repository.snapshots.iter().zip(snapshots) {
            assert_eq!(expected["snapshot"], wire::hex(&found.id));
            assert_eq!(expected["tags"], Value::from(found.tags.clone()));
            assert_eq!((found.host.as_str(), found.items.len()), ("fixture", 1));
            assert_eq!(expected["kind"], found.items[0].kind);
            let target = dir.path().join(wire::hex(&found.id));
            restore(&repository, &found.items[0], &target).expect("restored");
            assert_listing(&listing(&target), &expected["entries"]);
        }
        let chain = repository.snapshots.iter().map(|s| s.chain.sequence);
        assert_eq!(chain.collect::<Vec<_>>(), [1, 2, 3]);
    }
}

#[test]
fn every_fixture_opens_and_restores() {
    for fixture in FIXTURES {
        let (dir, manifest) = thawed(fixture);
        let (home, repository) = (dir.path().join("home"), dir.path().join("repository"));
        let program = Program { home, repository, password: Some(PASSPHRASE) };
        for expected in manifest["snapshots"].as_array().expect("a list") {
            let id = expected["snapshot"].as_str().expect("an id");
            let target = dir.path().join(id);
            let to = target.to_str().expect("a plain path");
            let _ = program.run(&["restore", id, "--target", to, "--verify"], Stdio::null());
            assert_listing(&listing(&target), &expected["entries"]);
        }
    }
}

#[test]
fn fixtures_hold_the_forms_that_small_trees_lack() {
    for fixture in FIXTURES {
        let (dir, _) = thawed(fixture);
        let repository = open(&dir.path().join("repository")).expect("it opens");
        let item = &repository.snapshots[0].items[0];
        assert!(item.level > 0, "the tree has one node only");
        let (mut levels, mut bytes) = (BTreeSet::new(), 0);
        trees::walk(&repository.index, &item.root, item.level, &mut |_, entry| {
            match entry.kind {
                Kind::File { size, content: Content::Nodes { level, .. } } => {
                    let _ = levels.insert(level);
                    bytes += size;
                }
                Kind::File { size, content: Content::Extents(_) } => bytes += size,
                _ => {}
            }
            Ok(())
        })
        .expect("it walks");
        assert_eq!(levels, BTreeSet::from([0, 1]));
        assert_eq!(bytes, item.figures.1);
    }
}

#[test]
fn the_index_made_from_packs_is_that_of_the_segments() {
    let (dir, _) = thawed("v1/basic");
    let dir = dir.path().join("repository");
    let (id, master) = master(&dir);
    let read = |index| {
        let repository = Repository::read(&dir, Keys::new(&master, id), index).expect("it opens");
        assert_eq!(repository.reports, [""; 0]);
        repository.index.listing()
    };
    let with = read(Index::read);
    fs::remove_dir_all(dir.join("index")).expect("removed");
    assert!(with.len() > 300 && read(Index::rebuild) == with);
}

#[test]
fn a_wrong_password_is_told_from_damage_by_the_commitment() {
    let (dir, _) = thawed("v1/basic");
    let dir = dir.path().join("repository");
    let opened = Repository::open(&dir, &Secret::Passphrase(b"Fixture"));
    assert_eq!(opened.err(), Some(Fault::WrongSecret));

    let slot = fs::read_dir(dir.join("keys")).expect("it lists").next().expect("a slot");
    let slot = slot.expect("it lists on").path();
    let mut bytes = fs::read(&slot).expect("it reads");
    *bytes.last_mut().expect("bytes") ^= 1;
    fs::write(&slot, bytes).expect("written");
    assert!(matches!(open(&dir).err(), Some(Fault::Damaged(_))));
}

#[test]
fn a_changed_byte_in_any_object_is_found() {
    let (dir, manifest) = thawed("v1/basic");
    let dir = dir.path().join("repository");
    let count = manifest["snapshots"].as_array().expect("a list").len();
    let (id, master) = master(&dir);
    let open = || Repository::read(&dir, Keys::new(&master, id), Index::read);
    for name in ["config", "index", "snapshots"] {
        for object in fs::read_dir(dir.join(name)).expect("it lists") {
            let object = object.expect("it lists on").path();
            let whole = fs::read(&object).expect("it reads");
            for at in [4, 5, 20, 30, whole.len() / 2, whole.len() - 1] {
                let mut changed = whole.clone();
                changed[at] ^= 2;
                fs::write(&object, changed).expect("written");
                let found = open().map_or(true, |repository| {
                    !repository.reports.is_empty()
                        && (name != "snapshots" || repository.snapshots.len() < count)
                });
                assert!(found, "byte {at} of {object:?}");
            }
            fs::write(&object, whole).expect("written");
        }
    }
}

#[test]
fn the_document_tells_what_the_program_writes_today() {
    let dir = tempfile::tempdir().expect("a directory");
    let (source, home) = (dir.path().join("tree"), dir.path().join("home"));
    fs::create_dir(&source).expect("made");
    random_tree(&source, 127, 400);
    fs::write(source.join("text"), text(3, 3 << 20)).expect("written");
    let program = Program { home, repository: dir.path().join("repository"), password: None };
    let _ = program.run(&["init"], Stdio::null());
    let id = program.backup(&[source.to_str().expect("a plain path")], Stdio::null());

    let keys = fs::read_dir(program.home.join("CONFIG/vault/keys")).expect("it lists");
    let paths: Vec<_> = keys.map(|key| key.expect("it lists on").path()).collect();
    let key = fs::read_to_string(&paths[0]).expect("it reads");
    let secret = Secret::of_key_file(&key).expect("a key");
    let repository = Repository::open(&program.repository, &secret).expect("it opens");
    assert_eq!(repository.reports, [""; 0]);
    let item = &repository.snapshots[0].items[0];
    assert_eq!((wire::hex(&repository.snapshots[0].id), item.kind), (id.clone(), 1));
    assert_eq!(Path::new(&item.name), source);

    let ours = dir.path().join("ours");
    restore(&repository, item, &ours).expect("restored");
    let (saved, ours) = (describe(&source), describe(&ours));
    assert!(saved.len() > 300, "the tree is too small");
    // Small holes are not told from zeros, so they may be filled.
    assert_eq!(diff_except(&saved, &ours, &[Aspect::Holes]), [""; 0]);

    // Into a plain directory the program leaves out what gives rights, and makes smaller holes.
    let theirs = dir.path().join("theirs");
    let to = theirs.to_str().expect("a plain path");
    let _ = program.run_to(3, &["restore", &id, "--target", to], Stdio::null());
    let mut ours = ours;
    ours.retain(|_, r| !matches!(r.kind, tree::Kind::Char(..) | tree::Kind::Block(..)));
    for record in ours.values_mut() {
        let is_directory = record.kind == tree::Kind::Directory;
        record.mode &= if is_directory { 0o7777 } else { 0o1777 };
        record.xattrs.retain(|name, _| name.starts_with(b"user.") || name.starts_with(b"system."));
    }
    assert_eq!(diff_except(&ours, &describe(&theirs), &[Aspect::Holes]), [""; 0]);

    // What is forgotten, taken back, and forgotten again.
    for (words, left) in
        [(&["forget", "--yes", &id][..], 0), (&["forget", "--undo", &id], 1)].repeat(2)
    {
        let _ = program.run(words, Stdio::null());
        let repository = Repository::open(&program.repository, &secret).expect("it opens");
        assert_eq!((repository.snapshots.len(), &repository.reports[..]), (left, &[][..]));
    }
}

/// Writes objects that a section of the golden vectors names.
fn write_objects<'a>(dir: &Path, objects: impl IntoIterator<Item = (String, &'a Value)>) {
    for (name, hex) in objects {
        let digits = hex.as_str().expect("digits").as_bytes();
        let pairs = digits.chunks(2).map(|pair| std::str::from_utf8(pair).expect("digits"));
        let bytes = pairs.map(|pair| u8::from_str_radix(pair, 16).expect("digits"));
        let path = dir.join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, bytes.collect::<Vec<_>>()).expect("written");
    }
}

#[test]
fn the_slots_of_the_vectors_open_with_their_secrets() {
    let vectors: Value = serde_json::from_str(VECTORS).expect("JSON");
    let words = vectors["recovery code"]["words"].as_str().expect("words");
    let spelled = words.to_uppercase().replace('-', " ");
    let dir = tempfile::tempdir().expect("a directory");
    let slots = vectors["slots"].as_object().expect("a map").values().enumerate();
    write_objects(dir.path(), slots.map(|(at, slot)| (format!("keys/{at:032x}"), slot)));
    for secret in [
        Secret::Passphrase(b"correct horse"),
        Secret::KeyFile([0x11; 32]),
        Secret::of_recovery_code(&spelled).expect("a code"),
    ] {
        let master = keys::master(&Store::new(dir.path()), *b"vector-repo-id-1", &secret);
        assert_eq!(master, Ok(std::array::from_fn(|at| u8::try_from(at).expect("small"))));
    }
    assert!(Secret::of_recovery_code(&words.replacen("babad", "babab", 1)).is_none());
}

#[test]
fn the_trees_of_the_vectors_are_those_the_vectors_name() {
    let vectors: Value = serde_json::from_str(VECTORS).expect("JSON");
    let dir = tempfile::tempdir().expect("a directory");
    let objects = vectors["repository"].as_object().expect("a map");
    write_objects(dir.path(), objects.iter().map(|(name, hex)| (name.clone(), hex)));
    let secret = Secret::Passphrase(b"correct horse");
    let repository = Repository::open(dir.path(), &secret).expect("it opens");
    let index = &repository.index;
    for snapshot in &repository.snapshots {
        let name = format!("snapshot {}", snapshot.chain.sequence);
        let expected = &vectors["snapshots of the repository"][name];
        let item = &snapshot.items[0];
        assert_eq!(expected["head"], wire::hex(&snapshot.chain.hash));
        assert_eq!(expected["root"], wire::hex(&item.root));
        let (mut hasher, mut count) = (blake3::Hasher::new(), 0);
        trees::walk(index, &item.root, item.level, &mut |key, entry| {
            let path: Vec<_> = key.iter().map(|b| if *b == 0 { b'/' } else { *b }).collect();
            let mut content = blake3::Hasher::new();
            match entry.kind {
                Kind::File { content: Content::Elsewhere, .. } => {}
                Kind::File { size, content: parts } => {
                    trees::content(index, &parts, size, &mut |extent| {
                        let _ = match extent {
                            trees::Extent::Zeros(len) => {
                                content.update(&vec![0; usize::try_from(*len).expect("small")])
                            }
                            trees::Extent::Chunk(len, id) => {
                                content.update(&trees::chunk(index, *len, id)?)
                            }
                        };
                        Ok(())
                    })?;
                }
                _ => {}
            }
            let hash = content.finalize();
            let _ = hasher.update(&path).update(&[0]).update(hash.as_bytes());
            count += 1;
            Ok(())
        })
        .expect("it walks");
        assert_eq!(expected["entries"], count);
        assert_eq!(expected["paths and contents"], hasher.finalize().to_string());
    }
}
