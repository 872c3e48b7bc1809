//! A standby.

use std::path::Path;

use forebay_provision::ProvisionError;
use forebay_provision::postgres::{Options, Server};

use crate::postgres_server::{one, start};
use crate::{dir, free_port, until};

fn start_standby(primary: &Server, dir: &Path) -> Server {
    let options = Options { dir: dir.join("standby"), port: free_port(), ..Options::default() };
    primary.start_standby(options).unwrap()
}

fn sees(server: &Server, count: &str) -> bool {
    one(server, "select count(*) from t").is_ok_and(|found| found.as_deref() == Some(count))
}

#[test]
fn a_standby_follows_stands_still_and_catches_up() {
    let dir = dir();
    let primary = start(dir.path());
    one(&primary, "create table t as select 1 as n").unwrap();
    let mut standby = start_standby(&primary, dir.path());
    assert!(sees(&standby, "1"), "what was there before the copy");
    assert!(one(&standby, "insert into t values (2)").is_err(), "it takes no writes");
    one(&primary, "insert into t values (2)").unwrap();
    until("it has followed", || sees(&standby, "2"));

    standby.pause_replay().unwrap();
    one(&primary, "insert into t values (3)").unwrap();
    let end = one(&primary, "select pg_current_wal_lsn()").unwrap().unwrap();
    let received = format!("select pg_last_wal_receive_lsn() >= '{end}'");
    until("it has received", || one(&standby, &received).unwrap().as_deref() == Some("t"));
    assert!(sees(&standby, "2"), "and yet not replayed");
    standby.resume_replay().unwrap();
    until("it has replayed", || sees(&standby, "3"));

    standby.kill();
    one(&primary, "insert into t values (4)").unwrap();
    standby.restart().unwrap();
    until("it has caught up", || sees(&standby, "4"));
}

#[test]
fn a_promoted_standby_takes_writes_when_its_primary_is_gone() {
    let dir = dir();
    let primary = start(dir.path());
    one(&primary, "create table t as select 1 as n").unwrap();
    let standby = start_standby(&primary, dir.path());
    primary.kill();
    standby.promote().unwrap();
    one(&standby, "insert into t values (2)").unwrap();
    assert!(sees(&standby, "2"));
}

/// Fails when a wish that cannot be granted is waited for.
#[test]
fn a_primary_cannot_be_promoted_and_says_so() {
    let dir = dir();
    let primary = start(dir.path());
    let refused = primary.promote().unwrap_err();
    assert!(matches!(refused, ProvisionError::NotReady { .. }), "{refused}");
    assert!(refused.to_string().contains("recovery"), "{refused}");
}

#[test]
fn a_copy_that_is_refused_says_why_and_leaves_nothing() {
    let dir = dir();
    let mut minimal = crate::postgres_server::options(dir.path(), free_port());
    for setting in [("wal_level", "minimal"), ("max_wal_senders", "0")] {
        minimal.settings.push((setting.0.to_owned(), setting.1.to_owned()));
    }
    let primary = Server::start(&crate::postgres_tools(), minimal).unwrap();
    let standby = dir.path().join("standby");
    let options = Options { dir: standby.clone(), port: free_port(), ..Options::default() };
    let error = primary.start_standby(options).unwrap_err().to_string();
    assert!(error.contains("pg_basebackup"), "{error}");
    assert!(!standby.exists());
}
