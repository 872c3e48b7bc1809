//! A closed loop of callers: each sends its next request when it has its answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::bail;
use forebay_proto::token::v1::GetTokenRequest;
use forebay_proto::token::v1::token_service_client::TokenServiceClient;
use tonic::transport::{Channel, Endpoint};

/// What one round of load did.
#[derive(Debug, Clone, Copy)]
pub struct Round {
    /// Answers per second.
    pub throughput: f64,
    /// Median time to an answer, in microseconds.
    pub p50_us: f64,
    /// 99th percentile of the time to an answer, in microseconds.
    pub p99_us: f64,
    /// Number of answers.
    pub answers: f64,
}

/// Callers of GetToken on one server.
#[derive(Debug, Clone)]
pub struct Callers {
    clients: Vec<TokenServiceClient<Channel>>,
    id: String,
}

impl Callers {
    /// `callers` tasks spread over `connections` HTTP/2 connections.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn connect(
        endpoint: &str,
        callers: usize,
        connections: usize,
        id: &str,
    ) -> anyhow::Result<Self> {
        let mut channels = Vec::new();
        for _ in 0..connections {
            let endpoint = Endpoint::from_shared(endpoint.to_owned())?.tcp_nodelay(true);
            channels.push(endpoint.connect().await?);
        }
        let clients = (0..callers)
            .map(|caller| TokenServiceClient::new(channels[caller % connections].clone()))
            .collect();
        Ok(Self { clients, id: id.to_owned() })
    }

    /// Calls for `duration`. A single failed call fails the round: a fast error is no speed.
    ///
    /// # Errors
    /// When a call fails.
    pub async fn run(&self, duration: Duration) -> anyhow::Result<Round> {
        let stop = Arc::new(AtomicBool::new(false));
        let started = Instant::now();
        let tasks: Vec<_> = self
            .clients
            .iter()
            .map(|client| tokio::spawn(call(client.clone(), self.id.clone(), Arc::clone(&stop))))
            .collect();
        tokio::time::sleep(duration).await;
        stop.store(true, Ordering::Relaxed);
        let mut times = Vec::new();
        for task in tasks {
            times.extend(task.await??);
        }
        let elapsed = started.elapsed().as_secs_f64();
        if times.is_empty() {
            bail!("no answer in {duration:?}");
        }
        times.sort_unstable();
        let at = |share: f64| f64::from(times[((times.len() - 1) as f64 * share) as usize]) / 1e3;
        let answers = times.len() as f64;
        Ok(Round { throughput: answers / elapsed, p50_us: at(0.5), p99_us: at(0.99), answers })
    }
}

/// Times to an answer in nanoseconds, capped at the 4 seconds that fit.
async fn call(
    mut client: TokenServiceClient<Channel>,
    id: String,
    stop: Arc<AtomicBool>,
) -> anyhow::Result<Vec<u32>> {
    let mut times = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let request = GetTokenRequest { id: id.clone() };
        let sent = Instant::now();
        client.get_token(request).await?;
        times.push(u32::try_from(sent.elapsed().as_nanos()).unwrap_or(u32::MAX));
    }
    Ok(times)
}
