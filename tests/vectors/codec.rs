//! Numbers and padding.

use volume_vault::codec::{padded_len, put_signed, put_varint};

use super::Section;

#[test]
fn numbers_are_written_as_before() {
    let mut section = Section::open("varint");
    for value in [0, 1, 127, 128, 300, 16_383, 16_384, u64::from(u32::MAX), u64::MAX] {
        let mut out = Vec::new();
        put_varint(&mut out, value);
        section.bytes(&value.to_string(), &out);
    }
    for value in [0, -1, 1, -64, 64, i64::MIN, i64::MAX] {
        let mut out = Vec::new();
        put_signed(&mut out, value);
        section.bytes(&format!("signed {value}"), &out);
    }
    section.finish();
}

#[test]
fn sizes_are_padded_as_before() {
    let mut section = Section::open("padme");
    for len in [
        0,
        1,
        2,
        9,
        100,
        128,
        129,
        1000,
        1336,
        4097,
        65_537,
        1_000_000,
        1 << 20,
        33_554_433,
        1_234_567_890,
    ] {
        section.is(&len.to_string(), padded_len(len));
    }
    section.finish();
}
