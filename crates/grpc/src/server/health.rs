//! What health checks answer.

use std::sync::Arc;

use parking_lot::Mutex;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::{Health as HealthService, HealthServer};
use tonic_health::server::HealthReporter;

/// Sets what `grpc.health.v1` answers, for each service and for the server (`""`).
///
/// Everything is SERVING at first. Once the server drains it is NOT_SERVING for good.
#[derive(Debug, Clone, Default)]
pub struct Health {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    reporter: HealthReporter,
    services: Mutex<Vec<&'static str>>,
    /// Held over each change, so that a late "serving" cannot undo a drain.
    state: tokio::sync::Mutex<State>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Serving,
    NotServing,
    /// Not serving, for good.
    Draining,
}

impl Health {
    /// Sets the server and all its services at once, such as when a store they need goes or comes.
    pub async fn set_serving(&self, serving: bool) {
        let state = if serving { State::Serving } else { State::NotServing };
        self.set(state).await;
    }

    /// NOT_SERVING from now on, whatever anybody sets later.
    pub(crate) async fn drain(&self) {
        self.set(State::Draining).await;
    }

    /// Makes the services registered since the last change known.
    pub(crate) async fn publish(&self) {
        let state = *self.shared.state.lock().await;
        self.set(state).await;
    }

    pub(crate) fn register(&self, service: &'static str) {
        self.shared.services.lock().push(service);
    }

    pub(crate) fn services(&self) -> Vec<&'static str> {
        self.shared.services.lock().clone()
    }

    /// The generated server.
    pub(crate) fn server(&self) -> HealthServer<impl HealthService> {
        HealthServer::new(tonic_health::server::HealthService::from_health_reporter(
            self.shared.reporter.clone(),
        ))
    }

    async fn set(&self, new: State) {
        let mut state = self.shared.state.lock().await;
        if *state == State::Draining {
            return;
        }
        *state = new;
        let status = match new {
            State::Serving => ServingStatus::Serving,
            State::NotServing | State::Draining => ServingStatus::NotServing,
        };
        for service in self.services().into_iter().chain([""]) {
            self.shared.reporter.set_service_status(service, status).await;
        }
    }
}
