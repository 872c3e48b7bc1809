//! What can go wrong while a server is started.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

/// A server could not be prepared, started or reached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProvisionError {
    /// A program could not be started at all.
    #[error("start {program}")]
    Spawn {
        /// The program.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// This process is ending: what it started now would outlive it.
    #[error("start nothing: this process is ending")]
    Closing,
    /// A file or directory could not be prepared.
    #[error("{action} {}", path.display())]
    Path {
        /// What was tried, such as "create".
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A helper program such as initdb failed.
    #[error("{program} failed ({status}): {output}")]
    Helper {
        /// The program.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// The last lines it wrote.
        output: String,
    },
    /// A helper program did not end in time and was killed.
    #[error("{program} did not end within {timeout:?}")]
    HelperTimeout {
        /// The program.
        program: String,
        /// The time it had.
        timeout: Duration,
    },
    /// The server ended while it was starting.
    #[error("{server} ended while starting ({status}): {output}")]
    Died {
        /// The server.
        server: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// The last lines it wrote.
        output: String,
    },
    /// The server runs but did not answer in time.
    #[error("{server} did not answer on port {port} within {timeout:?}: {last}")]
    NotReady {
        /// The server.
        server: &'static str,
        /// Its port.
        port: u16,
        /// The time it had.
        timeout: Duration,
        /// What the last attempt said.
        last: String,
    },
    /// Another process listens on the port.
    #[error("port {port} is taken by another process")]
    PortTaken {
        /// The port.
        port: u16,
    },
    /// Somebody else's server answers on our port.
    #[error("port {port} is answered by another {server}: {detail}")]
    Foreign {
        /// The server.
        server: &'static str,
        /// The port.
        port: u16,
        /// What it said about itself.
        detail: String,
    },
    /// A data directory was written by another major version.
    #[error(
        "{} was written by Postgres {found} and cannot be read by Postgres {wanted}: \
         install Postgres {found}, or move the directory away to start afresh",
        path.display()
    )]
    MajorVersion {
        /// The data directory.
        path: PathBuf,
        /// The version that wrote it.
        found: String,
        /// The version that was to read it.
        wanted: u32,
    },
    /// No directory was found that the server's user can reach.
    #[error("no directory for data that user {user} can reach: tried {}", tried.display())]
    Unreachable {
        /// The user the server runs as.
        user: String,
        /// The last directory tried.
        tried: PathBuf,
    },
}

impl ProvisionError {
    pub(crate) fn path(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Path { action, path, source }
    }
}
