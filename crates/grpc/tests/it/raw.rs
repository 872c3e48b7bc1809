//! HTTP/2 by hand, for what a well-behaved client never sends.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{HELLO, soon};

/// Types of frames (RFC 9113, section 6).
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
/// Flags: END_HEADERS of HEADERS, ACK of PING.
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;
/// The error code with which a client cancels a call.
const CANCEL: u32 = 8;

/// What a server said that matters to a test.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// It answered a ping.
    Pong,
    /// It ended the connection.
    GoAway,
}

/// A connection.
pub(crate) struct Raw(TcpStream);

impl Raw {
    /// Connects and says hello.
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        stream.write_all(HELLO).await.expect("sent");
        Self(stream)
    }

    /// Sends all of `bytes`, and then waits for the answer to a ping or the end.
    pub(crate) async fn send_and_ping(self, mut bytes: Vec<u8>) -> Said {
        bytes.extend(frame(PING, 0, 0, &[0; 8]));
        let (mut reader, mut writer) = self.0.into_split();
        let sending = tokio::spawn(async move {
            // A server that has closed takes no more.
            let _sent = writer.write_all(&bytes).await.is_ok();
            writer
        });
        let said = loop {
            let mut head = [0; 9];
            if soon(reader.read_exact(&mut head)).await.is_err() {
                break Said::GoAway;
            }
            let [a, b, c, kind, flags, ..] = head;
            let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).expect("24 bits");
            let mut payload = vec![0; length];
            soon(reader.read_exact(&mut payload)).await.expect("a whole frame");
            match (kind, flags) {
                (PING, ACK) => break Said::Pong,
                (GOAWAY, _) => break Said::GoAway,
                _ => {}
            }
        };
        drop(sending.await);
        said
    }
}

/// The headers of a call of GetToken in the trace `trace_id`, and its cancellation right behind.
pub(crate) fn cancelled_call(stream: u32, trace_id: &str) -> Vec<u8> {
    let parent = format!("00-{trace_id}-b7ad6b7169203331-01");
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/forebay.token.v1.TokenService/GetToken"),
        (":authority", "test"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("traceparent", &parent),
    ];
    let mut block = Vec::new();
    for (name, value) in fields {
        // A literal that is not to be remembered (RFC 7541, section 6.2.2).
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).expect("a short text"));
            block.extend(text.as_bytes());
        }
    }
    cancelled(stream, &block)
}

/// The shortest call there is, and its cancellation right behind.
pub(crate) fn shortest_cancelled_call(stream: u32) -> Vec<u8> {
    // POST, http and the path "/", by their numbers (RFC 7541, appendix A).
    cancelled(stream, &[0x83, 0x86, 0x84])
}

fn cancelled(stream: u32, fields: &[u8]) -> Vec<u8> {
    let mut bytes = frame(HEADERS, END_HEADERS, stream, fields);
    bytes.extend(frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes()));
    bytes
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a small frame");
    let mut bytes = length.to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}
