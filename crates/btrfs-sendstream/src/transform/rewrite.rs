//! Replaces names, UUIDs and transids.

use uuid::Uuid;

use super::{Output, Transform, TransformError, TransformErrorKind};
use crate::command::{Command, SubvolumeName};
use crate::decoder::Item;
use crate::error::Position;

/// The UUID and ctransid by which receivers identify a subvolume; `None` leaves
/// the value unchanged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Its UUID. The encoder refuses the nil UUID.
    pub uuid: Option<Uuid>,
    /// Its ctransid.
    pub ctransid: Option<u64>,
}

impl Identity {
    fn is_empty(&self) -> bool {
        self.uuid.is_none() && self.ctransid.is_none()
    }

    fn apply(&self, uuid: &mut Uuid, ctransid: &mut u64) {
        *uuid = self.uuid.unwrap_or(*uuid);
        *ctransid = self.ctransid.unwrap_or(*ctransid);
    }
}

/// Replaces names, UUIDs and ctransids in SUBVOL and SNAPSHOT commands, and in the
/// CLONE commands that refer to them.
///
/// ```
/// use btrfs_sendstream::transform::{Identity, Rewrite};
/// use btrfs_sendstream::{SubvolumeName, Uuid};
///
/// let parent = Identity {
///     uuid: Some(Uuid::from_u128(7)),
///     ctransid: None,
/// };
/// let rewrite = Rewrite::new()
///     .name(SubvolumeName::parse("home.2024".into())?)
///     .parent(parent);
/// # Ok::<(), btrfs_sendstream::PathError>(())
/// ```
///
/// The new UUID becomes the received UUID, by which later incremental streams find
/// their parent: rewrite those streams in the same way.
///
/// Memory: the replacements.
#[derive(Clone, Debug, Default)]
pub struct Rewrite {
    name: Option<SubvolumeName>,
    own: Identity,
    parent: Identity,
    others: Vec<(Uuid, Identity)>,
    /// UUIDs of the subvolume at hand and of its parent, as they came.
    current: Option<(Uuid, Option<Uuid>)>,
}

impl Rewrite {
    /// Creates a transform that changes nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the name of the subvolume. The input must contain only one.
    #[must_use]
    pub fn name(mut self, name: SubvolumeName) -> Self {
        self.name = Some(name);
        self
    }

    /// Sets the identity of the subvolume, also where it is its own clone source.
    /// The input must contain only one.
    #[must_use]
    pub fn own(mut self, own: Identity) -> Self {
        self.own = own;
        self
    }

    /// Replaces the parent, also where it is a clone source.
    #[must_use]
    pub fn parent(mut self, parent: Identity) -> Self {
        self.parent = parent;
        self
    }

    /// Replaces a UUID everywhere, with the ctransid next to it.
    /// [`own`](Self::own) and [`parent`](Self::parent) take precedence.
    #[must_use]
    pub fn replace(mut self, uuid: Uuid, by: Identity) -> Self {
        self.others.push((uuid, by));
        self
    }

    fn begin(
        &mut self,
        name: &mut SubvolumeName,
        uuid: &mut Uuid,
        ctransid: &mut u64,
        at: Position,
    ) -> Result<(), TransformError> {
        let for_one_only = self.name.is_some() || !self.own.is_empty();
        if for_one_only && self.current.is_some() {
            let name = name.clone();
            return Err(TransformErrorKind::SecondSubvolume { name }.at(at));
        }
        self.current = Some((*uuid, None));
        if let Some(new) = &self.name {
            name.clone_from(new);
        }
        self.refer(uuid, ctransid);
        Ok(())
    }

    /// Changes a reference to a subvolume.
    fn refer(&self, uuid: &mut Uuid, ctransid: &mut u64) {
        let own = self.current.is_some_and(|(own, _)| own == *uuid);
        let parent = self.current.and_then(|(_, parent)| parent) == Some(*uuid);
        let identity = if own && !self.own.is_empty() {
            Some(&self.own)
        } else if parent && !self.parent.is_empty() {
            Some(&self.parent)
        } else {
            let mut others = self.others.iter();
            others.find(|(old, _)| old == uuid).map(|(_, new)| new)
        };
        if let Some(identity) = identity {
            identity.apply(uuid, ctransid);
        }
    }

    fn rewritten(&mut self, mut command: Command, at: Position) -> Result<Command, TransformError> {
        match &mut command {
            Command::Subvol {
                name,
                uuid,
                ctransid,
            } => self.begin(name, uuid, ctransid, at)?,
            Command::Snapshot {
                name,
                uuid,
                ctransid,
                parent_uuid,
                parent_ctransid,
            } => {
                self.begin(name, uuid, ctransid, at)?;
                let own = self.current.take();
                // As a parent, even a subvolume of the same UUID is another.
                self.current = own.map(|(_, _)| (Uuid::nil(), Some(*parent_uuid)));
                let old_parent = *parent_uuid;
                self.refer(parent_uuid, parent_ctransid);
                self.current = own.map(|(own, _)| (own, Some(old_parent)));
            }
            Command::Clone(clone) => self.refer(&mut clone.source_uuid, &mut clone.source_ctransid),
            // No UUID is in them.
            Command::Mkfile { .. }
            | Command::Mkdir { .. }
            | Command::Mknod { .. }
            | Command::Mkfifo { .. }
            | Command::Mksock { .. }
            | Command::Symlink { .. }
            | Command::Rename { .. }
            | Command::Link { .. }
            | Command::Unlink { .. }
            | Command::Rmdir { .. }
            | Command::SetXattr { .. }
            | Command::RemoveXattr { .. }
            | Command::Write { .. }
            | Command::EncodedWrite(_)
            | Command::Truncate { .. }
            | Command::Chmod { .. }
            | Command::Chown { .. }
            | Command::Utimes { .. }
            | Command::UpdateExtent { .. }
            | Command::Fallocate { .. }
            | Command::FileAttr { .. }
            | Command::EnableVerity(_)
            | Command::End => {}
        }
        Ok(command)
    }
}

impl Transform for Rewrite {
    fn item(
        &mut self,
        item: Item,
        at: Position,
        out: &mut dyn Output,
    ) -> Result<(), TransformError> {
        let item = match item {
            Item::Command(command) => Item::Command(self.rewritten(command, at)?),
            other => other,
        };
        out.item(item, at)
    }

    fn end(&mut self, _: &mut dyn Output) -> Result<(), TransformError> {
        Ok(())
    }
}
