//! What runs where: the file that the supervisor writes and every other command reads.

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use forebay_provision::StopSignal;
use forebay_provision::guard::Entry;
use forebay_provision::proc_table::Identity;
use serde::{Deserialize, Serialize};

use crate::workspace::Instance;

#[cfg(test)]
mod tests;

/// The services of the product, in the order in which they start.
pub(crate) const SERVICES: [&str; 2] = ["token-server", "pool-server"];

/// The source of a URL that the environment names: what is there is the user's and not ours. No rung
/// of the ladder has this name, because a server is ours wherever its program was found.
pub(crate) const ENVIRONMENT: &str = "environment";

/// One instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    /// Name of the instance.
    pub(crate) instance: String,
    /// How far it has come.
    pub(crate) phase: Phase,
    /// Why it failed.
    pub(crate) failure: Option<String>,
    /// The process that supervises it.
    pub(crate) supervisor: Ref,
    /// The process that ends what a killed supervisor leaves behind.
    pub(crate) guard: Option<Ref>,
    /// The services.
    pub(crate) services: Vec<Service>,
    /// What the services need.
    pub(crate) backends: Backends,
    /// Process groups that belong to the instance.
    pub(crate) groups: Vec<Group>,
}

/// How far an instance has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Phase {
    /// On its way up.
    Starting,
    /// Up.
    Ready,
    /// It did not come up.
    Failed,
    /// On its way down.
    Stopping,
    /// Down.
    Stopped,
}

/// How a service is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Health {
    /// Serving.
    Ready,
    /// Not serving yet, or not at the moment.
    Starting,
    /// Given up.
    Failed,
    /// Not running.
    Stopped,
}

impl Health {
    /// The word used in tables and in JSON.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Starting => "starting",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        }
    }
}

/// One service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Service {
    /// Its name.
    pub(crate) name: String,
    /// How it is.
    pub(crate) state: Health,
    /// `host:port` of its gRPC server.
    pub(crate) grpc: Option<String>,
    /// URL of its ops port.
    pub(crate) ops: Option<String>,
    /// Its process.
    pub(crate) pid: Option<u32>,
    /// How often it was started again.
    #[serde(default)]
    pub(crate) restarts: u32,
}

/// What the services need.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Backends {
    /// Postgres.
    pub(crate) postgres: Backend,
    /// Redis.
    pub(crate) redis: Backend,
    /// Where traces go.
    pub(crate) traces: Traces,
}

/// One store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Backend {
    /// URL with everything needed to use it.
    pub(crate) url: Option<String>,
    /// Where it came from.
    pub(crate) source: Option<String>,
    /// Its process, when it is ours.
    #[serde(default)]
    pub(crate) pid: Option<u32>,
}

/// Where traces go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Traces {
    /// `host:port` that takes OTLP over gRPC.
    pub(crate) otlp: Option<String>,
    /// URL where they can be looked at.
    pub(crate) query: Option<String>,
    /// Who takes them.
    pub(crate) source: Option<String>,
}

/// A process, told apart from a later one with the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ref {
    /// Process id.
    pub(crate) pid: u32,
    /// When it started.
    pub(crate) started: u64,
}

/// A process group and how to end it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Group {
    /// What it is.
    pub(crate) name: String,
    /// Its leader.
    pub(crate) leader: Ref,
    /// Whether it wants SIGINT rather than SIGTERM.
    pub(crate) interrupt: bool,
    /// Every process that works in this folder belongs to it.
    pub(crate) dir: Option<PathBuf>,
}

impl Backend {
    /// Its URL, unless the user had named it.
    pub(crate) fn own(&self) -> Option<&str> {
        self.url.as_deref().filter(|_| self.source.as_deref() != Some(ENVIRONMENT))
    }
}

impl Traces {
    /// Its `host:port`, unless the user had named it.
    pub(crate) fn own(&self) -> Option<&str> {
        self.otlp.as_deref().filter(|_| self.source.as_deref() != Some(ENVIRONMENT))
    }
}

impl From<Identity> for Ref {
    fn from(identity: Identity) -> Self {
        Self { pid: identity.pid, started: identity.started }
    }
}

impl From<Ref> for Identity {
    fn from(process: Ref) -> Self {
        Self { pid: process.pid, started: process.started }
    }
}

impl Group {
    /// What the guard would be told of this group.
    pub(crate) fn entry(&self) -> Entry {
        let signal = if self.interrupt { StopSignal::Interrupt } else { StopSignal::Terminate };
        Entry::Group { identity: self.leader.into(), signal, dir: self.dir.clone() }
    }
}

impl State {
    /// An instance that has just begun to start.
    pub(crate) fn new(instance: &Instance, supervisor: Identity) -> Self {
        let service = |name: &&str| Service {
            name: (*name).to_owned(),
            state: Health::Stopped,
            grpc: None,
            ops: None,
            pid: None,
            restarts: 0,
        };
        Self {
            instance: instance.name.clone(),
            phase: Phase::Starting,
            failure: None,
            supervisor: supervisor.into(),
            guard: None,
            services: SERVICES.iter().map(service).collect(),
            backends: Backends::default(),
            groups: Vec::new(),
        }
    }

    /// What the file of an instance says; `None` when it was never started.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or understood.
    pub(crate) fn load(instance: &Instance) -> anyhow::Result<Option<Self>> {
        let path = instance.state_file();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
        };
        let state = serde_json::from_str(&text).with_context(|| {
            format!("{} is not what this version writes: remove it", path.display())
        })?;
        Ok(Some(state))
    }

    /// Replaces the file in one step, readable by its owner alone: URLs may hold passwords.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub(crate) fn save(&self, path: &Path) -> anyhow::Result<()> {
        let fresh = path.with_extension("json.new");
        let write = || -> std::io::Result<()> {
            let file = std::fs::File::options()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&fresh)?;
            serde_json::to_writer_pretty(&file, self)?;
            std::fs::rename(&fresh, path)
        };
        write().with_context(|| format!("write {}", path.display()))
    }

    /// Whether the supervisor that wrote this still lives.
    pub(crate) fn is_running(&self) -> bool {
        Identity::from(self.supervisor).is_alive()
    }

    /// The service called `name`.
    pub(crate) fn service(&self, name: &str) -> Option<&Service> {
        self.services.iter().find(|service| service.name == name)
    }

    /// The service called `name`, to be changed.
    pub(crate) fn service_mut(&mut self, name: &str) -> Option<&mut Service> {
        self.services.iter_mut().find(|service| service.name == name)
    }

    /// The same without a supervisor: nothing runs, whatever was written last.
    pub(crate) fn put_down(&mut self) {
        for service in &mut self.services {
            if service.state != Health::Failed {
                service.state = Health::Stopped;
            }
            service.pid = None;
        }
        self.backends.postgres.pid = None;
        self.backends.redis.pid = None;
        self.groups.clear();
    }

    /// The ports that the last run used, to be used again when they are free.
    pub(crate) fn port_of(address: Option<&str>) -> Option<u16> {
        let address = address?.split_once("://").map_or(address, |(_, rest)| Some(rest))?;
        let authority = address.split('/').next()?;
        authority.rsplit_once(':')?.1.parse().ok()
    }
}

/// A URL without its password, for tables and logs.
pub(crate) fn redacted(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    match authority.rsplit_once('@') {
        Some((user, host)) => match user.split_once(':') {
            Some((name, _)) => format!("{scheme}://{name}:***@{host}{path}"),
            None => url.to_owned(),
        },
        None => url.to_owned(),
    }
}
