//! The token service over gRPC: requests in, replies and statuses out.

use forebay_grpc::error;
use forebay_grpc::fields::FieldViolations;
use forebay_grpc::{showed, wrote};
use forebay_idempotency::RequestKey;
use forebay_proto::token::v1 as pb;
use forebay_proto::token::v1_stored as stored;
use forebay_proto::token::v1_stored::token_service_server::{
    TokenService as Contract, TokenServiceServer,
};
use prost::Message;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::list::PAGE_BYTES_MAX;
use crate::{Error, StoreError, TokenService, validate};

/// The domain of every error of this service.
pub const DOMAIN: &str = "token.forebay";

/// The gRPC server of `service`.
pub fn server(service: TokenService) -> TokenServiceServer<TokenService> {
    // The server in front refuses messages over `grpc.request_bytes_max`. tonic's own limit of
    // 4 MiB would win over a larger one, and answer with another code.
    TokenServiceServer::new(service).max_decoding_message_size(usize::MAX)
}

#[tonic::async_trait]
impl Contract for TokenService {
    async fn get_token(
        &self,
        request: Request<pb::GetTokenRequest>,
    ) -> Result<Response<stored::GetTokenResponse>, Status> {
        let id = validate::get(request.get_ref()).map_err(invalid)?;
        let entry = self.get(id).await.map_err(status)?;
        let reply = stored::GetTokenResponse { token: entry.encoded.clone() };
        Ok(showed(reply, || entry.version))
    }

    async fn lookup_token(
        &self,
        request: Request<pb::LookupTokenRequest>,
    ) -> Result<Response<stored::LookupTokenResponse>, Status> {
        let mint = validate::lookup(request.get_ref()).map_err(invalid)?;
        let entry = self.lookup(mint).await.map_err(status)?;
        let reply = stored::LookupTokenResponse { token: entry.encoded.clone() };
        Ok(showed(reply, || entry.version))
    }

    async fn batch_get_tokens(
        &self,
        request: Request<pb::BatchGetTokensRequest>,
    ) -> Result<Response<stored::BatchGetTokensResponse>, Status> {
        let request = request.into_inner();
        let batch = validate::batch(&request).map_err(invalid)?;
        let found = self.batch(&batch).await.map_err(status)?;
        let mut reply = stored::BatchGetTokensResponse::default();
        let mut newest = 0;
        for (key, token) in request.ids.into_iter().chain(request.mints).zip(found) {
            match token {
                Some(token) => {
                    newest = newest.max(token.version);
                    reply.tokens.push(token.encoded);
                }
                None => reply.missing.push(key),
            }
        }
        Ok(showed(reply, || newest))
    }

    async fn list_tokens(
        &self,
        request: Request<pb::ListTokensRequest>,
    ) -> Result<Response<stored::ListTokensResponse>, Status> {
        let (tokens, next_page_token) = self.list(request.into_inner()).await.map_err(status)?;
        let shown = tokens.clone();
        let reply = stored::ListTokensResponse { tokens, next_page_token };
        // The rows of a page are not decoded to be sent, so this is done for who asks for it.
        let version = |row| pb::Token::decode(row).map_or(0, |token| token.version);
        Ok(showed(reply, || shown.into_iter().map(version).max().unwrap_or(0)))
    }

    async fn create_token(
        &self,
        request: Request<pb::CreateTokenRequest>,
    ) -> Result<Response<pb::CreateTokenResponse>, Status> {
        let request = request.into_inner();
        let unnamed = pb::CreateTokenRequest { request_id: String::new(), ..request.clone() };
        let creation = validate::create(request).map_err(invalid)?;
        let key =
            request_key("forebay.token.v1.TokenService/CreateToken", creation.request_id, &unnamed);
        let token = self.create(&creation, key.as_ref()).await.map_err(status)?;
        let version = token.version;
        Ok(wrote(pb::CreateTokenResponse { token: Some(token) }, version))
    }

    async fn update_token(
        &self,
        request: Request<pb::UpdateTokenRequest>,
    ) -> Result<Response<pb::UpdateTokenResponse>, Status> {
        let request = request.into_inner();
        let unnamed = pb::UpdateTokenRequest { request_id: String::new(), ..request.clone() };
        let update = validate::update(request).map_err(invalid)?;
        let key =
            request_key("forebay.token.v1.TokenService/UpdateToken", update.request_id, &unnamed);
        let token = self.update(&update, key.as_ref()).await.map_err(status)?;
        let version = token.version;
        Ok(wrote(pb::UpdateTokenResponse { token: Some(token) }, version))
    }

    async fn delete_token(
        &self,
        request: Request<pb::DeleteTokenRequest>,
    ) -> Result<Response<pb::DeleteTokenResponse>, Status> {
        let request = request.into_inner();
        let deletion = validate::delete(&request).map_err(invalid)?;
        let unnamed = pb::DeleteTokenRequest { request_id: String::new(), ..request };
        let key =
            request_key("forebay.token.v1.TokenService/DeleteToken", deletion.request_id, &unnamed);
        let tombstone = self.delete(&deletion, key.as_ref()).await.map_err(status)?;
        Ok(wrote(pb::DeleteTokenResponse {}, tombstone))
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
        Error::NotFound { name } => error::not_found(DOMAIN, "TOKEN_NOT_FOUND", "token", name),
        Error::MintTaken { mint } => {
            error::already_exists(DOMAIN, "MINT_TAKEN", "token", mint.to_string())
        }
        Error::InUse { id } => error::failed_precondition(
            DOMAIN,
            "TOKEN_IN_USE",
            format!("tokens/{id}"),
            "the token is used by a liquidity pool, delete that first",
        ),
        Error::EtagStale { .. } => error::aborted(
            DOMAIN,
            "ETAG_STALE",
            "the token changed since it was read, read it again",
        ),
        Error::MintImmutable { .. } => bad_field("token.mint", "is another one and cannot change"),
        Error::BatchTooLarge { bytes } => error::resource_exhausted(
            DOMAIN,
            "REPLY_TOO_LARGE",
            "forebay.token.v1.TokenService/BatchGetTokens",
            format!(
                "the tokens have {bytes} bytes, a reply {PAGE_BYTES_MAX} at most: ask for fewer"
            ),
            None,
        ),
        Error::RequestIdReused => bad_field("request_id", "was used for another request"),
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
        Error::RequestLog(cause) => error::postgres_status(DOMAIN, "token", &cause, &cause),
        Error::OutcomeUnknown { is_repeatable, source } => {
            error::outcome_unknown(DOMAIN, is_repeatable, &source)
        }
        error @ (Error::LoaderPanicked | Error::KeptReply(_) | Error::CommitTask(_)) => {
            error::unexpected(DOMAIN, &error)
        }
    }
}

fn bad_field(field: &str, description: &str) -> Status {
    let mut bad = FieldViolations::default();
    bad.add(field, description);
    bad.into_status(DOMAIN)
}

fn store_status(error: &StoreError) -> Status {
    match error {
        StoreError::Query { source, .. } => error::postgres_status(DOMAIN, "token", source, error),
        StoreError::Column { .. } | StoreError::Corrupt { .. } => error::unexpected(DOMAIN, error),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tonic::Code;
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
