//! How commands and errors look when they are serialised.
//!
//! Structures are objects with keys. Names and values of a stream are bytes:
//! strings if they are UTF-8, else objects `{"hex": "…"}`; see [`Text`]. What
//! is absent has no key. `docs/json.md` of the repository has the keys.
//!
//! The functions are for `#[serde(serialize_with = "…")]`.

#[cfg(test)]
mod tests;
mod time;

use std::fmt::{self, Octal};

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::{CommandKind, Error, ErrorKind, Position, StreamPath, SubvolumeName, Version};

/// Bytes that are text as a rule: serialised as a string if they are UTF-8,
/// else as an object with the hexadecimal digits, `{"hex": "636166e9"}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Text<'a>(pub &'a [u8]);

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => {
                let mut object = serializer.serialize_map(Some(1))?;
                object.serialize_entry("hex", &Shown(Hex(self.0)))?;
                object.end()
            }
        }
    }
}

/// Serialises bytes as [`Text`] does.
///
/// # Errors
/// Those of the serialiser.
pub fn text<S: Serializer>(bytes: impl AsRef<[u8]>, serializer: S) -> Result<S::Ok, S::Error> {
    Text(bytes.as_ref()).serialize(serializer)
}

/// Serialises bytes that are there as [`Text`] does. Those that are absent
/// have to be skipped.
///
/// # Errors
/// Those of the serialiser.
pub fn optional_text<S: Serializer>(
    bytes: &Option<Bytes>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    bytes.as_deref().map(Text).serialize(serializer)
}

/// Deserialises what [`text`] writes.
///
/// # Errors
/// It is neither a string nor an object with an even number of hexadecimal
/// digits under `hex`.
pub fn read_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum Either {
        Text(String),
        Digits { hex: String },
    }
    match Either::deserialize(deserializer)? {
        Either::Text(text) => Ok(text.into()),
        Either::Digits { hex } => unhex(&hex)
            .ok_or_else(|| D::Error::custom("`hex` is not an even number of hexadecimal digits")),
    }
}

/// Deserialises what [`optional_text`] writes.
///
/// # Errors
/// Those of [`read_text`].
pub fn read_optional_text<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Bytes>, D::Error> {
    read_text(deserializer).map(Some)
}

fn unhex(digits: &str) -> Option<Bytes> {
    let digits: Option<Vec<u8>> = digits
        .chars()
        .map(|digit| digit.to_digit(16).and_then(|it| u8::try_from(it).ok()))
        .collect();
    let digits = digits?;
    let (pairs, rest) = digits.as_chunks::<2>();
    let bytes = pairs.iter().map(|[high, low]| high << 4 | low);
    rest.is_empty().then(|| bytes.collect())
}

/// Serialises what a value displays.
///
/// # Errors
/// Those of the serialiser.
pub fn shown<S: Serializer>(value: &impl fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

/// Bytes as a string of hexadecimal digits.
pub(crate) fn hex<S: Serializer>(
    bytes: &impl AsRef<[u8]>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&Hex(bytes.as_ref()))
}

/// File data: its length.
pub(crate) fn len<S: Serializer>(
    bytes: &impl AsRef<[u8]>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(bytes.as_ref().len() as u64)
}

/// Serialises permission bits as octal digits, four at least.
///
/// # Errors
/// Those of the serialiser.
pub fn permissions<S: Serializer>(mode: &impl Octal, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{mode:04o}"))
}

/// Serialises a mode with type bits as octal digits, six at least.
///
/// # Errors
/// Those of the serialiser.
pub fn special_mode<S: Serializer>(mode: &impl Octal, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{mode:06o}"))
}

/// Serialises inode flags as hexadecimal digits with `0x`.
///
/// # Errors
/// Those of the serialiser.
pub fn flags<S: Serializer>(flags: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{flags:#x}"))
}

/// Serialises as what it displays.
struct Shown<T>(T);

impl<T: fmt::Display> Serialize for Shown<T> {
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

/// As its name.
impl Serialize for CommandKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// As [`serial::Text`](crate::serial::Text).
impl<B: AsRef<[u8]>> Serialize for StreamPath<B> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        text(self.as_bytes(), serializer)
    }
}

/// As [`serial::Text`](crate::serial::Text).
impl<B: AsRef<[u8]>> Serialize for SubvolumeName<B> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        text(self.as_bytes(), serializer)
    }
}

/// An object: `kind`, the class of the error in one word; `message`, what went
/// wrong in English; and where, as [`Position`] has it.
impl Serialize for Error {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(serde::Serialize)]
        struct Fields<'a> {
            kind: &'static str,
            #[serde(serialize_with = "shown")]
            message: &'a ErrorKind,
            #[serde(flatten)]
            at: Option<Position>,
        }
        let fields = Fields {
            kind: match self.kind() {
                ErrorKind::Malformed(_) => "malformed",
                ErrorKind::Sequence(_) => "sequence",
                ErrorKind::Unsupported(_) => "unsupported",
                ErrorKind::Truncated(_) => "truncated",
                ErrorKind::Empty => "empty",
                ErrorKind::Limit(_) => "limit",
                ErrorKind::Misuse(_) => "misuse",
                ErrorKind::Io(_) => "io",
            },
            message: self.kind(),
            at: self.position(),
        };
        fields.serialize(serializer)
    }
}
