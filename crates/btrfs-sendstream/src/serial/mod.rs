//! How commands and errors look when they are serialised.
//!
//! Everything is an object with keys. Names and values of a stream are bytes:
//! they are given as text under their key if they are UTF-8, else as
//! hexadecimal digits under the key with `_hex` appended. What is absent has no
//! key. The documentation of the repository has the keys, in `docs/json.md`.
//!
//! The helpers are shared with the other crates of the repository and no part
//! of the public interface.

mod command;
mod error;
#[cfg(test)]
mod tests;
mod time;

use std::fmt;

use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::Version;

/// Something that is serialised as an object, and can be part of one.
pub trait Fields {
    /// Adds its keys.
    ///
    /// # Errors
    /// Those of the serialiser.
    fn fields<S: Serializer>(&self, object: &mut Object<S>) -> Result<(), S::Error>;
}

/// An object that is being put together.
pub struct Object<S: Serializer>(S::SerializeMap);

impl<S: Serializer> fmt::Debug for Object<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Object").finish_non_exhaustive()
    }
}

impl<S: Serializer> Object<S> {
    /// Serialises `fields` as an object of its own.
    ///
    /// # Errors
    /// Those of the serialiser.
    pub fn of(fields: &impl Fields, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = Self(serializer.serialize_map(None)?);
        fields.fields(&mut object)?;
        object.0.end()
    }

    /// Adds a value.
    ///
    /// # Errors
    /// Those of the serialiser.
    pub fn field<T: Serialize + ?Sized>(&mut self, key: &str, value: &T) -> Result<(), S::Error> {
        self.0.serialize_entry(key, value)
    }

    /// Adds a value if there is one.
    ///
    /// # Errors
    /// Those of the serialiser.
    pub fn optional<T: Serialize>(&mut self, key: &str, value: Option<T>) -> Result<(), S::Error> {
        match value {
            Some(value) => self.field(key, &value),
            None => Ok(()),
        }
    }

    /// Adds what a value displays.
    ///
    /// # Errors
    /// Those of the serialiser.
    pub fn text(&mut self, key: &str, value: impl fmt::Display) -> Result<(), S::Error> {
        self.field(key, &Text(value))
    }

    /// Adds a name or value of a stream: as text if it is UTF-8, else as
    /// hexadecimal digits under the key with `_hex` appended.
    ///
    /// # Errors
    /// Those of the serialiser.
    pub fn bytes(&mut self, key: &str, value: &[u8]) -> Result<(), S::Error> {
        match std::str::from_utf8(value) {
            Ok(text) => self.field(key, text),
            Err(_) => self.hex(&format!("{key}_hex"), value),
        }
    }

    /// Adds bytes as hexadecimal digits.
    ///
    /// # Errors
    /// Those of the serialiser.
    pub fn hex(&mut self, key: &str, value: &[u8]) -> Result<(), S::Error> {
        self.text(key, Hex(value))
    }
}

/// Serialises as what it displays.
struct Text<T>(T);

impl<T: fmt::Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// As its number.
impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.number())
    }
}
