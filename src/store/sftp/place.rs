//! `sftp://` URLs.

use std::fmt;

use crate::store::StoreError;

/// A directory of another machine. It holds no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SftpPlace {
    pub(super) user: Option<String>,
    pub(super) host: String,
    pub(super) port: Option<u16>,
    /// Absolute, or from the folder of the login on.
    root: String,
}

impl SftpPlace {
    /// Reads `sftp://[USER@]HOST[:PORT]/PATH`; a path that starts with `/~/` begins in the folder
    /// of the login.
    ///
    /// Errors: `Location`.
    pub(crate) fn parse(url: &str) -> Result<Self, StoreError> {
        let refused = |why: &str| Err(StoreError::Location(why.to_owned()));
        let rest = url.split_once(':').map_or("", |(_, rest)| rest);
        let Some((authority, path)) = rest.strip_prefix("//").and_then(|rest| rest.split_once('/'))
        else {
            return refused("write a place of scheme `sftp:` as sftp://USER@HOST:PORT/PATH");
        };
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, _)) if user.contains(':') => {
                return refused("a URL must not hold a password or key");
            }
            Some((user, host)) => (Some(user.to_owned()), host),
            None => (None, authority),
        };
        let (host, port) = match host.rsplit_once(':') {
            Some((host, port)) => match port.parse() {
                Ok(port) => (host, Some(port)),
                Err(_) => return refused("the port of an sftp:// URL is a number"),
            },
            None => (host, None),
        };
        // Nothing that ssh could take for an option or a part of a command.
        let word = |text: &str| {
            text.starts_with(|c: char| c.is_ascii_alphanumeric())
                && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        };
        if !word(host) || !user.as_deref().is_none_or(word) {
            return refused(
                "the host and user of an sftp:// URL consist of letters, digits, `._-`",
            );
        }
        let path = path.trim_end_matches('/');
        if path.is_empty() || path.contains('\0') {
            return refused("an sftp:// URL names a folder behind its host");
        }
        let root = path.strip_prefix("~/").map_or_else(|| format!("/{path}"), str::to_owned);
        Ok(Self { user, host: host.to_owned(), port, root })
    }

    /// Where a name lies on the machine.
    pub(super) fn path(&self, name: &str) -> String {
        match name {
            "" => self.root.clone(),
            name => format!("{}/{name}", self.root),
        }
    }
}

impl fmt::Display for SftpPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sftp://")?;
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        f.write_str(&self.host)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        match self.root.starts_with('/') {
            true => f.write_str(&self.root),
            false => write!(f, "/~/{}", self.root),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_shown_in_one_form() {
        for (url, path) in [
            ("sftp://me@host:2222/srv/backup", "/srv/backup/x"),
            ("sftp://host/~/backup", "backup/x"),
            ("sftp://host/a", "/a/x"),
        ] {
            let place = SftpPlace::parse(url).expect(url);
            assert_eq!((place.to_string().as_str(), place.path("x").as_str()), (url, path));
        }
    }

    #[test]
    fn what_ssh_could_take_for_something_else_is_refused() {
        for url in [
            "sftp://-oProxyCommand=x/p",
            "sftp://-l@h/p",
            "sftp://me:hunter2@h/p",
            "sftp://h",
            "sftp://h/",
            "sftp:h/p",
            "sftp://h:x/p",
            "sftp://a b/p",
        ] {
            let error = SftpPlace::parse(url).expect_err(url).to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
