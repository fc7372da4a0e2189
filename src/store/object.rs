//! Stores elsewhere: S3 and its like, Azure Blob, Google Cloud Storage, WebDAV.
//!
//! Floor 3. `object_store` makes requests and reads answers; what is retried, for how long, and
//! what an error means is decided here. Async code stays below this file: each call blocks on the
//! store's own small runtime. Names are written once, so a put overwrites without condition; the
//! store is then asked whether it has what it acknowledged.

mod answer;
mod connect;
mod credentials;
mod dav;
mod failure;
mod place;
mod wire;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use futures_util::TryStreamExt as _;
use object_store::path::Path;
use object_store::{
    GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions,
    PutPayload,
};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

use self::answer::Notes;
use self::connect::{basic, connect};
use self::dav::Dav;
use self::failure::{Trouble, judge};
use self::place::Kind;
pub use self::place::Place;
use self::wire::Wire;
use crate::clock::{Clock, Time};
use crate::crypto::Payload;
use crate::store::attempts::{Attempts, Next, Stop, Task, start_threads};
use crate::store::{Access, Created, Listed, ObjectName, Store, StoreError};

/// Calls that are under way at the same time; more wait.
const CALLS_MAX: usize = 24;

/// Most objects in one listing.
const LISTED_MAX: usize = 50_000_000;

/// Objects looked at to find one in a listing.
const NEIGHBOURS_MAX: usize = 4096;

/// A store that is reached over HTTP.
pub struct RemoteStore {
    place: Place,
    access: Access,
    wire: Wire,
    /// Replaced by one with new credentials when those it has have expired.
    client: RwLock<Arc<dyn ObjectStore>>,
    dav: Option<Dav>,
    /// Whether the store lets us list objects but not look at one.
    blind: AtomicBool,
    calls: Semaphore,
    runtime: Runtime,
}

/// Shows where it is and nothing else: what is inside signs requests.
impl fmt::Debug for RemoteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RemoteStore({})", self.place)
    }
}

impl RemoteStore {
    /// A store at a place. Nothing is asked of it yet.
    ///
    /// Errors: `Location` where credentials or settings make no sense; `Io` if they cannot be read.
    pub fn open(place: &Place, access: &Access) -> Result<Self, StoreError> {
        let failed = |action: &str, source: std::io::Error| StoreError::Io {
            action: action.to_owned(),
            location: place.to_string(),
            source,
        };
        let runtime = start_threads(&place.to_string())?;
        let (upload, download) = (access.upload_rate, access.download_rate);
        let wire = Wire::new(&access.patience, upload, download, basic(place, access)?)
            .map_err(|error| failed("prepare TLS", std::io::Error::other(error.to_string())))?;
        let client = {
            let _inside = runtime.enter();
            connect(place, access, &wire)?
        };
        let dav = (place.kind == Kind::Dav).then(|| Dav::new(place, wire.client()));
        Ok(Self {
            place: place.clone(),
            access: access.clone(),
            wire,
            client: RwLock::new(client),
            dav,
            blind: AtomicBool::new(false),
            calls: Semaphore::new(CALLS_MAX),
            runtime,
        })
    }

    /// Blocks until a call has a result or no hope.
    fn run<T>(
        &self,
        task: Task<'_>,
        mut attempt: impl AsyncFnMut(&dyn ObjectStore) -> Result<T, Trouble>,
    ) -> Result<T, Stop> {
        self.runtime.block_on(async {
            let _permit = self.calls.acquire().await;
            let location = self.location();
            let mut attempts = Attempts::new(task, &location, &self.access);
            loop {
                let client = self.client();
                let notes = Notes::default();
                let trouble = match attempts.make(notes.over(attempt(&*client))).await? {
                    Ok(result) => return Ok(result),
                    Err(trouble) => trouble,
                };
                if let Some(dav) = &self.dav {
                    dav.forget_folders();
                }
                let (answer, now) = (notes.answer(), Clock::System.now());
                let verdict = judge(trouble, &answer, task, &self.place, now);
                match attempts.after(verdict).await? {
                    Next::Again => {}
                    Next::Renewed => self.renew().map_err(Stop::Error)?,
                }
            }
        })
    }

    fn client(&self) -> Arc<dyn ObjectStore> {
        self.client.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the credentials anew.
    fn renew(&self) -> Result<(), StoreError> {
        let client = connect(&self.place, &self.access, &self.wire)?;
        *self.client.write().unwrap_or_else(PoisonError::into_inner) = client;
        Ok(())
    }

    /// Where a name lies in the store.
    fn path(&self, name: &str) -> Path {
        match (self.place.prefix.as_str(), name) {
            ("", name) => Path::from(name),
            (prefix, "") => Path::from(prefix),
            (prefix, name) => Path::from(format!("{prefix}/{name}")),
        }
    }

    /// The name that lies at a path in the store, if it is one.
    fn name_at(&self, path: &Path) -> Option<ObjectName> {
        ObjectName::parse(match self.path("").as_ref() {
            "" => path.as_ref(),
            prefix => path.as_ref().strip_prefix(prefix)?.strip_prefix('/')?,
        })
    }

    /// An object of ours in a listing.
    fn listed(&self, meta: &ObjectMeta) -> Option<Listed> {
        let name = self.name_at(&meta.location)?;
        let nanos = meta.last_modified.timestamp_subsec_nanos().min(999_999_999);
        let modified = Time::new(meta.last_modified.timestamp(), nanos);
        Some(Listed { name, size: meta.size, modified })
    }

    /// The size of an object that was just put, as the store shows it.
    ///
    /// Those who may put and list, but not read, find it in a listing.
    async fn size_of(&self, client: &dyn ObjectStore, name: &ObjectName) -> Result<u64, Trouble> {
        if !self.blind.load(Ordering::Relaxed) {
            match client.head(&self.path(name.as_str())).await {
                Err(object_store::Error::PermissionDenied { .. }) => {
                    self.blind.store(true, Ordering::Relaxed);
                }
                other => return Ok(other?.size),
            }
        }
        let path = self.path(name.as_str());
        let text = path.as_ref();
        let (folder, before) = (
            text.rsplit_once('/').map(|(folder, _)| Path::from(folder)),
            Path::from(&text[..text.len() - 1]),
        );
        let mut near = client.list_with_offset(folder.as_ref(), &before);
        for _ in 0..NEIGHBOURS_MAX {
            match near.try_next().await? {
                Some(meta) if meta.location == path => return Ok(meta.size),
                Some(_) => {}
                None => break,
            }
        }
        Err(Trouble::Senseless(format!("it acknowledged `{name}`, but does not list it")))
    }

    async fn put_once(
        &self,
        client: &dyn ObjectStore,
        name: &ObjectName,
        payload: &PutPayload,
    ) -> Result<(), Trouble> {
        match &self.dav {
            Some(dav) => dav.put(client, &self.path(name.as_str()), payload).await?,
            None => {
                let _ = client.put(&self.path(name.as_str()), payload.clone()).await?;
            }
        }
        let wanted = payload.content_length() as u64;
        match self.size_of(client, name).await {
            Ok(size) if size == wanted => Ok(()),
            Ok(size) => Err(Trouble::Senseless(format!(
                "it acknowledged the {wanted} bytes of `{name}`, but has {size}"
            ))),
            Err(Trouble::Client(object_store::Error::NotFound { .. })) => {
                Err(Trouble::Senseless(format!("it acknowledged `{name}`, but does not have it")))
            }
            Err(other) => Err(other),
        }
    }

    /// Collects a listing. One that broke off in order goes on where it did.
    async fn list_once(
        &self,
        client: &dyn ObjectStore,
        folder: &str,
        objects: &mut Vec<Listed>,
        last: &mut Option<Path>,
    ) -> Result<(), Trouble> {
        if let Some(dav) = &self.dav {
            objects.clear();
            let is_ours = |path: &Path| self.name_at(path).is_some();
            let mut add = |meta: &ObjectMeta| objects.extend(self.listed(meta));
            return dav.list(client, self.path(folder), is_ours, &mut add).await;
        }
        let prefix = Some(self.path(folder)).filter(|path| !path.as_ref().is_empty());
        let mut stream = match &last {
            Some(last) => client.list_with_offset(prefix.as_ref(), last),
            None => {
                objects.clear();
                client.list(prefix.as_ref())
            }
        };
        let mut ordered = true;
        loop {
            let meta = match stream.try_next().await {
                Ok(Some(meta)) => meta,
                Ok(None) => return Ok(()),
                Err(error) => {
                    if !ordered {
                        *last = None;
                    }
                    return Err(error.into());
                }
            };
            objects.extend(self.listed(&meta));
            if objects.len() > LISTED_MAX {
                return Err(Trouble::Senseless(format!("it lists over {LISTED_MAX} objects")));
            }
            ordered &= last.as_ref().is_none_or(|last| *last < meta.location);
            *last = Some(meta.location);
        }
    }

    async fn get_once(
        &self,
        client: &dyn ObjectStore,
        name: &ObjectName,
        size_max: u64,
    ) -> Result<Vec<u8>, Trouble> {
        let answer = client.get(&self.path(name.as_str())).await?;
        let size = answer.meta.size;
        if size > size_max {
            return Err(StoreError::too_large(name, size, size_max).into());
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        let mut stream = answer.into_stream();
        while let Some(piece) = stream.try_next().await? {
            if bytes.len() as u64 + piece.len() as u64 > size {
                return Err(Trouble::Senseless(format!("`{name}` has more bytes than it says")));
            }
            bytes.extend_from_slice(&piece);
        }
        match bytes.len() as u64 == size {
            true => Ok(bytes),
            false => Err(Trouble::Senseless(format!("`{name}` has fewer bytes than it says"))),
        }
    }

    async fn range_once(
        &self,
        client: &dyn ObjectStore,
        name: &ObjectName,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<(), Trouble> {
        let range = GetRange::Bounded(offset..offset + buffer.len() as u64);
        let options = GetOptions { range: Some(range), ..GetOptions::default() };
        let answer = client.get_opts(&self.path(name.as_str()), options).await;
        let answer = answer.map_err(Trouble::of_range)?;
        let size = answer.meta.size;
        if offset + buffer.len() as u64 > size {
            return Err(StoreError::too_short(name, size, offset, buffer.len()).into());
        }
        let mut stream = answer.into_stream();
        let mut filled = 0;
        while let Some(piece) = stream.try_next().await? {
            let Some(place) = buffer.get_mut(filled..filled + piece.len()) else {
                return Err(Trouble::Senseless(format!(
                    "it sends more of `{name}` than asked for"
                )));
            };
            place.copy_from_slice(&piece);
            filled += piece.len();
        }
        match filled == buffer.len() {
            true => Ok(()),
            false => Err(Trouble::Senseless(format!("it sends less of `{name}` than asked for"))),
        }
    }

    /// Why a put has no result.
    fn of_put(&self, stop: Stop) -> StoreError {
        match stop {
            Stop::Error(error) => error,
            // There is nothing that an object could be put into.
            Stop::Missing | Stop::OutOfRange => {
                let text = format!("there is no {}", self.place.kind.container());
                StoreError::Location(format!("{text} `{}`", self.place.container))
            }
        }
    }

    /// The size of an object, as the store shows it.
    fn size(&self, name: &ObjectName) -> Result<u64, StoreError> {
        let size = self.run(Task::Get(name), async |client| {
            Ok(client.head(&self.path(name.as_str())).await?.size)
        });
        size.map_err(|stop| stop.of_object(name))
    }
}

fn to_put(payload: &Payload) -> PutPayload {
    payload.parts().iter().filter(|part| !part.is_empty()).cloned().collect()
}

impl Store for RemoteStore {
    fn location(&self) -> String {
        self.place.to_string()
    }

    fn is_far(&self) -> bool {
        true
    }

    fn put(&self, name: &ObjectName, payload: &Payload) -> Result<(), StoreError> {
        let payload = to_put(payload);
        let put =
            self.run(Task::Put(name), async |client| self.put_once(client, name, &payload).await);
        put.map_err(|stop| self.of_put(stop))
    }

    fn get(&self, name: &ObjectName, size_max: u64) -> Result<Vec<u8>, StoreError> {
        let got =
            self.run(Task::Get(name), async |client| self.get_once(client, name, size_max).await);
        got.map_err(|stop| stop.of_object(name))
    }

    fn get_range(
        &self,
        name: &ObjectName,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<(), StoreError> {
        let len = buffer.len();
        let end = offset.checked_add(len as u64);
        if let (Some(_), true) = (end, len > 0) {
            let read = self.run(Task::Get(name), async |client| {
                self.range_once(client, name, offset, buffer).await
            });
            match read {
                Ok(()) => return Ok(()),
                Err(Stop::OutOfRange) => {}
                Err(stop) => return Err(stop.of_object(name)),
            }
        }
        let size = self.size(name)?;
        match end {
            Some(end) if end <= size => Ok(()),
            _ => Err(StoreError::too_short(name, size, offset, len)),
        }
    }

    fn list(&self, folder: &str) -> Result<Vec<Listed>, StoreError> {
        if !folder.is_empty() && ObjectName::parse(folder).is_none() {
            return Ok(Vec::new());
        }
        let (mut objects, mut last) = (Vec::new(), None);
        let listed = self.run(Task::List(folder), async |client| {
            self.list_once(client, folder, &mut objects, &mut last).await
        });
        match listed {
            Ok(()) => {}
            // With WebDAV, a folder that is missing holds nothing.
            Err(Stop::Missing | Stop::OutOfRange) if self.dav.is_some() => {}
            Err(Stop::Missing | Stop::OutOfRange) => {
                let (what, name) = (self.place.kind.container(), &self.place.container);
                return Err(StoreError::Location(format!("there is no {what} `{name}`")));
            }
            Err(Stop::Error(error)) => return Err(error),
        }
        objects.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        objects.dedup_by(|a, b| a.name == b.name);
        Ok(objects)
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        let deleted = self.run(Task::Delete(name), async |client| {
            Ok(client.delete(&self.path(name.as_str())).await?)
        });
        match deleted {
            Ok(()) | Err(Stop::Missing | Stop::OutOfRange) => Ok(()),
            Err(Stop::Error(error)) => Err(error),
        }
    }

    fn create(&self, name: &ObjectName, payload: &Payload) -> Result<Created, StoreError> {
        let payload = to_put(payload);
        let created = self.run(Task::Put(name), async |client| {
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            let put = client.put_opts(&self.path(name.as_str()), payload.clone(), options).await;
            match put {
                Ok(_) => Ok(Created::Made),
                Err(
                    object_store::Error::AlreadyExists { .. }
                    | object_store::Error::Precondition { .. },
                ) => Ok(Created::Taken),
                Err(
                    object_store::Error::NotImplemented { .. }
                    | object_store::Error::NotSupported { .. },
                ) => Ok(Created::Unknown),
                Err(other) => Err(other.into()),
            }
        });
        created.map_err(|stop| self.of_put(stop))
    }
}
