//! Filters paths.

mod aliases;
mod at_hand;
mod links;
mod names;
mod rules;

use bytes::Bytes;
use uuid::Uuid;

use self::aliases::Aliases;
use self::at_hand::AtHand;
use self::names::{Fresh, Kind, Names, is_temporary};
pub use self::rules::Rules;
use super::{Crossing, Output, Transform, TransformError, TransformErrorKind};
use crate::command::{CloneRange, Command, EnableVerity, EncodedWrite, StreamPath};
use crate::decoder::Item;
use crate::error::Position;

/// Removes the paths that the [`Rules`] exclude.
///
/// A full stream produces the tree without the excluded paths. An incremental stream
/// needs a parent that was filtered by the same rules. Included paths are complete
/// and exact: a stream that does not contain the data for that is refused with
/// [`Crossing`](TransformErrorKind::Crossing), in these cases:
///
/// - An excluded file or directory gets an included name, by RENAME or LINK. Kernels
///   also send moved files in this way, and further names of a file whose first name
///   is excluded.
/// - An existing file gets an excluded name and keeps an included one, or a file is
///   changed under an excluded name: from then on, the stream may use either name.
/// - A file gets names in directories that do not have their final names yet, and the
///   rules exclude one of them and include another.
/// - An included directory moves to an excluded path. (A file that does is removed.)
/// - A directory moves, and the rules include only a part of its content.
/// - Data is cloned from an excluded file. In a stream that was sent without clone
///   sources, that is a file of the same subvolume.
///
/// A broader rule helps in each case, and often a full stream. Two of the cases are
/// reported although nothing crosses: a further name in a directory that does not
/// have its final name counts as included, and so does what moves there.
///
/// Not detected: if a file has two included names, and one of them moves to an
/// excluded path, the file may be changed under that name from then on. The same holds
/// for a file with two included names and an excluded one, once the first of them is
/// removed. A RENAME of a file to another of its names, which leaves both and which no
/// kernel sends, counts as a move. Directories have the times of the sender, even if
/// names in them are excluded.
///
/// The temporary names under which kernels create inodes, such as `o257-8-0`, are
/// included whatever the rules, until the inode gets its final name; if that is
/// excluded, the inode is then removed.
///
/// Memory: the rules, one command, and 32 MiB for names below temporary names and for
/// files that have included and excluded names. A stream that needs more is refused.
#[derive(Debug)]
pub struct Filter {
    rules: Rules,
    names: Names,
    /// A creation: the next command may say where it goes.
    held: Option<Creation>,
    /// The name of the inode created last: it has no others yet.
    newest: Option<StreamPath>,
    aliases: Aliases,
    at_hand: AtHand,
    /// The UUID of the subvolume at hand.
    /// And its ctransid: a clone from another state of it has the same UUID.
    own: (Uuid, u64),
}

/// A command that creates an inode.
#[derive(Debug)]
struct Creation {
    command: Command,
    at: Position,
    path: StreamPath,
    kind: Kind,
}

impl Filter {
    /// Creates a filter with these rules.
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            names: Names::default(),
            held: None,
            newest: None,
            aliases: Aliases::default(),
            at_hand: AtHand::default(),
            own: (Uuid::nil(), 0),
        }
    }

    /// Whether there is, or will be, something of this name in the output.
    fn keeps(&self, path: &[u8]) -> bool {
        self.names.is_fresh(path) || self.rules.present(&self.names.origin(path))
    }

    fn command(
        &mut self,
        command: Command,
        at: Position,
        out: &mut dyn Output,
    ) -> Result<(), TransformError> {
        if let Some(creation) = self.held.take() {
            match &command {
                Command::Rename { path, to } if creation.path == *path => {
                    let to = to.clone();
                    return self.placed(creation, (command, at), &to, out);
                }
                _ => self.created(creation, out)?,
            }
        }
        let mut hold = |path, kind, command| {
            self.held = Some(Creation {
                path,
                command,
                at,
                kind,
            });
            Ok(())
        };
        match command {
            Command::Mkdir { ref path, .. } => hold(path.clone(), Kind::Directory, command),
            Command::Mkfile { ref path, .. }
            | Command::Mknod { ref path, .. }
            | Command::Mkfifo { ref path, .. }
            | Command::Mksock { ref path, .. }
            | Command::Symlink { ref path, .. } => hold(path.clone(), Kind::Other, command),
            Command::Subvol { uuid, ctransid, .. } | Command::Snapshot { uuid, ctransid, .. } => {
                self.finish(at, out)?;
                self.own = (uuid, ctransid);
                out.item(Item::Command(command), at)
            }
            Command::End => {
                self.finish(at, out)?;
                out.item(Item::Command(command), at)
            }
            Command::Rename { path, to } => self.renamed(path, to, at, out),
            Command::Link { path, existing } => self.linked(path, existing, at, out),
            Command::Clone(clone) => self.cloned(clone, at, out),
            Command::Unlink { ref path } | Command::Rmdir { ref path } => {
                let kept = self.keeps(path.as_bytes());
                self.names.remove(path.as_bytes());
                self.aliases.remove(path.as_bytes());
                self.at_hand.removed(path.as_bytes());
                pass_if(kept, command, at, out)
            }
            Command::SetXattr { ref path, .. }
            | Command::RemoveXattr { ref path, .. }
            | Command::Write { ref path, .. }
            | Command::EncodedWrite(EncodedWrite { ref path, .. })
            | Command::Truncate { ref path, .. }
            | Command::Chmod { ref path, .. }
            | Command::Chown { ref path, .. }
            | Command::Utimes { ref path, .. }
            | Command::UpdateExtent { ref path, .. }
            | Command::Fallocate { ref path, .. }
            | Command::FileAttr { ref path, .. }
            | Command::EnableVerity(EnableVerity { ref path, .. }) => {
                let kept = self.keeps(path.as_bytes());
                if kept {
                    self.at_hand.changed(path.as_bytes());
                } else {
                    self.changed_outside(path.borrow(), at)?;
                }
                pass_if(kept, command, at, out)
            }
        }
    }

    /// A creation whose place is known.
    fn placed(
        &mut self,
        creation: Creation,
        rename: (Command, Position),
        to: &StreamPath,
        out: &mut dyn Output,
    ) -> Result<(), TransformError> {
        let Creation {
            command,
            at,
            path: from,
            kind,
        } = creation;
        if !self.keeps(to.as_bytes()) && !is_temporary(to.as_bytes()) {
            return Ok(());
        }
        let parent = from.parent().unwrap_or_default();
        if !self.keeps(parent.as_bytes()) {
            return Err(crossing(to.clone(), Crossing::MovesIn { from }, rename.1));
        }
        self.newest = Some(to.clone());
        self.note(to.as_bytes(), kind, rename.1)?;
        out.item(Item::Command(command), at)?;
        out.item(Item::Command(rename.0), rename.1)
    }

    /// A creation that is not renamed at once: its place is not known yet, or
    /// it has it.
    fn created(&mut self, creation: Creation, out: &mut dyn Output) -> Result<(), TransformError> {
        let Creation {
            command,
            at,
            path,
            kind,
        } = creation;
        self.newest = Some(path.clone());
        let kept = is_temporary(path.as_bytes()) || self.keeps(path.as_bytes());
        if kept {
            self.note(path.as_bytes(), kind, at)?;
        }
        pass_if(kept, command, at, out)
    }

    /// Remembers a new name if it is, or lies below, a temporary one.
    fn note(&mut self, path: &[u8], kind: Kind, at: Position) -> Result<(), TransformError> {
        let temporary = is_temporary(path) || self.names.is_fresh(path);
        if temporary && !self.names.add(path, kind) {
            return Err(too_many(at));
        }
        Ok(())
    }

    fn renamed(
        &mut self,
        path: StreamPath,
        to: StreamPath,
        at: Position,
        out: &mut dyn Output,
    ) -> Result<(), TransformError> {
        self.unshared(path.borrow(), at)?;
        if let Some(kept) = self.aliases.below(path.as_bytes()) {
            let (kept, other) = (parsed(kept.to_vec(), at)?, path);
            return Err(crossing(kept, Crossing::Shared { other }, at));
        }
        self.aliases.renamed(path.as_bytes(), to.as_bytes());
        self.at_hand.renamed(path.as_bytes());
        self.newest = match self.newest.take() {
            Some(newest) if newest == path => Some(to.clone()),
            newest => newest.filter(|newest| *newest != to),
        };
        if self.names.is_fresh(path.as_bytes()) {
            return self.fresh_renamed(path, to, at, out);
        }
        let was = self.names.origin(path.as_bytes());
        let kept = self.rules.present(&was);
        self.names.remove(path.as_bytes());
        if is_temporary(to.as_bytes()) {
            if !kept {
                self.replaced(&to, &was, at, out)?;
            }
            if !self.names.add_moved(to.as_bytes(), was) {
                return Err(too_many(at));
            }
            return pass_if(kept, Command::Rename { path, to }, at, out);
        }
        if self.names.is_fresh(to.as_bytes()) {
            let from = parsed(was, at)?;
            match (kept, self.rules.is_uniform(from.as_bytes())) {
                (false, _) => return Err(crossing(to, Crossing::MovesIn { from }, at)),
                (true, false) => return Err(crossing(path, Crossing::Splits { to }, at)),
                (true, true) => self.note(to.as_bytes(), Kind::Unknown, at)?,
            }
            return out.item(Item::Command(Command::Rename { path, to }), at);
        }
        let target = parsed(self.names.origin(to.as_bytes()), at)?;
        let kept = self.moves(&parsed(was, at)?, &target, at)?;
        pass_if(kept, Command::Rename { path, to }, at, out)
    }

    /// Removes what is kept under a temporary name that something excluded
    /// takes.
    fn replaced(
        &self,
        to: &StreamPath,
        was: &[u8],
        at: Position,
        out: &mut dyn Output,
    ) -> Result<(), TransformError> {
        let removal = match self.names.kind(to.as_bytes()) {
            Some(Kind::Directory) => Command::Rmdir { path: to.clone() },
            Some(Kind::Other) => Command::Unlink { path: to.clone() },
            None if !self.names.is_moved(to.as_bytes()) => return Ok(()),
            None if !self.keeps(to.as_bytes()) => return Ok(()),
            // What is replaced may be a directory or not.
            _ => {
                let from = parsed(was.to_vec(), at)?;
                return Err(crossing(to.clone(), Crossing::MovesIn { from }, at));
            }
        };
        out.item(Item::Command(removal), at)
    }

    /// Something that was there before moves: whether it is kept.
    fn moves(
        &self,
        from: &StreamPath,
        to: &StreamPath,
        at: Position,
    ) -> Result<bool, TransformError> {
        let (from, to) = (from.clone(), to.clone());
        let keeps = |path: &StreamPath| self.rules.present(path.as_bytes());
        let divides = |path: &StreamPath| !self.rules.is_uniform(path.as_bytes());
        match (keeps(&from), keeps(&to)) {
            (false, false) => Ok(false),
            (true, false) => Err(crossing(from, Crossing::MovesOut { to }, at)),
            (false, true) => Err(crossing(to, Crossing::MovesIn { from }, at)),
            (true, true) if divides(&from) || divides(&to) => {
                Err(crossing(from, Crossing::Splits { to }, at))
            }
            (true, true) => Ok(true),
        }
    }

    /// Something is changed under a name that is excluded.
    fn changed_outside(&self, path: StreamPath<&[u8]>, at: Position) -> Result<(), TransformError> {
        self.unshared(path, at)?;
        Self::not_kept_as(self.at_hand.expected(), path, at)
    }

    /// Refuses to change a file that is kept under another name.
    fn unshared(&self, path: StreamPath<&[u8]>, at: Position) -> Result<(), TransformError> {
        Self::not_kept_as(self.aliases.kept_as(path.as_bytes()), path, at)
    }

    fn not_kept_as(
        kept: Option<&[u8]>,
        path: StreamPath<&[u8]>,
        at: Position,
    ) -> Result<(), TransformError> {
        match kept {
            None => Ok(()),
            Some(kept) => {
                let other = path.to_owned();
                let kept = parsed(kept.to_vec(), at)?;
                Err(crossing(kept, Crossing::Shared { other }, at))
            }
        }
    }

    /// Something of which everything is known gets another name.
    fn fresh_renamed(
        &mut self,
        path: StreamPath,
        to: StreamPath,
        at: Position,
        out: &mut dyn Output,
    ) -> Result<(), TransformError> {
        let temporary = is_temporary(to.as_bytes()) || self.names.is_fresh(to.as_bytes());
        let names = self.names.at_and_below(path.as_bytes());
        if !temporary {
            self.prune(&names, &path, &to, at, out)?;
        }
        let kept = temporary || self.keeps(to.as_bytes());
        for (name, fresh) in names {
            self.names.remove(&name);
            if temporary {
                let rest = name.get(path.as_bytes().len()..).unwrap_or_default();
                if !self.names.put(&[to.as_bytes(), rest].concat(), fresh) {
                    return Err(too_many(at));
                }
            }
        }
        pass_if(kept, Command::Rename { path, to }, at, out)
    }

    /// Removes those of `names`, all at or below `path`, that are excluded
    /// once `path` is called `to`.
    fn prune(
        &mut self,
        names: &[(Vec<u8>, Fresh)],
        path: &StreamPath,
        to: &StreamPath,
        at: Position,
        out: &mut dyn Output,
    ) -> Result<(), TransformError> {
        for (name, fresh) in names {
            let rest = name.get(path.as_bytes().len()..).unwrap_or_default();
            let place = [to.as_bytes(), rest].concat();
            let target = self.names.origin(&place);
            let kept = self.rules.present(&target);
            self.settled(*fresh, &target, kept, at)?;
            let path = parsed(name.clone(), at)?;
            let removal = match fresh.kind {
                Kind::Unknown if !kept || !self.rules.is_uniform(&target) => {
                    let to = parsed(target, at)?;
                    return Err(crossing(path, Crossing::MovesOut { to }, at));
                }
                _ if kept => continue,
                Kind::Directory => Command::Rmdir { path },
                _ => Command::Unlink { path },
            };
            self.aliases.remove(&place);
            out.item(Item::Command(removal), at)?;
        }
        Ok(())
    }

    /// A name has its place. Refuses a file with names on both sides of the
    /// border.
    fn settled(
        &mut self,
        fresh: Fresh,
        path: &[u8],
        kept: bool,
        at: Position,
    ) -> Result<(), TransformError> {
        let Some(other) = self.names.settle(fresh, path, kept) else {
            return Ok(());
        };
        let (kept, other) = if kept {
            (path.to_vec(), other)
        } else {
            (other, path.to_vec())
        };
        let (kept, other) = (parsed(kept, at)?, parsed(other, at)?);
        Err(crossing(kept, Crossing::Shared { other }, at))
    }

    fn linked(
        &mut self,
        path: StreamPath,
        existing: StreamPath,
        at: Position,
        out: &mut dyn Output,
    ) -> Result<(), TransformError> {
        if !self.keeps(path.as_bytes()) {
            return self.linked_outside(&path, &existing, at);
        }
        if !self.keeps(existing.as_bytes()) {
            let from = existing;
            return Err(crossing(path, Crossing::MovesIn { from }, at));
        }
        self.linked_inside(&path, &existing, at)?;
        let old = self.newest.as_ref() != Some(&existing);
        self.at_hand
            .linked(path.as_bytes(), existing.as_bytes(), old);
        self.aliases.linked(path.as_bytes(), existing.as_bytes());
        if self.aliases.len() > names::MAX_LEN {
            return Err(too_many(at));
        }
        self.newest = self.newest.take().filter(|newest| *newest != path);
        out.item(Item::Command(Command::Link { path, existing }), at)
    }

    /// A name that is kept, for now at least, is given.
    fn linked_inside(
        &mut self,
        path: &StreamPath,
        existing: &StreamPath,
        at: Position,
    ) -> Result<(), TransformError> {
        let temporary = is_temporary(path.as_bytes()) || self.names.is_fresh(path.as_bytes());
        if !temporary && !self.names.is_fresh(existing.as_bytes()) {
            return Ok(());
        }
        let (fresh, has_place) = self.names.link(existing.as_bytes());
        if has_place {
            self.settled(fresh, existing.as_bytes(), true, at)?;
        }
        let within_bounds = if temporary {
            self.names.put(path.as_bytes(), fresh)
        } else {
            self.settled(fresh, path.as_bytes(), true, at)?;
            self.names.is_within_bounds()
        };
        if !within_bounds {
            return Err(too_many(at));
        }
        Ok(())
    }

    /// A name that is excluded is given.
    fn linked_outside(
        &mut self,
        path: &StreamPath,
        existing: &StreamPath,
        at: Position,
    ) -> Result<(), TransformError> {
        let new = self.newest.as_ref() == Some(existing);
        let kept = self.aliases.all_kept(existing.as_bytes());
        let (kept, owed) = if !kept.is_empty() {
            (kept, Some(at))
        } else if self.keeps(existing.as_bytes()) {
            let kept = self.at_hand.names_of(existing.as_bytes());
            (kept, Some(at).filter(|_| !new))
        } else {
            return Ok(());
        };
        let kept = kept.iter().map(Vec::as_slice);
        self.aliases.add(path.as_bytes(), kept, owed);
        if self.aliases.len() > names::MAX_LEN {
            return Err(too_many(at));
        }
        Ok(())
    }

    fn cloned(
        &mut self,
        clone: CloneRange,
        at: Position,
        out: &mut dyn Output,
    ) -> Result<(), TransformError> {
        if !self.keeps(clone.path.as_bytes()) {
            return self.changed_outside(clone.path.borrow(), at);
        }
        let source = clone.source_path.as_bytes();
        let kept = if (clone.source_uuid, clone.source_ctransid) == self.own {
            self.keeps(source)
        } else {
            self.rules.present(source)
        };
        if kept {
            return out.item(Item::Command(Command::Clone(clone)), at);
        }
        let source_path = clone.source_path;
        Err(crossing(
            clone.path,
            Crossing::ClonesFrom { source_path },
            at,
        ))
    }

    /// Ends a subvolume: whatever still has a temporary name is called so.
    fn finish(&mut self, at: Position, out: &mut dyn Output) -> Result<(), TransformError> {
        for root in self.names.roots() {
            let (names, path) = (self.names.at_and_below(&root), parsed(root, at)?);
            self.prune(&names, &path, &path, at, out)?;
        }
        for (name, was) in self.names.moved() {
            self.moves(&parsed(was.to_vec(), at)?, &parsed(name.to_vec(), at)?, at)?;
        }
        if let Some((other, kept, at)) = self.aliases.owed() {
            let (kept, other) = (parsed(kept.to_vec(), at)?, parsed(other.to_vec(), at)?);
            return Err(crossing(kept, Crossing::Shared { other }, at));
        }
        self.names.clear();
        self.aliases = Aliases::default();
        self.at_hand = AtHand::default();
        self.newest = None;
        Ok(())
    }
}

impl Transform for Filter {
    fn item(
        &mut self,
        item: Item,
        at: Position,
        out: &mut dyn Output,
    ) -> Result<(), TransformError> {
        match item {
            Item::Command(command) => self.command(command, at, out),
            Item::Unknown(raw) => {
                let number = raw.number;
                Err(TransformErrorKind::UnknownCommand { number }.at(at))
            }
            header => out.item(header, at),
        }
    }

    fn end(&mut self, _: &mut dyn Output) -> Result<(), TransformError> {
        Ok(())
    }
}

/// A path that is put together of names in the stream.
fn parsed(path: Vec<u8>, at: Position) -> Result<StreamPath, TransformError> {
    let path = Bytes::from(path);
    match StreamPath::parse(path.clone()) {
        Ok(path) => Ok(path),
        Err(error) => Err(TransformErrorKind::InvalidPath { path, error }.at(at)),
    }
}

fn pass_if(
    kept: bool,
    command: Command,
    at: Position,
    out: &mut dyn Output,
) -> Result<(), TransformError> {
    if kept {
        out.item(Item::Command(command), at)
    } else {
        Ok(())
    }
}

fn crossing(path: StreamPath, crossing: Crossing, at: Position) -> TransformError {
    TransformErrorKind::Crossing { path, crossing }.at(at)
}

fn too_many(at: Position) -> TransformError {
    let max = names::MAX_LEN;
    TransformErrorKind::TooManyNames { max }.at(at)
}
