//! This program as files of an image: the executable and the libraries it was linked to here.
//!
//! A static executable is one file. One that is linked dynamically takes its libraries along, under
//! the names it asks for them by, and the loader is told to look nowhere else. What the system does
//! not load (names of sections, symbols, debugging information) is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use object::Endianness;
use object::elf::{DT_NEEDED, ET_DYN, ET_EXEC, FileHeader64};
use object::read::elf::{Dyn as _, FileHeader as _, ProgramHeader as _};

use super::engine::EngineInfo;

type Elf = FileHeader64<Endianness>;

/// Where the executable lies in the image.
const EXECUTABLE: &str = "vault";
/// Where libraries and loader lie.
const LIBRARIES: &str = "lib";

/// Offset and length, in an ELF header of 64 bits, of what says where the names of sections are.
const SECTION_OFFSET: std::ops::Range<usize> = 40..48;
const SECTION_COUNTS: std::ops::Range<usize> = 58..64;

/// An executable that can be run from an image with nothing else in it.
#[derive(Debug)]
pub struct Program {
    /// Paths in the image without the first slash, and what is there.
    pub(super) files: BTreeMap<String, Vec<u8>>,
    /// The command that runs it, without arguments.
    pub(super) command: Vec<String>,
    /// The architecture it is for, as Go calls it.
    pub(super) arch: &'static str,
}

impl Program {
    /// Whether the machine of an engine can run this program.
    #[must_use]
    pub fn can_run_on(engine: &EngineInfo) -> bool {
        engine.os == "linux" && engine.arch == arch()
    }

    /// The program that runs now.
    ///
    /// Errors: as [`Program::read`].
    pub fn this() -> io::Result<Self> {
        Self::read(Path::new("/proc/self/exe"))
    }

    /// The executable at `path`, which must be for this machine and linked to libraries that this
    /// process has loaded, too.
    ///
    /// Errors: of reading it; `InvalidData` if it is no such executable; `NotFound` for a library.
    pub fn read(path: &Path) -> io::Result<Self> {
        let arch = arch();
        let mut files = BTreeMap::new();
        let bytes = fs::read(path)?;
        let linked = Linked::of(&bytes)?;
        let mut command = Vec::new();
        if let Some(loader) = &linked.loader {
            let name = loader.file_name().unwrap_or_default().to_string_lossy().into_owned();
            command.extend([format!("/{LIBRARIES}/{name}"), "--library-path".to_owned()]);
            command.push(format!("/{LIBRARIES}"));
            let _ = files.insert(format!("{LIBRARIES}/{name}"), loaded(&fs::read(loader)?)?);
        }
        command.push(format!("/{EXECUTABLE}"));
        let folders = library_folders()?;
        let mut wanted: Vec<String> = linked.libraries.into_iter().collect();
        while let Some(name) = wanted.pop() {
            let place = format!("{LIBRARIES}/{name}");
            if files.contains_key(&place) {
                continue;
            }
            let found = folders.iter().map(|folder| folder.join(&name)).find(|path| path.is_file());
            let found = found.ok_or_else(|| {
                io::Error::new(io::ErrorKind::NotFound, format!("library `{name}` of this program"))
            })?;
            let bytes = fs::read(found)?;
            wanted.extend(Linked::of(&bytes)?.libraries);
            let _ = files.insert(place, loaded(&bytes)?);
        }
        let _ = files.insert(EXECUTABLE.to_owned(), loaded(&bytes)?);
        Ok(Self { files, command, arch })
    }
}

/// This machine's architecture, as Go calls it.
fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// What an executable or library is linked to.
struct Linked {
    loader: Option<PathBuf>,
    libraries: BTreeSet<String>,
}

impl Linked {
    fn of(bytes: &[u8]) -> io::Result<Self> {
        let header = Elf::parse(bytes).map_err(no_executable)?;
        let endian = header.endian().map_err(no_executable)?;
        let kind = header.e_type(endian);
        if kind != ET_EXEC && kind != ET_DYN {
            return Err(no_executable("it cannot be run"));
        }
        let mut loader = None;
        for segment in header.program_headers(endian, bytes).map_err(no_executable)? {
            if let Some(path) = segment.interpreter(endian, bytes).map_err(no_executable)? {
                loader = Some(PathBuf::from(String::from_utf8_lossy(path).into_owned()));
            }
        }
        let mut libraries = BTreeSet::new();
        let sections = header.sections(endian, bytes).map_err(no_executable)?;
        if let Some((entries, link)) = sections.dynamic(endian, bytes).map_err(no_executable)? {
            let strings = sections.strings(endian, bytes, link).map_err(no_executable)?;
            for entry in entries.iter().filter(|entry| entry.tag32(endian) == Some(DT_NEEDED)) {
                let name = entry.string(endian, strings).map_err(no_executable)?;
                let _ = libraries.insert(String::from_utf8_lossy(name).into_owned());
            }
        }
        Ok(Self { loader, libraries })
    }
}

/// The part of a file that the system loads, as a file of its own.
fn loaded(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let header = Elf::parse(bytes).map_err(no_executable)?;
    let endian = header.endian().map_err(no_executable)?;
    let segments = header.program_headers(endian, bytes).map_err(no_executable)?;
    let ends = segments.iter().map(|s| s.p_offset(endian).saturating_add(s.p_filesz(endian)));
    let end = ends.max().and_then(|end| usize::try_from(end).ok()).unwrap_or(0);
    let mut kept = bytes.get(..end).ok_or_else(|| no_executable("it is cut short"))?.to_vec();
    if kept.len() < SECTION_COUNTS.end {
        return Err(no_executable("it has no content"));
    }
    kept[SECTION_OFFSET].fill(0);
    kept[SECTION_COUNTS].fill(0);
    // The size of an entry is no count.
    kept[58..60].copy_from_slice(&bytes[58..60]);
    Ok(kept)
}

/// The folders from which this process has its libraries.
fn library_folders() -> io::Result<BTreeSet<PathBuf>> {
    let maps = fs::read_to_string("/proc/self/maps")?;
    let paths = maps.lines().filter_map(|line| line.find('/').map(|at| Path::new(&line[at..])));
    let is_library =
        |path: &&Path| path.file_name().is_some_and(|name| name.to_string_lossy().contains(".so"));
    Ok(paths.filter(is_library).filter_map(|path| Some(path.parent()?.to_owned())).collect())
}

fn no_executable(why: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_string())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::Command;

    use super::*;

    #[test]
    fn a_program_runs_with_nothing_but_its_files() {
        let program = Program::read(Path::new("/bin/true")).expect("an executable");
        let root = tempfile::tempdir().expect("a folder");
        for (path, bytes) in &program.files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(&path, bytes).expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("set");
        }
        let run = Command::new("chroot").arg(root.path()).args(&program.command).output();
        let run = run.expect("chroot starts");
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    }

    #[test]
    fn debugging_information_is_left_out() {
        let this = fs::metadata("/proc/self/exe").expect("it is there").len();
        let program = Program::this().expect("an executable");
        assert!((program.files[EXECUTABLE].len() as u64) < this);
    }

    #[test]
    fn what_is_no_executable_is_refused() {
        let error = Program::read(Path::new("/etc/passwd")).expect_err("a text");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
