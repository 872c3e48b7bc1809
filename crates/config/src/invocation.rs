//! How the process was called: arguments and environment, taken once and passed on.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::error::Problem;

/// What the command line asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Run the service.
    Run,
    /// Print the settings in force, secrets redacted, and end.
    PrintConfig,
    /// Print the reference of all settings and end.
    PrintDefaults,
    /// Print the usage and end.
    Help,
    /// Print the version and end.
    Version,
}

/// The arguments (without the program's name) and the environment of one process.
///
/// Tests give their own, so nothing ever writes the environment of a running process.
#[derive(Clone, Default)]
pub struct Invocation {
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
}

impl Invocation {
    /// An invocation with these arguments and this environment.
    pub fn new<A, K, V>(
        arguments: impl IntoIterator<Item = A>,
        environment: impl IntoIterator<Item = (K, V)>,
    ) -> Self
    where
        A: Into<OsString>,
        K: Into<OsString>,
        V: Into<OsString>,
    {
        Self {
            arguments: arguments.into_iter().map(Into::into).collect(),
            environment: environment.into_iter().map(|(k, v)| (k.into(), v.into())).collect(),
        }
    }

    /// How this process was called.
    pub fn of_process() -> Self {
        Self::new(std::env::args_os().skip(1), std::env::vars_os())
    }

    /// What the command line asks for. The first of several commands wins.
    pub fn command(&self) -> Command {
        let command = |argument: &OsString| match argument.to_str()? {
            "--help" | "-h" => Some(Command::Help),
            "--version" | "-V" => Some(Command::Version),
            "--print-config" => Some(Command::PrintConfig),
            "--print-defaults" => Some(Command::PrintDefaults),
            _ => None,
        };
        self.arguments.iter().find_map(command).unwrap_or(Command::Run)
    }

    pub(crate) fn environment(&self) -> &[(OsString, OsString)] {
        &self.environment
    }

    /// Sorts the arguments that give settings; commands are skipped.
    pub(crate) fn flags(&self) -> Flags {
        let mut flags = Flags::default();
        let mut arguments = self.arguments.iter();
        while let Some(argument) = arguments.next() {
            let Some(text) = argument.to_str() else {
                let problem = Problem::new("argument", None, "expected text in UTF-8");
                flags.problems.push(problem.with_found(&format!("{argument:?}")));
                continue;
            };
            match text {
                "--help" | "-h" | "--version" | "-V" | "--print-config" | "--print-defaults" => {}
                "--config" => match arguments.next() {
                    Some(file) => flags.file = Some(PathBuf::from(file)),
                    None => {
                        flags.problems.push(Problem::new(text, None, "expected a file after it"))
                    }
                },
                _ => flags.assign(text),
            }
        }
        flags
    }
}

/// The settings given as flags.
#[derive(Default)]
pub(crate) struct Flags {
    pub(crate) file: Option<PathBuf>,
    pub(crate) assignments: Vec<(String, String)>,
    pub(crate) problems: Vec<Problem>,
}

impl Flags {
    fn assign(&mut self, text: &str) {
        match text.strip_prefix("--").and_then(|rest| rest.split_once('=')) {
            Some(("config", file)) => self.file = Some(PathBuf::from(file)),
            Some((key, value)) => self.assignments.push((key.to_owned(), value.to_owned())),
            None => {
                let expected = "expected --section.key=value, --config FILE, --print-config, \
                                --print-defaults, --version or --help";
                self.problems.push(Problem::new(text, None, expected));
            }
        }
    }
}

impl std::fmt::Debug for Invocation {
    /// The environment and the arguments may hold secrets, so only their number is shown.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Invocation")
            .field("arguments", &self.arguments.len())
            .field("environment", &self.environment.len())
            .finish()
    }
}
