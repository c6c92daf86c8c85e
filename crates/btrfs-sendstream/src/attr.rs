//! Attributes: the numbered values in a command's payload.

use std::cell::Cell;

use crate::error::{Error, ErrorKind, Malformed, Unsupported};
use crate::wire::Version;
use crate::wire::attribute::Attribute;
use crate::wire::cursor::Cursor;

/// An attribute as it stands in a command: a number and some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawAttribute<'a> {
    /// The number; may be unknown.
    pub number: u16,
    /// The value without its header.
    pub value: &'a [u8],
    /// Where the attribute begins, in bytes from the start of the input if
    /// that is known, else of the payload.
    pub offset: u64,
}

/// The attributes of a payload in their order, whatever their numbers.
///
/// Ends after the first error.
#[derive(Clone, Debug)]
pub struct RawAttributes<'a> {
    rest: Cursor<'a>,
    /// Offset of the payload's end.
    end: u64,
    data_is_rest: bool,
}

impl<'a> RawAttributes<'a> {
    pub(crate) fn new(payload: &'a [u8], version: Version, offset: u64) -> Self {
        Self {
            rest: Cursor::new(payload),
            end: offset.saturating_add(payload.len() as u64),
            data_is_rest: version >= Version::V2,
        }
    }

    #[inline]
    fn read(&mut self) -> Result<RawAttribute<'a>, Malformed> {
        let left = self.rest.remaining();
        let offset = self.end - left as u64;
        let trailing = Malformed::TrailingBytes { left, offset };
        let number = self.rest.u16().ok_or(trailing)?;
        let value = if self.data_is_rest && number == Attribute::Data.number() {
            self.rest.take_rest()
        } else {
            let len = usize::from(self.rest.u16().ok_or(trailing)?);
            self.rest.take(len).ok_or(Malformed::AttributeOverrun {
                number,
                len,
                left: self.rest.remaining(),
                offset,
            })?
        };
        Ok(RawAttribute {
            number,
            value,
            offset,
        })
    }
}

impl<'a> Iterator for RawAttributes<'a> {
    type Item = Result<RawAttribute<'a>, Error>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        Some(self.read().map_err(|error| {
            self.rest.take_rest();
            ErrorKind::from(error).into()
        }))
    }
}

/// The attributes of one command by number, each at most once.
pub(crate) struct AttributeTable<'a> {
    values: [&'a [u8]; Attribute::COUNT + 1],
    /// Bits of the attributes that are present.
    present: u64,
    /// Bits of the attributes that were asked for.
    used: Cell<u64>,
}

impl<'a> AttributeTable<'a> {
    /// A table without attributes.
    #[inline]
    pub(crate) fn new() -> Self {
        Self {
            values: [&[]; Attribute::COUNT + 1],
            present: 0,
            used: Cell::new(0),
        }
    }

    /// Sorts `attributes` by number, in place: moving the table about would
    /// cost more than filling it.
    ///
    /// # Errors
    /// Duplicates, broken framing, and numbers that `version` does not have;
    /// with `allow_unknown`, numbers over the highest known are omitted.
    #[inline]
    pub(crate) fn fill(
        &mut self,
        attributes: RawAttributes<'a>,
        version: Version,
        allow_unknown: bool,
    ) -> Result<(), Error> {
        for raw in attributes {
            let RawAttribute {
                number,
                value,
                offset,
            } = raw?;
            let Some(attribute) = Attribute::from_number(number) else {
                if allow_unknown && number != 0 {
                    continue;
                }
                return Err(Unsupported::Attribute { number, offset }.into());
            };
            if attribute.since() > version {
                return Err(Unsupported::AttributeVersion {
                    attribute,
                    version,
                    offset,
                }
                .into());
            }
            if self.present & attribute.bit() != 0 {
                return Err(Malformed::DuplicateAttribute { attribute, offset }.into());
            }
            self.present |= attribute.bit();
            if let Some(slot) = self.values.get_mut(usize::from(number)) {
                *slot = value;
            }
        }
        Ok(())
    }

    /// The value of `attribute`, if it is present. Marks the attribute as
    /// used.
    #[inline]
    pub(crate) fn find(&self, attribute: Attribute) -> Option<&'a [u8]> {
        self.used.set(self.used.get() | attribute.bit());
        if self.present & attribute.bit() == 0 {
            return None;
        }
        self.values.get(usize::from(attribute.number())).copied()
    }

    /// Whether `attribute` was asked for.
    pub(crate) fn is_used(&self, attribute: Attribute) -> bool {
        self.used.get() & attribute.bit() != 0
    }

    /// The lowest attribute that is present and was not asked for, if there
    /// is one.
    #[inline]
    pub(crate) fn unexpected(&self) -> Option<Attribute> {
        let lowest = (self.present & !self.used.get()).trailing_zeros();
        Attribute::from_number(u16::try_from(lowest).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_no_gap() {
        for (index, attribute) in Attribute::ALL.iter().copied().enumerate() {
            assert_eq!(usize::from(attribute.number()), index + 1);
            assert_eq!(Attribute::from_number(attribute.number()), Some(attribute));
        }
        assert_eq!(Attribute::from_number(0), None);
        assert_eq!(Attribute::from_number(36), None);
    }

    #[test]
    fn highest_number_of_each_version() {
        for (&version, highest) in Version::ALL.iter().zip([24, 31, 35]) {
            let of_version = Attribute::ALL
                .iter()
                .copied()
                .filter(|a| a.since() <= version);
            assert_eq!(of_version.map(Attribute::number).max(), Some(highest));
        }
    }

    #[test]
    fn data_has_a_length_only_in_version_1() {
        let bytes = b"\x13\x00\x01\x00x\x12\x00\x00\x00";
        let read = |version| {
            RawAttributes::new(bytes, version, 100)
                .map(|raw| raw.map(|raw| (raw.number, raw.value, raw.offset)))
                .collect::<Result<Vec<_>, _>>()
                .unwrap()
        };
        assert_eq!(
            read(Version::V1),
            [(19, &b"x"[..], 100), (18, &b""[..], 105)]
        );
        assert_eq!(
            read(Version::V2),
            [(19, &b"\x01\x00x\x12\x00\x00\x00"[..], 100)]
        );
    }

    #[test]
    fn iteration_ends_after_an_error() {
        let mut attributes = RawAttributes::new(b"\x01\x00\x09\x00x", Version::V1, 0);
        assert!(attributes.next().unwrap().is_err());
        assert!(attributes.next().is_none());
    }
}
