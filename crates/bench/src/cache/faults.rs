//! Redis is slow, resets connections or answers nothing for a while: what readers see meanwhile,
//! and how soon L2 is used again.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;

use crate::cache::peers::Peer;
use crate::cache::proxy::Proxy;
use crate::cache::readers::{PAUSE, Seen, reader};
use crate::cache::record::Key;
use crate::cache::replica::{Node, Site};
use crate::cache::server::{Operator, Stopped};
use crate::cache::setup::{fill_l2, proxied, read, rows, settle};
use crate::cache::tables::Tables;
use crate::cache::{Stage, bound, fill, ms_since, percentile};

/// How long a fault lasts.
const LASTS: Duration = Duration::from_millis(1_500);
/// How much later Redis answers when it is slow.
const LATE: Duration = Duration::from_millis(50);
/// Readers of keys that only L2 has, each of which reads a key once.
const READERS: usize = 10;
/// Keys of a reader: as many as it can read in that time.
const KEYS: usize = 300;
/// Keys that L1 has.
const HOT: usize = 200;
/// Keys by which it is seen whether L2 is used again, and how long it is looked for.
const PROBES: usize = 2_000;
const LOOKED_FOR: Duration = Duration::from_secs(5);
/// Reads in a row that no statement answers: then L2 is used.
const IN_A_ROW: usize = 5;
/// How soon L2 is used again.
const BOUND_MS: f64 = 1_000.0;

#[derive(Clone, Copy)]
enum Fault {
    Reset,
    Late,
    Stopped,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reset => "Redis resets every connection for 1.5 s (RST)",
            Self::Late => "Redis answers 50 ms later for 1.5 s",
            Self::Stopped => "Redis answers nothing for 1.5 s (SIGSTOP)",
        })
    }
}

const FAULTS: [Fault; 3] = [Fault::Reset, Fault::Late, Fault::Stopped];

/// Measures and reports.
///
/// # Errors
/// When a side cannot be set up. A read that fails is counted.
pub async fn measure(stage: &Stage) -> anyhow::Result<()> {
    let redis = Operator::connect(&stage.redis_url).await?;
    let mut sides = Vec::new();
    for peer in stage.with_node() {
        sides.push(Side::fill(stage, peer).await?);
        eprintln!("  {}: the keys are in L2", peer.name);
    }
    for (number, fault) in FAULTS.into_iter().enumerate() {
        let columns = [
            ("p99 of a key in L2", "ms"),
            ("longest", "ms"),
            ("p99 of a key in L1", "ms"),
            ("failed", "reads"),
            ("most at once", "SQL"),
            ("L2 used again after", "ms"),
        ];
        let names = stage.with_node().map(|peer| peer.name.as_str());
        let mut tables = Tables::new(fault.to_string(), columns, names);
        // They start together, since most of that is waiting, and suffer one after the other.
        let victims = try_join_all(sides.iter().map(|side| side.victim(number))).await?;
        for (index, victim) in victims.iter().enumerate() {
            tables.push(index, victim.suffer(fault, &redis).await?);
        }
        tables.report(|name, peer| tables.zero("failed", name, peer));
        let (name, unit) = columns[5];
        bound(&tables.case(name), unit, tables.ours(name), BOUND_MS, false);
    }
    Ok(())
}

/// Keys of a fault, all of them in L2.
#[derive(Clone)]
struct Keys {
    hot: Vec<Key>,
    cold: Vec<Key>,
    probes: Vec<Key>,
}

struct Side<'a> {
    peer: &'a Peer,
    site: Site,
    keys: Vec<Keys>,
}

impl<'a> Side<'a> {
    async fn fill(stage: &Stage, peer: &'a Peer) -> anyhow::Result<Self> {
        let site = stage.site(peer, "faults", 20_000);
        let mut keys = Vec::new();
        for _ in FAULTS {
            let hot = rows(&site, HOT).await?;
            let cold = rows(&site, READERS * KEYS).await?;
            keys.push(Keys { hot, cold, probes: rows(&site, PROBES).await? });
        }
        let all = keys.iter().flat_map(|keys| [&keys.hot, &keys.cold, &keys.probes]);
        let all: Vec<Key> = all.flatten().cloned().collect();
        fill_l2(peer, &site, &all).await?;
        Ok(Self { peer, site, keys })
    }

    /// A replica that reaches Redis through a proxy, and has the hot keys in its memory.
    async fn victim(&self, fault: usize) -> anyhow::Result<Victim> {
        let (site, keys) = (self.site.clone(), self.keys[fault].clone());
        let (proxy, through) = proxied(&site).await?;
        let node = self.peer.start(&through).await?;
        settle(std::slice::from_ref(&node), &site).await?;
        // Some fill L1 at the second read.
        fill(&node, &keys.hot).await?;
        fill(&node, &keys.hot).await?;
        Ok(Victim { site, node, proxy, keys })
    }
}

struct Victim {
    site: Site,
    node: Node,
    proxy: Proxy,
    keys: Keys,
}

impl Victim {
    async fn suffer(&self, fault: Fault, redis: &Operator) -> anyhow::Result<[f64; 6]> {
        let over = Arc::new(AtomicBool::new(false));
        self.site.truth.take_counts();
        let stopped = self.begin(fault, redis).await?;
        let hits =
            tokio::spawn(reader(self.node.clone(), self.keys.hot.clone(), Arc::clone(&over)));
        let readers: Vec<_> = self
            .keys
            .cold
            .chunks(KEYS)
            .map(|keys| tokio::spawn(reader(self.node.clone(), keys.to_vec(), Arc::clone(&over))))
            .collect();
        tokio::time::sleep(LASTS).await;
        over.store(true, Ordering::SeqCst);
        self.end(fault, stopped).await?;
        let ended = Instant::now();
        let mut seen = Seen::default();
        for reader in readers {
            let one = reader.await?;
            seen.times.extend(one.times);
            seen.failed += one.failed;
        }
        let mut hits = hits.await?;
        let (_, most) = self.site.truth.take_counts();
        let again = self.used_again(ended).await;
        seen.times.sort_by(f64::total_cmp);
        hits.times.sort_by(f64::total_cmp);
        Ok([
            percentile(&seen.times, 0.99),
            percentile(&seen.times, 1.0),
            percentile(&hits.times, 0.99),
            (seen.failed + hits.failed) as f64,
            most as f64,
            again,
        ])
    }

    async fn begin(&self, fault: Fault, redis: &Operator) -> anyhow::Result<Option<Stopped>> {
        match fault {
            Fault::Reset => self.proxy.refuse(true),
            Fault::Late => self.proxy.delay(LATE),
            Fault::Stopped => return redis.stop().await.map(Some),
        }
        Ok(None)
    }

    async fn end(&self, fault: Fault, stopped: Option<Stopped>) -> anyhow::Result<()> {
        match (fault, stopped) {
            (Fault::Reset, _) => self.proxy.refuse(false),
            (Fault::Late, _) => self.proxy.delay(Duration::ZERO),
            (Fault::Stopped, Some(stopped)) => return stopped.go_on().await,
            (Fault::Stopped, None) => {}
        }
        Ok(())
    }

    /// Milliseconds from the end of the fault until keys are read that no statement answers: the
    /// time looked for if there are none.
    async fn used_again(&self, ended: Instant) -> f64 {
        let (mut first, mut in_a_row) = (0.0, 0);
        for key in &self.keys.probes {
            if ended.elapsed() > LOOKED_FOR {
                break;
            }
            if in_a_row == 0 {
                first = ms_since(ended);
            }
            let is_answered = read(&self.node, key).await.is_ok();
            let (statements, _) = self.site.truth.take_counts();
            in_a_row = if is_answered && statements == 0 { in_a_row + 1 } else { 0 };
            if in_a_row == IN_A_ROW {
                return first;
            }
            tokio::time::sleep(PAUSE).await;
        }
        LOOKED_FOR.as_secs_f64() * 1e3
    }
}
