//! Servers that refuse: what a healthy Postgres does not do on demand.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// A server on a port of its own; it ends with this value.
pub(crate) struct FakeServer {
    pub(crate) address: SocketAddr,
    task: JoinHandle<()>,
}

/// What it does with everyone who connects.
#[derive(Clone, Copy)]
pub(crate) enum Manners {
    /// Says nothing at all.
    Silent,
    /// Reads the start of the conversation and hangs up.
    HangsUp,
    /// Answers with a fatal error of this SQLSTATE.
    Refuses(&'static str),
    /// Encrypts with a certificate for `localhost`, then refuses the password.
    Encrypts,
}

impl FakeServer {
    pub(crate) async fn start(manners: Manners) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let task = tokio::spawn(async move {
            let tls = acceptor();
            let mut silenced = Vec::new();
            loop {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                match manners {
                    Manners::Silent => silenced.push(stream),
                    Manners::HangsUp => read_startup(&mut stream).await,
                    Manners::Refuses(sqlstate) => refuse(stream, sqlstate).await,
                    Manners::Encrypts => {
                        read_startup(&mut stream).await;
                        stream.write_all(b"S").await.expect("an answer");
                        // A client that does not trust us ends the handshake.
                        if let Ok(stream) = tls.accept(stream).await {
                            refuse(stream, "28P01").await;
                        }
                    }
                }
            }
        });
        Self { address, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://user:secret@{}/database", self.address)
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn read_startup(stream: &mut (impl AsyncRead + Unpin)) {
    let length = stream.read_u32().await.expect("a length");
    let mut rest = vec![0; usize::try_from(length).expect("small") - 4];
    stream.read_exact(&mut rest).await.expect("a start-up message");
}

/// Message "ErrorResponse" of the protocol, PostgreSQL manual, "Message Formats".
async fn refuse(mut stream: impl AsyncRead + AsyncWrite + Unpin, sqlstate: &str) {
    read_startup(&mut stream).await;
    let mut fields = BytesMut::new();
    for (kind, text) in [(b'S', "FATAL"), (b'V', "FATAL"), (b'C', sqlstate), (b'M', "no")] {
        fields.put_u8(kind);
        fields.put_slice(text.as_bytes());
        fields.put_u8(0);
    }
    fields.put_u8(0);
    let mut message = BytesMut::new();
    message.put_u8(b'E');
    message.put_u32(u32::try_from(fields.len()).expect("small") + 4);
    message.put_slice(&fields);
    stream.write_all(&message).await.expect("an answer");
    stream.flush().await.expect("an answer");
}

fn acceptor() -> TlsAcceptor {
    let chain = CertificateDer::pem_slice_iter(include_bytes!("tls/server.pem"));
    let chain = chain.collect::<Result<_, _>>().expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("tls/server.key")).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("protocol versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a certificate that fits its key");
    TlsAcceptor::from(Arc::new(config))
}
