//! The URLs of stores elsewhere.

use std::fmt;

use crate::store::StoreError;

/// What kind of store it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    S3,
    Azure,
    Gcs,
    /// WebDAV over HTTP or HTTPS.
    Dav,
}

impl Kind {
    /// What the store calls the place that holds objects.
    pub(super) fn container(self) -> &'static str {
        match self {
            Self::S3 | Self::Gcs => "bucket",
            Self::Azure => "container",
            Self::Dav => "server",
        }
    }
}

/// Where in which store a repository is. It holds no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub(super) kind: Kind,
    /// `s3`, `az`, `gs`, `http` or `https`.
    scheme: &'static str,
    /// Bucket, container, or host with port.
    pub(super) container: String,
    /// Who to log in as, with WebDAV, if the URL says so.
    pub(super) user: Option<String>,
    /// What stands before each name; without slashes around it, empty for none.
    pub(super) prefix: String,
}

/// Schemes and what they lead to; all but the first of a kind are other ways to write it.
const SCHEMES: [(&str, &str, Kind); 6] = [
    ("s3", "s3", Kind::S3),
    ("az", "az", Kind::Azure),
    ("azure", "az", Kind::Azure),
    ("gs", "gs", Kind::Gcs),
    ("http", "http", Kind::Dav),
    ("https", "https", Kind::Dav),
];

impl Place {
    /// Whether places of a scheme, in lower case, are kept here.
    pub(crate) fn is_scheme(scheme: &str) -> bool {
        SCHEMES.iter().any(|(known, ..)| *known == scheme)
    }

    /// Reads `SCHEME://CONTAINER/PREFIX`.
    ///
    /// Errors: `Location`; what a URL may not hold, such as a password, is not repeated.
    pub(crate) fn parse(url: &str) -> Result<Self, StoreError> {
        let refused = |why: &str| Err(StoreError::Location(why.to_owned()));
        let (scheme, rest) = url.split_once(':').unwrap_or_default();
        let lower = scheme.to_ascii_lowercase();
        let Some((_, scheme, kind)) = SCHEMES.iter().find(|(known, ..)| *known == lower) else {
            return refused("no store is known for this scheme");
        };
        let Some(rest) = rest.strip_prefix("//") else {
            return Err(StoreError::Location(format!(
                "write a place of scheme `{scheme}:` as {scheme}://{}/PREFIX",
                kind.container().to_uppercase()
            )));
        };
        if rest.contains(['?', '#']) {
            return Err(StoreError::Location(format!(
                "a {scheme}:// URL takes no options behind `?` or `#`: settings come from the \
                 environment"
            )));
        }
        let (authority, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, container) = match authority.rsplit_once('@') {
            None => (None, authority),
            Some((user, _)) if user.contains(':') || *kind != Kind::Dav => {
                return refused("a URL must not hold a password or key");
            }
            Some((user, container)) => (Some(user.to_owned()), container),
        };
        let container = container.to_owned();
        let good = |c: char| match kind {
            Kind::Dav => c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']'),
            _ => c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'),
        };
        if container.is_empty() || !container.chars().all(good) {
            let what = kind.container();
            return Err(StoreError::Location(format!("a {scheme}:// URL names its {what} first")));
        }
        let prefix = prefix.trim_matches('/').to_owned();
        Ok(Self { kind: *kind, scheme, container, user, prefix: prefix_of(scheme, prefix)? })
    }

    /// The URL of a WebDAV server, without a user, path or slash at the end.
    pub(super) fn origin(&self) -> String {
        format!("{}://{}", self.scheme, self.container)
    }

    /// The host of a WebDAV server, without a port.
    pub(super) fn host(&self) -> &str {
        match self.container.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
            _ => &self.container,
        }
    }
}

fn prefix_of(scheme: &str, prefix: String) -> Result<String, StoreError> {
    let good = |part: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-=+@ ".contains(c);
        !part.is_empty() && part != "." && part != ".." && part.chars().all(plain)
    };
    if !prefix.is_empty() && !prefix.split('/').all(good) {
        return Err(StoreError::Location(format!(
            "the path of a {scheme}:// URL consists of letters, digits and `._-=+@`"
        )));
    }
    Ok(prefix)
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.container)?;
        if !self.prefix.is_empty() {
            write!(f, "/{}", self.prefix)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_shown_in_one_form() {
        for (url, kind, container, prefix, shown) in [
            ("s3://b/p/q/", Kind::S3, "b", "p/q", "s3://b/p/q"),
            ("S3://b", Kind::S3, "b", "", "s3://b"),
            ("azure://c/x", Kind::Azure, "c", "x", "az://c/x"),
            ("gs://b//", Kind::Gcs, "b", "", "gs://b"),
            ("https://h:8443/dav/x", Kind::Dav, "h:8443", "dav/x", "https://h:8443/dav/x"),
        ] {
            let place = Place::parse(url).expect(url);
            assert_eq!((place.kind, place.container.as_str()), (kind, container), "{url}");
            assert_eq!((place.prefix.as_str(), place.to_string().as_str()), (prefix, shown));
        }
        let place = Place::parse("http://me@h:81/d").expect("a user");
        assert_eq!((place.user.as_deref(), place.host()), (Some("me"), "h"));
        assert_eq!(place.origin(), "http://h:81");
        assert_eq!(place.to_string(), "http://h:81/d");
    }

    #[test]
    fn passwords_and_options_in_urls_are_refused_and_not_repeated() {
        for url in [
            "http://me:hunter2@h/x",
            "s3://hunter2@b/x",
            "s3://b/x?secret=hunter2",
            "az://c/x#hunter2",
            "s3://hun ter2",
        ] {
            let error = Place::parse(url).expect_err(url).to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn urls_that_name_nothing_or_leave_their_prefix_are_refused() {
        for url in ["s3:b", "s3://", "s3:///p", "s3://b/../c", "s3://b/a//b", "az://c/%2e", "x://b"]
        {
            assert!(matches!(Place::parse(url), Err(StoreError::Location(_))), "{url}");
        }
    }
}
