//! The third stage: walks every tree, each node once, and looks up every chunk.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::packs::{Found, Losses};
use super::report::{Fault, Findings, fault_of};
use super::why;
use crate::entry::{EntryPath, Extent};
use crate::event::{Counters, Observer};
use crate::format::{
    Child, Content, ContentNode, ContentRef, FormatError, Item, PackKind, TreeNode,
};
use crate::id::ChunkId;
use crate::ops::error::{Interrupt, OpsError};
use crate::repo::{ChunkReader, RepoError, Repository, pack_name, read_content_node};

/// What is known of the nodes of all trees.
#[derive(Debug, Default)]
pub(in crate::ops) struct Walked {
    /// Whether all that is below a node is sound.
    sound: HashMap<ChunkId, bool>,
    /// Nodes that cannot be read, and the damaged objects they are in.
    lost: HashMap<ChunkId, BTreeSet<String>>,
    pub(super) nodes: u64,
    pub(super) chunks: u64,
}

impl Walked {
    /// Whether a node and all below it is sound.
    pub(in crate::ops) fn is_sound(&self, id: &ChunkId) -> bool {
        self.sound.get(id).copied().unwrap_or(false)
    }

    /// The damaged objects a node is in, if it cannot be read.
    pub(in crate::ops) fn lost(&self, id: &ChunkId) -> Option<&BTreeSet<String>> {
        self.lost.get(id)
    }
}

/// A walk over all trees.
pub(super) struct Trees<'a> {
    repo: &'a Repository,
    reader: &'a Arc<ChunkReader>,
    losses: &'a Losses,
    findings: &'a mut Findings,
    observer: &'a Arc<dyn Observer>,
    interrupt: &'a Interrupt,
    walked: Walked,
}

impl<'a> Trees<'a> {
    pub(super) fn new(
        repo: &'a Repository,
        reader: &'a Arc<ChunkReader>,
        losses: &'a Losses,
        findings: &'a mut Findings,
        observer: &'a Arc<dyn Observer>,
        interrupt: &'a Interrupt,
    ) -> Self {
        let walked = Walked::default();
        Self { repo, reader, losses, findings, observer, interrupt, walked }
    }

    pub(super) fn finish(self) -> Walked {
        self.walked
    }

    /// Walks an item's tree and hints; says whether all of it is sound.
    pub(super) fn item(&mut self, item: &Item) -> Result<bool, OpsError> {
        let root = Child { first: EntryPath::root(), id: item.root, entries: 0, bytes: 0 };
        let tree = self.tree_node(item.root_level, &root, None)?;
        let hints = match item.hints_root() {
            Some(root) => self.content(&Content::Nodes(root))?,
            None => true,
        };
        Ok(tree && hints)
    }

    /// Walks a node of a tree; all paths in it must lie before `end`. Levels fall by one from call
    /// to call, and only 16 of them are allowed.
    fn tree_node(
        &mut self,
        level: u8,
        child: &Child,
        end: Option<&EntryPath>,
    ) -> Result<bool, OpsError> {
        if let Some(sound) = self.walked.sound.get(&child.id) {
            return Ok(*sound);
        }
        self.interrupt.check()?;
        self.walked.nodes += 1;
        let bytes = self.reader.read(PackKind::Tree, &child.id);
        let decoded = bytes.and_then(|bytes| Ok(TreeNode::decode(level, &bytes)?));
        let sound = match decoded.and_then(|node| is_in_place(&node, child, end).map(|()| node)) {
            Ok(TreeNode::Leaf(entries)) => {
                Counters::add(&self.observer.counters().entries, entries.len() as u64);
                let mut sound = true;
                for (_, stored) in &entries {
                    sound &= self.content(&stored.content)?;
                }
                sound
            }
            Ok(TreeNode::Inner(level, children)) => {
                let mut sound = true;
                for (at, child) in children.iter().enumerate() {
                    let end = children.get(at + 1).map(|next| &next.first).or(end);
                    // A node on level 0 never decodes as an inner one.
                    sound &= self.tree_node(level.saturating_sub(1), child, end)?;
                }
                sound
            }
            Err(error) => {
                self.lose_node(&child.id, error)?;
                false
            }
        };
        let _ = self.walked.sound.insert(child.id, sound);
        Ok(sound)
    }

    fn content(&mut self, content: &Content) -> Result<bool, OpsError> {
        match content {
            Content::Inline(extents) => self.extents(extents),
            Content::Nodes(root) => self.content_node(root),
        }
    }

    fn content_node(&mut self, node: &ContentRef) -> Result<bool, OpsError> {
        if let Some(sound) = self.walked.sound.get(&node.id) {
            return Ok(*sound);
        }
        self.interrupt.check()?;
        self.walked.nodes += 1;
        let sound = match read_content_node(self.reader, node) {
            Ok(ContentNode::Leaf(extents)) => self.extents(&extents)?,
            Ok(ContentNode::Inner(_, children)) => {
                let mut sound = true;
                for child in &children {
                    sound &= self.content_node(child)?;
                }
                sound
            }
            Err(error) => {
                self.lose_node(&node.id, error)?;
                false
            }
        };
        let _ = self.walked.sound.insert(node.id, sound);
        Ok(sound)
    }

    fn extents(&mut self, extents: &[Extent]) -> Result<bool, OpsError> {
        let mut sound = true;
        for extent in extents {
            let Extent::Chunk(id, len) = extent else { continue };
            self.walked.chunks += 1;
            let lost = |why: &str| (format!("chunk {id}"), why.to_owned());
            let (object, why) = match self.losses.find(self.reader.index(), id, *len)? {
                Found::Sound => continue,
                Found::Lost(packs) => {
                    sound = false;
                    for pack in packs {
                        let (fault, why) = self.losses.known_of(&pack);
                        self.findings.add(pack_name(&pack).as_str(), fault, why);
                    }
                    continue;
                }
                Found::Unknown => lost("it is in no index segment that can be read"),
                Found::OtherLength => lost("it has another length than its file says"),
            };
            sound = false;
            self.findings.add(&object, Fault::Missing, &why);
        }
        Ok(sound)
    }

    /// Notes a node that cannot be read, in the name of the packs that should hold it.
    fn lose_node(&mut self, id: &ChunkId, error: RepoError) -> Result<(), OpsError> {
        if !self.repo.blames_object(&error)? {
            return Err(error.into());
        }
        let index = self.reader.index();
        let packs: BTreeSet<_> = index
            .find_recorded(id)?
            .iter()
            .map(|place| pack_name(&index.pack(place.pack).id).as_str().to_owned())
            .collect();
        let malformed = matches!(error, RepoError::Format(_));
        let objects = match packs.is_empty() || malformed {
            true => BTreeSet::from([format!("chunk {id}")]),
            false => packs,
        };
        for object in &objects {
            self.findings.add(object, fault_of(&error), &why(&error));
        }
        let _ = self.walked.lost.insert(*id, objects);
        Ok(())
    }
}

/// Whether a node holds what the one above it says.
fn is_in_place(node: &TreeNode, child: &Child, end: Option<&EntryPath>) -> Result<(), RepoError> {
    let (first, last) = match node {
        TreeNode::Leaf(entries) => {
            (entries.first().map(|(path, _)| path), entries.last().map(|(path, _)| path))
        }
        TreeNode::Inner(_, children) => {
            (children.first().map(|child| &child.first), children.last().map(|child| &child.first))
        }
    };
    let before_end = |last: &EntryPath| end.is_none_or(|end| last < end);
    match first == Some(&child.first) && last.is_some_and(before_end) {
        true => Ok(()),
        false => {
            Err(FormatError::damaged("tree node", "its paths are not those its parent says").into())
        }
    }
}
