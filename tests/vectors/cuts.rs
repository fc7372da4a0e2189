//! Where content is cut.

use volume_vault::codec::{ChunkerParams, Piece};
use volume_vault::crypto::Purpose;
use volume_vault::repo::Keyring;

use super::{Section, master, noise};

/// Lengths of pieces, zero runs as negative numbers.
fn cuts(params: ChunkerParams, content: &[u8]) -> Vec<i64> {
    let mut pieces = Vec::new();
    let splitter = Keyring::new(&master()).cutter(params).splitter();
    let done = splitter.split(content, 0, false, true, &mut pieces);
    assert_eq!(done, content.len());
    let mut lens: Vec<i64> = Vec::new();
    for piece in pieces {
        let len = i64::try_from(piece.len()).expect("short");
        match (piece, lens.last_mut()) {
            (Piece::Zeros(_), Some(before)) if *before < 0 => *before -= len,
            (Piece::Zeros(_), _) => lens.push(-len),
            (Piece::Chunk(_), _) => lens.push(len),
        }
    }
    lens
}

#[test]
fn gear_tables_are_as_before() {
    let mut section = Section::open("gear");
    let mut table = [0; 2048];
    master().derive(Purpose::GearTable, b"").derive_bytes(Purpose::GearTable, &mut table);
    section.bytes("first eight words", &table[..64]);
    section.bytes("last word", &table[2040..]);
    section.finish();
}

#[test]
fn content_is_cut_where_it_was() {
    let mut section = Section::open("cuts");
    let default = ChunkerParams::DEFAULT;
    section.is("1 MiB of noise 1", cuts(default, &noise(1, 1 << 20)));
    section.is("999,999 bytes of noise 2", cuts(default, &noise(2, 999_999)));
    let holes = [
        noise(3, 100_000),
        vec![0; 300_000],
        noise(4, 50_001),
        vec![0; 61_440],
        noise(5, 20_000),
        vec![0; 70_000],
    ];
    section.is("noise and zeros", cuts(default, &holes.concat()));
    section.is("65,536 zeros", cuts(default, &[0; 65_536]));
    section.is("65,535 zeros", cuts(default, &[0; 65_535]));
    section.is("1 MiB of ones", cuts(default, &vec![1; 1 << 20]));
    let small = ChunkerParams { min: 256, average: 1024, max: 4096 };
    section.is("20,000 bytes of noise 6, 256/1024/4096", cuts(small, &noise(6, 20_000)));
    section.finish();
}
