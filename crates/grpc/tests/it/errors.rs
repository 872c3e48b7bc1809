//! Every error that leaves a server carries details, whoever made it.

use forebay_proto::token::v1::{
    GetTokenRequest, GetTokenResponse, ListTokensRequest, LookupTokenRequest,
};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use crate::harness::{DOMAIN, Running, Script, config, get, soon};

/// What a caller decodes from a status.
fn check(status: &Status, code: Code, reason: &str, domain: &str) {
    assert_eq!(status.code(), code, "{status:?}");
    let info = status.get_details_error_info().expect("every error has ErrorInfo");
    assert_eq!((info.reason.as_str(), info.domain.as_str()), (reason, domain), "{status:?}");
    assert!(!status.message().is_empty(), "{status:?}");
}

/// Fails when the layer that completes a status is removed: the bare error of
/// a handler and tonic's own UNIMPLEMENTED have no details by themselves.
#[tokio::test]
async fn errors_of_handlers_are_complete() {
    let server = Running::start(config(), Script::default()).await;
    let mut client = server.client().await;
    for (id, code, reason) in [
        ("not_found", Code::NotFound, "TOKEN_NOT_FOUND"),
        ("bare", Code::NotFound, "NOT_FOUND"),
        ("internal", Code::Internal, "INTERNAL"),
        ("panic", Code::Internal, "INTERNAL"),
    ] {
        let status = soon(client.get_token(get(id))).await.expect_err(id);
        check(&status, code, reason, DOMAIN);
        assert!(!format!("{status:?}").contains("secret"), "{status:?}");
        let headers = status.metadata();
        assert!(headers.get("x-request-id").is_some(), "{id}");
    }
    // Served by the handler's default, whose message is empty.
    let status = client.list_tokens(ListTokensRequest::default()).await.expect_err("unused");
    check(&status, Code::Unimplemented, "UNIMPLEMENTED", DOMAIN);
    // The process and the connection live on.
    client.get_token(get("seen")).await.expect("it lives");
    client.lookup_token(LookupTokenRequest::default()).await.expect_err("unused");
}

#[tokio::test]
async fn unknown_methods_are_unimplemented() {
    let server = Running::start(config(), Script::default()).await;
    for (path, domain) in [
        ("/forebay.token.v1.TokenService/NoSuch", DOMAIN),
        ("/forebay.nosuch.v1.NoSuchService/Get", "grpc.forebay"),
        ("/", "grpc.forebay"),
    ] {
        let mut grpc = tonic::client::Grpc::new(server.channel().await);
        grpc.ready().await.expect("connected");
        let codec = tonic_prost::ProstCodec::<GetTokenRequest, GetTokenResponse>::default();
        let path = http::uri::PathAndQuery::from_static(path);
        let reply = soon(grpc.unary(Request::new(get("seen")), path, codec)).await;
        check(&reply.expect_err("unknown"), Code::Unimplemented, "UNIMPLEMENTED", domain);
    }
}

/// Fails when the request body is not watched: tonic alone answers
/// OUT_OF_RANGE, and takes any size up to its own limit. The last limit is
/// above tonic's own, which the generated server must not have.
#[tokio::test]
async fn a_message_over_the_limit_is_refused() {
    for limit in [1000, 64 * 1024, 4 * 1024 * 1024, 6 * 1024 * 1024] {
        let mut config = config();
        config.request_bytes_max = limit;
        let server = Running::start(config, Script::default()).await;
        let mut client = server.client().await;
        // A few bytes of the message are not the id.
        soon(client.get_token(get(&"x".repeat(limit - 8)))).await.expect("not too large");
        let status = soon(client.get_token(get(&"x".repeat(limit + 1)))).await;
        let status = status.expect_err("too large");
        check(&status, Code::ResourceExhausted, "REQUEST_TOO_LARGE", DOMAIN);
        let quota = status.get_details_quota_failure().expect("QuotaFailure");
        assert!(quota.violations[0].description.contains(&limit.to_string()), "{quota:?}");
        client.get_token(get("seen")).await.expect("it lives");
    }
}

#[tokio::test]
async fn a_malformed_timeout_is_named() {
    let server = Running::start(config(), Script::default()).await;
    let mut request = Request::new(get("seen"));
    request.metadata_mut().insert("grpc-timeout", "soon".parse().expect("a value"));
    let status = soon(server.client().await.get_token(request)).await.expect_err("malformed");
    check(&status, Code::InvalidArgument, "BAD_GRPC_TIMEOUT", DOMAIN);
}

#[tokio::test]
async fn a_taken_address_is_named() {
    let server = Running::start(config(), Script::default()).await;
    let mut taken = config();
    taken.listen = server.address;
    let error = forebay_grpc::Server::new(&taken, "second").bind().await.expect_err("taken");
    assert_eq!(error.to_string(), format!("listen for gRPC on {}", server.address));
    let source = std::error::Error::source(&error).expect("the cause");
    assert!(source.to_string().contains("in use"), "{source}");
}
