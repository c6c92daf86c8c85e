//! Headers and commands as JSON, an object to a line, with every field that
//! the stream has. Of file data there is the length.

use btrfs_sendstream::serial::{Fields, Object};
use btrfs_sendstream::{Item, Position};
use serde::{Serialize, Serializer};

use crate::json;

/// The line of an item that takes `total` bytes of the stream.
pub(super) fn line(item: &Item, at: Position, total: u64) -> Vec<u8> {
    json::line(&Line { item, at, total })
}

struct Line<'a> {
    item: &'a Item,
    at: Position,
    total: u64,
}

impl Fields for Line<'_> {
    fn fields<S: Serializer>(&self, object: &mut Object<S>) -> Result<(), S::Error> {
        self.at.fields(object)?;
        object.field("total", &self.total)?;
        match self.item {
            Item::Header(version) => {
                object.field("type", "header")?;
                object.field("version", version)
            }
            Item::Command(command) => command.fields(object),
            Item::Unknown(raw) => {
                object.field("type", "unknown")?;
                object.field("number", &raw.number)
            }
            _ => Ok(()),
        }
    }
}

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Object::of(self, serializer)
    }
}
