//! Names that are made to deceive come back byte for byte, and steer no terminal.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;

use super::mounts::Mounted;
use super::program::Program;
use super::{Bench, shown, write};
use crate::support::tree::describe;

const NAMES: [&[u8]; 18] = [
    b"\xff\xfe\x80",
    b"two\nlines",
    b"\x1b[2J\x1b[H",
    b"\x1b]52;c;cm0gLXJmIC8=\x07",
    b"\x1b]0;title\x1b\\",
    "\u{202e}gnp.exe".as_bytes(),
    "\u{2066}a\u{2069}".as_bytes(),
    "\u{200b}\u{feff}".as_bytes(),
    b"safe\rEVIL",
    b"\x08\x08\x08back",
    b"\x9b2J",
    "\u{9b}2J".as_bytes(),
    &[b'l'; 255],
    &[0xf0; 255],
    b"-rf",
    b"--exclude=all",
    b" ",
    b"\\x41",
];

#[test]
fn f109_deceiving_names_come_back_byte_for_byte() {
    let bench = Bench::new();
    for name in NAMES {
        let directory = bench.tree().join(OsStr::from_bytes(name));
        fs::create_dir(&directory).expect("made");
        for name in NAMES {
            write(&directory.join(OsStr::from_bytes(name)), name);
        }
    }
    let tree = describe(&bench.tree());
    let saved = bench.save();
    assert_eq!(shown(&saved.warnings), [""; 0]);
    bench.assert_comes_back(&saved, &tree);
}

/// Does something to a terminal, or to how others are shown.
fn is_sly(c: char) -> bool {
    c.is_control() && c != '\n'
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}')
        || matches!(c, '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[test]
fn f109_the_program_shows_no_deceiving_name_as_it_is() {
    let program = Program::new(&std::env::temp_dir());
    let dir = program.at("s\x1b[2J\r\u{202e}");
    fs::create_dir(&dir).expect("made");
    // Something in each of them must be told: it is a mount point.
    let mut mounted = Vec::new();
    for name in NAMES {
        let path = dir.join(OsStr::from_bytes(name));
        fs::write(&path, b"").expect("written");
        mounted.push(Mounted::new(&["--bind", "--", "/etc/passwd"], path));
    }
    for form in [&["backup"][..], &["--json", "backup"], &["--json=lines", "backup"]] {
        let outcome = program.run(form, &[&dir]);
        assert_eq!(outcome.code, 3, "{}", outcome.stderr.escape_ascii());
        // JSON is for programs and escapes control characters in its own way.
        let shown = if form.len() == 1 { &outcome.stdout[..] } else { b"" };
        for said in [shown, &outcome.stderr] {
            let text = std::str::from_utf8(said).expect("text");
            assert!(!text.contains(is_sly), "{}", said.escape_ascii());
        }
        let raw = |b: &u8| b.is_ascii_control() && *b != b'\n';
        assert!(!outcome.stdout.iter().any(raw), "{}", outcome.stdout.escape_ascii());
        let named = String::from_utf8_lossy(&outcome.stderr).matches("mount point").count();
        match form {
            ["backup"] => assert_eq!(named, NAMES.len()),
            ["--json", _] => {
                let warnings = &outcome.json()["backups"][0]["warnings"];
                assert_eq!(warnings.as_array().map(Vec::len), Some(NAMES.len()));
            }
            _ => {
                for line in String::from_utf8_lossy(&outcome.stdout).lines() {
                    let _: serde_json::Value = serde_json::from_str(line).expect("JSON");
                }
            }
        }
    }
}
