//! A store in memory, for tests and for what need not outlive the process.
//!
//! Clones share the same objects, so that a test keeps a handle to what it gave away.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::clock::{Clock, Time};
use crate::crypto::Payload;
use crate::store::{Created, Listed, ObjectName, Store, StoreError};

/// Objects in a sorted map.
#[derive(Debug, Clone)]
pub struct MemoryStore {
    objects: Arc<Mutex<BTreeMap<ObjectName, Object>>>,
    clock: Arc<Mutex<Clock>>,
}

struct Object {
    bytes: Arc<Vec<u8>>,
    modified: Time,
}

impl std::fmt::Debug for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Object({} bytes)", self.bytes.len())
    }
}

impl MemoryStore {
    /// An empty store whose objects are as old as `clock` says when they are put.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { objects: Arc::default(), clock: Arc::new(Mutex::new(clock)) }
    }

    /// All names, sorted; for tests.
    #[must_use]
    pub fn names(&self) -> Vec<ObjectName> {
        self.objects().keys().cloned().collect()
    }

    /// Changes the bytes of an object as a failing disk would; says whether there is one. For
    /// tests.
    pub fn corrupt(&self, name: &ObjectName, change: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut objects = self.objects();
        let object = objects.get_mut(name);
        object.map(|object| change(Arc::make_mut(&mut object.bytes))).is_some()
    }

    /// Puts any bytes under any name, over what is there; for tests.
    pub fn insert_raw(&self, name: ObjectName, bytes: Vec<u8>) {
        let object = Object { bytes: Arc::new(bytes), modified: self.now() };
        let _ = self.objects().insert(name, object);
    }

    /// Sets when an object was written; says whether there is one. For tests.
    pub fn set_modified(&self, name: &ObjectName, modified: Time) -> bool {
        self.objects().get_mut(name).map(|object| object.modified = modified).is_some()
    }

    /// Sets the clock that says how old objects are, for all clones; for tests.
    pub fn set_clock(&self, clock: Clock) {
        *self.clock.lock().unwrap_or_else(PoisonError::into_inner) = clock;
    }

    /// A store with the same objects that later shares nothing with this one; for tests.
    #[must_use]
    pub fn copied(&self) -> Self {
        let copy = |(name, object): (&ObjectName, &Object)| {
            let bytes = Arc::clone(&object.bytes);
            (name.clone(), Object { bytes, modified: object.modified })
        };
        let objects = self.objects().iter().map(copy).collect();
        Self { objects: Arc::new(Mutex::new(objects)), clock: Arc::new(Mutex::new(self.clock())) }
    }

    fn clock(&self) -> Clock {
        *self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Time {
        self.clock().now()
    }

    fn objects(&self) -> MutexGuard<'_, BTreeMap<ObjectName, Object>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bytes(&self, name: &ObjectName) -> Result<Arc<Vec<u8>>, StoreError> {
        let objects = self.objects();
        let object = objects.get(name).ok_or_else(|| StoreError::NotFound(name.clone()))?;
        Ok(Arc::clone(&object.bytes))
    }
}

impl Store for MemoryStore {
    fn location(&self) -> String {
        "memory".to_owned()
    }

    fn put(&self, name: &ObjectName, payload: &Payload) -> Result<(), StoreError> {
        let bytes = payload.to_vec();
        let mut objects = self.objects();
        match objects.get(name) {
            Some(object) if *object.bytes == bytes => Ok(()),
            Some(_) => Err(StoreError::Io {
                action: format!("put other bytes under `{name}`"),
                location: self.location(),
                source: io::ErrorKind::AlreadyExists.into(),
            }),
            None => {
                let object = Object { bytes: Arc::new(bytes), modified: self.now() };
                let _ = objects.insert(name.clone(), object);
                Ok(())
            }
        }
    }

    fn get(&self, name: &ObjectName, size_max: u64) -> Result<Vec<u8>, StoreError> {
        let bytes = self.bytes(name)?;
        match bytes.len() as u64 {
            actual if actual > size_max => Err(StoreError::too_large(name, actual, size_max)),
            _ => Ok(bytes.to_vec()),
        }
    }

    fn get_range(
        &self,
        name: &ObjectName,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<(), StoreError> {
        let bytes = self.bytes(name)?;
        let start = usize::try_from(offset).ok();
        let range = start.and_then(|start| bytes.get(start..start.checked_add(buffer.len())?));
        match range {
            Some(range) => buffer.copy_from_slice(range),
            None => {
                let actual = bytes.len() as u64;
                return Err(StoreError::too_short(name, actual, offset, buffer.len()));
            }
        }
        Ok(())
    }

    fn list(&self, folder: &str) -> Result<Vec<Listed>, StoreError> {
        let inside = |name: &ObjectName| {
            let below = name.as_str().strip_prefix(folder);
            folder.is_empty() || below.is_some_and(|rest| rest.starts_with('/'))
        };
        let objects = self.objects();
        let objects = objects.iter().filter(|(name, _)| inside(name));
        Ok(objects
            .map(|(name, object)| Listed {
                name: name.clone(),
                size: object.bytes.len() as u64,
                modified: object.modified,
            })
            .collect())
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        let _ = self.objects().remove(name);
        Ok(())
    }

    fn create(&self, name: &ObjectName, payload: &Payload) -> Result<Created, StoreError> {
        let mut objects = self.objects();
        if objects.contains_key(name) {
            return Ok(Created::Taken);
        }
        let object = Object { bytes: Arc::new(payload.to_vec()), modified: self.now() };
        let _ = objects.insert(name.clone(), object);
        Ok(Created::Made)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::contract;

    fn name(text: &str) -> ObjectName {
        ObjectName::parse(text).expect("a good name")
    }

    #[test]
    fn it_keeps_the_contract_of_stores() {
        contract::check(&MemoryStore::new(Clock::System)).expect("keeps the contract");
    }

    #[test]
    fn a_clone_shares_its_objects_and_a_copy_does_not() {
        let store = MemoryStore::new(Clock::System);
        let (clone, copy) = (store.clone(), store.copied());
        store.put(&name("a"), &Payload::public(vec![1])).expect("puts");
        assert_eq!(clone.names(), [name("a")]);
        assert!(copy.names().is_empty());
    }

    #[test]
    fn corrupt_bytes_are_served_and_leave_copies_alone() {
        let store = MemoryStore::new(Clock::System);
        store.insert_raw(name("a"), vec![1, 2]);
        let copy = store.copied();
        assert!(store.corrupt(&name("a"), |bytes| bytes[0] ^= 0x80));
        assert_eq!(store.get(&name("a"), 9).expect("gets"), [0x81, 2]);
        assert_eq!(copy.get(&name("a"), 9).expect("gets"), [1, 2]);
        assert!(!store.corrupt(&name("b"), Vec::clear));
    }

    #[test]
    fn other_bytes_under_a_taken_name_are_refused() {
        let store = MemoryStore::new(Clock::System);
        store.insert_raw(name("a"), vec![1]);
        let error = store.put(&name("a"), &Payload::public(vec![2])).expect_err("is taken");
        assert_eq!(error.to_string(), "put other bytes under `a` in memory");
        assert_eq!(store.get(&name("a"), 9).expect("gets"), [1]);
    }

    #[test]
    fn objects_carry_the_time_of_the_clock_until_it_is_set() {
        let store = MemoryStore::new(Clock::Fixed(Time::new(5, 6)));
        store.put(&name("f/a"), &Payload::public(vec![1])).expect("puts");
        assert_eq!(store.list("f").expect("lists")[0].modified, Time::new(5, 6));
        assert!(store.set_modified(&name("f/a"), Time::new(1, 0)));
        assert_eq!(store.list("f").expect("lists")[0].modified, Time::new(1, 0));
        store.clone().set_clock(Clock::Fixed(Time::new(7, 0)));
        store.put(&name("f/b"), &Payload::public(vec![1])).expect("puts");
        assert_eq!(store.list("f").expect("lists")[1].modified, Time::new(7, 0));
    }
}
