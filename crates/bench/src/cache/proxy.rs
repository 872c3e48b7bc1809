//! A proxy in front of Redis that can hold traffic up, slow it down, reset it, and count commands
//! and round trips.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// What is done to the traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Mood {
    /// Nothing that a client sends arrives.
    holds: bool,
    /// How much later everything arrives that a client sends.
    delay: Duration,
    /// Every connection is reset, and every new one.
    refuses: bool,
}

/// A running proxy; dropping it ends its connections.
pub struct Proxy {
    /// Where it listens.
    pub url: String,
    mood: watch::Sender<Mood>,
    counts: Arc<Counts>,
    accept: AbortHandle,
}

/// What clients have sent.
#[derive(Debug, Default)]
struct Counts {
    commands: AtomicU64,
    round_trips: AtomicU64,
}

impl Proxy {
    /// Starts one in front of `redis_url`.
    ///
    /// # Errors
    /// When the address is none, or no port is free.
    pub async fn start(redis_url: &str) -> anyhow::Result<Self> {
        let server = redis_url.strip_prefix("redis://").context("no redis:// URL")?;
        let server = server.trim_end_matches('/').to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("redis://{}", listener.local_addr()?);
        let (mood, moods) = watch::channel(Mood::default());
        let counts = Arc::new(Counts::default());
        let counted = Arc::clone(&counts);
        let accept = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, server.clone(), moods.clone(), Arc::clone(&counted)));
            }
        });
        Ok(Self { url, mood, counts, accept: accept.abort_handle() })
    }

    /// Keeps what clients send until [`Proxy::release`].
    pub fn hold(&self) {
        self.mood.send_modify(|mood| mood.holds = true);
    }

    /// Sends on what was kept.
    pub fn release(&self) {
        self.mood.send_modify(|mood| mood.holds = false);
    }

    /// From now on everything that clients send arrives later.
    pub fn delay(&self, delay: Duration) {
        self.mood.send_modify(|mood| mood.delay = delay);
    }

    /// From now on, or no longer, every connection is reset (RST), and every new one.
    pub fn refuse(&self, refuses: bool) {
        self.mood.send_modify(|mood| mood.refuses = refuses);
    }

    /// Commands that clients have sent since the last call, and their round trips. One begins on a
    /// connection with what is sent after an answer came: what is on its way together shares it.
    pub fn take_counts(&self) -> (u64, u64) {
        let Counts { commands, round_trips } = &*self.counts;
        (commands.swap(0, Ordering::SeqCst), round_trips.swap(0, Ordering::SeqCst))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accept.abort();
        self.refuse(true);
    }
}

async fn serve(
    client: TcpStream,
    server: String,
    mut moods: watch::Receiver<Mood>,
    counts: Arc<Counts>,
) {
    // Without it a connection that is closed is said to be at its end, which a client may take for
    // an orderly one.
    if client.set_zero_linger().is_err() || moods.borrow().refuses {
        return;
    }
    let Ok(server) = TcpStream::connect(server).await else { return };
    if client.set_nodelay(true).and(server.set_nodelay(true)).is_err() {
        return;
    }
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let is_answered = AtomicBool::new(true);
    tokio::select! {
        _ended = up(from_client, to_server, moods.clone(), (&counts, &is_answered)) => {}
        _ended = down(from_server, to_client, &is_answered) => {}
        _reset = moods.wait_for(|mood| mood.refuses) => {}
    }
}

/// What the client sends. It is read on while it is held up or late, so that nothing piles up in
/// the client.
async fn up(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut moods: watch::Receiver<Mood>,
    (counts, is_answered): (&Counts, &AtomicBool),
) -> std::io::Result<()> {
    let (sender, mut late) = tokio::sync::mpsc::unbounded_channel();
    let delays = moods.clone();
    let read = async move {
        let mut counter = Counter::default();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let count = from.read(&mut buffer).await?;
            if count == 0 {
                return Ok(());
            }
            counts.commands.fetch_add(counter.count(&buffer[..count]), Ordering::SeqCst);
            let is_next = is_answered.swap(false, Ordering::SeqCst);
            counts.round_trips.fetch_add(u64::from(is_next), Ordering::SeqCst);
            let due = tokio::time::Instant::now() + delays.borrow().delay;
            if sender.send((due, buffer[..count].to_vec())).is_err() {
                return Ok(());
            }
        }
    };
    let write = async move {
        while let Some((due, bytes)) = late.recv().await {
            tokio::time::sleep_until(due).await;
            if moods.wait_for(|mood| !mood.holds).await.is_err() {
                return Ok(());
            }
            to.write_all(&bytes).await?;
        }
        Ok(())
    };
    tokio::try_join!(read, write).map(|_: ((), ())| ())
}

async fn down(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    is_answered: &AtomicBool,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        // Before the client can send what it sends because of this.
        is_answered.store(true, Ordering::SeqCst);
        to.write_all(&buffer[..count]).await?;
    }
}

/// Counts commands in a stream of them: arrays of bulk strings, each with its length before it.
#[derive(Default)]
struct Counter {
    /// The digits of a length, while its line is not complete.
    line: Vec<u8>,
    /// Strings of the present command that are still to come.
    strings: usize,
    /// Bytes of the present string that are still to come, with the line end.
    bytes: usize,
}

impl Counter {
    fn count(&mut self, mut sent: &[u8]) -> u64 {
        let mut complete = 0;
        while !sent.is_empty() {
            if self.bytes > 0 {
                let taken = self.bytes.min(sent.len());
                sent = &sent[taken..];
                self.bytes -= taken;
                if self.bytes == 0 {
                    self.strings -= 1;
                    complete += u64::from(self.strings == 0);
                }
                continue;
            }
            let (first, rest) = (sent[0], &sent[1..]);
            sent = rest;
            if first != b'\n' {
                self.line.push(first);
                continue;
            }
            let line = String::from_utf8_lossy(&self.line).into_owned();
            self.line.clear();
            let number = line.get(1..).and_then(|digits| digits.trim().parse().ok()).unwrap_or(0);
            match line.as_bytes().first() {
                Some(b'*') => self.strings = number,
                Some(b'$') if self.strings > 0 => self.bytes = number + 2,
                _ => {}
            }
        }
        complete
    }
}

#[cfg(test)]
mod tests {
    use super::Counter;

    #[test]
    fn commands_are_counted_however_they_are_cut() {
        let sent = b"*2\r\n$3\r\nGET\r\n$4\r\n*1\r\n\r\n*1\r\n$4\r\nPING\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$0\r\n\r\n";
        assert_eq!(Counter::default().count(sent), 3);
        for size in 1..sent.len() {
            let mut counter = Counter::default();
            let total: u64 = sent.chunks(size).map(|part| counter.count(part)).sum();
            assert_eq!(total, 3, "in pieces of {size}");
        }
    }
}
