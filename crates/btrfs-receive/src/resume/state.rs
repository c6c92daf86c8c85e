//! What has to be known to go on with an interrupted receive.

use btrfs_sendstream::{Bytes, SubvolumeName};
use uuid::Uuid;

use super::hash::{Digest, Mark};
use crate::plan::op::{NewSubvolume, Op};
use crate::report::{Fallbacks, LeftOut};

/// Checkpoints kept at most. More than one because what comes before the
/// newest may differ when it is sent again.
pub(crate) const MAX_CHECKPOINTS: usize = 4;

/// How often a receive may go on without a look at what comes before.
pub(crate) const MAX_TRUSTED: usize = 1024;

/// The state of one unfinished subvolume, as the state file holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    /// What the stream asked for.
    pub(crate) new: NewSubvolume,
    /// Its name while it is built.
    pub(crate) built_as: SubvolumeName,
    /// Subvolume and inode of the directory that it is built in.
    pub(crate) directory: (u64, u64),
    /// UUID of the subvolume under construction; nil until it exists.
    pub(crate) working: Uuid,
    /// When the first of its receives began, in seconds since 1970.
    pub(crate) started: u64,
    /// Verity was, or was about to be, enabled on a file of it.
    pub(crate) verity: bool,
    /// Every byte of the stream is hashed.
    pub(crate) hash_data: bool,
    /// How to go on, for people: what the caller said.
    pub(crate) hint: String,
    /// Checkpoints that were gone on from without a look at what comes before,
    /// by their place.
    pub(crate) trusted: Vec<u64>,
    /// Hashes of the stream at places between checkpoints.
    pub(crate) marks: Vec<Mark>,
    /// In the order of the stream.
    pub(crate) checkpoints: Vec<Checkpoint>,
    /// Number of the next checkpoint.
    pub(crate) next: u64,
}

/// One checkpoint: a read-only snapshot of the half-built subvolume, and what
/// waits for the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    /// Decides the name of the snapshot.
    pub(crate) number: u64,
    /// UUID of the snapshot.
    pub(crate) uuid: Uuid,
    /// Its last change: it must not change any more.
    pub(crate) ctransid: u64,
    /// Bytes of the stream that it holds, counted from the command that
    /// begins the subvolume.
    pub(crate) offset: u64,
    /// SHA-256 of these bytes, or of what stands for them.
    pub(crate) digest: Digest,
    /// Commands that it holds.
    pub(crate) commands: u64,
    /// When it was taken, in seconds since 1970.
    pub(crate) taken: u64,
    /// Attributes of the root that wait for the end.
    pub(crate) root: Vec<Op>,
    /// What the destination keeps for the end.
    pub(crate) deferred: Deferred,
    /// What had to be done another way so far.
    pub(crate) fallbacks: Fallbacks,
    /// What was left out so far.
    pub(crate) left_out: LeftOut,
}

/// What the destination sets only at the end, by inode number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Deferred {
    /// Inode, generation, and its immutable and append-only flags.
    pub(crate) forbidding: Vec<(u64, u32, u32)>,
    /// Inode, and the `btrfs.compression` that it refused so far.
    pub(crate) compression: Vec<(u64, Bytes)>,
    /// Attributes and flags that were refused for good.
    pub(crate) refused: (u64, u64),
}

impl Checkpoint {
    /// The name of the snapshot.
    pub(crate) fn name(&self) -> String {
        format!("checkpoint-{}", self.number)
    }
}

impl State {
    /// The state of a receive that is about to create its subvolume.
    pub(crate) fn new(
        new: NewSubvolume,
        built_as: SubvolumeName,
        directory: (u64, u64),
        hash_data: bool,
        hint: &str,
    ) -> Self {
        Self {
            new,
            built_as,
            directory,
            working: Uuid::nil(),
            started: super::now(),
            verity: false,
            hash_data,
            hint: hint.to_owned(),
            trusted: Vec::new(),
            marks: Vec::new(),
            checkpoints: Vec::new(),
            next: 1,
        }
    }

    /// Adds a checkpoint; gives back the one that is too many.
    ///
    /// The newest stays, and of the others those that lie apart: the one
    /// goes whose neighbours, before and behind, are closest to each other.
    pub(crate) fn push(&mut self, checkpoint: Checkpoint) -> Option<Checkpoint> {
        self.next = checkpoint.number + 1;
        self.checkpoints.push(checkpoint);
        if self.checkpoints.len() <= MAX_CHECKPOINTS {
            return None;
        }
        let mut before = 0;
        let mut spans = Vec::new();
        for pair in self.checkpoints.windows(2) {
            if let [this, next] = pair {
                spans.push(next.offset.saturating_sub(before));
                before = this.offset;
            }
        }
        let (at, _) = spans.iter().enumerate().min_by_key(|(_, span)| **span)?;
        Some(self.checkpoints.remove(at))
    }

    /// Forgets all that lies beyond `offset`; gives back those checkpoints.
    pub(crate) fn cut(&mut self, offset: u64) -> Vec<Checkpoint> {
        self.marks.retain(|mark| mark.offset <= offset);
        self.trusted.retain(|place| *place <= offset);
        let keep = self.checkpoints.iter();
        let keep = keep.filter(|one| one.offset <= offset).count();
        self.checkpoints.split_off(keep)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::resume) fn checkpoint(number: u64, offset: u64) -> Checkpoint {
        Checkpoint {
            number,
            uuid: Uuid::from_u128(u128::from(number)),
            ctransid: 10 + number,
            offset,
            digest: [7; 32],
            commands: 3,
            taken: 1_700_000_000,
            root: Vec::new(),
            deferred: Deferred::default(),
            fallbacks: Fallbacks::default(),
            left_out: LeftOut::default(),
        }
    }

    pub(in crate::resume) fn state() -> State {
        let name = SubvolumeName::parse(Bytes::from_static(b"a name\n")).unwrap();
        let new = NewSubvolume::new(name.clone(), Uuid::from_u128(5), 6, None);
        State::new(
            new,
            name,
            (5, 256),
            false,
            "btrfs-recv-rs --resumable '/a b'",
        )
    }

    #[test]
    fn checkpoints_stay_that_lie_apart() {
        let mut state = state();
        for number in 1..=64 {
            let removed = state.push(checkpoint(number, number * 10));
            assert_eq!(removed.is_some(), number > 4, "{number}");
        }
        let kept: Vec<_> = state.checkpoints.iter().map(|one| one.offset).collect();
        assert_eq!(kept.last(), Some(&640));
        assert_eq!(kept.len(), 4);
        assert!(kept[0] >= 80 && kept[0] <= 320, "{kept:?}");
    }

    #[test]
    fn a_cut_keeps_what_comes_before() {
        let mut state = state();
        for number in 1..4 {
            state.push(checkpoint(number, number * 100));
        }
        let removed = state.cut(200);
        assert_eq!(removed.len(), 1);
        assert_eq!(state.checkpoints.last().unwrap().offset, 200);
        assert_eq!(state.next, 4);
    }
}
