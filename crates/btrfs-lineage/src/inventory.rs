//! What a filesystem holds, to be written down and read on another host.

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use btrfs_sendstream::{Bytes, NewSubvolume};
use uuid::Uuid;

use super::candidate::SubvolumeState;
use super::no_source::{Capability, SearchOutcome, SearchPlace};
use super::survey::{Condition, Subvolume};
use super::{Resolver, sys};

/// The subvolumes of a filesystem, or of a directory in it, and what of them
/// could not be seen: [`Resolver::inventory`]. Or those that a set of stored
/// streams holds: [`Inventory::of_streams`].
///
/// With the feature `serde` it is one JSON object, which `docs/json.md` of the
/// repository describes. One that was cut off is no JSON any more, so that it
/// cannot be taken for a smaller one.
///
/// Memory: at most 65,536 subvolumes, about 400 bytes and the path for each.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Inventory {
    /// The version of the format: [`Inventory::VERSION`]. Reading another
    /// version is an error. Keys may be added without a new version.
    #[cfg_attr(feature = "serde", serde(deserialize_with = "known_version"))]
    pub version: u32,
    /// UUID of the filesystem; `None` for stored streams.
    #[cfg_attr(
        feature = "serde",
        serde(default, skip_serializing_if = "Option::is_none")
    )]
    pub filesystem: Option<Uuid>,
    /// What was looked through.
    pub searched: Scope,
    /// Where the paths begin.
    pub paths_from: PathsFrom,
    /// Whether nothing in there stayed unseen.
    pub complete: bool,
    /// How many subvolumes are known to be there and could not be looked at;
    /// of stored streams, how many were left out.
    pub unseen: usize,
    /// Capabilities that would have let more be seen.
    pub missing_capabilities: Vec<Capability>,
    /// The subvolumes, in the order of their ids.
    pub subvolumes: Vec<Subvolume>,
}

/// What an [`Inventory`] was made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum Scope {
    /// The whole filesystem.
    Filesystem,
    /// What can be reached in one mount: to see more takes
    /// `CAP_DAC_READ_SEARCH`.
    Mount,
    /// A directory, as the caller wanted.
    Directory,
    /// Stored streams.
    Streams,
}

/// Where the paths in an [`Inventory`] begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum PathsFrom {
    /// At the top level of the filesystem.
    Top,
    /// At the root of the mount.
    Mount,
    /// At the directory that was looked through.
    Directory,
    /// They are those of files, as they were given.
    Files,
}

/// A subvolume in a stored stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSubvolume {
    /// Path of the file.
    pub file: PathBuf,
    /// The subvolume: that of the first command.
    pub subvolume: NewSubvolume,
}

impl Inventory {
    /// The version of the format.
    pub const VERSION: u32 = 1;

    /// What stored streams hold: each subvolume that there is once all of them
    /// are received, each after its parent, into an empty filesystem. One whose
    /// parent is in none of the streams is left out, as are those that need it;
    /// their indices in `streams` are returned as well.
    ///
    /// Transaction ids of parents are not compared: they differ between hosts
    /// for the same content.
    pub fn of_streams(streams: &[StoredSubvolume]) -> (Self, Vec<usize>) {
        let restorable = restorable(streams);
        let mut subvolumes = Vec::new();
        let mut left_out = Vec::new();
        for (place, stored) in streams.iter().enumerate() {
            let new = &stored.subvolume;
            if !restorable.contains(&new.uuid) || !has_parent(new, &restorable) {
                left_out.push(place);
                continue;
            }
            subvolumes.push(Subvolume {
                id: place as u64 + 1,
                path: Some(Bytes::copy_from_slice(stored.file.as_os_str().as_bytes())),
                condition: Condition::Complete,
                changed_since_received: Some(false),
                state: SubvolumeState {
                    received_uuid: new.uuid,
                    stransid: new.ctransid,
                    read_only: true,
                    ..SubvolumeState::default()
                },
            });
        }
        let inventory = Self {
            version: Self::VERSION,
            filesystem: None,
            searched: Scope::Streams,
            paths_from: PathsFrom::Files,
            complete: true,
            unseen: left_out.len(),
            missing_capabilities: Vec::new(),
            subvolumes,
        };
        (inventory, left_out)
    }

    /// The subvolume with this id.
    pub fn get(&self, id: u64) -> Option<&Subvolume> {
        self.subvolumes.iter().find(|it| it.id == id)
    }

    /// Whether these are all subvolumes that a receive can find: those of the
    /// whole filesystem, or of all the streams.
    pub fn is_exhaustive(&self) -> bool {
        self.complete && matches!(self.searched, Scope::Filesystem | Scope::Streams)
    }
}

/// The UUIDs that can be received one after the other.
fn restorable(streams: &[StoredSubvolume]) -> HashSet<Uuid> {
    let mut found: HashSet<Uuid> = HashSet::new();
    // By what they wait for, so that a chain of any length takes one pass.
    let mut waiting: std::collections::HashMap<Uuid, Vec<Uuid>> = Default::default();
    let mut ready = Vec::new();
    for stored in streams {
        let new = &stored.subvolume;
        match new.parent {
            Some(parent) => waiting.entry(parent.uuid).or_default().push(new.uuid),
            None => ready.push(new.uuid),
        }
    }
    while let Some(uuid) = ready.pop() {
        if found.insert(uuid) {
            ready.extend(waiting.remove(&uuid).unwrap_or_default());
        }
    }
    found
}

fn has_parent(new: &NewSubvolume, restorable: &HashSet<Uuid>) -> bool {
    new.parent
        .is_none_or(|parent| restorable.contains(&parent.uuid))
}

impl Resolver {
    /// Describes every subvolume of the filesystem, or with a jail those inside
    /// it: at most 65,536. What [`list`](Self::list) says, to be written down.
    ///
    /// Paths begin at the top of the filesystem if every subvolume could be
    /// opened by its id.
    ///
    /// ```no_run
    /// use std::fs::File;
    ///
    /// use btrfs_lineage::Resolver;
    ///
    /// let inventory = Resolver::new(File::open("/backup")?)?.inventory();
    /// println!("{} subvolumes", inventory.subvolumes.len());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn inventory(&mut self) -> Inventory {
        let mut listing = self.list();
        let (searched, mut paths_from) = match listing.search.place {
            SearchPlace::Jail => (Scope::Directory, PathsFrom::Directory),
            SearchPlace::Mount => (Scope::Mount, PathsFrom::Mount),
            SearchPlace::Filesystem | SearchPlace::UuidTree => (Scope::Filesystem, PathsFrom::Top),
        };
        if searched == Scope::Directory && self.take_paths_from_top(&mut listing.subvolumes) {
            paths_from = PathsFrom::Top;
        }
        let (unseen, complete) = match listing.search.outcome {
            SearchOutcome::Searched {
                unopened,
                cut_short,
                ..
            } => (unopened, unopened == 0 && !cut_short),
            SearchOutcome::Failed { .. } => (0, false),
        };
        Inventory {
            version: Inventory::VERSION,
            filesystem: Some(self.reach.opener.fsid()),
            searched,
            paths_from,
            complete: complete && searched != Scope::Mount,
            unseen,
            missing_capabilities: listing.missing,
            subvolumes: listing.subvolumes,
        }
    }

    /// Replaces all paths, or none; returns whether it did.
    fn take_paths_from_top(&mut self, subvolumes: &mut [Subvolume]) -> bool {
        let opener = &mut self.reach.opener;
        let mut from_top = |id| {
            let opened = opener.open(id).ok()?;
            let info = sys::subvolume_info(opened.fd.as_fd()).ok()?;
            opener.path_from_top(&info).ok()
        };
        let paths: Option<Vec<_>> = subvolumes.iter().map(|it| from_top(it.id)).collect();
        let Some(paths) = paths else {
            return false;
        };
        for (subvolume, path) in subvolumes.iter_mut().zip(paths) {
            subvolume.path = Some(path);
        }
        true
    }
}

#[cfg(feature = "serde")]
fn known_version<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    use serde::de::{Deserialize, Error};

    let version = u32::deserialize(deserializer)?;
    if version == Inventory::VERSION {
        return Ok(version);
    }
    let known = Inventory::VERSION;
    Err(D::Error::custom(format_args!(
        "an inventory of version {version}; this program reads version {known}"
    )))
}

#[cfg(all(test, feature = "serde"))]
mod tests;
