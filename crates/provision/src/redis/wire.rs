//! Just enough of the Redis protocol to ask a server of ours one question.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::ports;

/// How long each step of a conversation may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(5);

/// A longer reply is not an answer to any question of ours.
const REPLY_BYTES_MAX: u64 = 1024 * 1024;

/// Sends one command to 127.0.0.1:`port` and returns its reply: the text of a string, or the whole
/// first line (with its type mark) of anything else.
///
/// # Errors
///
/// When the server cannot be reached or breaks off.
pub fn command(port: u16, words: &[&str]) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&ports::loopback(port), STEP_TIMEOUT)?;
    stream.set_read_timeout(Some(STEP_TIMEOUT))?;
    stream.set_write_timeout(Some(STEP_TIMEOUT))?;
    let mut request = format!("*{}\r\n", words.len());
    for word in words {
        request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    stream.write_all(request.as_bytes())?;
    read_reply(&mut BufReader::new(stream.take(REPLY_BYTES_MAX)))
}

/// The value of `name` in a reply to INFO.
#[must_use]
pub fn info_field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}

fn read_reply(reader: &mut impl BufRead) -> std::io::Result<String> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    if !line.ends_with('\n') {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    let line = line.trim_end();
    let Some(length) = line.strip_prefix('$').and_then(|text| text.parse::<usize>().ok()) else {
        return Ok(line.to_owned());
    };
    let mut text = Vec::new();
    reader.take(u64::try_from(length).unwrap_or(REPLY_BYTES_MAX)).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_read() {
        let cases = [
            ("+PONG\r\n", Some("+PONG")),
            ("$5\r\nhello\r\n", Some("hello")),
            ("-LOADING wait\r\n", Some("-LOADING wait")),
            ("", None),
            ("+PO", None),
        ];
        for (bytes, expected) in cases {
            let reply = read_reply(&mut bytes.as_bytes()).ok();
            assert_eq!(reply.as_deref(), expected, "{bytes:?}");
        }
    }

    #[test]
    fn fields_of_info_are_found() {
        let info = "# Server\r\nredis_version:7.0.15\r\nprocess_id:42\r\n";
        assert_eq!(info_field(info, "process_id"), Some("42"));
        assert_eq!(info_field(info, "process"), None);
    }
}
