//! `--writable` and `--replace`: a subvolume to work with, made of the last one
//! that is received.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use btrfs_lineage::writable::{Existing, WritableError, WritableSnapshot};
use sendstream_common::text::escaped;

use crate::args;
use crate::messages::{Messages, strerror};

/// A writable snapshot that is to be taken, if one is.
#[derive(Debug)]
pub(crate) struct Restore {
    wanted: Option<WritableSnapshot>,
    directory: PathBuf,
}

impl Restore {
    /// Looks before the receive for what would prevent the snapshot; before a sandbox
    /// is entered. `None` if something does, which was said.
    pub(crate) fn prepare(options: &args::Receive, messages: &mut Messages) -> Option<Self> {
        let mut restore = Self {
            wanted: None,
            directory: options.destination.clone(),
        };
        let args::Restore {
            writable,
            replace,
            delete_old,
            ..
        } = &options.restore;
        let (name, existing) = match (writable, replace, options.restore.old_name()) {
            (_, Some(name), _) if *delete_old => (name, Existing::Delete),
            (_, Some(name), Some(old)) => (name, Existing::Rename(old)),
            (Some(name), ..) => (name, Existing::Refuse),
            _ => return Some(restore),
        };
        let directory = match File::open(&restore.directory) {
            Ok(directory) => directory,
            Err(error) => {
                let path = restore.directory.display();
                let reason = strerror(&error);
                messages.error(format_args!("cannot open {path}: {reason}"));
                return None;
            }
        };
        let wanted = WritableSnapshot::new(directory, name.clone(), existing);
        let checked = wanted.and_then(|wanted| wanted.check().map(|()| wanted));
        match checked {
            Ok(wanted) => {
                restore.left(&wanted, messages);
                restore.wanted = Some(wanted);
                Some(restore)
            }
            Err(error) => {
                let to_do = restore.to_do(&error);
                let text = format!("nothing is received: {}", restore.text(&error));
                messages.refused(&text, to_do.as_deref());
                None
            }
        }
    }

    /// Takes the snapshot, now that everything is received; returns whether it has
    /// its name, and what it replaced is what it was to be.
    pub(crate) fn finish(self, messages: &mut Messages) -> bool {
        let Some(wanted) = &self.wanted else {
            return true;
        };
        let Some((name, received)) = messages.last_complete().cloned() else {
            messages.error("there is no subvolume in the input to take a writable snapshot of");
            return false;
        };
        let error = match wanted.take(&name, received) {
            Ok(taken) => {
                messages.writable(&name, wanted.name(), &taken);
                return true;
            }
            Err(error) => error,
        };
        if let WritableError::OldLeft { taken, .. } = &error {
            messages.writable(&name, wanted.name(), taken);
            let to_do = self.to_do(&error);
            messages.refused(&self.text(&error), to_do.as_deref());
            return false;
        }
        let text = format!(
            "{} is complete, but the writable snapshot of it failed: {}",
            self.path(name.as_bytes()),
            self.text(&error)
        );
        let to_do = match self.to_do(&error) {
            Some(to_do) => to_do,
            None => "look at dmesg".to_owned(),
        };
        let to_do = format!(
            "{to_do}; then take the snapshot with btrfs subvolume snapshot, or receive again with \
             --chain, which skips what is complete"
        );
        messages.refused(&text, Some(&to_do));
        self.left(wanted, messages);
        false
    }

    /// Says what interrupted runs left.
    fn left(&self, wanted: &WritableSnapshot, messages: &mut Messages) {
        for name in wanted.leftovers() {
            messages.warning(format_args!(
                "{} is left from a --replace that was interrupted or failed: the new subvolume, \
                 or the old one if {} is the new one; rename it or delete it (btrfs subvolume \
                 delete)",
                self.path(&name),
                self.path(wanted.name().as_bytes())
            ));
        }
    }

    fn path(&self, name: &[u8]) -> String {
        let path = self.directory.join(OsStr::from_bytes(name));
        escaped(path.as_os_str().as_bytes())
    }

    /// The error, with paths for names.
    fn text(&self, error: &WritableError) -> String {
        let path = |name: &btrfs_sendstream::SubvolumeName| self.path(name.as_bytes());
        match error {
            WritableError::Exists { name } => format!("{} exists", path(name)),
            WritableError::NotASubvolume { name } => {
                format!("{} is not a subvolume, and cannot be replaced", path(name))
            }
            WritableError::MountPoint { name } => {
                format!("{} is a mount point, and cannot be replaced", path(name))
            }
            WritableError::HoldsSubvolumes { name } => format!(
                "{} contains other subvolumes, which would leave with it",
                path(name)
            ),
            WritableError::Itself { name } => {
                format!("{} is the received subvolume itself", path(name))
            }
            WritableError::ReadOnly { name } => {
                format!("{} is read-only, and is not deleted", path(name))
            }
            WritableError::Mounted { name } => {
                format!("{} is mounted, and is not deleted", path(name))
            }
            WritableError::NotReceived { name } => format!(
                "another process moved or changed the received subvolume {}",
                path(name)
            ),
            WritableError::Unverified {
                called,
                call,
                error,
            } => format!(
                "it is {} now, which cannot be looked at: {} ({call})",
                self.path(called),
                strerror(error)
            ),
            WritableError::OldLeft {
                called,
                call,
                error,
                ..
            } => format!(
                "the old subvolume is {} now, because of a failure: {} ({call})",
                self.path(called),
                strerror(error)
            ),
            WritableError::System { call, error } => {
                format!("{} ({call})", strerror(error))
            }
            other => other.to_string(),
        }
    }

    /// What to do about it, if that is known.
    fn to_do(&self, error: &WritableError) -> Option<String> {
        let path = |name: &btrfs_sendstream::SubvolumeName| self.path(name.as_bytes());
        Some(match error {
            WritableError::Exists { name } => format!(
                "rename or delete {}, or use another name; --replace=NAME takes the place of a \
                 subvolume",
                path(name)
            ),
            WritableError::NotASubvolume { name } => {
                format!("rename or delete {}, or use another name", path(name))
            }
            WritableError::MountPoint { name } => format!(
                "unmount {}, or mount the filesystem somewhere else too and receive there",
                path(name)
            ),
            WritableError::HoldsSubvolumes { name } => format!(
                "move them out of {0} (btrfs subvolume list -o {0}), or use another name",
                path(name)
            ),
            WritableError::Itself { .. } => "use another name".to_owned(),
            WritableError::ReadOnly { .. } => {
                "use another name, or --keep-old instead of --delete-old".to_owned()
            }
            WritableError::Mounted { .. } => {
                "unmount it (findmnt shows where it is mounted), or use --keep-old instead of \
                 --delete-old"
                    .to_owned()
            }
            WritableError::Unverified { called, .. } => {
                format!("delete {} (btrfs subvolume delete)", self.path(called))
            }
            WritableError::OldLeft { called, .. } => format!(
                "rename or delete {}; the default subvolume (btrfs subvolume get-default) and one \
                 that is being sent cannot be deleted",
                self.path(called)
            ),
            _ => return None,
        })
    }
}
