//! The snapshot before, walked beside the source: what has not changed since is not read again.

use std::cmp::Ordering;
use std::sync::Arc;

use super::reading::Before;
use crate::entry::{EntryPath, Extent, Hint, Kind};
use crate::event::{Observer, Warning};
use crate::format::{Content, Item, Stored};
use crate::ops::error::OpsError;
use crate::repo::{ChunkReader, ContentWalk, HintsWalk, RepoError, TreeWalk};
use crate::source::Found;

/// An entry of the snapshot before.
#[derive(Debug)]
pub(in crate::ops) struct Earlier {
    pub(in crate::ops) stored: Stored,
    pub(in crate::ops) hint: Option<Hint>,
}

/// The tree of the snapshot before, at the entry that the source has come to.
pub(in crate::ops) struct Previous<'r> {
    reader: &'r ChunkReader,
    walk: Option<(TreeWalk, Option<HintsWalk<'r>>)>,
    head: Option<(EntryPath, Stored, Option<Hint>)>,
    observer: &'r Arc<dyn Observer>,
}

impl<'r> Previous<'r> {
    pub(in crate::ops) fn new(
        reader: &'r Arc<ChunkReader>,
        item: Option<&Item>,
        observer: &'r Arc<dyn Observer>,
    ) -> Self {
        let walk = item.map(|item| {
            let walk = TreeWalk::new(reader, item.root, item.root_level);
            (walk, item.hints_root().map(|root| HintsWalk::new(reader, root)))
        });
        Self { reader, walk, head: None, observer }
    }

    /// The entry at `path`, if the snapshot before had one. Paths must ascend from call to call.
    pub(in crate::ops) fn find(&mut self, path: &EntryPath) -> Option<Earlier> {
        loop {
            if self.head.is_none() {
                self.head = self.advance();
            }
            match self.head.as_ref()?.0.cmp(path) {
                Ordering::Less => self.head = None,
                Ordering::Equal => {
                    return self.head.take().map(|(_, stored, hint)| Earlier { stored, hint });
                }
                Ordering::Greater => return None,
            }
        }
    }

    /// The next entry; none from where the snapshot before cannot be read.
    pub(in crate::ops) fn advance(&mut self) -> Option<(EntryPath, Stored, Option<Hint>)> {
        let (walk, hints) = self.walk.as_mut()?;
        let step = walk.next().and_then(|entry| {
            let Some((path, stored)) = entry else { return Ok(None) };
            let hint = hints.as_mut().map_or(Ok(None), HintsWalk::next)?;
            Ok(Some((path, stored, hint)))
        });
        match step {
            Ok(next) => next,
            Err(error) => {
                // Nothing is lost by reading everything.
                let message = format!("the snapshot before cannot be used from here on: {error}");
                self.observer.warn(Warning::notice(b"", message));
                self.walk = None;
                None
            }
        }
    }

    /// Whether every node and chunk of a file's content can be relied on.
    pub(in crate::ops) fn has_content(&self, content: &Content) -> Result<bool, RepoError> {
        match self.finds_content(content) {
            // What cannot be looked up is read and stored again.
            Err(error) if error.is_damage() => Ok(false),
            known => known,
        }
    }

    fn finds_content(&self, content: &Content) -> Result<bool, RepoError> {
        let index = self.reader.index();
        if let Content::Nodes(root) = content
            && !self.rely_on_nodes(root)?
        {
            return Ok(false);
        }
        let mut walk = ContentWalk::new(self.reader, content);
        while let Some(extent) = walk.next()? {
            if let Extent::Chunk(id, _) = extent
                && !index.rely(&id)?
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn rely_on_nodes(&self, root: &crate::format::ContentRef) -> Result<bool, RepoError> {
        let mut nodes = vec![*root];
        while let Some(node) = nodes.pop() {
            if !self.reader.index().rely(&node.id)? {
                return Ok(false);
            }
            if node.level > 0
                && let crate::format::ContentNode::Inner(_, children) =
                    crate::repo::read_content_node(self.reader, &node)?
            {
                nodes.extend(children);
            }
        }
        Ok(true)
    }
}

impl Before for Previous<'_> {
    type Entry = Earlier;

    fn at(&mut self, path: &EntryPath) -> Result<Option<Earlier>, OpsError> {
        Ok(self.find(path))
    }

    /// Size, time and hints are as they were, or the source tells so; and every chunk is where it
    /// can be relied on.
    fn is_unchanged(
        &self,
        found: &Found,
        before: &Earlier,
        told: Option<bool>,
    ) -> Result<bool, OpsError> {
        let Earlier { stored, hint } = before;
        let (Kind::File { size, .. }, Kind::File { size: size_before, .. }) =
            (&found.entry.kind, &stored.entry.kind)
        else {
            return Ok(false);
        };
        let is_as_hinted =
            || found.entry.mtime == stored.entry.mtime && hint.is_some() && found.hint == *hint;
        let same =
            size == size_before && stored.entry.link.is_none() && told.unwrap_or_else(is_as_hinted);
        Ok(same && self.has_content(&stored.content)?)
    }
}
