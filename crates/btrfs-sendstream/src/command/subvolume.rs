//! What SUBVOL and SNAPSHOT announce.

use bytes::Bytes;
use uuid::Uuid;

use super::{CloneRange, Command, CommandKind, SubvolumeName};

/// How a stream names a subvolume to take a snapshot of or to clone from.
///
/// Made of a UUID alone, it has 0 for the ctransid, which stands for an unknown
/// one:
///
/// ```
/// use btrfs_sendstream::{SourceId, Uuid};
///
/// let wanted = SourceId::from(Uuid::from_u128(7));
/// assert_eq!(wanted.ctransid, 0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct SourceId {
    /// The sender's received UUID of it, else its UUID there.
    pub uuid: Uuid,
    /// Its ctransid on the sender's filesystem: a hint, never a condition. 0
    /// if it is not known.
    pub ctransid: u64,
}

impl From<Uuid> for SourceId {
    fn from(uuid: Uuid) -> Self {
        Self { uuid, ctransid: 0 }
    }
}

/// The subvolume that a SUBVOL or SNAPSHOT command asks for.
///
/// With the feature `serde` the parent's fields are `parent_uuid` and
/// `parent_ctransid`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NewSubvolume {
    /// Its name, one component.
    pub name: SubvolumeName,
    /// Becomes the received UUID.
    pub uuid: Uuid,
    /// ctransid on the sender's filesystem; becomes the stransid.
    pub ctransid: u64,
    /// The parent to take a snapshot of; `None` for a full stream.
    pub parent: Option<SourceId>,
}

impl NewSubvolume {
    /// A subvolume: empty, or a snapshot of `parent`.
    pub fn new(name: SubvolumeName, uuid: Uuid, ctransid: u64, parent: Option<SourceId>) -> Self {
        Self {
            name,
            uuid,
            ctransid,
            parent,
        }
    }

    /// What a SUBVOL or SNAPSHOT command asks for; `None` for other commands.
    ///
    /// The name shares its buffer with the command.
    pub fn from_command(command: &Command<Bytes>) -> Option<Self> {
        Self::with_name(command, Clone::clone)
    }

    /// The same, with a copy of the name that holds no more memory than it
    /// needs.
    #[cfg(feature = "inspect")]
    pub(crate) fn copied<B: AsRef<[u8]>>(command: &Command<B>) -> Option<Self> {
        Self::with_name(command, |name| name.borrow().to_owned())
    }

    fn with_name<B: AsRef<[u8]>>(
        command: &Command<B>,
        name_of: impl FnOnce(&SubvolumeName<B>) -> SubvolumeName,
    ) -> Option<Self> {
        match command {
            Command::Subvol {
                name,
                uuid,
                ctransid,
            } => Some(Self::new(name_of(name), *uuid, *ctransid, None)),
            Command::Snapshot {
                name,
                uuid,
                ctransid,
                parent_uuid,
                parent_ctransid,
            } => {
                let parent = SourceId {
                    uuid: *parent_uuid,
                    ctransid: *parent_ctransid,
                };
                Some(Self::new(name_of(name), *uuid, *ctransid, Some(parent)))
            }
            _ => None,
        }
    }

    /// Returns whether `clone` reads a file of this subvolume, which is under
    /// construction.
    ///
    /// The UUID is not sufficient: a sender that received two states of one
    /// subvolume sends both with the same UUID, but with another ctransid.
    pub fn is_source_of<B: AsRef<[u8]>>(&self, clone: &CloneRange<B>) -> bool {
        (clone.source_uuid, clone.source_ctransid) == (self.uuid, self.ctransid)
    }

    /// The command that asks for it: SUBVOL, or SNAPSHOT if it has a parent.
    pub fn command(&self) -> CommandKind {
        match self.parent {
            None => CommandKind::Subvol,
            Some(_) => CommandKind::Snapshot,
        }
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for NewSubvolume {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(serde::Serialize)]
        struct Fields<'a> {
            name: &'a SubvolumeName,
            uuid: Uuid,
            ctransid: u64,
            #[serde(skip_serializing_if = "Option::is_none")]
            parent_uuid: Option<Uuid>,
            #[serde(skip_serializing_if = "Option::is_none")]
            parent_ctransid: Option<u64>,
        }
        let fields = Fields {
            name: &self.name,
            uuid: self.uuid,
            ctransid: self.ctransid,
            parent_uuid: self.parent.map(|it| it.uuid),
            parent_ctransid: self.parent.map(|it| it.ctransid),
        };
        fields.serialize(serializer)
    }
}
