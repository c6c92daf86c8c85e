//! `--digest`: a subvolume is complete if it has the digest of the sender's.

use std::error::Error;
use std::fmt;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use btrfs_lineage::digest::{
    Difference, DigestDocument, DigestOptions, DigestProgress, RootChange, Sha, differences,
    digest, read_documents,
};
use btrfs_receive::{BeforeSeal, Op};
use uuid::Uuid;

use crate::progress::Counters;

/// Differences that a message names.
const SHOWN: usize = 3;

/// What subvolumes must have.
pub(crate) struct Digests {
    file: PathBuf,
    documents: Vec<DigestDocument>,
    cancel: Arc<AtomicBool>,
    counters: Arc<Counters>,
}

/// Why a subvolume is not complete.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Problem {
    /// There is nothing to compare with.
    #[error(
        "{} has no digest of the subvolume {uuid}{}",
        file.display(),
        if *of_parent { ", but one of its parent" } else { "" }
    )]
    NoDocument {
        file: PathBuf,
        uuid: Uuid,
        /// Whether it has one of the parent, which may be a mistake.
        of_parent: bool,
    },
    /// It is another.
    #[error(
        "the digest of the subvolume is {found}, and {expected} is expected{}",
        First(differences)
    )]
    Differs {
        expected: Sha,
        found: Sha,
        differences: Vec<Difference>,
    },
}

/// The first differences, on the same line.
struct First<'a>(&'a [Difference]);

impl fmt::Display for First<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .take(SHOWN)
            .try_for_each(|difference| write!(f, "; {difference}"))?;
        if self.0.len() > SHOWN {
            f.write_str("; and more")?;
        }
        Ok(())
    }
}

impl Digests {
    /// Reads `file`. The computations end when `cancel` is set, and `counters`
    /// show how far they are.
    ///
    /// # Errors
    /// It cannot be read; the text says why.
    pub(crate) fn read(
        file: &Path,
        cancel: Arc<AtomicBool>,
        counters: Arc<Counters>,
    ) -> Result<Self, String> {
        let cannot = |error: &dyn fmt::Display| format!("--digest={}: {error}", file.display());
        let open = File::open(file).map_err(|error| cannot(&crate::messages::strerror(&error)))?;
        let documents = read_documents(BufReader::new(open)).map_err(|error| cannot(&error))?;
        Ok(Self {
            file: file.to_owned(),
            documents,
            cancel,
            counters,
        })
    }

    /// # Errors
    /// The subvolume has another digest than any that its UUID has in the file.
    pub(crate) fn check(
        &self,
        subvolume: &BeforeSeal<'_>,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        let new = subvolume.subvolume();
        let uuid = new.uuid;
        let of_it = self.documents.iter().filter(|it| it.sent_as.uuid == uuid);
        let expected: Vec<_> = of_it.collect();
        let Some(first) = expected.first() else {
            let parent = new.parent.map(|parent| parent.uuid);
            let mut documents = self.documents.iter();
            return Err(Problem::NoDocument {
                file: self.file.clone(),
                uuid,
                of_parent: documents.any(|it| Some(it.sent_as.uuid) == parent),
            }
            .into());
        };
        let mut how = DigestOptions::default();
        // As everything is that is not marked as received.
        how.allow_writable = true;
        how.tree = expected.iter().any(|it| it.tree.is_some());
        how.root_changes = subvolume.pending().iter().filter_map(of_root).collect();
        how.progress = Arc::new(DigestProgress::cancelled_by(Arc::clone(&self.cancel)));
        self.counters.comparing(Some(Arc::clone(&how.progress)));
        let found = digest(subvolume, how);
        self.counters.comparing(None);
        let found = found?;
        if expected.iter().any(|it| it.sha256 == found.sha256) {
            return Ok(());
        }
        let with_tree = expected.iter().find(|it| it.tree.is_some());
        let expected = with_tree.unwrap_or(first);
        let differences = match (&expected.tree, &found.tree) {
            (Some(expected), Some(found)) => differences(expected, found, SHOWN + 1),
            _ => Vec::new(),
        };
        Err(Problem::Differs {
            expected: expected.sha256,
            found: found.sha256,
            differences,
        }
        .into())
    }
}

/// What a step that is still to come makes of the root.
fn of_root(step: &btrfs_receive::Step) -> Option<RootChange> {
    match &step.op {
        Op::Chown { uid, gid, .. } => Some(RootChange::Owner {
            uid: *uid,
            gid: *gid,
        }),
        Op::Chmod { mode, .. } => Some(RootChange::Mode(*mode)),
        Op::SetXattr { data, .. } => Some(RootChange::AccessAcl(Some(data.to_vec()))),
        Op::RemoveXattr { .. } => Some(RootChange::AccessAcl(None)),
        _ => None,
    }
}
