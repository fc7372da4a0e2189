//! For each kind of object, damage names exactly the files and snapshots that it touches.

use std::collections::BTreeSet;

use volume_vault::id::SnapshotId;
use volume_vault::ops::check::CheckReport;
use volume_vault::store::{ObjectName, Store};

use crate::support::damage::{checked, pack_of_file, rot};
use crate::support::repo::{Bench, backup, noise, scratch};

/// Two snapshots: `old` and `both` in the first, `both` and `new` in the second; each backup makes
/// packs and a segment of its own.
struct Two {
    bench: Bench,
    first: SnapshotId,
    second: SnapshotId,
    /// Objects of the second backup.
    own: Vec<ObjectName>,
}

fn two() -> Two {
    let (bench, dir) = (Bench::new(), scratch());
    // More than the content of one frame, so that `old` and `both` share none.
    std::fs::write(dir.path().join("old"), noise(1, 2_200_000)).expect("written");
    std::fs::write(dir.path().join("both"), noise(2, 2_200_000)).expect("written");
    let first = backup(&bench.open(), dir.path()).expect("acknowledged").snapshot;
    let before = bench.store.names();
    std::fs::remove_file(dir.path().join("old")).expect("removed");
    std::fs::write(dir.path().join("new"), noise(3, 300_000)).expect("written");
    let second = backup(&bench.open(), dir.path()).expect("acknowledged").snapshot;
    let own = bench.store.names().into_iter().filter(|name| !before.contains(name)).collect();
    Two { bench, first, second, own }
}

impl Two {
    fn own(&self, folder: &str) -> ObjectName {
        let found = self.own.iter().find(|name| name.as_str().starts_with(folder));
        found.expect("the second backup made one").clone()
    }

    /// What a host that has never seen the repository finds touched.
    fn touched(
        &self,
        damage: impl FnOnce(&Bench),
    ) -> (CheckReport, BTreeSet<(SnapshotId, String)>) {
        let bench = self.bench.fork();
        damage(&bench);
        let report = checked(&bench.other_host().open());
        let files = report.touched.iter().flat_map(|touched| {
            touched.files.iter().map(|file| (touched.snapshot, file.path.to_string()))
        });
        let files = files.collect();
        (report, files)
    }
}

#[test]
fn f028_a_damaged_segment_touches_what_only_it_knows() {
    let two = two();
    let segment = two.own("index/");
    let (report, files) = two.touched(|bench| {
        assert!(bench.store.corrupt(&segment, |bytes| bytes[40] ^= 1));
    });
    assert_eq!(report.damage[0].object, segment.as_str());
    // The tree of the second snapshot is in it, too: all of that is named by its root.
    let ids: BTreeSet<_> = report.touched.iter().map(|touched| touched.snapshot).collect();
    assert_eq!(ids, BTreeSet::from([two.second]));
    assert_eq!(files, BTreeSet::from([(two.second, String::new())]));
    assert_eq!(report.touched[0].files_total, 3);
}

#[test]
fn f029_a_lost_record_touches_its_snapshot_and_no_other() {
    let two = two();
    for end in ["pending", "ok"] {
        let name = ObjectName::parse(&format!("snapshots/{}.{end}", two.second)).expect("a name");
        let (report, files) = two.touched(|bench| {
            assert!(bench.store.corrupt(&name, |bytes| bytes[40] ^= 1));
        });
        assert!(files.is_empty());
        let [touched] = &report.touched[..] else { panic!("one: {:?}", report.touched) };
        assert_eq!((touched.snapshot, &touched.item), (two.second, &None), "{end}");
    }
}

#[test]
fn f028_a_damaged_data_pack_touches_the_files_in_the_damaged_frame_of_every_snapshot() {
    let two = two();
    let repo = two.bench.open();
    let pack_of = |id, path| volume_vault::repo::pack_name(&pack_of_file(&repo, id, path));
    let named = |id, path: &str| (id, path.to_owned());
    let both = pack_of(&two.first, "both");
    let (_, files) = two.touched(|bench| rot(&bench.store, &both));
    assert_eq!(files, BTreeSet::from([named(two.first, "both"), named(two.second, "both")]));
    let new = pack_of(&two.second, "new");
    let (_, files) = two.touched(|bench| rot(&bench.store, &new));
    assert_eq!(files, BTreeSet::from([named(two.second, "new")]));
    let gone = pack_of(&two.second, "new");
    let (report, files) = two.touched(|bench| bench.store.delete(&gone).expect("deleted"));
    assert_eq!(files, BTreeSet::from([named(two.second, "new")]));
    assert_eq!(report.damage.len(), 1);
}
