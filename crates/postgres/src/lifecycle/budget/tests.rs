//! The arithmetic, without a server.

use forebay_config::{Invocation, PostgresConfig, load};

use super::{BudgetError, ConnectionLimit, Limits};
use crate::wire::dsn::Mode;

const STOCK: ConnectionLimit =
    ConnectionLimit::Server { connections_max: 100, superuser_reserved: 3, reserved: 0 };

fn config(settings: &[&str]) -> PostgresConfig {
    let none: [(&str, &str); 0] = [];
    let loaded = load("token-server", &Invocation::new(settings.iter().copied(), none));
    loaded.expect("valid settings").config.postgres
}

/// A stock Postgres must take what a fresh checkout starts.
#[test]
fn the_defaults_fit_a_stock_server() {
    let limits = Limits::new(&config(&[]), Mode::Direct);
    let report = limits.check(STOCK).expect("they fit");
    assert_eq!(
        report.to_string(),
        "token-server 1 x 20 + pool-server 1 x 20 + 4 being closed + 3 for others = 47, within \
         77.6 = 0.8 x 97 (max_connections 100 - 3 for superusers - 0 reserved)"
    );
}

/// Fails when a service's own settings, its processes or the share do not count.
#[test]
fn what_does_not_fit_is_refused_with_the_arithmetic() {
    for (settings, planned) in [
        (&["--postgres.connections_max=48"][..], 20 + 48 + 2 + 5 + 3),
        (&["--postgres.budget.pool_server=3"], 4 * 20 + 8 + 3),
        (&["--postgres.budget.reserved=34"], 40 + 4 + 34),
        (&["--postgres.budget.share=0.4"], 47),
    ] {
        let error = Limits::new(&config(settings), Mode::Direct).check(STOCK);
        let Err(BudgetError::Exceeded(report)) = error else { panic!("{settings:?}: {error:?}") };
        assert_eq!(report.planned(), planned, "{report}");
        assert!(report.to_string().contains(&format!("= {planned}, more than ")), "{report}");
    }
    // One less, and it fits.
    let limits = Limits::new(&config(&["--postgres.budget.reserved=33"]), Mode::Direct);
    limits.check(STOCK).expect("77 of 77.6");
}

#[test]
fn behind_a_session_pooler_every_process_keeps_to_its_part() {
    for (settings, part) in [
        (&[][..], 3),
        (&["--postgres.pooler_connections_max=100"], 20),
        (&["--postgres.budget.token_server=9"], 1),
        (&["--postgres.connections_max=2"], 2),
    ] {
        let config = config(settings);
        let limits = Limits::new(&config, Mode::Session);
        assert_eq!(limits.connections_max(config.connections_max), part, "{settings:?}");
    }
    let limits = Limits::new(&config(&[]), Mode::Session);
    let report = limits.check(limits.known().expect("the setting")).expect("they fit");
    assert!(
        report.to_string().starts_with("token-server 1 x 3 + pool-server 1 x 3 + 2 "),
        "{report}"
    );
}

#[test]
fn a_transaction_pooler_counts_its_clients() {
    let limits = Limits::new(&config(&["--postgres.pooler_clients_max=50"]), Mode::Transaction);
    assert_eq!(limits.connections_max(20), 20);
    let error = limits.check(limits.known().expect("the setting")).expect_err("47 of 40");
    assert!(error.to_string().contains("more than 40.0 = 0.8 x 50"), "{error}");
}
