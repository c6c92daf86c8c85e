//! Hashes of a stream, to know it again.
//!
//! Each command has a checksum in its header, a CRC-32C of all of it, and the
//! reader has verified it. So of a long command, which is file data, the
//! beginning stands for the rest, unless the caller wants every byte hashed.
//! That takes half as much processor time as all else that a receive does where
//! SHA-256 has instructions of its own, and a multiple of it elsewhere.

use sha2::{Digest as _, Sha256};

/// A SHA-256.
pub(crate) type Digest = [u8; 32];

/// The hash of everything before a place in the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The place, in bytes from the command that begins the subvolume.
    pub(crate) offset: u64,
    /// SHA-256 of these bytes, or of what stands for them.
    pub(crate) digest: Digest,
}

/// Marks kept at most: 40 bytes each, 40 KB. When there are as many, every
/// other one is dropped and the distance doubles.
pub(crate) const MAX_MARKS: usize = 1024;

/// Bytes between marks to begin with.
const FIRST_DISTANCE: u64 = 16 << 20;

/// So much of each command is hashed in any case: its header, and all of it but
/// for file data and large attributes.
const BEGINNING: usize = 1024;

/// The running hash of a stream.
pub(crate) struct StreamHash {
    hasher: Sha256,
    /// Every byte is hashed.
    whole: bool,
    offset: u64,
    /// The next mark is due here.
    due: u64,
    distance: u64,
    /// Places before which nothing was read, nearest last; see
    /// [`trust`](Self::trust).
    trusted: Vec<u64>,
}

impl StreamHash {
    /// At the command that begins the subvolume. `trusted` are the places that
    /// [`trust`](Self::trust) was called for, in the order of the stream.
    /// `whole`: hash every byte, not the beginnings of commands only.
    pub(crate) fn new(trusted: &[u64], whole: bool) -> Self {
        Self {
            hasher: Sha256::new(),
            whole,
            offset: 0,
            due: FIRST_DISTANCE,
            distance: FIRST_DISTANCE,
            trusted: trusted.iter().rev().copied().collect(),
        }
    }

    /// Goes on at `offset` without having seen what comes before: what comes
    /// behind is hashed together with the digest of that.
    pub(crate) fn trust(&mut self, offset: u64, digest: &Digest) {
        self.hasher = Sha256::new_with_prefix(digest);
        self.offset = offset;
        self.trusted.clear();
    }

    /// Takes the bytes of one command.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        if self.trusted.last() == Some(&self.offset) {
            self.trusted.pop();
            self.hasher = Sha256::new_with_prefix(self.digest());
        }
        let beginning = bytes.get(..BEGINNING).filter(|_| !self.whole);
        self.hasher.update(beginning.unwrap_or(bytes));
        self.offset += bytes.len() as u64;
    }

    /// Bytes taken.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// The hash of what was taken.
    pub(crate) fn digest(&self) -> Digest {
        self.hasher.clone().finalize().into()
    }

    /// Adds a mark, if one is due.
    pub(crate) fn mark(&mut self, marks: &mut Vec<Mark>) {
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
        marks.push(Mark {
            offset: self.offset,
            digest: self.digest(),
        });
        self.due = self.offset + self.distance;
    }

    /// Goes on with the marks of an earlier receive: at a distance like
    /// theirs.
    pub(crate) fn go_on(&mut self, marks: &[Mark]) {
        let last = marks.last().map_or(0, |mark| mark.offset);
        let between = last / (marks.len() as u64).max(1);
        while self.distance < between / 2 {
            self.distance *= 2;
        }
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
        let mut hash = StreamHash::new(&[], false);
        let mut marks = Vec::new();
        for _ in 0..5000 {
            // As if that much had been hashed.
            hash.offset += FIRST_DISTANCE;
            hash.mark(&mut marks);
        }
        assert!(marks.len() <= MAX_MARKS);
        assert!(marks.len() > MAX_MARKS / 3);
        assert!(marks.is_sorted_by_key(|mark| mark.offset));
        assert!(marks.last().unwrap().offset > 4900 * FIRST_DISTANCE);
    }

    #[test]
    fn hashes_what_it_took() {
        let mut hash = StreamHash::new(&[], false);
        hash.update(b"a");
        hash.update(b"bc");
        assert_eq!(hash.offset(), 3);
        assert_eq!(hash.digest()[..4], [0xba, 0x78, 0x16, 0xbf]);
    }

    /// The checksum of a command lies in what is hashed of it.
    #[test]
    fn file_data_is_hashed_on_request() {
        let digest = |command: &[u8], whole| {
            let mut hash = StreamHash::new(&[], whole);
            hash.update(command);
            assert_eq!(hash.offset(), command.len() as u64);
            hash.digest()
        };
        for (at, differs) in [
            (9, [true, true]),
            (1023, [true, true]),
            (1024, [false, true]),
        ] {
            let mut command = vec![0; 5000];
            let before = [false, true].map(|whole| digest(&command, whole));
            command[at] = 1;
            let after = [false, true].map(|whole| digest(&command, whole));
            let found = [before[0] != after[0], before[1] != after[1]];
            assert_eq!(found, differs, "{at}");
        }
    }

    #[test]
    fn goes_on_without_the_beginning() {
        let mut whole = StreamHash::new(&[3], false);
        whole.update(b"abc");
        let at_three = whole.digest();
        whole.update(b"def");
        let mut rest = StreamHash::new(&[], false);
        rest.update(b"a");
        rest.trust(3, &at_three);
        rest.update(b"def");
        assert_eq!((rest.offset(), rest.digest()), (6, whole.digest()));
        let mut other = StreamHash::new(&[3], false);
        other.update(b"abC");
        other.update(b"def");
        assert_ne!(other.digest(), whole.digest());
    }
}
