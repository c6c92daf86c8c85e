//! A plan for a snapshot of this host, with the paths that `btrfs send` takes.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
#[cfg(feature = "serde")]
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::inventory::{Inventory, PathsFrom};
use super::mounted::Mounts;
use super::plan::{Plan, PlanCandidate, PlanError, PlanOptions, PlanVerdict, plan};
use super::{Resolver, subvolume_id};

/// A mounted snapshot that is to be sent.
///
/// ```no_run
/// use std::process::Command;
///
/// use btrfs_lineage::{Inventory, PlanOptions, SnapshotToSend};
///
/// # let receiver: Inventory = unimplemented!();
/// let snapshot = SnapshotToSend::open("/snapshots/tuesday")?;
/// let found = snapshot.plan(&receiver, PlanOptions::default())?;
/// let mut send = Command::new("btrfs");
/// send.arg("send").args(found.arguments()).arg("/snapshots/tuesday");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct SnapshotToSend {
    inventory: Inventory,
    id: u64,
    path: PathBuf,
}

/// A [`Plan`], and where the subvolumes that it names are mounted.
///
/// With the feature `serde` it is one JSON object, which `docs/json.md` of the
/// repository describes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SendPlan {
    /// The plan.
    pub plan: Plan,
    /// A path for the parent and for each clone source, by their ids.
    pub paths: BTreeMap<u64, PathBuf>,
}

/// Why there is no plan for a snapshot.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendPlanError {
    /// It cannot be opened, or is not on a btrfs (`ENOTTY`).
    #[error(transparent)]
    Open(io::Error),
    /// It is not a subvolume.
    #[error("not a subvolume")]
    NotASubvolume,
    /// The process lacks `CAP_DAC_READ_SEARCH`.
    #[error("listing the subvolumes of its filesystem needs CAP_DAC_READ_SEARCH")]
    NotPrivileged,
    /// It was changed since it was received. It would be sent with the received
    /// UUID of the original, and receivers would take it for that.
    #[error(
        "it was changed since it was received, and would be sent under the UUID of the original"
    )]
    Changed,
    /// `/proc/self/mountinfo` cannot be read.
    #[error("/proc/self/mountinfo: {0}")]
    Mounts(#[source] io::Error),
    /// It cannot be sent.
    #[error(transparent)]
    Plan(#[from] PlanError),
}

impl SnapshotToSend {
    /// Opens a snapshot, and lists the subvolumes of its filesystem.
    ///
    /// # Errors
    /// It is not a subvolume, or that needs a capability.
    pub fn open(snapshot: impl AsRef<Path>) -> Result<Self, SendPlanError> {
        let path = snapshot.as_ref();
        let root = File::open(path).map_err(SendPlanError::Open)?;
        let mut resolver = Resolver::new(&root).map_err(SendPlanError::Open)?;
        let fd = root.try_clone().map_err(SendPlanError::Open)?.into();
        resolver
            .check_named(&fd)
            .map_err(|_| SendPlanError::NotASubvolume)?;
        let id = subvolume_id(&root).map_err(SendPlanError::Open)?;
        let inventory = resolver.inventory();
        if inventory.paths_from != PathsFrom::Top {
            return Err(SendPlanError::NotPrivileged);
        }
        Ok(Self {
            inventory,
            id,
            path: path.canonicalize().unwrap_or_else(|_| path.to_owned()),
        })
    }

    /// The subvolumes of its filesystem.
    pub fn inventory(&self) -> &Inventory {
        &self.inventory
    }

    /// Chooses parent and clone sources as [`plan`] does, among what is mounted.
    ///
    /// # Errors
    /// It cannot be sent, or was changed since it was received.
    pub fn plan(
        &self,
        receiver: &Inventory,
        mut options: PlanOptions,
    ) -> Result<SendPlan, SendPlanError> {
        let snapshot = self.inventory.get(self.id);
        if snapshot.is_some_and(|it| it.changed_since_received == Some(true)) {
            return Err(SendPlanError::Changed);
        }
        loop {
            let found = plan(self.id, &self.inventory, receiver, &options)?;
            let mut paths = BTreeMap::new();
            let mut all_mounted = true;
            for id in found.parent.iter().chain(&found.clone_sources) {
                match self.mounted(*id)? {
                    Some(path) => drop(paths.insert(*id, path)),
                    None => all_mounted = false,
                }
            }
            if all_mounted {
                return Ok(SendPlan { plan: found, paths });
            }
            // Then none of them is asked for a second time.
            for candidate in &found.candidates {
                if is_usable(candidate) && self.mounted(candidate.id)?.is_none() {
                    options.not_mounted.insert(candidate.id);
                }
            }
        }
    }

    fn mounted(&self, id: u64) -> Result<Option<PathBuf>, SendPlanError> {
        let path = self.inventory.get(id).and_then(|it| it.path.as_deref());
        let (Some(path), Some(filesystem)) = (path, self.inventory.filesystem) else {
            return Ok(None);
        };
        let mounts = Mounts::read().map_err(SendPlanError::Mounts)?;
        Ok(mounts.subvolume(filesystem, id, path, &self.path))
    }
}

impl SendPlan {
    /// The options for `btrfs send`: `-p` and `-c`, each with a path after it. None
    /// if the receiver has the snapshot already: in an archive of streams, a
    /// parent may need the very stream that would be replaced.
    pub fn arguments(&self) -> Vec<&OsStr> {
        if !self.plan.already_there.is_empty() {
            return Vec::new();
        }
        let parent = self.plan.parent.iter().map(|id| ("-p", id));
        let sources = self.plan.clone_sources.iter().map(|id| ("-c", id));
        let pairs = parent.chain(sources).filter_map(|(option, id)| {
            let path = self.paths.get(id)?.as_os_str();
            Some([OsStr::new(option), path])
        });
        pairs.flatten().collect()
    }
}

/// `version`, `arguments`, and the keys of the plan.
#[cfg(feature = "serde")]
impl serde::Serialize for SendPlan {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use btrfs_sendstream::serial::Text;

        #[derive(serde::Serialize)]
        struct Fields<'a> {
            version: u32,
            arguments: Vec<Text<'a>>,
            #[serde(flatten)]
            plan: &'a Plan,
        }
        let arguments = self.arguments();
        Fields {
            version: 1,
            arguments: arguments.iter().map(|it| Text(it.as_bytes())).collect(),
            plan: &self.plan,
        }
        .serialize(serializer)
    }
}

/// Whether it was taken, or could have been.
fn is_usable(candidate: &PlanCandidate) -> bool {
    matches!(
        candidate.verdict,
        PlanVerdict::Parent
            | PlanVerdict::CloneSource
            | PlanVerdict::Farther
            | PlanVerdict::Unrelated
    )
}
