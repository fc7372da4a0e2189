//! The hot stages, each beside what the machine could do at most, measured in the same run.
//!
//!     cargo bench                     # everything, in the order of the data's way
//!     cargo bench -- seal             # one stage and its limits
//!
//! A group is a stage. Its rows `stage …` are this project's code, its rows `limit …` the bare
//! operation that the stage cannot do without. A stage that falls behind its own limits has grown
//! worse; where both fall, the machine was busy.

use std::sync::Arc;

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use tempfile::TempDir;
use volume_vault::clock::Clock;
use volume_vault::codec::Piece;
use volume_vault::crypto::{Key, Plaintext, open_into, seal};
use volume_vault::entry::{Entry, EntryPath, Extent, Kind};
use volume_vault::event::{Observer, Recorder};
use volume_vault::format::{Content, FrameContent, FramePlaintext, PackKind, Stored};
use volume_vault::id::ChunkId;
use volume_vault::repo::{
    ChunkReader, ChunkWriter, Dirs, InitOptions, Repository, Secret, Session, TreeBuilder,
    TreeDiff, TreeRoot, TreeWalk, WriterOptions, init,
};
use volume_vault::store::MemoryStore;

/// Content of a frame, and bytes that a buffer of the reading stage holds.
const FRAME_LEN: usize = 1 << 20;
const CHUNK_LEN: usize = 32 << 10;

fn main() {
    divan::main();
}

/// Numbers without visible order, always the same (splitmix64).
fn scramble(n: u64) -> u64 {
    let mut x = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Bytes that do not compress.
fn noise(len: usize) -> Vec<u8> {
    (0..len.div_ceil(8) as u64).flat_map(|n| scramble(n).to_le_bytes()).take(len).collect()
}

/// Lines that compress as logs do.
fn text(len: usize) -> Vec<u8> {
    let line = |n: u64| {
        let (host, status, bytes) = (scramble(n) % 250, 200 + scramble(2 * n) % 5, scramble(3 * n));
        format!("10.0.0.{host} - - GET /item/{} {status} {}\n", n % 977, bytes % 100_000)
    };
    (0..).flat_map(|n| line(n).into_bytes()).take(len).collect()
}

/// A repository in memory that is used as a run uses it.
struct World {
    repo: Arc<Repository>,
    _home: TempDir,
}

impl World {
    fn new() -> Self {
        let store = Arc::new(MemoryStore::new(Clock::System));
        let secret = || Secret::KeyFile(Key::new([7; 32]));
        let _ = init(&*store, &InitOptions::default(), |_| Ok(secret())).expect("a repository");
        let home = tempfile::tempdir().expect("a directory");
        let dirs = Dirs { cache: home.path().join("cache"), state: home.path().join("state") };
        let repo = Arc::new(Repository::open(store, &secret(), &dirs).expect("it opens"));
        Self { repo, _home: home }
    }

    fn writer(&self) -> ChunkWriter {
        let observer: Arc<dyn Observer> = Arc::new(Recorder::default());
        let session = Session::begin(&self.repo, &observer).expect("it begins");
        session.writer(WriterOptions::default())
    }

    fn reader(&self) -> Arc<ChunkReader> {
        let index = Arc::new(self.repo.load_index().expect("it loads"));
        Arc::new(ChunkReader::new(&self.repo, &index, 16 << 20))
    }

    /// Stores a tree of so many files, of which every hundredth differs between two versions.
    fn tree(&self, entries: u64, version: u64) -> TreeRoot {
        let mut writer = self.writer();
        let mut tree = TreeBuilder::default();
        for (path, stored) in (0..entries).map(|n| entry(n, version)) {
            tree.push(&mut writer, path, &stored, None).expect("it ascends");
        }
        let root = tree.finish(&mut writer).expect("it ends");
        let _ = writer.finish().expect("it is stored");
        root
    }
}

fn entry(number: u64, version: u64) -> (EntryPath, Stored) {
    let entry = |kind| Entry {
        kind,
        mode: 0o644,
        uid: 1000,
        gid: 1000,
        mtime: Default::default(),
        xattrs: Vec::new(),
        link: None,
    };
    let Some(file) = number.checked_sub(1) else {
        let stored = Stored { entry: entry(Kind::Directory), content: Content::empty() };
        return (EntryPath::root(), stored);
    };
    let path = EntryPath::from_slashed(format!("file-{file:08}.json").as_bytes()).expect("a path");
    let version = if number.is_multiple_of(100) { version } else { 0 };
    let id = std::array::from_fn(|at| {
        let [low, ..] = scramble(number * 64 + at as u64 + (version << 40)).to_le_bytes();
        low
    });
    let extents = vec![Extent::Chunk(ChunkId::new(id), 64)];
    let kind = Kind::File { size: 64, sparse: false };
    (path, Stored { entry: entry(kind), content: Content::Inline(extents) })
}

/// Cutting content into chunks; at most as fast as memory can be copied.
#[divan::bench_group(name = "1 chunk", max_time = 1)]
mod chunk {
    use super::*;

    #[divan::bench(name = "stage split")]
    fn stage(bencher: Bencher<'_, '_>) {
        let content = noise(8 * FRAME_LEN);
        let splitter = World::new().repo.cutter().splitter();
        let mut pieces: Vec<Piece> = Vec::new();
        bencher.counter(BytesCount::of_slice(&content)).bench_local(|| {
            pieces.clear();
            splitter.split(&content, 0, false, true, &mut pieces)
        });
    }

    #[divan::bench(name = "limit memcpy")]
    fn limit(bencher: Bencher<'_, '_>) {
        let content = noise(8 * FRAME_LEN);
        let mut copy = content.clone();
        bencher.counter(BytesCount::of_slice(&content)).bench_local(|| {
            copy.copy_from_slice(divan::black_box(&content));
            let _ = divan::black_box(&mut copy);
        });
    }
}

/// Naming chunks of 32 KiB.
#[divan::bench_group(name = "2 name", max_time = 1)]
mod name {
    use super::*;

    #[divan::bench(name = "stage chunk_id")]
    fn stage(bencher: Bencher<'_, '_>) {
        let (world, content) = (World::new(), noise(FRAME_LEN));
        bencher.counter(BytesCount::of_slice(&content)).bench_local(|| {
            for chunk in content.chunks(CHUNK_LEN) {
                let _ = divan::black_box(world.repo.chunk_id(PackKind::Data, chunk));
            }
        });
    }

    #[divan::bench(name = "limit BLAKE3")]
    fn limit(bencher: Bencher<'_, '_>) {
        let content = noise(FRAME_LEN);
        bencher
            .counter(BytesCount::of_slice(&content))
            .bench_local(|| blake3::keyed_hash(&[1; 32], divan::black_box(&content)));
    }
}

/// Compressing a frame of 1 MiB.
#[divan::bench_group(name = "3 frame", max_time = 1)]
mod frame {
    use super::*;

    #[divan::bench(name = "stage compress")]
    fn stage(bencher: Bencher<'_, '_>) {
        let content = text(FRAME_LEN);
        bencher
            .counter(BytesCount::of_slice(&content))
            .with_inputs(|| {
                let mut frame = FrameContent::with_capacity(FRAME_LEN);
                frame.push(&content);
                frame
            })
            .bench_local_values(|frame| FramePlaintext::compress(3, frame).expect("zstd"));
    }

    #[divan::bench(name = "limit zstd")]
    fn limit(bencher: Bencher<'_, '_>) {
        let content = text(FRAME_LEN);
        let mut out = vec![0; FRAME_LEN];
        let mut compressor = zstd::bulk::Compressor::new(3).expect("a context");
        bencher
            .counter(BytesCount::of_slice(&content))
            .bench_local(|| compressor.compress_to_buffer(&content, &mut out).expect("it fits"));
    }
}

/// The bare cipher; always the same nonce, as nothing that is sealed here is kept.
fn cipher() -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &[1; 32]).expect("its length"))
}

fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([2; 12])
}

/// Sealing a frame of 1 MiB that was compressed: one pass of the cipher, and one of the hash for
/// the nonce.
#[divan::bench_group(name = "4 seal", max_time = 1)]
mod sealing {
    use super::*;

    pub(super) fn plaintext(content: &[u8]) -> Plaintext {
        let mut plaintext = Plaintext::with_capacity(content.len());
        plaintext.extend(content);
        plaintext
    }

    #[divan::bench(name = "stage seal")]
    fn stage(bencher: Bencher<'_, '_>) {
        let (key, content) = (Key::new([1; 32]), noise(FRAME_LEN));
        bencher
            .counter(BytesCount::of_slice(&content))
            .with_inputs(|| plaintext(&content))
            .bench_local_values(|plaintext| seal(&key, plaintext, b"place").expect("randomness"));
    }

    #[divan::bench(name = "limit ChaCha20-Poly1305")]
    fn limit(bencher: Bencher<'_, '_>) {
        let cipher = cipher();
        let mut content = noise(FRAME_LEN);
        bencher.counter(BytesCount::of_slice(&content)).bench_local(|| {
            let aad = Aad::from(b"place");
            cipher.seal_in_place_separate_tag(nonce(), aad, &mut content).expect("short")
        });
    }

    #[divan::bench(name = "limit BLAKE3")]
    fn limit_hash(bencher: Bencher<'_, '_>) {
        let content = noise(FRAME_LEN);
        bencher
            .counter(BytesCount::of_slice(&content))
            .bench_local(|| blake3::keyed_hash(&[1; 32], divan::black_box(&content)));
    }
}

/// Opening what was sealed.
#[divan::bench_group(name = "5 open", max_time = 1)]
mod opening {
    use super::*;

    #[divan::bench(name = "stage open")]
    fn stage(bencher: Bencher<'_, '_>) {
        let (key, content) = (Key::new([1; 32]), noise(FRAME_LEN));
        let sealed = seal(&key, sealing::plaintext(&content), b"place").expect("randomness");
        let mut out = Vec::new();
        bencher.counter(BytesCount::of_slice(&content)).bench_local(|| {
            open_into(&key, sealed.as_bytes(), b"place", &mut out).expect("it opens");
        });
    }

    #[divan::bench(name = "limit ChaCha20-Poly1305")]
    fn limit(bencher: Bencher<'_, '_>) {
        let cipher = cipher();
        let mut sealed = noise(FRAME_LEN);
        let aad = || Aad::from(b"place");
        let tag = cipher.seal_in_place_separate_tag(nonce(), aad(), &mut sealed).expect("short");
        let mut content = vec![0; FRAME_LEN];
        bencher.counter(BytesCount::of_slice(&sealed)).bench_local(|| {
            let opened =
                cipher.open_separate_gather(nonce(), aad(), &sealed, tag.as_ref(), &mut content);
            opened.expect("it opens");
        });
    }
}

/// Storing 16 MiB of new chunks that do not compress: named, framed, sealed, checked, packed.
///
/// On all processors; the limit is one pass of everything that a byte must go through, on one.
#[divan::bench_group(name = "6 pack", max_time = 3)]
mod pack {
    use super::*;

    const LEN: usize = 16 << 20;

    #[divan::bench(name = "stage store")]
    fn stage(bencher: Bencher<'_, '_>) {
        let content = noise(LEN);
        bencher.counter(BytesCount::new(LEN)).with_inputs(World::new).bench_local_refs(|world| {
            let mut writer = world.writer();
            for chunk in content.chunks(CHUNK_LEN) {
                let id = world.repo.chunk_id(PackKind::Data, chunk);
                let _ = writer.store(PackKind::Data, id, chunk).expect("it is taken");
            }
            writer.finish().expect("it is stored")
        });
    }

    #[divan::bench(name = "limit ChaCha20-Poly1305 twice, BLAKE3 three times")]
    fn limit(bencher: Bencher<'_, '_>) {
        let cipher = cipher();
        let mut content = noise(LEN);
        bencher.counter(BytesCount::new(LEN)).bench_local(|| {
            for frame in content.chunks_mut(FRAME_LEN) {
                for _ in 0..2 {
                    let tag = cipher.seal_in_place_separate_tag(nonce(), Aad::empty(), frame);
                    let _ = tag.expect("short");
                }
                for _ in 0..3 {
                    let _ = divan::black_box(blake3::keyed_hash(&[1; 32], frame));
                }
            }
        });
    }
}

/// Building a tree of 20,000 entries; each goes into a node that is hashed at least once.
#[divan::bench_group(name = "7 tree build", max_time = 2)]
mod tree_build {
    use super::*;

    const ENTRIES: u64 = 20_000;

    #[divan::bench(name = "stage build")]
    fn stage(bencher: Bencher<'_, '_>) {
        bencher
            .counter(ItemsCount::new(ENTRIES))
            .with_inputs(World::new)
            .bench_local_refs(|world| world.tree(ENTRIES, 0));
    }

    #[divan::bench(name = "limit BLAKE3 of keys and values")]
    fn limit(bencher: Bencher<'_, '_>) {
        let bytes = (0..ENTRIES).flat_map(|number| {
            let (path, stored) = entry(number, 0);
            let mut bytes = path.as_key().to_vec();
            stored.encode(&mut bytes);
            bytes
        });
        let bytes: Vec<u8> = bytes.collect();
        bencher.counter(ItemsCount::new(ENTRIES)).bench_local(|| {
            for node in bytes.chunks(8 << 10) {
                let _ = divan::black_box(blake3::keyed_hash(&[1; 32], node));
            }
        });
    }
}

/// Comparing trees of 100,000 entries that differ in a thousand places.
///
/// Nearly every one lies in a node of about 8 KiB of its own, which is hashed on either side.
#[divan::bench_group(name = "8 tree diff", max_time = 2)]
mod tree_diff {
    use super::*;

    const ENTRIES: u64 = 100_001;
    const DIFFERENCES: u64 = 1000;

    #[divan::bench(name = "stage diff")]
    fn stage(bencher: Bencher<'_, '_>) {
        let world = World::new();
        let roots = [0, 1].map(|version| world.tree(ENTRIES, version));
        let index = Arc::new(world.repo.load_index().expect("it loads"));
        bencher
            .counter(ItemsCount::new(DIFFERENCES))
            .with_inputs(|| Arc::new(ChunkReader::new(&world.repo, &index, 16 << 20)))
            .bench_local_refs(|reader| {
                let [old, new] = roots.map(|root| TreeWalk::new(reader, root.id, root.level));
                let mut diff = TreeDiff::new(old, new);
                let found = std::iter::from_fn(|| diff.next().expect("it reads")).count();
                assert_eq!(found as u64, DIFFERENCES);
            });
    }

    #[divan::bench(name = "stage list, all of one")]
    fn list(bencher: Bencher<'_, '_>) {
        let world = World::new();
        let root = world.tree(ENTRIES, 0);
        bencher.counter(ItemsCount::new(ENTRIES)).with_inputs(|| world.reader()).bench_local_refs(
            |reader| {
                let mut walk = TreeWalk::new(reader, root.id, root.level);
                std::iter::from_fn(|| walk.next().expect("it reads")).count()
            },
        );
    }

    #[divan::bench(name = "limit BLAKE3 of the nodes")]
    fn limit(bencher: Bencher<'_, '_>) {
        let nodes = noise(usize::try_from(DIFFERENCES).expect("few") * (8 << 10));
        bencher.counter(ItemsCount::new(DIFFERENCES)).bench_local(|| {
            for node in nodes.chunks(8 << 10).chain(nodes.chunks(8 << 10)) {
                let _ = divan::black_box(blake3::keyed_hash(&[1; 32], node));
            }
        });
    }
}

/// Looking up chunks in an index of 200,000: one read of 4 KiB for one that is there.
#[divan::bench_group(name = "9 index lookup", max_time = 2)]
mod index_lookup {
    use std::os::unix::fs::FileExt as _;

    use super::*;

    const CHUNKS: u64 = 200_000;
    const LOOKUPS: u64 = 10_000;

    fn bytes(number: u64) -> [u8; 16] {
        let words = [number, scramble(number)].map(u64::to_le_bytes);
        std::array::from_fn(|at| words[at / 8][at % 8])
    }

    fn run(bencher: Bencher<'_, '_>, first: u64) {
        let world = World::new();
        let id = |number| world.repo.chunk_id(PackKind::Data, &bytes(number));
        let mut writer = world.writer();
        for number in 0..CHUNKS {
            let _ = writer.store(PackKind::Data, id(number), &bytes(number)).expect("it is taken");
        }
        let _ = writer.finish().expect("it is stored");
        let index = world.repo.load_index().expect("it loads");
        let ids: Vec<_> = (0..LOOKUPS).map(|n| id(first + scramble(n) % CHUNKS)).collect();
        bencher.counter(ItemsCount::new(LOOKUPS)).bench_local(|| {
            let found = ids.iter().filter(|id| index.find(id).expect("it reads").is_some());
            assert_eq!(found.count() as u64, if first == 0 { LOOKUPS } else { 0 });
        });
    }

    #[divan::bench(name = "stage find, there")]
    fn hit(bencher: Bencher<'_, '_>) {
        run(bencher, 0);
    }

    #[divan::bench(name = "stage find, not there")]
    fn miss(bencher: Bencher<'_, '_>) {
        run(bencher, CHUNKS);
    }

    #[divan::bench(name = "limit pread of 4 KiB")]
    fn limit(bencher: Bencher<'_, '_>) {
        let file = tempfile::tempfile().expect("a file");
        let pages = CHUNKS / 113;
        for page in 0..pages {
            file.write_all_at(&noise(4096), page << 12).expect("it is written");
        }
        let mut buffer = [0; 4096];
        bencher.counter(ItemsCount::new(LOOKUPS)).bench_local(|| {
            for n in 0..LOOKUPS {
                let at = (scramble(n) % pages) << 12;
                file.read_exact_at(divan::black_box(&mut buffer), at).expect("it reads");
            }
        });
    }
}
