//! How urgent the work of a task is when it has to wait for a connection.

use std::fmt;
use std::future::Future;

tokio::task_local! {
    static CURRENT: Priority;
}

/// The class of a caller that waits at a [`crate::Gate`].
///
/// Like a [`crate::Deadline`] it is put into scope once, where the work
/// begins, and every wait below it is of that class. A spawned task starts as
/// [`Priority::Interactive`] again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Priority {
    /// Somebody waits for the answer now.
    #[default]
    Interactive,
    /// Work that may take its time: refreshes, imports, exports.
    Batch,
    /// What keeps the process alive and observable: health checks, monitors, operators.
    Admin,
}

impl Priority {
    /// Every class, in the order of their statistics.
    pub const ALL: [Self; 3] = [Self::Interactive, Self::Batch, Self::Admin];

    /// The class in scope of this task.
    pub fn current() -> Self {
        CURRENT.try_with(|priority| *priority).unwrap_or_default()
    }

    /// Runs `future` in this class. An inner scope wins over an outer one.
    pub async fn scope<F: Future>(self, future: F) -> F::Output {
        CURRENT.scope(self, future).await
    }

    /// The name in statistics and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Interactive => "interactive",
            Self::Batch => "batch",
            Self::Admin => "admin",
        }
    }

    pub(crate) const fn index(self) -> usize {
        match self {
            Self::Interactive => 0,
            Self::Batch => 1,
            Self::Admin => 2,
        }
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    //! What is in scope where.

    use super::Priority;

    #[tokio::test]
    async fn the_inner_scope_wins_and_a_spawned_task_starts_anew() {
        assert_eq!(Priority::current(), Priority::Interactive);
        let seen = Priority::Batch.scope(async {
            let inner = Priority::Admin.scope(async { Priority::current() }).await;
            let spawned = tokio::spawn(async { Priority::current() }).await.expect("it ends");
            (inner, Priority::current(), spawned)
        });
        assert_eq!(seen.await, (Priority::Admin, Priority::Batch, Priority::Interactive));
    }

    #[test]
    fn indices_follow_the_list() {
        let indices: Vec<_> = Priority::ALL.iter().map(|priority| priority.index()).collect();
        assert_eq!(indices, [0, 1, 2]);
    }
}
