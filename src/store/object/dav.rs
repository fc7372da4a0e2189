//! What WebDAV needs beyond plain HTTP: folders that are made, and puts that are whole.
//!
//! A PUT that is cut off may leave half a file under its name, so objects are put under a
//! temporary name, which no listing shows, and moved. A move never replaces anything but an
//! object of other bytes: servers that replace take away what is there first.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use futures_util::{StreamExt as _, stream};
use http::{Method, StatusCode};
use object_store::client::{HttpClient, HttpRequest, HttpRequestBody};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt as _, PutPayload};

use super::answer::Notes;
use super::failure::Trouble;
use super::place::Place;
use crate::id;

/// Folders listed at the same time.
const LISTINGS: usize = 8;

/// Most folders in one listing.
const FOLDERS_MAX: usize = 1 << 20;

/// The parts of a WebDAV store that have state.
#[derive(Debug)]
pub(super) struct Dav {
    client: HttpClient,
    /// Scheme and host.
    origin: String,
    /// Folders that are known to be there.
    folders: Mutex<HashSet<String>>,
}

impl Dav {
    pub(super) fn new(place: &Place, client: HttpClient) -> Self {
        Self { client, origin: place.origin(), folders: Mutex::default() }
    }

    /// Puts an object so that its name never shows a part of it.
    pub(super) async fn put(
        &self,
        store: &dyn ObjectStore,
        path: &Path,
        payload: &PutPayload,
    ) -> Result<(), Trouble> {
        let folder = path.as_ref().rsplit_once('/').map_or("", |(folder, _)| folder);
        self.make_folder(folder).await?;
        let random = getrandom::u64().unwrap_or_default().to_le_bytes();
        let base = format!(".tmp-{}", id::hex(&random));
        let temporary = if folder.is_empty() { base } else { format!("{folder}/{base}") };
        let temporary = Path::from(temporary);
        let put = self.put_by(store, &temporary, path, payload).await;
        if put.is_err() {
            // Whether this works is no news, and must not stand in for what went wrong.
            let _ = Notes::default().over(store.delete(&temporary)).await;
        }
        put
    }

    async fn put_by(
        &self,
        store: &dyn ObjectStore,
        temporary: &Path,
        path: &Path,
        payload: &PutPayload,
    ) -> Result<(), Trouble> {
        let _ = store.put(temporary, payload.clone()).await?;
        if self.put_move(temporary, path, "F").await? != StatusCode::PRECONDITION_FAILED {
            return Ok(());
        }
        let there = store.get(path).await?;
        let wanted = payload.content_length();
        let same = there.meta.size == wanted as u64 && {
            let bytes = there.bytes().await?;
            let mut rest = &bytes[..];
            payload.iter().all(|part| match rest.strip_prefix(&part[..]) {
                Some(after) => {
                    rest = after;
                    true
                }
                None => false,
            })
        };
        match same {
            true => Ok(store.delete(temporary).await?),
            false => self.put_move(temporary, path, "T").await.map(|_| ()),
        }
    }

    async fn put_move(
        &self,
        from: &Path,
        to: &Path,
        overwrite: &str,
    ) -> Result<StatusCode, Trouble> {
        let to = format!("{}/{}", self.origin, encoded(to.as_ref()));
        let headers = [("Destination", to.as_str()), ("Overwrite", overwrite)];
        let status = self.ask("MOVE", from.as_ref(), &headers).await?;
        match status {
            StatusCode::PRECONDITION_FAILED if overwrite == "F" => Ok(status),
            status if status.is_success() => Ok(status),
            _ => Err(unwell()),
        }
    }

    /// Makes a folder, and those above it where they are missing.
    async fn make_folder(&self, path: &str) -> Result<(), Trouble> {
        let mut missing = Vec::new();
        let mut next = path;
        while !next.is_empty() && !self.is_known(next) {
            match self.ask("MKCOL", &format!("{next}/"), &[]).await? {
                StatusCode::CONFLICT | StatusCode::NOT_FOUND => missing.push(next),
                // Not allowed where there is something already.
                status if is_made(status) => {
                    self.know(next);
                    break;
                }
                _ => return Err(unwell()),
            }
            next = next.rsplit_once('/').map_or("", |(above, _)| above);
        }
        for folder in missing.into_iter().rev() {
            match self.ask("MKCOL", &format!("{folder}/"), &[]).await? {
                status if is_made(status) => self.know(folder),
                _ => return Err(unwell()),
            }
        }
        Ok(())
    }

    /// All objects below a folder; servers need not list more than one folder at once.
    pub(super) async fn list(
        &self,
        store: &dyn ObjectStore,
        folder: Path,
        is_ours: impl Fn(&Path) -> bool,
        add: &mut dyn FnMut(&ObjectMeta),
    ) -> Result<(), Trouble> {
        let mut waiting = vec![folder];
        let mut seen = 0_usize;
        while !waiting.is_empty() {
            seen += waiting.len();
            if seen > FOLDERS_MAX {
                return Err(Trouble::Senseless(format!("more than {FOLDERS_MAX} folders")));
            }
            let one = |folder: Path| async move {
                let prefix = Some(&folder).filter(|folder| !folder.as_ref().is_empty());
                store.list_with_delimiter(prefix).await
            };
            let all = stream::iter(std::mem::take(&mut waiting)).map(one);
            let mut all = all.buffer_unordered(LISTINGS);
            while let Some(result) = all.next().await {
                let result = result?;
                result.objects.iter().for_each(&mut *add);
                // Folders of other names are no part of a repository.
                waiting.extend(result.common_prefixes.into_iter().filter(&is_ours));
            }
        }
        Ok(())
    }

    async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<StatusCode, Trouble> {
        let bad = |_: http::Error| Trouble::Senseless("no such request can be made".to_owned());
        let method = Method::from_bytes(method.as_bytes()).map_err(|error| bad(error.into()))?;
        let mut request = http::Request::builder().method(method);
        request = request.uri(format!("{}/{}", self.origin, encoded(path)));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request: HttpRequest = request.body(HttpRequestBody::empty()).map_err(bad)?;
        match self.client.execute(request).await {
            Ok(answer) => Ok(answer.status()),
            Err(_) => Err(unwell()),
        }
    }

    fn is_known(&self, path: &str) -> bool {
        self.folders.lock().unwrap_or_else(PoisonError::into_inner).contains(path)
    }

    fn know(&self, path: &str) {
        let mut folders = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = folders.insert(path.to_owned());
    }

    /// Forgets which folders there are, as somebody may have removed one.
    pub(super) fn forget_folders(&self) {
        self.folders.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// A path as it stands in a URL; of what paths may hold, only the space is written otherwise.
fn encoded(path: &str) -> String {
    path.replace(' ', "%20")
}

fn is_made(status: StatusCode) -> bool {
    status.is_success()
        || matches!(status, StatusCode::METHOD_NOT_ALLOWED | StatusCode::MOVED_PERMANENTLY)
}

/// An error whose meaning stands in the notes.
fn unwell() -> Trouble {
    Trouble::Client(object_store::Error::Generic {
        store: "WebDAV",
        source: "the server answers with an error".into(),
    })
}
