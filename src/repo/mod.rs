//! A repository: keys, index, packs, trees, snapshots, and the protocol that commits them.
//!
//! Floor 4. All reads verify; all writes go in the order packs, index, snapshot, so that a crash
//! anywhere leaves garbage and never damage.

mod cache_files;
mod cache_use;
mod checked;
mod chunk_reader;
mod chunk_writer;
mod collect;
mod commit;
mod content;
mod cutter;
mod error;
mod index;
mod index_files;
mod index_table;
mod index_table_writer;
mod init;
mod inventory;
mod key_file;
mod keyring;
mod layout;
mod pack_reader;
mod packer;
mod reach;
mod rebuild;
mod record_cache;
mod recovery_code;
mod repository;
mod run_secrets;
mod segment_draft;
mod side_by_side;
mod slots;
mod snapshots;
mod state;
mod store_facts;
mod take_back;
mod tombstones;
mod tree_builder;
mod tree_cache;
mod tree_diff;
mod tree_walk;

pub use self::cache_use::{CacheUse, cache_use, clear_cache};
pub use self::checked::{ReadRound, note_read, read_round};
pub use self::chunk_reader::ChunkReader;
pub use self::chunk_writer::{ChunkWriter, Claim, NewData, WriterOptions, WriterReport};
pub use self::collect::{
    ABANDONED, CollectOptions, Collected, Collection, Figures, GRACE_LAGGING, GRACE_SHARED, Grace,
    Heap, MaxUnused, Requests, Stop, set_aside, survey,
};
pub use self::commit::{Committed, Session};
pub use self::content::{ContentBuilder, ContentWalk, read_content_node};
pub use self::cutter::Cutter;
pub use self::error::RepoError;
pub use self::index::{Index, PackInfo, PackRef, Place};
pub use self::init::{InitOptions, init};
pub use self::inventory::{Inventory, KnownPack, pack_name, snapshot_record_name};
pub use self::key_file::{KeyFileError, read_key_file, write_key_file};
pub use self::keyring::Keyring;
pub use self::layout::{HASHED_FOLDERS, hash_in_name};
pub use self::pack_reader::{OpenedPack, PackBuffers, PackCheck, PackLoss, PackReader};
pub use self::reach::{reach, reach_content};
pub use self::rebuild::{Rebuilt, rebuild_index};
pub use self::recovery_code::{RecoveryCode, RecoveryCodeError};
pub use self::repository::{Dirs, Repository};
pub use self::slots::{Secret, SlotInfo, add_slot, list_slots, remove_slot, unlock};
pub use self::snapshots::{Snapshot, SnapshotList, first_unreadable, read_without_commit};
pub use self::store_facts::{grace_min, keep_facts, to_facts};
pub use self::take_back::{TakenBack, look_whole, take_back};
pub use self::tombstones::Tombstone;
pub use self::tree_builder::{TreeBuilder, TreeRoot};
pub use self::tree_diff::{Difference, TreeDiff};
pub use self::tree_walk::{HintsWalk, TreeWalk};
