//! The log of changes is cut, swallowed, trimmed and lost, again and again.

use std::sync::Arc;
use std::time::Duration;

use forebay_cache::L2State;
use forebay_testkit::PrivateRedis;
use tokio::time::Instant;

use super::switch::Switch;
use super::witness::Witness;
use super::{ask, config};
use crate::store::Store;
use crate::{Replica, entity_config, eventually, report};

/// Connections of the log that are cut.
const CUTS: usize = 1000;
/// Keys that change, each seldom, so that nothing but the tail makes up for what was not announced;
/// and keys that stay as they are.
const CHANGED: u64 = 300;
const UNTOUCHED: std::ops::Range<u64> = 1000..1050;

/// The connections that read the log now, by their ids.
async fn readers(server: &PrivateRedis) -> Vec<String> {
    let clients = ask(server, "CLIENT LIST").await;
    let reads = clients.lines().filter(|line| line.contains("cmd=xread"));
    reads.filter_map(|line| Some(line.split_once("id=")?.1.split(' ').next()?.to_owned())).collect()
}

/// Reads that found an untouched key elsewhere than in L1.
async fn untouched_elsewhere(replicas: &[Replica]) -> usize {
    let mut elsewhere = 0;
    for replica in replicas {
        for key in UNTOUCHED {
            elsewhere += usize::from(replica.outcome(key).await != "hit_l1");
        }
    }
    elsewhere
}

/// A thousand cuts of the connections that read the log, and between them everything that may
/// become of a log: swallowed answers, trimming, deletion, a flushed server, one that is killed. All
/// the while rows change, half of them by plain SQL, and two replicas are read.
///
/// Fails without the tail (what was announced in a gap is lost), or if a lost log costs what is in
/// L1: the keys that nobody touches are found elsewhere then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_cuts_of_the_log_cost_neither_a_change_nor_what_is_in_l1() {
    let mut server =
        PrivateRedis::start_with(&[("appendonly", "yes"), ("appendfsync", "everysec")]);
    let switch = Switch::to(server.port()).await;
    let (store, witness) = (Store::new().await, Witness::default());
    for key in (0..CHANGED).chain(UNTOUCHED) {
        witness.put(&store, key, "first").await;
    }
    let new = || Replica::with(&switch.url(), "", &store, &config(), &entity_config());
    let replicas = [new().l2_in_use(&store).await, new().l2_in_use(&store).await];
    untouched_elsewhere(&replicas).await;
    let watching = replicas.iter().map(|replica| witness.watch(&replica.rows, 0..CHANGED));
    let mut watching: Vec<_> = watching.collect();
    watching.push(tokio::spawn(change(witness.clone(), store.clone(), replicas[0].rows.clone())));

    let (mut cuts, mut faults, mut elsewhere) = (0, 0, 0);
    let began = Instant::now();
    while cuts < CUTS {
        let ids = readers(&server).await;
        for id in &ids {
            ask(&server, &format!("CLIENT KILL ID {id}")).await;
        }
        let before = cuts;
        cuts += ids.len();
        // About every hundred cuts something worse.
        if cuts / 100 > before / 100 {
            match faults % 5 {
                0 => drop(ask(&server, "XTRIM cache-log MAXLEN 0").await),
                1 => drop(ask(&server, "DEL cache-log").await),
                2 => switch.swallow(),
                3 => drop(ask(&server, "FLUSHALL").await),
                _ => {
                    server.kill();
                    server.restart();
                }
            }
            faults += 1;
            elsewhere += untouched_elsewhere(&replicas).await;
        }
        // The next cut is one of a connection that reads.
        eventually("the log is read again", async || !readers(&server).await.is_empty()).await;
    }
    elsewhere += untouched_elsewhere(&replicas).await;
    report(&format!("{cuts} cuts and {faults} other faults in {:?}", began.elapsed()));
    witness.end(watching).await;
    report(&witness.summary());
    assert!(faults >= 5, "each fault came: {faults}");
    assert_eq!(elsewhere, 0, "what nobody touched was found elsewhere than in L1");
    for replica in &replicas {
        let trusted = async || replica.cache.stats().l2_state == L2State::Trusted;
        eventually("redis is used again", trusted).await;
        assert_eq!(replica.cache.stats().forgotten, [], "nothing in L1 was given up");
    }
}

/// Changes the keys in turn, every other one without telling anybody.
async fn change(
    witness: Witness,
    store: Store,
    rows: forebay_cache::EntityCache<crate::store::Row, Store>,
) {
    let rows = Arc::new(rows);
    for round in 0_u64.. {
        if witness.is_over() {
            return;
        }
        let key = round % CHANGED;
        let version = witness.put(&store, key, &format!("round {round}")).await;
        if key.is_multiple_of(2) {
            rows.invalidate(&[(key, version)]).await;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
