//! GetToken answered from L1 by token-server, against a bare tonic service that returns
//! the same bytes.
//!
//! Run it by `cargo xtask bench grpc`, which starts the stores and passes where they are:
//! `DATABASE_URL` (seeded), `REDIS_URL`, `FOREBAY_BENCH_BIN_DIR` (token-server, release build).

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use forebay_bench::load::{Callers, Round};
use forebay_bench::report::{Case, Goal};
use forebay_bench::server::{Server, free_port};
use forebay_proto::token::v1::token_service_client::TokenServiceClient;
use forebay_proto::token::v1::{GetTokenRequest, GetTokenResponse, LookupTokenRequest};
use prost::Message as _;

const USDC: &str = "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v";
/// Odd, so that a median is a round that happened.
const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_secs(2);
/// Callers and connections: one caller shows latency, 64 show throughput.
const LOADS: [(usize, usize); 2] = [(1, 1), (64, 2)];

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let ours = start_ours().await?;
    let (id, reply) = usdc(&ours.endpoint).await?;
    let theirs = start_peer(&reply).await?;
    for (callers, connections) in LOADS {
        measure(&ours, &theirs, callers, connections, &id).await?;
    }
    ours.stop().await?;
    theirs.stop().await
}

async fn start_ours() -> anyhow::Result<Server> {
    let port = free_port()?;
    let ops_port = free_port()?;
    let dir = std::env::var("FOREBAY_BENCH_BIN_DIR")
        .context("FOREBAY_BENCH_BIN_DIR is not set: run `cargo xtask bench grpc`")?;
    let program = Path::new(&dir).join("forebay-token-server");
    let env = [
        ("FOREBAY__GRPC__LISTEN", format!("127.0.0.1:{port}")),
        ("FOREBAY__OPS__LISTEN", format!("127.0.0.1:{ops_port}")),
    ];
    Server::start(program.to_str().context("path is not UTF-8")?, port, &env).await
}

async fn start_peer(reply: &GetTokenResponse) -> anyhow::Result<Server> {
    let port = free_port()?;
    let program = std::env::current_exe()?.with_file_name("bare-tonic");
    let file = std::env::temp_dir().join(format!("forebay-bench-{}.pb", std::process::id()));
    std::fs::write(&file, reply.encode_to_vec())?;
    let env = [
        ("LISTEN", format!("127.0.0.1:{port}")),
        ("REPLY_FILE", file.to_string_lossy().into_owned()),
    ];
    let server = Server::start(program.to_str().context("path is not UTF-8")?, port, &env).await;
    std::fs::remove_file(&file)?;
    server
}

/// USDC's id, and the whole reply that a GetToken of it has.
async fn usdc(endpoint: &str) -> anyhow::Result<(String, GetTokenResponse)> {
    let mut client = TokenServiceClient::connect(endpoint.to_owned()).await?;
    let lookup = LookupTokenRequest { mint: USDC.to_owned() };
    let token = client.lookup_token(lookup).await?.into_inner().token.context("no USDC")?;
    let get = GetTokenRequest { id: token.id.clone() };
    Ok((token.id, client.get_token(get).await?.into_inner()))
}

/// One side's rounds.
#[derive(Default)]
struct Side {
    rounds: Vec<Round>,
    server_us: Vec<f64>,
}

impl Side {
    async fn round(&mut self, server: &Server, callers: &Callers) -> anyhow::Result<()> {
        let before = server.processor_seconds()?;
        let round = callers.run(ROUND).await?;
        let used = server.processor_seconds()? - before;
        self.server_us.push(used * 1e6 / round.answers);
        self.rounds.push(round);
        Ok(())
    }

    fn figure(&self, figure: impl Fn(&Round) -> f64) -> Vec<f64> {
        self.rounds.iter().map(figure).collect()
    }
}

async fn measure(
    ours: &Server,
    theirs: &Server,
    callers: usize,
    connections: usize,
    id: &str,
) -> anyhow::Result<()> {
    let our_callers = Callers::connect(&ours.endpoint, callers, connections, id).await?;
    let their_callers = Callers::connect(&theirs.endpoint, callers, connections, id).await?;
    our_callers.run(ROUND / 2).await?;
    their_callers.run(ROUND / 2).await?;
    let (mut our_side, mut their_side) = (Side::default(), Side::default());
    for round in 0..ROUNDS {
        // Who goes first changes, so that a slow drift of the machine favours nobody.
        if round % 2 == 0 {
            our_side.round(ours, &our_callers).await?;
            their_side.round(theirs, &their_callers).await?;
        } else {
            their_side.round(theirs, &their_callers).await?;
            our_side.round(ours, &our_callers).await?;
        }
    }
    let case = |what: &str, unit, goal, ours: Vec<f64>, theirs: Vec<f64>| Case {
        bench: "grpc",
        case: format!("GetToken from L1, {callers} callers: {what}"),
        peer: "bare tonic".to_owned(),
        unit,
        ours,
        theirs,
        goal,
    };
    let figures = |figure: fn(&Round) -> f64| (our_side.figure(figure), their_side.figure(figure));
    let (ours, theirs) = figures(|round| round.throughput);
    print(&case("throughput", "calls/s", Some(Goal::AtLeast(0.9)), ours, theirs));
    let (ours, theirs) = figures(|round| round.p50_us);
    print(&case("median latency", "us", None, ours, theirs));
    let (ours, theirs) = figures(|round| round.p99_us);
    print(&case("p99 latency", "us", None, ours, theirs));
    print(&case(
        "server processor time",
        "us/call",
        None,
        our_side.server_us,
        their_side.server_us,
    ));
    Ok(())
}

fn print(case: &Case) {
    println!("{}", case.json());
}
