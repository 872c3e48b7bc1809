//! A Redis of a test's own.

use forebay_provision::redis::{Options, RedisTools, Server};

use super::{PrivateDir, owned, start_on_free_port, unwrap};
use crate::environment;

/// A Redis of a test's own, empty and on a port of its own. It ends with its value.
#[derive(Debug)]
pub struct PrivateRedis {
    // Before the directory: the server ends before its files go.
    server: Server,
    _dir: PrivateDir,
}

impl PrivateRedis {
    /// Starts one and waits until it answers.
    ///
    /// # Panics
    ///
    /// With the cause, when it does not start.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts one with settings such as `("maxmemory", "10mb")`.
    ///
    /// # Panics
    ///
    /// With the cause, when it does not start.
    pub fn start_with(settings: &[(&str, &str)]) -> Self {
        let tools = match RedisTools::probe(&environment::redis_server(), None) {
            Ok(tools) => tools,
            Err(reason) => panic!("FOREBAY_TEST_REDIS_SERVER: {reason}"),
        };
        let dir = PrivateDir::new("redis");
        let settings = owned(settings);
        let server = start_on_free_port(|port| {
            let (dir, settings) = (dir.data(), settings.clone());
            Server::start(&tools, Options { dir, port, settings, ..Options::default() })
        });
        Self { server, _dir: dir }
    }

    /// The URL of the server; it stays the same after a restart.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.server.port()
    }

    /// Ends it at once, as a crash would: connections are reset and new ones refused.
    pub fn kill(&self) {
        self.server.kill();
    }

    /// Suspends it: connections stay open and nothing answers.
    pub fn stop(&self) {
        self.server.suspend();
    }

    /// Lets it go on after [`PrivateRedis::stop`].
    pub fn cont(&self) {
        self.server.resume();
    }

    /// Starts it again on the same port, without its keys.
    ///
    /// # Panics
    ///
    /// With the cause, when it does not start.
    pub fn restart(&mut self) {
        unwrap(self.server.restart());
    }
}
