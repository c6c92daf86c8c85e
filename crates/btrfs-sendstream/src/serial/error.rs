//! Errors, and where they are.

use serde::ser::{Serialize, Serializer};

use super::{Fields, Object};
use crate::{Error, ErrorKind, Position};

/// An object: `kind`, the class of the error in one word; `message`, what went
/// wrong in English; and where, as [`Position`] has it.
impl Serialize for Error {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Object::of(self, serializer)
    }
}

impl Fields for Error {
    fn fields<S: Serializer>(&self, object: &mut Object<S>) -> Result<(), S::Error> {
        object.field(
            "kind",
            match self.kind() {
                ErrorKind::Malformed(_) => "malformed",
                ErrorKind::Sequence(_) => "sequence",
                ErrorKind::Unsupported(_) => "unsupported",
                ErrorKind::Truncated(_) => "truncated",
                ErrorKind::Empty => "empty",
                ErrorKind::Limit(_) => "limit",
                ErrorKind::Misuse(_) => "misuse",
                ErrorKind::Io(_) => "io",
            },
        )?;
        object.text("message", self.kind())?;
        match self.position() {
            Some(position) => position.fields(object),
            None => Ok(()),
        }
    }
}

/// An object: `stream`, `command` and `byte`.
impl Serialize for Position {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Object::of(self, serializer)
    }
}

impl Fields for Position {
    fn fields<S: Serializer>(&self, object: &mut Object<S>) -> Result<(), S::Error> {
        object.field("stream", &self.stream)?;
        object.field("command", &self.command)?;
        object.field("byte", &self.offset)
    }
}
