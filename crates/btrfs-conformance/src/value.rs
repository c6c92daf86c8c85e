//! The values of attributes as the set and reports have them, in JSON.

use btrfs_sendstream::Attribute;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// What the bytes of a value mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// A little-endian integer of so many bytes.
    Integer(usize),
    /// 16 bytes.
    Uuid,
    /// Seconds and nanoseconds.
    Time,
    /// A path or a name: bytes, often UTF-8.
    Text,
    /// Other bytes, of which a report has the length and a checksum.
    Bytes,
}

/// The type of an attribute's value.
pub fn type_of(attribute: Attribute) -> Type {
    match attribute {
        Attribute::Uuid | Attribute::CloneUuid => Type::Uuid,
        Attribute::Ctime | Attribute::Mtime | Attribute::Atime | Attribute::Otime => Type::Time,
        Attribute::XattrName
        | Attribute::Path
        | Attribute::PathTo
        | Attribute::PathLink
        | Attribute::ClonePath => Type::Text,
        Attribute::XattrData
        | Attribute::Data
        | Attribute::VeritySaltData
        | Attribute::VeritySigData => Type::Bytes,
        Attribute::VerityAlgorithm => Type::Integer(1),
        Attribute::FallocateMode
        | Attribute::Compression
        | Attribute::Encryption
        | Attribute::VerityBlockSize => Type::Integer(4),
        _ => Type::Integer(8),
    }
}

/// The attribute with this name.
pub fn attribute(name: &str) -> Option<Attribute> {
    let mut all = Attribute::ALL.iter().copied();
    all.find(|attribute| attribute.name() == name)
}

/// Bytes in the form of a report; `None` if they are not a value of the attribute.
pub fn encode(attribute: Attribute, bytes: &[u8]) -> Option<Value> {
    Some(match type_of(attribute) {
        Type::Integer(width) => {
            if bytes.len() != width {
                return None;
            }
            let mut padded = [0; 8];
            padded.get_mut(..width)?.copy_from_slice(bytes);
            integer(i128::from(u64::from_le_bytes(padded)))
        }
        Type::Uuid => Value::from(Uuid::from_slice(bytes).ok()?.hyphenated().to_string()),
        Type::Time => {
            let (seconds, nanoseconds) = bytes.split_first_chunk::<8>()?;
            let nanoseconds = <[u8; 4]>::try_from(nanoseconds).ok()?;
            json!({
                "seconds": integer(i128::from(i64::from_le_bytes(*seconds))),
                "nanoseconds": u32::from_le_bytes(nanoseconds),
            })
        }
        Type::Text => match std::str::from_utf8(bytes) {
            Ok(text) => Value::from(text),
            Err(_) => json!({ "hex": hex(bytes) }),
        },
        Type::Bytes => json!({ "length": bytes.len(), "sha256": sha256(bytes) }),
    })
}

/// A value of a report in the form that [`encode`] gives, if it has one of the other
/// forms that are allowed.
pub fn canonical(attribute: Attribute, value: Value) -> Value {
    let bytes = || {
        let object = value.as_object().filter(|object| object.len() == 1)?;
        unhex(object.get("hex")?.as_str()?)
    };
    match type_of(attribute) {
        Type::Integer(_) => canonical_integer(value),
        Type::Time => match value {
            Value::Object(fields) => fields
                .into_iter()
                .map(|(key, field)| (key, canonical_integer(field)))
                .collect(),
            other => other,
        },
        Type::Uuid => value
            .as_str()
            .and_then(|text| Uuid::parse_str(text).ok())
            .map_or(value, |uuid| Value::from(uuid.hyphenated().to_string())),
        Type::Text | Type::Bytes => bytes()
            .and_then(|bytes| encode(attribute, &bytes))
            .unwrap_or(value),
    }
}

/// From 2⁵³ on, some readers of JSON round.
const EXACT: i128 = 1 << 53;

fn integer(value: i128) -> Value {
    match i64::try_from(value) {
        Ok(small) if value.abs() < EXACT => Value::from(small),
        _ => Value::from(value.to_string()),
    }
}

fn canonical_integer(value: Value) -> Value {
    let digits = match &value {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        _ => return value,
    };
    // Neither a sign nor leading zeros: not everything that parses is a number.
    match digits.parse::<i128>() {
        Ok(number) if number.to_string() == digits => integer(number),
        _ => value,
    }
}

/// The SHA-256 as hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    if !digits.is_ascii() || !digits.len().is_multiple_of(2) {
        return None;
    }
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_that_readers_round_are_text() {
        let size = |number: u64| encode(Attribute::Size, &number.to_le_bytes()).unwrap();
        assert_eq!(size((1 << 53) - 1), json!(9_007_199_254_740_991_u64));
        assert_eq!(size(1 << 53), json!("9007199254740992"));
        assert_eq!(size(u64::MAX), json!("18446744073709551615"));
        assert_eq!(
            canonical(Attribute::Size, json!(u64::MAX)),
            json!("18446744073709551615")
        );
        assert_eq!(canonical(Attribute::Size, json!("7")), json!(7));
        for no_number in ["+7", "07", " 7", "7.0", "", "0x7"] {
            assert_eq!(
                canonical(Attribute::Size, json!(no_number)),
                json!(no_number)
            );
        }
    }

    #[test]
    fn other_forms_mean_the_same() {
        let same = |attribute, form, canonical_form| {
            assert_eq!(canonical(attribute, form), canonical_form);
        };
        same(Attribute::Path, json!({"hex": "6869"}), json!("hi"));
        same(Attribute::Path, json!("5"), json!("5"));
        same(
            Attribute::Path,
            json!({"hex": "636166E9"}),
            json!({"hex": "636166e9"}),
        );
        same(
            Attribute::Data,
            json!({"hex": ""}),
            encode(Attribute::Data, b"").unwrap(),
        );
        same(
            Attribute::Uuid,
            json!("101112131415161718191A1B1C1D1E1F"),
            json!("10111213-1415-1617-1819-1a1b1c1d1e1f"),
        );
        same(
            Attribute::Atime,
            json!({"seconds": "-1", "nanoseconds": 5}),
            json!({"seconds": -1, "nanoseconds": 5}),
        );
    }

    #[test]
    fn a_value_of_another_length_is_none() {
        assert_eq!(encode(Attribute::Size, &[0; 4]), None);
        assert_eq!(encode(Attribute::Compression, &[0; 8]), None);
        assert_eq!(encode(Attribute::Uuid, &[0; 15]), None);
        assert_eq!(encode(Attribute::Mtime, &[0; 8]), None);
    }
}
