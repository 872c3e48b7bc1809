//! The client of the token service.

use std::collections::HashMap;
use std::time::Duration;

use forebay_grpc::client::{self, Channel};
use forebay_model::{Mint, TokenId};
use forebay_pooling::Deadline;
use forebay_proto::token::v1::BatchGetTokensRequest;
use forebay_proto::token::v1::token_service_client::TokenServiceClient;
use tonic::{Code, Status};

use super::ResolveError;

/// What a caller waits before a repetition.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Asks the token service which tokens mints belong to. Clones share one channel.
#[derive(Debug, Clone)]
pub struct MintResolver {
    tokens: TokenServiceClient<Channel>,
}

impl MintResolver {
    /// A resolver that asks over `channel`.
    pub fn new(channel: Channel) -> Self {
        Self { tokens: TokenServiceClient::new(channel) }
    }

    /// The ids of the tokens of `mints`; a mint of no token is absent.
    pub(crate) async fn resolve(
        &self,
        mints: &[Mint],
    ) -> Result<HashMap<Mint, TokenId>, ResolveError> {
        if mints.is_empty() {
            return Ok(HashMap::new());
        }
        let mints: Vec<String> = mints.iter().map(Mint::to_string).collect();
        let request = client::idempotent(BatchGetTokensRequest { ids: Vec::new(), mints });
        let reply = self.tokens.clone().batch_get_tokens(request).await.map_err(error)?;
        let ids = reply.into_inner().tokens.into_iter().map(|token| {
            match (token.mint.parse(), token.id.parse()) {
                (Ok(mint), Ok(id)) => Ok((mint, id)),
                (Err(_), _) | (_, Err(_)) => Err(ResolveError::Reply { mint: token.mint }),
            }
        });
        ids.collect()
    }
}

fn error(status: Status) -> ResolveError {
    match status.code() {
        Code::DeadlineExceeded | Code::Cancelled
            if Deadline::current().is_some_and(|deadline| deadline.has_passed()) =>
        {
            ResolveError::Deadline
        }
        // The time that ran out was ours, not the caller's: the peer is slow.
        Code::DeadlineExceeded
        | Code::Cancelled
        | Code::Unavailable
        | Code::ResourceExhausted
        | Code::Aborted => {
            ResolveError::Unavailable { retry_after: RETRY_AFTER, source: Box::new(status) }
        }
        Code::Ok
        | Code::Unknown
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Internal
        | Code::DataLoss
        | Code::Unauthenticated => ResolveError::Refused(Box::new(status)),
    }
}
