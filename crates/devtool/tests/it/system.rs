//! One instance in a workspace of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use forebay_provision::proc_table::Identity;
use forebay_provision::wait_until;
use serde_json::Value as Json;

/// Long enough for a slow machine, and never waited for in full unless a test fails.
const SOON: Duration = Duration::from_secs(60);

const STEP: Duration = Duration::from_millis(20);

/// A workspace in a directory of its own, taken down when dropped.
pub(crate) struct System {
    dir: tempfile::TempDir,
    tool: PathBuf,
}

impl System {
    pub(crate) fn new() -> Self {
        use std::os::unix::fs::PermissionsExt;
        let bins = variable("FOREBAY_TEST_BIN_DIR");
        let base =
            std::env::var_os("FOREBAY_TEST_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        let dir = tempfile::tempdir_in(base).unwrap();
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        std::fs::write(dir.path().join("Cargo.toml"), "").unwrap();
        let mut script = String::from("#!/bin/sh\n");
        for name in ["token-server", "pool-server", "migrate"] {
            let program = dir.path().join(format!("forebay-{name}"));
            std::os::unix::fs::symlink(bins.join(format!("forebay-{name}")), &program).unwrap();
            let message = serde_json::json!({
                "reason": "compiler-artifact", "fresh": true, "executable": program,
            });
            script.push_str(&format!("echo '{message}'\n"));
        }
        let cargo = dir.path().join("cargo");
        std::fs::write(&cargo, script).unwrap();
        std::fs::set_permissions(&cargo, PermissionsExt::from_mode(0o755)).unwrap();
        Self { dir, tool: bins.join("forebay-devtool") }
    }

    /// Puts a script before a service that stays when it is asked to stop. To suspend the service
    /// would not do: whoever is asked to stop is woken up.
    pub(crate) fn make_hang(&self, name: &str) {
        use std::os::unix::fs::PermissionsExt;
        let program = self.dir.path().join(format!("forebay-{name}"));
        let service = std::fs::canonicalize(&program).unwrap();
        let script = format!(
            "#!/bin/sh\ntrap '' TERM\n'{}' \"$@\" &\nwhile :; do sleep 1; done\n",
            service.display()
        );
        std::fs::remove_file(&program).unwrap();
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.tool);
        command
            .args(args)
            .env("FOREBAY_WORKSPACE", self.dir.path())
            .env("CARGO", self.dir.path().join("cargo"))
            .env("REDIS_BIN", variable("FOREBAY_TEST_REDIS_SERVER"))
            .env_remove("DATABASE_URL")
            .env_remove("REDIS_URL")
            .env_remove("OTEL_EXPORTER_OTLP_ENDPOINT")
            // What the machine's container engine has is not what is tested.
            .env("FOREBAY_JAEGER_IMAGE", "none")
            .stdin(Stdio::null());
        command
    }

    /// Runs a command to its end; it must succeed.
    pub(crate) fn run(&self, args: &[&str]) -> String {
        self.run_with(&[], args)
    }

    /// The same with some variables in the environment.
    pub(crate) fn run_with(&self, env: &[(&str, String)], args: &[&str]) -> String {
        let mut command = self.command(args);
        command.envs(env.iter().map(|(name, value)| (name, value)));
        let Output { status, stdout, stderr } = command.output().unwrap();
        let text = String::from_utf8_lossy(&stdout).into_owned();
        assert!(status.success(), "{args:?}: {text}{}", String::from_utf8_lossy(&stderr));
        text
    }

    pub(crate) fn status(&self) -> Json {
        serde_json::from_str(&self.run(&["status", "--json"])).unwrap()
    }

    /// What the supervisor wrote about itself.
    pub(crate) fn state(&self) -> Json {
        let path = self.dir.path().join(".dev/default/state.json");
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    pub(crate) fn database_url(&self) -> String {
        self.status()["backends"]["postgres"]["url"].as_str().unwrap().to_owned()
    }

    /// Starts `dev` in the foreground and waits until it is ready.
    pub(crate) fn foreground(&self) -> Child {
        let child = self.command(&["dev"]).stdout(Stdio::null()).spawn().unwrap();
        until("ready", || {
            self.dir.path().join(".dev/default/state.json").exists()
                && self.state()["phase"] == "ready"
        });
        child
    }

    /// Every process of the instance: supervisor, guard, stores, services.
    pub(crate) fn processes(&self) -> Vec<Identity> {
        let state = self.state();
        let groups = state["groups"].as_array().unwrap().iter().map(|group| &group["leader"]);
        [&state["supervisor"], &state["guard"]].into_iter().chain(groups).map(identity).collect()
    }

    /// The leader of the process group called `name`.
    pub(crate) fn group(&self, name: &str) -> Identity {
        let state = self.state();
        let groups = state["groups"].as_array().unwrap();
        identity(&groups.iter().find(|group| group["name"] == name).unwrap()["leader"])
    }

    pub(crate) fn root(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for System {
    fn drop(&mut self) {
        // A test that failed half way leaves an instance; one that passed has ended it.
        drop(self.command(&["down", "--all"]).output());
    }
}

pub(crate) fn identity(json: &Json) -> Identity {
    let pid = u32::try_from(json["pid"].as_u64().unwrap()).unwrap();
    Identity { pid, started: json["started"].as_u64().unwrap() }
}

pub(crate) fn until(what: &str, condition: impl Fn() -> bool) {
    assert!(wait_until(SOON, STEP, || condition().then_some(())).is_some(), "never: {what}");
}

fn variable(name: &str) -> PathBuf {
    PathBuf::from(text_variable(name))
}

pub(crate) fn text_variable(name: &str) -> String {
    match std::env::var(name) {
        Ok(value) => value,
        Err(_) => panic!("{name} is not set: run `cargo xtask test`"),
    }
}
