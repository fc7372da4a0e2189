//! Containers of the engine for tests, run without the code under test.

use serde_json::{Value, json};
use volume_vault::docker::Engine;

use super::{ask, fresh_name};

pub(super) const BUSYBOX: &str = "vault-busybox:local";
pub(super) const POSTGRES: &str = "vault-postgres:local";

/// A container that is removed with this.
pub(super) struct TestContainer {
    engine: Engine,
    pub(super) name: String,
}

/// What a container is made of, besides its volume at `at`.
pub(super) struct Recipe<'a> {
    pub(super) image: &'a str,
    pub(super) user: &'a str,
    pub(super) at: &'a str,
    pub(super) command: &'a [&'a str],
}

impl TestContainer {
    /// Makes a container with a volume and starts it.
    pub(super) fn start(engine: &Engine, volume: &str, recipe: &Recipe<'_>) -> Self {
        let name = fresh_name("container");
        let body = json!({
            "Image": recipe.image, "Cmd": recipe.command, "User": recipe.user, "Tty": true,
            "HostConfig": { "NetworkMode": "none", "Mounts": [
                { "Type": "volume", "Source": volume, "Target": recipe.at },
            ]},
        });
        let path = format!("/containers/create?name={name}");
        let answer = ask(engine, "POST", &path, &body.to_string());
        assert_eq!(answer.status, 201, "{}", answer.text);
        let container = Self { engine: engine.clone(), name };
        container.post("start");
        container
    }

    /// A busybox that holds a volume at `/data` and does nothing until it is stopped.
    pub(super) fn idle(engine: &Engine, volume: &str) -> Self {
        let command = ["sh", "-c", "trap 'exit 0' TERM; sleep 100000 & wait"];
        let recipe = Recipe { image: BUSYBOX, user: "0", at: "/data", command: &command };
        Self::start(engine, volume, &recipe)
    }

    /// Runs a command in it; what it printed, if it ended well.
    pub(super) fn exec(&self, command: &[&str]) -> String {
        let body = json!({
            "Cmd": command, "AttachStdout": true, "AttachStderr": true, "Tty": true,
        });
        let path = format!("/containers/{}/exec", self.name);
        let made = ask(&self.engine, "POST", &path, &body.to_string()).json();
        let id = made["Id"].as_str().expect("an id");
        let start = json!({ "Detach": false, "Tty": true }).to_string();
        let text = ask(&self.engine, "POST", &format!("/exec/{id}/start"), &start).text;
        let state = ask(&self.engine, "GET", &format!("/exec/{id}/json"), "").json();
        assert_eq!(state["ExitCode"], 0, "{text}\n{}", self.log());
        text.replace("\r\n", "\n")
    }

    /// Stops it as `docker stop` does, with time to end well.
    pub(super) fn stop(&self) {
        self.post("stop?t=30");
        let state = self.state();
        assert_eq!(state["Running"], false, "{state}");
    }

    pub(super) fn state(&self) -> Value {
        let path = format!("/containers/{}/json", self.name);
        ask(&self.engine, "GET", &path, "").json()["State"].clone()
    }

    fn log(&self) -> String {
        let path = format!("/containers/{}/logs?stdout=1&stderr=1", self.name);
        ask(&self.engine, "GET", &path, "").text
    }

    fn post(&self, action: &str) {
        let answer = ask(&self.engine, "POST", &format!("/containers/{}/{action}", self.name), "");
        assert_eq!(answer.status, 204, "{}", answer.text);
    }
}

impl Drop for TestContainer {
    fn drop(&mut self) {
        let _ = ask(&self.engine, "DELETE", &format!("/containers/{}?force=1", self.name), "");
    }
}

/// Names of all containers that use a volume, running or not.
pub(super) fn users(engine: &Engine, volume: &str) -> Vec<String> {
    let filter = format!("%7B%22volume%22%3A%5B%22{volume}%22%5D%7D");
    let list = ask(engine, "GET", &format!("/containers/json?all=1&filters={filter}"), "").json();
    let names = list.as_array().expect("a list").iter();
    names.map(|container| container["Names"][0].to_string()).collect()
}

/// Whether the engine has a volume of this name.
pub(super) fn volume_exists(engine: &Engine, name: &str) -> bool {
    ask(engine, "GET", &format!("/volumes/{name}"), "").status == 200
}
