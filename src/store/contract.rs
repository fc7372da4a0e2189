//! What every store must do, as checks that the tests of any store run.
//!
//! The checks put objects below `contract/` and remove them again, whatever else the store holds.

use std::thread;

use crate::crypto::Payload;
use crate::store::fault::splitmix64;
use crate::store::{Listed, ObjectName, Store, StoreError};

type Check = fn(&dyn Store) -> Result<(), String>;

const CHECKS: [(&str, Check); 9] = [
    ("put and get", puts_and_gets),
    ("put twice", puts_twice),
    ("missing objects", misses),
    ("size limit", limits_size),
    ("ranges", gets_ranges),
    ("delete", deletes),
    ("folders", lists_folders),
    ("many objects", lists_many),
    ("threads", serves_threads),
];

/// Checks a store; the error says what it does not keep.
pub fn check(store: &dyn Store) -> Result<(), String> {
    for (what, check) in CHECKS {
        check(store).map_err(|error| format!("{what}: {error}"))?;
    }
    let left = names(&listed(store, "contract")?);
    ensure(left.is_empty(), || format!("deleted objects are listed: {left:?}"))
}

fn puts_and_gets(store: &dyn Store) -> Result<(), String> {
    let mut many = Payload::default();
    for part in 0..3000_u32 {
        many.append(Payload::public(noise(u64::from(part), part as usize % 5)));
    }
    let mut large = Payload::default();
    for part in 0..6 {
        large.append(Payload::public(noise(part, 1024 * 1024)));
    }
    large.append(Payload::public(vec![1, 2, 3]));
    for (base, payload) in [
        ("one", Payload::public(vec![0])),
        ("empty", Payload::default()),
        ("empty-part", Payload::public(Vec::new())),
        ("many-parts", many),
        ("large", large),
    ] {
        let name = name(&format!("contract/put/{base}"))?;
        put(store, &name, &payload)?;
        same(&name, &get(store, &name)?, &payload.to_vec())?;
        delete(store, &name)?;
    }
    Ok(())
}

fn puts_twice(store: &dyn Store) -> Result<(), String> {
    let name = name("contract/twice/object")?;
    let bytes = noise(1, 70_000);
    let mut parts = Payload::public(bytes[..10].to_vec());
    parts.append(Payload::public(bytes[10..].to_vec()));
    for payload in [Payload::public(bytes.clone()), parts.clone(), parts] {
        put(store, &name, &payload)?;
    }
    same(&name, &get(store, &name)?, &bytes)?;
    let listed = names(&listed(store, "contract/twice")?);
    ensure(listed == [name.as_str()], || format!("lists {listed:?}"))?;
    delete(store, &name)
}

fn misses(store: &dyn Store) -> Result<(), String> {
    for text in ["contract/none", "contract/no-folder/none", "contract-none"] {
        let name = name(text)?;
        let none = |result: Result<(), StoreError>| match result {
            Err(StoreError::NotFound(named)) if named == name => Ok(()),
            other => Err(format!("`{name}` is missing, but the answer is {other:?}")),
        };
        none(store.get(&name, u64::MAX).map(drop))?;
        none(store.get_range(&name, 0, &mut [0; 1]))?;
        none(store.get_range(&name, 0, &mut []))?;
        delete(store, &name)?;
    }
    let listed = listed(store, "contract/no-folder")?;
    ensure(listed.is_empty(), || format!("a missing folder lists {:?}", names(&listed)))
}

fn limits_size(store: &dyn Store) -> Result<(), String> {
    let (full, empty) = (name("contract/size/full")?, name("contract/size/empty")?);
    put(store, &full, &Payload::public(vec![5; 1000]))?;
    put(store, &empty, &Payload::default())?;
    for (name, size_max) in [(&full, 1000), (&full, u64::MAX), (&empty, 0)] {
        let _ = store.get(name, size_max).map_err(|error| shown(&error))?;
    }
    for size_max in [999, 1, 0] {
        match store.get(&full, size_max) {
            Err(StoreError::Size { name, actual: 1000, .. }) if name == full => {}
            other => return Err(format!("1000 bytes, {size_max} allowed: {other:?}")),
        }
    }
    delete(store, &full)?;
    delete(store, &empty)
}

fn gets_ranges(store: &dyn Store) -> Result<(), String> {
    let name = name("contract/ranges/object")?;
    let bytes = noise(2, 300_000);
    put(store, &name, &Payload::public(bytes.clone()))?;
    let size = bytes.len();
    let whole = (0, size);
    for (start, end) in [whole, (0, 1), (size - 1, size), (77, 200_001), (0, 0), (size, size)] {
        let mut buffer = vec![0xaa; end - start];
        let result = store.get_range(&name, start as u64, &mut buffer);
        result.map_err(|error| format!("{start}..{end}: {}", shown(&error)))?;
        same(&name, &buffer, &bytes[start..end])?;
    }
    let size = size as u64;
    for (offset, len) in [
        (size, 1),
        (size - 1, 2),
        (0, bytes.len() + 1),
        (size + 1, 0),
        (u64::MAX, 1),
        (u64::MAX, 0),
    ] {
        match store.get_range(&name, offset, &mut vec![0; len]) {
            Err(StoreError::Size { name: named, actual, .. })
                if named == name && actual == size => {}
            other => return Err(format!("{len} from {offset} of {size}: {other:?}")),
        }
    }
    delete(store, &name)
}

fn deletes(store: &dyn Store) -> Result<(), String> {
    let (gone, kept) = (name("contract/delete/gone")?, name("contract/delete/kept")?);
    put(store, &gone, &Payload::public(vec![1; 10]))?;
    put(store, &kept, &Payload::public(vec![2; 10]))?;
    store.get_range(&gone, 0, &mut [0; 10]).map_err(|error| shown(&error))?;
    delete(store, &gone)?;
    delete(store, &gone)?;
    for result in [store.get(&gone, 10).map(drop), store.get_range(&gone, 0, &mut [0; 10])] {
        let missing = matches!(result, Err(StoreError::NotFound(_)));
        ensure(missing, || format!("a deleted object answers {result:?}"))?;
    }
    same(&kept, &get(store, &kept)?, &[2; 10])?;
    let listed = names(&listed(store, "contract/delete")?);
    ensure(listed == [kept.as_str()], || format!("lists {listed:?}"))?;
    delete(store, &kept)
}

fn lists_folders(store: &dyn Store) -> Result<(), String> {
    // Sorted as whole names: `-` and `.` come before the slash.
    let all = [
        "contract/f-a/x",
        "contract/f.a/x",
        "contract/f/0a/deep/x",
        "contract/f/0a/x",
        "contract/f/b",
        "contract/f2/x",
    ];
    for (size, text) in all.iter().enumerate().rev() {
        put(store, &name(text)?, &Payload::public(vec![0; size]))?;
    }
    for (folder, expected) in [
        ("contract", &all[..]),
        ("contract/f", &all[2..5]),
        ("contract/f/0a", &all[2..4]),
        ("contract/f2", &all[5..]),
        ("contract/f-", &[]),
        ("contract/f/0", &[]),
    ] {
        let listed = listed(store, folder)?;
        ensure(names(&listed) == expected, || format!("`{folder}` lists {:?}", names(&listed)))?;
        for object in listed {
            let size = all.iter().position(|text| *text == object.name.as_str());
            let right = size.is_some_and(|size| size as u64 == object.size);
            ensure(right, || format!("`{}` is listed with size {}", object.name, object.size))?;
        }
    }
    let root = name("contract.root")?;
    put(store, &root, &Payload::public(vec![1]))?;
    let everything = names(&listed(store, "")?);
    let there = all.iter().copied().chain([root.as_str()]);
    for text in there {
        let found = everything.iter().any(|name| name == text);
        ensure(found, || format!("the empty folder does not list `{text}`"))?;
    }
    delete(store, &root)?;
    all.iter().try_for_each(|text| delete(store, &name(text)?))
}

fn lists_many(store: &dyn Store) -> Result<(), String> {
    /// One more than object stores list at once.
    const OBJECTS: usize = 1001;
    const THREADS: usize = 8;
    let all = |index| name(&format!("contract/many/{:02x}/{index:04}", index % 16));
    let each = |run: &(dyn Fn(ObjectName) -> Result<(), String> + Sync)| {
        on_threads(THREADS, |thread| {
            (thread..OBJECTS).step_by(THREADS).try_for_each(|index| run(all(index)?))
        })
    };
    each(&|name| put(store, &name, &Payload::public(name.as_str().into())))?;
    let mut expected = (0..OBJECTS).map(all).collect::<Result<Vec<_>, _>>()?;
    expected.sort_unstable();
    let listed = listed(store, "contract/many")?;
    let right = listed.iter().map(|object| &object.name).eq(&expected);
    ensure(right, || format!("{} of {OBJECTS} are listed, or not in order", listed.len()))?;
    each(&|name| same(&name, &get(store, &name)?, name.as_str().as_bytes()))?;
    each(&|name| delete(store, &name))
}

fn serves_threads(store: &dyn Store) -> Result<(), String> {
    let shared = name("contract/threads/shared")?;
    let bytes = noise(3, 200_000);
    on_threads(8, |thread| {
        let own = name(&format!("contract/threads/new-{}/{thread}", thread % 2))?;
        let content = noise(100 + thread as u64, 100_000);
        put(store, &shared, &Payload::public(bytes.clone()))?;
        put(store, &own, &Payload::public(content.clone()))?;
        same(&shared, &get(store, &shared)?, &bytes)?;
        let mut buffer = vec![0; 1000];
        for offset in (0..content.len() - buffer.len()).step_by(997) {
            let result = store.get_range(&own, offset as u64, &mut buffer);
            result.map_err(|error| shown(&error))?;
            same(&own, &buffer, &content[offset..offset + 1000])?;
        }
        let listed = names(&listed(store, "contract/threads")?);
        let found = [&own, &shared].iter().all(|n| listed.iter().any(|text| text == n.as_str()));
        ensure(found, || format!("`{own}` was put, but listed are {listed:?}"))?;
        delete(store, &own)
    })?;
    delete(store, &shared)
}

fn on_threads(
    threads: usize,
    run: impl Fn(usize) -> Result<(), String> + Sync,
) -> Result<(), String> {
    thread::scope(|scope| {
        let run = &run;
        let running: Vec<_> = (0..threads).map(|n| scope.spawn(move || run(n))).collect();
        let joined = running.into_iter().map(|thread| match thread.join() {
            Ok(result) => result,
            Err(_) => Err("a thread panicked".to_owned()),
        });
        // All are joined before the first error is returned.
        joined.collect::<Vec<_>>().into_iter().collect()
    })
}

/// Bytes that no compression or lucky buffer could stand in for.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed;
    let words = (0..len.div_ceil(8)).flat_map(|_| splitmix64(&mut state).to_le_bytes());
    words.take(len).collect()
}

fn name(text: &str) -> Result<ObjectName, String> {
    ObjectName::parse(text).ok_or_else(|| format!("`{text}` is no name"))
}

fn put(store: &dyn Store, name: &ObjectName, payload: &Payload) -> Result<(), String> {
    store.put(name, payload).map_err(|error| shown(&error))
}

fn get(store: &dyn Store, name: &ObjectName) -> Result<Vec<u8>, String> {
    store.get(name, u64::MAX).map_err(|error| shown(&error))
}

fn listed(store: &dyn Store, folder: &str) -> Result<Vec<Listed>, String> {
    store.list(folder).map_err(|error| shown(&error))
}

fn delete(store: &dyn Store, name: &ObjectName) -> Result<(), String> {
    store.delete(name).map_err(|error| shown(&error))
}

fn names(listed: &[Listed]) -> Vec<String> {
    listed.iter().map(|object| object.name.to_string()).collect()
}

fn same(name: &ObjectName, found: &[u8], expected: &[u8]) -> Result<(), String> {
    let (len, wanted) = (found.len(), expected.len());
    ensure(found == expected, || format!("`{name}`: other {len} bytes than the {wanted} put"))
}

fn ensure(right: bool, error: impl FnOnce() -> String) -> Result<(), String> {
    if right { Ok(()) } else { Err(error()) }
}

fn shown(error: &StoreError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::store::{CallKind, Fault, FaultPlan, FaultStore, MemoryStore};

    #[test]
    fn a_store_that_breaks_the_contract_is_caught() {
        for kind in
            [CallKind::Put, CallKind::Get, CallKind::GetRange, CallKind::List, CallKind::Delete]
        {
            for fault in [Fault::FailBefore, Fault::FailAfter, Fault::Truncate(1)] {
                if let (CallKind::Delete, Fault::Truncate(_)) = (kind, &fault) {
                    continue;
                }
                let plan = FaultPlan::none().and(Some(kind), "", 3..=9, fault.clone());
                let store = FaultStore::new(MemoryStore::new(Clock::System), plan);
                assert!(check(&store).is_err(), "{kind:?} {fault:?}");
                assert!(!store.hits().is_empty(), "{kind:?} {fault:?}");
            }
        }
    }
}
