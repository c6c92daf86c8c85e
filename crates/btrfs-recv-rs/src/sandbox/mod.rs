//! `--sandbox`: drops access that a receive does not need.
//!
//! Landlock restricts files, if the kernel has it; seccomp, which cannot
//! distinguish files, restricts the network, other programs and system
//! administration. Both apply to the calling thread and the threads it starts
//! later, so they are entered before the destination starts its threads. Open
//! descriptors are not restricted: the input may be anywhere.

mod calls;
mod files;
#[cfg(test)]
mod tests;

use std::path::Path;

use crate::messages::Messages;

/// Which files stay accessible.
#[derive(Debug)]
pub(crate) struct Reach<'a> {
    /// Everything may be done below it, except for executing files.
    pub(crate) destination: &'a Path,
    /// The same holds for this, where checkpoints are elsewhere.
    pub(crate) state: Option<&'a Path>,
    /// Files may be created and removed in this directory.
    pub(crate) tee: Option<&'a Path>,
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

/// Drops access to everything that is not in `reach`, as far as the kernel
/// supports that; warns if files are not restricted.
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
             /sys/kernel/security/lsm): other files stay accessible; access to the network, other \
             programs and system administration is dropped",
        );
    }
    Ok(())
}
