//! One call: JSON in, JSON out.

use anyhow::{Context as _, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::uri::PathAndQuery;
use prost_reflect::{DeserializeOptions, DynamicMessage, MethodDescriptor, SerializeOptions};
use tokio::time::Instant;
use tonic::metadata::MetadataMap;
use tonic::metadata::{
    AsciiMetadataKey, AsciiMetadataValue, BinaryMetadataKey, BinaryMetadataValue,
};
use tonic::{Code, Request, Status};
use uuid::Uuid;

use super::arguments::Arguments;
use super::codec::DynamicCodec;
use super::reflection::Server;

/// Longer replies are a dump, and a terminal is no place for it.
const REPLY_BYTES_MAX: usize = 64 << 20;

/// How a call ended.
#[derive(Debug)]
pub(super) enum Answer {
    Replied,
    Failed(Box<Status>),
}

/// The call's place in its trace: it is the root, though nobody exports it.
#[derive(Debug)]
pub(super) struct Caller {
    /// 32 hexadecimal digits.
    pub(super) trace: String,
    /// 16 hexadecimal digits.
    pub(super) span: String,
}

/// Whether servers are asked to record a trace.
#[derive(Clone, Copy, Debug)]
pub(super) enum Recorded {
    Yes,
    No,
}

impl Caller {
    pub(super) fn random() -> Self {
        let span = Uuid::new_v4().simple().to_string();
        Self { trace: Uuid::new_v4().simple().to_string(), span: span[..16].to_owned() }
    }

    /// The W3C header.
    pub(super) fn traceparent(&self, recorded: Recorded) -> String {
        let flags = match recorded {
            Recorded::Yes => "01",
            Recorded::No => "00",
        };
        format!("00-{}-{}-{flags}", self.trace, self.span)
    }
}

/// Calls `method` and hands each reply to `show` as it arrives.
pub(super) async fn call(
    server: &Server,
    method: &MethodDescriptor,
    arguments: &Arguments,
    caller: &Caller,
    show: impl FnMut(&str) -> anyhow::Result<()>,
) -> anyhow::Result<Answer> {
    let message = read_request(method, &arguments.request)?;
    let mut request = Request::new(message);
    request.set_timeout(arguments.timeout);
    write_headers(request.metadata_mut(), &arguments.headers)?;
    if !request.metadata().contains_key("traceparent") {
        let traceparent = caller.traceparent(Recorded::Yes).parse().context("write traceparent")?;
        request.metadata_mut().insert("traceparent", traceparent);
    }
    let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
    let path: PathAndQuery = path.parse().context("write the path")?;
    let started = Instant::now();
    let exchange = exchange(server, method, request, path, show);
    // A server that ignores its deadline must not hold the terminal.
    let answered = match tokio::time::timeout(arguments.timeout, exchange).await {
        Ok(answered) => answered?,
        Err(_elapsed) => Answer::Failed(Box::new(Status::deadline_exceeded(""))),
    };
    Ok(match answered {
        // The transport calls it cancelled when it is the first to see the deadline pass.
        Answer::Failed(status)
            if matches!(status.code(), Code::Cancelled | Code::DeadlineExceeded)
                && started.elapsed() >= arguments.timeout =>
        {
            let text = format!("no answer within {:?}", arguments.timeout);
            Answer::Failed(Box::new(Status::deadline_exceeded(text)))
        }
        answered => answered,
    })
}

async fn exchange(
    server: &Server,
    method: &MethodDescriptor,
    request: Request<DynamicMessage>,
    path: PathAndQuery,
    mut show: impl FnMut(&str) -> anyhow::Result<()>,
) -> anyhow::Result<Answer> {
    let mut client =
        tonic::client::Grpc::new(server.channel.clone()).max_decoding_message_size(REPLY_BYTES_MAX);
    client.ready().await.context("reach the server")?;
    let codec = DynamicCodec::new(method.output());
    // A unary reply is a stream of one.
    let mut replies = match client.server_streaming(request, path, codec).await {
        Ok(replies) => replies.into_inner(),
        Err(status) => return Ok(Answer::Failed(Box::new(status))),
    };
    loop {
        match replies.message().await {
            Ok(Some(reply)) => show(&(write_reply(&reply)? + "\n"))?,
            Ok(None) => return Ok(Answer::Replied),
            Err(status) => return Ok(Answer::Failed(Box::new(status))),
        }
    }
}

fn read_request(method: &MethodDescriptor, json: &str) -> anyhow::Result<DynamicMessage> {
    let input = method.input();
    let name = input.full_name().to_owned();
    let mut reader = serde_json::Deserializer::from_str(json);
    let options = DeserializeOptions::new().deny_unknown_fields(true);
    let message = DynamicMessage::deserialize_with_options(input, &mut reader, &options)
        .map_err(|error| anyhow!("the request is no {name}: {error}"))?;
    reader.end().map_err(|error| anyhow!("the request is no {name}: {error}"))?;
    Ok(message)
}

/// The reply as JSON, with field names as the proto files have them.
fn write_reply(reply: &DynamicMessage) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    let mut writer = serde_json::Serializer::pretty(&mut bytes);
    let options = SerializeOptions::new().use_proto_field_name(true).skip_default_fields(false);
    reply.serialize_with_options(&mut writer, &options).context("write the reply as JSON")?;
    String::from_utf8(bytes).context("write the reply as JSON")
}

fn write_headers(metadata: &mut MetadataMap, headers: &[(String, String)]) -> anyhow::Result<()> {
    for (key, value) in headers {
        let problem = || format!("{key:?}: {value:?} cannot be sent as a header");
        if key.ends_with("-bin") {
            let name = BinaryMetadataKey::from_bytes(key.as_bytes()).with_context(problem)?;
            let bytes = STANDARD.decode(value).with_context(problem)?;
            metadata.append_bin(name, BinaryMetadataValue::from_bytes(&bytes));
        } else {
            let name = AsciiMetadataKey::from_bytes(key.as_bytes()).with_context(problem)?;
            let text: AsciiMetadataValue = value.parse().with_context(problem)?;
            metadata.append(name, text);
        }
    }
    Ok(())
}
