//! Compression of frames.

use std::cell::RefCell;

use zstd::bulk::{Compressor, Decompressor};

/// How a frame's content is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compressed {
    /// As it is, because it does not shrink.
    Raw,
    /// As one zstd frame of so many bytes.
    Zstd(usize),
}

/// A frame that does not expand to what it should.
#[derive(Debug, thiserror::Error)]
pub enum CompressionError {
    /// libzstd refused.
    #[error("zstd")]
    Zstd(#[source] std::io::Error),
    /// The content has another length than stated.
    #[error("expands to {actual} bytes instead of {expected}")]
    Length {
        /// Bytes that came out.
        actual: usize,
        /// Bytes that should have.
        expected: usize,
    },
}

/// Content from this length on is judged by samples before all of it is compressed, in bytes.
const SAMPLED_FROM: usize = 256 << 10;

/// Samples and their length in bytes: a sixteenth of a frame of 1 MiB.
const SAMPLES: usize = 4;
const SAMPLE_LEN: usize = 16 << 10;

thread_local! {
    static COMPRESSOR: RefCell<Option<(i32, Compressor<'static>)>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Compresses `content` into the start of `out`, which is as long as `content` at most; content
/// that would not shrink is left alone.
///
/// Long content of which no sample shrinks (media, archives, what is encrypted) is not tried whole:
/// zstd is quick on it, but not as quick as everything else that is done to a frame.
/// Units: `level` as zstd's, 1 to 19, negative for faster.
/// Errors: [`CompressionError::Zstd`] if libzstd cannot work at all.
/// Source: RFC 8878. One context per thread is kept.
pub fn compress(
    level: i32,
    content: &[u8],
    out: &mut [u8],
) -> Result<Compressed, CompressionError> {
    COMPRESSOR.with_borrow_mut(|slot| {
        if slot.as_ref().is_none_or(|(at, _)| *at != level) {
            *slot = Some((level, Compressor::new(level).map_err(CompressionError::Zstd)?));
        }
        let Some((_, compressor)) = slot else { return Ok(Compressed::Raw) };
        if content.len() >= SAMPLED_FROM && !samples(content).any(|s| shrinks(compressor, s, out)) {
            return Ok(Compressed::Raw);
        }
        // A result that does not fit is no failure: the content does not shrink.
        match compressor.compress_to_buffer(content, out) {
            Ok(len) if len < content.len() => Ok(Compressed::Zstd(len)),
            _ => Ok(Compressed::Raw),
        }
    })
}

/// Parts of the content, evenly spread.
fn samples(content: &[u8]) -> impl Iterator<Item = &[u8]> {
    let stride = content.len() / SAMPLES;
    (0..SAMPLES).filter_map(move |nr| content.get(nr * stride..nr * stride + SAMPLE_LEN))
}

/// Whether a sample loses at least one byte in 128.
fn shrinks(compressor: &mut Compressor<'_>, sample: &[u8], out: &mut [u8]) -> bool {
    let most = sample.len() - sample.len() / 128;
    out.get_mut(..most).is_none_or(|out| compressor.compress_to_buffer(sample, out).is_ok())
}

/// Expands one zstd frame to exactly `len` bytes into `out`, which is overwritten.
///
/// Errors: [`CompressionError`]; never more than `len` bytes are written, whatever the frame says.
pub fn expand(frame: &[u8], len: usize, out: &mut Vec<u8>) -> Result<(), CompressionError> {
    // What it held is not cleared: all of it is overwritten.
    out.resize(len, 0);
    let actual = DECOMPRESSOR.with_borrow_mut(|slot| {
        if slot.is_none() {
            *slot = Some(Decompressor::new().map_err(CompressionError::Zstd)?);
        }
        let Some(decompressor) = slot else { return Ok(0) };
        let result = decompressor.decompress_to_buffer(frame, &mut out[..]);
        result.map_err(CompressionError::Zstd)
    })?;
    if actual != len {
        out.clear();
        return Err(CompressionError::Length { actual, expected: len });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_compressed_expands(seed: Vec<u8>, repeat in 1usize..200) {
            let content = seed.repeat(repeat);
            let mut out = vec![0; content.len()];
            if let Compressed::Zstd(len) = compress(3, &content, &mut out).expect("zstd") {
                let mut back = Vec::new();
                expand(&out[..len], content.len(), &mut back).expect("it expands");
                prop_assert_eq!(back, content);
            }
        }

        #[test]
        fn hostile_frames_are_errors(frame: Vec<u8>, len in 0usize..10_000) {
            let mut out = Vec::new();
            let _ = expand(&frame, len, &mut out);
            prop_assert!(out.capacity() <= 20_000);
        }
    }

    #[test]
    fn long_content_is_compressed_if_any_part_of_it_shrinks() {
        let mut content = vec![0; 1 << 20];
        blake3::Hasher::new().finalize_xof().fill(&mut content);
        let mut out = vec![0; content.len()];
        assert_eq!(compress(3, &content, &mut out).expect("zstd"), Compressed::Raw);
        for (from, len) in [(0, 16 << 10), (768 << 10, 256 << 10), (520 << 10, 20 << 10)] {
            let mut mixed = content.clone();
            mixed[from..from + len].fill(b'a');
            let mixed = compress(3, &mixed, &mut out).expect("zstd");
            assert!(matches!(mixed, Compressed::Zstd(_)), "{len} bytes at {from}");
        }
    }

    #[test]
    fn a_frame_that_expands_to_more_or_less_than_stated_is_refused() {
        let content = vec![7; 1 << 20];
        let mut out = vec![0; 1 << 20];
        let Compressed::Zstd(len) = compress(3, &content, &mut out).expect("zstd") else {
            unreachable!("zeros shrink")
        };
        let mut back = Vec::new();
        assert!(expand(&out[..len], (1 << 20) - 1, &mut back).is_err());
        assert!(expand(&out[..len], (1 << 20) + 1, &mut back).is_err());
    }
}
