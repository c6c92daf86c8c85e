//! Finding the real `btrfs`, and becoming it.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::privilege;

/// Names the real `btrfs`.
const VARIABLE: &str = "BTRFS_RECV_RS_BTRFS";

/// Set for the program that is started: which programs a call went through.
/// None of them is started again, so that programs which call each other
/// come to an end.
const PASSED: &str = "BTRFS_RECV_RS_PASSED";

/// More programs than this do not stand between a caller and the real `btrfs`.
const MAX_PASSED: usize = 16;

/// Searched instead of `PATH` by a process that has more rights than its
/// caller.
const SAFE_PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// Why there is no real `btrfs` to hand over to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoBtrfs {
    /// None in `PATH`.
    #[error(
        "no other btrfs after this one in PATH: install btrfs-progs, or set {VARIABLE} to the \
         path of the real btrfs"
    )]
    NotFound,
    /// None in the directories that are searched with raised privileges.
    #[error(
        "no other btrfs in {SAFE_PATH}: install btrfs-progs. {VARIABLE} and PATH are ignored, \
         because this program has more privileges than its caller (set-user-ID, set-group-ID or \
         file capabilities)"
    )]
    NotFoundSafely,
    /// What was named is this program once more.
    #[error(
        "{} is btrfs-recv-rs: set {VARIABLE} to the path of the real btrfs",
        .0.display()
    )]
    Ourselves(PathBuf),
    /// What was named or found is another copy of this program, or was
    /// started as the real one and called `btrfs` again.
    #[error(
        "{} called btrfs again, and is not started a second time: set {VARIABLE} to the path of \
         the real btrfs",
        .0.display()
    )]
    Loop(PathBuf),
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
    let raised = privilege::is_raised();
    let ourselves = ourselves(program);
    let mut passed = Passed::from_environment();
    let path = match find(raised, ourselves, &passed) {
        Ok(path) => path,
        Err(error) => return error,
    };
    let target = fs::metadata(&path).ok();
    passed.extend(ourselves.into_iter().chain(target.as_ref().map(FileId::of)));
    let mut command = Command::new(&path);
    command
        .arg0(program)
        .args(args)
        .env(PASSED, passed.to_string());
    if raised {
        command.env("PATH", SAFE_PATH).env_remove(VARIABLE);
    }
    let source = command.exec();
    NoBtrfs::Start { path, source }
}

fn find(raised: bool, ourselves: Option<FileId>, passed: &Passed) -> Result<PathBuf, NoBtrfs> {
    let named = env::var_os(VARIABLE).filter(|named| !named.is_empty() && !raised);
    if let Some(named) = named {
        let path = PathBuf::from(named);
        return match fs::metadata(&path).as_ref().map(FileId::of) {
            Ok(id) if ourselves == Some(id) => Err(NoBtrfs::Ourselves(path)),
            Ok(id) if passed.holds(id) => Err(NoBtrfs::Loop(path)),
            _ => Ok(path),
        };
    }
    let search = if raised {
        OsString::from(SAFE_PATH)
    } else {
        env::var_os("PATH").unwrap_or_default()
    };
    let directories: Vec<_> = env::split_paths(&search).collect();
    search_behind(&directories, ourselves, passed).map_err(|error| match error {
        NoBtrfs::NotFound if raised => NoBtrfs::NotFoundSafely,
        error => error,
    })
}

/// The first other `btrfs` behind the last place where this program is, or
/// from the beginning if it is in none of the directories or nothing is
/// behind. One that a call has passed through is passed over.
fn search_behind(
    directories: &[PathBuf],
    ourselves: Option<FileId>,
    passed: &Passed,
) -> Result<PathBuf, NoBtrfs> {
    let found: Vec<_> = directories
        .iter()
        .filter_map(|directory| candidate(directory))
        .collect();
    let is_ours = |(_, id): &(PathBuf, FileId)| ourselves == Some(*id);
    let behind = found.iter().rposition(is_ours).map_or(0, |at| at + 1);
    let (before, after) = found.split_at(behind);
    let others = || after.iter().chain(before).filter(|one| !is_ours(one));
    match others().find(|(_, id)| !passed.holds(*id)) {
        Some((path, _)) => Ok(path.clone()),
        None => Err(match others().next() {
            Some((path, _)) => NoBtrfs::Loop(path.clone()),
            None => NoBtrfs::NotFound,
        }),
    }
}

/// This program, through links. Where `/proc` is not mounted, by the name it
/// was called by, which is the caller's to choose; where that does not tell,
/// [`PASSED`] ends what would have no end.
fn ourselves(program: &OsStr) -> Option<FileId> {
    let program = Path::new(program);
    // Without a slash it was found in `PATH`, nobody knows where.
    let called = program.components().nth(1).is_some();
    fs::metadata("/proc/self/exe")
        .ok()
        .or_else(|| fs::metadata(program).ok().filter(|_| called))
        .map(|facts| FileId::of(&facts))
}

/// Which file it is, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    fn of(facts: &Metadata) -> Self {
        Self {
            device: facts.dev(),
            inode: facts.ino(),
        }
    }
}

/// The programs that a call went through.
#[derive(Debug, Default)]
struct Passed(Vec<FileId>);

impl Passed {
    fn from_environment() -> Self {
        let text = env::var_os(PASSED).unwrap_or_default();
        Self::parse(text.to_str().unwrap_or_default())
    }

    /// Reads what `Display` wrote; what is none of it is skipped.
    fn parse(text: &str) -> Self {
        let one = |word: &str| {
            let (device, inode) = word.split_once('-')?;
            Some(FileId {
                device: device.parse().ok()?,
                inode: inode.parse().ok()?,
            })
        };
        Self(text.split(',').filter_map(one).collect())
    }

    /// Whether a call went through this program, or through so many that
    /// it has no end.
    fn holds(&self, id: FileId) -> bool {
        self.0.contains(&id) || self.0.len() >= MAX_PASSED
    }

    fn extend(&mut self, ids: impl Iterator<Item = FileId>) {
        for id in ids {
            if !self.0.contains(&id) {
                self.0.push(id);
            }
        }
    }
}

impl fmt::Display for Passed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, id) in self.0.iter().enumerate() {
            let separator = if number > 0 { "," } else { "" };
            write!(f, "{separator}{}-{}", id.device, id.inode)?;
        }
        Ok(())
    }
}

/// An executable `btrfs` in a directory.
fn candidate(directory: &Path) -> Option<(PathBuf, FileId)> {
    let path = directory.join("btrfs");
    let facts = fs::metadata(&path).ok()?;
    let is_program = facts.is_file() && facts.mode() & 0o111 != 0;
    is_program.then(|| (path, FileId::of(&facts)))
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

    fn id(directory: &Path) -> FileId {
        FileId::of(&fs::metadata(directory.join("btrfs")).unwrap())
    }

    fn none() -> Passed {
        Passed::default()
    }

    #[test]
    fn the_next_one_is_taken() {
        let (_top, paths) = directories();
        let real = |at: usize| search_behind(&paths, Some(id(&paths[at])), &none()).unwrap();
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
        let ourselves = Some(id(&paths[0]));
        let only_ours = search_behind(&paths[..2], ourselves, &none());
        assert!(matches!(only_ours, Err(NoBtrfs::NotFound)));
        let real = search_behind(&paths, ourselves, &none()).unwrap();
        assert_eq!(real, paths[2].join("btrfs"));
    }

    #[test]
    fn what_cannot_be_run_is_passed_over() {
        let (_top, paths) = directories();
        fs::set_permissions(paths[0].join("btrfs"), fs::Permissions::from_mode(0o644)).unwrap();
        fs::remove_file(paths[1].join("btrfs")).unwrap();
        fs::create_dir(paths[1].join("btrfs")).unwrap();
        let real = search_behind(&paths, None, &none()).unwrap();
        assert_eq!(real, paths[2].join("btrfs"));
    }

    #[test]
    fn no_program_is_started_twice() {
        let (_top, paths) = directories();
        let mut passed = none();
        // Even where nobody knows which one is this program.
        for expected in &paths[..3] {
            let real = search_behind(&paths, None, &passed).unwrap();
            assert_eq!(real, expected.join("btrfs"));
            passed.extend([id(expected)].into_iter());
            passed = Passed::parse(&passed.to_string());
        }
        let end = search_behind(&paths, None, &passed);
        assert!(matches!(end, Err(NoBtrfs::Loop(path)) if path == paths[0].join("btrfs")));
        let many: Vec<_> = (0..MAX_PASSED).map(|it| format!("1-{it}")).collect();
        let end = search_behind(&paths, None, &Passed::parse(&many.join(",")));
        assert!(matches!(end, Err(NoBtrfs::Loop(_))));
    }

    #[test]
    fn nonsense_in_the_environment_is_skipped() {
        assert_eq!(Passed::parse("x,,1-2-3,-,7-8,\u{fffd}").to_string(), "7-8");
    }
}
