//! Names of machines in ssh's configuration, as far as they are written out.
//!
//! Only to tell a name that is known from a misspelled one: what a name means is for `ssh` to say,
//! which reads its files itself. A pattern is no name.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Most bytes read of one file.
const FILE_LEN_MAX: u64 = 1 << 20;

/// Most files read, with those that are included.
const FILES_MAX: usize = 200;

/// The configuration of the machine.
const SYSTEM: &str = "/etc/ssh/ssh_config";

/// All names that the configuration of the account with this home directory, and of this machine,
/// mentions behind `Host`.
pub(super) fn all(home: Option<&Path>) -> BTreeSet<String> {
    let mut waiting = vec![(PathBuf::from(SYSTEM), PathBuf::from("/etc/ssh"))];
    waiting.extend(home.map(|home| (home.join(".ssh/config"), home.join(".ssh"))));
    let mut names = BTreeSet::new();
    let mut read = 0;
    while let Some((file, base)) = waiting.pop() {
        read += 1;
        if read > FILES_MAX {
            break;
        }
        for (keyword, words) in lines(&file) {
            match keyword.as_str() {
                "host" => names.extend(words.into_iter().filter(|word| is_name(word))),
                "include" => {
                    let files = words.iter().flat_map(|word| included(word, &base, home));
                    waiting.extend(files.map(|file| (file, base.clone())));
                }
                _ => {}
            }
        }
    }
    names
}

/// Keyword in lower case, and its words, of each line; nothing of what cannot be read.
fn lines(file: &Path) -> Vec<(String, Vec<String>)> {
    let mut text = Vec::new();
    let opened = File::open(file).and_then(|file| file.take(FILE_LEN_MAX).read_to_end(&mut text));
    if opened.is_err() {
        return Vec::new();
    }
    let text = String::from_utf8_lossy(&text);
    let words = |line: &str| {
        let parts = line.split(|c: char| c.is_ascii_whitespace() || c == '=' || c == '"');
        let mut words = parts.filter(|word| !word.is_empty()).map(str::to_owned);
        let keyword = words.next().filter(|word| !word.starts_with('#'))?;
        Some((keyword.to_ascii_lowercase(), words.collect()))
    };
    text.lines().filter_map(words).collect()
}

fn is_name(word: &str) -> bool {
    !word.starts_with('!') && !word.contains(['*', '?', '@', ':', '/'])
}

/// The files an `Include` means: a path, in which the last part may hold `*`.
fn included(word: &str, base: &Path, home: Option<&Path>) -> Vec<PathBuf> {
    let path = match (word.strip_prefix("~/"), home) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => base.join(word),
    };
    let pattern = path.file_name().map(|name| name.to_string_lossy().into_owned());
    let Some((start, end)) = pattern.as_deref().and_then(|name| name.split_once('*')) else {
        return vec![path];
    };
    let entries = path.parent().and_then(|folder| fs::read_dir(folder).ok());
    let mut files: Vec<_> = entries
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            name.len() >= start.len() + end.len() && name.starts_with(start) && name.ends_with(end)
        })
        .map(|entry| entry.path())
        .take(FILES_MAX)
        .collect();
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_with_those_of_included_files_and_patterns_are_none() {
        let home = tempfile::tempdir().expect("a folder");
        let ssh = home.path().join(".ssh");
        fs::create_dir_all(ssh.join("more.d")).expect("made");
        let config = "# Host not-this\nInclude more.d/*.conf ~/.ssh/gone\nHost one two\n  \
                      HostName 10.0.0.1\nhost=three\nHost *.example !four fi?e\nHost \"six\"\n";
        fs::write(ssh.join("config"), config).expect("written");
        fs::write(ssh.join("more.d/a.conf"), "Host seven\nInclude config\n").expect("written");
        fs::write(ssh.join("more.d/b.txt"), "Host eight\n").expect("written");
        let names = all(Some(home.path()));
        for name in ["one", "two", "three", "six", "seven"] {
            assert!(names.contains(name), "{name}: {names:?}");
        }
        for name in ["not-this", "four", "fi?e", "eight", "10.0.0.1"] {
            assert!(!names.contains(name), "{name}: {names:?}");
        }
    }

    #[test]
    fn files_that_are_not_there_or_no_text_name_nothing() {
        let home = tempfile::tempdir().expect("a folder");
        let before = all(None);
        assert_eq!(all(Some(home.path())), before);
        fs::create_dir(home.path().join(".ssh")).expect("made");
        fs::write(home.path().join(".ssh/config"), [0xff; 100]).expect("written");
        assert_eq!(all(Some(home.path())), before);
    }
}
