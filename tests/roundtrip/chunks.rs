//! Content that is hard on the chunker, and files whose length lies at some border.

use std::sync::Arc;

use volume_vault::codec::ChunkerParams;
use volume_vault::entry::{Extent, Kind};
use volume_vault::repo::{ChunkReader, ContentWalk, TreeWalk};

use super::{Bench, Saved, noise, write};
use crate::support::tree::describe;

/// Length of the longest chunk of a snapshot, and of all chunks together.
fn chunk_lens(bench: &Bench, saved: &Saved) -> (u64, u64) {
    let index = Arc::new(bench.repo.load_index().expect("loads"));
    let reader = Arc::new(ChunkReader::new(&bench.repo, &index, 1 << 20));
    let item = &saved.report.item;
    let mut walk = TreeWalk::new(&reader, item.root, item.root_level);
    let (mut longest, mut sum) = (0, 0);
    while let Some((_, stored)) = walk.next().expect("walks") {
        let Kind::File { size, .. } = stored.entry.kind else { continue };
        let mut extents = ContentWalk::new(&reader, &stored.content);
        let mut len = 0;
        while let Some(extent) = extents.next().expect("walks") {
            if let Extent::Chunk(_, len) = extent {
                longest = longest.max(u64::from(len));
                sum += u64::from(len);
            }
            len += extent.len();
        }
        assert_eq!(len, size);
    }
    (longest, sum)
}

/// Sizes to run with: what is usual, the least and the largest there are.
fn params() -> [ChunkerParams; 3] {
    [
        ChunkerParams::DEFAULT,
        ChunkerParams { min: 64, average: 256, max: 512 },
        ChunkerParams { min: 1 << 18, average: 1 << 19, max: ChunkerParams::MAX },
    ]
}

#[test]
fn f120_content_without_cut_points_is_cut_at_the_largest_size() {
    for params in params() {
        assert!(params.is_valid());
        let bench = Bench::with(params, &std::env::temp_dir());
        let of = |alphabet: &[u8], len: usize| -> Vec<u8> {
            let pick = |b: u8| alphabet[usize::from(b) % alphabet.len()];
            noise(9, len).into_iter().map(pick).collect()
        };
        let len = (3 << 20) + 17;
        write(&bench.at("zeros"), vec![0; len]);
        write(&bench.at("ones"), vec![1; len]);
        write(&bench.at("two letters"), of(b"ab", len));
        write(&bench.at("zeros and ones"), of(b"\0\x01", len));
        write(&bench.at("a period"), b"0123456789abcdef".repeat(len / 16));
        write(&bench.at("text"), of(b"the quick brown fox\n", len));
        // Runs of zeros just too short and just long enough to be left out.
        for (name, zeros) in [("short runs", 65_535), ("long runs", 65_536 + 4096)] {
            write(&bench.at(name), [vec![b'x'; 5000], vec![0; zeros]].concat().repeat(20));
        }
        let tree = describe(&bench.tree());
        let saved = bench.save();
        let (longest, sum) = chunk_lens(&bench, &saved);
        assert_eq!(longest, u64::from(params.max));
        // Zeros are no chunks; what repeats is stored once.
        assert!(sum < 8 * len as u64 - 2 * (1 << 20), "{sum}");
        bench.assert_comes_back(&saved, &tree);
    }
}

#[test]
fn files_of_any_length_around_a_border_come_back() {
    for params in params() {
        let bench = Bench::with(params, &std::env::temp_dir());
        let max = params.max as usize;
        for border in [0, 4096, 65_536, max, 2 * max, 1 << 20, (1 << 20) + max, 2 << 20] {
            for len in border.saturating_sub(2)..border + 3 {
                write(&bench.at(&format!("{len}")), noise(5, len));
            }
        }
        let tree = describe(&bench.tree());
        bench.assert_comes_back(&bench.save(), &tree);
    }
}

#[test]
fn zeros_at_the_end_of_a_first_file_come_back() {
    // Where a buffer ends in zeros, the splitter cannot tell whether a run begins there.
    for params in params() {
        for zeros in [1, 4096, 30_000, 65_535, 65_536, 100_000] {
            for len in [params.max as usize, 1 << 20, (1 << 20) + 50_000] {
                let bench = Bench::with(params, &std::env::temp_dir());
                let data = noise(6, len + 4096 - zeros.min(len));
                write(&bench.at("f"), [data, vec![0; zeros]].concat());
                let tree = describe(&bench.tree());
                bench.assert_comes_back(&bench.save(), &tree);
            }
        }
    }
}
