//! Who takes writes, once the primary takes none any more.
//!
//! A primary that was demoted lives on as a standby, or is made read-only for good, and answers
//! every write with SQLSTATE 25006. Then all members are asked: the server that the settings name
//! first, and the replicas. The one that takes writes is the primary from then on.

use std::sync::Arc;
use std::time::Duration;

use forebay_pooling::CloseReason;
use futures_util::future::join_all;
use tokio::time::timeout;
use tokio_postgres::SimpleQueryMessage;

use super::Router;
use crate::PgPool;
use crate::lifecycle::connector::Connector;
use crate::wire::dsn::Place;

/// How long a member may take to say whether it takes writes, the connection to it included.
const ASK_TIMEOUT: Duration = Duration::from_millis(500);
/// `on` also while the server recovers. A simple query, which any pooler lets through.
const IS_READ_ONLY: &str = "SHOW transaction_read_only";

/// Has `primary` lead to the member that takes writes, if exactly one does.
pub(super) async fn find(primary: &PgPool, router: &Router) {
    let connector = primary.shared().manager().connector();
    let now = connector.places();
    let replicas = router.replicas.iter().map(|replica| {
        // As its url names them: a replica leads nowhere else.
        Arc::from(replica.pool().shared().manager().connector().target().places.as_slice())
    });
    let members: Vec<Arc<[Place]>> =
        std::iter::once(Arc::from(connector.target().places.as_slice()))
            .chain(replicas)
            .filter(|places| *places != now)
            .collect();
    let asked = members.into_iter().map(|places| async {
        let takes_writes = timeout(ASK_TIMEOUT, takes_writes(connector, &places)).await;
        takes_writes.is_ok_and(|takes_writes| takes_writes).then_some(places)
    });
    let found: Vec<_> = join_all(asked).await.into_iter().flatten().collect();
    match found.as_slice() {
        [] => tracing::warn!("the postgres primary is read-only, and no other member takes writes"),
        [leader] => lead(primary, router, leader),
        // Whatever is written to one of them is lost on the other.
        [_, _, ..] => tracing::error!(
            members = found.len(),
            "the postgres primary is read-only, and more than one other member takes writes"
        ),
    }
}

async fn takes_writes(connector: &Connector, places: &[Place]) -> bool {
    // Whatever is wrong with it, it takes no writes from us.
    let Ok(opened) = connector.open_at(places).await else {
        return false;
    };
    let answer = opened.client.simple_query(IS_READ_ONLY).await.unwrap_or_default();
    answer.iter().any(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0) == Some("off"),
        _ => false,
    })
}

fn lead(primary: &PgPool, router: &Router, leader: &Arc<[Place]>) {
    let shared = primary.shared();
    shared.manager().connector().lead_to(Arc::clone(leader));
    router.count_move();
    tracing::warn!(server.address = primary.address(), "postgres writes go to another server now");
    // Those in use are closed when they come back.
    shared.shelf().look_through(shared.bb8(), |idle| {
        idle.iter_mut().for_each(|connection| connection.poison(CloseReason::Role));
        idle.clear();
    });
}
