//! What of a file's content is there already.
//!
//! Used by the restore into an existing directory.

use super::RestoreRun;
use crate::entry::Extent;
use crate::format::Content;
use crate::ops::error::OpsError;
use crate::repo::ContentWalk;

/// The extents that a file has, asked for in ascending order.
pub(super) struct Extents<'r> {
    walk: Option<ContentWalk<'r>>,
    head: Option<Extent>,
    offset: u64,
}

impl<'r> Extents<'r> {
    pub(super) fn new(run: &'r RestoreRun<'_>, content: Option<&Content>) -> Self {
        let walk = content.map(|content| ContentWalk::new(run.reader, content));
        Self { walk, head: None, offset: 0 }
    }

    /// Whether exactly this extent lies at this offset.
    pub(super) fn has(&mut self, offset: u64, extent: &Extent) -> Result<bool, OpsError> {
        let Some(walk) = &mut self.walk else { return Ok(false) };
        loop {
            if self.head.is_none() {
                self.head = walk.next()?;
            }
            match self.head {
                Some(head) if self.offset < offset => {
                    self.offset += head.len();
                    self.head = None;
                }
                Some(head) => return Ok(self.offset == offset && head == *extent),
                None => return Ok(false),
            }
        }
    }
}
