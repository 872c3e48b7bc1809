//! Drops the databases that killed tests have left behind.
//!
//! The name of a test database tells which process made it: its process id, the time it started
//! (ids are used again) and the namespace that the id belongs to (a test in a container must not
//! take the databases of one outside for orphans).

use std::fs;

use anyhow::Context as _;
use forebay_postgres::maintenance::Maintenance;
use tokio::sync::OnceCell;

use crate::database::drop_statement;

/// Sweeps once in each process.
pub(crate) async fn once(server: &str) -> anyhow::Result<()> {
    static SWEPT: OnceCell<()> = OnceCell::const_new();
    SWEPT.get_or_try_init(|| sweep(server)).await?;
    Ok(())
}

/// What the names of this process's databases begin with.
pub(crate) fn own_prefix() -> anyhow::Result<String> {
    let process = std::process::id();
    let started = start_time(process).context("read the start time of this process")?;
    Ok(format!("{}{process}_{started}_", namespace_prefix()?))
}

async fn sweep(server: &str) -> anyhow::Result<()> {
    let admin = Maintenance::connect(server).await?;
    let prefix = namespace_prefix()?;
    let rows = admin
        .client()
        .query("SELECT datname FROM pg_database WHERE starts_with(datname, $1)", &[&prefix])
        .await
        .context("list the test databases")?;
    for row in rows {
        let name: &str = row.get(0);
        if is_orphan(name, &prefix) {
            // Another process may be at the same one: `IF EXISTS` does not help
            // while both see it, and then either of them will do.
            let dropped = admin.client().batch_execute(&drop_statement(name)).await;
            drop(dropped);
        }
    }
    admin.close().await;
    Ok(())
}

fn is_orphan(name: &str, prefix: &str) -> bool {
    let mut parts = name.strip_prefix(prefix).unwrap_or_default().split('_');
    let (Some(process), Some(started)) = (parts.next(), parts.next()) else {
        return false;
    };
    match (process.parse(), started.parse::<u64>()) {
        (Ok(process), Ok(started)) => start_time(process) != Some(started),
        _ => false,
    }
}

fn namespace_prefix() -> anyhow::Result<String> {
    let link = fs::read_link("/proc/self/ns/pid").context("read the process namespace")?;
    let digits: String = link.to_string_lossy().chars().filter(char::is_ascii_digit).collect();
    Ok(format!("forebay_test_{digits}_"))
}

/// Field 22 of `/proc/PID/stat` (`man 5 proc_pid_stat`), in clock ticks since boot.
fn start_time(process: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The command stands in parentheses and may itself hold blanks and parentheses.
    let after_command = &stat[stat.rfind(')')? + 1..];
    after_command.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_databases_of_dead_processes_are_orphans() {
        let prefix = namespace_prefix().unwrap();
        let living = std::process::id();
        let started = start_time(living).unwrap();
        let check = |name: String, expected: bool| {
            assert_eq!(is_orphan(&name, &prefix), expected, "{name}");
        };
        check(format!("{prefix}{living}_{started}_0"), false);
        check(format!("{prefix}{living}_{}_0", started + 1), true);
        check(format!("{prefix}{}_{started}_0", u32::MAX), true);
        check(format!("forebay_test_1_{living}_{}_0", started + 1), false);
        check("postgres".to_owned(), false);
    }
}
