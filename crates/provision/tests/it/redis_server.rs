//! Redis.

use std::path::Path;

use forebay_provision::redis::{Options, Server, command};
use forebay_provision::{ProvisionError, Stopped, ports};

use crate::{dir, free_port, redis_tools, until};

fn start(dir: &Path, settings: &[(&str, &str)]) -> Server {
    let settings = settings.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    let options =
        Options { dir: dir.join("data"), port: free_port(), settings, ..Options::default() };
    Server::start(&redis_tools(), options).unwrap()
}

#[test]
fn a_server_comes_back_on_the_same_port_with_what_it_was_told_to_keep() {
    for (settings, kept) in [(vec![("appendonly", "yes")], "1"), (vec![], "$-1")] {
        let dir = dir();
        let mut server = start(dir.path(), &settings);
        let port = server.port();
        assert_eq!(command(port, &["SET", "k", "1"]).unwrap(), "+OK");
        // A clean stop writes everything that is to be kept.
        assert_eq!(server.stop(), Stopped::Gracefully);
        assert!(command(port, &["PING"]).is_err());
        server.restart().unwrap();
        assert_eq!(server.port(), port);
        assert_eq!(command(port, &["GET", "k"]).unwrap(), kept, "{settings:?}");
    }
}

/// Fails when the server is taken to be ready because somebody answers on its port.
#[test]
fn a_taken_port_is_refused() {
    let (dir, other_dir) = (dir(), dir());
    let owner = start(dir.path(), &[]);
    let options =
        Options { dir: other_dir.path().join("data"), port: owner.port(), ..Options::default() };
    let refused = Server::start(&redis_tools(), options).unwrap_err();
    assert!(matches!(refused, ProvisionError::PortTaken { port } if port == owner.port()));
}

#[test]
fn a_killed_server_frees_its_port() {
    let dir = dir();
    let server = start(dir.path(), &[]);
    server.kill();
    until("the port is free", || ports::is_free(server.port()));
}

/// Both see a free port; fails when the loser takes the winner's answers for its own, or for a
/// stranger's that no other port would help against.
#[test]
fn two_servers_started_at_once_on_one_port_do_not_both_have_it() {
    let (one_dir, other_dir, port) = (dir(), dir(), free_port());
    let start = |dir: &Path| {
        let options = Options { dir: dir.join("data"), port, ..Options::default() };
        Server::start(&redis_tools(), options)
    };
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
