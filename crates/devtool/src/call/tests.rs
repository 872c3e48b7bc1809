//! Calls to a real server in this process that knows its schema by reflection only.

use std::collections::HashMap;
use std::ffi::OsString;
use std::future::pending;
use std::time::Duration;

use forebay_proto::ops::v1::ops_service_server::{OpsService, OpsServiceServer};
use forebay_proto::ops::v1::{
    CacheLevelEntry, ClearCacheRequest, ClearCacheResponse, EvictCacheEntryRequest,
    EvictCacheEntryResponse, GetCacheStatsRequest, GetCacheStatsResponse,
    GetConnectionPoolsRequest, GetConnectionPoolsResponse, GetEffectiveConfigRequest,
    GetEffectiveConfigResponse, GetLogLevelRequest, GetLogLevelResponse, InspectCacheEntryRequest,
    InspectCacheEntryResponse, SetConnectionPoolLimitsRequest, SetConnectionPoolLimitsResponse,
    SetLogLevelRequest, SetLogLevelResponse,
};
use forebay_provision::proc_table::Identity;
use prost::Message as _;
use prost_types::Any;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::service::interceptor::InterceptedService;
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::arguments::{self, Arguments};
use super::invoke::{self, Answer, Caller};
use super::reflection::Server;
use super::{failure, find_method, list, methods, servers, serving};
use crate::state::State;
use crate::workspace::Workspace;

const OPS: &str = "forebay.ops.v1.OpsService";

#[derive(Debug)]
struct Scripted;

#[tonic::async_trait]
impl OpsService for Scripted {
    /// Never answers.
    async fn get_connection_pools(
        &self,
        _: Request<GetConnectionPoolsRequest>,
    ) -> Result<Response<GetConnectionPoolsResponse>, Status> {
        pending().await
    }

    async fn set_connection_pool_limits(
        &self,
        _: Request<SetConnectionPoolLimitsRequest>,
    ) -> Result<Response<SetConnectionPoolLimitsResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn get_effective_config(
        &self,
        _: Request<GetEffectiveConfigRequest>,
    ) -> Result<Response<GetEffectiveConfigResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn get_cache_stats(
        &self,
        _: Request<GetCacheStatsRequest>,
    ) -> Result<Response<GetCacheStatsResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn clear_cache(
        &self,
        _: Request<ClearCacheRequest>,
    ) -> Result<Response<ClearCacheResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn inspect_cache_entry(
        &self,
        request: Request<InspectCacheEntryRequest>,
    ) -> Result<Response<InspectCacheEntryResponse>, Status> {
        let entry = request.into_inner().entry.unwrap_or_default();
        let level = CacheLevelEntry {
            version: 9_007_199_254_740_993,
            size_bytes: u64::try_from(entry.key.len()).unwrap(),
            age: Some(prost_types::Duration { seconds: 1, nanos: 500_000_000 }),
            ..CacheLevelEntry::default()
        };
        Ok(Response::new(InspectCacheEntryResponse { l1: Some(level), ..Default::default() }))
    }

    async fn evict_cache_entry(
        &self,
        _: Request<EvictCacheEntryRequest>,
    ) -> Result<Response<EvictCacheEntryResponse>, Status> {
        Ok(Response::new(EvictCacheEntryResponse {}))
    }

    /// Answers with the headers it got.
    async fn get_log_level(
        &self,
        request: Request<GetLogLevelRequest>,
    ) -> Result<Response<GetLogLevelResponse>, Status> {
        let header = |name: &str| {
            let value = request.metadata().get(name).and_then(|value| value.to_str().ok());
            value.unwrap_or("none").to_owned()
        };
        let filter = ["traceparent", "grpc-timeout", "x-request-id"].map(header).join(" ");
        Ok(Response::new(GetLogLevelResponse { filter }))
    }

    /// Fails with three details that everybody knows and one that nobody knows.
    async fn set_log_level(
        &self,
        _: Request<SetLogLevelRequest>,
    ) -> Result<Response<SetLogLevelResponse>, Status> {
        let mut known = ErrorDetails::with_error_info("BAD_FILTER", "ops", HashMap::new());
        known.add_bad_request_violation("filter", "is no filter");
        known.set_retry_info(Some(Duration::from_millis(1_500)));
        let status = Status::with_error_details(Code::InvalidArgument, "bad filter", known);
        let mut wire = tonic_types::pb::Status::decode(status.details()).unwrap();
        wire.details.push(Any { type_url: "example.org/x.Unknown".to_owned(), value: vec![1, 2] });
        Err(Status::with_details(status.code(), "bad filter", wire.encode_to_vec().into()))
    }
}

/// The address of a scripted server with reflection.
async fn serve() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(forebay_proto::FILE_DESCRIPTOR_SET)
        .build_v1()
        .unwrap();
    // Who asks for the schema must not ask for a trace of it.
    let unrecorded = |request: Request<()>| {
        let traceparent = request.metadata().get("traceparent");
        match traceparent.and_then(|value| value.to_str().ok()) {
            Some(value) if value.ends_with("-00") => Ok(request),
            other => Err(Status::internal(format!("recorded: {other:?}"))),
        }
    };
    let serving = tonic::transport::Server::builder()
        .add_service(InterceptedService::new(reflection, unrecorded))
        .add_service(OpsServiceServer::new(Scripted))
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(serving);
    address
}

fn parse(args: &[&str]) -> anyhow::Result<Arguments> {
    let parsed = arguments::parse(args.iter().map(OsString::from).collect())?;
    Ok(parsed.expect("the arguments do not ask for help"))
}

/// What a call prints, or the failure it was answered with.
async fn call(method: &str, args: &[&str]) -> anyhow::Result<Result<String, Status>> {
    let address = serve().await;
    let server = Server::connect("ops", &address).await?;
    let symbol = format!("{OPS}/{method}");
    let arguments = parse(&[&[symbol.as_str()], args].concat())?;
    let described = server.describe(OPS).await?;
    let method = find_method(&described, method)?;
    let caller = Caller { trace: "ab".repeat(16), span: "cd".repeat(8) };
    let mut printed = String::new();
    let show = |reply: &str| {
        printed.push_str(reply);
        Ok(())
    };
    Ok(match invoke::call(&server, &method, &arguments, &caller, show).await? {
        Answer::Replied => Ok(printed),
        Answer::Failed(status) => Err(*status),
    })
}

#[tokio::test]
async fn json_goes_in_and_comes_out() {
    let request = r#"{"entry": {"entity": "token", "key": "abc"}}"#;
    let reply = call("InspectCacheEntry", &[request]).await.unwrap().unwrap();
    let reply: serde_json::Value = serde_json::from_str(&reply).unwrap();
    // The canonical mapping: 64-bit integers are strings, durations are seconds; names are ours.
    assert_eq!(reply["l1"]["version"], "9007199254740993");
    assert_eq!(reply["l1"]["size_bytes"], "3");
    assert_eq!(reply["l1"]["age"], "1.500s");
    assert_eq!(call("EvictCacheEntry", &[]).await.unwrap().unwrap(), "{}\n");
}

#[tokio::test]
async fn a_request_that_does_not_fit_is_named_before_it_is_sent() {
    let cases = [
        (r#"{"kye": {}}"#, "kye"),
        (r#"{"entry": 1}"#, "forebay.ops.v1.InspectCacheEntryRequest"),
        (r#"{} {}"#, "trailing"),
        ("{", "EOF"),
    ];
    for (request, expected) in cases {
        let error = call("InspectCacheEntry", &[request]).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{request}: {error}");
    }
    let missing = call("Nothing", &[]).await.unwrap_err().to_string();
    assert!(missing.contains("has no method Nothing") && missing.contains("/GetLogLevel("));
}

#[tokio::test]
async fn headers_deadline_and_trace_are_sent() {
    let args = ["-H", "X-Request-Id: r1", "--timeout", "5s"];
    let reply = call("GetLogLevel", &args).await.unwrap().unwrap();
    let traceparent = format!("00-{}-{}-01", "ab".repeat(16), "cd".repeat(8));
    assert!(reply.contains(&format!("{traceparent} 5000000u r1")), "{reply}");
    let caller = Caller::random();
    assert_eq!((caller.trace.len(), caller.span.len()), (32, 16));
    assert_ne!(caller.trace, Caller::random().trace);
}

#[tokio::test]
async fn a_failure_is_told_with_all_its_details() {
    let status = call("SetLogLevel", &[]).await.unwrap().unwrap_err();
    let expected = [
        "INVALID_ARGUMENT: bad filter",
        "  RetryInfo {\"retryDelay\":\"1.500s\"}",
        "  ErrorInfo {\"reason\":\"BAD_FILTER\",\"domain\":\"ops\"}",
        "  BadRequest {\"fieldViolations\":[{\"field\":\"filter\",\"description\":\"is no filter\"}]}",
        "  Unknown AQI= (not decoded)",
    ];
    let described = failure::describe(&status);
    assert_eq!(described.lines().collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn a_server_that_never_answers_does_not_hold_the_caller() {
    let status = call("GetConnectionPools", &["--timeout", "50ms"]).await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn services_and_methods_are_listed() {
    let address = serve().await;
    let servers = [Server::connect("ops", &address).await.unwrap()];
    let listed = list(&servers);
    assert!(listed.contains(&format!("{OPS}  ")) && listed.contains(&address), "{listed}");
    assert!(serving(&servers, OPS).is_ok());
    let missing = serving(&servers, "no.Such").unwrap_err().to_string();
    assert!(missing.contains("nothing serves no.Such") && missing.contains(OPS), "{missing}");
    let described = servers[0].describe(OPS).await.unwrap();
    let line = "forebay.ops.v1.OpsService/SetLogLevel(forebay.ops.v1.SetLogLevelRequest) \
                returns (forebay.ops.v1.SetLogLevelResponse)";
    assert!(methods(&described).lines().any(|method| method == line));
    // Reflection itself streams requests, which one JSON text cannot be.
    let reflection = servers[0].describe("grpc.reflection.v1.ServerReflection").await.unwrap();
    let refused = find_method(&reflection, "ServerReflectionInfo").unwrap_err().to_string();
    assert!(refused.contains("takes a stream of requests"), "{refused}");
}

#[tokio::test]
async fn the_services_of_a_running_instance_are_found() {
    let root = tempfile::tempdir().unwrap();
    let workspace = Workspace { root: root.path().to_path_buf() };
    let arguments = parse(&["--instance", "here"]).unwrap();
    let nothing = servers(&arguments, &workspace).await.unwrap_err().to_string();
    assert!(nothing.contains("instance here is not running"), "{nothing}");

    let instance = workspace.instance(Some("here")).unwrap();
    instance.create().unwrap();
    let mut state = State::new(&instance, Identity::own());
    state.services[1].grpc = Some(serve().await);
    state.save(&instance.state_file()).unwrap();
    let found = servers(&arguments, &workspace).await.unwrap();
    let names: Vec<_> = found.iter().map(|server| server.name.as_str()).collect();
    assert_eq!(names, [state.services[1].name.as_str()]);
    assert!(serving(&found, OPS).is_ok());
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let error = format!("{:#}", Server::connect("ops", &address).await.unwrap_err());
    assert!(error.starts_with(&format!("connect to {address}")), "{error}");
}

#[test]
fn arguments_are_read() {
    let parsed =
        parse(&["/a.B/C", "{}", "-HX-A: b:c", "--timeout=250ms", "--addr", "h:1"]).unwrap();
    assert_eq!(parsed.service.as_deref(), Some("a.B"));
    assert_eq!(parsed.method.as_deref(), Some("C"));
    assert_eq!(parsed.headers, [("x-a".to_owned(), "b:c".to_owned())]);
    assert_eq!(parsed.timeout, Duration::from_millis(250));
    let timeouts = [("10", 10_000), ("10s", 10_000), ("2m", 120_000), ("0ms", 0)];
    for (text, millis) in timeouts {
        let parsed = parse(&["--timeout", text]).unwrap();
        assert_eq!(parsed.timeout, Duration::from_millis(millis), "{text}");
    }
    for wrong in [
        vec!["--timeout", "1h"],
        vec!["--timeout", "-1s"],
        vec!["--timeout", "99999999999999999999s"],
        vec!["-H", "novalue"],
        vec!["a.B/C", "{}", "extra"],
        vec!["--unknown"],
    ] {
        assert!(parse(&wrong).is_err(), "{wrong:?}");
    }
    assert!(arguments::parse(vec![OsString::from("--help")]).unwrap().is_none());
}
