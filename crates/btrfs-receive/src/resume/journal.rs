//! The journal of one unfinished subvolume: what has to be known to go on with
//! it.
//!
//! The file holds two lines of JSON: a header with the format and the SHA-256 of
//! the second line, and the journal. Any change of meaning takes the next format;
//! a key that is not known is an error, because what a later version has added
//! matters.

use std::io;

use btrfs_sendstream::{Bytes, StreamPath, SubvolumeName, Timespec};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::hash::{MAX_MARKS, Mark};
use super::hex;
use crate::destination::btrfs::checkpoint::DeferredFlags;
use crate::plan::op::{NewSubvolume, Op};
use crate::report::{Excluded, Fallbacks};

/// The format written and read.
pub(super) const FORMAT: u64 = 2;

/// Most checkpoints of a subvolume. More than one because what comes before the
/// newest may differ when it is sent again.
const MAX_CHECKPOINTS: usize = 4;

/// Seconds since 1970: tens of thousands of years.
const MAX_TIME: u64 = 1 << 40;

/// Bytes and commands: files are not that long.
const MAX_NUMBER: u64 = 1 << 63;

/// What is known of one unfinished subvolume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Journal {
    /// Its name.
    #[serde(with = "name")]
    pub(super) name: SubvolumeName,
    /// The UUID and the ctransid that the stream gives it.
    pub(super) stream: (Uuid, u64),
    /// How the stream names the parent.
    pub(super) parent: Option<(Uuid, u64)>,
    /// Its name while it is built.
    #[serde(with = "name")]
    pub(super) built_as: SubvolumeName,
    /// Subvolume and inode of the directory that it is built in.
    pub(super) directory: (u64, u64),
    /// UUID of the subvolume under construction; nil until it exists.
    pub(super) working: Uuid,
    /// When the first of its receives began, in seconds since 1970.
    pub(super) started: u64,
    /// Verity was, or was about to be, enabled on a file of it. It cannot be
    /// disabled, and the kernel does not send it: no checkpoint is taken any
    /// more, and going back to one takes a new subvolume.
    pub(super) verity: bool,
    /// How to go on, for people: what the caller said.
    pub(super) hint: String,
    /// Number of the next checkpoint.
    pub(super) next: u64,
    /// Hashes of the stream at places between checkpoints.
    pub(super) marks: Vec<Mark>,
    /// In the order of the stream.
    pub(super) checkpoints: Vec<Checkpoint>,
}

/// One checkpoint: a read-only snapshot of the half-built subvolume, and what is
/// set only at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Checkpoint {
    /// Decides the name of the snapshot.
    pub(super) number: u64,
    /// UUID of the snapshot.
    pub(super) uuid: Uuid,
    /// Its last change: it must not change any more.
    pub(super) ctransid: u64,
    /// The bytes of the stream that it holds.
    pub(super) mark: Mark,
    /// Commands that it holds.
    pub(super) commands: u64,
    /// When it was taken, in seconds since 1970.
    pub(super) taken: u64,
    /// Attributes of the root.
    pub(super) root: Vec<RootAttribute>,
    /// What the destination sets at the end.
    pub(super) flags: DeferredFlags,
    /// What had to be done another way so far.
    #[serde(with = "FallbacksDef")]
    pub(super) fallbacks: Fallbacks,
    /// The excluded items so far.
    #[serde(with = "LeftOutDef")]
    pub(super) excluded: Excluded,
}

impl Checkpoint {
    /// The name of the snapshot.
    pub(super) fn name(&self) -> String {
        snapshot_name(self.number)
    }
}

/// The name of the snapshot with this number.
pub(super) fn snapshot_name(number: u64) -> String {
    format!("checkpoint-{number}")
}

/// Why a journal cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// A later version of the program wrote it.
    Newer(u64),
    /// It is no journal, or damaged.
    Damaged,
}

#[derive(Serialize, Deserialize)]
struct Header {
    format: u64,
    #[serde(default, with = "hex")]
    sha256: Vec<u8>,
}

impl Journal {
    /// That of a receive that is about to create its subvolume.
    pub(super) fn new(
        new: &NewSubvolume,
        built_as: SubvolumeName,
        directory: (u64, u64),
        hint: &str,
        now: u64,
    ) -> Self {
        Self {
            name: new.name.clone(),
            stream: (new.uuid, new.ctransid),
            parent: new.parent.map(|parent| (parent.uuid, parent.ctransid)),
            built_as,
            directory,
            working: Uuid::nil(),
            started: now,
            verity: false,
            hint: hint.to_owned(),
            next: 1,
            marks: Vec::new(),
            checkpoints: Vec::new(),
        }
    }

    /// Whether the stream that asks for `new` is the one that it is of.
    pub(super) fn is_of(&self, new: &NewSubvolume) -> bool {
        let parent = new.parent.map(|parent| (parent.uuid, parent.ctransid));
        self.stream == (new.uuid, new.ctransid) && self.parent == parent
    }

    /// Where the newest checkpoint ends; 0 without one.
    pub(super) fn newest(&self) -> u64 {
        let newest = self.checkpoints.last();
        newest.map_or(0, |newest| newest.mark.offset)
    }

    /// Adds a checkpoint; returns the one that is too many.
    ///
    /// The newest stays, and of the others those that lie apart: the one
    /// goes whose neighbours, before and behind, are closest to each other.
    pub(super) fn push(&mut self, checkpoint: Checkpoint) -> Option<Checkpoint> {
        self.next = checkpoint.number + 1;
        self.checkpoints.push(checkpoint);
        if self.checkpoints.len() <= MAX_CHECKPOINTS {
            return None;
        }
        let mut before = 0;
        let mut spans = Vec::new();
        for pair in self.checkpoints.windows(2) {
            if let [this, next] = pair {
                spans.push(next.mark.offset.saturating_sub(before));
                before = this.mark.offset;
            }
        }
        let closest = spans.iter().enumerate().min_by_key(|(_, span)| **span);
        closest.map(|(index, _)| self.checkpoints.remove(index))
    }

    /// Forgets all that lies beyond `offset`; returns those checkpoints.
    pub(super) fn cut(&mut self, offset: u64) -> Vec<Checkpoint> {
        self.marks.retain(|mark| mark.offset <= offset);
        let checkpoints = self.checkpoints.iter();
        let before = checkpoints.take_while(|one| one.mark.offset <= offset);
        let before = before.count();
        self.checkpoints.split_off(before)
    }

    /// The content of the file.
    pub(super) fn encode(&self) -> io::Result<Vec<u8>> {
        let body = serde_json::to_vec(self)?;
        let mut file = serde_json::to_vec(&Header {
            format: FORMAT,
            sha256: Sha256::digest(&body).to_vec(),
        })?;
        for part in [&b"\n"[..], &body, b"\n"] {
            file.extend_from_slice(part);
        }
        Ok(file)
    }

    /// Reads what [`encode`](Self::encode) wrote.
    pub(super) fn decode(file: &[u8]) -> Result<Self, Unreadable> {
        let mut lines = file.split_inclusive(|&byte| byte == b'\n');
        let (Some(header), Some(body), None) = (lines.next(), lines.next(), lines.next()) else {
            return Err(Unreadable::Damaged);
        };
        let header: Header = serde_json::from_slice(header).map_err(|_| Unreadable::Damaged)?;
        if header.format > FORMAT {
            return Err(Unreadable::Newer(header.format));
        }
        let body = body.strip_suffix(b"\n").ok_or(Unreadable::Damaged)?;
        if header.format < FORMAT || header.sha256 != Sha256::digest(body)[..] {
            return Err(Unreadable::Damaged);
        }
        let journal: Self = serde_json::from_slice(body).map_err(|_| Unreadable::Damaged)?;
        if journal.is_sound() {
            Ok(journal)
        } else {
            Err(Unreadable::Damaged)
        }
    }

    /// Whether numbers are in an order, and in a range, that a receiver writes.
    fn is_sound(&self) -> bool {
        let checkpoints = &self.checkpoints;
        let times = checkpoints.iter().map(|one| one.taken);
        let ends = checkpoints
            .iter()
            .map(|one| one.mark.offset.max(one.commands));
        times.chain([self.started]).all(|time| time < MAX_TIME)
            && ends.chain([self.next]).all(|number| number < MAX_NUMBER)
            && checkpoints.iter().all(|one| one.number < self.next)
            && checkpoints.is_sorted_by(|a, b| a.number < b.number && a.mark.offset < b.mark.offset)
            && self.marks.is_sorted_by(|a, b| a.offset < b.offset)
            && checkpoints.len() <= MAX_CHECKPOINTS
            && self.marks.len() <= MAX_MARKS
    }
}

/// One of the operations on the root that the planner defers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum RootAttribute {
    SetXattr {
        #[serde(with = "hex")]
        name: Bytes,
        #[serde(with = "hex")]
        data: Bytes,
    },
    RemoveXattr {
        #[serde(with = "hex")]
        name: Bytes,
    },
    Owner {
        uid: u32,
        gid: u32,
    },
    Mode(u32),
    Flags(u64),
    Times {
        atime: (i64, u32),
        mtime: Option<(i64, u32)>,
    },
}

impl RootAttribute {
    /// `None` for operations that the planner does not defer.
    pub(super) fn of(op: Op) -> Option<Self> {
        let pair = |time: Timespec| (time.seconds, time.nanoseconds);
        Some(match op {
            Op::SetXattr { name, data, .. } => Self::SetXattr { name, data },
            Op::RemoveXattr { name, .. } => Self::RemoveXattr { name },
            Op::Chown { uid, gid, .. } => Self::Owner { uid, gid },
            Op::Chmod { mode, .. } => Self::Mode(mode),
            Op::FileAttr { attributes, .. } => Self::Flags(attributes),
            Op::Utimes { atime, mtime, .. } => Self::Times {
                atime: pair(atime),
                mtime: mtime.map(pair),
            },
            Op::Create { .. }
            | Op::Rename { .. }
            | Op::Link { .. }
            | Op::Move { .. }
            | Op::Unlink { .. }
            | Op::Rmdir { .. }
            | Op::Write { .. }
            | Op::Clone(_)
            | Op::EncodedWrite(_)
            | Op::Truncate { .. }
            | Op::Fallocate { .. }
            | Op::EnableVerity(_) => return None,
        })
    }

    pub(super) fn into_op(self) -> Op {
        let path = StreamPath::default();
        let time = |(seconds, nanoseconds)| Timespec {
            seconds,
            nanoseconds,
        };
        match self {
            Self::SetXattr { name, data } => Op::SetXattr { path, name, data },
            Self::RemoveXattr { name } => Op::RemoveXattr { path, name },
            Self::Owner { uid, gid } => Op::Chown { path, uid, gid },
            Self::Mode(mode) => Op::Chmod { path, mode },
            Self::Flags(attributes) => Op::FileAttr { path, attributes },
            Self::Times { atime, mtime } => Op::Utimes {
                path,
                atime: time(atime),
                mtime: mtime.map(time),
            },
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Fallbacks", deny_unknown_fields)]
struct FallbacksDef {
    encoded_writes_decoded: u64,
    clones_copied: u64,
    compression_refused: u64,
    flags_refused: u64,
    #[serde(default)]
    retried_for_space: u64,
    #[serde(default)]
    zeros_as_holes: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Excluded", deny_unknown_fields)]
struct LeftOutDef {
    xattrs: u64,
    file_attributes: u64,
    unknown_commands: u64,
    unknown_attributes: u64,
    /// No filter judges a resumable receive.
    #[serde(skip)]
    by_filter: u64,
}

/// The name of a subvolume, in hexadecimal digits.
mod name {
    use btrfs_sendstream::{Bytes, SubvolumeName};
    use serde::de::Error as _;
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        name: &SubvolumeName,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        super::super::hex::serialize(&name.as_bytes(), serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<SubvolumeName, D::Error> {
        let name: Bytes = super::super::hex::deserialize(deserializer)?;
        SubvolumeName::parse(name).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint(number: u64, offset: u64) -> Checkpoint {
        Checkpoint {
            number,
            uuid: Uuid::from_u128(u128::from(number)),
            ctransid: 10 + number,
            mark: Mark {
                offset,
                digest: [7; 32],
            },
            commands: 3,
            taken: 1_700_000_000,
            root: Vec::new(),
            flags: DeferredFlags::default(),
            fallbacks: Fallbacks::default(),
            excluded: Excluded::default(),
        }
    }

    fn empty() -> Journal {
        let name = SubvolumeName::parse(Bytes::from_static(b"a name\n\xff")).unwrap();
        let new = NewSubvolume::new(name.clone(), Uuid::from_u128(5), 6, None);
        Journal::new(&new, name, (5, 256), "btrfs-recv-rs '/a b'", 1_700_000_000)
    }

    fn full() -> Journal {
        let mut journal = empty();
        journal.parent = Some((Uuid::from_u128(9), u64::MAX));
        journal.marks.push(Mark {
            offset: 3,
            digest: [200; 32],
        });
        let mut one = checkpoint(1, 100);
        one.root = vec![
            RootAttribute::SetXattr {
                name: Bytes::from_static(b"btrfs.compression"),
                data: Bytes::new(),
            },
            RootAttribute::RemoveXattr {
                name: Bytes::from_static(b"x\n"),
            },
            RootAttribute::Owner { uid: 1, gid: 2 },
            RootAttribute::Mode(0o2755),
            RootAttribute::Flags(0x40),
            RootAttribute::Times {
                atime: (-1, 5),
                mtime: Some((1, 0)),
            },
        ];
        one.flags = DeferredFlags {
            forbidding: vec![(300, 7, 8)],
            compression: vec![(301, b"zstd".to_vec())],
            refused: (1, 2),
        };
        one.fallbacks.clones_copied = 3;
        one.excluded.xattrs = 4;
        journal.push(one);
        journal.push(checkpoint(2, 200));
        journal
    }

    #[test]
    fn is_the_same_when_read() {
        for journal in [empty(), full()] {
            let file = journal.encode().unwrap();
            assert_eq!(Journal::decode(&file), Ok(journal));
        }
    }

    #[test]
    fn root_attributes_are_operations() {
        for attribute in &full().checkpoints[0].root {
            let op = attribute.clone().into_op();
            assert_eq!(RootAttribute::of(op).as_ref(), Some(attribute));
        }
    }

    #[test]
    fn damage_and_later_versions_are_told_apart() {
        let file = full().encode().unwrap();
        for at in 0..file.len() {
            let mut damaged = file.clone();
            damaged[at] ^= 1;
            // The digit of the format itself may become that of a later one.
            if at != br#"{"format":"#.len() {
                assert_eq!(Journal::decode(&damaged), Err(Unreadable::Damaged), "{at}");
            }
            assert_eq!(Journal::decode(&file[..at]), Err(Unreadable::Damaged));
        }
        let newer = br#"{"format":7,"else":[]}"#;
        let newer = [&newer[..], b"\n{}\n"].concat();
        assert_eq!(Journal::decode(&newer), Err(Unreadable::Newer(7)));
    }

    #[test]
    fn what_no_receiver_writes_is_damage() {
        let spoilt: [fn(&mut Journal); 8] = [
            |journal| journal.started = u64::MAX,
            |journal| journal.next = u64::MAX,
            |journal| journal.next = 2,
            |journal| journal.checkpoints[0].taken = u64::MAX,
            |journal| journal.checkpoints[1].mark.offset = 100,
            |journal| journal.checkpoints[1].mark.offset = u64::MAX,
            |journal| journal.marks = vec![journal.marks[0].clone(); 2],
            |journal| journal.checkpoints = (1..9).map(|n| checkpoint(n, n)).collect(),
        ];
        for (number, spoil) in spoilt.iter().enumerate() {
            let mut journal = full();
            spoil(&mut journal);
            let read = Journal::decode(&journal.encode().unwrap());
            assert_eq!(read, Err(Unreadable::Damaged), "{number}");
        }
    }

    #[test]
    fn checkpoints_stay_that_lie_apart() {
        let mut journal = empty();
        for number in 1..=64 {
            let removed = journal.push(checkpoint(number, number * 10));
            assert_eq!(removed.is_some(), number > 4, "{number}");
        }
        let checkpoints = journal.checkpoints.iter();
        let offsets: Vec<_> = checkpoints.map(|one| one.mark.offset).collect();
        assert_eq!(offsets.last(), Some(&640));
        assert_eq!(offsets.len(), 4);
        assert!(offsets[0] >= 80 && offsets[0] <= 320, "{offsets:?}");
    }

    #[test]
    fn what_comes_before_a_cut_stays() {
        let mut journal = empty();
        for number in 1..4 {
            journal.push(checkpoint(number, number * 100));
        }
        assert_eq!(journal.cut(200).len(), 1);
        assert_eq!(journal.newest(), 200);
        assert_eq!(journal.next, 4);
    }
}
