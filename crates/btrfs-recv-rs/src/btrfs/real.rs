//! Finding the real `btrfs`, and becoming it.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Names the real `btrfs`. It is also set for the program that is started, so
/// that another copy of this one, found by mistake, notices.
const VARIABLE: &str = "BTRFS_RECV_RS_BTRFS";

/// Why there is no real `btrfs` to hand over to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoBtrfs {
    /// None in `PATH`.
    #[error(
        "there is no other btrfs behind this one in PATH: install btrfs-progs, \
         or set {VARIABLE} to the path of the real btrfs"
    )]
    NotFound,
    /// What was named or found is this program once more.
    #[error(
        "{} is btrfs-recv-rs again: set {VARIABLE} to the path of the real btrfs",
        .0.display()
    )]
    Ourselves(PathBuf),
    /// It cannot be started.
    #[error("cannot run {}: {source}", .path.display())]
    Start {
        /// The program.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Replaces this process by the real `btrfs`, with the same arguments.
///
/// Returns only if that fails.
pub(crate) fn exec(program: &OsStr, args: &[OsString]) -> NoBtrfs {
    let path = match find() {
        Ok(path) => path,
        Err(error) => return error,
    };
    let source = Command::new(&path)
        .arg0(program)
        .args(args)
        .env(VARIABLE, &path)
        .exec();
    NoBtrfs::Start { path, source }
}

fn find() -> Result<PathBuf, NoBtrfs> {
    // Through /proc, so that a link to the program is the program.
    let ourselves = fs::metadata("/proc/self/exe").ok();
    if let Some(named) = env::var_os(VARIABLE).filter(|named| !named.is_empty()) {
        let path = PathBuf::from(named);
        return match fs::metadata(&path) {
            Ok(facts) if is_same(&facts, ourselves.as_ref()) => Err(NoBtrfs::Ourselves(path)),
            _ => Ok(path),
        };
    }
    let search = env::var_os("PATH").unwrap_or_default();
    let directories: Vec<_> = env::split_paths(&search).collect();
    search_behind(&directories, ourselves.as_ref()).ok_or(NoBtrfs::NotFound)
}

/// The first other `btrfs` behind the last place where this program is, or
/// from the beginning if it is in none of the directories or nothing is
/// behind.
fn search_behind(directories: &[PathBuf], ourselves: Option<&Metadata>) -> Option<PathBuf> {
    let found: Vec<_> = directories
        .iter()
        .filter_map(|directory| candidate(directory))
        .collect();
    let is_ours = |(_, facts): &(PathBuf, Metadata)| is_same(facts, ourselves);
    let behind = found.iter().rposition(is_ours).map_or(0, |at| at + 1);
    let (before, after) = found.split_at_checked(behind)?;
    after
        .iter()
        .chain(before)
        .find(|one| !is_ours(one))
        .map(|(path, _)| path.clone())
}

/// An executable `btrfs` in a directory.
fn candidate(directory: &Path) -> Option<(PathBuf, Metadata)> {
    let path = directory.join("btrfs");
    let facts = fs::metadata(&path).ok()?;
    (facts.is_file() && facts.mode() & 0o111 != 0).then_some((path, facts))
}

fn is_same(one: &Metadata, other: Option<&Metadata>) -> bool {
    other.is_some_and(|other| (one.dev(), one.ino()) == (other.dev(), other.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    /// Directories a, b, c with a program each, and one without.
    fn directories() -> (tempfile::TempDir, Vec<PathBuf>) {
        let top = tempfile::tempdir().unwrap();
        let names = ["a", "b", "c", "none"];
        let paths: Vec<_> = names.iter().map(|name| top.path().join(name)).collect();
        for path in &paths {
            fs::create_dir(path).unwrap();
        }
        for path in &paths[..3] {
            fs::write(path.join("btrfs"), "").unwrap();
            fs::set_permissions(path.join("btrfs"), fs::Permissions::from_mode(0o755)).unwrap();
        }
        (top, paths)
    }

    #[test]
    fn the_next_one_is_taken() {
        let (_top, paths) = directories();
        let real = |at: usize| {
            let ourselves = fs::metadata(paths[at].join("btrfs")).unwrap();
            search_behind(&paths, Some(&ourselves)).unwrap()
        };
        assert_eq!(real(0), paths[1].join("btrfs"));
        assert_eq!(real(1), paths[2].join("btrfs"));
        // Nothing behind: from the beginning.
        assert_eq!(real(2), paths[0].join("btrfs"));
    }

    #[test]
    fn links_to_the_program_are_the_program() {
        let (_top, paths) = directories();
        fs::remove_file(paths[1].join("btrfs")).unwrap();
        symlink(paths[0].join("btrfs"), paths[1].join("btrfs")).unwrap();
        let ourselves = fs::metadata(paths[0].join("btrfs")).unwrap();
        let only_ours = search_behind(&paths[..2], Some(&ourselves));
        assert_eq!(only_ours, None);
        let real = search_behind(&paths, Some(&ourselves)).unwrap();
        assert_eq!(real, paths[2].join("btrfs"));
    }

    #[test]
    fn what_cannot_be_run_is_passed_over() {
        let (_top, paths) = directories();
        fs::set_permissions(paths[0].join("btrfs"), fs::Permissions::from_mode(0o644)).unwrap();
        fs::remove_file(paths[1].join("btrfs")).unwrap();
        fs::create_dir(paths[1].join("btrfs")).unwrap();
        let real = search_behind(&paths, None).unwrap();
        assert_eq!(real, paths[2].join("btrfs"));
    }
}
