//! Which paths of an item are meant: include and exclude patterns.
//!
//! Floor 5. Pure: looks at paths only. Serves backups as well as restores.

use globset::{Candidate, Glob, GlobBuilder, GlobSet, GlobSetBuilder};

use crate::entry::EntryPath;

/// Most patterns of one kind; each costs memory and time for every entry.
const PATTERNS_MAX: usize = 10_000;

/// A selection that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum SelectionError {
    /// Not a pattern.
    #[error("pattern `{}`", crate::entry::escape(.pattern.as_bytes()))]
    Pattern {
        /// As it was given.
        pattern: String,
        /// What is wrong with it.
        source: globset::Error,
    },
    /// Nothing is left of it but slashes.
    #[error("pattern `{}` names nothing", crate::entry::escape(.0.as_bytes()))]
    Empty(String),
    /// More than 10,000 of one kind.
    #[error("{0} patterns are too many")]
    TooMany(usize),
}

/// What to do with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is meant.
    Take,
    /// Neither it nor anything below it is meant.
    Leave,
    /// A directory that is not meant itself, but something below it may be: worth keeping only if
    /// something is.
    Descend,
}

/// Include and exclude patterns over the paths of an item.
///
/// A pattern with a slash in it matches the path from the root, one without matches a name at any
/// depth; a slash at the end restricts it to directories, one at the start ties a name to the root.
/// `*` and `?` stay within a component, `**` goes across. What is excluded takes all below it
/// along; so does what is included. Exclusion wins. The root is never excluded.
#[derive(Debug, Clone)]
pub struct Selection {
    /// None: everything is included.
    include: Option<Patterns>,
    exclude: Option<Patterns>,
}

impl Default for Selection {
    fn default() -> Self {
        Self::all()
    }
}

impl Selection {
    /// Everything.
    #[must_use]
    pub const fn all() -> Self {
        Self { include: None, exclude: None }
    }

    /// What matches one of `include`, or everything if that is empty, without what matches one of
    /// `exclude`.
    ///
    /// Errors: [`SelectionError`] names the pattern that cannot be read.
    pub fn new(include: &[String], exclude: &[String]) -> Result<Self, SelectionError> {
        Ok(Self { include: Patterns::new(include)?, exclude: Patterns::new(exclude)? })
    }

    /// The patterns of what is included, as they were given; none for everything.
    #[must_use]
    pub fn include(&self) -> &[String] {
        self.include.as_ref().map_or(&[], |patterns| &patterns.texts)
    }

    /// The patterns of what is excluded, as they were given.
    #[must_use]
    pub fn exclude(&self) -> &[String] {
        self.exclude.as_ref().map_or(&[], |patterns| &patterns.texts)
    }

    /// Whether everything is meant.
    #[must_use]
    pub const fn is_all(&self) -> bool {
        self.include.is_none() && self.exclude.is_none()
    }

    /// Judges one entry by its path and those of the directories above it.
    #[must_use]
    pub fn verdict(&self, path: &EntryPath, is_dir: bool) -> Verdict {
        if self.is_all() {
            return Verdict::Take;
        }
        let slashed = path.to_slashed();
        if self.exclude.as_ref().is_some_and(|p| p.matches(&slashed, is_dir)) {
            return Verdict::Leave;
        }
        match &self.include {
            None => Verdict::Take,
            Some(include) if include.matches(&slashed, is_dir) => Verdict::Take,
            Some(include) if is_dir && include.may_match_below(&slashed) => Verdict::Descend,
            Some(_) => Verdict::Leave,
        }
    }
}

/// A list of patterns, sorted by what each is held against.
#[derive(Debug, Clone)]
struct Patterns {
    /// As they were given.
    texts: Vec<String>,
    /// Against the path, whatever is there.
    paths: GlobSet,
    /// Against the path of a directory.
    directory_paths: GlobSet,
    /// Against the last component, whatever is there.
    names: GlobSet,
    /// Against the last component of a directory.
    directory_names: GlobSet,
    /// For each pattern against paths, the part up to its first special character, cut at a slash.
    literals: Vec<Vec<u8>>,
}

impl Patterns {
    fn new(patterns: &[String]) -> Result<Option<Self>, SelectionError> {
        if patterns.is_empty() {
            return Ok(None);
        }
        if patterns.len() > PATTERNS_MAX {
            return Err(SelectionError::TooMany(patterns.len()));
        }
        let mut sets = [const { Vec::new() }; 4];
        let mut literals = Vec::new();
        for pattern in patterns {
            let body = pattern.trim_end_matches('/');
            let is_directory = body.len() < pattern.len();
            let is_path = body.contains('/');
            let mut body = body.trim_start_matches('/');
            while let Some(rest) = body.strip_prefix("./") {
                body = rest.trim_start_matches('/');
            }
            if body.is_empty() || body == "." {
                return Err(SelectionError::Empty(pattern.clone()));
            }
            if is_path {
                literals.push(literal(body));
            }
            let set = 2 * usize::from(!is_path) + usize::from(is_directory);
            sets[set].push((pattern.as_str(), compile(pattern, body)?));
        }
        let [paths, directory_paths, names, directory_names] = sets;
        Ok(Some(Self {
            texts: patterns.to_vec(),
            paths: join(paths)?,
            directory_paths: join(directory_paths)?,
            names: join(names)?,
            directory_names: join(directory_names)?,
            literals,
        }))
    }

    /// Whether a pattern matches `path` or a directory above it.
    fn matches(&self, path: &[u8], is_dir: bool) -> bool {
        let ends = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at);
        let above = ends.map(|end| (&path[..end], true));
        let itself = (!path.is_empty()).then_some((path, is_dir));
        above.chain(itself).any(|(path, is_dir)| self.match_one(path, is_dir))
    }

    fn match_one(&self, path: &[u8], is_dir: bool) -> bool {
        let start = path.iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1);
        let whole = Candidate::from_bytes(path);
        let name = Candidate::from_bytes(&path[start..]);
        self.names.is_match_candidate(&name)
            || self.paths.is_match_candidate(&whole)
            || is_dir
                && (self.directory_names.is_match_candidate(&name)
                    || self.directory_paths.is_match_candidate(&whole))
    }

    /// Whether something below the directory `path` may match; says yes rather than look closely.
    fn may_match_below(&self, path: &[u8]) -> bool {
        let is_above = |upper: &[u8], lower: &[u8]| {
            upper.is_empty()
                || lower.starts_with(upper) && matches!(lower.get(upper.len()), None | Some(b'/'))
        };
        !(self.names.is_empty() && self.directory_names.is_empty())
            || self
                .literals
                .iter()
                .any(|literal| is_above(path, literal) || is_above(literal, path))
    }
}

fn literal(pattern: &str) -> Vec<u8> {
    match pattern.find(['*', '?', '[', '{', '\\']) {
        None => pattern.as_bytes().to_vec(),
        Some(special) => {
            let end = pattern[..special].rfind('/').unwrap_or(0);
            pattern.as_bytes()[..end].to_vec()
        }
    }
}

fn compile(pattern: &str, body: &str) -> Result<Glob, SelectionError> {
    GlobBuilder::new(body)
        .literal_separator(true)
        .build()
        .map_err(|source| SelectionError::Pattern { pattern: pattern.to_owned(), source })
}

fn join(globs: Vec<(&str, Glob)>) -> Result<GlobSet, SelectionError> {
    let pattern = globs.first().map(|(pattern, _)| (*pattern).to_owned()).unwrap_or_default();
    let mut builder = GlobSetBuilder::new();
    for (_, glob) in globs {
        let _ = builder.add(glob);
    }
    builder.build().map_err(|source| SelectionError::Pattern { pattern, source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use Verdict::{Descend, Leave, Take};

    fn selection(include: &[&str], exclude: &[&str]) -> Selection {
        let owned = |list: &[&str]| list.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>();
        Selection::new(&owned(include), &owned(exclude)).expect("good patterns")
    }

    fn file(selection: &Selection, path: &[u8]) -> Verdict {
        selection.verdict(&EntryPath::from_slashed(path).expect("a path"), false)
    }

    fn dir(selection: &Selection, path: &[u8]) -> Verdict {
        selection.verdict(&EntryPath::from_slashed(path).expect("a path"), true)
    }

    #[test]
    fn without_patterns_everything_is_taken() {
        let all = selection(&[], &[]);
        assert!(all.is_all());
        assert_eq!((file(&all, b"a/b"), dir(&all, b"")), (Take, Take));
    }

    #[test]
    fn a_pattern_without_slash_matches_the_name_at_any_depth() {
        let s = selection(&[], &["*.log", "cache"]);
        assert_eq!(file(&s, b"a/b/c.log"), Leave);
        assert_eq!(file(&s, b"c.log"), Leave);
        assert_eq!(file(&s, b"a/cache"), Leave);
        assert_eq!(file(&s, b"a/cache2"), Take);
        assert_eq!(file(&s, b"c.log2"), Take);
    }

    #[test]
    fn a_pattern_with_slash_is_tied_to_the_root() {
        let s = selection(&[], &["a/*.log", "/top"]);
        assert_eq!(file(&s, b"a/x.log"), Leave);
        assert_eq!(file(&s, b"a/b/x.log"), Take, "`*` stays within a component");
        assert_eq!(file(&s, b"b/a/x.log"), Take);
        assert_eq!(file(&s, b"top"), Leave);
        assert_eq!(file(&s, b"a/top"), Take);
    }

    #[test]
    fn double_stars_go_across_components() {
        let s = selection(&[], &["a/**/z", "b/**", "**/t/u"]);
        assert_eq!((file(&s, b"a/z"), file(&s, b"a/x/y/z")), (Leave, Leave));
        assert_eq!((dir(&s, b"b"), file(&s, b"b/x/y")), (Take, Leave));
        assert_eq!((file(&s, b"t/u"), file(&s, b"x/t/u"), file(&s, b"x/t")), (Leave, Leave, Take));
    }

    #[test]
    fn an_excluded_directory_takes_all_below_it_along() {
        let s = selection(&["a/b/keep"], &["a/b"]);
        assert_eq!(file(&s, b"a/b/keep"), Leave);
        assert_eq!(dir(&s, b"a/b"), Leave);
        assert_eq!(dir(&s, b"a"), Descend);
    }

    #[test]
    fn a_slash_at_the_end_means_directories_only() {
        let s = selection(&[], &["tmp/", "x/y/"]);
        assert_eq!((dir(&s, b"a/tmp"), file(&s, b"a/tmp")), (Leave, Take));
        assert_eq!((dir(&s, b"x/y"), file(&s, b"x/y"), file(&s, b"x/y/z")), (Leave, Take, Leave));
    }

    #[test]
    fn includes_take_what_is_below_and_descend_to_it() {
        let s = selection(&["a/b", "c/*/d"], &["*.tmp"]);
        assert_eq!(dir(&s, b""), Descend);
        assert_eq!((dir(&s, b"a"), dir(&s, b"a/b"), file(&s, b"a/b/x/y")), (Descend, Take, Take));
        assert_eq!(
            (file(&s, b"a/b/x.tmp"), file(&s, b"a"), file(&s, b"a/bc")),
            (Leave, Leave, Leave)
        );
        assert_eq!((dir(&s, b"c"), dir(&s, b"c/x"), file(&s, b"c/x/d")), (Descend, Descend, Take));
        assert_eq!((dir(&s, b"d"), dir(&s, b"ab")), (Leave, Leave));
        let names = selection(&["*.conf"], &[]);
        assert_eq!((dir(&names, b"x/y"), file(&names, b"x/y/z.conf")), (Descend, Take));
    }

    #[test]
    fn names_are_bytes() {
        let s = selection(&[], &["*.log"]);
        assert_eq!(file(&s, b"\xff\xfe\n.log"), Leave);
        assert_eq!(file(&s, b"\xff.logs"), Take);
    }

    #[test]
    fn bad_patterns_are_named() {
        for bad in ["a[", "{a", "", "/", "./", "//"] {
            let error = Selection::new(&[], &[bad.to_owned()]).expect_err(bad);
            assert!(error.to_string().contains(&format!("`{bad}`")), "{error}");
        }
    }

    #[test]
    fn a_match_below_is_never_cut_off_above() {
        let patterns = ["a/b/c", "**/c", "{a,b/x}/c", "a\\*/c", "[ab]/c", "a?/c", "c", "a/**"];
        let paths: [&[u8]; 7] = [b"a/b/c", b"b/x/c", b"a*/c", b"a/c", b"b/c", b"ax/c", b"c"];
        for pattern in patterns {
            let s = selection(&[pattern], &[]);
            for path in paths {
                let mut above = EntryPath::from_slashed(path).expect("a path");
                if s.verdict(&above, false) != Take {
                    continue;
                }
                while let Some(parent) = above.parent() {
                    assert_ne!(s.verdict(&parent, true), Leave, "{pattern} at {parent}");
                    above = parent;
                }
            }
        }
    }
}
