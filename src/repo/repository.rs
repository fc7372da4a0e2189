//! An open repository: its store, its keys and its configuration.

use std::path::PathBuf;
use std::sync::Arc;

use super::cache_files::{make_private_dir, read_private, write_private};
use super::cutter::Cutter;
use super::error::RepoError;
use super::index::{Index, Listing, segment_id, segment_ids};
use super::keyring::Keyring;
use super::layout;
use super::record_cache::RecordCache;
use super::run_secrets::RunSecrets;
use super::side_by_side::{both, side_by_side};
use super::slots::{Secret, unlock, unlock_with};
use super::tree_cache::TreeCache;
use crate::crypto::{Key, Payload};
use crate::format::{
    Bootstrap, CONDEMN_BYTES_MAX, CondemnRecord, Config, FormatError, ObjectKind, PackKind,
    SEGMENT_BYTES_MAX, SegmentRecord, open_object, seal_object,
};
use crate::id::{ChunkId, RepositoryId, SegmentId, SlotId};
use crate::store::{Listed, ObjectName, Store, StoreError};

/// Where a host keeps what it can make again, and what it remembers.
#[derive(Debug, Clone)]
pub struct Dirs {
    /// Index tables, records, parts of trees. May be lost at the cost of time.
    pub cache: PathBuf,
    /// Heads of writers and this host's own writer id.
    pub state: PathBuf,
}

/// An open repository.
pub struct Repository {
    store: Arc<dyn Store>,
    id: RepositoryId,
    read_only_because: Option<String>,
    master: Key,
    slot: SlotId,
    keyring: Keyring,
    config: Config,
    dirs: Dirs,
    pool: rayon::ThreadPool,
    run_secrets: RunSecrets,
    records: RecordCache,
    trees: TreeCache,
}

impl Repository {
    /// Whether a store holds a repository, and which.
    ///
    /// Errors: [`RepoError::NoRepository`], or [`RepoError::Object`] for a head that is damaged or
    /// of a newer format.
    pub fn probe(store: &dyn Store) -> Result<Bootstrap, RepoError> {
        let name = layout::bootstrap();
        match store.get(&name, Bootstrap::BYTES_MAX) {
            Ok(bytes) => Bootstrap::decode(&bytes).map_err(RepoError::object(&name)),
            Err(StoreError::NotFound(_)) if !store.list(layout::SNAPSHOTS)?.is_empty() => {
                let error =
                    FormatError::damaged("vault.json", "it is lost, but snapshots are there");
                Err(RepoError::object(&name)(error))
            }
            Err(StoreError::NotFound(_)) => Err(RepoError::NoRepository(store.location())),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens the repository in a store. Each gets a folder of its own below `dirs`.
    ///
    /// Errors: [`RepoError::NoRepository`], [`RepoError::WrongKey`], [`RepoError::Object`].
    pub fn open(store: Arc<dyn Store>, secret: &Secret, dirs: &Dirs) -> Result<Self, RepoError> {
        let head = Self::probe(&*store)?;
        Self::open_probed(store, head, secret, dirs)
    }

    /// As [`Repository::open`], where [`Repository::probe`] was asked before.
    ///
    /// Errors: as [`Repository::open`].
    pub fn open_probed(
        store: Arc<dyn Store>,
        head: Bootstrap,
        secret: &Secret,
        dirs: &Dirs,
    ) -> Result<Self, RepoError> {
        let Bootstrap { repository: id, read_only_because } = head;
        let folder = id.to_string();
        let dirs = Dirs { cache: dirs.cache.join(&folder), state: dirs.state.join(&folder) };
        // A cache that cannot be made is none.
        let _ = make_private_dir(&dirs.cache);
        let is_far = store.is_far();
        let ((master, slot), configs) = both(
            is_far,
            || unlock_here(&*store, &id, secret, &dirs),
            || store.list(layout::CONFIG).map_err(RepoError::from),
        )?;
        let keyring = Keyring::new(&master);
        let records = RecordCache::load(&dirs.cache, id, &keyring);
        let config = read_config(&*store, &id, &keyring, &records, &configs)?;
        let trees = TreeCache::new(&dirs.cache, is_far);
        let pool = rayon::ThreadPoolBuilder::new()
            .thread_name(|n| format!("vault-cpu-{n}"))
            // The job's channel closes, which its owner reports: nothing is acknowledged.
            .panic_handler(|_| ())
            .build()
            .map_err(|error| {
                RepoError::local("start threads for", &dirs.cache)(std::io::Error::other(error))
            })?;
        let run_secrets = RunSecrets::default();
        Ok(Self {
            store,
            id,
            read_only_because,
            master,
            slot,
            keyring,
            config,
            dirs,
            pool,
            run_secrets,
            records,
            trees,
        })
    }

    /// The repository's id.
    #[must_use]
    pub fn id(&self) -> RepositoryId {
        self.id
    }

    /// Refuses to write where a feature is in use that this program does not know.
    ///
    /// Errors: [`FormatError::Newer`].
    pub(super) fn check_writable(&self) -> Result<(), RepoError> {
        match &self.read_only_because {
            None => Ok(()),
            Some(feature) => {
                let why = format!("writing to it needs the feature `{feature}`");
                Err(FormatError::Newer { what: "repository", why }.into())
            }
        }
    }

    /// The store it lies in.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The slot it was opened with.
    #[must_use]
    pub fn slot(&self) -> SlotId {
        self.slot
    }

    /// Its configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Its keys.
    #[must_use]
    pub fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// The master key, for making another slot.
    #[must_use]
    pub fn master(&self) -> &Key {
        &self.master
    }

    /// This repository's folders on this host.
    #[must_use]
    pub fn dirs(&self) -> &Dirs {
        &self.dirs
    }

    /// The secrets of runs that were opened before.
    pub(super) fn run_secrets(&self) -> &RunSecrets {
        &self.run_secrets
    }

    /// What is known of small objects.
    pub(super) fn records(&self) -> &RecordCache {
        &self.records
    }

    /// What is kept of tree packs.
    pub(super) fn trees(&self) -> &TreeCache {
        &self.trees
    }

    /// From now on reads all from the store but the index tables: whoever looks for damage, or
    /// deletes, must see what is there.
    pub fn read_only_the_store(&self) {
        self.records.turn_off();
        self.trees.turn_off();
    }

    /// The threads for work on the processor. No job on them may block.
    #[must_use]
    pub fn pool(&self) -> &rayon::ThreadPool {
        &self.pool
    }

    /// What cuts content and names its chunks.
    #[must_use]
    pub fn cutter(&self) -> Cutter {
        self.keyring.cutter(self.config.chunker)
    }

    /// The name of a chunk.
    #[must_use]
    pub fn chunk_id(&self, kind: PackKind, plaintext: &[u8]) -> ChunkId {
        self.keyring.chunk_id(kind, plaintext)
    }

    /// Loads the index as the store shows it now.
    ///
    /// Errors: [`RepoError::Object`] for a segment or condemn record that cannot be read.
    pub fn load_index(&self) -> Result<Index, RepoError> {
        let is_far = self.store.is_far();
        let list = |folder| self.store.list(folder).map_err(RepoError::from);
        let (condemned, (segments, packs)) = both(
            is_far,
            || self.condemn_records(&Default::default()),
            || both(is_far, || list(layout::INDEX), || list(layout::PACKS)),
        )?;
        self.index_of(&condemned, &segments, &packs)
    }

    /// As [`Repository::load_index`], with condemn records that were read before; lists segments,
    /// then packs.
    pub(super) fn load_index_without(
        &self,
        condemned: &[(ObjectName, CondemnRecord)],
    ) -> Result<Index, RepoError> {
        let segments = self.store.list(layout::INDEX)?;
        let packs = self.store.list(layout::PACKS)?;
        self.index_of(condemned, &segments, &packs)
    }

    fn index_of(
        &self,
        condemned: &[(ObjectName, CondemnRecord)],
        segments: &[Listed],
        packs: &[Listed],
    ) -> Result<Index, RepoError> {
        let mut listing = Listing { segments: segment_ids(segments), ..Listing::default() };
        let sized = |pack: &Listed| Some((layout::id_of(&pack.name, "")?, pack.size));
        listing.packs = packs.iter().filter_map(sized).collect();
        for (_, record) in condemned {
            listing.condemned_packs.extend(&record.packs);
            listing.condemned_segments.extend(&record.segments);
        }
        Index::load(&self.dirs.cache.join("index"), &listing, |id| self.read_segment(id))
    }

    /// Reads a segment and checks that its bytes have its name and that the owner signed it.
    ///
    /// Errors: [`RepoError::Object`].
    pub fn read_segment(&self, id: &SegmentId) -> Result<SegmentRecord, RepoError> {
        let name = layout::segment(id);
        let bytes = self.store.get(&name, SEGMENT_BYTES_MAX)?;
        if segment_id(&bytes) != *id {
            let why = "its bytes do not have its name";
            return Err(RepoError::object(&name)(FormatError::damaged("index segment", why)));
        }
        let message = self.open_signed(ObjectKind::Segment, &name, &bytes)?;
        SegmentRecord::decode(&message).map_err(RepoError::object(&name))
    }

    /// Reads all condemn records but those in `known`. One that the owner did not sign is no
    /// condemn record and counts for nothing.
    pub(super) fn condemn_records(
        &self,
        known: &std::collections::BTreeSet<ObjectName>,
    ) -> Result<Vec<(ObjectName, CondemnRecord)>, RepoError> {
        let listed = self.store.list(layout::GC)?;
        let wanted = |object: &Listed| {
            !known.contains(&object.name) && object.name.base().ends_with(".condemn")
        };
        let wanted: Vec<Listed> = listed.into_iter().filter(wanted).collect();
        let read = side_by_side(self.store.is_far(), &wanted, |object| {
            let noted = self.records.get(object);
            if let Some(record) = noted.and_then(|value| CondemnRecord::decode(&value).ok()) {
                return Ok(Some(record));
            }
            let record = self.read_condemn(&object.name)?;
            if let Some(record) = &record {
                self.records.note(object, record.encode());
            }
            Ok::<_, RepoError>(record)
        })?;
        let named = wanted.into_iter().zip(read);
        Ok(named.filter_map(|(object, record)| Some((object.name, record?))).collect())
    }

    /// Reads a condemn record; none if the owner did not sign it.
    pub(super) fn read_condemn(
        &self,
        name: &ObjectName,
    ) -> Result<Option<CondemnRecord>, RepoError> {
        let bytes = self.store.get(name, CONDEMN_BYTES_MAX)?;
        let message = match self.open_signed(ObjectKind::Condemn, name, &bytes) {
            Ok(message) => message,
            Err(RepoError::Object { source: FormatError::Signature { .. }, .. }) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        CondemnRecord::decode(&message).map(Some).map_err(RepoError::object(name))
    }

    /// Signs and seals a message for the store.
    pub(super) fn seal_signed(
        &self,
        kind: ObjectKind,
        message: &[u8],
    ) -> Result<Payload, RepoError> {
        let keys = &self.keyring;
        Ok(seal_object(kind, &self.id, keys.shared(), keys.signer(), message)?)
    }

    /// Opens an object that the owner must have signed.
    pub(super) fn open_signed(
        &self,
        kind: ObjectKind,
        name: &ObjectName,
        bytes: &[u8],
    ) -> Result<Vec<u8>, RepoError> {
        open_owned(&self.id, &self.keyring, kind, name, bytes)
    }
}

impl Drop for Repository {
    fn drop(&mut self) {
        self.records.save(&self.keyring);
    }
}

impl std::fmt::Debug for Repository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Repository({} in {})", self.id.short(), self.store.location())
    }
}

fn open_owned(
    id: &RepositoryId,
    keyring: &Keyring,
    kind: ObjectKind,
    name: &ObjectName,
    bytes: &[u8],
) -> Result<Vec<u8>, RepoError> {
    let signed = open_object(kind, id, keyring.shared(), bytes).map_err(RepoError::object(name))?;
    match signed.signer == keyring.owner() {
        true => Ok(signed.message),
        false => Err(RepoError::object(name)(FormatError::Signature { what: kind.name() })),
    }
}

/// Where the store is far, the slot that opened last is tried before others are listed.
fn unlock_here(
    store: &dyn Store,
    id: &RepositoryId,
    secret: &Secret,
    dirs: &Dirs,
) -> Result<(Key, SlotId), RepoError> {
    if !store.is_far() {
        return unlock(store, id, secret);
    }
    let path = dirs.cache.join("slot");
    let text = read_private(&path, 2 * SlotId::LEN as u64).unwrap_or_default();
    if let Some(slot) = std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok())
        && let Ok(master) = unlock_with(store, id, secret, &slot)
    {
        return Ok((master, slot));
    }
    let (master, slot) = unlock(store, id, secret)?;
    let _ = write_private(&path, slot.to_string().as_bytes());
    Ok((master, slot))
}

/// The configuration of the highest sequence. A listing that lost it is caught by its absence.
fn read_config(
    store: &dyn Store,
    id: &RepositoryId,
    keyring: &Keyring,
    records: &RecordCache,
    listed: &[Listed],
) -> Result<Config, RepoError> {
    let mut newest = None;
    for object in listed {
        if object.name.base().parse::<u64>().is_err() {
            continue;
        }
        if let Some(noted) = records.get(object) {
            newest = Some(Config::decode(&noted).map_err(RepoError::object(&object.name))?);
            continue;
        }
        let bytes = store.get(&object.name, Config::BYTES_MAX)?;
        let message = match open_owned(id, keyring, ObjectKind::Config, &object.name, &bytes) {
            Ok(message) => message,
            Err(RepoError::Object { source: FormatError::Signature { .. }, .. }) => continue,
            Err(error) => return Err(error),
        };
        let config = Config::decode(&message).map_err(RepoError::object(&object.name))?;
        if layout::config(config.sequence) != object.name {
            let why = "it stands under another configuration's name";
            let error = FormatError::damaged("configuration", why);
            return Err(RepoError::object(&object.name)(error));
        }
        records.note(object, message);
        newest = Some(config);
    }
    newest.ok_or_else(|| {
        let error = FormatError::damaged("configuration", "there is none");
        RepoError::object(&layout::config(1))(error)
    })
}
