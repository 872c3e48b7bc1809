//! Just enough of the Postgres protocol to ask a server of ours one question.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::ports;

/// How long each step of a conversation may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(5);

/// A longer message is not an answer to any question of ours.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

/// Version 3.0 of the protocol.
const PROTOCOL: i32 = 3 << 16;

/// No answer, or a refusal.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The server cannot be reached or broke off.
    #[error("talk to port {port}")]
    Io {
        /// The port.
        port: u16,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The server answered with an error.
    #[error("the server said {sqlstate} {message}")]
    Server {
        /// Its code.
        sqlstate: String,
        /// Its words.
        message: String,
    },
    /// The answer is not that of a Postgres server of ours.
    #[error("unexpected answer: {0}")]
    Unexpected(&'static str),
}

/// Rows of a result, each a list of columns in text form.
pub type Rows = Vec<Vec<Option<String>>>;

/// Runs `sql` as user `postgres` without a password on 127.0.0.1:`port`, and returns when the server
/// has let the connection go.
///
/// # Errors
///
/// [`WireError`]; SQLSTATE 57P03 means that the server is still starting.
pub fn query(port: u16, database: &str, sql: &str) -> Result<Rows, WireError> {
    let mut wire = Wire::connect(port)?;
    let mut startup = PROTOCOL.to_be_bytes().to_vec();
    for text in ["user", "postgres", "database", database, "application_name", "forebay", ""] {
        startup.extend_from_slice(text.as_bytes());
        startup.push(0);
    }
    wire.send(None, &startup)?;
    wire.until_ready()?;
    let mut text = sql.as_bytes().to_vec();
    text.push(0);
    wire.send(Some(b'Q'), &text)?;
    let rows = wire.until_ready()?;
    wire.send(Some(b'X'), &[])?;
    wire.until_closed();
    Ok(rows)
}

struct Wire {
    port: u16,
    stream: TcpStream,
}

impl Wire {
    fn connect(port: u16) -> Result<Self, WireError> {
        let io = |source| WireError::Io { port, source };
        let stream =
            TcpStream::connect_timeout(&ports::loopback(port), STEP_TIMEOUT).map_err(io)?;
        stream.set_read_timeout(Some(STEP_TIMEOUT)).map_err(io)?;
        stream.set_write_timeout(Some(STEP_TIMEOUT)).map_err(io)?;
        stream.set_nodelay(true).map_err(io)?;
        Ok(Self { port, stream })
    }

    fn io(&self) -> impl FnOnce(std::io::Error) -> WireError + use<> {
        let port = self.port;
        move |source| WireError::Io { port, source }
    }

    fn send(&mut self, tag: Option<u8>, body: &[u8]) -> Result<(), WireError> {
        let length = i32::try_from(body.len() + 4)
            .map_err(|_| WireError::Unexpected("a question longer than the protocol allows"))?;
        let mut message: Vec<u8> = tag.into_iter().collect();
        message.extend_from_slice(&length.to_be_bytes());
        message.extend_from_slice(body);
        self.stream.write_all(&message).map_err(self.io())
    }

    fn receive(&mut self) -> Result<(u8, Vec<u8>), WireError> {
        let mut head = [0; 5];
        self.stream.read_exact(&mut head).map_err(self.io())?;
        let [tag, length @ ..] = head;
        let length = usize::try_from(i32::from_be_bytes(length))
            .ok()
            .and_then(|length| length.checked_sub(4))
            .filter(|length| *length <= MESSAGE_BYTES_MAX)
            .ok_or(WireError::Unexpected("a length that cannot be"))?;
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).map_err(self.io())?;
        Ok((tag, body))
    }

    /// Waits for the server to let go of us, who would else still be counted among its clients. The
    /// answer is there, so it does not matter how it does so.
    fn until_closed(&mut self) {
        let mut rest = [0; 64];
        while self.stream.read(&mut rest).is_ok_and(|length| length > 0) {}
    }

    /// Reads messages until the server waits for the next question.
    fn until_ready(&mut self) -> Result<Rows, WireError> {
        let mut rows = Vec::new();
        loop {
            match self.receive()? {
                (b'Z', _) => return Ok(rows),
                (b'E', body) => return Err(server_error(&body)),
                (b'D', body) => rows.push(row(&body)?),
                (b'R', body) if body != 0_i32.to_be_bytes() => {
                    return Err(WireError::Unexpected("it asks for a password"));
                }
                _ => {}
            }
        }
    }
}

fn server_error(body: &[u8]) -> WireError {
    let (mut sqlstate, mut message) = (String::new(), String::new());
    for field in body.split(|byte| *byte == 0) {
        match field.split_first() {
            Some((b'C', text)) => sqlstate = String::from_utf8_lossy(text).into_owned(),
            Some((b'M', text)) => message = String::from_utf8_lossy(text).into_owned(),
            _ => {}
        }
    }
    WireError::Server { sqlstate, message }
}

fn row(body: &[u8]) -> Result<Vec<Option<String>>, WireError> {
    const SHORT: WireError = WireError::Unexpected("a row that ends early");
    let (count, mut rest) = body.split_first_chunk::<2>().ok_or(SHORT)?;
    let mut columns = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let (length, after) = rest.split_first_chunk::<4>().ok_or(SHORT)?;
        // A negative length is NULL.
        let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
            columns.push(None);
            rest = after;
            continue;
        };
        let (text, after) = after.split_at_checked(length).ok_or(SHORT)?;
        columns.push(Some(String::from_utf8_lossy(text).into_owned()));
        rest = after;
    }
    Ok(columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_and_short_ones_refused() {
        let full = [0, 2, 0, 0, 0, 2, b'h', b'i', 255, 255, 255, 255];
        assert_eq!(row(&full).unwrap(), [Some("hi".to_owned()), None]);
        for cut in 0..full.len() {
            assert!(row(&full[..cut]).is_err(), "{cut}");
        }
    }

    #[test]
    fn errors_carry_code_and_words() {
        let error = server_error(b"SFATAL\0C57P03\0Mthe database system is starting up\0\0");
        assert_eq!(error.to_string(), "the server said 57P03 the database system is starting up");
    }
}
