//! The pool service over gRPC: requests in, replies and statuses out.

use forebay_grpc::error::{self, PreconditionViolation, Problem};
use forebay_grpc::fields::FieldViolations;
use forebay_grpc::{showed, wrote};
use forebay_idempotency::RequestKey;
use forebay_model::Mint;
use forebay_proto::pool::v1 as pb;
use forebay_proto::pool::v1_stored as stored;
use forebay_proto::pool::v1_stored::pool_service_server::{
    PoolService as Contract, PoolServiceServer,
};
use prost::Message;
use tonic::{Code, Request, Response, Status};
use uuid::Uuid;

use crate::{Error, PoolService, ResolveError, StoreError, validate};

/// The domain of every error of this service.
pub const DOMAIN: &str = "pool.forebay";

/// The gRPC server of `service`.
pub fn server(service: PoolService) -> PoolServiceServer<PoolService> {
    // The server in front refuses messages over `grpc.request_bytes_max`. tonic's own limit of
    // 4 MiB would win over a larger one, and answer with another code.
    PoolServiceServer::new(service).max_decoding_message_size(usize::MAX)
}

#[tonic::async_trait]
impl Contract for PoolService {
    async fn get_pool(
        &self,
        request: Request<pb::GetPoolRequest>,
    ) -> Result<Response<stored::GetPoolResponse>, Status> {
        let id = validate::get(request.get_ref()).map_err(invalid)?;
        let entry = self.get(id).await.map_err(status)?;
        let reply = stored::GetPoolResponse { pool: entry.encoded.clone() };
        Ok(showed(reply, || entry.version))
    }

    async fn lookup_pool(
        &self,
        request: Request<pb::LookupPoolRequest>,
    ) -> Result<Response<stored::LookupPoolResponse>, Status> {
        let address = validate::lookup(request.get_ref()).map_err(invalid)?;
        let entry = self.lookup(address).await.map_err(status)?;
        let reply = stored::LookupPoolResponse { pool: entry.encoded.clone() };
        Ok(showed(reply, || entry.version))
    }

    async fn batch_get_pools(
        &self,
        request: Request<pb::BatchGetPoolsRequest>,
    ) -> Result<Response<stored::BatchGetPoolsResponse>, Status> {
        let request = request.into_inner();
        let batch = validate::batch(&request).map_err(invalid)?;
        let found = self.batch(&batch).await.map_err(status)?;
        let mut reply = stored::BatchGetPoolsResponse::default();
        let mut newest = 0;
        for (key, pool) in request.ids.into_iter().chain(request.pool_addresses).zip(found) {
            match pool {
                Some(pool) => {
                    newest = newest.max(pool.version);
                    reply.pools.push(pool.encoded);
                }
                None => reply.missing.push(key),
            }
        }
        Ok(showed(reply, || newest))
    }

    async fn list_pools(
        &self,
        request: Request<pb::ListPoolsRequest>,
    ) -> Result<Response<stored::ListPoolsResponse>, Status> {
        let (pools, next_page_token) = self.list(request.into_inner()).await.map_err(status)?;
        let shown = pools.clone();
        let reply = stored::ListPoolsResponse { pools, next_page_token };
        // The rows of a page are not decoded to be sent, so this is done for who asks for it.
        let version = |row| pb::Pool::decode(row).map_or(0, |pool| pool.version);
        Ok(showed(reply, || shown.into_iter().map(version).max().unwrap_or(0)))
    }

    async fn create_pool(
        &self,
        request: Request<pb::CreatePoolRequest>,
    ) -> Result<Response<pb::CreatePoolResponse>, Status> {
        let request = request.into_inner();
        let unnamed = pb::CreatePoolRequest { request_id: String::new(), ..request.clone() };
        let creation = validate::create(request).map_err(invalid)?;
        let key =
            request_key("forebay.pool.v1.PoolService/CreatePool", creation.request_id, &unnamed);
        let pool = self.create(&creation, key.as_ref()).await.map_err(status)?;
        let version = pool.version;
        Ok(wrote(pb::CreatePoolResponse { pool: Some(pool) }, version))
    }

    async fn update_pool(
        &self,
        request: Request<pb::UpdatePoolRequest>,
    ) -> Result<Response<pb::UpdatePoolResponse>, Status> {
        let request = request.into_inner();
        let unnamed = pb::UpdatePoolRequest { request_id: String::new(), ..request.clone() };
        let update = validate::update(request).map_err(invalid)?;
        let key =
            request_key("forebay.pool.v1.PoolService/UpdatePool", update.request_id, &unnamed);
        let pool = self.update(&update, key.as_ref()).await.map_err(status)?;
        let version = pool.version;
        Ok(wrote(pb::UpdatePoolResponse { pool: Some(pool) }, version))
    }

    async fn delete_pool(
        &self,
        request: Request<pb::DeletePoolRequest>,
    ) -> Result<Response<pb::DeletePoolResponse>, Status> {
        let request = request.into_inner();
        let deletion = validate::delete(&request).map_err(invalid)?;
        let unnamed = pb::DeletePoolRequest { request_id: String::new(), ..request };
        let key =
            request_key("forebay.pool.v1.PoolService/DeletePool", deletion.request_id, &unnamed);
        let tombstone = self.delete(&deletion, key.as_ref()).await.map_err(status)?;
        Ok(wrote(pb::DeletePoolResponse {}, tombstone))
    }
}

/// What makes a write repeatable: its method, the caller's id, and what was asked.
fn request_key(
    method: &'static str,
    request_id: Option<Uuid>,
    unnamed: &impl Message,
) -> Option<RequestKey> {
    request_id.map(|id| RequestKey::new(method, id, &unnamed.encode_to_vec()))
}

fn invalid(violations: FieldViolations) -> Status {
    status(Error::Invalid(violations))
}

/// The status of an error.
fn status(error: Error) -> Status {
    match error {
        Error::Invalid(violations) => violations.into_status(DOMAIN),
        Error::NotFound { name } => error::not_found(DOMAIN, "POOL_NOT_FOUND", "pool", name),
        Error::AddressTaken { address } => {
            error::already_exists(DOMAIN, "ADDRESS_TAKEN", "pool", address.to_string())
        }
        Error::UnknownMints { mints } => unknown_mints(&mints),
        Error::EtagStale { .. } => error::aborted(
            DOMAIN,
            "ETAG_STALE",
            "the pool changed since it was read, read it again",
        ),
        Error::Immutable { fields, .. } => bad_fields(&fields, "is another one and cannot change"),
        Error::Resolve(cause) => resolve_status(&cause),
        Error::RequestIdReused => bad_fields(&["request_id"], "was used for another request"),
        Error::Deadline => error::deadline_exceeded(DOMAIN),
        Error::Overloaded { waiting_keys, retry_after } => {
            tracing::warn!(waiting_keys, "the store is slower than it is asked");
            error::unavailable(DOMAIN, "STORE_OVERLOADED", retry_after)
        }
        Error::Behind { known, found } => {
            tracing::warn!(known, found, "the store is behind what it has committed");
            error::unavailable(DOMAIN, "STORE_BEHIND", error::RETRY_AFTER)
        }
        Error::UnknownVersion { version, newest } => error::failed_precondition(
            DOMAIN,
            "MIN_VERSION_UNKNOWN",
            "x-forebay-min-version",
            format!(
                "{version} was never given out, {newest} is the newest: forget it and read again"
            ),
        ),
        Error::Load(cause) => store_status(&cause),
        Error::Store(cause) => store_status(&cause),
        Error::RequestLog(cause) => error::postgres_status(DOMAIN, "pool", &cause, &cause),
        Error::OutcomeUnknown { is_repeatable, source } => {
            error::outcome_unknown(DOMAIN, is_repeatable, &source)
        }
        error @ (Error::LoaderPanicked | Error::KeptReply(_) | Error::CommitTask(_)) => {
            error::unexpected(DOMAIN, &error)
        }
    }
}

fn bad_fields(fields: &[&str], description: &str) -> Status {
    let mut bad = FieldViolations::default();
    for field in fields {
        bad.add(*field, description);
    }
    bad.into_status(DOMAIN)
}

fn unknown_mints(mints: &[(&'static str, Mint)]) -> Status {
    let violations = mints.iter().map(|(field, mint)| {
        let description = format!("{field} is the mint of no token, create the token first");
        PreconditionViolation::new("TOKEN_UNKNOWN", format!("tokens/{mint}"), description)
    });
    let fields: Vec<&str> = mints.iter().map(|(field, _)| *field).collect();
    Problem::new(Code::FailedPrecondition, DOMAIN, "TOKEN_UNKNOWN")
        .message(format!("no token has the mint in {}", fields.join(" and ")))
        .preconditions(violations.collect())
        .into_status()
}

fn resolve_status(error: &ResolveError) -> Status {
    match error {
        ResolveError::Unavailable { retry_after, .. } => {
            tracing::warn!(error = error::chain(error), "the token service is unavailable");
            error::unavailable(DOMAIN, "TOKEN_SERVICE_UNAVAILABLE", *retry_after)
        }
        ResolveError::Deadline => error::deadline_exceeded(DOMAIN),
        ResolveError::Refused(_) | ResolveError::Reply { .. } => error::unexpected(DOMAIN, error),
    }
}

fn store_status(error: &StoreError) -> Status {
    match error {
        StoreError::Query { source, .. } => error::postgres_status(DOMAIN, "pool", source, error),
        StoreError::Column { .. } | StoreError::Corrupt { .. } => error::unexpected(DOMAIN, error),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tonic_types::StatusExt as _;

    use super::*;

    /// Fails when an overload is answered like a fault, or without a time to come back.
    #[test]
    fn an_overload_says_when_to_come_back() {
        let retry_after = Duration::from_millis(120);
        let status = status(Error::Overloaded { waiting_keys: 9000, retry_after });
        assert_eq!(status.code(), Code::Unavailable);
        let details = status.get_error_details();
        let reason = details.error_info().expect("a reason").reason.clone();
        assert_eq!(reason, "STORE_OVERLOADED");
        let pause = details.retry_info().expect("a pause").retry_delay;
        assert_eq!(pause, Some(retry_after));
    }
}
