//! What happens during a receive.

use btrfs_sendstream::{CommandBuf, Position};
use serde::ser::{Serialize, Serializer};

use super::{Fields, Object};
use crate::observer::Event;

/// `event`, its name, and its fields.
impl Serialize for Event<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        /// The fields of a command are its own.
        #[derive(serde::Serialize)]
        struct OfCommand<'a> {
            event: &'static str,
            #[serde(flatten)]
            at: Position,
            #[serde(flatten)]
            command: &'a CommandBuf,
        }
        match *self {
            Self::Command { command, at } => {
                let event = name(self);
                OfCommand { event, at, command }.serialize(serializer)
            }
            _ => Object::of(self, serializer),
        }
    }
}

impl Fields for Event<'_> {
    fn fields<S: Serializer>(&self, object: &mut Object<S>) -> Result<(), S::Error> {
        object.field("event", name(self))?;
        match *self {
            Self::SubvolumeBegins { new, at } => {
                at.fields(object)?;
                new.fields(object)
            }
            Self::SubvolumeCreated { new, parent } => {
                new.fields(object)?;
                object.optional("parent", parent)
            }
            Self::Progress { at, totals } => {
                at.fields(object)?;
                object.field("commands", &totals.commands)?;
                object.field("files", &totals.files)?;
                object.field("written", &totals.written)?;
                object.field("cloned", &totals.cloned)?;
                object.field("subvolumes", &totals.subvolumes)
            }
            #[cfg(feature = "resume")]
            Self::Comparing { new, offset } | Self::Resumed { new, offset } => {
                new.fields(object)?;
                object.field("offset", &offset)
            }
            #[cfg(feature = "resume")]
            Self::StartsAgain(error) => object.text("reason", error),
            #[cfg(feature = "resume")]
            Self::Checkpoint { at, offset } => {
                at.fields(object)?;
                object.field("offset", &offset)
            }
            Self::Command { at, .. } => at.fields(object),
            Self::Failed(failure) => failure.fields(object),
            Self::NotDeleted { subvolume, cause } => {
                object.bytes("name", subvolume.name.as_bytes())?;
                object.field("cause", cause)
            }
            Self::SubvolumeFinished(subvolume)
            | Self::SubvolumePresent(subvolume)
            | Self::SubvolumeAbandoned(subvolume) => subvolume.fields(object),
        }
    }
}

fn name(event: &Event<'_>) -> &'static str {
    match event {
        Event::SubvolumeBegins { .. } => "subvolume_begins",
        Event::SubvolumeCreated { .. } => "subvolume_created",
        Event::Progress { .. } => "progress",
        #[cfg(feature = "resume")]
        Event::Comparing { .. } => "comparing",
        #[cfg(feature = "resume")]
        Event::StartsAgain(_) => "starts_again",
        #[cfg(feature = "resume")]
        Event::Resumed { .. } => "resumed",
        #[cfg(feature = "resume")]
        Event::Checkpoint { .. } => "checkpoint",
        Event::Command { .. } => "command",
        Event::Failed(_) => "failed",
        Event::SubvolumeFinished(_) => "subvolume_finished",
        Event::NotDeleted { .. } => "not_deleted",
        Event::SubvolumePresent(_) => "subvolume_present",
        Event::SubvolumeAbandoned(_) => "subvolume_abandoned",
    }
}
