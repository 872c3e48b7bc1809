//! The signal that a process is to stop, passed as an argument.

use tokio_util::sync::CancellationToken;

/// Says that the process is to stop. Clones share one signal.
///
/// It is an argument and never a global, so that two servers in one test stop
/// apart.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    token: CancellationToken,
}

impl Shutdown {
    /// A shutdown nobody has asked for yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for the stop. Asking again changes nothing.
    pub fn trigger(&self) {
        self.token.cancel();
    }

    /// Whether the stop was asked for.
    pub fn is_triggered(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Completes when the stop is asked for, at once if it already was.
    ///
    /// The future borrows nothing, so it can be handed to a server that keeps it.
    pub fn fired(&self) -> impl Future<Output = ()> + Send + 'static {
        self.token.clone().cancelled_owned()
    }
}
