//! Encoded data that the kernel accepted, and whether it reached the disk.
//!
//! The kernel writes encoded data past the page cache, where a failed
//! write-back leaves its mark: syncfs(2) has nothing to say about it, and
//! fsync(2) only sometimes. What does show it is that no extent came into
//! being. Hence the ranges are remembered, and looked at once everything is
//! flushed: each must hold data.

use std::collections::BTreeMap;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex};

use rustix::fs::{SeekFrom, fstat, seek, syncfs};
use rustix::io::{Errno, fcntl_dupfd_cloexec};

use super::lock::lock;
use crate::error::{Cause, named};
use btrfs_ioctl as sys;
use btrfs_ioctl::ROOT_INODE;

/// Ranges remembered before they are looked at and forgotten. Adjacent ones
/// count as one. A clone takes along what is known of its source, so that
/// twice as many exist at most, of 32 bytes and the map's own cost: 8 MB.
const MAX_RANGES: usize = 1 << 16;

/// The ranges of the subvolume under construction that hold accepted data.
#[derive(Clone, Debug, Default)]
pub(in crate::destination) struct Accepted(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// The root of the subvolume and its id.
    subvolume: Option<(OwnedFd, u64)>,
    /// Whether inodes can be opened by number, once that was tried.
    verifiable: Option<bool>,
    ranges: Ranges,
    /// Why some ranges, which are forgotten now, could not be looked at. An
    /// operation that was forbidden is tried again; if that succeeded, nobody
    /// would know.
    not_looked_at: Option<Errno>,
}

impl Accepted {
    /// Nothing is remembered yet of the subvolume with this root and this id.
    pub(in crate::destination) fn of(root: impl AsFd, id: u64) -> Result<Self, Cause> {
        let root = fcntl_dupfd_cloexec(root, 0).map_err(named("fcntl"))?;
        Ok(Self(Arc::new(Mutex::new(State {
            subvolume: Some((root, id)),
            ..State::default()
        }))))
    }

    /// Whether it can be found out later what became of accepted data, which
    /// takes `CAP_DAC_READ_SEARCH`.
    pub(in crate::destination) fn is_verifiable(&self) -> bool {
        let state = &mut *lock(&self.0);
        let subvolume = &state.subvolume;
        *state.verifiable.get_or_insert_with(|| {
            subvolume.as_ref().is_some_and(|(root, id)| {
                let generation = sys::inode_generation(root).unwrap_or(0);
                sys::open_inode(root, *id, ROOT_INODE, generation).is_ok()
            })
        })
    }

    /// Remembers accepted data.
    pub(in crate::destination) fn note(
        &self,
        file: impl AsFd,
        offset: u64,
        len: u64,
    ) -> Result<(), Cause> {
        let inode = inode_of(&file)?;
        let state = &mut *lock(&self.0);
        let generation = state.ranges.generation(inode, &file);
        state
            .ranges
            .insert(inode, generation, offset, offset.saturating_add(len));
        state.keep_bound()
    }

    /// Forgets a range that may be a hole from now on. To be called before it
    /// becomes one: another thread may look at what is remembered at any time.
    pub(in crate::destination) fn forget(
        &self,
        file: impl AsFd,
        offset: u64,
        len: u64,
    ) -> Result<(), Cause> {
        let state = &mut *lock(&self.0);
        if state.ranges.0.is_empty() {
            return Ok(());
        }
        let inode = inode_of(file)?;
        state
            .ranges
            .remove(inode, offset, offset.saturating_add(len));
        // A range in whose middle something is forgotten becomes two.
        state.keep_bound()
    }

    /// A range, given as (offset in the source, offset, length), was cloned:
    /// what was remembered of the source now holds for the copy too, whatever
    /// becomes of the source.
    pub(in crate::destination) fn cloned(
        &self,
        source: impl AsFd,
        file: impl AsFd,
        (source_offset, offset, len): (u64, u64, u64),
    ) -> Result<(), Cause> {
        let state = &mut *lock(&self.0);
        if state.ranges.0.is_empty() {
            return Ok(());
        }
        let (from, to) = (fstat(source), fstat(&file));
        let (from, to) = (from.map_err(named("fstat"))?, to.map_err(named("fstat"))?);
        let ranges = &mut state.ranges;
        let known = match from.st_dev == to.st_dev {
            true => ranges.within(
                from.st_ino,
                source_offset,
                source_offset.saturating_add(len),
            ),
            // A file of another subvolume, which may have the same number.
            false => Vec::new(),
        };
        let generation = ranges.generation(to.st_ino, &file);
        ranges.remove(to.st_ino, offset, offset.saturating_add(len));
        for (start, end) in known {
            let moved = |at: u64| offset.saturating_add(at - source_offset);
            ranges.insert(to.st_ino, generation, moved(start), moved(end));
        }
        state.keep_bound()
    }

    /// Makes sure that everything accepted is on disk, and forgets it. To be
    /// called after syncfs(2).
    pub(in crate::destination) fn verify(&self) -> Result<(), Cause> {
        lock(&self.0).verify()
    }
}

impl State {
    fn keep_bound(&mut self) -> Result<(), Cause> {
        if self.ranges.0.len() <= MAX_RANGES {
            return Ok(());
        }
        if let Some((root, _)) = &self.subvolume {
            syncfs(root).map_err(named("syncfs"))?;
        }
        self.verify()
    }

    fn verify(&mut self) -> Result<(), Cause> {
        let ranges = std::mem::take(&mut self.ranges);
        let Some((root, id)) = &self.subvolume else {
            return Ok(());
        };
        let failed = |errno| Err(Cause::system("open_by_handle_at", errno));
        if let Some(errno) = self.not_looked_at {
            return failed(errno);
        }
        let mut open: Option<(u64, Option<OwnedFd>)> = None;
        for ((inode, start), range) in ranges.0 {
            if open.as_ref().is_none_or(|(number, _)| *number != inode) {
                let file = match sys::open_inode(root, *id, inode, range.generation) {
                    Ok(file) => Some(file),
                    // Deleted since.
                    Err(Errno::STALE | Errno::NOENT) => None,
                    Err(errno) => {
                        self.not_looked_at = Some(errno);
                        return failed(errno);
                    }
                };
                open = Some((inode, file));
            }
            if let Some((_, Some(file))) = &open {
                check(root, file, inode, start..range.end)?;
            }
        }
        Ok(())
    }
}

/// Whether a range of a file, in the subvolume `root`, holds data up to its
/// end.
fn check(root: &OwnedFd, file: &OwnedFd, inode: u64, range: Range<u64>) -> Result<(), Cause> {
    let hole = match seek(file, SeekFrom::Hole(range.start)) {
        Ok(hole) => hole,
        // The file ends before: its size was to grow with the extent.
        Err(Errno::NXIO) => range.start,
        Err(errno) => return Err(Cause::system("lseek", errno)),
    };
    if hole < range.end {
        return Err(Cause::DataLost {
            path: sys::inode_path(root, inode).ok().map(Into::into),
            inode,
            offset: hole,
        });
    }
    Ok(())
}

fn inode_of(file: impl AsFd) -> Result<u64, Cause> {
    Ok(fstat(file).map_err(named("fstat"))?.st_ino)
}

/// Ranges by (inode number, offset). Those of one inode neither overlap nor
/// touch.
#[derive(Debug, Default)]
struct Ranges(BTreeMap<(u64, u64), Written>);

#[derive(Clone, Copy, Debug)]
struct Written {
    end: u64,
    /// Of the inode: kernels before 6.2 do not open it by number without.
    generation: u32,
}

impl Ranges {
    fn generation(&self, inode: u64, file: impl AsFd) -> u32 {
        match self.0.range((inode, 0)..=(inode, u64::MAX)).next() {
            Some((_, range)) => range.generation,
            // 0 is "any" to later kernels.
            None => sys::inode_generation(file).unwrap_or(0),
        }
    }

    /// The last range of an inode that begins before `end`.
    fn last_before(&self, inode: u64, end: u64) -> Option<(u64, Written)> {
        let (&(_, start), &range) = self.0.range((inode, 0)..(inode, end)).next_back()?;
        Some((start, range))
    }

    fn insert(&mut self, inode: u64, generation: u32, mut start: u64, mut end: u64) {
        while let Some((other, range)) = self.last_before(inode, end.saturating_add(1))
            && range.end >= start
        {
            self.0.remove(&(inode, other));
            start = start.min(other);
            end = end.max(range.end);
        }
        if start < end {
            self.0.insert((inode, start), Written { end, generation });
        }
    }

    fn remove(&mut self, inode: u64, start: u64, end: u64) {
        while let Some((other, range)) = self.last_before(inode, end)
            && range.end > start
        {
            self.0.remove(&(inode, other));
            if range.end > end {
                self.0.insert((inode, end), range);
            }
            if other < start {
                let before = Written {
                    end: start,
                    ..range
                };
                self.0.insert((inode, other), before);
            }
        }
    }

    /// What of a range is remembered.
    fn within(&self, inode: u64, start: u64, end: u64) -> Vec<(u64, u64)> {
        // One range may begin before and reach into it.
        let first = self.last_before(inode, start).map_or(start, |(at, _)| at);
        self.0
            .range((inode, first)..(inode, end.max(first)))
            .map(|(&(_, at), range)| (at.max(start), range.end.min(end)))
            .filter(|(at, to)| at < to)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

    use super::*;
    use crate::error::is_errno;
    use btrfs_testkit::unit::on_btrfs;

    /// A file without data stands for one whose data the disk did not take.
    #[test]
    fn what_is_lost_is_named() {
        on_btrfs(|fs| {
            let root = fs.path().join("sub");
            sys::subvol_create(File::open(fs.path()).unwrap(), b"sub").unwrap();
            let directory = root.join("a directory");
            fs::create_dir(&directory).unwrap();
            let hole = File::create(directory.join("f\n")).unwrap();
            hole.set_len(8192).unwrap();
            let root = File::open(&root).unwrap();
            let id = sys::subvolume_info(&root).unwrap().id;
            let accepted = Accepted::of(&root, id).unwrap();
            accepted.note(&hole, 4096, 4096).unwrap();
            // Where it is now, not where it was written.
            fs::rename(&directory, fs.path().join("sub/d")).unwrap();
            syncfs(&root).unwrap();
            let text = accepted.verify().unwrap_err().to_string();
            let name = r#""d/f\\n" (inode 258)"#;
            assert!(text.contains(name), "{text}");
            assert!(text.contains("offset 4096"), "{text}");
        });
    }

    /// A lane tries again what the kernel forbids, and must not succeed then.
    #[test]
    fn what_could_not_be_looked_at_is_never_good() {
        on_btrfs(|fs| {
            let hole = File::create(fs.path().join("f")).unwrap();
            hole.set_len(4096).unwrap();
            let root = File::open(fs.path()).unwrap();
            let id = sys::subvolume_info(&root).unwrap().id;
            let accepted = Accepted::of(&root, id).unwrap();
            accepted.note(&hole, 0, 4096).unwrap();
            let all = capabilities(None).unwrap();
            let mut fewer = all;
            fewer.effective -= CapabilitySet::DAC_READ_SEARCH;
            set_capabilities(None, fewer).unwrap();
            let forbidden = accepted.verify().unwrap_err();
            set_capabilities(None, all).unwrap();
            assert!(is_errno(&forbidden, Errno::PERM), "{forbidden}");
            let forbidden = accepted.verify().unwrap_err();
            assert!(is_errno(&forbidden, Errno::PERM), "{forbidden}");
        });
    }

    fn all(ranges: &Ranges) -> Vec<(u64, u64, u64)> {
        let all = ranges.0.iter();
        all.map(|(&(inode, start), range)| (inode, start, range.end))
            .collect()
    }

    #[test]
    fn ranges_join_and_split() {
        let mut ranges = Ranges::default();
        for (start, end) in [(0, 10), (10, 20), (30, 40), (50, 60)] {
            ranges.insert(7, 1, start, end);
        }
        ranges.insert(8, 1, 20, 30);
        assert_eq!(
            all(&ranges),
            [(7, 0, 20), (7, 30, 40), (7, 50, 60), (8, 20, 30)]
        );
        assert_eq!(ranges.within(7, 5, 35), [(5, 20), (30, 35)]);
        assert_eq!(ranges.within(7, 20, 30), []);
        ranges.remove(7, 5, 10);
        ranges.remove(7, 35, u64::MAX);
        assert_eq!(
            all(&ranges),
            [(7, 0, 5), (7, 10, 20), (7, 30, 35), (8, 20, 30)]
        );
        ranges.insert(7, 1, 4, 31);
        assert_eq!(all(&ranges), [(7, 0, 35), (8, 20, 30)]);
    }
}
