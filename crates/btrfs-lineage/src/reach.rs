//! What this process can open, by handle or by walking.

use std::os::fd::OwnedFd;

use rustix::io::{Errno, Result};

use super::candidate::Verdict;
use super::mount::{Opened, Opener, mount_root};
use super::no_source::SearchPlace;
use super::walk::Walk;

/// Opens subvolumes by id as far as privileges and jail allow.
#[derive(Debug)]
pub(super) struct Reach {
    pub(super) opener: Opener,
    jail: Option<OwnedFd>,
    walk: Option<(SearchPlace, Walk)>,
    /// Whether the map was made during this lookup.
    pub(super) fresh: bool,
}

impl Reach {
    pub(super) fn new(opener: Opener, jail: Option<OwnedFd>) -> Self {
        Self {
            opener,
            jail,
            walk: None,
            fresh: false,
        }
    }

    /// From here on a map made earlier is remade once, when it lacks
    /// something.
    pub(super) fn begin_lookup(&mut self) {
        self.fresh = false;
    }

    /// Gives up the map.
    pub(super) fn forget(&mut self) {
        self.walk = None;
    }

    /// Whether subvolumes outside of the mount stay closed for want of
    /// privilege.
    pub(super) fn lacks_handles(&self) -> bool {
        self.jail.is_none() && self.opener.is_refused()
    }

    /// Opens the root of the subvolume `id`.
    ///
    /// # Errors
    /// Why it cannot serve.
    pub(super) fn open(&mut self, id: u64) -> std::result::Result<Opened, Verdict> {
        let mut absent = match self.jail {
            Some(_) => Verdict::OutsideJail,
            None => Verdict::Unreachable,
        };
        if self.jail.is_none() && !self.opener.is_refused() {
            match self.opener.open(id) {
                Ok(opened) => return Ok(opened),
                // There is none, or an old kernel wants to know more than is
                // known; then its path may do.
                Err(Errno::STALE) => absent = Verdict::Gone,
                Err(_) if self.opener.is_refused() => {}
                Err(errno) => return Err(verdict(errno)),
            }
        }
        loop {
            let was_fresh = self.fresh;
            let Ok((_, walk, opener)) = self.walk() else {
                return Err(absent);
            };
            match walk.open(opener, id) {
                Some(Ok(opened)) => return Ok(opened),
                Some(Err(errno)) if was_fresh => return Err(verdict(errno)),
                None if was_fresh => return Err(absent),
                _ if self.fresh => {}
                _ => self.forget(),
            }
        }
    }

    /// The map made by an earlier lookup, if there is one.
    pub(super) fn old_walk(&self) -> Option<&Walk> {
        let old = self.walk.as_ref().filter(|_| !self.fresh);
        old.map(|(_, walk)| walk)
    }

    /// Makes a new map, unless this lookup made one.
    ///
    /// # Errors
    /// Not even the start can be looked at.
    pub(super) fn fresh_walk(&mut self) -> Result<(SearchPlace, &Walk)> {
        if !self.fresh {
            self.forget();
        }
        self.walk().map(|(place, walk, _)| (place, walk))
    }

    /// The map, made if there is none.
    fn walk(&mut self) -> Result<(SearchPlace, &Walk, &mut Opener)> {
        let walk = match self.walk.take() {
            Some(walk) => walk,
            None => {
                let walk = self.make_walk()?;
                self.fresh = true;
                walk
            }
        };
        let (place, walk) = self.walk.insert(walk);
        Ok((*place, walk, &mut self.opener))
    }

    fn make_walk(&mut self) -> Result<(SearchPlace, Walk)> {
        let fsid = self.opener.fsid();
        if let Some(jail) = &self.jail {
            let jail = jail.try_clone().map_err(|_| Errno::MFILE)?;
            return Ok((SearchPlace::Jail, Walk::below(jail, fsid)?));
        }
        if let Ok(walk) = Walk::of_filesystem(&mut self.opener) {
            return Ok((SearchPlace::Filesystem, walk));
        }
        let walk = Walk::below(mount_root(self.opener.mount())?, fsid)?;
        let place = if walk.begins_at_top() {
            SearchPlace::Filesystem
        } else {
            SearchPlace::Mount
        };
        Ok((place, walk))
    }
}

/// What a failure to open says about a candidate.
pub(super) fn verdict(errno: Errno) -> Verdict {
    match errno {
        Errno::NOENT => Verdict::Gone,
        errno => Verdict::CannotOpen {
            os_error: errno.raw_os_error(),
        },
    }
}
