//! URLs of stores: checked as far as needed to show them without their password.

use url::Url;

/// Checks the URL of a store and gives the form that may be shown.
///
/// # Errors
/// What is expected, when it is not such a URL. The text never holds a part of the URL.
pub(crate) fn redacted(text: &str, schemes: &[&str], form: &str) -> Result<String, String> {
    let expected = || format!("expected a URL of the form {form}");
    let url = Url::parse(text).map_err(|_| expected())?;
    if !schemes.contains(&url.scheme()) {
        return Err(expected());
    }
    // A '/', '?' or '#' that a password contains unencoded ends the authority early:
    // the rest, with its '@', would be taken for a path and shown.
    let after_authority = [Some(url.path()), url.query(), url.fragment()];
    if url.fragment().is_some() || after_authority.into_iter().flatten().any(|t| t.contains('@')) {
        return Err(format!("{}; percent-encode / ? # and @ in the password", expected()));
    }
    Ok(show(&url))
}

fn show(url: &Url) -> String {
    let mut shown = format!("{}://", url.scheme());
    if !url.username().is_empty() || url.password().is_some() {
        shown.push_str(url.username());
        if url.password().is_some() {
            shown.push_str(":[redacted]");
        }
        shown.push('@');
    }
    shown.push_str(url.host_str().unwrap_or_default());
    if let Some(port) = url.port() {
        shown.push_str(&format!(":{port}"));
    }
    shown.push_str(url.path());
    for (index, (name, value)) in url.query_pairs().enumerate() {
        let public = ["pass", "key", "token", "secret"].iter().all(|word| !name.contains(word));
        let value = if public { value.as_ref() } else { "[redacted]" };
        shown.push(if index == 0 { '?' } else { '&' });
        shown.push_str(&format!("{name}={value}"));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_everything_but_the_password() {
        let schemes = ["postgres", "redis"];
        let check = |url: &str, shown: Option<&str>| {
            let actual = redacted(url, &schemes, "postgres://host");
            assert_eq!(actual.as_deref().ok(), shown, "{url}");
            assert!(!format!("{actual:?}").contains("hunter2"), "{actual:?}");
        };
        check("postgres://u:hunter2@h:5/d", Some("postgres://u:[redacted]@h:5/d"));
        check("postgres://u@h/d?sslmode=require", Some("postgres://u@h/d?sslmode=require"));
        check("postgres:///d?password=hunter2", Some("postgres:///d?password=[redacted]"));
        check("redis://:hunter2@h", Some("redis://:[redacted]@h"));
        check("redis://[::1]:6379/2", Some("redis://[::1]:6379/2"));
        check("postgres://u:1/hunter2@h/d", None);
        check("postgres://u:1?hunter2@h/d", None);
        check("postgres://u:1#hunter2@h/d", None);
        check("http://h", None);
        check("hunter2", None);
    }
}
