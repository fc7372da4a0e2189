//! One Docker Engine: connecting, agreeing on a version, and calling it from blocking code.
//!
//! The runtime lives and dies with the engine's handles. Calls are futures of bollard that
//! [`Engine::call`] waits for; none may be made from inside another runtime.

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bollard::Docker;
use bollard::models::{SystemInfo, SystemVersion};
use tokio::runtime::{Builder, Runtime};

use super::dial::Dialer;
use super::error::DockerError;
use super::host::Host;
use super::run::RunId;

/// How long it may take until an answer begins that needs no work to speak of; with ssh, a login
/// comes before.
const CONTROL_TIMEOUT: Duration = Duration::from_secs(60);

/// Calls that move data take as long as they take; who waits for them notices when nothing moves.
const BULK_TIMEOUT: Duration = Duration::MAX;

/// The oldest API with everything this module needs: Engine 20.10.
const API_MIN: ApiVersion = ApiVersion(1, 41);

/// The newest API this module was written for; answers change their shape above 1.51.
const API_MAX: ApiVersion = ApiVersion(1, 47);

/// What an engine says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EngineInfo {
    /// Its own identity, which survives restarts.
    pub id: String,
    /// The name of the machine it runs on.
    pub name: String,
    /// Its version, such as `20.10.24`.
    pub version: String,
    /// The API version spoken with it, such as `1.41`.
    pub api_version: String,
    /// Operating system, such as `linux`.
    pub os: String,
    /// Architecture as Go calls it, such as `amd64`.
    pub arch: String,
    /// Its security options as it lists them.
    pub security_options: Vec<String>,
    /// Whether containers see other user ids than the machine has.
    pub user_namespaces: bool,
    /// Whether it runs without being root.
    pub rootless: bool,
    /// Where it keeps its data, on its machine.
    pub root_dir: String,
    /// Whether it is reached through a unix socket.
    pub local: bool,
    /// Whether it is Podman behind Docker's API.
    pub podman: bool,
}

/// A Docker Engine that answered. Clones share the connection settings.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    control: Docker,
    bulk: Docker,
    dialer: Dialing,
    runtime: Background,
    host: Host,
    info: EngineInfo,
    run: RunId,
}

impl Engine {
    /// Connects to the engine at `host` and agrees on a version with it.
    ///
    /// Errors: [`DockerError::NoEngine`], [`DockerError::Permission`], [`DockerError::Ssh`],
    /// [`DockerError::Tls`], [`DockerError::Certificate`], and [`DockerError::Unsupported`] if
    /// there is no version both sides speak.
    pub fn connect(host: &Host) -> Result<Self, DockerError> {
        let failed = |e: io::Error| DockerError::Engine {
            action: "prepare to call the docker engine".into(),
            message: e.to_string(),
        };
        let run = RunId::current().map_err(failed)?;
        let runtime = Background::start().map_err(failed)?;
        let of = |e| DockerError::of(e, host, "ask the docker engine for its version");
        let dialer = Dialing(Dialer::new(host)?);
        let bare = dialer.0.client(CONTROL_TIMEOUT).map_err(of)?;
        let version = runtime.wait(bare.version()).map_err(of)?;
        let spoken = negotiate(host, &version)?;
        let control = with_version(bare, spoken);
        let bulk = control.clone().with_timeout(BULK_TIMEOUT);
        let system = runtime
            .wait(control.info())
            .map_err(|e| DockerError::of(e, host, "ask the docker engine about itself"))?;
        let info = describe(host, spoken, version, system);
        let inner = Inner { control, bulk, dialer, runtime, host: host.clone(), info, run };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// What it says about itself.
    #[must_use]
    pub fn info(&self) -> &EngineInfo {
        &self.inner.info
    }

    /// The address it was reached at.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.inner.host
    }

    /// For calls that are answered at once.
    pub(super) fn control(&self) -> &Docker {
        &self.inner.control
    }

    /// For calls that move or remove data.
    pub(super) fn bulk(&self) -> &Docker {
        &self.inner.bulk
    }

    /// The runtime, for streams.
    pub(super) fn runtime(&self) -> &Runtime {
        self.inner.runtime.get()
    }

    /// How many bytes moved between this program and the engine so far.
    pub(super) fn moved(&self) -> u64 {
        self.inner.dialer.0.moved()
    }

    /// Which run of the program this is.
    pub(super) fn run(&self) -> &RunId {
        &self.inner.run
    }

    /// Waits for `call`.
    pub(super) fn call<T, E>(&self, call: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        self.inner.runtime.wait(call)
    }

    /// Sorts what a call reported while doing `action`.
    pub(super) fn error(&self, error: bollard::errors::Error, action: &str) -> DockerError {
        DockerError::of(error, &self.inner.host, action)
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Engine({})", self.inner.host)
    }
}

/// A dialer whose connections end with this: the runtime ends without waiting for who holds them.
struct Dialing(Dialer);

impl Drop for Dialing {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// A runtime that ends without waiting for what still runs on it.
struct Background(Option<Runtime>);

impl Background {
    fn start() -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("docker")
            .enable_all()
            .build()?;
        Ok(Self(Some(runtime)))
    }

    fn get(&self) -> &Runtime {
        self.0.as_ref().expect("because the runtime is only taken when this is dropped")
    }

    fn wait<T>(&self, call: impl Future<Output = T>) -> T {
        self.get().block_on(call)
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct ApiVersion(u32, u32);

impl ApiVersion {
    fn parse(text: Option<&str>) -> Option<Self> {
        let (major, minor) = text?.split_once('.')?;
        Some(Self(major.parse().ok()?, minor.parse().ok()?))
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// The newest version that the engine and this module both speak.
fn negotiate(host: &Host, version: &SystemVersion) -> Result<ApiVersion, DockerError> {
    let Some(newest) = ApiVersion::parse(version.api_version.as_deref()) else {
        return Err(DockerError::Unsupported(format!(
            "{host} does not answer like a docker engine"
        )));
    };
    let oldest = ApiVersion::parse(version.min_api_version.as_deref()).unwrap_or(newest);
    let spoken = newest.min(API_MAX);
    if spoken < API_MIN || spoken < oldest {
        return Err(DockerError::Unsupported(format!(
            "the docker engine at {host} speaks API {oldest} to {newest}, this program {API_MIN} \
             to {API_MAX}"
        )));
    }
    Ok(spoken)
}

/// Puts the version in front of every path, which bollard 0.21 forgets to do (bollard#736).
fn with_version(docker: Docker, version: ApiVersion) -> Docker {
    docker.with_request_modifier(move |mut request| {
        let uri = request.uri();
        let scheme = uri.scheme_str().unwrap_or("http");
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        if let Ok(uri) = format!("{scheme}://{authority}/v{version}{path}").parse() {
            *request.uri_mut() = uri;
        }
        request
    })
}

fn describe(
    host: &Host,
    spoken: ApiVersion,
    version: SystemVersion,
    system: SystemInfo,
) -> EngineInfo {
    let security_options = system.security_options.unwrap_or_default();
    let has = |name: &str| {
        let named = format!("name={name}");
        security_options.iter().any(|option| option.split(',').any(|part| part == named))
    };
    EngineInfo {
        id: system.id.unwrap_or_default(),
        name: system.name.unwrap_or_default(),
        version: version.version.unwrap_or_default(),
        api_version: spoken.to_string(),
        os: version.os.unwrap_or_default(),
        arch: version.arch.unwrap_or_default(),
        user_namespaces: has("userns"),
        rootless: has("rootless"),
        root_dir: system.docker_root_dir.unwrap_or_default(),
        local: host.is_unix(),
        podman: version
            .components
            .is_some_and(|all| all.iter().any(|part| part.name.starts_with("Podman"))),
        security_options,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agreed(newest: &str, oldest: &str) -> Result<String, String> {
        let version = SystemVersion {
            api_version: Some(newest.into()),
            min_api_version: Some(oldest.into()),
            ..SystemVersion::default()
        };
        let spoken = negotiate(&Host::unix("/s"), &version);
        spoken.map(|v| v.to_string()).map_err(|e| e.to_string())
    }

    #[test]
    fn the_newest_version_both_sides_speak_is_used() {
        for (newest, oldest, spoken) in
            [("1.41", "1.12", "1.41"), ("1.44", "1.24", "1.44"), ("1.55", "1.40", "1.47")]
        {
            assert_eq!(agreed(newest, oldest).as_deref(), Ok(spoken));
        }
    }

    #[test]
    fn an_engine_too_old_or_too_new_is_refused_with_both_ranges() {
        let error = agreed("1.40", "1.12").expect_err("too old");
        assert!(error.contains("1.12 to 1.40") && error.contains("1.41 to 1.47"), "{error}");
        let _ = agreed("1.60", "1.48").expect_err("too new");
        let _ = agreed("teapot", "1.0").expect_err("no engine");
    }

    #[test]
    fn security_options_are_found_by_their_name() {
        let system = SystemInfo {
            security_options: Some(vec![
                "name=seccomp,profile=userns".into(),
                "name=rootless".into(),
            ]),
            ..SystemInfo::default()
        };
        let info = describe(&Host::unix("/s"), API_MIN, SystemVersion::default(), system);
        assert!(info.rootless && !info.user_namespaces && info.local && !info.podman);
    }
}
