//! Values of attributes: reading and writing by type, and what holds for
//! them in both directions.

use uuid::Uuid;

use crate::attr::AttributeTable;
use crate::command::{CommandKind, StreamPath, Timespec};
use crate::error::{Malformed, Misuse};
use crate::wire::Version;
use crate::wire::attribute::Attribute::{self as A};

/// Nanoseconds of a time are below this.
const NANOSECONDS_PER_SECOND: u32 = 1_000_000_000;

/// The attributes of one command, read by type.
pub(super) struct Fields<'t, 'a> {
    pub(super) kind: CommandKind,
    pub(super) version: Version,
    pub(super) table: &'t AttributeTable<'a>,
}

impl<'a> Fields<'_, 'a> {
    #[inline]
    pub(super) fn bytes(&self, attribute: A) -> Result<&'a [u8], Malformed> {
        self.table
            .find(attribute)
            .ok_or(Malformed::MissingAttribute {
                command: self.kind,
                attribute,
            })
    }

    /// Bytes that may hold anything but NUL.
    #[inline]
    pub(super) fn string(&self, attribute: A) -> Result<&'a [u8], Malformed> {
        let value = self.bytes(attribute)?;
        check_string(attribute, value)?;
        Ok(value)
    }

    #[inline]
    pub(super) fn path(&self, attribute: A) -> Result<StreamPath<&'a [u8]>, Malformed> {
        StreamPath::parse(self.bytes(attribute)?)
            .map_err(|reason| Malformed::Path { attribute, reason })
    }

    #[inline]
    pub(super) fn array<const N: usize>(&self, attribute: A) -> Result<[u8; N], Malformed> {
        exact(attribute, self.bytes(attribute)?)
    }

    #[inline]
    pub(super) fn u32(&self, attribute: A) -> Result<u32, Malformed> {
        self.array(attribute).map(u32::from_le_bytes)
    }

    #[inline]
    pub(super) fn optional_u32(&self, attribute: A) -> Result<Option<u32>, Malformed> {
        let value = self.table.find(attribute);
        let value = value.map(|value| exact(attribute, value)).transpose()?;
        Ok(value.map(u32::from_le_bytes))
    }

    #[inline]
    pub(super) fn u64(&self, attribute: A) -> Result<u64, Malformed> {
        self.array(attribute).map(u64::from_le_bytes)
    }

    #[inline]
    pub(super) fn uuid(&self, attribute: A) -> Result<Uuid, Malformed> {
        self.array(attribute).map(Uuid::from_bytes)
    }

    #[inline]
    pub(super) fn time(&self, attribute: A) -> Result<Timespec, Malformed> {
        let value: [u8; 12] = self.array(attribute)?;
        let [s0, s1, s2, s3, s4, s5, s6, s7, n0, n1, n2, n3] = value;
        let time = Timespec {
            seconds: i64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]),
            nanoseconds: u32::from_le_bytes([n0, n1, n2, n3]),
        };
        check_time(attribute, time)?;
        Ok(time)
    }

    #[inline]
    pub(super) fn optional_time(&self, attribute: A) -> Result<Option<Timespec>, Malformed> {
        match self.table.find(attribute) {
            Some(_) => self.time(attribute).map(Some),
            None => Ok(None),
        }
    }
}

/// Writes attributes. What it refuses is remembered, so that the attributes
/// of a command can be listed without a check after each.
pub(super) struct Put<'o> {
    pub(super) out: &'o mut Vec<u8>,
    pub(super) version: Version,
    /// The first thing that was refused.
    pub(super) refused: Option<Misuse>,
}

impl Put<'_> {
    pub(super) fn refuse(&mut self, misuse: Misuse) -> &mut Self {
        self.refused.get_or_insert(misuse);
        self
    }

    #[inline]
    pub(super) fn bytes(&mut self, attribute: A, value: &[u8]) -> &mut Self {
        let Ok(len) = u16::try_from(value.len()) else {
            return self.refuse(Misuse::ValueTooLong {
                attribute,
                len: value.len(),
            });
        };
        self.out
            .extend_from_slice(&attribute.number().to_le_bytes());
        self.out.extend_from_slice(&len.to_le_bytes());
        self.out.extend_from_slice(value);
        self
    }

    /// File data, always a command's last attribute.
    pub(super) fn data(&mut self, value: &[u8]) -> &mut Self {
        if self.version == Version::V1 {
            return self.bytes(A::Data, value);
        }
        self.out.extend_from_slice(&A::Data.number().to_le_bytes());
        self.out.extend_from_slice(value);
        self
    }

    pub(super) fn string(&mut self, attribute: A, value: &[u8]) -> &mut Self {
        match check_string(attribute, value) {
            Ok(()) => self.bytes(attribute, value),
            Err(malformed) => self.refuse(Misuse::Value(malformed)),
        }
    }

    pub(super) fn path<B: AsRef<[u8]>>(&mut self, attribute: A, path: &StreamPath<B>) -> &mut Self {
        self.bytes(attribute, path.as_bytes())
    }

    pub(super) fn u32(&mut self, attribute: A, value: u32) -> &mut Self {
        self.bytes(attribute, &value.to_le_bytes())
    }

    pub(super) fn optional_u32(&mut self, attribute: A, value: Option<u32>) -> &mut Self {
        match value {
            Some(value) => self.u32(attribute, value),
            None => self,
        }
    }

    pub(super) fn u64(&mut self, attribute: A, value: u64) -> &mut Self {
        self.bytes(attribute, &value.to_le_bytes())
    }

    pub(super) fn uuid(&mut self, attribute: A, value: Uuid) -> &mut Self {
        self.bytes(attribute, value.as_bytes())
    }

    pub(super) fn time(&mut self, attribute: A, time: Timespec) -> &mut Self {
        if let Err(malformed) = check_time(attribute, time) {
            return self.refuse(Misuse::Value(malformed));
        }
        let [s0, s1, s2, s3, s4, s5, s6, s7] = time.seconds.to_le_bytes();
        let [n0, n1, n2, n3] = time.nanoseconds.to_le_bytes();
        self.bytes(attribute, &[s0, s1, s2, s3, s4, s5, s6, s7, n0, n1, n2, n3])
    }
}

#[inline]
fn exact<const N: usize>(attribute: A, value: &[u8]) -> Result<[u8; N], Malformed> {
    value.try_into().map_err(|_| Malformed::AttributeLength {
        attribute,
        len: value.len(),
        expected: N,
    })
}

fn check_string(attribute: A, value: &[u8]) -> Result<(), Malformed> {
    if value.contains(&0) {
        return Err(Malformed::Nul { attribute });
    }
    Ok(())
}

#[inline]
fn check_time(attribute: A, time: Timespec) -> Result<(), Malformed> {
    match time.nanoseconds {
        0..NANOSECONDS_PER_SECOND => Ok(()),
        nanoseconds => Err(Malformed::Nanoseconds {
            attribute,
            nanoseconds,
        }),
    }
}

pub(super) fn check_uuid(command: CommandKind, uuid: Uuid) -> Result<(), Malformed> {
    if uuid.is_nil() {
        return Err(Malformed::NilUuid { command });
    }
    Ok(())
}
