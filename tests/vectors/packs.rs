//! Packs, from their bytes to the plaintext of their chunks.

use volume_vault::crypto::{Key, Payload, Purpose, RestoreKey, digest};
use volume_vault::format::{
    FrameContent, FrameEntry, FramePlaintext, OpenedFrame, PackDirectory, PackHeader, PackKind,
    seal_frame, seal_trailer, split_trailer,
};
use volume_vault::id::{ChunkId, PackId, hex};
use volume_vault::repo::Keyring;

use super::{REPOSITORY, Section, master, noise};

fn restore_key() -> RestoreKey {
    let psk = master().derive(Purpose::RunSealPsk, b"");
    RestoreKey::from_seed(&master().derive(Purpose::RestoreKeySeed, b""), psk)
}

/// Two chunks that compress, in one frame, and one that does not, in another.
fn frames() -> [Vec<Vec<u8>>; 2] {
    [vec![b"abc".repeat(50), b"abd".repeat(20)], vec![noise(7, 100)]]
}

fn make(kind: PackKind) -> Vec<u8> {
    let (secret, seal) = restore_key().public().seal(REPOSITORY.as_bytes()).expect("a seal");
    let (header, key) = PackHeader::start(kind, REPOSITORY, &secret, seal).expect("randomness");
    let keyring = Keyring::new(&master());
    let mut payload = Payload::public(header.encode());
    let mut directory = PackDirectory::default();
    for chunks in frames() {
        let offset = u32::try_from(payload.len()).expect("short");
        let mut content = FrameContent::with_capacity(0);
        chunks.iter().for_each(|chunk| content.push(chunk));
        let frame = FramePlaintext::compress(3, content).expect("zstd");
        let ids: Vec<_> = chunks.iter().map(|chunk| keyring.chunk_id(kind, chunk)).collect();
        let lengths = chunks.iter().map(|chunk| u32::try_from(chunk.len()).expect("short"));
        let named = ids.iter().map(ChunkId::prefix).zip(lengths).collect();
        directory.frames.push(FrameEntry { stored_len: frame.sealed_len(), chunks: named });
        let sealed = seal_frame(&key, &header, offset, frame, &ids).expect("randomness");
        payload.append(sealed.into_payload());
    }
    let offset = u32::try_from(payload.len()).expect("short");
    payload.append(seal_trailer(&key, &header, offset, &directory.encode()).expect("randomness"));
    payload.to_vec()
}

fn open(kind: PackKind, bytes: &[u8]) -> (PackHeader, Key, PackDirectory) {
    let header = PackHeader::decode(kind, REPOSITORY, bytes).expect("its header reads");
    let secret = restore_key().open(header.run_seal(), REPOSITORY.as_bytes()).expect("it opens");
    let key = header.key(&secret).expect("it was made with this secret");
    let split = split_trailer(&key, &header, bytes.len() as u64, bytes).expect("it opens");
    (header, key, split.expect("the whole pack is enough"))
}

#[test]
fn packs_open_for_ever() {
    let mut section = Section::open("packs");
    let keyring = Keyring::new(&master());
    for (name, kind) in [("data", PackKind::Data), ("tree", PackKind::Tree)] {
        let bytes = section.kept(name, || make(kind));
        section.is(&format!("{name}, id"), PackId::new(digest(&bytes)).to_string());
        let (header, key, directory) = open(kind, &bytes);
        section.bytes(&format!("{name}, key"), key.expose());
        let mut places = Vec::new();
        for ((offset, frame), chunks) in directory.placed().zip(frames()) {
            let mut opened = OpenedFrame::default();
            let start = usize::try_from(offset).expect("short");
            let stored = &bytes[start..start + frame.stored_len as usize];
            opened.open(&key, &header, offset, stored).expect("it opens");
            assert_eq!(opened.content(), chunks.concat());
            for (chunk, (prefix, len)) in chunks.iter().zip(&frame.chunks) {
                assert_eq!(chunk.len(), *len as usize);
                assert_eq!(keyring.chunk_id(kind, chunk).prefix(), *prefix);
                places.push(format!(
                    "{offset}+{} {} {len}",
                    frame.stored_len,
                    hex(prefix.as_bytes())
                ));
            }
        }
        section.is(&format!("{name}, chunks"), places);
    }
    section.finish();
}
