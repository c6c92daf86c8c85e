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

use std::fmt;

use btrfs_sendstream::serial::Text;
use btrfs_sendstream::{NewSubvolume, Position};
use serde::ser::{Serialize, SerializeMap, Serializer};

/// Something that is serialised as an object, and can be part of one.
pub(crate) trait Fields {
    /// Adds its keys.
    fn fields<S: Serializer>(&self, object: &mut Object<S>) -> Result<(), S::Error>;
}

/// An object that is being put together.
pub(crate) struct Object<S: Serializer>(S::SerializeMap);

impl<S: Serializer> Object<S> {
    /// Serialises `fields` as an object of its own.
    pub(crate) fn of(fields: &impl Fields, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = Self(serializer.serialize_map(None)?);
        fields.fields(&mut object)?;
        object.0.end()
    }

    /// Adds a value.
    fn field<T: Serialize + ?Sized>(&mut self, key: &str, value: &T) -> Result<(), S::Error> {
        self.0.serialize_entry(key, value)
    }

    /// Adds a value if there is one.
    fn optional<T: Serialize>(&mut self, key: &str, value: Option<T>) -> Result<(), S::Error> {
        match value {
            Some(value) => self.field(key, &value),
            None => Ok(()),
        }
    }

    /// Adds what a value displays.
    fn text(&mut self, key: &str, value: impl fmt::Display) -> Result<(), S::Error> {
        self.field(key, &value.to_string())
    }

    /// Adds a name or value of a stream.
    fn bytes(&mut self, key: &str, value: &[u8]) -> Result<(), S::Error> {
        self.field(key, &Text(value))
    }
}

/// Serialises what has [`Fields`] as an object of them.
macro_rules! objects {
    ($($(#[$doc:meta])* $type:ty;)*) => {$(
        $(#[$doc])*
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                $crate::serial::Object::of(self, serializer)
            }
        }
    )*};
}
pub(crate) use objects;

impl Fields for NewSubvolume {
    fn fields<S: Serializer>(&self, object: &mut Object<S>) -> Result<(), S::Error> {
        object.field("name", &self.name)?;
        object.field("uuid", &self.uuid)?;
        object.field("ctransid", &self.ctransid)?;
        object.optional("parent_uuid", self.parent.map(|it| it.uuid))?;
        object.optional("parent_ctransid", self.parent.map(|it| it.ctransid))
    }
}

impl Fields for Position {
    fn fields<S: Serializer>(&self, object: &mut Object<S>) -> Result<(), S::Error> {
        object.field("stream", &self.stream)?;
        object.field("command", &self.command)?;
        object.field("byte", &self.offset)
    }
}
