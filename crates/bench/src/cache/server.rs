//! The Redis of the bench, as its operator sees it.

use anyhow::{Context as _, ensure};
use redis::aio::MultiplexedConnection;
use tokio::process::Command;

/// A connection of its own to Redis.
pub struct Operator {
    connection: MultiplexedConnection,
    pid: String,
}

impl Operator {
    /// Connects.
    ///
    /// # Errors
    /// When Redis does not answer.
    pub async fn connect(url: &str) -> anyhow::Result<Self> {
        let mut connection = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
        let info: String = redis::cmd("INFO").arg("server").query_async(&mut connection).await?;
        let pid = field(&info, "process_id").context("no process_id in INFO")?.to_owned();
        Ok(Self { connection, pid })
    }

    /// Bytes that Redis holds in memory.
    ///
    /// # Errors
    /// When Redis does not answer.
    pub async fn used_memory(&mut self) -> anyhow::Result<f64> {
        let info: String =
            redis::cmd("INFO").arg("memory").query_async(&mut self.connection).await?;
        Ok(field(&info, "used_memory").context("no used_memory in INFO")?.parse()?)
    }

    /// Deletes the keys that begin so; what a finished scenario left is in nobody's way.
    ///
    /// # Errors
    /// When Redis does not answer.
    pub async fn delete_all(&mut self, prefix: &str) -> anyhow::Result<()> {
        let mut cursor = 0_u64;
        loop {
            let (next, keys): (u64, Vec<Vec<u8>>) = redis::cmd("SCAN")
                .arg(cursor)
                .arg("MATCH")
                .arg(format!("*{prefix}*"))
                .arg("COUNT")
                .arg(5_000)
                .query_async(&mut self.connection)
                .await?;
            if !keys.is_empty() {
                let _: u64 =
                    redis::cmd("UNLINK").arg(keys).query_async(&mut self.connection).await?;
            }
            cursor = next;
            if cursor == 0 {
                return Ok(());
            }
        }
    }

    /// Stops the process without ending it: connections stay open and nothing is answered.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub async fn stop(&self) -> anyhow::Result<Stopped> {
        signal("-STOP", &self.pid).await?;
        Ok(Stopped { pid: self.pid.clone() })
    }
}

/// Redis is stopped; it goes on at the latest when this is dropped.
pub struct Stopped {
    pid: String,
}

impl Stopped {
    /// Lets it go on.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub async fn go_on(self) -> anyhow::Result<()> {
        signal("-CONT", &self.pid).await
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let sent = std::process::Command::new("kill").args(["-CONT", &self.pid]).status();
        if let Err(error) = sent {
            eprintln!("  redis stays stopped: {error}");
        }
    }
}

async fn signal(name: &str, pid: &str) -> anyhow::Result<()> {
    let status = Command::new("kill").args([name, pid]).status().await.context("start kill")?;
    ensure!(status.success(), "kill {name} {pid}: {status}");
    Ok(())
}

/// A field of what INFO prints.
fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::field;

    #[test]
    fn fields_of_info_are_found() {
        let info = "# Server\r\nprocess_id:42\r\nprocess_id_x:43\r\n";
        assert_eq!(field(info, "process_id"), Some("42"));
        assert_eq!(field(info, "run_id"), None);
    }
}
