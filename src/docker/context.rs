//! Docker contexts, as the docker command keeps them in its configuration folder.
//!
//! `config.json` names the current one; `contexts/meta/<sha256 of name>/meta.json` says where its
//! engine is, and `contexts/tls/<sha256 of name>/docker/` holds its certificates, if it has any.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::digest::sha256_hex;
use super::error::DockerError;
use super::host::Certificates;

/// Most bytes read of one file of the docker command.
const FILE_LEN_MAX: u64 = 1 << 20;

/// Most contexts listed in a message.
const LISTED_MAX: usize = 100;

/// Where a context's engine is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// Its address, as written.
    pub(super) host: String,
    /// What TLS needs, if it is to be spoken.
    pub(super) certificates: Option<Certificates>,
}

#[derive(Deserialize)]
struct Config {
    #[serde(rename = "currentContext", default)]
    current_context: String,
}

#[derive(Deserialize)]
struct Meta {
    #[serde(rename = "Name")]
    name: String,
    #[serde(rename = "Endpoints", default)]
    endpoints: Endpoints,
}

#[derive(Deserialize, Default)]
struct Endpoints {
    docker: Option<DockerEndpoint>,
}

#[derive(Deserialize)]
struct DockerEndpoint {
    #[serde(rename = "Host", default)]
    host: String,
    #[serde(rename = "SkipTLSVerify", default)]
    skip_tls_verify: bool,
}

/// The context that `config.json` in `folder` makes current; none if it names none.
pub(super) fn current(folder: &Path) -> Result<Option<String>, DockerError> {
    let config: Option<Config> = read_json(&folder.join("config.json"))?;
    Ok(config.map(|config| config.current_context).filter(|name| !name.is_empty()))
}

/// The engine of the context called `name`.
///
/// Errors: [`DockerError::NoContext`] if there is none, never another engine instead.
pub(super) fn find(folder: &Path, name: &str) -> Result<Endpoint, DockerError> {
    let digest = sha256_hex(name.as_bytes());
    let path = folder.join("contexts/meta").join(&digest).join("meta.json");
    let Some(meta) = read_json::<Meta>(&path)? else {
        return Err(DockerError::NoContext { name: name.into(), known: known(folder) });
    };
    let damaged = |reason: &str| DockerError::Config { path: path.clone(), reason: reason.into() };
    if meta.name != name {
        return Err(damaged("it is of another context than its folder says"));
    }
    let endpoint = meta.endpoints.docker.filter(|endpoint| !endpoint.host.is_empty());
    let endpoint = endpoint.ok_or_else(|| damaged("it names no docker engine"))?;
    let folder = folder.join("contexts/tls").join(digest).join("docker");
    let tls = endpoint.skip_tls_verify || folder.exists();
    let verify = !endpoint.skip_tls_verify;
    let certificates = tls.then_some(Certificates { folder, verify });
    Ok(Endpoint { host: endpoint.host, certificates })
}

/// Whether a context is called `name`; also one whose description cannot be used.
pub(super) fn exists(folder: &Path, name: &str) -> bool {
    let digest = sha256_hex(name.as_bytes());
    folder.join("contexts/meta").join(digest).join("meta.json").exists()
}

/// The names of all contexts that can be read, sorted, for a message.
pub(super) fn known(folder: &Path) -> Vec<String> {
    let mut names = vec!["default".to_owned()];
    for entry in fs::read_dir(folder.join("contexts/meta")).into_iter().flatten().flatten() {
        if let Ok(Some(meta)) = read_json::<Meta>(&entry.path().join("meta.json")) {
            names.push(meta.name);
        }
        if names.len() == LISTED_MAX {
            break;
        }
    }
    names.sort();
    names
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, DockerError> {
    let damaged = |reason: String| DockerError::Config { path: path.to_owned(), reason };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(e) => return Err(damaged(e.to_string())),
    };
    let mut text = Vec::new();
    let len = file.take(FILE_LEN_MAX + 1).read_to_end(&mut text);
    let len = len.map_err(|e| damaged(e.to_string()))?;
    if len as u64 > FILE_LEN_MAX {
        return Err(damaged(format!("longer than {FILE_LEN_MAX} bytes")));
    }
    serde_json::from_slice(&text).map(Some).map_err(|e| damaged(e.to_string()))
}
