//! What programs read: one JSON object a line, one line for each service.

use anyhow::Context as _;
use forebay_proto::ops::v1::GetConnectionPoolsResponse;
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::{Value as Json, json};

use super::ask::Answer;

/// `{"service", "postgres": [..], "redis": [..]}`, with the field names of the contract and every
/// field present, or `{"service", "error"}`.
pub(super) fn lines(answers: &[Answer]) -> anyhow::Result<String> {
    let mut text = String::new();
    for Answer { service, pools } in answers {
        let mut line = match pools {
            Ok(pools) => of_pools(pools)?,
            Err(problem) => json!({ "error": problem }),
        };
        line["service"] = json!(service);
        text.push_str(&format!("{line}\n"));
    }
    Ok(text)
}

fn of_pools(pools: &GetConnectionPoolsResponse) -> anyhow::Result<Json> {
    let contracts = DescriptorPool::decode(forebay_proto::FILE_DESCRIPTOR_SET)
        .context("understand the contracts")?;
    let message = contracts
        .get_message_by_name("forebay.ops.v1.GetConnectionPoolsResponse")
        .context("find the reply in the contracts")?;
    let reply = DynamicMessage::decode(message, pools.encode_to_vec().as_slice())
        .context("read the reply by its contract")?;
    // Counters as numbers: programs add them up, and none comes near 2^53.
    let options = SerializeOptions::new()
        .use_proto_field_name(true)
        .skip_default_fields(false)
        .stringify_64_bit_integers(false);
    reply.serialize_with_options(serde_json::value::Serializer, &options).context("write JSON")
}
