//! How reports, events and errors look when they are serialised: objects with
//! keys, as `btrfs_sendstream` makes them of commands. Structures that are
//! nothing but numbers derive it where they are defined. `docs/json.md` of the
//! repository has the keys.

mod error;
mod event;
mod found;
mod report;
#[cfg(test)]
mod tests;

use btrfs_sendstream::serial::{Fields, Object};
use serde::ser::Serializer;

use crate::plan::op::NewSubvolume;

/// Serialises what has [`Fields`] as an object of them.
macro_rules! objects {
    ($($(#[$doc:meta])* $type:ty;)*) => {$(
        $(#[$doc])*
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                btrfs_sendstream::serial::Object::of(self, serializer)
            }
        }
    )*};
}
pub(crate) use objects;

objects! {
    /// `name`, `uuid`, `ctransid`, and of an incremental stream `parent_uuid`
    /// and `parent_ctransid`.
    NewSubvolume;
}

impl Fields for NewSubvolume {
    fn fields<S: Serializer>(&self, object: &mut Object<S>) -> Result<(), S::Error> {
        object.bytes("name", self.name.as_bytes())?;
        object.field("uuid", &self.uuid)?;
        object.field("ctransid", &self.ctransid)?;
        object.optional("parent_uuid", self.parent.map(|it| it.uuid))?;
        object.optional("parent_ctransid", self.parent.map(|it| it.ctransid))
    }
}
