//! Holds the source to `docs/architecture.md`: floors, faces, lengths and heads of files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Which folder or file of `src` may import which, each from rows above it only.
const FLOORS: &[(&str, &[&str])] = &[
    ("id", &[]),
    ("clock", &[]),
    ("event", &[]),
    ("entry", &["id", "clock"]),
    ("near", &["entry"]),
    ("crypto", &["id", "clock"]),
    ("codec", &[]),
    ("format", &["id", "clock", "entry", "crypto", "codec"]),
    ("store", &["id", "clock", "event", "crypto"]),
    ("repo", &["id", "clock", "event", "entry", "crypto", "codec", "format", "store"]),
    ("docker", &["clock", "event"]),
    ("source", &["clock", "event", "entry", "docker"]),
    ("sink", &["clock", "event", "entry", "docker"]),
    (
        "ops",
        &[
            "id", "clock", "event", "entry", "near", "crypto", "codec", "format", "store", "repo",
            "docker", "source", "sink",
        ],
    ),
    ("config", &["entry", "near"]),
];

/// The longest a file and a line may be.
const FILE_LINES_MAX: usize = 620;
const LINE_LEN_MAX: usize = 100;

struct File {
    path: PathBuf,
    text: String,
}

impl File {
    /// The folder, or the file itself, that stands directly below `src`.
    fn place(&self) -> String {
        let below = self.path.strip_prefix("src").expect("a source file");
        let first = below.components().next().expect("not empty").as_os_str().to_string_lossy();
        first.trim_end_matches(".rs").to_owned()
    }

    /// The code before the file's own tests, without comments.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate();
        let before_tests = lines.take_while(|(_, line)| line.trim() != "#[cfg(test)]");
        before_tests.filter(|(_, line)| !line.trim_start().starts_with("//"))
    }
}

fn rust_files(below: &str) -> Vec<File> {
    let mut folders = vec![PathBuf::from(below)];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the clone has this folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let text = fs::read_to_string(&path).expect("source is text");
                files.push(File { path, text });
            }
        }
    }
    assert!(!files.is_empty(), "{below} holds no source");
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

/// Files that only a `#[cfg(test)] mod` line includes.
fn test_only(files: &[File]) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for file in files {
        let lines: Vec<&str> = file.text.lines().map(str::trim).collect();
        for pair in lines.windows(2) {
            let Some(name) = pair[1].strip_suffix(';').and_then(|line| line.split(' ').next_back())
            else {
                continue;
            };
            if pair[0] == "#[cfg(test)]" && pair[1].contains("mod ") {
                let stem = file.path.with_extension("");
                let folder = match file.path.file_name().and_then(|n| n.to_str()) {
                    Some("mod.rs" | "lib.rs" | "main.rs") => {
                        file.path.parent().expect("in a folder").to_path_buf()
                    }
                    _ => stem,
                };
                let _ = found.insert(folder.join(format!("{name}.rs")));
                let _ = found.insert(folder.join(name));
            }
        }
    }
    found
}

fn sources() -> Vec<File> {
    let files = rust_files("src");
    let tests = test_only(&files);
    let is_test = |path: &Path| path.ancestors().any(|at| tests.contains(at));
    files.into_iter().filter(|file| !is_test(&file.path)).collect()
}

/// The names that stand behind `crate::` in a line.
fn imported(line: &str) -> impl Iterator<Item = &str> {
    line.split("crate::").skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        &rest[..end.unwrap_or(rest.len())]
    })
}

#[test]
fn every_folder_imports_only_what_its_floor_allows() {
    let floors: BTreeMap<&str, &[&str]> = FLOORS.iter().copied().collect();
    let mut wrong = Vec::new();
    for file in sources() {
        let place = file.place();
        if matches!(&*place, "lib" | "main" | "cli") {
            continue;
        }
        let Some(allowed) = floors.get(&*place) else {
            wrong.push(format!("{}: has no row in the table of floors", file.path.display()));
            continue;
        };
        for (number, line) in file.code() {
            for name in imported(line).filter(|name| floors.contains_key(name)) {
                if name != place && !allowed.contains(&name) {
                    wrong.push(format!(
                        "{}:{}: {place} may not import {name}; move the type down, or pass it in",
                        file.path.display(),
                        number + 1
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn floors_only_rest_on_rows_above_and_the_document_shows_the_same_table() {
    let mut above = BTreeSet::new();
    let document = fs::read_to_string("docs/architecture.md").expect("the document is there");
    for (name, allowed) in FLOORS {
        for import in *allowed {
            assert!(above.contains(import), "{name} would import {import}, which is not above it");
        }
        let _ = above.insert(*name);
        let row = format!(
            "| `{name}` | {} |",
            match allowed {
                [] => "nothing".to_owned(),
                names => names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(" "),
            }
        );
        assert!(document.contains(&row), "docs/architecture.md lacks the row\n{row}");
    }
}

#[test]
fn the_library_knows_nothing_of_the_command_line() {
    for file in sources().iter().filter(|file| file.place() != "cli" && file.place() != "main") {
        for (number, line) in file.code() {
            let reaches = imported(line).any(|name| name == "cli");
            assert!(!reaches, "{}:{}: {line}", file.path.display(), number + 1);
        }
    }
    let lib = fs::read_to_string("src/lib.rs").expect("the library");
    assert!(!lib.contains("mod cli"), "`mod cli` stands only in main.rs");
}

#[test]
fn async_code_stays_with_the_engine_and_the_stores_elsewhere() {
    const ASYNC: [&str; 4] =
        ["src/docker", "src/store/attempts.rs", "src/store/object", "src/store/sftp"];
    for file in sources() {
        for (number, line) in file.code() {
            let is_async = line.contains("async ") || line.contains(".await");
            let stem = file.path.with_extension("");
            let may = ASYNC.iter().any(|at| {
                file.path.starts_with(at) || stem == Path::new(at) || file.path == Path::new(at)
            });
            assert!(!is_async || may, "{}:{}", file.path.display(), number + 1);
        }
    }
}

#[test]
fn other_folders_are_reached_through_their_face_and_nothing_by_glob() {
    let folders: BTreeSet<&str> = FLOORS
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| Path::new("src").join(name).is_dir())
        .collect();
    for file in sources() {
        let place = file.place();
        for (number, line) in file.code() {
            let at = format!("{}:{}: {}", file.path.display(), number + 1, line.trim());
            assert!(!line.trim_start().starts_with("use ") || !line.contains("::*"), "{at}");
            for rest in line.split("crate::").skip(1) {
                let mut parts = rest.split("::");
                let folder = parts.next().unwrap_or_default();
                let module = parts.next().unwrap_or_default();
                let inner = Path::new("src").join(folder).join(module);
                let is_module =
                    !module.is_empty() && (inner.with_extension("rs").is_file() || inner.is_dir());
                let public = matches!(
                    (folder, module),
                    ("ops", "backup" | "restore") | ("store", "contract")
                );
                let other = folders.contains(folder) && folder != place;
                assert!(!other || !is_module || public, "{at}: go through the face");
            }
        }
    }
}

#[test]
fn every_file_says_what_it_is_and_is_about_one_noun() {
    for file in ["src", "tests", "benches"].iter().flat_map(|folder| rust_files(folder)) {
        let shown = file.path.display();
        assert!(file.text.starts_with("//!"), "{shown} does not say what it is");
        let lines = file.text.lines().count();
        assert!(lines <= FILE_LINES_MAX, "{shown} has {lines} lines");
        for (number, line) in file.text.lines().enumerate() {
            let len = line.chars().count();
            let text = line.trim_start().starts_with(['"', 'r']) || line.contains("https://");
            assert!(len <= LINE_LEN_MAX || text, "{shown}:{} has {len} characters", number + 1);
        }
    }
}

#[test]
fn no_test_file_is_forgotten() {
    let suite = fs::read_to_string("tests/suite.rs").expect("the suite");
    for entry in fs::read_dir("tests").expect("the folder of tests") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().and_then(|name| name.to_str()).expect("a name").to_owned();
        let holds_rust = path.is_dir() && path.join("mod.rs").is_file();
        let is_rust = path.extension().is_some_and(|end| end == "rs") && name != "suite";
        if holds_rust || is_rust {
            assert!(suite.contains(&format!("mod {name};")), "{} is in no suite", path.display());
        }
    }
}
