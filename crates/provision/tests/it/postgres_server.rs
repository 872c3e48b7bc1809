//! Postgres.

use std::path::Path;

use forebay_provision::postgres::{Options, Server, WireError, clear_stale_lock, query};
use forebay_provision::proc_table::{Identity, below};
use forebay_provision::{ProvisionError, Stopped, ports};

use crate::{dir, free_port, postgres_tools, until};

pub(crate) fn options(dir: &Path, port: u16) -> Options {
    let settings = [("fsync", "off"), ("jit", "off")];
    Options {
        dir: dir.join("data"),
        port,
        settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        ..Options::default()
    }
}

pub(crate) fn start(dir: &Path) -> Server {
    Server::start(&postgres_tools(), options(dir, free_port())).unwrap()
}

pub(crate) fn one(server: &Server, sql: &str) -> Result<Option<String>, WireError> {
    Ok(query(server.port(), "postgres", sql)?.into_iter().flatten().flatten().next())
}

#[test]
fn committed_rows_outlive_a_kill_and_a_restart_on_the_same_port() {
    let dir = dir();
    let mut server = start(dir.path());
    let port = server.port();
    one(&server, "create table kept as select 7 as n").unwrap();
    one(&server, "checkpoint").unwrap();
    server.kill();
    until("no backend is left", || below(server.dir()).is_empty());
    assert!(matches!(one(&server, "select 1"), Err(WireError::Io { .. })));
    server.restart().unwrap();
    assert_eq!(server.port(), port);
    assert_eq!(one(&server, "select n from kept").unwrap().as_deref(), Some("7"));
    assert_eq!(server.stop(), Stopped::Gracefully);
    assert!(ports::is_free(port));
}

/// Fails when the server is taken to be ready because somebody answers on its port.
#[test]
fn a_taken_port_is_refused_and_its_owner_left_alone() {
    let (dir, other_dir) = (dir(), dir());
    let owner = start(dir.path());
    let refused =
        Server::start(&postgres_tools(), options(other_dir.path(), owner.port())).unwrap_err();
    assert!(matches!(refused, ProvisionError::PortTaken { port } if port == owner.port()));
    let databases = one(&owner, "select count(*) from pg_database").unwrap();
    assert_eq!(databases.as_deref(), Some("3"), "nothing was created in it");
}

#[test]
fn a_suspended_server_keeps_its_connections_and_goes_on() {
    let dir = dir();
    let server = start(dir.path());
    server.suspend();
    let mut stream = std::net::TcpStream::connect(ports::loopback(server.port())).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_millis(200))).unwrap();
    std::io::Write::write_all(&mut stream, &[0, 0, 0, 8, 4, 210, 22, 47]).unwrap();
    let silent = std::io::Read::read(&mut stream, &mut [0]).unwrap_err();
    assert_eq!(silent.kind(), std::io::ErrorKind::WouldBlock);
    server.resume();
    assert_eq!(one(&server, "select 1").unwrap().as_deref(), Some("1"));
}

/// Fails when a lock file is believed because some process has the id in it.
#[test]
fn a_lock_file_whose_server_is_gone_does_not_keep_the_next_one_from_starting() {
    let dir = dir();
    let mut server = start(dir.path());
    server.kill();
    let lock = server.dir().join("postmaster.pid");
    let left = std::fs::read_to_string(&lock).unwrap();
    // As after a reboot: the id belongs to a process that has nothing to do with it.
    let stranger = std::process::id();
    let rest = left.split_once('\n').unwrap().1;
    std::fs::write(&lock, format!("{stranger}\n{rest}")).unwrap();
    server.restart().unwrap();
    assert_eq!(one(&server, "select 1").unwrap().as_deref(), Some("1"));

    clear_stale_lock(server.dir()).unwrap();
    assert!(lock.exists(), "the lock of a live server stays");
}

#[test]
fn data_of_another_major_version_is_kept_and_named() {
    let dir = dir();
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("PG_VERSION"), "9.6\n").unwrap();
    let error = Server::start(&postgres_tools(), options(dir.path(), free_port())).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("written by Postgres 9.6"), "{text}");
    assert!(data.join("PG_VERSION").exists());
}

#[test]
fn a_server_that_refuses_its_settings_says_why() {
    let dir = dir();
    let mut options = options(dir.path(), free_port());
    options.settings.push(("no_such_setting".to_owned(), "1".to_owned()));
    let error = Server::start(&postgres_tools(), options).unwrap_err().to_string();
    assert!(error.contains("no_such_setting"), "{error}");
}

#[test]
fn dropping_a_server_leaves_no_process() {
    let dir = dir();
    let server = start(dir.path());
    let (leader, data) = (server.process().identity(), server.dir().to_path_buf());
    assert!(Identity::is_alive(leader));
    drop(server);
    until("the server is gone", || !leader.is_alive() && below(&data).is_empty());
}
