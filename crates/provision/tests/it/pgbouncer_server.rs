//! pgbouncer.

use std::path::Path;

use forebay_provision::pgbouncer::{Options, Server};
use forebay_provision::postgres::{WireError, query};
use forebay_provision::{ProvisionError, Stopped, ports};

use crate::{dir, free_port, pgbouncer_tools, postgres_server, until};

fn options(dir: &Path, postgres_port: u16, port: u16) -> Options {
    let settings = vec![("pool_mode".to_owned(), "transaction".to_owned())];
    let dir = dir.join("pgbouncer");
    Options { dir, port, postgres_port, settings, ..Options::default() }
}

fn start(dir: &Path, postgres_port: u16) -> Server {
    Server::start(&pgbouncer_tools(), options(dir, postgres_port, free_port())).unwrap()
}

fn one(server: &Server, sql: &str) -> Result<Option<String>, WireError> {
    Ok(query(server.port(), "postgres", sql)?.into_iter().flatten().flatten().next())
}

#[test]
fn a_postgres_is_reached_through_it_and_again_after_a_restart() {
    let dir = dir();
    let postgres = postgres_server::start(dir.path());
    let mut server = start(dir.path(), postgres.port());
    let port = server.port();
    let behind = one(&server, "select current_setting('data_directory')").unwrap().unwrap();
    assert_eq!(Path::new(&behind), postgres.dir().canonicalize().unwrap());
    let rows = query(port, "pgbouncer", "SHOW CONFIG").unwrap();
    let mode = rows.iter().find(|row| row[0].as_deref() == Some("pool_mode")).unwrap();
    assert_eq!(mode[1].as_deref(), Some("transaction"));

    server.kill();
    assert!(matches!(one(&server, "select 1"), Err(WireError::Io { .. })));
    server.restart().unwrap();
    assert_eq!(server.port(), port);
    assert_eq!(one(&server, "select 1").unwrap().as_deref(), Some("1"));
}

/// Fails when it is asked to stop by a signal that waits for the clients to leave.
#[test]
fn it_stops_though_a_client_stays() {
    let dir = dir();
    // Nothing is behind it, and it answers all the same.
    let server = start(dir.path(), free_port());
    let _client = std::net::TcpStream::connect(ports::loopback(server.port())).unwrap();
    assert_eq!(server.stop(), Stopped::Gracefully);
    until("the port is free", || ports::is_free(server.port()));
}

/// Both see a free port; fails when the loser takes the winner's answers for its own.
#[test]
fn two_servers_started_at_once_on_one_port_do_not_both_have_it() {
    let (one_dir, other_dir, port) = (dir(), dir(), free_port());
    let start = |dir: &Path| Server::start(&pgbouncer_tools(), options(dir, 1, port));
    let (one, other) = std::thread::scope(|scope| {
        let one = scope.spawn(|| start(one_dir.path()));
        let other = start(other_dir.path());
        (one.join().unwrap(), other)
    });
    match (one, other) {
        (Ok(_), Err(error)) | (Err(error), Ok(_)) => {
            assert!(matches!(error, ProvisionError::PortTaken { .. }), "{error}");
        }
        (one, other) => panic!("one of the two must have the port: {one:?} {other:?}"),
    }
}

#[test]
fn one_that_refuses_its_settings_says_why() {
    let dir = dir();
    let mut options = options(dir.path(), free_port(), free_port());
    options.settings.push(("pool_mode".to_owned(), "no_such_mode".to_owned()));
    let error = Server::start(&pgbouncer_tools(), options).unwrap_err().to_string();
    assert!(error.contains("no_such_mode") || error.contains("pool_mode"), "{error}");
}
