//! One question to one service.

use std::time::Duration;

use anyhow::Context as _;
use forebay_proto::ops::v1::ops_service_client::OpsServiceClient;
use forebay_proto::ops::v1::{GetConnectionPoolsRequest, GetConnectionPoolsResponse};
use tonic::Request;
use tonic::transport::Endpoint;

use crate::call;

/// A service answers this from memory; one that takes longer hangs.
const TIMEOUT: Duration = Duration::from_secs(2);

/// What a service said.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) service: String,
    /// The state, or why there is none, in words.
    pub(super) pools: Result<GetConnectionPoolsResponse, String>,
}

/// Asks on a connection of its own: between two rounds a service may have moved.
pub(super) async fn service(name: &str, address: &str) -> Answer {
    let asked = tokio::time::timeout(TIMEOUT, exchange(address)).await;
    let pools = match asked {
        Ok(Ok(pools)) => Ok(pools),
        Ok(Err(error)) => Err(format!("{error:#}")),
        Err(_elapsed) => Err(format!("no answer within {} s", TIMEOUT.as_secs())),
    };
    Answer { service: name.to_owned(), pools }
}

async fn exchange(address: &str) -> anyhow::Result<GetConnectionPoolsResponse> {
    let channel = Endpoint::from_shared(format!("http://{address}"))
        .with_context(|| format!("{address:?} is no address"))?
        .connect()
        .await
        .with_context(|| format!("connect to {address}"))?;
    let mut request = Request::new(GetConnectionPoolsRequest {});
    request.metadata_mut().insert("traceparent", call::unrecorded().parse()?);
    let reply = OpsServiceClient::new(channel).get_connection_pools(request).await;
    let reply = reply.map_err(|status| anyhow::anyhow!("{}: {}", status.code(), status.message()));
    Ok(reply?.into_inner())
}
