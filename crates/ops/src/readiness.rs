//! Health checks that follow the readiness of the process.

use forebay_boot::{ProcessState, Readiness};
use forebay_grpc::Health;
use tokio::sync::watch;

/// Makes gRPC health say what `readiness` says, now and until the process ends.
///
/// Called before the server is bound, nobody ever sees SERVING too early.
pub async fn follow_readiness(readiness: &Readiness, health: Health) {
    let mut states = readiness.watch();
    tell(&mut states, &health).await;
    tokio::spawn(async move {
        // Closed means that nobody is left to become ready.
        while states.changed().await.is_ok() {
            tell(&mut states, &health).await;
        }
    });
}

async fn tell(states: &mut watch::Receiver<ProcessState>, health: &Health) {
    let state = *states.borrow_and_update();
    health.set_serving(state.serves()).await;
}
