//! A store in a directory of another machine, through the system's own `ssh`.
//!
//! Floor 3. Who may log in, by which key and to which host is the business of ssh and its
//! configuration. An object is written under a temporary name, flushed and renamed, so that its
//! name never shows a part of it. Async code stays below this file.

mod place;
mod session;

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::BytesMut;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use openssh_sftp_client::file::{File, TokioCompatFile};
use openssh_sftp_client::metadata::MetaData;
use tokio::io::{AsyncSeekExt as _, AsyncWriteExt as _};
use tokio::runtime::Runtime;

pub use self::place::SftpPlace;
use self::session::{Session, Trouble};
use crate::clock::Time;
use crate::crypto::Payload;
use crate::id;
use crate::store::attempts::{Attempts, Next, Stop, Task, start_threads};
use crate::store::{Access, Listed, ObjectName, Store, StoreError};

/// Most bytes asked for at once.
const READ_MAX: usize = 128 << 10;

/// Reads under way at the same time for one call.
const READS: usize = 8;

/// Folders listed at the same time.
const LISTINGS: usize = 8;

/// A directory that is reached over SFTP.
pub struct SftpStore {
    place: SftpPlace,
    access: Access,
    /// The connection; none before the first call and after it broke.
    session: tokio::sync::Mutex<Option<Arc<Session>>>,
    /// Folders that are known to be there.
    folders: Mutex<HashSet<String>>,
    runtime: Runtime,
}

impl fmt::Debug for SftpStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SftpStore({})", self.place)
    }
}

impl SftpStore {
    /// A store at a place. No connection is made yet.
    ///
    /// Errors: `Io`, if threads cannot be started.
    pub fn open(place: &SftpPlace, access: &Access) -> Result<Self, StoreError> {
        let runtime = start_threads(&place.to_string())?;
        Ok(Self {
            place: place.clone(),
            access: access.clone(),
            session: tokio::sync::Mutex::default(),
            folders: Mutex::default(),
            runtime,
        })
    }

    /// Blocks until a call has a result or no hope.
    fn run<T>(
        &self,
        task: Task<'_>,
        mut attempt: impl AsyncFnMut(&Session) -> Result<T, Trouble>,
    ) -> Result<T, Stop> {
        self.runtime.block_on(async {
            let location = self.location();
            let mut attempts = Attempts::new(task, &location, &self.access);
            loop {
                let tried = attempts.make(async {
                    let session = self.session().await.map_err(|trouble| (None, trouble))?;
                    let result = attempt(&session).await;
                    result.map_err(|trouble| (Some(session), trouble))
                });
                let (session, trouble) = match tried.await? {
                    Ok(result) => return Ok(result),
                    Err(failed) => failed,
                };
                if let (Some(session), true) = (&session, trouble.is_broken()) {
                    self.leave(session).await;
                }
                let said = session.map(|session| session.said());
                let verdict = trouble.judge(task, &location, said.as_deref());
                match attempts.after(verdict).await? {
                    Next::Again | Next::Renewed => {}
                }
            }
        })
    }

    async fn session(&self) -> Result<Arc<Session>, Trouble> {
        let mut session = self.session.lock().await;
        if let Some(session) = &*session {
            return Ok(session.clone());
        }
        let new = Arc::new(Session::start(&self.place, &self.access).await?);
        *session = Some(new.clone());
        Ok(new)
    }

    /// Drops a connection that broke, unless there is a newer one already.
    async fn leave(&self, broken: &Arc<Session>) {
        let mut session = self.session.lock().await;
        if session.as_ref().is_some_and(|session| Arc::ptr_eq(session, broken)) {
            *session = None;
        }
        self.known().clear();
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.folders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a folder, and those above it where they are missing.
    async fn make_folder(&self, session: &Session, folder: &str) -> Result<(), Trouble> {
        if self.known().contains(folder) {
            return Ok(());
        }
        let mut missing = Vec::new();
        let mut next = folder;
        while !next.is_empty() && next != "/" {
            match session.fs().metadata(next).await.map_err(Trouble::from) {
                Ok(_) => break,
                Err(Trouble::Missing) => missing.push(next),
                Err(other) => return Err(other),
            }
            next = next.rsplit_once('/').map_or("", |(above, _)| above);
        }
        for folder in missing.into_iter().rev() {
            if let Err(error) = session.fs().create_dir(folder).await {
                // Somebody else may have made it by now.
                let there = session.fs().metadata(folder).await;
                let _ = there.map_err(|_| Trouble::from(error))?;
            }
        }
        let _ = self.known().insert(folder.to_owned());
        Ok(())
    }

    async fn put_once(
        &self,
        session: &Session,
        name: &ObjectName,
        payload: &Payload,
    ) -> Result<(), Trouble> {
        let path = self.place.path(name.as_str());
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        self.make_folder(session, folder).await?;
        let random = getrandom::u64().unwrap_or_default().to_le_bytes();
        let temporary = format!("{folder}/.tmp-{}", id::hex(&random));
        let written = self.write(session, &temporary, payload).await;
        let put = match written {
            Ok(()) => session.rename(&temporary, &path).await,
            Err(trouble) => Err(trouble),
        };
        match put {
            Ok(()) => Ok(()),
            Err(trouble) => {
                let _ = session.fs().remove_file(&temporary).await;
                Err(match trouble {
                    Trouble::Refused(_) if session.is_full(folder, payload.len()).await => {
                        Trouble::Full
                    }
                    other => other,
                })
            }
        }
    }

    async fn write(&self, session: &Session, path: &str, payload: &Payload) -> Result<(), Trouble> {
        let file = session.sftp().options().write(true).create_new(true).open(path).await?;
        let mut file = Box::pin(TokioCompatFile::new(file));
        for part in payload.parts() {
            for piece in part.chunks(READ_MAX) {
                session.pace_upload(piece.len()).await;
                file.write_all(piece).await?;
            }
        }
        file.flush().await?;
        let file = file.as_mut().as_mut_file();
        if session.sftp().support_fsync() {
            file.sync_all().await?;
        }
        let size = session.fs().metadata(path).await?.len();
        match size {
            Some(size) if size != payload.len() => {
                Err(Trouble::Senseless(format!("it kept {size} of {} bytes", payload.len())))
            }
            _ => Ok(()),
        }
    }

    async fn read(
        &self,
        session: &Session,
        file: &File,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<(), Trouble> {
        let places = buffer.chunks_mut(READ_MAX).enumerate();
        let reads = places.map(|(index, place)| {
            let mut file = file.clone();
            let from = offset + (index * READ_MAX) as u64;
            async move {
                let mut filled = 0;
                while filled < place.len() {
                    let at = from + filled as u64;
                    let _ = file.seek(std::io::SeekFrom::Start(at)).await?;
                    let wanted = place.len() - filled;
                    let most = u32::try_from(wanted).unwrap_or(u32::MAX);
                    let Some(bytes) = file.read(most, BytesMut::new()).await? else {
                        return Err(Trouble::Senseless("it ends before its end".to_owned()));
                    };
                    session.pace_download(bytes.len()).await;
                    let len = bytes.len().min(wanted);
                    place[filled..filled + len].copy_from_slice(&bytes[..len]);
                    filled += len;
                }
                Ok(())
            }
        });
        stream::iter(reads).buffer_unordered(READS).try_collect().await
    }

    async fn list_once(&self, session: &Session, folder: &str) -> Result<Vec<Listed>, Trouble> {
        let mut objects = Vec::new();
        let mut waiting = vec![folder.to_owned()];
        while !waiting.is_empty() {
            let one = |folder: String| async move {
                match session.entries(&self.place.path(&folder)).await {
                    // A folder that is missing holds nothing.
                    Err(Trouble::Missing) => Ok((folder, Vec::new())),
                    other => other.map(|entries| (folder, entries)),
                }
            };
            let all = stream::iter(std::mem::take(&mut waiting)).map(one);
            let mut all = all.buffer_unordered(LISTINGS);
            while let Some((folder, entries)) = all.try_next().await? {
                for (base, metadata) in entries {
                    let text = match folder.as_str() {
                        "" => base,
                        folder => format!("{folder}/{base}"),
                    };
                    let Some(name) = ObjectName::parse(&text) else { continue };
                    match metadata.file_type() {
                        Some(kind) if kind.is_dir() => waiting.push(text),
                        Some(kind) if kind.is_file() => objects.push(Listed {
                            name,
                            size: metadata.len().unwrap_or(0),
                            modified: modified(&metadata),
                        }),
                        _ => {}
                    }
                }
            }
        }
        Ok(objects)
    }
}

/// The time of a file; the protocol knows whole seconds.
fn modified(metadata: &MetaData) -> Time {
    let time = metadata.modified().map(|time| time.as_system_time());
    let since = time.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    let seconds = since.and_then(|since| i64::try_from(since.as_secs()).ok());
    seconds.map_or(Time::default(), |seconds| Time::new(seconds, 0))
}

impl Store for SftpStore {
    fn location(&self) -> String {
        self.place.to_string()
    }

    fn is_far(&self) -> bool {
        true
    }

    fn put(&self, name: &ObjectName, payload: &Payload) -> Result<(), StoreError> {
        let put =
            self.run(Task::Put(name), async |session| self.put_once(session, name, payload).await);
        put.map_err(|stop| match stop {
            Stop::Error(error) => error,
            Stop::Missing | Stop::OutOfRange => {
                StoreError::Location(format!("`{}` cannot be made", self.place))
            }
        })
    }

    fn get(&self, name: &ObjectName, size_max: u64) -> Result<Vec<u8>, StoreError> {
        let path = self.place.path(name.as_str());
        let got = self.run(Task::Get(name), async |session| {
            let (file, size) = session.file(&path).await?;
            if size > size_max {
                return Err(StoreError::too_large(name, size, size_max).into());
            }
            let mut bytes = vec![0; usize::try_from(size).unwrap_or(usize::MAX)];
            self.read(session, &file, 0, &mut bytes).await?;
            Ok(bytes)
        });
        got.map_err(|stop| stop.of_object(name))
    }

    fn get_range(
        &self,
        name: &ObjectName,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<(), StoreError> {
        let path = self.place.path(name.as_str());
        let read = self.run(Task::Get(name), async |session| {
            let (file, size) = session.file(&path).await?;
            match offset.checked_add(buffer.len() as u64) {
                Some(end) if end <= size => self.read(session, &file, offset, buffer).await,
                _ => Err(StoreError::too_short(name, size, offset, buffer.len()).into()),
            }
        });
        read.map_err(|stop| stop.of_object(name))
    }

    fn list(&self, folder: &str) -> Result<Vec<Listed>, StoreError> {
        if !folder.is_empty() && ObjectName::parse(folder).is_none() {
            return Ok(Vec::new());
        }
        let listed =
            self.run(Task::List(folder), async |session| self.list_once(session, folder).await);
        match listed {
            Ok(mut objects) => {
                objects.sort_unstable_by(|a, b| a.name.cmp(&b.name));
                Ok(objects)
            }
            Err(Stop::Missing | Stop::OutOfRange) => Ok(Vec::new()),
            Err(Stop::Error(error)) => Err(error),
        }
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        let path = self.place.path(name.as_str());
        let deleted = self
            .run(Task::Delete(name), async |session| Ok(session.fs().remove_file(&path).await?));
        match deleted {
            Ok(()) | Err(Stop::Missing | Stop::OutOfRange) => Ok(()),
            Err(Stop::Error(error)) => Err(error),
        }
    }
}
