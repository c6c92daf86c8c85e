//! What is remembered of files until the end, by path: what they have to go
//! without, and modes that would lock their owner out while they are filled.
//!
//! The entries follow every rename, so that a report names files as they
//! are called in the end, not by the names that a stream creates them under.

use btrfs_sendstream::{Bytes, StreamPath, SubvolumeName};

use crate::confine::PathCache;
use crate::error::Cause;
use crate::report::{Loss, LossKind, LossSummary};

/// Bytes of paths remembered for each purpose, the map's own cost of each
/// entry included: 16 MiB.
const MAX_BYTES: usize = 16 << 20;

/// What an entry costs besides its path, about.
const ENTRY_COST: usize = 128;

/// Takes what is lost, one by one.
pub(super) type Sink = Box<dyn FnMut(&Loss) -> std::io::Result<()> + Send>;

/// The notes on the tree under construction.
pub(super) struct Notes {
    losses: ByPath<Vec<(LossKind, Option<i32>)>>,
    modes: ByPath<u32>,
    /// What found no room any more, and was passed on under the path it had
    /// then.
    summary: LossSummary,
    sink: Option<Sink>,
    subvolume: SubvolumeName,
}

/// Values by path. Memory: [`MAX_BYTES`] for everything ever entered.
struct ByPath<T> {
    entries: PathCache<T>,
    bytes: usize,
}

impl<T: Clone> ByPath<T> {
    fn new() -> Self {
        Self {
            entries: PathCache::new(usize::MAX),
            bytes: 0,
        }
    }

    /// `false` if there is no room.
    fn insert(&mut self, path: &[u8], value: T, cost: usize) -> bool {
        let bytes = self.bytes + path.len() + cost + ENTRY_COST;
        if bytes > MAX_BYTES {
            return false;
        }
        self.bytes = bytes;
        self.entries.insert(path, value);
        true
    }

    fn is_empty(&self) -> bool {
        self.entries.len() == 0
    }
}

impl Notes {
    pub(super) fn new(subvolume: SubvolumeName, sink: Option<Sink>) -> Self {
        Self {
            losses: ByPath::new(),
            modes: ByPath::new(),
            summary: LossSummary::default(),
            sink,
            subvolume,
        }
    }

    /// Takes the sink out, for the next tree.
    pub(super) fn into_sink(self) -> Option<Sink> {
        self.sink
    }

    /// The file at `path` goes without something, instead of what was noted
    /// of the same kind before.
    pub(super) fn note_loss(
        &mut self,
        path: &StreamPath,
        what: LossKind,
        errno: Option<i32>,
    ) -> Result<(), Cause> {
        let path = path.as_bytes();
        let mut known = self.losses.entries.get(path).unwrap_or_default();
        known.retain(|(other, _)| !same_kind(other, &what));
        let cost = match &what {
            LossKind::Xattr { name } => name.len() + ENTRY_COST,
            _ => ENTRY_COST,
        };
        // A name of its own, so as not to keep a buffer of the input alive.
        let what = match what {
            LossKind::Xattr { name } => LossKind::Xattr {
                name: Bytes::copy_from_slice(&name),
            },
            other => other,
        };
        known.push((what.clone(), errno));
        if self.losses.insert(path, known, cost) {
            return Ok(());
        }
        let path = Bytes::copy_from_slice(path);
        self.pass_on(path, what, errno)
    }

    /// The file at `path` has got what `like` says after all.
    pub(super) fn has(&mut self, path: &StreamPath, like: &LossKind) {
        if self.losses.is_empty() {
            return;
        }
        let path = path.as_bytes();
        if let Some(mut known) = self.losses.entries.get(path) {
            known.retain(|(other, _)| !same_kind(other, like));
            self.losses.entries.insert(path, known);
        }
    }

    /// Whether the file at `path` belongs to somebody else than it should.
    pub(super) fn lacks_owner(&mut self, path: &StreamPath) -> bool {
        self.any(path, |what| matches!(what, LossKind::Owner { .. }))
    }

    /// Whether the file at `path` stands for one that could not be made.
    pub(super) fn is_stand_in(&mut self, path: &StreamPath) -> bool {
        self.any(path, |what| matches!(what, LossKind::SpecialFile { .. }))
    }

    fn any(&mut self, path: &StreamPath, is: impl Fn(&LossKind) -> bool) -> bool {
        if self.losses.is_empty() {
            return false;
        }
        let known = self.losses.entries.get(path.as_bytes());
        known.is_some_and(|known| known.iter().any(|(what, _)| is(what)))
    }

    /// The directory at `path` gets this mode at the end; without one, it
    /// has the mode that it shall have.
    pub(super) fn mode_later(&mut self, path: &StreamPath, mode: Option<u32>) -> Result<(), Cause> {
        match mode {
            None if self.modes.is_empty() => Ok(()),
            None => {
                self.modes.entries.remove_one(path.as_bytes());
                Ok(())
            }
            Some(mode) if self.modes.insert(path.as_bytes(), mode, 0) => Ok(()),
            Some(_) => Err(Cause::Limit {
                what: "bytes of paths of directories that their owner may not write to",
                limit: MAX_BYTES as u64,
            }),
        }
    }

    /// The modes that were to come at the end, those of directories before
    /// those of what they hold.
    pub(super) fn take_modes(&mut self) -> impl Iterator<Item = (Box<[u8]>, u32)> + use<> {
        let modes = std::mem::replace(&mut self.modes, ByPath::new());
        modes.entries.into_entries()
    }

    /// Follows a rename.
    pub(super) fn renamed(&mut self, path: &StreamPath, to: &StreamPath) {
        let (path, to) = (path.as_bytes(), to.as_bytes());
        if !self.losses.is_empty() {
            self.losses.entries.rename(path, to);
        }
        if !self.modes.is_empty() {
            self.modes.entries.rename(path, to);
        }
    }

    /// What is at `existing` is at `path` too.
    pub(super) fn linked(&mut self, existing: &StreamPath, path: &StreamPath) -> Result<(), Cause> {
        if self.losses.is_empty() {
            return Ok(());
        }
        for (what, errno) in self
            .losses
            .entries
            .get(existing.as_bytes())
            .unwrap_or_default()
        {
            self.note_loss(path, what, errno)?;
        }
        Ok(())
    }

    /// What was at `path` is gone.
    pub(super) fn removed(&mut self, path: &StreamPath) {
        if !self.losses.is_empty() {
            self.losses.entries.remove(path.as_bytes());
        }
        if !self.modes.is_empty() {
            self.modes.entries.remove(path.as_bytes());
        }
    }

    /// Passes on what is lacking in the end, and sums it up.
    pub(super) fn finish(&mut self) -> Result<LossSummary, Cause> {
        let losses = std::mem::replace(&mut self.losses, ByPath::new());
        for (path, known) in losses.entries.into_entries() {
            for (what, errno) in known {
                let path = Bytes::copy_from_slice(&path);
                self.pass_on(path, what, errno)?;
            }
        }
        Ok(std::mem::take(&mut self.summary))
    }

    fn pass_on(&mut self, path: Bytes, what: LossKind, errno: Option<i32>) -> Result<(), Cause> {
        let losses = Loss {
            subvolume: self.subvolume.clone(),
            path,
            what,
            errno,
        };
        if let Some(sink) = &mut self.sink {
            sink(&losses).map_err(|error| Cause::ListNotWritten { error })?;
        }
        self.summary.count(losses);
        Ok(())
    }
}

/// Whether one replaces the other.
fn same_kind(a: &LossKind, b: &LossKind) -> bool {
    match (a, b) {
        (LossKind::Xattr { name: a }, LossKind::Xattr { name: b }) => a == b,
        _ => std::mem::discriminant(a) == std::mem::discriminant(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &'static str) -> StreamPath {
        StreamPath::parse(Bytes::from_static(text.as_bytes())).unwrap()
    }

    fn name() -> SubvolumeName {
        SubvolumeName::parse(Bytes::from_static(b"name")).unwrap()
    }

    const OWNER: LossKind = LossKind::Owner { uid: 1, gid: 2 };

    #[test]
    fn notes_follow_their_files() {
        let mut notes = Notes::new(name(), None);
        notes.note_loss(&path("o1/f"), OWNER, Some(1)).unwrap();
        notes.linked(&path("o1/f"), &path("g")).unwrap();
        notes.mode_later(&path("o1"), Some(0o555)).unwrap();
        notes.renamed(&path("o1"), &path("d"));
        assert!(notes.lacks_owner(&path("d/f")) && !notes.lacks_owner(&path("o1/f")));
        notes.note_loss(&path("gone"), OWNER, None).unwrap();
        notes.removed(&path("gone"));
        notes.has(&path("g"), &OWNER);
        let modes: Vec<_> = notes.take_modes().collect();
        assert_eq!(modes, [(Box::from(&b"d"[..]), 0o555)]);
        let summary = notes.finish().unwrap();
        assert_eq!((summary.owners, summary.total()), (1, 1));
        assert_eq!(summary.first[0].path, "d/f");
    }

    #[test]
    fn what_finds_no_room_is_passed_on_at_once() {
        let (send, received) = std::sync::mpsc::channel();
        let sink: Sink = Box::new(move |losses| {
            send.send(losses.clone()).unwrap();
            Ok(())
        });
        let mut notes = Notes::new(name(), Some(sink));
        let mut sent = 0;
        while received.try_recv().is_err() {
            let name = format!("{sent:04000}");
            let path = StreamPath::parse(Bytes::from(name)).unwrap();
            notes.note_loss(&path, OWNER, None).unwrap();
            sent += 1;
        }
        assert!(sent > 1000);
        assert_eq!(notes.finish().unwrap().owners, sent);
        assert_eq!(received.try_iter().count() as u64 + 1, sent);
    }
}
