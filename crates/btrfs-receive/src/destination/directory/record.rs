//! What is known of a finished extraction: the equivalent of a received
//! UUID, kept in a small text file.

use std::fmt::Write as _;

use btrfs_sendstream::{Bytes, SubvolumeName, Timespec};
use uuid::Uuid;

use crate::plan::op::SourceId;
use btrfs_ioctl::FileHandle;

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
    /// Which directory it is, where the filesystem tells: another may have got
    /// its name later.
    pub(super) born: Option<Born>,
    /// How much its files have to go without, its parent's included.
    pub(super) losses: u64,
}

/// What tells one directory from another of the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Born {
    /// When it was made. Two directories made within one tick of the kernel's
    /// clock have this in common.
    pub(super) time: Timespec,
    /// Its file handle, on filesystems where that stays the same for good:
    /// never that of a second directory, even one with the same inode number.
    pub(super) handle: Option<FileHandle>,
}

impl Born {
    /// Whether both are of one directory. A handle that one of the two lacks
    /// says nothing.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let handles = self.handle.as_ref().zip(other.handle.as_ref());
        self.time == other.time && handles.is_none_or(|(one, other)| one == other)
    }
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
        if let Some(Born { time, handle }) = &self.born {
            let _ = write!(text, "born {} {}", time.seconds, time.nanoseconds);
            if let Some(handle) = handle {
                let _ = write!(text, " {}-", handle.kind);
                for byte in &handle.bytes {
                    let _ = write!(text, "{byte:02x}");
                }
            }
            text.push('\n');
        }
        let _ = writeln!(text, "losses {}", self.losses);
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
            Some(value) => Some(decode_born(value)?),
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
            losses: number("losses")?,
        })
    }
}

fn decode_born(value: &str) -> Option<Born> {
    let mut words = value.split(' ');
    let time = Timespec {
        seconds: words.next()?.parse().ok()?,
        nanoseconds: words.next()?.parse().ok()?,
    };
    let handle = match words.next() {
        Some(word) => Some(decode_handle(word)?),
        None => None,
    };
    words.next().is_none().then_some(Born { time, handle })
}

fn decode_handle(word: &str) -> Option<FileHandle> {
    let (kind, digits) = word.split_once('-')?;
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    let byte = |pair: &[u8; 2]| {
        let digits = std::str::from_utf8(pair).ok()?;
        u8::from_str_radix(digits, 16).ok()
    };
    Some(FileHandle {
        kind: kind.parse().ok()?,
        bytes: pairs.iter().map(byte).collect::<Option<_>>()?,
    })
    .filter(|_| rest.is_empty())
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
            born: Some(Born {
                time: Timespec {
                    seconds: -5,
                    nanoseconds: 9,
                },
                handle: Some(FileHandle {
                    kind: 1,
                    bytes: vec![0, 0x7f, 0xff],
                }),
            }),
            losses: 3,
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
            let mut without_handle = full.clone();
            without_handle.born.as_mut().unwrap().handle = None;
            for record in [full, bare, without_handle] {
                let text = record.encode();
                assert_eq!(Record::decode(text.as_bytes()), Some(record), "{text}");
            }
        }
        assert!(record(&[0xff; 255]).encode().len() < MAX_LEN);
    }

    #[test]
    fn a_handle_tells_directories_of_one_moment_apart() {
        let born = record(b"name").born.unwrap();
        let mut other = born.clone();
        other.handle.as_mut().unwrap().bytes[0] = 1;
        let without = Born {
            handle: None,
            ..born.clone()
        };
        assert!(born.is_same(&born) && !born.is_same(&other));
        assert!(born.is_same(&without) && without.is_same(&other));
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
