//! A store that says that it is far away, so that what is done for such stores is done in tests.

use volume_vault::crypto::Payload;
use volume_vault::store::{Listed, ObjectName, Store, StoreError};

/// Passes calls on.
#[derive(Debug)]
pub(crate) struct Far<S>(pub(crate) S);

impl<S: Store> Store for Far<S> {
    fn location(&self) -> String {
        self.0.location()
    }

    fn put(&self, name: &ObjectName, payload: &Payload) -> Result<(), StoreError> {
        self.0.put(name, payload)
    }

    fn get(&self, name: &ObjectName, size_max: u64) -> Result<Vec<u8>, StoreError> {
        self.0.get(name, size_max)
    }

    fn get_range(
        &self,
        name: &ObjectName,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<(), StoreError> {
        self.0.get_range(name, offset, buffer)
    }

    fn list(&self, folder: &str) -> Result<Vec<Listed>, StoreError> {
        self.0.list(folder)
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.0.delete(name)
    }

    fn is_far(&self) -> bool {
        true
    }
}
