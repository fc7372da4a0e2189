//! Entries as people and machines are shown them.

use jiff::tz::TimeZone;
use serde_json::{Map, Value, json};
use volume_vault::entry::{Entry, EntryPath, Kind, escape};
use volume_vault::id::hex;

use super::super::output::{rfc3339, size, time};

/// The name of a kind of entry, in JSON too.
pub(crate) fn type_name(kind: &Kind) -> &'static str {
    match kind {
        Kind::File { .. } => "file",
        Kind::Directory => "directory",
        Kind::Symlink { .. } => "symlink",
        Kind::CharDevice { .. } => "char_device",
        Kind::BlockDevice { .. } => "block_device",
        Kind::Fifo => "fifo",
        Kind::Socket => "socket",
    }
}

/// A path as bytes with slashes; the root is `.`.
pub(crate) fn shown_path(path: &EntryPath) -> Vec<u8> {
    if path.is_root() { b".".to_vec() } else { path.to_slashed() }
}

/// Puts bytes into JSON under `name`. Where they are no UTF-8, they stand there with replacement
/// characters, and `<name>_hex` holds them exactly.
pub(crate) fn put_bytes(fields: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    let _ = fields.insert(name.to_owned(), json!(String::from_utf8_lossy(bytes)));
    if std::str::from_utf8(bytes).is_err() {
        let _ = fields.insert(format!("{name}_hex"), json!(hex(bytes)));
    }
}

/// The metadata of an entry as JSON, without its path.
pub(crate) fn entry_fields(entry: &Entry) -> Map<String, Value> {
    let mut fields = Map::new();
    let mut put = |name: &str, value: Value| drop(fields.insert(name.to_owned(), value));
    put("type", json!(type_name(&entry.kind)));
    put("mode", json!(format!("{:04o}", entry.mode)));
    put("uid", json!(entry.uid));
    put("gid", json!(entry.gid));
    put("mtime", json!(rfc3339(entry.mtime)));
    let names: Vec<_> = entry.xattrs.iter().map(|x| String::from_utf8_lossy(&x.name)).collect();
    put("xattrs", json!(names));
    match &entry.kind {
        Kind::File { size, .. } => put("size", json!(size)),
        Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => {
            put("device", json!({"major": major, "minor": minor}));
        }
        Kind::Symlink { target } => put_bytes(&mut fields, "target", target),
        Kind::Directory | Kind::Fifo | Kind::Socket => {}
    }
    if let Some(first) = &entry.link {
        put_bytes(&mut fields, "link", &first.to_slashed());
    }
    fields
}

/// Mode, owner, size, time and name in one line.
pub(crate) fn long_line(name: &str, entry: &Entry, zone: &TimeZone) -> String {
    let owner = format!("{}:{}", entry.uid, entry.gid);
    let length = match &entry.kind {
        Kind::File { size: bytes, .. } => size(*bytes),
        Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => {
            format!("{major}, {minor}")
        }
        _ => String::new(),
    };
    let time = time(entry.mtime, zone);
    let mut line = format!("{} {owner:>11} {length:>9}  {time}  {name}", mode_letters(entry));
    if let Kind::Symlink { target } = &entry.kind {
        line.push_str(&format!(" -> {}", escape(target)));
    }
    if let Some(first) = &entry.link {
        line.push_str(&format!(" (same file as {first})"));
    }
    line
}

/// As `ls` writes them: `drwxr-sr-t`.
fn mode_letters(entry: &Entry) -> String {
    let kind = match entry.kind {
        Kind::File { .. } => '-',
        Kind::Directory => 'd',
        Kind::Symlink { .. } => 'l',
        Kind::CharDevice { .. } => 'c',
        Kind::BlockDevice { .. } => 'b',
        Kind::Fifo => 'p',
        Kind::Socket => 's',
    };
    let bit = |bit: u32, letter: char| if entry.mode & bit == 0 { '-' } else { letter };
    let special = |bit: u32, special: u32, letter: char| match (
        entry.mode & bit != 0,
        entry.mode & special != 0,
    ) {
        (false, false) => '-',
        (true, false) => 'x',
        (true, true) => letter,
        (false, true) => letter.to_ascii_uppercase(),
    };
    let letters = [
        kind,
        bit(0o400, 'r'),
        bit(0o200, 'w'),
        special(0o100, 0o4000, 's'),
        bit(0o040, 'r'),
        bit(0o020, 'w'),
        special(0o010, 0o2000, 's'),
        bit(0o004, 'r'),
        bit(0o002, 'w'),
        special(0o001, 0o1000, 't'),
    ];
    letters.iter().collect()
}

/// In what two entries at one path differ, apart from the bytes of a file.
pub(crate) fn differing(old: &Entry, new: &Entry) -> Vec<&'static str> {
    let target = |entry: &Entry| match &entry.kind {
        Kind::File { .. } => None,
        kind => Some(kind.clone()),
    };
    let length = |entry: &Entry| match entry.kind {
        Kind::File { size, .. } => Some(size),
        _ => None,
    };
    let same_type = type_name(&old.kind) == type_name(&new.kind);
    [
        ("type", !same_type),
        ("size", same_type && length(old) != length(new)),
        ("target", same_type && target(old) != target(new)),
        ("mode", old.mode != new.mode),
        ("owner", (old.uid, old.gid) != (new.uid, new.gid)),
        ("time", old.mtime != new.mtime),
        ("xattrs", old.xattrs != new.xattrs),
        ("link", old.link != new.link),
    ]
    .into_iter()
    .filter_map(|(name, differs)| differs.then_some(name))
    .collect()
}

#[cfg(test)]
mod tests {
    use volume_vault::clock::Time;

    use super::*;

    fn entry(kind: Kind, mode: u32) -> Entry {
        let mtime = Time::new(0, 0);
        Entry { kind, mode, uid: 1, gid: 2, mtime, xattrs: Vec::new(), link: None }
    }

    #[test]
    fn modes_are_written_as_ls_does() {
        for (kind, mode, letters) in [
            (Kind::Directory, 0o755, "drwxr-xr-x"),
            (Kind::Directory, 0o1777, "drwxrwxrwt"),
            (Kind::File { size: 0, sparse: false }, 0o6751, "-rwsr-s--x"),
            (Kind::File { size: 0, sparse: false }, 0o7000, "---S--S--T"),
            (Kind::Fifo, 0, "p---------"),
        ] {
            assert_eq!(mode_letters(&entry(kind, mode)), letters);
        }
    }

    #[test]
    fn a_long_line_cannot_steer_a_terminal() {
        let link = entry(Kind::Symlink { target: b"\x1b[2J".to_vec() }, 0o777);
        let line = long_line("a", &link, &TimeZone::UTC);
        assert!(!line.contains('\x1b'), "{line:?}");
        assert!(line.starts_with("lrwxrwxrwx         1:2"), "{line}");
        assert!(line.ends_with("1970-01-01 00:00:00 UTC  a -> \\u{1b}[2J"), "{line}");
    }

    #[test]
    fn bytes_that_are_no_text_stand_in_json_exactly() {
        let mut fields = Map::new();
        put_bytes(&mut fields, "path", b"a\xff");
        assert_eq!(Value::Object(fields), json!({"path": "a\u{fffd}", "path_hex": "61ff"}));
    }

    #[test]
    fn what_differs_is_named() {
        let file = |size| Kind::File { size, sparse: false };
        let (old, new) = (entry(file(1), 0o644), entry(file(2), 0o600));
        assert_eq!(differing(&old, &new), ["size", "mode"]);
        assert_eq!(differing(&old, &entry(Kind::Fifo, 0o644)), ["type"]);
    }
}
