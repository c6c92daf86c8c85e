//! What a receive did.

use serde::ser::Serializer;

use super::{Fields, Object, objects};
use crate::report::{Lack, NotKept, SubvolumeReport};

objects! {
    /// The fields of the structure; what is `None` or empty has no key.
    SubvolumeReport;
    /// `subvolume`, `path`, `lacks`, what was sent, and `errno`.
    NotKept;
}

impl Fields for SubvolumeReport {
    fn fields<S: Serializer>(&self, object: &mut Object<S>) -> Result<(), S::Error> {
        object.bytes("name", self.name.as_bytes())?;
        if self.sent_name != self.name {
            object.bytes("sent_name", self.sent_name.as_bytes())?;
        }
        if self.built_as != self.name {
            object.bytes("built_as", self.built_as.as_bytes())?;
        }
        object.field("uuid", &self.uuid)?;
        object.field("ctransid", &self.ctransid)?;
        object.optional("wanted_parent", self.wanted_parent)?;
        object.optional("parent", self.parent.as_ref())?;
        object.field("outcome", &self.outcome)?;
        object.optional("subvolume_id", self.subvolume_id)?;
        object.field("commands", &self.commands)?;
        object.field("failures", &self.failures)?;
        object.field("fallbacks", &self.fallbacks)?;
        object.field("left_out", &self.left_out)?;
        object.field("clone_sources", &self.clone_sources)?;
        let not_kept = &self.not_kept;
        object.optional("not_kept", (not_kept.total() > 0).then_some(not_kept))?;
        object.optional("resumed_at", self.resumed_at)?;
        object.optional("checkpoint", self.checkpoint)
    }
}

impl Fields for NotKept {
    fn fields<S: Serializer>(&self, object: &mut Object<S>) -> Result<(), S::Error> {
        object.bytes("subvolume", self.subvolume.as_bytes())?;
        object.bytes("path", &self.path)?;
        self.what.fields(object)?;
        object.optional("errno", self.errno)
    }
}

impl Fields for Lack {
    fn fields<S: Serializer>(&self, object: &mut Object<S>) -> Result<(), S::Error> {
        match self {
            Self::Owner { uid, gid } => {
                object.field("lacks", "owner")?;
                object.field("uid", uid)?;
                object.field("gid", gid)
            }
            Self::Mode { wanted, kept } => {
                object.field("lacks", "mode")?;
                object.text("mode", format_args!("{wanted:04o}"))?;
                match kept {
                    Some(kept) => object.text("kept", format_args!("{kept:04o}")),
                    None => Ok(()),
                }
            }
            Self::Xattr { name } => {
                object.field("lacks", "xattr")?;
                object.bytes("name", name)
            }
            Self::Times => object.field("lacks", "times"),
            Self::Flags { attributes } => {
                object.field("lacks", "flags")?;
                object.text("fileattr", format_args!("{attributes:#x}"))
            }
            Self::SpecialFile { mode, rdev } => {
                object.field("lacks", "special-file")?;
                object.text("mode", format_args!("{mode:06o}"))?;
                object.field("rdev", rdev)
            }
            Self::Verity => object.field("lacks", "verity"),
        }
    }
}
