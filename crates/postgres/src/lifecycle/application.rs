//! The name under which a connection shows in `pg_stat_activity`.

/// Bytes that Postgres keeps of an application name (`NAMEDATALEN` - 1); it cuts the rest off.
const BYTES_MAX: usize = 63;
/// Where Linux tells the name of the machine.
const HOST_NAME: &str = "/proc/sys/kernel/hostname";

/// `service/instance/connection pool`. An empty `instance` is `host:pid`.
pub(crate) fn application_name(service: &str, instance: &str, pool: &str) -> String {
    let room = BYTES_MAX.saturating_sub(service.len() + pool.len() + 2);
    let instance =
        if instance.is_empty() { host_and_pid(room) } else { cut(instance, room).into() };
    cut(&format!("{service}/{instance}/{pool}"), BYTES_MAX).to_owned()
}

/// The name of the machine gives way: the process id finds the process on it.
fn host_and_pid(room: usize) -> String {
    let pid = std::process::id().to_string();
    // Elsewhere than on Linux there is nothing to read, and the process id is enough.
    let name = std::fs::read_to_string(HOST_NAME).unwrap_or_default();
    let host = name.trim().split('.').next().filter(|host| !host.is_empty()).unwrap_or("localhost");
    format!("{}:{pid}", cut(host, room.saturating_sub(pid.len() + 1)))
}

/// The longest start of `text` that has at most `bytes_max` bytes.
fn cut(text: &str, bytes_max: usize) -> &str {
    let end = text.floor_char_boundary(bytes_max);
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    //! What an operator reads.

    use super::{BYTES_MAX, application_name};

    #[test]
    fn the_three_parts_are_told_apart() {
        assert_eq!(
            application_name("token-server", "blue-1", "primary"),
            "token-server/blue-1/primary"
        );
        let own = application_name("token-server", "", "primary");
        let parts: Vec<_> = own.split('/').collect();
        let [service, instance, pool] = parts[..] else { panic!("{own}") };
        assert_eq!((service, pool), ("token-server", "primary"));
        assert!(instance.ends_with(&format!(":{}", std::process::id())), "{instance}");
    }

    #[test]
    fn what_is_too_long_is_cut_in_the_middle() {
        for service in ["s", &"s".repeat(40)] {
            let name = application_name(service, &"é".repeat(40), "primary");
            assert!(name.len() <= BYTES_MAX && name.ends_with("é/primary"), "{name}");
        }
    }
}
