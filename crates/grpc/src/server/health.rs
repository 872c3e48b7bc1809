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
    /// Whether the server drains. Held over each change, so that a late
    /// "serving" cannot undo a drain.
    draining: tokio::sync::Mutex<bool>,
}

impl Health {
    /// Sets the server and all its services at once, such as when a store they need goes or comes.
    pub async fn set_serving(&self, serving: bool) {
        let draining = self.shared.draining.lock().await;
        if !*draining {
            self.set_all(serving).await;
        }
    }

    /// NOT_SERVING from now on, whatever anybody sets later.
    pub(crate) async fn drain(&self) {
        let mut draining = self.shared.draining.lock().await;
        *draining = true;
        self.set_all(false).await;
    }

    pub(crate) fn register(&self, service: &'static str) {
        self.shared.services.lock().push(service);
    }

    pub(crate) fn services(&self) -> Vec<&'static str> {
        self.shared.services.lock().clone()
    }

    /// The generated server; the services registered so far are set to SERVING.
    pub(crate) fn server(&self) -> HealthServer<impl HealthService> {
        HealthServer::new(tonic_health::server::HealthService::from_health_reporter(
            self.shared.reporter.clone(),
        ))
    }

    async fn set_all(&self, serving: bool) {
        let status = if serving {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        let services = self.services();
        for service in services.into_iter().chain([""]) {
            self.shared
                .reporter
                .set_service_status(service, status)
                .await;
        }
    }
}
