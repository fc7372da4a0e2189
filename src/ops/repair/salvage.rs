//! What can be had of a damaged snapshot becomes a snapshot of its own.
//!
//! Every tree that is damaged is built anew without the files whose content is not all there;
//! nothing of it rests on packs that are damaged. Each file that is left out is told as a warning,
//! which the new snapshot keeps. It is committed as any other.

use std::collections::HashSet;
use std::sync::Arc;

use super::RepairOptions;
use super::snapshots::Salvaged;
use crate::entry::{Entry, EntryPath, Extent, Kind};
use crate::event::{Counters, Observer, Warning};
use crate::format::{
    BackupFacts, Child, Content, Item, PackKind, SnapshotBody, Stored, TreeNode, WarningFact,
};
use crate::id::{ChunkId, PackId};
use crate::ops::backup::Collector;
use crate::ops::check::{Examined, Found};
use crate::ops::error::{Interrupt, OpsError};
use crate::repo::{
    ChunkWriter, HintsWalk, RepoError, Repository, Session, Snapshot, TreeBuilder, TreeRoot, reach,
    reach_content,
};

/// Warnings that a snapshot keeps of one item, at most.
const WARNINGS_MAX: usize = 1000;

/// The mode of directories of which nothing is known but what lies in them.
const LOST_DIRECTORY_MODE: u32 = 0o700;

/// What it takes to salvage snapshots.
pub(super) struct Salvage<'a> {
    pub(super) repo: &'a Arc<Repository>,
    pub(super) examined: &'a Examined,
    pub(super) options: &'a RepairOptions,
    pub(super) observer: &'a Arc<dyn Observer>,
    pub(super) interrupt: &'a Interrupt,
}

impl Salvage<'_> {
    /// Stores what can be had of a snapshot as a new one; none if `before` is that already.
    ///
    /// Errors: of the repository; [`OpsError::Interrupted`]. Then nothing was acknowledged.
    pub(super) fn store(
        &self,
        snapshot: &Snapshot,
        before: Option<&Snapshot>,
    ) -> Result<Option<Salvaged>, OpsError> {
        let Self { repo, examined, options, observer, interrupt } = *self;
        let session = Session::begin(repo, observer)?;
        let damaged: Vec<PackId> = examined.losses.packs(&examined.inventory.index).collect();
        session.distrust(&damaged);
        let mut run = Run {
            examined,
            session: &session,
            writer: session.writer(options.writer()),
            interrupt,
        };
        let mut items = Vec::new();
        let mut left_out = 0;
        for item in snapshot.items() {
            let hints = item.hints_root();
            let hints_sound = hints.is_none_or(|root| examined.walked.is_sound(&root.id));
            if examined.walked.is_sound(&item.root) && hints_sound {
                run.rely_on_all(item)?;
                items.push(item.clone());
                continue;
            }
            let collector = Arc::new(Collector::new(observer.clone()));
            let told: Arc<dyn Observer> = collector.clone();
            let root = Tree::start(&mut run, item, &told).build(item)?;
            left_out += collector.skipped();
            items.push(salvaged_item(item, root, &collector));
        }
        let Run { writer, .. } = run;
        let stored = writer.finish()?;
        interrupt.check()?;
        let trees = |items: &[Item]| items.iter().map(|item| item.root).collect::<Vec<_>>();
        if before.is_some_and(|before| trees(before.items()) == trees(&items)) {
            return Ok(None);
        }
        if let Some(item) = items.iter_mut().find(|item| !snapshot.items().contains(item)) {
            item.facts.bytes_stored = stored.stored_bytes;
        }
        let body = SnapshotBody {
            items,
            program: options.program.clone(),
            salvaged: Some(snapshot.id),
            // It is not all of the original, which a copy may bring again.
            copied: None,
            ..snapshot.body.clone()
        };
        let committed = session.commit(&body, options.writer())?;
        Ok(Some(Salvaged {
            from: snapshot.id,
            snapshot: committed.snapshot,
            head: committed.head,
            left_out,
            stored_bytes: stored.stored_bytes + committed.stored_bytes,
        }))
    }
}

fn salvaged_item(item: &Item, root: TreeRoot, collector: &Collector) -> Item {
    let told = collector.kept().into_iter();
    let told =
        told.map(|w| WarningFact { object: w.object, message: w.message, skipped: w.skipped });
    let (entries, bytes) = (root.entries, root.bytes);
    Item {
        root: root.id,
        root_level: root.level,
        hints: Some((root.hints.id, root.hints.len, root.hints.level)),
        facts: BackupFacts {
            entries,
            bytes,
            entries_unchanged: entries,
            entries_skipped: item.facts.entries_skipped.saturating_add(collector.skipped()),
            ..BackupFacts::default()
        },
        warnings: told.chain(item.warnings.iter().cloned()).take(WARNINGS_MAX).collect(),
        ..item.clone()
    }
}

/// What the items of a snapshot have in common.
struct Run<'a> {
    examined: &'a Examined,
    session: &'a Session,
    writer: ChunkWriter,
    interrupt: &'a Interrupt,
}

impl Run<'_> {
    /// Makes sure that the new snapshot can rest on a chunk: what only packs hold that are damaged
    /// or condemned is stored anew.
    fn rely(&mut self, kind: PackKind, id: &ChunkId) -> Result<(), RepoError> {
        if !self.session.index().rely(id)? {
            let bytes = self.examined.reader.read(kind, id)?;
            let _ = self.writer.store(kind, *id, &bytes)?;
        }
        Ok(())
    }

    fn rely_on_all(&mut self, item: &Item) -> Result<(), OpsError> {
        let reader = &self.examined.reader;
        let mut seen = HashSet::new();
        let interrupt = self.interrupt;
        let walked = reach(reader, item, &mut seen, &mut |kind, id| {
            interrupt.check().map_err(|_| RepoError::Interrupted)?;
            self.rely(kind, id)
        });
        walked.map_err(|error| match error {
            RepoError::Interrupted => OpsError::Interrupted,
            other => other.into(),
        })
    }
}

/// A tree that is built anew.
struct Tree<'t, 'a> {
    run: &'t mut Run<'a>,
    told: &'t Arc<dyn Observer>,
    tree: TreeBuilder,
    /// None once it is not known any more which hint is whose.
    hints: Option<HintsWalk<'a>>,
    /// Nodes of content that the new snapshot can rest on.
    seen: HashSet<ChunkId>,
    /// The directories that lead to the entry that was kept last, the root first.
    parents: Vec<EntryPath>,
    last: Option<EntryPath>,
    /// Files that were left out.
    dropped: HashSet<EntryPath>,
    /// Parts of the tree that are lost: from a path on, up to another.
    gaps: Vec<(EntryPath, Option<EntryPath>)>,
}

impl<'t, 'a> Tree<'t, 'a> {
    fn start(run: &'t mut Run<'a>, item: &Item, told: &'t Arc<dyn Observer>) -> Self {
        let examined = run.examined;
        let hints = item.hints_root().map(|root| HintsWalk::new(&examined.reader, root));
        Self {
            run,
            told,
            tree: TreeBuilder::default(),
            hints,
            seen: HashSet::new(),
            parents: Vec::new(),
            last: None,
            dropped: HashSet::new(),
            gaps: Vec::new(),
        }
    }

    fn build(mut self, item: &Item) -> Result<TreeRoot, OpsError> {
        let entries = item.facts.entries;
        let root = Child { first: EntryPath::root(), id: item.root, entries, bytes: 0 };
        self.node(item.root_level, &root, None)?;
        if self.last.is_none() {
            self.add_directory(EntryPath::root())?;
        }
        Ok(self.tree.finish(&mut self.run.writer)?)
    }

    /// Takes what is below a node. Levels fall by one from call to call, and only 16 are allowed.
    fn node(&mut self, level: u8, child: &Child, end: Option<&EntryPath>) -> Result<(), OpsError> {
        self.run.interrupt.check()?;
        let examined = self.run.examined;
        if examined.walked.lost(&child.id).is_some() {
            let entries = child.entries.max(1);
            let what = if entries == 1 { "entry" } else { "entries" };
            let message = format!("lost with all behind it: {entries} {what} of its tree");
            self.tell(&child.first, message);
            self.gaps.push((child.first.clone(), end.cloned()));
            self.hints = None;
            return Ok(());
        }
        let bytes = examined.reader.read(PackKind::Tree, &child.id)?;
        match TreeNode::decode(level, &bytes).map_err(RepoError::from)? {
            TreeNode::Inner(level, children) => {
                for (at, child) in children.iter().enumerate() {
                    let end = children.get(at + 1).map(|next| &next.first).or(end);
                    self.node(level.saturating_sub(1), child, end)?;
                }
            }
            TreeNode::Leaf(entries) => {
                Counters::add(&self.told.counters().entries, entries.len() as u64);
                for (path, stored) in entries {
                    self.entry(path, stored)?;
                }
            }
        }
        Ok(())
    }

    fn entry(&mut self, path: EntryPath, stored: Stored) -> Result<(), OpsError> {
        // What helps to find changed files is worth no failure.
        let hint = match self.hints.as_mut().map(HintsWalk::next) {
            Some(Ok(hint)) => hint,
            Some(Err(error)) if error.is_damage() => {
                self.hints = None;
                None
            }
            Some(Err(error)) => return Err(error.into()),
            None => None,
        };
        if let Some(why) = self.why_not(&path, &stored)? {
            self.tell(&path, why);
            let _ = self.dropped.insert(path);
            return Ok(());
        }
        if stored.entry.kind == Kind::Directory {
            self.parents.push(path.clone());
        }
        self.last = Some(path.clone());
        Ok(self.tree.push(&mut self.run.writer, path, &stored, hint)?)
    }

    /// Why an entry is left out; if it is not, the new snapshot can rest on its content, and the
    /// directories above it are there.
    fn why_not(
        &mut self,
        path: &EntryPath,
        stored: &Stored,
    ) -> Result<Option<&'static str>, OpsError> {
        const DAMAGED: &str = "left out: its content is damaged in the repository";
        if !self.is_whole(&stored.content)? {
            return Ok(Some(DAMAGED));
        }
        if stored.entry.link.as_ref().is_some_and(|first| self.is_lost(first)) {
            return Ok(Some("left out: its content was that of another name, which is lost"));
        }
        let Self { run, seen, .. } = self;
        let reader = &run.examined.reader;
        let content = &stored.content;
        match reach_content(reader, content, PackKind::Data, seen, &mut |k, id| run.rely(k, id)) {
            // Where data was not read before, damage shows only now.
            Err(error) if error.is_damage() => {
                // Nodes that were reached are not known to be relied on as a whole.
                seen.clear();
                return Ok(Some(DAMAGED));
            }
            reached => reached?,
        }
        match self.lead_to(path)? {
            true => Ok(None),
            false => Ok(Some("left out: what it lies in is no directory")),
        }
    }

    fn is_whole(&self, content: &Content) -> Result<bool, OpsError> {
        let Examined { losses, inventory, walked, .. } = self.run.examined;
        let extents = match content {
            Content::Inline(extents) => extents,
            Content::Nodes(root) => return Ok(walked.is_sound(&root.id)),
        };
        for extent in extents {
            if let Extent::Chunk(id, len) = extent
                && !matches!(losses.find(&inventory.index, id, *len)?, Found::Sound)
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether an entry before this one was not kept.
    fn is_lost(&self, path: &EntryPath) -> bool {
        let inside = |(from, to): &(EntryPath, Option<EntryPath>)| {
            from <= path && to.as_ref().is_none_or(|to| path < to)
        };
        self.dropped.contains(path) || self.gaps.iter().any(inside)
    }

    /// Makes up the directories above an entry that were lost; says whether it can be in them.
    fn lead_to(&mut self, path: &EntryPath) -> Result<bool, OpsError> {
        while self.parents.last().is_some_and(|parent| !holds(parent, path)) {
            let _ = self.parents.pop();
        }
        if path.is_root() {
            return Ok(true);
        }
        let mut names: Vec<&[u8]> = path.components().collect();
        let _ = names.pop();
        let mut above = EntryPath::root();
        let mut missing = Vec::new();
        for name in std::iter::once(None).chain(names.into_iter().map(Some)) {
            if let Some(name) = name {
                above = above.child(name).map_err(not_a_path)?;
            }
            if !self.parents.contains(&above) {
                missing.push(above.clone());
            }
        }
        for directory in missing {
            // It is there, and is something else.
            if self.last.as_ref().is_some_and(|last| *last >= directory) {
                return Ok(false);
            }
            self.add_directory(directory)?;
        }
        Ok(true)
    }

    fn add_directory(&mut self, path: EntryPath) -> Result<(), OpsError> {
        self.tell(&path, "made up: a directory of which only what lies in it is known");
        let entry = Entry {
            kind: Kind::Directory,
            mode: LOST_DIRECTORY_MODE,
            uid: 0,
            gid: 0,
            mtime: Default::default(),
            xattrs: Vec::new(),
            link: None,
        };
        self.parents.push(path.clone());
        self.last = Some(path.clone());
        let stored = Stored { entry, content: Content::empty() };
        Ok(self.tree.push(&mut self.run.writer, path, &stored, None)?)
    }

    fn tell(&self, path: &EntryPath, message: impl Into<String>) {
        let shown = if path.is_root() { b".".to_vec() } else { path.to_slashed() };
        self.told.warn(Warning::skipped(shown, message));
    }
}

/// Whether an entry lies below a directory.
fn holds(directory: &EntryPath, path: &EntryPath) -> bool {
    let rest = path.as_key().strip_prefix(directory.as_key());
    !path.is_root() && rest.is_some_and(|rest| directory.is_root() || rest.first() == Some(&0))
}

fn not_a_path(error: crate::entry::PathError) -> RepoError {
    crate::format::FormatError::Damaged { what: "tree", why: error.to_string() }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_lies_below_its_directories_and_not_below_others_of_like_names() {
        let path = |text: &str| EntryPath::from_slashed(text.as_bytes()).expect("a path");
        for (directory, entry, expected) in [
            ("", "a", true),
            ("", "", false),
            ("a", "a/b", true),
            ("a", "a/b/c", true),
            ("a", "ab", false),
            ("a", "a", false),
            ("a/b", "a", false),
        ] {
            assert_eq!(holds(&path(directory), &path(entry)), expected, "{directory} {entry}");
        }
    }
}
