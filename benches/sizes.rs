//! What chunk and frame sizes cost and save on real data, as a table.
//!
//!     cargo bench --bench sizes -- VERSION0 VERSION1...
//!
//! Each argument is a directory with one version of the same data. For every size of chunks and
//! frames: what is stored of the first version and what each later one adds (frames as zstd level 3
//! makes them, sealed, with 19 bytes a chunk in pack and in index), the processor seconds of the
//! codec, and the chunks. Files are read in order of their names, whole regions of them at once.

#![expect(clippy::panic, clippy::print_stdout, reason = "a program to run")]

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use volume_vault::codec::{ChunkerParams, Piece, Splitter};
use volume_vault::crypto::Key;
use volume_vault::format::{FrameContent, FramePlaintext};
use volume_vault::repo::Keyring;

const CHUNKS: [u32; 4] = [16 << 10, 32 << 10, 64 << 10, 128 << 10];
const FRAMES: [usize; 4] = [256 << 10, 512 << 10, 1 << 20, 2 << 20];
const LEVEL: i32 = 3;

/// What a chunk takes in its pack's directory and in the index together, in bytes.
const ENTRY_LEN: u64 = 2 * 19;

const BUFFER_LEN: usize = 8 << 20;

fn main() {
    let versions: Vec<PathBuf> =
        std::env::args().skip(1).filter(|word| word != "--bench").map(PathBuf::from).collect();
    assert!(!versions.is_empty(), "name the directories to read, one a version");
    println!("| chunk KiB | frame KiB | first MiB | each change MiB | seconds | chunks |");
    println!("|---|---|---|---|---|---|");
    for average in CHUNKS {
        let mut frames: Vec<Frames> = FRAMES.into_iter().map(Frames::new).collect();
        let mut cutter = Cutter::new(average);
        for version in &versions {
            cutter.read(version, &mut |chunk| {
                for frames in &mut frames {
                    frames.push(chunk);
                }
            });
            frames.iter_mut().for_each(Frames::end_version);
        }
        for frames in frames {
            let (first, changes) = frames.stored.split_first().expect("there is one version");
            let changes: Vec<String> = changes.iter().map(|bytes| mib(*bytes)).collect();
            println!(
                "| {} | {} | {} | {} | {:.1} | {} |",
                average >> 10,
                frames.len_max >> 10,
                mib(*first),
                changes.join(", "),
                (cutter.spent + frames.spent).as_secs_f64(),
                frames.chunks
            );
        }
    }
}

fn mib(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / f64::from(1 << 20))
}

/// Cuts and names, and passes on what is new.
struct Cutter {
    keyring: Keyring,
    splitter: Splitter,
    known: HashSet<[u8; 32]>,
    buffer: Vec<u8>,
    spent: Duration,
}

impl Cutter {
    fn new(average: u32) -> Self {
        let keyring = Keyring::new(&Key::new([7; 32]));
        let params = ChunkerParams { min: average / 4, average, max: average * 4 };
        Self {
            splitter: keyring.cutter(params).splitter(),
            keyring,
            known: HashSet::new(),
            buffer: vec![0; BUFFER_LEN],
            spent: Duration::ZERO,
        }
    }

    fn read(&mut self, version: &Path, new: &mut dyn FnMut(&[u8])) {
        let mut names: Vec<PathBuf> = std::fs::read_dir(version)
            .unwrap_or_else(|error| panic!("`{}`: {error}", version.display()))
            .map(|entry| entry.expect("an entry").path())
            .collect();
        names.sort_unstable();
        for name in names {
            let kind = name.symlink_metadata().expect("it is there").file_type();
            if kind.is_dir() {
                self.read(&name, new);
            } else if kind.is_file() {
                self.read_file(&mut File::open(&name).expect("it opens"), new);
            }
        }
    }

    fn read_file(&mut self, file: &mut File, new: &mut dyn FnMut(&[u8])) {
        let (mut filled, mut offset, mut in_zeros) = (0, 0u64, false);
        let mut pieces = Vec::new();
        loop {
            let len = file.read(&mut self.buffer[filled..]).expect("it reads");
            filled += len;
            let end = len == 0;
            if !end && filled < self.buffer.len() {
                continue;
            }
            let watch = Instant::now();
            pieces.clear();
            let content = &self.buffer[..filled];
            let done = self.splitter.split(content, offset, in_zeros, end, &mut pieces);
            let mut at = 0;
            let mut fresh = Vec::new();
            for piece in &pieces {
                let bytes = &content[at..at + piece.len()];
                at += piece.len();
                in_zeros = matches!(piece, Piece::Zeros(_));
                let id = |bytes| {
                    *self.keyring.chunk_id(volume_vault::format::PackKind::Data, bytes).as_bytes()
                };
                if !in_zeros && self.known.insert(id(bytes)) {
                    fresh.push(bytes);
                }
            }
            self.spent += watch.elapsed();
            fresh.into_iter().for_each(&mut *new);
            self.buffer.copy_within(done..filled, 0);
            filled -= done;
            offset += done as u64;
            if end {
                return;
            }
        }
    }
}

/// Gathers chunks in frames of one size.
struct Frames {
    len_max: usize,
    content: FrameContent,
    stored: Vec<u64>,
    now: u64,
    spent: Duration,
    chunks: u64,
}

impl Frames {
    fn new(len_max: usize) -> Self {
        let content = FrameContent::with_capacity(len_max);
        Self { len_max, content, stored: Vec::new(), now: 0, spent: Duration::ZERO, chunks: 0 }
    }

    fn push(&mut self, chunk: &[u8]) {
        if self.content.bytes().len() + chunk.len() > self.len_max {
            self.close();
        }
        self.content.push(chunk);
        self.chunks += 1;
        self.now += ENTRY_LEN;
    }

    fn close(&mut self) {
        let next = FrameContent::with_capacity(self.len_max);
        let content = std::mem::replace(&mut self.content, next);
        if content.bytes().is_empty() {
            return;
        }
        let watch = Instant::now();
        let frame = FramePlaintext::compress(LEVEL, content).expect("it compresses");
        self.spent += watch.elapsed();
        self.now += u64::from(frame.sealed_len());
    }

    fn end_version(&mut self) {
        self.close();
        self.stored.push(std::mem::take(&mut self.now));
    }
}
