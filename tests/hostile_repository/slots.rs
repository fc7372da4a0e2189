//! Key slots of a store that wants the passphrase, or the processor.

use std::sync::Arc;

use minicbor::{Decode, Encode};
use volume_vault::crypto::{
    KdfError, KdfParams, Key, Plaintext, Purpose, derive_from_passphrase, seal,
};
use volume_vault::format::{FormatError, KeySlot, SlotError, SlotSecret};
use volume_vault::id::RepositoryId;
use volume_vault::repo::{Dirs, RepoError, Repository, Secret, list_slots};
use volume_vault::store::{CallKind, RecordStore, Store};

use crate::support::builder::Builder;

const REPOSITORY: RepositoryId = RepositoryId::new([9; 16]);
const CHEAP: KdfParams = KdfParams { memory_kib: 19 * 1024, passes: 1, lanes: 1 };

#[derive(Encode, Decode)]
#[cbor(map)]
struct Header {
    #[n(0)]
    kind: u64,
    #[cbor(n(1), with = "minicbor::bytes")]
    salt: [u8; 32],
    #[n(2)]
    label: String,
    #[n(3)]
    created: i64,
    #[n(4)]
    memory_kib: Option<u64>,
    #[n(5)]
    passes: Option<u64>,
    #[n(6)]
    lanes: Option<u64>,
}

fn header(kind: u64, costs: Option<(u64, u64, u64)>) -> Vec<u8> {
    let header = Header {
        kind,
        salt: [4; 32],
        label: "hostile".to_owned(),
        created: 0,
        memory_kib: costs.map(|c| c.0),
        passes: costs.map(|c| c.1),
        lanes: costs.map(|c| c.2),
    };
    minicbor::to_vec(&header).expect("it encodes")
}

/// A slot of parts: header, commitment, sealed key.
fn slot(header: &[u8], commitment: &[u8; 32], sealed: &[u8]) -> Vec<u8> {
    let len = u16::try_from(header.len()).expect("short");
    [b"VVLT\x01\x10", &len.to_le_bytes()[..], header, commitment, sealed].concat()
}

/// The master key sealed as a slot with this header holds it.
fn sealed_under(kek: &Key, header: &[u8], master: &[u8]) -> Vec<u8> {
    let aad = [b"VVLT\x01\x10", &REPOSITORY.as_bytes()[..], header].concat();
    let mut plaintext = Plaintext::with_capacity(master.len());
    plaintext.extend(master);
    seal(kek, plaintext, &aad).expect("randomness").as_bytes().to_vec()
}

fn commitment(kek: &Key) -> [u8; 32] {
    *kek.derive(Purpose::SlotCommitment, REPOSITORY.as_bytes()).expose()
}

#[test]
fn f096_absurd_costs_of_a_passphrase_are_refused_before_any_work() {
    let most = u64::from(u32::MAX);
    let absurd = [
        (most, 3, 4),
        (65_536, most, 4),
        (65_536, 3, 1 << 24),
        (most, most, most),
        (4 * 1024 * 1024 + 1, 1, 1),
        (65_536, 17, 1),
        (65_536, 1, 17),
        (19 * 1024 - 1, 1, 1),
        (0, 1, 1),
        (65_536, 0, 1),
        (65_536, 1, 0),
    ];
    for costs in absurd {
        let bytes = slot(&header(0, Some(costs)), &[0; 32], &[0; 72]);
        let slot = KeySlot::decode(&bytes).expect("the header is well formed");
        let error = slot.open(&REPOSITORY, SlotSecret::Passphrase(b"x")).expect_err("absurd");
        // This error comes from the bounds alone; the derivation itself fails with another.
        assert!(matches!(error, SlotError::Kdf(KdfError::OutOfBounds(_))), "{costs:?}: {error}");
    }
}

#[test]
fn f096_costs_beyond_their_type_or_missing_are_a_damaged_slot() {
    for costs in [Some((1 << 32, 1, 1)), Some((65_536, u64::MAX, 1)), Some((1, 1, 1 << 40)), None] {
        let bytes = slot(&header(0, costs), &[0; 32], &[0; 72]);
        let opened = KeySlot::decode(&bytes).map_err(SlotError::from);
        let opened = opened.and_then(|s| s.open(&REPOSITORY, SlotSecret::Passphrase(b"x")));
        let error = opened.expect_err("no costs");
        let damaged = matches!(error, SlotError::Format(FormatError::Damaged { .. }));
        assert!(damaged, "{costs:?}: {error}");
    }
}

#[test]
fn f096_a_slot_with_absurd_costs_is_named_and_does_not_keep_another_from_opening() {
    let builder = Builder::new();
    let hostile = slot(&header(0, Some((u64::from(u32::MAX), 1, 1))), &[0; 32], &[0; 72]);
    let at = builder.put(&format!("keys/{}", "0".repeat(32)), hostile);
    let store = Arc::new(builder.store.clone());
    let _ = builder.open();
    let dirs = Dirs { cache: builder.host("c"), state: builder.host("s") };
    let secret = Secret::Passphrase(b"any".to_vec().into());
    let error = Repository::open(store, &secret, &dirs).expect_err("no passphrase opens it");
    assert!(matches!(error, RepoError::Slot(SlotError::Kdf(_))), "{error}: {at}");
}

#[test]
fn f097_of_100_000_key_slots_32_are_tried() {
    let builder = Builder::new();
    let own = builder.store.list("keys").expect("lists").remove(0);
    let bytes = builder.bytes(&own.name);
    let hostile = slot(&header(1, None), &[0; 32], &[0; 72]);
    for number in 0..100_000u32 {
        let _ = builder.put(&format!("keys/{number:032x}"), hostile.clone());
    }
    let open = |secret: &Secret| {
        let store = Arc::new(RecordStore::new(builder.store.clone()));
        let dirs = Dirs { cache: builder.host("c"), state: builder.host("s") };
        let opened = Repository::open(store.clone(), secret, &dirs).map(drop);
        let read = store.targets(CallKind::Get);
        (opened, read.iter().filter(|name| name.starts_with("keys/")).count())
    };
    let secret = Secret::KeyFile(builder.key.clone());
    let (opened, tried) = open(&secret);
    assert!(matches!(opened, Err(RepoError::WrongKey { .. })), "{opened:?}");
    assert_eq!(tried, 32);
    assert_eq!(list_slots(&builder.store).expect("lists").len(), 32);
    let _ = builder.put(&format!("keys/{}", "0".repeat(32)), bytes);
    let (opened, tried) = open(&secret);
    assert!(opened.is_ok(), "{opened:?}");
    assert_eq!(tried, 1);
}

#[test]
fn f097_a_slot_longer_than_4_kib_is_not_read() {
    let builder = Builder::new();
    let _ = builder.put(&format!("keys/{}", "0".repeat(32)), vec![0; 4097]);
    let store = RecordStore::new(builder.store.clone());
    let listed = list_slots(&store);
    assert!(store.bytes(CallKind::Get) <= 4096, "{listed:?}");
}

#[test]
fn f097_a_slot_too_long_to_be_read_does_not_keep_another_from_opening() {
    let builder = Builder::new();
    let _ = builder.put(&format!("keys/{}", "0".repeat(32)), vec![0; 4097]);
    let opened = builder.open_at(&builder.host("h"), Arc::new(builder.store.clone()));
    assert!(opened.is_ok(), "{opened:?}");
}

#[test]
fn f098_a_ciphertext_that_opens_under_many_keys_opens_under_the_committed_one_only() {
    // What a partitioning oracle needs: the sealed key opens under this passphrase, and the slot
    // commits to another.
    let header = header(0, Some((19 * 1024, 1, 1)));
    let kek =
        |passphrase: &[u8]| derive_from_passphrase(passphrase, &[4; 32], CHEAP).expect("done");
    let (committed, other) = (kek(b"committed"), kek(b"other"));
    let sealed = sealed_under(&other, &header, &[5; 32]);
    let slot_of = |commitment: [u8; 32], sealed: &[u8]| {
        KeySlot::decode(&slot(&header, &commitment, sealed)).expect("it is well formed")
    };
    let hostile = slot_of(commitment(&committed), &sealed);
    let error = hostile.open(&REPOSITORY, SlotSecret::Passphrase(b"other"));
    assert!(matches!(error, Err(SlotError::WrongSecret)), "{error:?}");
    let error = hostile.open(&REPOSITORY, SlotSecret::Passphrase(b"committed"));
    assert!(matches!(error, Err(SlotError::Format(FormatError::Damaged { .. }))), "{error:?}");
    // Both parts for one passphrase open, so nothing but the commitment stood in the way.
    let honest = slot_of(commitment(&other), &sealed);
    let master = honest.open(&REPOSITORY, SlotSecret::Passphrase(b"other")).expect("it opens");
    assert_eq!(master.expose(), &[5; 32]);
}

#[test]
fn f100_slots_with_lengths_that_lie_are_damaged() {
    let header = header(1, None);
    let key = Key::new([1; 32]);
    let kek = key.derive(Purpose::SlotSecret, &[4; 32]);
    let good = slot(&header, &commitment(&kek), &sealed_under(&kek, &header, &[5; 32]));
    let open = |bytes: &[u8]| {
        let slot = KeySlot::decode(bytes).map_err(SlotError::from)?;
        slot.open(&REPOSITORY, SlotSecret::KeyFile(&key))
    };
    assert!(open(&good).is_ok());
    for len in [0u16, 1, 0xff, u16::MAX] {
        let mut lying = good.clone();
        lying[6..8].copy_from_slice(&len.to_le_bytes());
        assert!(matches!(open(&lying), Err(SlotError::Format(_))), "{len}");
    }
    // A sealed key that is no key.
    for len in [0, 31, 33, 2000] {
        let sealed = sealed_under(&kek, &header, &vec![5; len]);
        let error = open(&slot(&header, &commitment(&kek), &sealed)).expect_err("no key");
        assert!(matches!(error, SlotError::Format(FormatError::Damaged { .. })), "{len}: {error}");
    }
    for len in 0..good.len() {
        assert!(open(&good[..len]).is_err(), "{len}");
    }
}
