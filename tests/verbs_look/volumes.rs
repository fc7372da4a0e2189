//! Where one side is a Docker volume, used by its path on this machine.

use std::fs;
use std::os::unix::fs::symlink;

use super::world::{Ran, World};
use crate::docker::{TestVolume, engine, socket};

fn vault(world: &World, args: &[&str]) -> Ran {
    let host = format!("unix://{}", socket().display());
    let all: Vec<&str> = ["-H", &host].iter().chain(args).copied().collect();
    world.vault(&all)
}

#[test]
fn a_copy_into_a_volume_never_leaves_it() {
    let world = World::new();
    let dir = world.folder("src");
    fs::create_dir(dir.join("www")).expect("made");
    fs::write(dir.join("www/index"), "hello").expect("written");
    let _ = world.save("v", &dir);
    let volume = TestVolume::new(&engine());
    let inside = std::path::Path::new(&volume.info().mountpoint).to_owned();
    let outside = world.folder("outside");
    symlink(&outside, inside.join("link")).expect("made");
    let to = |path: &str| format!("volume:{}:{path}", volume.name());
    let _ = vault(&world, &["cp", "v:/www", &to("/")]).text(0);
    let _ = vault(&world, &["cp", "v:/www", &to("/copy")]).text(0);
    for name in ["www/index", "copy/index"] {
        assert_eq!(fs::read(inside.join(name)).expect("read"), b"hello");
    }
    for path in ["/link", "/link/x", "/www/index"] {
        let ran = vault(&world, &["cp", "v:/www", &to(path)]);
        assert!([1, 14].contains(&ran.code), "{path}: {}", ran.stderr);
    }
    assert_eq!(vault(&world, &["cp", "v:/www", &to("/../x")]).code, 2);
    assert_eq!(vault(&world, &["cp", "v:/www", "volume:vault-test-no-such:/"]).code, 15);
    assert_eq!(fs::read_dir(outside).expect("listed").count(), 0);
}

#[test]
fn a_live_volume_is_compared() {
    let world = World::new();
    let volume = TestVolume::new(&engine());
    let inside = std::path::Path::new(&volume.info().mountpoint).to_owned();
    fs::write(inside.join("file"), "one").expect("written");
    let id = world.save(volume.name(), &inside);
    let live = format!("live:{}", volume.name());
    let ran = vault(&world, &["diff", &id, &live, "--no-progress"]);
    assert_eq!(ran.lines(), ["no difference"]);
    fs::write(inside.join("file"), "three").expect("written");
    let ran = vault(&world, &["diff", &id, &live, "--no-progress"]);
    assert_eq!(ran.lines()[0], "M file  (3 B -> 5 B, +2 B)");
    assert_eq!(vault(&world, &["diff", &id, "live:vault-test-no-such"]).code, 15);
}
