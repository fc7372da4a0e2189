//! Everything a verb needs to know besides its own arguments, resolved once.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use jiff::tz::TimeZone;
use volume_vault::clock::{Clock, Time};
use volume_vault::docker::{DockerError, Engine, Environment as DockerEnvironment, Host};
use volume_vault::store::Access;

use super::args::GlobalArgs;
use super::environment::Environment;
use super::error::{CliError, Kind};
use super::names::{SnapshotName, SnapshotPath, parse_rate, parse_size};
use super::output::{self, Output};
use super::places::{Configuration, Places};
use super::prompt::ask;
use super::repository::{Choice, choose};
use super::secret::Credentials;

/// Memory for data on its way, unless told otherwise, in bytes.
const MEMORY_DEFAULT: u64 = 256 << 20;

/// Less than this holds no pack and its frames.
const MEMORY_MIN: u64 = 64 << 20;

/// Which Docker Engine is meant; making the connection is the library's business.
#[derive(Debug, Clone, Default)]
pub(crate) struct HostSettings {
    /// The name of the `[hosts.NAME]` table it came from: the host of its series.
    pub(crate) name: Option<String>,
    /// What a flag or the configuration names: an address, or a name of docker or ssh.
    pub(crate) explicit: Option<String>,
    /// Whether the command line names it.
    pub(crate) by_flag: bool,
    /// What the environment says.
    pub(crate) environment: DockerEnvironment,
}

impl HostSettings {
    /// The engine that is meant.
    ///
    /// Errors: usage, for a name or address that means none.
    pub(crate) fn resolve(&self) -> Result<Host, DockerError> {
        Host::resolve(self.explicit.as_deref(), &self.environment)
    }
}

/// The resolved settings of one run.
#[derive(Debug)]
pub(crate) struct Context {
    /// Where and how to print.
    pub(crate) output: Output,
    /// Where things of this installation lie.
    pub(crate) places: Places,
    /// The configuration in force.
    pub(crate) configuration: Configuration,
    /// The engine to work against.
    pub(crate) host: HostSettings,
    /// That engine, once it was reached.
    pub(crate) engine: OnceLock<Engine>,
    /// Where the cache is; none with `--no-cache`.
    pub(crate) cache_dir: Option<PathBuf>,
    /// Memory for data on its way, in bytes.
    pub(crate) memory_bytes: u64,
    /// What it takes to reach a store elsewhere.
    pub(crate) access: Access,
    /// `--dry-run`.
    pub(crate) dry_run: bool,
    /// `--yes`.
    pub(crate) yes: bool,
    /// Set once a signal asked to stop.
    pub(crate) interrupted: Arc<AtomicBool>,
    /// The time.
    pub(crate) clock: Clock,
    /// The zone times are shown in and read in.
    pub(crate) zone: TimeZone,
    global: GlobalArgs,
    environment: Environment,
}

impl Context {
    /// Resolves flags, environment and configuration. Which repository is meant is not asked yet:
    /// `completions` needs none, and `init` may name another.
    ///
    /// Errors: usage, an unreadable configuration.
    pub(crate) fn new(
        global: &GlobalArgs,
        environment: Environment,
        interrupted: Arc<AtomicBool>,
    ) -> Result<Self, CliError> {
        let configuration = Configuration::find(global.config.as_deref(), &environment)?;
        let places = Places::of(&environment)?;
        let defaults = &configuration.config.defaults;
        let memory = global.memory.as_ref().or(defaults.memory.as_ref());
        let memory_bytes = memory.map_or(Ok(MEMORY_DEFAULT), |text| parse_size(text))?;
        if memory_bytes < MEMORY_MIN {
            return Err(CliError::usage("less than 64MiB of memory is too little"));
        }
        let flag_dir = |path: &PathBuf| environment.current_dir.join(path);
        let cache_dir = global
            .cache_dir
            .as_ref()
            .or(environment.cache_dir.as_ref())
            .map(flag_dir)
            .or_else(|| defaults.cache_dir.clone())
            .unwrap_or_else(|| places.cache.clone());
        let rate = |text: &Option<String>| text.as_deref().map(parse_rate).transpose();
        let access = Access {
            variables: environment.store.clone(),
            home: environment.home.clone(),
            ssh_environment: environment.child.clone(),
            upload_rate: rate(&global.limit_upload)?,
            download_rate: rate(&global.limit_download)?,
            interrupted: interrupted.clone(),
            ..Access::default()
        };
        Ok(Self {
            output: Output::new(
                global.json.into(),
                global.quiet,
                global.verbose,
                !global.no_progress,
            ),
            host: host_settings(global.host.as_deref(), &environment, &configuration),
            engine: OnceLock::new(),
            places,
            configuration,
            cache_dir: (!global.no_cache).then_some(cache_dir),
            memory_bytes,
            access,
            dry_run: global.dry_run,
            yes: global.yes,
            interrupted,
            clock: Clock::System,
            zone: TimeZone::system(),
            global: global.clone(),
            environment,
        })
    }

    /// The repository that is meant; see [`choose`].
    ///
    /// Errors: no repository, ambiguous.
    pub(crate) fn repository(&self) -> Result<Choice, CliError> {
        let flag = self.global.repo.as_deref();
        choose(flag, &self.environment, &self.configuration, &self.places)
    }

    /// The engine that `text` means, as if `--host` had named it; for `restore --to`.
    pub(crate) fn host_named(&self, text: &str) -> HostSettings {
        host_settings(Some(text), &self.environment, &self.configuration)
    }

    /// The repository at `url`, as if `--repo` had named it; for `init URL`.
    pub(crate) fn repository_at(&self, url: &str) -> Result<Choice, CliError> {
        choose(Some(url), &self.environment, &self.configuration, &self.places)
    }

    /// Where the password or key of `repository` comes from.
    pub(crate) fn credentials(&self, repository: &Choice) -> Credentials {
        Credentials {
            key_file_flag: self.global.key_file.clone(),
            command_flag: self.global.password_command.clone(),
            file_flag: self.global.password_file.clone(),
            configured_key_file: repository.key_file.clone(),
            configured_file: repository.password_file.clone(),
            keys: self.places.keys.clone(),
            environment: self.environment.clone(),
            copied_to: None,
        }
    }

    /// Where the password or key of the repository comes from that is copied to. Flags and
    /// variables have names of their own: those of the other repository never count here.
    pub(crate) fn credentials_to(
        &self,
        repository: &Choice,
        key_file: Option<PathBuf>,
        file: Option<PathBuf>,
        command: Option<String>,
    ) -> Credentials {
        let ours = &self.environment;
        let environment = Environment {
            password: ours.to_password.clone(),
            password_file: ours.to_password_file.clone(),
            password_command: ours.to_password_command.clone(),
            key_file: ours.to_key_file.clone(),
            ..ours.clone()
        };
        Credentials {
            key_file_flag: key_file,
            command_flag: command,
            file_flag: file,
            environment,
            copied_to: Some(repository.url.clone()),
            ..self.credentials(repository)
        }
    }

    /// What `key add` and `key passwd` are told by flags of their own; nothing else counts there,
    /// or the old password would be made the new one.
    pub(crate) fn new_credentials(
        &self,
        key_file: Option<PathBuf>,
        file: Option<PathBuf>,
        command: Option<String>,
    ) -> Credentials {
        let child = self.environment.child.clone();
        Credentials {
            key_file_flag: key_file,
            command_flag: command,
            file_flag: file,
            keys: self.places.keys.clone(),
            environment: Environment { child, ..Environment::default() },
            ..Credentials::default()
        }
    }

    /// The file `init --default` writes to.
    pub(crate) fn config_file_to_write(&self) -> PathBuf {
        self.configuration.path.clone().unwrap_or_else(|| self.places.config_file.clone())
    }

    /// The folder relative paths are meant from.
    pub(crate) fn current_dir(&self) -> &std::path::Path {
        &self.environment.current_dir
    }

    /// The present time.
    pub(crate) fn now(&self) -> Time {
        self.clock.now()
    }

    /// Reads a snapshot's name by this run's clock and zone.
    pub(crate) fn snapshot_name(&self, text: &str) -> Result<SnapshotName, CliError> {
        let name = SnapshotName::parse(text, self.now(), &self.zone)?;
        name.absolute_in(self.current_dir())
    }

    /// Reads `SNAPSHOT:PATH` by this run's clock and zone.
    pub(crate) fn snapshot_path(&self, text: &str) -> Result<SnapshotPath, CliError> {
        let SnapshotPath { snapshot, path } = SnapshotPath::parse(text, self.now(), &self.zone)?;
        Ok(SnapshotPath { snapshot: snapshot.absolute_in(self.current_dir())?, path })
    }

    /// Whether somebody is there who can be asked.
    pub(crate) fn may_ask(&self) -> bool {
        !self.output.format.is_json() && output::is_interactive()
    }

    /// Goes on only if the user wants to: `--yes`, or `y` at a terminal.
    ///
    /// Errors: refused, in `what`'s name.
    pub(crate) fn confirm(&self, what: &str) -> Result<(), CliError> {
        if self.yes {
            return Ok(());
        }
        if !self.may_ask() {
            let error = CliError::new(Kind::Refused, format!("{what}: needs a yes"));
            return Err(error.hint("add `--yes` if that is what you want"));
        }
        match ask(&format!("{what}. Go on?"))? {
            true => Ok(()),
            false => Err(CliError::new(Kind::Refused, format!("{what}: not wanted"))),
        }
    }
}

/// `-H`, then `DOCKER_HOST` and `DOCKER_CONTEXT` (as the docker command does), then `[defaults]`. A
/// `[hosts.NAME]` goes before contexts and names of ssh.
fn host_settings(
    flag: Option<&str>,
    environment: &Environment,
    configuration: &Configuration,
) -> HostSettings {
    let config = &configuration.config;
    let home = environment.home.as_ref();
    let docker_config = environment.docker_config.clone();
    let mut docker = DockerEnvironment {
        docker_host: environment.docker_host.clone(),
        docker_context: environment.docker_context.clone(),
        docker_config: docker_config.or_else(|| home.map(|home| home.join(".docker"))),
        tls_verify: environment.docker_tls_verify,
        cert_path: environment.docker_cert_path.clone(),
        home: home.cloned(),
        ssh_environment: environment.child.clone(),
    };
    let from_environment = docker.docker_host.is_some() || docker.docker_context.is_some();
    let default = config.defaults.host.as_deref().filter(|_| !from_environment);
    let text = flag.or(default);
    let table = text.and_then(|text| config.hosts.get_key_value(text));
    if let Some(folder) = table.and_then(|(_, host)| host.cert_path.clone()) {
        docker.tls_verify = true;
        docker.cert_path = Some(folder);
    }
    HostSettings {
        name: table.map(|(name, _)| name.clone()),
        explicit: table.map(|(_, host)| host.url.as_str()).or(text).map(str::to_owned),
        by_flag: flag.is_some(),
        environment: docker,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use volume_vault::config::Config;

    use super::*;

    fn context(global: &GlobalArgs, environment: Environment) -> Result<Context, CliError> {
        let home = Some(PathBuf::from("/no/such/home"));
        let environment = Environment { home, current_dir: "/no/such".into(), ..environment };
        Context::new(global, environment, Arc::default())
    }

    #[test]
    fn memory_is_checked_before_any_work() {
        let with = |memory: &str| {
            let memory = Some(memory.to_owned());
            context(&GlobalArgs { memory, ..GlobalArgs::default() }, Environment::default())
        };
        assert_eq!(with("128MiB").expect("enough").memory_bytes, 128 << 20);
        assert_eq!(with("1MiB").expect_err("too little").code(), 2);
        assert_eq!(with("lots").expect_err("no size").code(), 2);
    }

    #[test]
    fn rates_are_checked_before_any_work() {
        let with = |rate: &str| {
            let limit_upload = Some(rate.to_owned());
            context(&GlobalArgs { limit_upload, ..GlobalArgs::default() }, Environment::default())
        };
        assert_eq!(with("2MiB").expect("a rate").access.upload_rate, Some(2 << 20));
        assert_eq!(with("500kB/s").expect("a rate").access.upload_rate, Some(500_000));
        for wrong in ["fast", "0", "1MiB/h"] {
            assert_eq!(with(wrong).expect_err("no rate").code(), 2, "{wrong}");
        }
    }

    #[test]
    fn the_cache_is_where_the_first_to_speak_says() {
        let variable = Environment { cache_dir: Some("/env".into()), ..Environment::default() };
        let flag = GlobalArgs { cache_dir: Some("flag".into()), ..GlobalArgs::default() };
        let none = GlobalArgs { no_cache: true, ..GlobalArgs::default() };
        let dir = |global: &GlobalArgs, environment: &Environment| {
            context(global, environment.clone()).expect("a context").cache_dir
        };
        assert_eq!(dir(&flag, &variable), Some("/no/such/flag".into()));
        assert_eq!(dir(&GlobalArgs::default(), &variable), Some("/env".into()));
        assert_eq!(
            dir(&GlobalArgs::default(), &Environment::default()),
            Some("/no/such/home/.cache/vault".into())
        );
        assert_eq!(dir(&none, &variable), None);
    }

    #[test]
    fn hosts_are_found_in_dockers_order_and_by_configured_name() {
        let text = "[hosts.b]\nurl = 'tcp://b'\n[defaults]\nhost = 'b'";
        let config = Config::parse(text, Path::new("/c.toml")).expect("valid");
        let configuration = Configuration { path: Some("/c.toml".into()), config };
        let mut environment = Environment::default();
        let host = |flag, environment: &Environment| {
            let settings = host_settings(flag, environment, &configuration);
            let address = settings.resolve().map_or_else(|e| e.to_string(), |h| h.to_string());
            (settings.name, address)
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(host(None, &environment), (some("b"), "tcp://b:2375".to_owned()));
        environment.docker_context = some("ctx");
        let (name, error) = host(None, &environment);
        assert!(name.is_none() && error.contains("no docker context is called `ctx`"), "{error}");
        environment.docker_host = some("unix:///x");
        assert_eq!(host(None, &environment), (None, "unix:///x".to_owned()));
        assert_eq!(host(Some("b"), &environment), (some("b"), "tcp://b:2375".to_owned()));
        let local = host(Some("local"), &environment);
        assert_eq!(local, (None, "unix:///var/run/docker.sock".to_owned()));
    }

    #[test]
    fn a_configured_host_brings_its_own_certificates() {
        let text = "[hosts.b]\nurl = 'tcp://b:2376'\ncert_path = 'b'\n[hosts.c]\nurl = 'tcp://c'";
        let config = Config::parse(text, Path::new("/etc/c.toml")).expect("valid");
        let configuration = Configuration { path: Some("/etc/c.toml".into()), config };
        let settings = host_settings(Some("b"), &Environment::default(), &configuration);
        let folder = settings.environment.cert_path;
        assert_eq!((settings.environment.tls_verify, folder), (true, Some("/etc/b".into())));
        let settings = host_settings(Some("c"), &Environment::default(), &configuration);
        assert!(!settings.environment.tls_verify);
    }

    #[test]
    fn new_credentials_never_take_the_old_ones() {
        let environment = Environment {
            password: Some(zeroize::Zeroizing::new(b"old".to_vec())),
            ..Environment::default()
        };
        let context = context(&GlobalArgs::default(), environment).expect("a context");
        let new = context.new_credentials(None, None, None);
        assert!(new.named().expect("nothing fails").is_none());
    }
}
