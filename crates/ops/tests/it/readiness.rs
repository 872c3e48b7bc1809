//! gRPC health follows the readiness of the process.

use std::net::SocketAddr;
use std::time::Duration;

use forebay_boot::Readiness;
use forebay_config::{GrpcConfig, Secret};
use forebay_grpc::Server;
use forebay_ops::follow_readiness;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

/// Fails when health is SERVING before the process is ready, or does not follow it.
#[tokio::test]
async fn health_follows_the_process() {
    let readiness = Readiness::new();
    let store = readiness.component("store");
    let config = GrpcConfig {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        request_bytes_max: 1024,
        concurrent_requests_max: 10,
        timeout_default: Duration::from_secs(5),
        timeout_max: Duration::from_secs(5),
        drain_timeout: Duration::ZERO,
        lame_duck: Duration::ZERO,
        reflection: false,
        page_token_key: Secret::new("key"),
    };
    let server = Server::new(&config, "ops-test");
    follow_readiness(&readiness, server.health()).await;
    let bound = server.bind().await.expect("a free port");
    let endpoint = format!("http://{}", bound.local_addr());
    tokio::spawn(bound.serve(std::future::pending()));

    let endpoint = Channel::from_shared(endpoint).expect("an address");
    let channel = endpoint.connect().await.expect("it listens");
    let mut client = HealthClient::new(channel);
    let mut watch =
        client.watch(HealthCheckRequest::default()).await.expect("a watch").into_inner();
    let mut next = async || {
        let message = tokio::time::timeout(Duration::from_secs(20), watch.message()).await;
        let state = message.expect("it changes").expect("no error").expect("a state");
        state.status()
    };
    assert_eq!(next().await, ServingStatus::NotServing);
    store.set_ready();
    assert_eq!(next().await, ServingStatus::Serving);
    readiness.set_draining();
    assert_eq!(next().await, ServingStatus::NotServing);
}
