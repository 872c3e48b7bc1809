//! Which versions are measured: as locked when this program was built.

/// The lock file beside the manifest.
const LOCK: &str = include_str!("../Cargo.lock");

/// A crate with its version, such as `deadpool-postgres 0.14.2`.
///
/// # Panics
/// When the crate is not in the lock file: then it is not a peer either.
pub fn of(name: &str) -> String {
    let version = find(LOCK, name).unwrap_or_else(|| panic!("{name} is not in Cargo.lock"));
    format!("{name} {version}")
}

/// The first version; a name that is locked twice is never a peer.
fn find<'a>(lock: &'a str, name: &str) -> Option<&'a str> {
    let entry = format!("name = \"{name}\"");
    let mut lines = lock.lines().skip_while(|line| *line != entry).skip(1);
    lines.next()?.strip_prefix("version = \"")?.strip_suffix('"')
}

#[cfg(test)]
mod tests {
    use super::{LOCK, find};

    #[test]
    fn versions_come_from_the_lock() {
        let lock = "[[package]]\nname = \"bb8\"\nversion = \"0.9.1\"\n\n[[package]]\nname = \"bb8-redis\"\nversion = \"0.26.0\"\n";
        assert_eq!(find(lock, "bb8"), Some("0.9.1"));
        assert_eq!(find(lock, "bb8-redis"), Some("0.26.0"));
        assert_eq!(find(lock, "b"), None);
        for peer in ["bb8-postgres", "deadpool-postgres", "sqlx", "bb8-redis", "redis", "fred"] {
            assert!(find(LOCK, peer).is_some(), "{peer}");
        }
    }
}
