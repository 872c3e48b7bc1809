//! Health checks and reflection.

use tokio_stream::StreamExt as _;
use tonic::Code;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};
use tonic_types::StatusExt as _;

use crate::harness::{Running, Script, config, soon};

const TOKENS: &str = "forebay.token.v1.TokenService";

async fn status_of(server: &Running, service: &str) -> Result<ServingStatus, tonic::Status> {
    let request = HealthCheckRequest { service: service.to_owned() };
    let reply = soon(HealthClient::new(server.channel().await).check(request)).await?;
    Ok(reply.into_inner().status())
}

#[tokio::test]
async fn health_follows_what_the_process_says() {
    let server = Running::start(config(), Script::default()).await;
    for (serving, expected) in [
        (true, ServingStatus::Serving),
        (false, ServingStatus::NotServing),
        (true, ServingStatus::Serving),
    ] {
        server.health.set_serving(serving).await;
        for service in ["", TOKENS] {
            assert_eq!(status_of(&server, service).await.expect("known"), expected, "{service:?}");
        }
    }
    let unknown = status_of(&server, "no.such.Service").await.expect_err("unknown");
    assert_eq!(unknown.code(), Code::NotFound);
    assert!(unknown.get_details_error_info().is_some());
}

#[tokio::test]
async fn a_server_serves_before_anybody_sets_its_health() {
    let server = Running::start(config(), Script::default()).await;
    for service in ["", TOKENS] {
        let status = status_of(&server, service).await.expect("known");
        assert_eq!(status, ServingStatus::Serving, "{service:?}");
    }
}

/// One test per version of the protocol: their messages are different types.
macro_rules! lists_services {
    ($name:ident, $version:ident) => {
        #[tokio::test]
        async fn $name() {
            use tonic_reflection::pb::$version as reflection;
            use reflection::server_reflection_client::ServerReflectionClient;
            use reflection::server_reflection_request::MessageRequest;
            use reflection::server_reflection_response::MessageResponse;

            let server = Running::start(config(), Script::default()).await;
            let mut client = ServerReflectionClient::new(server.channel().await);
            let ask = |message_request| reflection::ServerReflectionRequest {
                host: String::new(),
                message_request: Some(message_request),
            };
            let requests = tokio_stream::iter([
                ask(MessageRequest::ListServices(String::new())),
                ask(MessageRequest::FileContainingSymbol(TOKENS.to_owned())),
            ]);
            let replies = soon(client.server_reflection_info(requests)).await.expect("served");
            let replies: Vec<_> = soon(replies.into_inner().collect::<Vec<_>>()).await;
            let mut replies = replies.into_iter().map(|reply| {
                reply.expect("an answer").message_response.expect("a message")
            });
            let Some(MessageResponse::ListServicesResponse(list)) = replies.next() else {
                panic!("no list of services");
            };
            let mut names: Vec<_> = list.service.into_iter().map(|one| one.name).collect();
            names.sort();
            assert_eq!(
                names,
                [
                    TOKENS,
                    "grpc.health.v1.Health",
                    "grpc.reflection.v1.ServerReflection",
                    "grpc.reflection.v1alpha.ServerReflection",
                ]
            );
            assert!(matches!(
                replies.next(),
                Some(MessageResponse::FileDescriptorResponse(files))
                    if !files.file_descriptor_proto.is_empty()
            ));
        }
    };
}

lists_services!(reflection_v1_lists_what_is_served, v1);
lists_services!(reflection_v1alpha_lists_what_is_served, v1alpha);

#[tokio::test]
async fn reflection_can_be_switched_off() {
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;

    let mut config = config();
    config.reflection = false;
    let server = Running::start(config, Script::default()).await;
    let mut client = ServerReflectionClient::new(server.channel().await);
    let status = soon(client.server_reflection_info(tokio_stream::empty())).await;
    assert_eq!(status.expect_err("off").code(), Code::Unimplemented);
}
