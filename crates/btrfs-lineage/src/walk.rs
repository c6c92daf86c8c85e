//! A map of the subvolumes, for when the UUID tree cannot be asked.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use rustix::io::{Errno, Result};
use rustix::thread::CapabilitySet;
use uuid::Uuid;

use super::mount::{self, MAX_DEPTH, Opened, Opener};
use super::no_source::SearchOutcome;
use btrfs_ioctl::{self as sys, RootRef, SubvolumeInfo, TOP_LEVEL};

/// Most subvolumes in a map; it then takes about 10 MiB.
const MAX_SUBVOLUMES: usize = 65_536;

/// The subvolumes that are within reach, by UUID and by place.
#[derive(Debug)]
pub(super) struct Walk {
    start: Start,
    fsid: Uuid,
    places: HashMap<u64, Place>,
    /// Received UUIDs and own UUIDs with their subvolumes, sorted once all
    /// are known.
    by_uuid: Vec<(Uuid, u64)>,
    unopened: usize,
    cut_short: bool,
}

/// Where a walk begins.
#[derive(Debug)]
enum Start {
    /// At the top of the filesystem; subvolumes are opened by handle.
    Top,
    /// In a directory; subvolumes are opened by their path beneath it.
    Directory(OwnedFd),
}

/// Where a subvolume lies.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// The subvolume it lies in; `None` if it is the start, or lies in the
    /// same subvolume as the start directory.
    within: Option<u64>,
    /// Inode of its directory in there; `None` for the start itself.
    dir_id: Option<u64>,
}

/// A subvolume still to be visited.
struct Pending {
    parent: Rc<OwnedFd>,
    within: Option<u64>,
    child: RootRef,
    depth: usize,
}

impl Walk {
    /// How the search went.
    pub(super) fn outcome(&self) -> SearchOutcome {
        SearchOutcome::Searched {
            subvolumes: self.subvolumes(),
            unopened: self.unopened(),
            cut_short: self.cut_short(),
        }
    }

    /// Maps the whole filesystem, opening by handle.
    ///
    /// # Errors
    /// The top level cannot be opened.
    pub(super) fn of_filesystem(opener: &mut Opener) -> Result<Self> {
        let top = opener.open(TOP_LEVEL)?;
        let mut walk = Self::new(Start::Top, opener.fsid());
        walk.add(&top.info, None, None);
        let inside = Some(TOP_LEVEL);
        walk.run(top.fd, inside, |_, child| opener.open(child.id))?;
        Ok(walk)
    }

    /// Maps what lies beneath a directory, following paths. If it is the root
    /// of a subvolume, that is part of the map.
    ///
    /// # Errors
    /// The directory cannot be looked at.
    pub(super) fn below(directory: OwnedFd, fsid: Uuid) -> Result<Self> {
        let first = directory.try_clone().map_err(|_| Errno::MFILE)?;
        let info = sys::subvolume_info(&directory)?;
        let is_root = mount::is_subvolume_root(&directory)?;
        let mut walk = Self::new(Start::Directory(directory), fsid);
        let within = is_root.then_some(info.id);
        if is_root {
            walk.add(&info, None, None);
        }
        walk.run(first, within, |parent, child| {
            mount::open_beneath(parent.as_fd(), child, fsid).map(|(opened, _)| opened)
        })?;
        Ok(walk)
    }

    /// The subvolumes whose received UUID or own UUID is `uuid`.
    pub(super) fn with_uuid(&self, uuid: Uuid) -> Vec<u64> {
        let first = self.by_uuid.partition_point(|(other, _)| *other < uuid);
        let from_first = self.by_uuid.get(first..).unwrap_or_default();
        let same = from_first.iter().take_while(|(other, _)| *other == uuid);
        same.map(|(_, id)| *id).collect()
    }

    /// How many subvolumes are in the map.
    pub(super) fn subvolumes(&self) -> usize {
        self.places.len()
    }

    /// The ids of the subvolumes in the map, in order.
    pub(super) fn ids(&self) -> Vec<u64> {
        let mut ids: Vec<u64> = self.places.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// Whether every subvolume of the filesystem lies below the start.
    pub(super) fn begins_at_top(&self) -> bool {
        let top = self.places.get(&TOP_LEVEL);
        top.is_some_and(|place| place.dir_id.is_none())
    }

    /// How many more there are that could not be opened.
    pub(super) fn unopened(&self) -> usize {
        self.unopened
    }

    /// Whether there are more than the map, or the depth it follows, can
    /// hold.
    pub(super) fn cut_short(&self) -> bool {
        self.cut_short
    }

    /// Opens a subvolume again; `None` if it is not in the map.
    pub(super) fn open(&self, opener: &mut Opener, id: u64) -> Option<Result<Opened>> {
        if !self.places.contains_key(&id) {
            return None;
        }
        Some(match &self.start {
            Start::Top => opener.open(id),
            Start::Directory(directory) => self.open_by_path(directory, id),
        })
    }

    fn open_by_path(&self, start: &OwnedFd, id: u64) -> Result<Opened> {
        let mut steps = Vec::new();
        let mut at = Some(id);
        while let Some(id) = at {
            let place = self.places.get(&id).ok_or(Errno::NOENT)?;
            steps.extend(place.dir_id.map(|dir_id| RootRef { id, dir_id }));
            at = place.within;
        }
        let mut opened = start_opened(start)?;
        let mut path = Vec::new();
        for child in steps.into_iter().rev() {
            let (next, step) = mount::open_beneath(opened.fd.as_fd(), child, self.fsid)?;
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(&step);
            opened = next;
        }
        opened.path = Some(path.into());
        Ok(opened)
    }

    fn new(start: Start, fsid: Uuid) -> Self {
        Self {
            start,
            fsid,
            places: HashMap::new(),
            by_uuid: Vec::new(),
            unopened: 0,
            cut_short: false,
        }
    }

    /// Visits depth first, so that only the subvolumes between the start and
    /// the current one are open.
    fn run(
        &mut self,
        start: OwnedFd,
        within: Option<u64>,
        mut open: impl FnMut(&OwnedFd, RootRef) -> Result<Opened>,
    ) -> Result<()> {
        let mut pending = Vec::new();
        self.push_children(&mut pending, start, within, 0)?;
        while let Some(next) = pending.pop() {
            let opened = match open(&next.parent, next.child) {
                Ok(opened) => opened,
                // In the same subvolume as the start, but not beneath it: or
                // in a directory that may not be searched.
                Err(Errno::ACCESS) if next.within.is_none() && may_search_all() => continue,
                Err(_) => {
                    self.unopened += 1;
                    continue;
                }
            };
            let id = opened.info.id;
            self.add(&opened.info, next.within, Some(next.child.dir_id));
            if next.depth >= MAX_DEPTH {
                self.cut_short = true;
            } else if self
                .push_children(&mut pending, opened.fd, Some(id), next.depth)
                .is_err()
            {
                // It was deleted meanwhile.
                self.unopened += 1;
            }
        }
        self.by_uuid.sort_unstable();
        Ok(())
    }

    fn push_children(
        &mut self,
        pending: &mut Vec<Pending>,
        parent: OwnedFd,
        within: Option<u64>,
        depth: usize,
    ) -> Result<()> {
        let room = MAX_SUBVOLUMES.saturating_sub(self.places.len() + pending.len());
        let mut children = sys::subvolume_rootrefs(&parent, room.saturating_add(1))?;
        if children.len() > room {
            self.cut_short = true;
            children.truncate(room);
        }
        let parent = Rc::new(parent);
        pending.extend(children.into_iter().map(|child| Pending {
            parent: parent.clone(),
            within,
            child,
            depth: depth + 1,
        }));
        Ok(())
    }

    fn add(&mut self, info: &SubvolumeInfo, within: Option<u64>, dir_id: Option<u64>) {
        // The first place counts: what a subvolume lies in then always came
        // into the map before it, so that places form no circle, even if
        // subvolumes are moved during the walk.
        if self.places.contains_key(&info.id) {
            return;
        }
        self.places.insert(info.id, Place { within, dir_id });
        for uuid in [info.received_uuid, info.uuid] {
            if !uuid.is_nil() {
                self.by_uuid.push((uuid, info.id));
            }
        }
    }
}

/// Whether no permission of a directory keeps this process from searching it.
fn may_search_all() -> bool {
    let all = CapabilitySet::DAC_READ_SEARCH | CapabilitySet::DAC_OVERRIDE;
    rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.intersects(all))
}

/// The start of a walk as if it had been found.
fn start_opened(start: &OwnedFd) -> Result<Opened> {
    let fd = start.try_clone().map_err(|_| Errno::MFILE)?;
    let info = sys::subvolume_info(&fd)?;
    Ok(Opened {
        fd,
        info,
        path: None,
    })
}
