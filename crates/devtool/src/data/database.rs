//! Which database is meant.

use std::env;
use std::fmt;

use anyhow::Context as _;

use crate::state::State;
use crate::workspace::Workspace;

/// A database, shown without its password.
#[derive(PartialEq, Eq)]
pub(super) struct Database {
    pub(super) url: String,
}

/// The database of the instance that is named, else `DATABASE_URL`, else the default instance's.
pub(super) fn of(workspace: &Workspace, instance: Option<&str>) -> anyhow::Result<Database> {
    let from_environment = env::var("DATABASE_URL").ok().filter(|url| !url.is_empty());
    if let (None, Some(url)) = (instance, from_environment) {
        return Ok(Database { url });
    }
    let instance = workspace.instance(instance)?;
    let state = State::load(&instance)?.filter(State::is_running).with_context(|| {
        format!(
            "instance {} is not running: start it with `cargo xtask dev`, or set DATABASE_URL",
            instance.name
        )
    })?;
    let url = state.backends.postgres.url.context("the instance has no Postgres yet")?;
    Ok(Database { url })
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let after_scheme = self.url.split_once("://").map_or(self.url.as_str(), |(_, rest)| rest);
        let without_settings = after_scheme.split('?').next().unwrap_or_default();
        f.write_str(without_settings.rsplit('@').next().unwrap_or_default())
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Database({self})")
    }
}

#[cfg(test)]
mod tests {
    use forebay_provision::proc_table::Identity;

    use super::{Database, of};
    use crate::state::State;
    use crate::workspace::Workspace;

    #[test]
    fn the_database_of_a_named_instance_is_used() {
        let root = tempfile::tempdir().unwrap();
        let workspace = Workspace { root: root.path().to_path_buf() };
        let said = of(&workspace, Some("here")).unwrap_err().to_string();
        assert!(said.contains("instance here is not running"), "{said}");
        let instance = workspace.instance(Some("here")).unwrap();
        instance.create().unwrap();
        let mut state = State::new(&instance, Identity::own());
        let url = "postgres://h/db".to_owned();
        state.backends.postgres.url = Some(url.clone());
        state.save(&instance.state_file()).unwrap();
        assert_eq!(of(&workspace, Some("here")).unwrap(), Database { url });
        // A supervisor that has died took its Postgres along.
        state.supervisor.started += 1;
        state.save(&instance.state_file()).unwrap();
        assert!(of(&workspace, Some("here")).is_err());
    }

    #[test]
    fn a_database_is_shown_without_its_password() {
        let cases = [
            ("postgres://ann:secret@127.0.0.1:5432/forebay", "127.0.0.1:5432/forebay"),
            ("postgres://h/db?password=secret", "h/db"),
            ("postgres://ann:se%40cr@h/db?sslmode=require", "h/db"),
        ];
        for (url, expected) in cases {
            let database = Database { url: url.to_owned() };
            assert_eq!(database.to_string(), expected);
            assert_eq!(format!("{database:?}"), format!("Database({expected})"));
        }
    }
}
