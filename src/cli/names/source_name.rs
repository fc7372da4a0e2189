//! SOURCE: `my-data`, `volume:my-data`, `dir:/srv/www`, `./www`, `stdin:NAME`.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};

use volume_vault::entry::escape;
use volume_vault::near::{did_you_mean, near_names};

use super::super::error::{CliError, Kind};

/// Kinds that can be backed up.
const KINDS: [&str; 3] = ["volume", "dir", "stdin"];

/// Kinds of later versions, with what to do until then.
const LATER_KINDS: [(&str, &str); 5] = [
    ("container", "name its volumes; `docker inspect` lists them under Mounts"),
    ("project", "select its volumes with `--label com.docker.compose.project=NAME`"),
    ("image", "pipe it: `docker save IMAGE | vault backup stdin:IMAGE.tar`"),
    ("service", "name its volumes on each node"),
    ("stack", "name its volumes on each node"),
];

/// Something that can be backed up, as it was named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SourceName {
    /// A Docker volume.
    Volume(String),
    /// A directory, as it was typed.
    Directory(PathBuf),
    /// Standard input, as one file or as a tar.
    Stdin {
        /// What it is called in the snapshot.
        name: String,
    },
}

impl SourceName {
    /// Reads a name. A bare word is a volume; a path must look like one.
    ///
    /// Errors: usage, naming the nearest kind where one was misspelled.
    pub(crate) fn parse(text: &OsStr) -> Result<Self, CliError> {
        if looks_like_path(text) {
            return Ok(Self::Directory(PathBuf::from(text)));
        }
        if let Some(path) = text.as_bytes().strip_prefix(b"dir:") {
            return match path {
                b"" => Err(CliError::usage("`dir:` names no directory")),
                path => Ok(Self::Directory(PathBuf::from(OsString::from_vec(path.to_vec())))),
            };
        }
        let shown = escape(text.as_bytes());
        let Some(text) = text.to_str() else {
            return Err(CliError::usage(format!("`{shown}` is no source")));
        };
        if text == "-" {
            let error = CliError::usage("standard input needs a name");
            return Err(error.hint("write `stdin:NAME`"));
        }
        match text.split_once(':') {
            Some(("volume", name)) => volume(name),
            Some(("stdin", name)) => stdin(name),
            Some((kind, _)) => Err(wrong_kind(kind, &shown)),
            None => volume(text),
        }
    }

    /// The word for the kind, as it stands before the colon.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Volume(_) => "volume",
            Self::Directory(_) => "dir",
            Self::Stdin { .. } => "stdin",
        }
    }

    /// The same name with a directory's path made absolute from `base`, as a series needs it. A
    /// path with `..` is asked of the system: behind a link it cannot be resolved by its text.
    ///
    /// Errors: not found.
    pub(crate) fn absolute_in(self, base: &Path) -> Result<Self, CliError> {
        let Self::Directory(path) = self else { return Ok(self) };
        let path = base.join(path);
        if path.components().any(|part| part == Component::ParentDir) {
            let real = std::fs::canonicalize(&path).map_err(|error| {
                CliError::new(Kind::NotFound, format!("no directory `{}`", path.display()))
                    .because(error)
            })?;
            return Ok(Self::Directory(real));
        }
        Ok(Self::Directory(path.components().collect()))
    }
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Volume(name) => f.write_str(name),
            Self::Directory(path) => f.write_str(&escape(path.as_os_str().as_bytes())),
            Self::Stdin { name } => write!(f, "stdin:{name}"),
        }
    }
}

/// `/…`, `./…`, `../…`, and the two folders themselves.
pub(super) fn looks_like_path(text: &OsStr) -> bool {
    let text = text.as_bytes();
    matches!(text, b"." | b"..") || [&b"/"[..], b"./", b"../"].iter().any(|s| text.starts_with(s))
}

/// The kind before a colon, of this version or a later one.
pub(super) fn kind_prefix(text: &str) -> Option<&str> {
    let (kind, _) = text.split_once(':')?;
    (KINDS.contains(&kind) || LATER_KINDS.iter().any(|(later, _)| *later == kind)).then_some(kind)
}

/// A volume name of the form Docker's own driver demands.
fn volume(name: &str) -> Result<SourceName, CliError> {
    let good = name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
        && name.len() <= 255;
    if good {
        return Ok(SourceName::Volume(name.to_owned()));
    }
    let shown = escape(name.as_bytes());
    let error = CliError::usage(format!("`{shown}` cannot be the name of a volume"));
    Err(match name.contains('/') {
        true => error.hint(format!("for a directory write `./{shown}` or `dir:{shown}`")),
        false => error.hint("letters, digits, `_`, `.` and `-`, the first a letter or digit"),
    })
}

fn stdin(name: &str) -> Result<SourceName, CliError> {
    let good = volume_vault::entry::EntryPath::root().child(name.as_bytes()).is_ok()
        && !name.contains(['@', ':']);
    if good {
        return Ok(SourceName::Stdin { name: name.to_owned() });
    }
    let shown = escape(name.as_bytes());
    Err(CliError::usage(format!("`stdin:{shown}` needs a plain file name without `@` and `:`")))
}

fn wrong_kind(kind: &str, shown: &str) -> CliError {
    if let Some((kind, instead)) = LATER_KINDS.iter().find(|(later, _)| *later == kind) {
        let message = format!("`{shown}`: sources of kind `{kind}` are not yet in this version");
        return CliError::usage(message).hint(*instead);
    }
    let known = KINDS.into_iter().chain(LATER_KINDS.iter().map(|(later, _)| *later));
    let near = near_names(kind, known);
    let hint = did_you_mean(&near)
        .unwrap_or_else(|| "kinds are `volume:`, `dir:` and `stdin:`".to_owned());
    CliError::usage(format!("`{shown}` is of no known kind")).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<SourceName, CliError> {
        SourceName::parse(OsStr::new(text))
    }

    #[test]
    fn names_that_are_sources() {
        let volume = |name: &str| SourceName::Volume(name.to_owned());
        let directory = |path: &str| SourceName::Directory(path.into());
        let stdin = |name: &str| SourceName::Stdin { name: name.to_owned() };
        for (text, name) in [
            ("my-data", volume("my-data")),
            ("volume:my-data", volume("my-data")),
            ("volume:volume", volume("volume")),
            ("volume", volume("volume")),
            ("latest", volume("latest")),
            ("a.b_c-9", volume("a.b_c-9")),
            ("dir:/srv/www", directory("/srv/www")),
            ("dir:srv", directory("srv")),
            ("/srv/a:b@c", directory("/srv/a:b@c")),
            ("./www", directory("./www")),
            ("../www", directory("../www")),
            (".", directory(".")),
            ("..", directory("..")),
            ("stdin:dump.sql", stdin("dump.sql")),
        ] {
            assert_eq!(parse(text).expect(text), name, "{text}");
        }
    }

    #[test]
    fn names_that_are_none_say_why() {
        for (text, part) in [
            ("", "cannot be the name of a volume"),
            ("volume:", "cannot be the name of a volume"),
            ("dir:", "names no directory"),
            ("stdin:", "needs a plain file name"),
            ("stdin:a/b", "needs a plain file name"),
            ("-", "write `stdin:NAME`"),
            ("-x", "cannot be the name of a volume"),
            ("srv/www", "write `./srv/www` or `dir:srv/www`"),
            ("a b", "cannot be the name of a volume"),
            ("a\x1b[2J", "a\\u{1b}[2J"),
            ("my@data", "cannot be the name of a volume"),
            ("nginx:1.27", "is of no known kind"),
            ("vol:x", "did you mean `volume`?"),
            ("containr:x", "did you mean `container`?"),
            ("container:web", "not yet in this version"),
            ("project:shop", "com.docker.compose.project"),
            ("image:nginx:1.27", "not yet in this version"),
            ("service:web", "not yet in this version"),
            ("stack:web", "not yet in this version"),
        ] {
            let error = parse(text).expect_err(text);
            assert_eq!(error.code(), 2, "{text}");
            assert!(error.to_string().contains(part), "{error}\nlacks\n{part}");
        }
        assert!(parse(&"x".repeat(256)).is_err());
    }

    #[test]
    fn a_path_need_not_be_utf8_but_a_name_must() {
        assert!(SourceName::parse(OsStr::from_bytes(b"/srv/\xff")).is_ok());
        assert!(SourceName::parse(OsStr::from_bytes(b"dir:\xff")).is_ok());
        assert_eq!(SourceName::parse(OsStr::from_bytes(b"x\xff")).expect_err("no name").code(), 2);
    }

    #[test]
    fn directories_become_absolute() {
        let absolute = |text: &str| {
            parse(text).and_then(|name| name.absolute_in(Path::new("/tmp"))).map(|n| n.to_string())
        };
        assert_eq!(absolute("./a/./b/").expect("a path"), "/tmp/a/b");
        assert_eq!(absolute(".").expect("a path"), "/tmp");
        assert_eq!(absolute("/srv//www/").expect("a path"), "/srv/www");
        assert_eq!(absolute("..").expect("a path"), "/");
        assert_eq!(absolute("../no-such-folder").expect_err("missing").code(), 15);
        assert_eq!(absolute("my-data").expect("a volume"), "my-data");
    }
}
