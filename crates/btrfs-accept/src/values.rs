//! Values of rules that are more than a number or a word.

use std::fmt;
use std::time::Duration;

use btrfs_receive::matches_pattern;
use serde::de::{self, Deserializer, Visitor};

/// The longest pattern: no name of btrfs or of an attribute is longer.
const MAX_PATTERN: usize = 255;

/// A value that cannot be used in a rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ValueError {
    /// The pattern is empty or has more than 255 bytes.
    #[error("a pattern must have 1 to 255 bytes")]
    PatternLength,
    /// The pattern contains `/` or a NUL byte, which no name has.
    #[error("a name has no '/' and no NUL byte, and no pattern with one matches")]
    NoName,
    /// Not a size.
    #[error("{0:?} is not a size: it must be a number of bytes, or one with K, M, G, T or P")]
    Size(String),
    /// Not a time.
    #[error("{0:?} is not a time: it must be a number with s, min or h, and more than 0")]
    Time(String),
    /// Not an id or a range of ids.
    #[error("{0:?} is not an id or a range of ids, such as \"0\" or \"1000-1999\"")]
    Ids(String),
}

/// A pattern for whole names: `*` matches any bytes, `?` one byte, every other
/// byte itself. Names need not be UTF-8.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Box<[u8]>);

impl Pattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// It matches no name: it is empty, longer than 255 bytes, or contains `/` or
    /// a NUL byte.
    pub fn parse(pattern: impl AsRef<[u8]>) -> Result<Self, ValueError> {
        let pattern = pattern.as_ref();
        if pattern.is_empty() || pattern.len() > MAX_PATTERN {
            return Err(ValueError::PatternLength);
        }
        if pattern.iter().any(|byte| b"/\0".contains(byte)) {
            return Err(ValueError::NoName);
        }
        Ok(Self(pattern.into()))
    }

    /// Returns whether the pattern matches all of `name`.
    pub fn matches(&self, name: &[u8]) -> bool {
        matches_pattern(&self.0, name)
    }
}

/// User or group ids from the first to the last, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ids {
    /// The smallest.
    pub first: u32,
    /// The largest.
    pub last: u32,
}

impl Ids {
    /// The ids from `first` to `last`; none if `last` is smaller.
    pub fn new(first: u32, last: u32) -> Self {
        Self { first, last }
    }

    /// Parses `7` or `7-9`.
    ///
    /// # Errors
    /// It is neither, or the second number is smaller.
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        let wrong = || ValueError::Ids(text.to_owned());
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (digits(first), digits(last)) {
            (Some(first), Some(last)) if first <= last => Ok(Self { first, last }),
            _ => Err(wrong()),
        }
    }

    /// Returns whether `id` is one of them.
    pub fn contain(self, id: u64) -> bool {
        (u64::from(self.first)..=u64::from(self.last)).contains(&id)
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity(pub u64);

impl Quantity {
    /// Parses `1500`, `12G` or `12GiB`; units are multiples of 1024.
    ///
    /// # Errors
    /// It is not such a number, or does not fit in 64 bits.
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        let wrong = || ValueError::Size(text.to_owned());
        let (number, unit) = split(text);
        let number: u64 = digits(number).ok_or_else(wrong)?;
        let letter = unit.strip_suffix("iB").unwrap_or(unit);
        let shift = match (letter, unit) {
            ("", "") => 0,
            ("K", _) => 10,
            ("M", _) => 20,
            ("G", _) => 30,
            ("T", _) => 40,
            ("P", _) => 50,
            _ => return Err(wrong()),
        };
        number.checked_mul(1 << shift).map(Self).ok_or_else(wrong)
    }
}

/// Parses `30s`, `5min` or `1h`.
fn parse_time(text: &str) -> Result<Duration, ValueError> {
    let wrong = || ValueError::Time(text.to_owned());
    let (number, unit) = split(text);
    let number: u64 = digits(number).ok_or_else(wrong)?;
    let seconds = match unit {
        "s" => Some(number),
        "min" => number.checked_mul(60),
        "h" => number.checked_mul(3600),
        _ => None,
    };
    seconds
        .filter(|&seconds| seconds > 0)
        .map(Duration::from_secs)
        .ok_or_else(wrong)
}

/// A number of digits only: `+5` is none.
fn digits<N: std::str::FromStr>(text: &str) -> Option<N> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    if plain { text.parse().ok() } else { None }
}

/// The digits at the beginning, and the rest.
fn split(text: &str) -> (&str, &str) {
    let end = text.find(|letter: char| !letter.is_ascii_digit());
    text.split_at(end.unwrap_or(text.len()))
}

/// Reads a string, or where `number` is given a number as well.
struct Text<T> {
    expected: &'static str,
    parse: fn(&str) -> Result<T, ValueError>,
    number: Option<fn(u64) -> Option<T>>,
}

impl<T> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        let value = self.number.and_then(|convert| convert(number));
        value.ok_or_else(|| E::invalid_value(de::Unexpected::Unsigned(number), &self))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        match u64::try_from(number) {
            Ok(number) => self.visit_u64(number),
            Err(_) => Err(E::invalid_value(de::Unexpected::Signed(number), &self)),
        }
    }
}

impl<'de> de::Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Text {
            expected: "a pattern for names, as a string",
            parse: |text| Self::parse(text),
            number: None,
        })
    }
}

impl<'de> de::Deserialize<'de> for Ids {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Text {
            expected: "an id such as 0, or a range of ids such as \"1000-1999\"",
            parse: Self::parse,
            number: Some(|id| u32::try_from(id).ok().map(|id| Self::new(id, id))),
        })
    }
}

impl<'de> de::Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Text {
            expected: "a size: a number of bytes, or a string such as \"12G\"",
            parse: Self::parse,
            number: Some(|bytes| Some(Self(bytes))),
        })
    }
}

/// An optional time, for `#[serde(deserialize_with)]`.
pub(crate) fn time<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    let text = Text {
        expected: "a time, as a string such as \"10min\"",
        parse: parse_time,
        number: None,
    };
    deserializer.deserialize_any(text).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_have_a_unit_or_none() {
        for (text, bytes) in [("0", 0), ("1500", 1500), ("12G", 12 << 30), ("3KiB", 3072)] {
            assert_eq!(Quantity::parse(text), Ok(Quantity(bytes)), "{text}");
        }
        for text in [
            "",
            "G",
            "-1",
            "+1",
            "1g",
            "1 G",
            "1GB",
            "iB",
            "1iB",
            "17179869184G",
            "1e3",
        ] {
            assert!(Quantity::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_have_a_unit() {
        assert_eq!(parse_time("5min"), Ok(Duration::from_secs(300)));
        for text in ["", "5", "5m", "0s", "-1s", "99999999999999999999h"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ids_are_one_or_a_range() {
        assert_eq!(Ids::parse("7"), Ok(Ids::new(7, 7)));
        assert_eq!(Ids::parse("0-4294967295"), Ok(Ids::new(0, u32::MAX)));
        assert!(Ids::new(3, 5).contain(5) && !Ids::new(3, 5).contain(6));
        // What is cut to 32 bits would be 3.
        assert!(!Ids::new(3, 5).contain((1 << 32) + 3));
        for text in [
            "",
            "-",
            "1-",
            "-1",
            "2-1",
            "1-2-3",
            "+1",
            "4294967296",
            "root",
        ] {
            assert!(Ids::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn patterns_match_whole_names() {
        let pattern = Pattern::parse("home.*").unwrap();
        assert!(pattern.matches(b"home.\xff\n"));
        assert!(!pattern.matches(b"xhome.1") && !pattern.matches(b"home"));
        for text in ["", "a/b", "a\0", &"x".repeat(256)] {
            assert!(Pattern::parse(text).is_err(), "{text}");
        }
    }
}
