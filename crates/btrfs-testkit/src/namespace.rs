//! The private mount namespace all tests of a process run in.
//!
//! A process cannot move into a new mount namespace without unsafe code once
//! it has threads, so the test program starts itself again through
//! `unshare(1)`. Loop devices made by `mount -o loop` detach themselves when
//! their last mount goes away; with the last process of the namespace gone,
//! that is at once.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use rustix::mount::{MountFlags, mount};

use crate::tool;

/// Set for the second start, so that there is no third.
const MARKER: &str = "BTRFS_TESTKIT_NAMESPACE";

/// The environment variable that chooses where images are made.
const DIRECTORY: &str = "BTRFS_TESTS_DIR";

/// Where the tmpfs for images is mounted, within the namespace only. An empty
/// directory is all that is left here afterwards.
const ROOM: &str = "/run/btrfs-testkit";

/// Makes sure this process is in a mount namespace of its own.
///
/// Does not return in the process that was not: it is replaced.
///
/// # Errors
///
/// Why the namespace cannot be had.
pub fn enter() -> Result<(), String> {
    if std::env::var_os(MARKER).is_some() {
        return Ok(());
    }
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    // Tried beforehand: after exec the reason could not be reported.
    tool::run("unshare", ["--mount", "--propagation", "private", "true"])
        .map_err(|error| format!("no private mount namespace: {error}"))?;
    let error = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--"])
        .arg(program)
        .args(std::env::args_os().skip(1))
        .env(MARKER, "1")
        .exec();
    Err(format!("unshare: {error}"))
}

/// The directory in which images and mount points are made.
///
/// `BTRFS_TESTS_DIR` if it is set; else a tmpfs that belongs to this process;
/// else, outside the harness, `/dev/shm` or `/tmp`.
pub fn scratch_dir() -> &'static Path {
    static SCRATCH: OnceLock<PathBuf> = OnceLock::new();
    SCRATCH.get_or_init(|| {
        if let Some(directory) = std::env::var_os(DIRECTORY) {
            return PathBuf::from(directory);
        }
        if std::env::var_os(MARKER).is_some() && own_tmpfs().is_ok() {
            return PathBuf::from(ROOM);
        }
        let shared_memory = Path::new("/dev/shm");
        if has_room(shared_memory) {
            return shared_memory.to_owned();
        }
        PathBuf::from("/tmp")
    })
}

/// Mounts a tmpfs of our own, invisible outside the namespace.
fn own_tmpfs() -> std::io::Result<()> {
    std::fs::create_dir_all(ROOM)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("tmpfs", ROOM, "tmpfs", flags, c"mode=0755")?;
    Ok(())
}

/// Whether a directory can take the images of a few tests: 2 GiB.
fn has_room(directory: &Path) -> bool {
    rustix::fs::statvfs(directory)
        .is_ok_and(|facts| facts.f_bavail.saturating_mul(facts.f_frsize) >= 2 << 30)
}
