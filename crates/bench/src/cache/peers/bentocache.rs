//! bentocache with memory, Redis, and a bus over Redis Pub/Sub. Each replica is a Node of its own,
//! whose loads come back here, to the loader of all sides.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

use crate::cache::record::Key;
use crate::cache::replica::{Replica, Site};
use crate::cache::truth::Truth;
use crate::node;
use crate::side::{Figures, Side, Waits};

/// One replica.
#[derive(Clone)]
pub struct Bentocache(Arc<Inner>);

struct Inner {
    requests: mpsc::UnboundedSender<Value>,
    waiting: Waiting,
    next: AtomicU64,
    tasks: [AbortHandle; 2],
    _child: Child,
}

/// Who waits for which answer.
type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<Result<Value, String>>>>>;

impl Bentocache {
    /// Starts Node and waits until the cache is there.
    ///
    /// # Errors
    /// When Node is absent or does not get ready.
    pub async fn start(site: &Site) -> anyhow::Result<Self> {
        let server = site.redis_url.strip_prefix("redis://").context("no redis:// URL")?;
        let (host, port) = server.trim_end_matches('/').rsplit_once(':').context("no port")?;
        let (entries, ttl) = (site.l1_entries.to_string(), site.ttl.as_millis().to_string());
        let arguments = [host, port, &site.namespace, &entries, &ttl].map(str::to_owned);
        let mut child = node::start("bentocache.mjs", &arguments).await?;
        let stdin = child.stdin.take().context("node has no input")?;
        let stdout = child.stdout.take().context("node has no output")?;
        let mut lines = BufReader::new(stdout).lines();
        let hello = tokio::time::timeout(node::PATIENCE, lines.next_line()).await;
        let hello = hello.context("node does not get ready")??;
        ensure!(hello.is_some_and(|line| line.contains("ready")), "node did not get ready");
        let waiting = Waiting::default();
        let (requests, sent) = mpsc::unbounded_channel();
        let heard = hear(lines, site.truth.clone(), requests.clone(), Arc::clone(&waiting));
        let tasks =
            [tokio::spawn(tell(stdin, sent)).abort_handle(), tokio::spawn(heard).abort_handle()];
        let next = AtomicU64::new(0);
        Ok(Self(Arc::new(Inner { requests, waiting, next, tasks, _child: child })))
    }

    /// Its closed loop as a side.
    pub fn side(&self, name: &str, keys: Arc<[Key]>) -> Side {
        let cache = self.clone();
        Side::new(name, move |tasks, duration| {
            let (cache, keys) = (cache.clone(), Arc::clone(&keys));
            Box::pin(async move { cache.run(&keys, tasks, duration).await })
        })
    }

    /// Reads keys in a closed loop of so many tasks in Node, which also takes the times.
    ///
    /// # Errors
    /// When a read fails.
    pub async fn run(
        &self,
        keys: &[Key],
        tasks: usize,
        duration: Duration,
    ) -> anyhow::Result<Figures> {
        let ids: Vec<_> = keys.iter().map(|key| key.id.to_string()).collect();
        let work = json!({ "keys": ids, "tasks": tasks, "ms": duration.as_millis() as u64 });
        let answer = tokio::time::timeout(duration + node::PATIENCE, self.ask("run", work));
        let done = answer.await.context("node does not answer")??;
        let figure = |name: &str| done[name].as_f64().with_context(|| format!("no {name}"));
        Ok(Figures {
            throughput: figure("throughput")?,
            waits: Some(Waits {
                p50_us: figure("p50_us")?,
                p99_us: figure("p99_us")?,
                p999_us: None,
                max_us: figure("max_us")?,
            }),
            least_share: None,
        })
    }

    async fn ask(&self, what: &str, with: Value) -> anyhow::Result<Value> {
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        self.0.waiting.lock().expect("nobody panics with it").insert(number, answer);
        let request = json!({ "request": number, what: with });
        self.0.requests.send(request).map_err(|_| anyhow::anyhow!("node has ended"))?;
        answered.await.context("node has ended")?.map_err(anyhow::Error::msg)
    }

    async fn version(&self, what: &str, key: &Key) -> anyhow::Result<i64> {
        let version = self.ask(what, json!(key.id.to_string())).await?;
        version.as_i64().with_context(|| format!("{version} is no version"))
    }
}

impl Replica for Bentocache {
    async fn get(&self, key: &Key) -> anyhow::Result<i64> {
        self.version("get", key).await
    }

    async fn invalidate(&self, key: &Key, _version: i64) -> anyhow::Result<()> {
        self.version("drop", key).await.map(|_| ())
    }

    async fn time_many(&self, keys: &[Key]) -> anyhow::Result<f64> {
        let ids: Vec<_> = keys.iter().map(|key| key.id.to_string()).collect();
        let took = self.ask("many", json!(ids)).await?;
        took.as_f64().with_context(|| format!("{took} is no time"))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

async fn tell(mut stdin: ChildStdin, mut sent: mpsc::UnboundedReceiver<Value>) {
    while let Some(value) = sent.recv().await {
        if stdin.write_all(format!("{value}\n").as_bytes()).await.is_err() {
            // Node has ended; whoever waits learns it from the other task.
            return;
        }
    }
}

async fn hear(
    mut lines: Lines<BufReader<ChildStdout>>,
    truth: Truth,
    requests: mpsc::UnboundedSender<Value>,
    waiting: Waiting,
) {
    while let Ok(Some(line)) = lines.next_line().await {
        let Ok(said) = serde_json::from_str::<Value>(&line) else {
            eprintln!("  node printed {line:?}");
            continue;
        };
        if let Some(number) = said["answer"].as_u64() {
            let answer = waiting.lock().expect("nobody panics with it").remove(&number);
            let result = match &said["error"] {
                Value::Null => Ok(said["value"].clone()),
                error => Err(error.to_string()),
            };
            // Whoever went away does not want it.
            let _gone = answer.map(|answer| answer.send(result));
        } else if let (Some(load), Some(key)) = (said["load"].as_u64(), said["key"].as_str()) {
            let (truth, requests, key) = (truth.clone(), requests.clone(), key.to_owned());
            tokio::spawn(async move {
                let loaded = match key.parse() {
                    Ok(id) => truth.load_one(id).await.map_err(|error| error.to_string()),
                    Err(_) => Err(format!("{key} is no key")),
                };
                let answer = match loaded {
                    Ok(record) => json!({ "loaded": load, "record": record }),
                    Err(error) => json!({ "loaded": load, "error": error }),
                };
                // A Node that has ended does not want it.
                let _gone = requests.send(answer);
            });
        }
    }
    waiting.lock().expect("nobody panics with it").clear();
}
