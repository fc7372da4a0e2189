//! What it takes to reach a store elsewhere: credentials, rates, patience.
//!
//! Only the cli reads the environment; what of it belongs to stores comes in here as plain data.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use zeroize::Zeroizing;

/// How long to wait for a store elsewhere, and how often to ask it again.
#[derive(Debug, Clone)]
pub struct Patience {
    /// How long a connection may take to be made.
    pub connect: Duration,
    /// How long nothing may move over a connection.
    pub idle: Duration,
    /// How long a call goes on trying, from its first failure on.
    pub budget: Duration,
    /// How often a call is tried where the store answers, but makes no sense.
    pub senseless_max: u32,
    /// The longest first pause between tries; it doubles with each.
    pub pause: Duration,
    /// The longest pause that is ever made.
    pub pause_max: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            budget: Duration::from_secs(180),
            senseless_max: 4,
            pause: Duration::from_millis(200),
            pause_max: Duration::from_secs(15),
        }
    }
}

/// What it takes to reach a store that is not a directory of this machine.
#[derive(Clone, Default)]
pub struct Access {
    /// The variables `AWS_*`, `AZURE_*`, `GOOGLE_*`, `STORAGE_EMULATOR_HOST` and `NETRC` of the
    /// environment.
    pub variables: BTreeMap<String, Zeroizing<String>>,
    /// The folder in which `.aws` and `.netrc` are looked for.
    pub home: Option<PathBuf>,
    /// The command that makes ssh connections, and what stands before its other arguments; `ssh`
    /// if empty.
    pub ssh_command: Vec<OsString>,
    /// All variables that this command gets.
    pub ssh_environment: BTreeMap<OsString, OsString>,
    /// Most bytes a second to send; no limit if none.
    pub upload_rate: Option<u64>,
    /// Most bytes a second to receive; no limit if none.
    pub download_rate: Option<u64>,
    /// How long to wait.
    pub patience: Patience,
    /// Ends all waiting once it is set.
    pub interrupted: Arc<AtomicBool>,
}

impl Access {
    /// Whether a variable of the environment is of use to a store.
    #[must_use]
    pub fn is_wanted(name: &str) -> bool {
        ["AWS_", "AZURE_", "GOOGLE_"].iter().any(|stem| name.starts_with(stem))
            || matches!(name, "STORAGE_EMULATOR_HOST" | "NETRC")
    }

    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(|value| value.as_str())
    }
}

/// Shows the names of variables only: their values are credentials.
impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access")
            .field("variables", &self.variables.keys())
            .field("upload_rate", &self.upload_rate)
            .field("download_rate", &self.download_rate)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_variables_of_stores_are_wanted_and_none_is_shown() {
        for name in ["AWS_REGION", "AZURE_STORAGE_KEY", "GOOGLE_BUCKET", "NETRC"] {
            assert!(Access::is_wanted(name), "{name}");
        }
        for name in ["PATH", "VAULT_PASSWORD", "MY_AWS_KEY"] {
            assert!(!Access::is_wanted(name), "{name}");
        }
        let mut access = Access::default();
        let _ = access.variables.insert("AWS_X".to_owned(), "hunter2".to_owned().into());
        let shown = format!("{access:?}");
        assert!(shown.contains("AWS_X") && !shown.contains("hunter2"), "{shown}");
    }
}
