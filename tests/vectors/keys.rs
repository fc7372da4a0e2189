//! Derivation, chunk ids, slots, recovery codes, seals, run seals, signatures.

use volume_vault::crypto::{
    IdKey, KdfParams, Key, Plaintext, Purpose, RestoreKey, RunSeal, Signer, derive_from_passphrase,
    open, seal,
};
use volume_vault::format::{KeySlot, PackKind, SlotSecret};
use volume_vault::repo::{Keyring, RecoveryCode};

use super::{REPOSITORY, Section, master};

const PURPOSES: [(&str, Purpose); 14] = [
    ("slot secret", Purpose::SlotSecret),
    ("slot commitment", Purpose::SlotCommitment),
    ("data chunk id", Purpose::DataChunkId),
    ("tree chunk id", Purpose::TreeChunkId),
    ("gear table", Purpose::GearTable),
    ("node cut", Purpose::NodeCut),
    ("shared object", Purpose::SharedObject),
    ("run seal psk", Purpose::RunSealPsk),
    ("restore key seed", Purpose::RestoreKeySeed),
    ("owner signing seed", Purpose::OwnerSigningSeed),
    ("pack", Purpose::Pack),
    ("pack commitment", Purpose::PackCommitment),
    ("record body", Purpose::RecordBody),
    ("nonce", Purpose::Nonce),
];

#[test]
fn keys_derive_as_before() {
    let mut section = Section::open("derive");
    for (name, purpose) in PURPOSES {
        section.bytes(name, master().derive(purpose, b"").expose());
        section.bytes(&format!("{name}, abc"), master().derive(purpose, b"abc").expose());
    }
    let mut long = [0; 80];
    master().derive_bytes(Purpose::GearTable, &mut long);
    section.bytes("gear table, 80 bytes", &long);
    section.finish();
}

#[test]
fn chunks_have_the_names_they_had() {
    let mut section = Section::open("chunk ids");
    let keyring = Keyring::new(&master());
    let cut = IdKey::new(master().derive(Purpose::NodeCut, b""));
    for text in ["", "abc", "etc\0hosts"] {
        let shown = text.replace('\0', "/");
        for (name, kind) in [("data", PackKind::Data), ("tree", PackKind::Tree)] {
            let id = keyring.chunk_id(kind, text.as_bytes());
            section.is(&format!("{name} `{shown}`"), id.to_string());
        }
        section.is(&format!("cut number `{shown}`"), cut.number(text.as_bytes()).to_string());
    }
    section.finish();
}

#[test]
fn passphrases_stretch_to_the_keys_they_did() {
    let mut section = Section::open("slot keys");
    let cheap = KdfParams { memory_kib: 19 * 1024, passes: 1, lanes: 1 };
    for (name, params) in [("19456 KiB, 1, 1", cheap), ("65536 KiB, 3, 4", KdfParams::DEFAULT)] {
        let key = derive_from_passphrase(b"correct horse", &[7; 32], params).expect("accepted");
        section.bytes(name, key.expose());
        let commitment = key.derive(Purpose::SlotCommitment, REPOSITORY.as_bytes());
        section.bytes(&format!("{name}, commitment"), commitment.expose());
    }
    section.finish();
}

#[test]
fn slots_open_for_ever() {
    let mut section = Section::open("slots");
    let code = RecoveryCode::parse(CODE).expect("a code").key();
    let file = Key::new([0x11; 32]);
    let cheap = KdfParams { memory_kib: 19 * 1024, passes: 1, lanes: 1 };
    for (name, secret) in [
        ("passphrase `correct horse`", SlotSecret::Passphrase(b"correct horse")),
        ("key file 11…", SlotSecret::KeyFile(&file)),
        ("recovery code", SlotSecret::RecoveryCode(&code)),
    ] {
        let bytes = section.kept(name, || {
            let slot =
                KeySlot::create(&REPOSITORY, secret, cheap, "label", 1_700_000_000, &master());
            slot.expect("a slot").to_vec()
        });
        let slot = KeySlot::decode(&bytes).expect("it parses");
        assert_eq!((slot.label(), slot.created()), ("label", 1_700_000_000));
        let opened = slot.open(&REPOSITORY, secret).expect("it opens");
        assert_eq!(opened.expose(), master().expose());
    }
    section.finish();
}

/// The code of the secret bytes 0 to 19.
const CODE: &str = "babad-bamag-bibaj-bimal-boban-bomar-bubat-bumaz-dabid-damig-pibim-zoros";

#[test]
fn recovery_codes_read_as_they_were_printed() {
    let mut section = Section::open("recovery code");
    let code = RecoveryCode::parse(CODE).expect("a code");
    section.is("words", code.words().as_str());
    section.bytes("key", code.key().expose());
    section.finish();
}

#[test]
fn sealed_texts_open_for_ever() {
    let mut section = Section::open("seal");
    let key = Key::new([0x22; 32]);
    let sealed = section.kept("key 22…, aad `place`, plaintext `content`", || {
        let mut plaintext = Plaintext::with_capacity(7);
        plaintext.extend(b"content");
        seal(&key, plaintext, b"place").expect("randomness").as_bytes().to_vec()
    });
    assert_eq!(open(&key, &sealed, b"place").expect("it opens"), b"content");
    section.finish();
}

#[test]
fn run_seals_open_for_ever() {
    let mut section = Section::open("run seal");
    let seed = master().derive(Purpose::RestoreKeySeed, b"");
    let restore = RestoreKey::from_seed(&seed, master().derive(Purpose::RunSealPsk, b""));
    let kept = section.kept("seal", || {
        let (_, seal) = restore.public().seal(REPOSITORY.as_bytes()).expect("a seal");
        seal.as_bytes().to_vec()
    });
    let kept = RunSeal::from_slice(&kept).expect("its length is right");
    let secret = restore.open(&kept, REPOSITORY.as_bytes()).expect("it opens");
    section.bytes("secret", secret.expose());
    section.finish();
}

#[test]
fn signatures_are_the_same_for_ever() {
    let mut section = Section::open("signature");
    let signer = Signer::from_seed(&master().derive(Purpose::OwnerSigningSeed, b""));
    section.bytes("public key", signer.verifier().as_bytes());
    section.bytes("of `message`", &signer.sign(b"message"));
    section.finish();
}
