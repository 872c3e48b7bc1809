//! A running `tiny` process, its log and its operators' port.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::time::Instant;

/// How long anything may take before a test fails; nothing is expected to come near.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A running process. It is killed when dropped.
#[derive(Debug)]
pub(crate) struct Tiny {
    child: Child,
    stdin: Option<ChildStdin>,
    log: Receiver<String>,
    /// Every log line seen so far.
    pub(crate) seen: Vec<String>,
}

/// The path of the example. Cargo builds examples with the tests of a crate, but not when
/// a test target or a name is given: `cargo build -p forebay-boot --example tiny` first.
fn path() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let profile =
        test.parent().and_then(|deps| deps.parent()).expect("tests are below the profile");
    profile.join("examples").join("tiny")
}

/// A command for `tiny` with an environment of its own.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(path());
    command.env_clear().args(arguments);
    command
}

impl Tiny {
    /// Starts a server with free ports and JSON log lines.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::spawn(
            command(&["--ops.listen=127.0.0.1:0", "--telemetry.log_format=json"]).args(arguments),
        )
    }

    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("cargo build -p forebay-boot --example tiny");
        let stderr = BufReader::new(child.stderr.take().expect("stderr is piped"));
        let (sender, log) = sync_channel(10_000);
        std::thread::spawn(move || {
            for line in stderr.lines() {
                if line.is_err() || sender.send(line.unwrap_or_default()).is_err() {
                    return;
                }
            }
        });
        let stdin = child.stdin.take();
        Self { child, stdin, log, seen: Vec::new() }
    }

    /// Gives a line to the process without waiting for it.
    pub(crate) fn tell(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("stdin is piped");
        writeln!(stdin, "{line}").expect("the process reads its input");
    }

    /// Gives a line to the process and waits until it was done.
    pub(crate) fn done(&mut self, line: &str) {
        self.tell(line);
        while self.wait_for("did")["fields"]["line"] != line {}
    }

    /// The next log line with this message.
    pub(crate) fn wait_for(&mut self, message: &str) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.log.recv_timeout(left);
            let line = line.unwrap_or_else(|_| panic!("no {message:?} in {:#?}", self.seen));
            self.seen.push(line.clone());
            let value: Value = serde_json::from_str(&line).unwrap_or_default();
            if value["message"] == message {
                return value;
            }
        }
    }

    /// The address of the operators' port.
    pub(crate) fn ops(&mut self) -> SocketAddr {
        let line = self.wait_for("listening for operators");
        let address = line["fields"]["address"].as_str().expect("the line has an address");
        address.parse().expect("the address is one")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("process ids are small");
        kill(Pid::from_raw(pid), signal).expect("signal our own child");
    }

    /// Waits for the end and collects the rest of the log.
    pub(crate) fn end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        // The log ends when the process does.
        while let Ok(line) =
            self.log.recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            self.seen.push(line);
        }
        assert!(Instant::now() < deadline, "the process did not end: {:#?}", self.seen);
        self.child.wait().expect("wait for our own child")
    }

    /// How many log lines contain the text.
    pub(crate) fn lines_with(&self, text: &str) -> usize {
        self.seen.iter().filter(|line| line.contains(text)).count()
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        // Both fail when it has ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An answer of the operators' port.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("the body is JSON")
    }
}

/// Asks the operators' port.
pub(crate) fn get(address: SocketAddr, path: &str) -> Answer {
    let mut stream = TcpStream::connect(address).expect("connect to the port");
    stream.set_read_timeout(Some(PATIENCE)).expect("limit the wait");
    write!(stream, "GET {path} HTTP/1.1\r\nhost: tiny\r\nconnection: close\r\n\r\n")
        .expect("send the request");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("read the answer");
    let (head, body) = text.split_once("\r\n\r\n").expect("an answer has a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let content_type = head.lines().find_map(|line| line.strip_prefix("content-type: "));
    let content_type = content_type.unwrap_or_default().to_owned();
    Answer { status, content_type, body: body.to_owned() }
}
