//! Jaeger as a container, when docker or podman is at hand.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use forebay_provision::{Output, Process, StopSignal, Stopped};

use super::board::Board;
use super::plan::OTLP;
use super::traces::JAEGER_UI;
use super::units::{ProgramUnit, Unit};
use crate::state::Group;
use crate::workspace::Instance;

/// The source shown for a Jaeger that runs in a container of ours.
pub(crate) const CONTAINER: &str = "container";

/// Another image, or `none` for no container.
pub(crate) const IMAGE_ENV: &str = "FOREBAY_JAEGER_IMAGE";

/// The image when nobody names another one.
const IMAGE: &str = "jaegertracing/jaeger:2.20.0";

/// The engines, the first that answers wins.
const ENGINES: [&str; 2] = ["docker", "podman"];

/// An engine that takes longer to say that it is there is passed over.
const INFO_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the image may take to be fetched. The build of the services goes on meanwhile.
const PULL_TIMEOUT: Duration = Duration::from_secs(60);

/// How long any other question to the engine may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(15);

/// A container engine that answers, and the image to run on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Engine {
    program: PathBuf,
    image: String,
}

impl Engine {
    /// The engine on `PATH` that answers. `None` when there is none, or no container is wanted.
    /// May block for two seconds an engine.
    pub(crate) fn find() -> Option<Self> {
        let image = std::env::var(IMAGE_ENV).unwrap_or_default();
        let image = if image.is_empty() { IMAGE.to_owned() } else { image };
        let path = std::env::var_os("PATH")?;
        let dirs: Vec<PathBuf> = std::env::split_paths(&path).collect();
        Self::find_in(&dirs, &image)
    }

    fn find_in(dirs: &[PathBuf], image: &str) -> Option<Self> {
        if image == "none" {
            return None;
        }
        let programs = ENGINES
            .iter()
            .filter_map(|name| dirs.iter().map(|dir| dir.join(name)).find(|path| path.is_file()));
        programs
            .map(|program| Self { program, image: image.to_owned() })
            // The client of an engine may be there without the engine: only the engine answers this.
            .find(|engine| engine.ask(&["info"], INFO_TIMEOUT).is_ok())
    }

    /// What it is, for a person.
    pub(crate) fn describe(&self) -> String {
        format!("{} in a container of {}", self.image, self.program.display())
    }

    /// Starts Jaeger, with its OTLP and query ports on loopback; fetches the image first when it
    /// is not there. May block for a minute.
    ///
    /// # Errors
    ///
    /// When the image cannot be had, or the engine cannot run anything.
    pub(crate) fn start(&self, board: &Arc<Board>) -> anyhow::Result<ContainerUnit> {
        if self.ask(&["image", "inspect", &self.image], ASK_TIMEOUT).is_err() {
            let limit = PULL_TIMEOUT.as_secs();
            board.say(&format!("traces: fetching {}, for at most {limit} s", self.image));
            self.ask(&["pull", "--quiet", &self.image], PULL_TIMEOUT).context("fetch the image")?;
        }
        let container = container_name(board.instance());
        let program = ProgramUnit {
            name: "jaeger",
            program: self.program.clone(),
            args: run_args(&container, &self.image),
            env: Vec::new(),
            output: board.output("jaeger")?,
            process: None,
        };
        let mut unit = ContainerUnit { engine: self.clone(), container, program };
        unit.launch()?;
        Ok(unit)
    }

    fn ask(&self, args: &[&str], timeout: Duration) -> anyhow::Result<()> {
        let mut command = Command::new(&self.program);
        command.args(args);
        let process = Process::spawn(command, StopSignal::Terminate, &Output::Discard, None)?;
        let shown = || format!("{} {}", self.program.display(), args.join(" "));
        let Some(status) = process.wait(timeout) else {
            process.kill();
            bail!("{} did not end within {timeout:?}", shown());
        };
        ensure!(status.success(), "{} failed: {}", shown(), process.tail().join(" | "));
        Ok(())
    }

    /// Removes a container with all that runs in it; one that is not there is no error.
    fn remove(&self, container: &str) {
        if let Err(error) = self.ask(&["rm", "--force", container], ASK_TIMEOUT) {
            let told = format!("{error:#}").to_lowercase();
            if !told.contains("no such container") && !told.contains("no container with") {
                crate::say::warn(&format!("remove the container of Jaeger: {error:#}"));
            }
        }
    }
}

/// Removes the container that a killed supervisor left to its engine. May block.
pub(crate) fn remove_left(instance: &Instance) {
    if let Some(engine) = Engine::find() {
        engine.remove(&container_name(instance));
    }
}

/// A container whose engine's client runs in the foreground: the client passes our signals on.
#[derive(Debug)]
pub(crate) struct ContainerUnit {
    engine: Engine,
    container: String,
    program: ProgramUnit,
}

impl Unit for ContainerUnit {
    fn name(&self) -> &'static str {
        self.program.name()
    }

    fn process(&self) -> Option<&Process> {
        self.program.process()
    }

    fn launch(&mut self) -> anyhow::Result<()> {
        // One that outlived its client still has the name and the ports.
        self.engine.remove(&self.container);
        self.program.launch()
    }

    fn stop(&self, hurry: &AtomicBool) -> Stopped {
        let stopped = self.program.stop(hurry);
        // A client that had to be killed leaves its container behind.
        self.engine.remove(&self.container);
        stopped
    }

    fn group(&self) -> Option<Group> {
        self.program.group()
    }
}

fn run_args(container: &str, image: &str) -> Vec<String> {
    let publish = |port: u16| format!("--publish=127.0.0.1:{port}:{port}");
    // In a container loopback is the container's own: what we publish must listen on all addresses.
    let listen = "--env=JAEGER_LISTEN_HOST=0.0.0.0".to_owned();
    let mut args = vec!["run".to_owned(), "--rm".to_owned(), format!("--name={container}")];
    args.extend([publish(OTLP), publish(JAEGER_UI), listen, image.to_owned()]);
    args
}

/// Two checkouts on one machine have containers of their own.
fn container_name(instance: &Instance) -> String {
    let stand_in = forebay_provision::identity::substitute(&instance.dir);
    let checkout = stand_in.file_name().unwrap_or_default().to_string_lossy();
    format!("{checkout}-{}-jaeger", instance.name)
}

#[cfg(test)]
mod tests;
