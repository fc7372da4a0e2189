//! Hides what looks like a secret in what a volume's definition says.

/// What is shown instead.
const MASK: &str = "***";

/// Parts of a key whose value is a secret.
const SECRET_PARTS: [&str; 8] =
    ["pass", "secret", "token", "cred", "apikey", "private", "auth", "pwd"];

/// The value of an option or label as it may be shown: hidden if the key says that it is a secret,
/// else with hidden parts: `password=…` in a list such as mount options, `user:…@` in an address.
pub(crate) fn masked(key: &str, value: &str) -> String {
    if is_secret(key) && !value.is_empty() {
        return MASK.to_owned();
    }
    let parts = value.split(',').map(|part| match part.split_once('=') {
        Some((key, value)) if is_secret(key) && !value.is_empty() => format!("{key}={MASK}"),
        _ => without_password(part),
    });
    parts.collect::<Vec<_>>().join(",")
}

fn is_secret(key: &str) -> bool {
    let key: String = key.to_lowercase().chars().filter(|c| c.is_alphanumeric()).collect();
    SECRET_PARTS.iter().any(|part| key.contains(part)) || key.ends_with("key") || key == "pw"
}

/// `//user:password@host/share` without the password.
fn without_password(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("//") else { return text.to_owned() };
    let end = rest.find('/').unwrap_or(rest.len());
    match rest[..end].rfind('@').and_then(|at| Some((at, rest[..at].find(':')?))) {
        Some((at, colon)) => format!("{scheme}//{}:{MASK}{}", &rest[..colon], &rest[at..]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_secret_is_hidden_and_nothing_else() {
        for (key, value, shown) in [
            ("type", "cifs", "cifs"),
            ("device", "//host/share", "//host/share"),
            ("device", "//user:pa:ss@host/share", "//user:***@host/share"),
            ("device", ":/exports/a@b:c", ":/exports/a@b:c"),
            (
                "o",
                "addr=10.0.0.1,username=u,password=p=1,rw",
                "addr=10.0.0.1,username=u,password=***,rw",
            ),
            ("o", "credentials=/etc/smb,uid=0", "credentials=***,uid=0"),
            ("API_KEY", "x", "***"),
            ("my-token", "x", "***"),
            ("com.example.keyboard", "de", "de"),
            ("password", "", ""),
            ("o", "password", "password"),
        ] {
            assert_eq!(masked(key, value), shown, "{key}={value}");
        }
    }
}
