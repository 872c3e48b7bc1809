//! A proxy in front of Redis that stops one command at a chosen moment.
//!
//! A command is stopped before the server has it, and then what is sent later overtakes it, as on
//! another connection; or after the server has executed it, and then nobody hears the answer. Clients get
//! their answers in the order of their commands all the same.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex as AsyncMutex, watch};
use tokio::task::AbortHandle;

use super::pause::Pause;
use super::resp::{self, Words};

/// On which side of its execution a command is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// The server does not have it yet.
    Before,
    /// The server has executed it, and nobody knows.
    After,
}

/// Whether a command is the one.
type Matches = Box<dyn Fn(&Words) -> bool + Send>;

/// A proxy on a free port of 127.0.0.1; it ends with its value.
pub(crate) struct Gate {
    port: u16,
    rules: Arc<Rules>,
    task: AbortHandle,
}

struct Rules {
    armed: Mutex<Option<(Matches, Side, Pause)>>,
    /// Whether the log of announcements says nothing.
    is_deaf: watch::Sender<bool>,
}

/// A command on its way: its place in the order of the client, and who waits for its answer.
struct Sent {
    place: u64,
    is_log: bool,
    stops: Option<Pause>,
}

/// One connection to the server.
struct Line {
    /// Commands that the server has and did not answer, in the order in which it got them.
    forwarded: Mutex<VecDeque<Sent>>,
    to_server: AsyncMutex<OwnedWriteHalf>,
}

impl Gate {
    /// A proxy in front of the server at `redis_url`.
    pub(crate) async fn start(redis_url: &str) -> Self {
        let server = redis_url.strip_prefix("redis://").expect("a URL of redis");
        let server = server.trim_end_matches('/').to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let rules = Arc::new(Rules { armed: Mutex::new(None), is_deaf: watch::Sender::new(false) });
        let shared = Arc::clone(&rules);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                // A server that is away refuses; dropping the client tells it so.
                if let Ok(server) = TcpStream::connect(&server).await {
                    tokio::spawn(serve(client, server, Arc::clone(&shared)));
                }
            }
        });
        Self { port, rules, task: task.abort_handle() }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Stops the next command that matches, once.
    pub(crate) fn stop(
        &self,
        side: Side,
        matches: impl Fn(&Words) -> bool + Send + 'static,
    ) -> Pause {
        let pause = Pause::new();
        *self.rules.armed.lock() = Some((Box::new(matches), side, pause.clone()));
        pause
    }

    /// Whether clients hear nothing of the log of announcements.
    pub(crate) fn deafen(&self, is_deaf: bool) {
        self.rules.is_deaf.send_replace(is_deaf);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Rules {
    fn stops(&self, words: &Words) -> Option<(Side, Pause)> {
        let mut armed = self.armed.lock();
        let (_, side, pause) = armed.take_if(|(matches, ..)| matches(words))?;
        Some((side, pause))
    }
}

impl Line {
    /// False if the server is gone.
    async fn forward(&self, sent: Sent, command: &[u8]) -> bool {
        let mut to_server = self.to_server.lock().await;
        self.forwarded.lock().push_back(sent);
        to_server.write_all(command).await.is_ok()
    }
}

async fn serve(client: TcpStream, server: TcpStream, rules: Arc<Rules>) {
    if client.set_nodelay(true).and(server.set_nodelay(true)).is_err() {
        return;
    }
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let line = Arc::new(Line {
        forwarded: Mutex::new(VecDeque::new()),
        to_server: AsyncMutex::new(to_server),
    });
    // Either end being gone ends both.
    tokio::select! {
        _ended = up(from_client, Arc::clone(&line), Arc::clone(&rules)) => {}
        _ended = down(from_server, to_client, &line, rules.is_deaf.subscribe()) => {}
    }
}

async fn up(mut client: OwnedReadHalf, line: Arc<Line>, rules: Arc<Rules>) -> Option<()> {
    let mut buffer = Vec::new();
    let mut next = 0;
    while client.read_buf(&mut buffer).await.ok()? > 0 {
        while let Some((words, length)) = resp::command(&buffer) {
            let command: Vec<u8> = buffer.drain(..length).collect();
            let is_log = words.first().is_some_and(|name| name == b"XREAD");
            let mut sent = Sent { place: next, is_log, stops: None };
            next += 1;
            match rules.stops(&words) {
                Some((Side::Before, pause)) => {
                    let line = Arc::clone(&line);
                    tokio::spawn(async move {
                        pause.stop().await;
                        line.forward(sent, &command).await
                    });
                    continue;
                }
                Some((Side::After, pause)) => sent.stops = Some(pause),
                None => {}
            }
            line.forward(sent, &command).await.then_some(())?;
        }
    }
    None
}

async fn down(
    mut server: OwnedReadHalf,
    mut client: OwnedWriteHalf,
    line: &Line,
    mut is_deaf: watch::Receiver<bool>,
) -> Option<()> {
    let mut buffer = Vec::new();
    let mut answers = BTreeMap::new();
    let mut next = 0;
    while server.read_buf(&mut buffer).await.ok()? > 0 {
        while let Some(length) = resp::answer(&buffer) {
            let answer: Vec<u8> = buffer.drain(..length).collect();
            if resp::is_push(&answer) {
                client.write_all(&answer).await.ok()?;
                continue;
            }
            let Sent { place, is_log, stops } = line.forwarded.lock().pop_front()?;
            if let Some(pause) = stops {
                pause.stop().await;
            }
            if is_log {
                is_deaf.wait_for(|is_deaf| !is_deaf).await.ok()?;
            }
            answers.insert(place, answer);
            while let Some(answer) = answers.remove(&next) {
                client.write_all(&answer).await.ok()?;
                next += 1;
            }
        }
    }
    None
}
