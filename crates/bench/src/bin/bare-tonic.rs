//! The peer of the `grpc` bench: tonic with nothing around it.
//!
//! It answers every GetToken with one message that it was given at the start, so both
//! sides send the same bytes.

use std::net::SocketAddr;

use anyhow::Context as _;
use forebay_proto::token::v1 as pb;
use forebay_proto::token::v1::token_service_server::{TokenService, TokenServiceServer};
use prost::Message as _;
use tonic::{Request, Response, Status};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let listen: SocketAddr = std::env::var("LISTEN").context("LISTEN")?.parse()?;
    let reply = std::env::var("REPLY_FILE").context("REPLY_FILE")?;
    let reply = pb::GetTokenResponse::decode(std::fs::read(reply)?.as_slice())?;
    tonic::transport::Server::builder()
        .tcp_nodelay(true)
        .add_service(TokenServiceServer::new(Constant { reply }))
        .serve(listen)
        .await?;
    Ok(())
}

struct Constant {
    reply: pb::GetTokenResponse,
}

#[tonic::async_trait]
impl TokenService for Constant {
    async fn get_token(
        &self,
        _request: Request<pb::GetTokenRequest>,
    ) -> Result<Response<pb::GetTokenResponse>, Status> {
        Ok(Response::new(self.reply.clone()))
    }

    async fn lookup_token(
        &self,
        _request: Request<pb::LookupTokenRequest>,
    ) -> Result<Response<pb::LookupTokenResponse>, Status> {
        Err(not_measured())
    }

    async fn batch_get_tokens(
        &self,
        _request: Request<pb::BatchGetTokensRequest>,
    ) -> Result<Response<pb::BatchGetTokensResponse>, Status> {
        Err(not_measured())
    }

    async fn list_tokens(
        &self,
        _request: Request<pb::ListTokensRequest>,
    ) -> Result<Response<pb::ListTokensResponse>, Status> {
        Err(not_measured())
    }

    async fn create_token(
        &self,
        _request: Request<pb::CreateTokenRequest>,
    ) -> Result<Response<pb::CreateTokenResponse>, Status> {
        Err(not_measured())
    }

    async fn update_token(
        &self,
        _request: Request<pb::UpdateTokenRequest>,
    ) -> Result<Response<pb::UpdateTokenResponse>, Status> {
        Err(not_measured())
    }

    async fn delete_token(
        &self,
        _request: Request<pb::DeleteTokenRequest>,
    ) -> Result<Response<pb::DeleteTokenResponse>, Status> {
        Err(not_measured())
    }
}

fn not_measured() -> Status {
    Status::unimplemented("this peer answers GetToken only")
}
