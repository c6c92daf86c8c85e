//! Hashes of a stream, to know it again.
//!
//! Each command has a checksum in its header, a CRC-32C of all of it, and the
//! reader has verified it. So of a long command, which is file data, the
//! beginning stands for the rest: to hash every byte takes half as much processor
//! time as all else that a receive does where SHA-256 has instructions of its own,
//! and a multiple of it elsewhere.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// A SHA-256.
pub(super) type Digest = [u8; 32];

/// The hash of everything before a place in the stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mark {
    /// The place, in bytes from the command that begins the subvolume.
    pub(super) offset: u64,
    /// SHA-256 of what is hashed of these bytes.
    #[serde(with = "super::hex")]
    pub(super) digest: Digest,
}

/// Most marks: 40 bytes each, 40 KB. When there are as many, every other one is
/// dropped and the distance doubles.
pub(super) const MAX_MARKS: usize = 1024;

/// Bytes between marks to begin with.
const FIRST_DISTANCE: u64 = 16 << 20;

/// What is hashed of each command: the header, and everything except for file data
/// and large attributes.
const BEGINNING: usize = 1024;

/// The running hash of a stream.
pub(super) struct StreamHash {
    hasher: Sha256,
    offset: u64,
    /// The next mark is due here.
    due: u64,
    distance: u64,
}

impl StreamHash {
    /// At the command that begins the subvolume, with the marks of an earlier
    /// receive: further ones lie at a distance like theirs.
    pub(super) fn new(marks: &[Mark]) -> Self {
        let last = marks.last().map_or(0, |mark| mark.offset);
        let between = last / (marks.len() as u64).max(1);
        let mut distance = FIRST_DISTANCE;
        while distance < between / 2 {
            distance *= 2;
        }
        Self {
            hasher: Sha256::new(),
            offset: 0,
            due: last + distance,
            distance,
        }
    }

    /// Takes the bytes of one command.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes.get(..BEGINNING).unwrap_or(bytes));
        self.offset += bytes.len() as u64;
    }

    /// Bytes taken.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The hash of what was taken.
    pub(super) fn mark(&self) -> Mark {
        Mark {
            offset: self.offset,
            digest: self.hasher.clone().finalize().into(),
        }
    }

    /// Adds a mark, if one is due.
    pub(super) fn add_due(&mut self, marks: &mut Vec<Mark>) {
        if self.offset < self.due {
            return;
        }
        if marks.len() >= MAX_MARKS {
            let mut keep = false;
            marks.retain(|_| {
                keep = !keep;
                !keep
            });
            self.distance *= 2;
        }
        marks.push(self.mark());
        self.due = self.offset + self.distance;
    }
}

impl std::fmt::Debug for StreamHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamHash")
            .field("offset", &self.offset)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_bounded_and_go_on_growing_apart() {
        let mut hash = StreamHash::new(&[]);
        let mut marks = Vec::new();
        for _ in 0..5000 {
            // As if that much had been hashed.
            hash.offset += FIRST_DISTANCE;
            hash.add_due(&mut marks);
        }
        assert!(marks.len() <= MAX_MARKS);
        assert!(marks.len() > MAX_MARKS / 3);
        assert!(marks.is_sorted_by_key(|mark| mark.offset));
        let last = marks.last().unwrap().offset;
        assert!(last > 4900 * FIRST_DISTANCE);
        let again = StreamHash::new(&marks);
        assert!(again.due > last && again.distance > FIRST_DISTANCE);
    }

    #[test]
    fn hashes_what_it_took() {
        let mut hash = StreamHash::new(&[]);
        hash.update(b"a");
        hash.update(b"bc");
        let mark = hash.mark();
        assert_eq!(mark.offset, 3);
        assert_eq!(mark.digest[..4], [0xba, 0x78, 0x16, 0xbf]);
    }

    /// The checksum of a command lies in what is hashed of it.
    #[test]
    fn the_beginning_of_a_command_is_hashed() {
        let digest = |command: &[u8]| {
            let mut hash = StreamHash::new(&[]);
            hash.update(command);
            hash.mark().digest
        };
        for (at, differs) in [(9, true), (1023, true), (1024, false)] {
            let mut command = vec![0; 5000];
            let before = digest(&command);
            command[at] = 1;
            assert_eq!(digest(&command) != before, differs, "{at}");
        }
    }
}
