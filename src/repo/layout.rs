//! Where objects of each kind lie in a store.

use crate::format::ROUND_MAX;
use crate::id::{PackId, SegmentId, SlotId, SnapshotId};
use crate::store::ObjectName;

pub(crate) const KEYS: &str = "keys";
pub(crate) const CONFIG: &str = "config";
pub(crate) const PACKS: &str = "packs";
pub(crate) const INDEX: &str = "index";
pub(crate) const SNAPSHOTS: &str = "snapshots";
pub(crate) const FORGET: &str = "forget";
pub(crate) const GC: &str = "gc";

/// Folders of objects that are named by the hash of their bytes.
pub const HASHED_FOLDERS: [&str; 2] = [PACKS, INDEX];

/// The hash that the bytes of an object must have, by its name; none if its name says nothing.
#[must_use]
pub fn hash_in_name(found: &ObjectName) -> Option<[u8; 32]> {
    let pack_id: Option<PackId> = id_of(found, "").filter(|id| pack(id) == *found);
    let segment_id: Option<SegmentId> = id_of(found, "").filter(|id| segment(id) == *found);
    pack_id.map(|id| *id.as_bytes()).or(segment_id.map(|id| *id.as_bytes()))
}

fn name(text: &str) -> ObjectName {
    ObjectName::parse(text).expect("because hex digits and these folders make a name")
}

pub(crate) fn bootstrap() -> ObjectName {
    name("vault.json")
}

pub(crate) fn config(sequence: u64) -> ObjectName {
    name(&format!("{CONFIG}/{sequence:016}"))
}

pub(crate) fn slot(id: &SlotId) -> ObjectName {
    name(&format!("{KEYS}/{id}"))
}

pub(crate) fn pack(id: &PackId) -> ObjectName {
    let hex = id.to_string();
    name(&format!("{PACKS}/{}/{hex}", &hex[..2]))
}

pub(crate) fn segment(id: &SegmentId) -> ObjectName {
    name(&format!("{INDEX}/{id}"))
}

pub(crate) fn pending(id: &SnapshotId) -> ObjectName {
    name(&format!("{SNAPSHOTS}/{id}.pending"))
}

pub(crate) fn ok(id: &SnapshotId) -> ObjectName {
    name(&format!("{SNAPSHOTS}/{id}.ok"))
}

/// The tombstone of a snapshot; what is said of it later stands in higher rounds.
pub(crate) fn forget(id: &SnapshotId, round: u32) -> ObjectName {
    match round {
        0 => name(&format!("{FORGET}/{id}")),
        later => name(&format!("{FORGET}/{id}.{later}")),
    }
}

/// The snapshot and round in the name of a tombstone, if it is one.
pub(crate) fn forgotten(found: &ObjectName) -> Option<(SnapshotId, u32)> {
    let (id, round) = match found.base().split_once('.') {
        None => (found.base().parse().ok()?, 0),
        Some((id, round)) => (id.parse().ok()?, round.parse().ok()?),
    };
    (round <= ROUND_MAX && forget(&id, round) == *found).then_some((id, round))
}

/// `id` is any text of hex digits that is unique.
pub(crate) fn condemn(id: &str) -> ObjectName {
    name(&format!("{GC}/{id}.condemn"))
}

pub(crate) fn done(id: &str) -> ObjectName {
    name(&format!("{GC}/{id}.done"))
}

/// The id in the last component of a name, if it is one with this suffix.
pub(crate) fn id_of<T: std::str::FromStr>(name: &ObjectName, suffix: &str) -> Option<T> {
    name.base().strip_suffix(suffix)?.parse().ok()
}
