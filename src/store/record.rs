//! Counts and lists every call to a store, so that tests prove economy without timing anything.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::crypto::Payload;
use crate::store::{Call, CallKind, Listed, ObjectName, Store, StoreError};

/// Passes calls on and keeps a list of them, in the order in which they ended.
#[derive(Debug)]
pub struct RecordStore<S> {
    inner: S,
    calls: Mutex<Vec<Call>>,
}

impl<S: Store> RecordStore<S> {
    /// Wraps a store.
    #[must_use]
    pub fn new(inner: S) -> Self {
        Self { inner, calls: Mutex::default() }
    }

    /// The calls since the start or the last [`Self::clear`], failed ones included.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.guard().clone()
    }

    /// How many of these were of one kind.
    #[must_use]
    pub fn count(&self, kind: CallKind) -> usize {
        self.guard().iter().filter(|call| call.kind == kind).count()
    }

    /// The targets of the calls of one kind.
    #[must_use]
    pub fn targets(&self, kind: CallKind) -> Vec<String> {
        let calls = self.guard();
        calls.iter().filter(|call| call.kind == kind).map(|call| call.target.clone()).collect()
    }

    /// The bytes of the calls of one kind together.
    #[must_use]
    pub fn bytes(&self, kind: CallKind) -> u64 {
        self.guard().iter().filter(|call| call.kind == kind).map(|call| call.bytes).sum()
    }

    /// Forgets all calls.
    pub fn clear(&self) {
        self.guard().clear();
    }

    fn guard(&self) -> MutexGuard<'_, Vec<Call>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, kind: CallKind, target: &str, bytes: u64) {
        self.guard().push(Call::new(kind, target, bytes));
    }
}

impl<S: Store> Store for RecordStore<S> {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn is_far(&self) -> bool {
        self.inner.is_far()
    }

    fn put(&self, name: &ObjectName, payload: &Payload) -> Result<(), StoreError> {
        let result = self.inner.put(name, payload);
        self.note(CallKind::Put, name.as_str(), payload.len());
        result
    }

    fn get(&self, name: &ObjectName, size_max: u64) -> Result<Vec<u8>, StoreError> {
        let result = self.inner.get(name, size_max);
        let bytes = result.as_ref().map_or(0, |bytes| bytes.len() as u64);
        self.note(CallKind::Get, name.as_str(), bytes);
        result
    }

    fn get_range(
        &self,
        name: &ObjectName,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<(), StoreError> {
        let result = self.inner.get_range(name, offset, buffer);
        self.note(CallKind::GetRange, name.as_str(), buffer.len() as u64);
        result
    }

    fn list(&self, folder: &str) -> Result<Vec<Listed>, StoreError> {
        let result = self.inner.list(folder);
        self.note(CallKind::List, folder, 0);
        result
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        let result = self.inner.delete(name);
        self.note(CallKind::Delete, name.as_str(), 0);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::store::{MemoryStore, contract};

    #[test]
    fn it_keeps_the_contract_of_stores() {
        let store = RecordStore::new(MemoryStore::new(Clock::System));
        contract::check(&store).expect("keeps the contract");
        assert!(store.count(CallKind::Put) > 1001);
    }

    #[test]
    fn every_call_is_listed_with_its_bytes_whether_it_works_or_not() {
        let store = RecordStore::new(MemoryStore::new(Clock::System));
        let name = ObjectName::parse("packs/a").expect("a good name");
        store.put(&name, &Payload::public(vec![1, 2, 3])).expect("puts");
        let _ = store.get(&name, 3).expect("gets");
        store.get_range(&name, 1, &mut [0; 2]).expect("gets");
        let _ = store.list("packs").expect("lists");
        store.delete(&name).expect("deletes");
        let _ = store.get(&name, 3).expect_err("is gone");
        let expected = [
            Call::new(CallKind::Put, "packs/a", 3),
            Call::new(CallKind::Get, "packs/a", 3),
            Call::new(CallKind::GetRange, "packs/a", 2),
            Call::new(CallKind::List, "packs", 0),
            Call::new(CallKind::Delete, "packs/a", 0),
            Call::new(CallKind::Get, "packs/a", 0),
        ];
        assert_eq!(store.calls(), expected);
        assert_eq!(store.count(CallKind::Get), 2);
        assert_eq!(store.bytes(CallKind::Get), 3);
        assert_eq!(store.targets(CallKind::List), ["packs"]);
        store.clear();
        assert!(store.calls().is_empty());
    }
}
