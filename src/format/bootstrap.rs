//! `vault.json`: what can be known of a repository without a key.

use serde::{Deserialize, Serialize};

use super::{FormatError, VERSION};
use crate::id::RepositoryId;

/// The cipher suite: BLAKE3, XChaCha20-Poly1305, X-Wing, Ed25519, Argon2id, zstd.
pub const SUITE: u8 = 1;

const MAGIC: &str = "volume-vault repository";
const WHAT: &str = "vault.json";

/// The readable, immutable head of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bootstrap {
    /// The repository's id.
    pub repository: RepositoryId,
    /// A feature that this program would have to know to write or collect; reading goes without.
    pub read_only_because: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Document {
    magic: String,
    format: u64,
    repository: String,
    suite: u64,
    #[serde(default)]
    features: Features,
}

/// Features a program must know to read, to write, or to collect garbage.
#[derive(Default, Serialize, Deserialize)]
struct Features {
    #[serde(default)]
    read: Vec<String>,
    #[serde(default)]
    write: Vec<String>,
    #[serde(default)]
    gc: Vec<String>,
}

impl Bootstrap {
    /// Longest document accepted, in bytes.
    pub const BYTES_MAX: u64 = 64 << 10;

    /// The stored bytes: JSON.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let document = Document {
            magic: MAGIC.to_owned(),
            format: u64::from(VERSION),
            repository: self.repository.to_string(),
            suite: u64::from(SUITE),
            features: Features::default(),
        };
        let mut text = serde_json::to_vec_pretty(&document)
            .expect("because a document of strings and numbers is always JSON");
        text.push(b'\n');
        text
    }

    /// Reads the document.
    ///
    /// Errors: [`FormatError::Damaged`] if it is no such document, [`FormatError::Newer`] if it
    /// names a version, suite or read feature this program does not know.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let document: Document =
            serde_json::from_slice(bytes).map_err(|error| FormatError::damaged(WHAT, error))?;
        if document.magic != MAGIC {
            return Err(FormatError::damaged(WHAT, "it is not that of a repository"));
        }
        let newer = |why: String| Err(FormatError::Newer { what: "repository", why });
        if document.format != u64::from(VERSION) {
            return newer(format!("it has format {}, known is {VERSION}", document.format));
        }
        if document.suite != u64::from(SUITE) {
            return newer(format!("it has cipher suite {}, known is {SUITE}", document.suite));
        }
        let Features { read, write, gc } = &document.features;
        let shown = |feature: &String| -> String {
            feature.chars().filter(char::is_ascii_graphic).take(60).collect()
        };
        if let Some(feature) = read.first() {
            return newer(format!("it needs the feature `{}`", shown(feature)));
        }
        let repository = document.repository.parse();
        let repository = repository.map_err(|error| FormatError::damaged(WHAT, error))?;
        Ok(Self { repository, read_only_because: write.iter().chain(gc).next().map(shown) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text() -> String {
        let bootstrap =
            Bootstrap { repository: RepositoryId::new([5; 16]), read_only_because: None };
        String::from_utf8(bootstrap.encode()).expect("JSON is UTF-8")
    }

    #[test]
    fn it_reads_what_it_writes() {
        let bootstrap = Bootstrap::decode(text().as_bytes()).expect("it reads");
        assert_eq!(bootstrap.repository, RepositoryId::new([5; 16]));
    }

    #[test]
    fn newer_formats_suites_and_features_are_told_from_damage() {
        for (old, new) in [
            ("\"format\": 1", "\"format\": 2"),
            ("\"suite\": 1", "\"suite\": 9"),
            ("\"read\": []", "\"read\": [\"tape\"]"),
        ] {
            let changed = text().replace(old, new);
            assert_ne!(changed, text());
            let error = Bootstrap::decode(changed.as_bytes()).expect_err("unknown");
            assert!(matches!(error, FormatError::Newer { .. }), "{error}");
        }
        let changed = text().replace("\"gc\": []", "\"gc\": [\"checkpoints\"]");
        let read_only = Bootstrap::decode(changed.as_bytes()).expect("it can be read");
        assert_eq!(read_only.read_only_because.as_deref(), Some("checkpoints"));
        let error = Bootstrap::decode(b"{}").expect_err("nothing");
        assert!(matches!(error, FormatError::Damaged { .. }), "{error}");
    }
}
