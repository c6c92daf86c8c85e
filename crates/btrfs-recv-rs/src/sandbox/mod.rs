//! `--sandbox`: what the process may still do once it knows what it reads and
//! where it writes.
//!
//! Files are restricted by Landlock, where the kernel has it; the network,
//! other programs and the administration of the system by seccomp, which can
//! tell calls apart but not the files that they are about. Both hold for the
//! thread that asks and those it starts later: they are entered before the
//! destination starts its own. Descriptors that are open stay as they are, so
//! the input may come from anywhere.

mod calls;
mod files;
#[cfg(test)]
mod tests;

use std::path::Path;

use crate::messages::Messages;

/// Which files stay within reach.
#[derive(Debug)]
pub(crate) struct Reach<'a> {
    /// Everything may be done below it, but for executing files.
    pub(crate) destination: &'a Path,
    /// The same holds for this, where checkpoints are elsewhere.
    pub(crate) state: Option<&'a Path>,
    /// These may be read, and what is below them.
    pub(crate) sources: Vec<&'a Path>,
    /// Whether all of the filesystem that the destination lies on may be read.
    pub(crate) filesystem: Filesystem,
}

/// Whether all of the destination's btrfs has to be within reach. What is
/// opened by its number there, and not by a path, is not known to lie below
/// the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filesystem {
    /// It is of no use.
    Useless,
    /// For inodes of the subvolume that is received; they are opened by number
    /// only by those who may.
    IfPermitted,
    /// For clone sources, too: any subvolume can be one, also outside of what
    /// is mounted.
    Needed,
}

/// Gives up everything that is not in `reach`, as far as the kernel can
/// restrict that; warns if files are not restricted.
///
/// # Errors
/// It cannot be enforced, or a path of `reach` cannot be opened; the text
/// says which. The restriction may hold already.
pub(crate) fn enter(reach: &Reach<'_>, messages: &mut Messages) -> Result<(), String> {
    let files_are_restricted = files::restrict(reach)?;
    calls::restrict()?;
    if !files_are_restricted {
        messages.warning(
            "--sandbox: this kernel has no Landlock (Linux 5.19, `landlock` in \
             /sys/kernel/security/lsm): other files stay within reach; the network, other \
             programs and the administration of the system are given up",
        );
    }
    Ok(())
}
