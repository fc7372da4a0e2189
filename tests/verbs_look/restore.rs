//! `vault restore`: what it refuses before it writes anything.

use super::world::World;

#[test]
fn f094_a_host_that_has_seen_nothing_refuses_an_older_copy_by_the_head_it_was_told() {
    let world = World::new();
    let dir = world.folder("src");
    std::fs::write(dir.join("file"), "old").expect("written");
    let older = world.save("v", &dir);
    std::fs::write(dir.join("file"), "newer").expect("written");
    let newer = world.save("v", &dir);
    let head_of = |id: &str| {
        let record = world.path("repository").join(format!("snapshots/{id}.pending"));
        blake3::hash(&std::fs::read(record).expect("read")).to_string()
    };
    let (old_head, new_head) = (head_of(&older), head_of(&newer));
    let restore = |target: &str, head: &str, code| {
        let target = world.path(target).display().to_string();
        world.json(&["restore", "v", "--target", &target, "--expect-head", head], code)
    };
    let _ = restore("whole", &new_head, 0);
    // What was forgotten is not hidden: its tombstone is there.
    let _ = world.json(&["forget", &older], 0);
    let _ = restore("forgotten", &old_head, 0);
    // The newest snapshot is hidden from a host that never saw it.
    for part in ["pending", "ok"] {
        let object = world.path("repository").join(format!("snapshots/{newer}.{part}"));
        std::fs::remove_file(object).expect("removed");
    }
    let tombstone = world.path("repository").join(format!("forget/{older}"));
    std::fs::remove_file(tombstone).expect("removed");
    std::fs::remove_dir_all(world.path("state")).expect("removed");
    let error = restore("hidden", &new_head, 13)["error"].clone();
    assert_eq!(
        (&error["kind"], error["message"].as_str()),
        (
            &serde_json::json!("rolled_back"),
            Some(
                format!("the repository does not have the backup with the head {new_head}")
                    .as_str()
            ),
        )
    );
    assert!(!world.path("hidden").exists(), "nothing was written");
    let _ = restore("older", &old_head, 0);
    let _ = restore("no-head", "abc", 2);
}
