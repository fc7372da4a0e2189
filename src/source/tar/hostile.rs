//! No damage and no ambiguity passes for content.

use std::io::{self, Cursor};
use std::sync::Arc;

use super::tests::{
    assert_refused, entry, file, member, path, pax, raw, read, read_from, stream, write,
};
use super::*;
use crate::event::Recorder;

fn sample() -> Vec<u8> {
    let mut long = file(&"long/".repeat(60), b"1");
    long.1.xattrs.push(Xattr { name: b"user.a".to_vec(), value: b"v".to_vec() });
    write(&[
        (path(""), entry(Kind::Directory), vec![]),
        file("a", &[7; 1500]),
        long,
        file("b", b""),
    ])
}

#[test]
fn f117_a_stream_cut_anywhere_is_refused() {
    let whole = sample();
    let content = whole.iter().rposition(|b| *b != 0).expect("content") + 1;
    let end = content.next_multiple_of(512) + 1024;
    assert!(read(&whole[..end]).is_ok(), "the end marker alone is enough");
    for cut in (0..end).step_by(512).chain((1..end).step_by(97)).chain([end - 1]) {
        let error = read(&whole[..cut]).expect_err("a cut stream");
        let text = error.to_string();
        assert!(text.contains("broke off"), "cut at {cut}: {text}");
    }
}

#[test]
fn f117_a_flipped_bit_in_a_header_is_refused() {
    let whole = sample();
    for at in (0..512).chain(512..1024) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x04;
        // A bit of the checksum's own padding, or one that leaves a digit's blank, changes nothing.
        if !(148..156).contains(&(at % 512)) {
            assert_refused(&bytes, "checksum");
        }
    }
}

#[test]
fn a_failed_stream_stays_failed() {
    let whole = sample();
    let observer = Arc::new(Recorder::default());
    let cut = Box::new(Cursor::new(whole[..1024].to_vec()));
    let mut stream = TarStream::new(cut, TarOptions::new("test.tar"), observer);
    assert!(stream.next().expect("the root").is_some());
    assert!(stream.next().expect("a").is_some());
    assert!(stream.read(&mut [0; 512]).is_err());
    assert!(stream.read(&mut [0; 512]).is_err());
    assert!(stream.next().is_err());
    assert!(stream.next().is_err());
}

#[test]
fn a_transport_error_keeps_its_cause() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::from(io::ErrorKind::ConnectionReset))
        }
    }
    let error = read_from(Broken, TarOptions::new("test.tar")).expect_err("broken");
    assert!(matches!(&error, SourceError::Stream { source: Some(_), .. }), "{error}");
}

#[test]
fn f117_concatenated_streams_and_a_dirty_tail_are_refused() {
    let one = sample();
    assert_refused(&[one.clone(), one.clone()].concat(), "data after the end marker");
    let mut tail = one.clone();
    *tail.last_mut().expect("a tail") = 1;
    assert_refused(&tail, "data after the end marker");
    let mut zeros = one;
    zeros.resize(zeros.len() + 1_000_001, 0);
    assert!(read(&zeros).is_ok());
    let lone = [member(b'0', b"a", b""), vec![0; 512], member(b'0', b"b", b"")].concat();
    assert_refused(&stream(&[&lone]), "half an end marker");
}

#[test]
fn an_empty_stream_is_no_archive() {
    assert_refused(b"", "no end marker");
    assert_refused(&[0; 512], "broke off");
    assert_eq!(read(&[0; 1024]).expect("an empty archive").0, []);
}

#[test]
fn f117_claimed_lengths_take_no_memory() {
    for kind in [b'L', b'K', b'x', b'g'] {
        let gib = raw(kind, b"x", b"10000000000\0");
        assert_refused(&stream(&[&gib]), "extended headers of 1073741824 bytes");
    }
    let half = vec![b'a'; 600_000];
    let both = [member(b'L', b"x", &half), member(b'K', b"x", &half)].concat();
    assert_refused(&stream(&[&both]), "extended headers of 1200000 bytes");
    let endless = raw(b'0', b"a", b"77777777777\0");
    assert_refused(&stream(&[&endless]), "broke off");
}

#[test]
fn f117_two_sizes_for_an_entry_are_refused() {
    let smuggled = member(b'0', b"inner", b"");
    for header_size in [0, 512] {
        let outer = raw(b'0', b"outer", format!("{header_size:011o}\0").as_bytes());
        let bytes = stream(&[&pax(&[("size", "1024")]), &outer, &smuggled, &[0; 1024]]);
        assert_refused(&bytes, "two sizes for one entry");
    }
    let same = stream(&[&pax(&[("size", "5")]), &member(b'0', b"a", b"12345")]);
    assert_eq!(read(&same).expect("equal sizes").0[0].2, b"12345");
    let odd = stream(&[&raw(b'0', b"a", b"0\x0077")]);
    assert_refused(&odd, "malformed size");
    let mut wraps = [0; 12];
    (wraps[0], wraps[3], wraps[10]) = (0x80, 1, 2);
    assert_refused(&stream(&[&raw(b'0', b"a", &wraps)]), "impossible size");
    assert_refused(&stream(&[&raw(b'0', b"a", &[0xff; 12])]), "impossible size");
}

#[test]
fn f117_pax_applied_to_gnu_headers_is_refused() {
    let long = member(b'L', b"x", b"long\0");
    let size = pax(&[("size", "1024")]);
    let a = member(b'0', b"a", b"");
    assert_refused(&stream(&[&size, &long, &a]), "PAX and GNU");
    assert_refused(&stream(&[&long, &size, &a]), "PAX and GNU");
    assert_refused(&stream(&[&size, &size, &a]), "two extended headers");
    assert_refused(&stream(&[&long, &long, &a]), "two extended headers");
    assert_refused(&stream(&[&size]), "without an entry");
    let global = member(b'g', b"g", b"13 comment=a\n");
    assert_refused(&stream(&[&size, &global, &a]), "global header");
}
