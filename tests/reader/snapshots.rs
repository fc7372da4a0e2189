//! Which snapshots are live, and what they hold: sections 17 to 19.

use std::collections::{BTreeMap, BTreeSet};

use minicbor::Decoder;

use super::index::Index;
use super::keys::{self, Keys, RUN_SEAL_LEN};
use super::objects::{COMMIT, RECORD, Store, TOMBSTONE, open_shell};
use super::packs::DATA;
use super::trees::{self, Content, Extent, Kind};
use super::wire::{self, need};
use super::{Fault, Result, damaged, ensure};

const OBJECT_MOST: usize = 16 << 20;

#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    pub(crate) id: [u8; 32],
    /// Seconds since 1970 and nanoseconds.
    pub(crate) start: (i64, u32),
    pub(crate) host: String,
    pub(crate) tags: Vec<String>,
    pub(crate) items: Vec<Item>,
    pub(crate) chain: Link,
    /// Shown only while all its chunks resolve.
    pub(crate) is_expired: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Item {
    /// 0 volume, 1 directory, 2 stream.
    pub(crate) kind: u64,
    pub(crate) name: String,
    pub(crate) root: [u8; 32],
    pub(crate) level: u8,
    /// Entries, and bytes of content.
    pub(crate) figures: (u64, u64),
}

/// A record's place among those of its writer.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    pub(crate) writer: [u8; 16],
    pub(crate) sequence: u64,
    pub(crate) before: Option<[u8; 32]>,
    /// Hash of the record itself.
    pub(crate) hash: [u8; 32],
}

impl Snapshot {
    /// Whether the index knows every chunk.
    pub(crate) fn resolves(&self, index: &Index) -> bool {
        let check = |extent: &Extent| match extent {
            Extent::Chunk(_, id) => ensure(index.has(DATA, id), "a chunk is lost"),
            Extent::Zeros(_) => Ok(()),
        };
        self.items.iter().all(|item| {
            let walked =
                trees::walk(index, &item.root, item.level, &mut |_, entry| match entry.kind {
                    Kind::File { content: Content::Elsewhere, .. } => Ok(()),
                    Kind::File { size, content } => {
                        trees::content(index, &content, size, &mut { check })
                    }
                    _ => Ok(()),
                });
            walked.is_ok()
        })
    }
}

/// Reads the records of all live snapshots, in order of their start.
pub(crate) fn live(store: &Store, keys: &Keys, reports: &mut Vec<String>) -> Result<Vec<Snapshot>> {
    let names = store.list("snapshots")?;
    let tombstones = tombstones(store, keys, reports)?;
    let mut all = Vec::new();
    for id in names.iter().filter_map(|name| wire::unhex(name.strip_suffix(".ok")?)) {
        let kind = tombstones.get(&id);
        if kind == Some(&0) {
            continue;
        }
        match read(store, keys, id) {
            Ok(snapshot) => all.push(Snapshot { is_expired: kind.is_some(), ..snapshot }),
            Err(fault) => reports.push(format!("snapshots/{}: {fault:?}", wire::hex(&id))),
        }
    }
    all.sort_by_key(|snapshot| (snapshot.start, snapshot.id));
    check_chains(&all, reports);
    Ok(all)
}

/// Snapshot id → kind of what was said of it last. What was taken back is not in it.
fn tombstones(
    store: &Store,
    keys: &Keys,
    reports: &mut Vec<String>,
) -> Result<BTreeMap<[u8; 32], u64>> {
    let mut rounds: BTreeMap<([u8; 32], u64), String> = BTreeMap::new();
    for name in store.list("forget")? {
        let (digits, round) = name.split_once('.').unwrap_or((&name, ""));
        let Some(id) = wire::unhex::<32>(digits) else { continue };
        let number = match round {
            "" => 0,
            _ => match round.parse::<u64>() {
                Ok(number) if (1..10_000).contains(&number) && number.to_string() == round => {
                    number
                }
                _ => continue,
            },
        };
        drop(rounds.insert((id, number), name));
    }
    let mut all = BTreeMap::new();
    // Later rounds come later; what cannot be read may have taken back what was said before.
    for ((id, round), name) in rounds {
        let bytes = store.get(&format!("forget/{name}"), OBJECT_MOST)?;
        let kind = open_shell(keys, TOMBSTONE, &bytes).and_then(|message| {
            let (mut named, mut kind, mut said) = (None, None, 0);
            wire::document(&message, |key, value| {
                match key {
                    0 => named = Some(wire::array::<32>(value)?),
                    1 => kind = Some(value.u64()?),
                    5 => said = value.u64()?,
                    _ => return Ok(false),
                }
                Ok(true)
            })?;
            ensure(kind <= Some(2), "a tombstone is of no known kind")?;
            match named == Some(id) && said == round {
                true => need(kind, "kind"),
                false => Err(Fault::Foreign),
            }
        });
        match kind {
            Ok(2) => drop(all.remove(&id)),
            Ok(kind) => drop(all.insert(id, kind)),
            Err(Fault::Foreign) => {}
            Err(fault) => {
                let _ = all.remove(&id);
                reports.push(format!("forget/{name}: {fault:?}"));
            }
        }
    }
    Ok(all)
}

fn read(store: &Store, keys: &Keys, id: [u8; 32]) -> Result<Snapshot> {
    let digits = wire::hex(&id);
    let record = store.get(&format!("snapshots/{digits}.pending"), OBJECT_MOST)?;
    let commit = store.get(&format!("snapshots/{digits}.ok"), OBJECT_MOST)?;
    let hash = *blake3::hash(&record).as_bytes();

    let (mut named, mut committed) = (None, None);
    wire::document(&open_shell(keys, COMMIT, &commit)?, |key, value| {
        match key {
            0 => named = Some(wire::array::<32>(value)?),
            1 => committed = Some(wire::array::<32>(value)?),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    ensure(named == Some(id), "a commit has another name")?;
    ensure(committed == Some(hash), "a commit is of another record")?;

    let (mut named, mut writer, mut sequence) = (None, None, None);
    let (mut before, mut seal, mut body) = (None, None, None);
    wire::document(&open_shell(keys, RECORD, &record)?, |key, value| {
        match key {
            0 => named = Some(wire::array::<32>(value)?),
            1 => writer = Some(wire::array(value)?),
            2 => sequence = Some(value.u64()?),
            3 => before = Some(wire::array(value)?),
            4 => seal = Some(wire::array::<RUN_SEAL_LEN>(value)?),
            5 => body = Some(value.bytes()?.to_vec()),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    ensure(named == Some(id), "a record has another name")?;
    let run = keys.run_secret(&need(seal, "run seal")?)?;
    let key = keys::derive(&run, "record body", b"");
    let Some(body) = keys::open(&key, &need(body, "body")?, &id) else {
        return damaged("a body does not open");
    };
    let (writer, sequence) = (need(writer, "writer")?, need(sequence, "sequence")?);
    ensure((sequence == 1) == before.is_none() && sequence > 0, "a record has no place")?;
    read_body(&body, id, Link { writer, sequence, before, hash })
}

fn read_body(body: &[u8], id: [u8; 32], chain: Link) -> Result<Snapshot> {
    let (mut seconds, mut nanoseconds, mut host) = (None, None, None);
    let (mut tags, mut items) = (Vec::new(), None);
    wire::document(body, |key, value| {
        match key {
            0 => seconds = Some(value.i64()?),
            1 => nanoseconds = Some(value.u32()?),
            2 => wire::fields(value, |key, value| {
                if key == 0 {
                    host = Some(value.str()?.to_owned());
                }
                Ok(key == 0)
            })?,
            3 => tags = wire::elements(value, |tag| Ok(tag.str()?.to_owned()))?,
            4 => items = Some(wire::elements(value, item)?),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let start = (need(seconds, "start")?, need(nanoseconds, "nanoseconds")?);
    let (host, items) = (need(host, "host")?, need(items, "items")?);
    Ok(Snapshot { id, start, host, tags, items, chain, is_expired: false })
}

fn item(decoder: &mut Decoder<'_>) -> Result<Item> {
    let (mut kind, mut name, mut root, mut level) = (None, None, None, None);
    let mut figures = (0, 0);
    wire::fields(decoder, |key, value| {
        match key {
            0 => kind = Some(value.u64()?),
            1 => name = Some(value.str()?.to_owned()),
            2 => root = Some(wire::array(value)?),
            3 => level = Some(value.u8()?),
            8 => wire::fields(value, |key, value| {
                match key {
                    0 => figures.0 = value.u64()?,
                    1 => figures.1 = value.u64()?,
                    _ => return Ok(false),
                }
                Ok(true)
            })?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    ensure(kind <= Some(2), "an item is of no known kind")?;
    let (root, level) = (need(root, "root")?, need(level, "level")?);
    Ok(Item { kind: need(kind, "kind")?, name: need(name, "name")?, root, level, figures })
}

/// Reports records whose predecessor is not what stands before them.
fn check_chains(all: &[Snapshot], reports: &mut Vec<String>) {
    let known: BTreeMap<_, _> = all.iter().map(|s| (s.chain.hash, &s.chain)).collect();
    let mut seen = BTreeSet::new();
    for Snapshot { id, chain, .. } in all {
        let before = chain.before.and_then(|hash| known.get(&hash));
        let follows =
            |before: &&Link| before.writer == chain.writer && before.sequence + 1 == chain.sequence;
        if before.is_some_and(|before| !follows(before)) {
            reports.push(format!("snapshots/{}: breaks its chain", wire::hex(id)));
        }
        if !seen.insert((chain.writer, chain.sequence)) {
            reports.push(format!("snapshots/{}: one of two in one place", wire::hex(id)));
        }
    }
}
