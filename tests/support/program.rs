//! The program, run with an environment of its own.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

/// How a run of the program ended.
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// The JSON document on standard output.
    pub(crate) fn json(&self) -> Value {
        let told = format!("one document: {} {}", self.stdout, self.stderr);
        serde_json::from_str(&self.stdout).expect(&told)
    }

    /// Demands an exit code.
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}\n{}", self.stdout, self.stderr);
        self
    }
}

/// The program with its places below `home`, without a terminal and without an engine.
pub(crate) struct Program<'h> {
    home: &'h Path,
    pub(crate) variables: Vec<(&'static str, String)>,
}

impl<'h> Program<'h> {
    pub(crate) fn at(home: &'h Path) -> Self {
        let variables = ["DATA", "CONFIG", "CACHE", "STATE"];
        let places = ["XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME"];
        let below = |folder: &str| home.join(folder).display().to_string();
        let mut variables: Vec<_> =
            places.into_iter().zip(variables.into_iter().map(below)).collect();
        variables.push(("DOCKER_HOST", "unix:///no/engine".to_owned()));
        Self { home, variables }
    }

    /// Runs it with nothing on standard input.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        self.run_with(arguments, b"")
    }

    /// Runs it with `input` on standard input, in a session without a terminal.
    pub(crate) fn run_with(&self, arguments: &[&str], input: &[u8]) -> Ended {
        let mut child = Command::new("setsid")
            .args(["--wait", env!("CARGO_BIN_EXE_vault")])
            .args(arguments)
            .current_dir(self.home)
            .env_clear()
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("started");
        // Whoever does not read its input has closed it.
        let _ = child.stdin.take().expect("a pipe").write_all(input);
        let output = child.wait_with_output().expect("ended");
        Ended {
            code: output.status.code().expect("not killed"),
            stdout: String::from_utf8(output.stdout).expect("text"),
            stderr: String::from_utf8(output.stderr).expect("text"),
        }
    }
}
