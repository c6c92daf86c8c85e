//! What is known of a finished extraction: the equivalent of a received
//! UUID, kept in a small text file.

use std::fmt::Write as _;

use btrfs_sendstream::{Bytes, SubvolumeName, Timespec};
use uuid::Uuid;

use crate::plan::op::SourceId;

/// The first line.
const TITLE: &str = "btrfs extraction, format 1";

/// The longest record that is read: each byte of a name may take three.
pub(super) const MAX_LEN: usize = 4096;

/// A finished extraction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// Its name in the directory.
    pub(super) name: SubvolumeName,
    /// What the stream calls it.
    pub(super) id: SourceId,
    /// What the stream calls its parent.
    pub(super) parent: Option<SourceId>,
    /// When the directory was made, where the filesystem keeps that: tells
    /// it from another that got its name later.
    pub(super) born: Option<Timespec>,
    /// How much its files have to go without, its parent's included.
    pub(super) not_kept: u64,
}

impl Record {
    /// The text of the file.
    pub(super) fn encode(&self) -> String {
        let mut text = format!("{TITLE}\n");
        // Writing to a string does not fail.
        let _ = writeln!(text, "name {}", escape(self.name.as_bytes()));
        let _ = writeln!(text, "uuid {}", self.id.uuid);
        let _ = writeln!(text, "transid {}", self.id.ctransid);
        if let Some(parent) = self.parent {
            let _ = writeln!(text, "parent-uuid {}", parent.uuid);
            let _ = writeln!(text, "parent-transid {}", parent.ctransid);
        }
        if let Some(born) = self.born {
            let _ = writeln!(text, "born {} {}", born.seconds, born.nanoseconds);
        }
        let _ = writeln!(text, "not-kept {}", self.not_kept);
        text.push_str("complete\n");
        text
    }

    /// Reads what [`encode`](Self::encode) wrote; lines it does not know are
    /// skipped. `None` for anything else.
    pub(super) fn decode(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let lines = text.strip_prefix(TITLE)?.strip_prefix('\n')?;
        let lines = lines.strip_suffix("complete\n")?;
        let value = |key: &str| {
            let mut lines = lines.lines();
            lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))
        };
        let uuid = |key| value(key)?.parse::<Uuid>().ok();
        let number = |key| value(key)?.parse::<u64>().ok();
        let parent = match value("parent-uuid") {
            Some(_) => Some(SourceId {
                uuid: uuid("parent-uuid")?,
                ctransid: number("parent-transid")?,
            }),
            None => None,
        };
        let born = match value("born") {
            Some(value) => {
                let (seconds, nanoseconds) = value.split_once(' ')?;
                Some(Timespec {
                    seconds: seconds.parse().ok()?,
                    nanoseconds: nanoseconds.parse().ok()?,
                })
            }
            None => None,
        };
        Some(Self {
            name: SubvolumeName::parse(Bytes::from(unescape(value("name")?)?)).ok()?,
            id: SourceId {
                uuid: uuid("uuid")?,
                ctransid: number("transid")?,
            },
            parent,
            born,
            not_kept: number("not-kept")?,
        })
    }
}

/// Bytes as printable ASCII without space: others, and `%`, as `%` and two
/// hexadecimal digits.
fn escape(bytes: &[u8]) -> String {
    let mut text = String::new();
    for &byte in bytes {
        if byte.is_ascii_graphic() && byte != b'%' {
            text.push(byte.into());
        } else {
            let _ = write!(text, "%{byte:02x}");
        }
    }
    text
}

fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let digits = part.get(..2)?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(part.get(2..)?.as_bytes());
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &'static [u8]) -> Record {
        let id = |number| SourceId {
            uuid: Uuid::from_u128(number),
            ctransid: 7,
        };
        Record {
            name: SubvolumeName::parse(Bytes::from_static(name)).unwrap(),
            id: id(1),
            parent: Some(id(2)),
            born: Some(Timespec {
                seconds: -5,
                nanoseconds: 9,
            }),
            not_kept: 3,
        }
    }

    #[test]
    fn what_is_written_can_be_read() {
        for name in [&b"plain"[..], b"100% \n\xff name", b"%", b"uuid x"] {
            let full = record(name);
            let bare = Record {
                parent: None,
                born: None,
                ..full.clone()
            };
            for record in [full, bare] {
                let text = record.encode();
                assert_eq!(Record::decode(text.as_bytes()), Some(record), "{text}");
            }
        }
        assert!(record(&[0xff; 255]).encode().len() < MAX_LEN);
    }

    #[test]
    fn a_cut_record_is_none() {
        let text = record(b"name").encode();
        for end in 0..text.len() {
            assert_eq!(Record::decode(&text.as_bytes()[..end]), None, "{end}");
        }
        let escaping = text.replace("name name", "name %2e%2e");
        assert_eq!(Record::decode(escaping.as_bytes()), None);
    }
}
