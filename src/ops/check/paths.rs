//! Names the files that damage touches, along the damaged branches of trees only.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::packs::{Found, Losses};
use super::report::{Findings, Touched, TouchedFile};
use super::trees::Walked;
use crate::entry::{EntryPath, Extent};
use crate::format::{Child, Content, ContentNode, ContentRef, Item, PackKind, TreeNode};
use crate::id::ChunkId;
use crate::ops::error::{Interrupt, OpsError};
use crate::repo::{ChunkReader, RepoError, Snapshot, pack_name, read_content_node};

/// So many files of an item are named, and of all items together; more are counted.
const FILES_MAX: usize = 1000;
const FILES_MAX_TOTAL: usize = 100_000;

/// So many damaged objects are named for a file.
const OBJECTS_MAX: usize = 8;

/// Adds what is touched of each of these items.
pub(super) fn name_paths(
    reader: &Arc<ChunkReader>,
    losses: &Losses,
    walked: &Walked,
    dirty: &[(&Snapshot, &Item)],
    findings: &mut Findings,
    interrupt: &Interrupt,
) -> Result<(), OpsError> {
    let mut room = FILES_MAX_TOTAL;
    for (snapshot, item) in dirty {
        let touched = Touched { item: Some(item.name.clone()), ..Touched::whole(snapshot.id) };
        let mut naming =
            Naming { reader, losses, walked, interrupt, touched, room: room.min(FILES_MAX) };
        naming.tree_node(item.root_level, item.root, &EntryPath::root(), item.facts.entries)?;
        let hints = item.hints_root();
        naming.touched.hints = hints.is_some_and(|root| !walked.is_sound(&root.id));
        room -= naming.touched.files.len().min(room);
        findings.touched.push(naming.touched);
    }
    Ok(())
}

struct Naming<'a> {
    reader: &'a ChunkReader,
    losses: &'a Losses,
    walked: &'a Walked,
    interrupt: &'a Interrupt,
    touched: Touched,
    room: usize,
}

impl Naming<'_> {
    fn tree_node(
        &mut self,
        level: u8,
        id: ChunkId,
        first: &EntryPath,
        entries: u64,
    ) -> Result<(), OpsError> {
        if self.walked.is_sound(&id) {
            return Ok(());
        }
        self.interrupt.check()?;
        if let Some(objects) = self.walked.lost(&id) {
            self.touched.files_total += entries;
            self.add(first, Some(entries), objects.clone());
            return Ok(());
        }
        let bytes = self.reader.read(PackKind::Tree, &id)?;
        match TreeNode::decode(level, &bytes).map_err(RepoError::from)? {
            TreeNode::Inner(level, children) => {
                for Child { first, id, entries, .. } in children {
                    self.tree_node(level.saturating_sub(1), id, &first, entries)?;
                }
            }
            TreeNode::Leaf(entries) => {
                for (path, stored) in entries {
                    let mut objects = BTreeSet::new();
                    self.content(&stored.content, &mut objects)?;
                    if !objects.is_empty() {
                        self.touched.files_total += 1;
                        self.add(&path, None, objects);
                    }
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, path: &EntryPath, entries: Option<u64>, objects: BTreeSet<String>) {
        if self.touched.files.len() < self.room {
            self.touched.files.push(TouchedFile { path: path.clone(), entries, objects });
        }
    }

    /// The damaged objects that a file's content needs.
    fn content(&self, content: &Content, objects: &mut BTreeSet<String>) -> Result<(), OpsError> {
        match content {
            Content::Inline(extents) => self.extents(extents, objects),
            Content::Nodes(root) => self.content_node(root, objects),
        }
    }

    fn content_node(
        &self,
        node: &ContentRef,
        objects: &mut BTreeSet<String>,
    ) -> Result<(), OpsError> {
        if self.walked.is_sound(&node.id) || objects.len() >= OBJECTS_MAX {
            return Ok(());
        }
        if let Some(lost) = self.walked.lost(&node.id) {
            objects.extend(lost.iter().cloned());
            return Ok(());
        }
        match read_content_node(self.reader, node)? {
            ContentNode::Leaf(extents) => self.extents(&extents, objects),
            ContentNode::Inner(_, children) => {
                children.iter().try_for_each(|child| self.content_node(child, objects))
            }
        }
    }

    fn extents(&self, extents: &[Extent], objects: &mut BTreeSet<String>) -> Result<(), OpsError> {
        for extent in extents {
            let Extent::Chunk(id, len) = extent else { continue };
            match self.losses.find(self.reader.index(), id, *len)? {
                Found::Sound => {}
                _ if objects.len() >= OBJECTS_MAX => return Ok(()),
                Found::Lost(packs) => {
                    objects.extend(packs.iter().map(|id| pack_name(id).as_str().to_owned()));
                }
                Found::Unknown | Found::OtherLength => {
                    let _ = objects.insert(format!("chunk {id}"));
                }
            }
        }
        Ok(())
    }
}
