//! Volumes of a real engine.

use std::path::PathBuf;

use volume_vault::docker::{Access, DockerError, VolumeSpec, WhyNot};

use super::{TestVolume, ask, engine, fresh_name};

#[test]
fn volume_is_made_with_its_labels_listed_and_removed() {
    let engine = engine();
    let volume = TestVolume::with(&engine, |spec| {
        let _ = spec.labels.insert("a.b".into(), "c\"ü".into());
    });
    let found = engine.volume(volume.name()).expect("it exists");
    assert_eq!(found, volume.info);
    assert_eq!(found.labels["a.b"], "c\"ü");
    assert_eq!((found.driver.as_str(), found.scope.as_str()), ("local", "local"));
    assert!(found.options.is_empty() && found.created.is_some());
    assert!(engine.volumes().expect("a list").volumes.contains(&found));
    engine.remove_volume(volume.name()).expect("nobody uses it");
    let error = engine.remove_volume(volume.name()).expect_err("it is gone");
    assert!(matches!(error, DockerError::NotFound { kind: "volume", .. }), "{error:?}");
}

#[test]
fn volume_without_options_and_labels_looks_as_one_that_the_docker_command_made() {
    let engine = engine();
    let name = fresh_name("by-hand");
    let body = format!("{{\"Name\":\"{name}\"}}");
    let by_hand = ask(&engine, "POST", "/volumes/create", &body).json();
    engine.remove_volume(&name).expect("nobody uses it");
    let volume = TestVolume::new(&engine);
    let ours = ask(&engine, "GET", &format!("/volumes/{}", volume.name()), "").json();
    for field in ["Options", "Labels", "Driver", "Scope"] {
        assert_eq!(ours[field], by_hand[field], "{field}");
    }
}

#[test]
fn creating_a_volume_whose_name_is_taken_is_refused() {
    let engine = engine();
    let volume = TestVolume::new(&engine);
    let mut spec = VolumeSpec::local(volume.name());
    let _ = spec.labels.insert("new".into(), "1".into());
    let error = engine.create_volume(&spec).expect_err("the name is taken");
    assert!(matches!(error, DockerError::Exists { .. }), "{error:?}");
    assert_eq!(engine.volume(volume.name()).expect("the old one"), volume.info);
}

#[test]
fn volume_that_does_not_exist_is_not_found_and_not_made() {
    let engine = engine();
    let name = fresh_name("none");
    let error = engine.volume(&name).expect_err("there is none");
    assert_eq!(error.to_string(), format!("no volume is called `{name}`"));
    assert_eq!(ask(&engine, "GET", &format!("/volumes/{name}"), "").status, 404);
}

#[test]
fn names_that_would_lead_elsewhere_in_the_api_are_no_volumes() {
    let engine = engine();
    for name in ["", ".", "..", "../info", "a/../../info", "x?y", "a b", "%2e%2e"] {
        let answer = engine.volume(name).expect_err("no such volume");
        assert!(
            matches!(answer, DockerError::NotFound { .. } | DockerError::Engine { .. }),
            "{name}: {answer:?}"
        );
        let _ = engine.create_volume(&VolumeSpec::local(name)).expect_err("no name for a volume");
    }
}

#[test]
fn content_of_a_plain_volume_is_reached_by_its_path() {
    let engine = engine();
    let volume = TestVolume::new(&engine);
    let path = engine.host_path(&volume.info).expect("root on the same machine");
    assert_eq!(path, PathBuf::from(&volume.info.mountpoint));
    assert!(path.starts_with(&engine.info().root_dir) && path.is_dir());
}

#[test]
fn path_of_a_volume_with_driver_options_is_refused() {
    let engine = engine();
    let volume = TestVolume::with(&engine, |spec| {
        for (key, value) in [("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=1m")] {
            let _ = spec.options.insert(key.into(), value.into());
        }
    });
    let found = engine.volume(volume.name()).expect("it exists");
    assert_eq!(found.options["type"], "tmpfs");
    // the trap: the path does exist
    assert!(PathBuf::from(&found.mountpoint).is_dir());
    assert_eq!(engine.host_path(&found), Err(WhyNot::Options));
}

#[test]
fn containers_that_use_a_volume_are_listed_even_if_they_never_ran_and_forbid_its_removal() {
    let engine = engine();
    let volume = TestVolume::new(&engine);
    assert_eq!(engine.users_of(volume.name()).expect("a list"), []);
    let helper = volume.helper(Access::Read);
    let users = engine.users_of(volume.name()).expect("a list");
    assert_eq!(users.len(), 1);
    assert_eq!((users[0].id.as_str(), users[0].state.as_str()), (helper.id(), "created"));
    assert!(!users[0].name.is_empty() && !users[0].name.starts_with('/'));
    let error = engine.remove_volume(volume.name()).expect_err("it is in use");
    let message = error.to_string();
    assert!(message.contains(&users[0].name) && message.contains(volume.name()), "{message}");
    assert!(
        matches!(error, DockerError::InUse { containers, .. } if containers == users),
        "{message}"
    );
}
