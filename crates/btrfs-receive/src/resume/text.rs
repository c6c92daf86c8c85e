//! The state file: lines of text, so that people can read it too.
//!
//! The first line names the format, the last is the SHA-256 of all before
//! it. Names and values are in hexadecimal. A line of an unknown kind is an
//! error: what a later version has added matters.

use std::fmt::Write as _;

use btrfs_sendstream::{Bytes, StreamPath, SubvolumeName, Timespec};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::hash::{Digest, MAX_MARKS, Mark};
use super::state::{Checkpoint, Deferred, MAX_CHECKPOINTS, MAX_TRUSTED, State};
use crate::plan::op::{NewSubvolume, Op, SourceId};
use crate::report::{Fallbacks, LeftOut};

/// The format written and read. Any change of meaning takes the next number.
const FORMAT: u64 = 1;

/// Seconds since 1970: tens of thousands of years.
const MAX_TIME: u64 = 1 << 40;

/// Bytes and commands: files are not that long.
const MAX_NUMBER: u64 = 1 << 63;

const TITLE: &str = "btrfs-recv-rs unfinished receive, format ";

/// Why a state file cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// A later version of the program wrote it.
    Newer(u64),
    /// It is no state file, or damaged.
    Damaged,
}

/// The text of a state.
pub(crate) fn encode(state: &State) -> String {
    let mut text = format!("{TITLE}{FORMAT}\n");
    let new = &state.new;
    line(&mut text, "name", &[&hex(new.name.as_bytes())]);
    line(&mut text, "stream", &[&new.uuid, &new.ctransid]);
    if let Some(parent) = new.parent {
        line(&mut text, "parent", &[&parent.uuid, &parent.ctransid]);
    }
    line(&mut text, "built-as", &[&hex(state.built_as.as_bytes())]);
    line(
        &mut text,
        "directory",
        &[&state.directory.0, &state.directory.1],
    );
    line(&mut text, "working", &[&state.working]);
    line(&mut text, "started", &[&state.started]);
    line(&mut text, "verity", &[&u8::from(state.verity)]);
    line(&mut text, "hash-data", &[&u8::from(state.hash_data)]);
    line(&mut text, "hint", &[&hex(state.hint.as_bytes())]);
    line(&mut text, "next", &[&state.next]);
    for place in &state.trusted {
        line(&mut text, "trusted", &[place]);
    }
    for mark in &state.marks {
        line(&mut text, "mark", &[&mark.offset, &hex(&mark.digest)]);
    }
    for checkpoint in &state.checkpoints {
        encode_checkpoint(&mut text, checkpoint);
    }
    let digest: Digest = Sha256::digest(text.as_bytes()).into();
    line(&mut text, "sha256", &[&hex(&digest)]);
    text
}

fn encode_checkpoint(text: &mut String, it: &Checkpoint) {
    line(text, "checkpoint", &[&it.number, &it.uuid, &it.ctransid]);
    line(text, "at", &[&it.offset, &it.commands, &it.taken]);
    line(text, "prefix", &[&hex(&it.digest)]);
    let done = it.fallbacks;
    line(
        text,
        "fallbacks",
        &[
            &done.encoded_writes_decoded,
            &done.clones_copied,
            &done.compression_refused,
            &done.flags_refused,
        ],
    );
    let left = it.left_out;
    line(
        text,
        "left-out",
        &[
            &left.xattrs,
            &left.file_attributes,
            &left.unknown_commands,
            &left.unknown_attributes,
        ],
    );
    let (compressions, flags) = it.deferred.refused;
    line(text, "refused", &[&compressions, &flags]);
    for (inode, generation, flags) in &it.deferred.forbidding {
        line(text, "forbidding", &[inode, generation, flags]);
    }
    for (inode, value) in &it.deferred.compression {
        line(text, "compression", &[inode, &hex(value)]);
    }
    for op in &it.root {
        encode_root(text, op);
    }
}

/// One of the operations on the root that the planner holds back.
fn encode_root(text: &mut String, op: &Op) {
    match op {
        Op::SetXattr { name, data, .. } => line(text, "root-xattr", &[&hex(name), &hex(data)]),
        Op::RemoveXattr { name, .. } => line(text, "root-no-xattr", &[&hex(name)]),
        Op::Chown { uid, gid, .. } => line(text, "root-owner", &[uid, gid]),
        Op::Chmod { mode, .. } => line(text, "root-mode", &[mode]),
        Op::FileAttr { attributes, .. } => line(text, "root-flags", &[attributes]),
        Op::Utimes { atime, mtime, .. } => {
            line(text, "root-atime", &[&atime.seconds, &atime.nanoseconds]);
            if let Some(time) = mtime {
                line(text, "root-mtime", &[&time.seconds, &time.nanoseconds]);
            }
        }
        _ => {}
    }
}

fn line(text: &mut String, key: &str, values: &[&dyn std::fmt::Display]) {
    text.push_str(key);
    for value in values {
        // Writing to a string does not fail.
        let _ = write!(text, " {value}");
    }
    text.push('\n');
}

fn hex(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "-".into();
    }
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Reads what [`encode`] wrote.
pub(crate) fn decode(text: &[u8]) -> Result<State, Unreadable> {
    let text = std::str::from_utf8(text).map_err(|_| Unreadable::Damaged)?;
    let version = text
        .strip_prefix(TITLE)
        .and_then(|rest| rest.lines().next())
        .and_then(|number| number.parse::<u64>().ok())
        .ok_or(Unreadable::Damaged)?;
    if version > FORMAT {
        return Err(Unreadable::Newer(version));
    }
    decode_lines(text).ok_or(Unreadable::Damaged)
}

fn decode_lines(text: &str) -> Option<State> {
    let body = text.strip_suffix('\n')?;
    let (body, last) = body.split_at(body.rfind('\n')? + 1);
    let digest: Digest = Sha256::digest(body.as_bytes()).into();
    if last.strip_prefix("sha256 ")? != hex(&digest) {
        return None;
    }
    let mut lines = body.lines().skip(1).map(Words::new).peekable();
    let name = SubvolumeName::parse(lines.next()?.named("name")?.bytes()?).ok()?;
    let mut stream = lines.next()?.named("stream")?;
    let mut new = NewSubvolume::new(name, stream.number()?, stream.number()?, None);
    if lines.peek()?.0 == "parent" {
        let mut words = lines.next()?;
        let (uuid, ctransid) = (words.number()?, words.number()?);
        new.parent = Some(SourceId { uuid, ctransid });
    }
    let built_as = SubvolumeName::parse(lines.next()?.named("built-as")?.bytes()?).ok()?;
    let mut directory = lines.next()?.named("directory")?;
    let directory = (directory.number()?, directory.number()?);
    let mut state = State::new(new, built_as, directory, false, "");
    state.working = lines.next()?.named("working")?.number::<Uuid>()?;
    state.started = lines.next()?.named("started")?.number()?;
    state.verity = lines.next()?.named("verity")?.number::<u8>()? != 0;
    state.hash_data = lines.next()?.named("hash-data")?.number::<u8>()? != 0;
    state.hint = String::from_utf8(lines.next()?.named("hint")?.bytes()?.to_vec()).ok()?;
    state.next = lines.next()?.named("next")?.number()?;
    for mut words in lines {
        match words.0 {
            "trusted" => state.trusted.push(words.number()?),
            "mark" => state.marks.push(Mark {
                offset: words.number()?,
                digest: words.digest()?,
            }),
            "checkpoint" => state.checkpoints.push(Checkpoint {
                number: words.number()?,
                uuid: words.number()?,
                ctransid: words.number()?,
                offset: 0,
                digest: [0; 32],
                commands: 0,
                taken: 0,
                root: Vec::new(),
                deferred: Deferred::default(),
                fallbacks: Fallbacks::default(),
                left_out: LeftOut::default(),
            }),
            _ => decode_detail(state.checkpoints.last_mut()?, words)?,
        }
    }
    is_sound(&state).then_some(state)
}

/// Whether numbers are in an order, and in a range, that a receiver writes.
fn is_sound(state: &State) -> bool {
    let checkpoints = &state.checkpoints;
    let times = checkpoints.iter().map(|one| one.taken);
    let ends = checkpoints.iter().map(|one| one.offset.max(one.commands));
    times.chain([state.started]).all(|time| time < MAX_TIME)
        && ends.chain([state.next]).all(|number| number < MAX_NUMBER)
        && checkpoints.iter().all(|one| one.number < state.next)
        && checkpoints.is_sorted_by(|a, b| a.number < b.number && a.offset < b.offset)
        && state.marks.is_sorted_by(|a, b| a.offset < b.offset)
        && state.trusted.is_sorted_by(|a, b| a < b)
        && checkpoints.len() <= MAX_CHECKPOINTS
        && state.marks.len() <= MAX_MARKS
        && state.trusted.len() <= MAX_TRUSTED
}

/// A line that belongs to a checkpoint.
fn decode_detail(checkpoint: &mut Checkpoint, mut words: Words<'_>) -> Option<()> {
    let path = StreamPath::default;
    match words.0 {
        "at" => {
            checkpoint.offset = words.number()?;
            checkpoint.commands = words.number()?;
            checkpoint.taken = words.number()?;
        }
        "prefix" => checkpoint.digest = words.digest()?,
        "fallbacks" => {
            let done = &mut checkpoint.fallbacks;
            done.encoded_writes_decoded = words.number()?;
            done.clones_copied = words.number()?;
            done.compression_refused = words.number()?;
            done.flags_refused = words.number()?;
        }
        "left-out" => {
            let left = &mut checkpoint.left_out;
            left.xattrs = words.number()?;
            left.file_attributes = words.number()?;
            left.unknown_commands = words.number()?;
            left.unknown_attributes = words.number()?;
        }
        "refused" => checkpoint.deferred.refused = (words.number()?, words.number()?),
        "forbidding" => {
            let entry = (words.number()?, words.number()?, words.number()?);
            checkpoint.deferred.forbidding.push(entry);
        }
        "compression" => {
            let entry = (words.number()?, words.bytes()?);
            checkpoint.deferred.compression.push(entry);
        }
        "root-xattr" => checkpoint.root.push(Op::SetXattr {
            path: path(),
            name: words.bytes()?,
            data: words.bytes()?,
        }),
        "root-no-xattr" => checkpoint.root.push(Op::RemoveXattr {
            path: path(),
            name: words.bytes()?,
        }),
        "root-owner" => checkpoint.root.push(Op::Chown {
            path: path(),
            uid: words.number()?,
            gid: words.number()?,
        }),
        "root-mode" => checkpoint.root.push(Op::Chmod {
            path: path(),
            mode: words.number()?,
        }),
        "root-flags" => checkpoint.root.push(Op::FileAttr {
            path: path(),
            attributes: words.number()?,
        }),
        "root-atime" => checkpoint.root.push(Op::Utimes {
            path: path(),
            atime: words.time()?,
            mtime: None,
        }),
        "root-mtime" => match checkpoint.root.last_mut()? {
            Op::Utimes { mtime, .. } => *mtime = Some(words.time()?),
            _ => return None,
        },
        _ => return None,
    }
    Some(())
}

/// A line: its key, and its further words.
struct Words<'a>(&'a str, std::str::SplitAsciiWhitespace<'a>);

impl<'a> Words<'a> {
    fn new(line: &'a str) -> Self {
        let mut words = line.split_ascii_whitespace();
        Self(words.next().unwrap_or_default(), words)
    }

    fn named(self, key: &str) -> Option<Self> {
        (self.0 == key).then_some(self)
    }

    fn number<T: std::str::FromStr>(&mut self) -> Option<T> {
        self.1.next()?.parse().ok()
    }

    fn bytes(&mut self) -> Option<Bytes> {
        let word = self.1.next()?;
        if word == "-" {
            return Some(Bytes::new());
        }
        let pairs = word.as_bytes().chunks(2);
        let bytes: Option<Vec<u8>> = pairs
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
            .collect();
        bytes.map(Bytes::from)
    }

    fn digest(&mut self) -> Option<Digest> {
        self.bytes()?.as_ref().try_into().ok()
    }

    fn time(&mut self) -> Option<Timespec> {
        Some(Timespec {
            seconds: self.number()?,
            nanoseconds: self.number()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::state::tests::{checkpoint, state};
    use super::*;

    fn full() -> State {
        let mut state = state();
        state.new.parent = Some(SourceId {
            uuid: Uuid::from_u128(9),
            ctransid: 8,
        });
        state.marks.push(Mark {
            offset: 3,
            digest: [200; 32],
        });
        state.trusted = vec![100];
        let path = StreamPath::default;
        let mut one = checkpoint(1, 100);
        one.root = vec![
            Op::SetXattr {
                path: path(),
                name: Bytes::from_static(b"btrfs.compression"),
                data: Bytes::new(),
            },
            Op::RemoveXattr {
                path: path(),
                name: Bytes::from_static(b"x\n"),
            },
            Op::Chown {
                path: path(),
                uid: 1,
                gid: 2,
            },
            Op::Chmod {
                path: path(),
                mode: 0o2755,
            },
            Op::FileAttr {
                path: path(),
                attributes: 0x40,
            },
            Op::Utimes {
                path: path(),
                atime: Timespec {
                    seconds: -1,
                    nanoseconds: 5,
                },
                mtime: Some(Timespec {
                    seconds: 1,
                    nanoseconds: 0,
                }),
            },
        ];
        one.deferred = Deferred {
            forbidding: vec![(300, 7, 8)],
            compression: vec![(301, Bytes::from_static(b"zstd"))],
            refused: (1, 2),
        };
        one.fallbacks.clones_copied = 3;
        one.left_out.xattrs = 4;
        state.push(one);
        state.push(checkpoint(2, 200));
        state
    }

    #[test]
    fn says_the_same_when_read() {
        for state in [state(), full()] {
            assert_eq!(decode(encode(&state).as_bytes()), Ok(state));
        }
    }

    #[test]
    fn damage_and_later_versions_are_told_apart() {
        let text = encode(&full());
        for at in (TITLE.len() + 2)..text.len() {
            let mut damaged = text.clone().into_bytes();
            damaged[at] ^= 1;
            assert_eq!(decode(&damaged), Err(Unreadable::Damaged), "{at}");
            assert_eq!(decode(&text.as_bytes()[..at]), Err(Unreadable::Damaged));
        }
        let newer = text.replacen("format 1", "format 2", 1);
        assert_eq!(decode(newer.as_bytes()), Err(Unreadable::Newer(2)));
        assert_eq!(decode(b""), Err(Unreadable::Damaged));
    }
    #[test]
    fn what_no_receiver_writes_is_damage() {
        let spoilt: [fn(&mut State); 9] = [
            |state| state.started = u64::MAX,
            |state| state.next = u64::MAX,
            |state| state.next = 2,
            |state| state.checkpoints[0].taken = u64::MAX,
            |state| state.checkpoints[1].offset = 100,
            |state| state.checkpoints[1].offset = u64::MAX,
            |state| state.trusted = vec![3, 3],
            |state| state.marks = vec![state.marks[0].clone(); 2],
            |state| state.checkpoints = (1..9).map(|n| checkpoint(n, n)).collect(),
        ];
        for (number, spoil) in spoilt.iter().enumerate() {
            let mut state = full();
            spoil(&mut state);
            let text = encode(&state);
            let read = decode(text.as_bytes());
            assert_eq!(read, Err(Unreadable::Damaged), "{number}");
        }
    }
}
