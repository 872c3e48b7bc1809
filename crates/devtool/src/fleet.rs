//! Asking every running service of an instance the same question, once or again and again.

use std::io::IsTerminal as _;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use forebay_proto::ops::v1::ops_service_client::OpsServiceClient;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::{Value as Json, json};
use tokio::time::MissedTickBehavior;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};
use tonic_types::StatusExt as _;

use crate::state::State;
use crate::workspace::Instance;
use crate::{call, stdout};

/// A service answers from memory, or within the timeouts of its cache; one that takes longer hangs.
const TIMEOUT: Duration = Duration::from_secs(2);

/// How often watching asks. Each service answers one call a round.
pub(crate) const INTERVAL: Duration = Duration::from_secs(1);

/// Rounds are never nearer to each other nor farther apart.
const INTERVAL_SECONDS: std::ops::RangeInclusive<u64> = 1..=3600;

/// Puts the cursor into the upper left corner and clears what is below it (ECMA-48, CUP and ED).
const CLEAR: &str = "\x1b[H\x1b[J";

/// A client of one service.
pub(crate) type Client = OpsServiceClient<Channel>;

/// What a service said.
#[derive(Debug)]
pub(crate) struct Answer<T> {
    pub(crate) service: String,
    /// The reply, or why there is none, in words.
    pub(crate) reply: Result<T, String>,
}

/// An interval of `--interval`.
///
/// # Errors
///
/// When it is out of bounds.
pub(crate) fn interval(seconds: u64) -> anyhow::Result<Duration> {
    let (least, most) = INTERVAL_SECONDS.into_inner();
    ensure!(INTERVAL_SECONDS.contains(&seconds), "--interval takes {least} to {most} seconds");
    Ok(Duration::from_secs(seconds))
}

/// A request that leaves no trace behind: watching would fill the collector.
///
/// # Errors
///
/// Never in practice: the header is well formed.
pub(crate) fn request<T>(message: T) -> anyhow::Result<Request<T>> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("traceparent", call::unrecorded().parse()?);
    Ok(request)
}

/// Asks every service that listens. One that does not answer is among the answers.
///
/// # Errors
///
/// When the instance does not run, or none of its services listens.
pub(crate) async fn ask<T>(
    instance: &Instance,
    question: impl AsyncFn(Client) -> anyhow::Result<Result<Response<T>, Status>>,
) -> anyhow::Result<Vec<Answer<T>>> {
    let state = State::load(instance)?.filter(State::is_running).with_context(|| {
        format!("instance {} does not run: `cargo xtask dev` starts it", instance.name)
    })?;
    let asked = state.services.iter().filter_map(|service| {
        service.grpc.as_deref().map(|address| one(&service.name, address, &question))
    });
    let answers = futures_util::future::join_all(asked).await;
    ensure!(
        !answers.is_empty(),
        "no service of instance {} listens yet: `cargo xtask status` tells more",
        instance.name
    );
    Ok(answers)
}

/// The answers, if one of them is a reply.
///
/// # Errors
///
/// When none is, with what the first service said.
pub(crate) fn some_reply<T>(
    instance: &Instance,
    answers: Vec<Answer<T>>,
) -> anyhow::Result<Vec<Answer<T>>> {
    if answers.iter().all(|answer| answer.reply.is_err())
        && let Some(Answer { service, reply: Err(problem) }) = answers.first()
    {
        bail!(
            "no service of instance {} answers: `cargo xtask status` and `cargo xtask logs` tell \
             more; {service} said: {problem}",
            instance.name,
        );
    }
    Ok(answers)
}

/// Asks on a connection of its own: between two rounds a service may have moved.
async fn one<T>(
    name: &str,
    address: &str,
    question: &impl AsyncFn(Client) -> anyhow::Result<Result<Response<T>, Status>>,
) -> Answer<T> {
    let exchange = async {
        let channel = Endpoint::from_shared(format!("http://{address}"))
            .with_context(|| format!("{address:?} is no address"))?
            .connect()
            .await
            .with_context(|| format!("connect to {address}"))?;
        let reply = question(OpsServiceClient::new(channel)).await?;
        reply.map(Response::into_inner).map_err(|status| anyhow::anyhow!(words(&status)))
    };
    let reply = match tokio::time::timeout(TIMEOUT, exchange).await {
        Ok(Ok(reply)) => Ok(reply),
        Ok(Err(error)) => Err(format!("{error:#}")),
        Err(_elapsed) => Err(format!("no answer within {} s", TIMEOUT.as_secs())),
    };
    Answer { service: name.to_owned(), reply }
}

/// A status in one line; of an invalid request what is wrong with it.
fn words(status: &Status) -> String {
    let bad = status.get_details_bad_request().map(|bad| bad.field_violations).unwrap_or_default();
    if bad.is_empty() {
        return format!("{}: {}", status.code(), status.message());
    }
    let fields = bad.iter().map(|one| format!("{} {}", one.field, one.description));
    fields.collect::<Vec<_>>().join("; ")
}

/// Prints what `round` gives until the instance ends or nobody reads any more. A round that takes
/// long makes the next one late and never two at once.
///
/// # Errors
///
/// When a round fails.
pub(crate) async fn watch(
    interval: Duration,
    as_json: bool,
    round: impl AsyncFn() -> anyhow::Result<String>,
) -> anyhow::Result<()> {
    let redraws = !as_json && std::io::stdout().is_terminal();
    let mut rounds = tokio::time::interval(interval);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        let mut text = round().await?;
        if redraws {
            text.insert_str(0, CLEAR);
        } else if !as_json {
            text.push('\n');
        }
        if !stdout::still_read(&text) {
            return Ok(());
        }
    }
}

/// What programs read: `{"service", ..}`, one line for each service, with the field names of the
/// contract and every field present, or `{"service", "error"}`. `contract` is the full name of the
/// reply.
///
/// # Errors
///
/// When the contract is not ours.
pub(crate) fn json_lines<T: Message>(
    answers: &[Answer<T>],
    contract: &str,
) -> anyhow::Result<String> {
    let mut text = String::new();
    for Answer { service, reply } in answers {
        let mut line = match reply {
            Ok(reply) => json(reply, contract)?,
            Err(problem) => json!({ "error": problem }),
        };
        line["service"] = json!(service);
        text.push_str(&format!("{line}\n"));
    }
    Ok(text)
}

fn json<T: Message>(reply: &T, contract: &str) -> anyhow::Result<Json> {
    let contracts = DescriptorPool::decode(forebay_proto::FILE_DESCRIPTOR_SET)
        .context("understand the contracts")?;
    let message =
        contracts.get_message_by_name(contract).context("find the reply in the contracts")?;
    let reply = DynamicMessage::decode(message, reply.encode_to_vec().as_slice())
        .context("read the reply by its contract")?;
    // Counters as numbers: programs add them up, and none comes near 2^53.
    let options = SerializeOptions::new()
        .use_proto_field_name(true)
        .skip_default_fields(false)
        .stringify_64_bit_integers(false);
    reply.serialize_with_options(serde_json::value::Serializer, &options).context("write JSON")
}
