//! `--sandbox`: what the process may still open once it knows what it reads
//! and where it writes.
//!
//! By Landlock, which restricts the thread that asks and those it starts
//! later: it is entered before the destination starts its own. Descriptors
//! that are open stay as they are, so the input may come from anywhere.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use btrfs_receive::source;
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus,
};

use crate::messages::strerror;

/// Linux 5.19. Before, no file could be given a name in another directory.
const LEAST: ABI = ABI::V2;

/// What is restricted where the kernel can: Linux 6.10.
const BEST: ABI = ABI::V5;

/// Which files stay within reach.
#[derive(Debug)]
pub(crate) struct Reach<'a> {
    /// Everything may be done below it, but for executing files.
    pub(crate) destination: &'a Path,
    /// The same holds for this, where checkpoints are kept elsewhere.
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

/// Gives up everything that is not in `reach`: other files, and the network.
///
/// # Errors
/// It cannot be enforced, or a path of `reach` cannot be opened; the text
/// says which. The restriction may hold already.
pub(crate) fn enter(reach: &Reach<'_>) -> Result<(), String> {
    let destination = open(reach.destination)?;
    let reading = AccessFs::ReadFile | AccessFs::ReadDir;
    let mut ruleset = ruleset().map_err(cannot)?;
    let changing = !(AccessFs::Execute | AccessFs::IoctlDev);
    ruleset = allow(ruleset, &destination, changing)?;
    if let Some(state) = reach.state {
        ruleset = allow(ruleset, open(state)?, changing)?;
    }
    for path in &reach.sources {
        ruleset = allow(ruleset, open(path)?, reading)?;
    }
    if reach.filesystem != Filesystem::Useless {
        match source::top_level(&destination) {
            Ok(top) => ruleset = allow(ruleset, top, reading)?,
            Err(_) if reach.filesystem == Filesystem::IfPermitted => {}
            Err(error) => {
                return Err(format!(
                    "--sandbox has to reach the clone sources, which takes CAP_DAC_READ_SEARCH \
                     ({}); with --chroot it does not",
                    strerror(&error)
                ));
            }
        }
    }
    let status = ruleset.restrict_self().map_err(cannot)?;
    match status.ruleset {
        RulesetStatus::NotEnforced => Err(UNSUPPORTED.to_owned()),
        _ => Ok(()),
    }
}

const UNSUPPORTED: &str = "--sandbox cannot be enforced: it needs Linux 5.19 with Landlock \
                           (`landlock` in /sys/kernel/security/lsm); receive without it, or on \
                           another kernel";

fn ruleset() -> Result<RulesetCreated, RulesetError> {
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(LEAST))?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(BEST))?
        .handle_access(AccessNet::from_all(BEST))?
        .create()
}

fn allow(
    ruleset: RulesetCreated,
    below: impl AsFd,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, String> {
    let access = access & AccessFs::from_all(BEST);
    ruleset
        .add_rule(PathBeneath::new(below, access))
        .map_err(cannot)
}

fn open(path: &Path) -> Result<File, String> {
    File::open(path)
        .map_err(|error: io::Error| format!("cannot open {}: {}", path.display(), strerror(&error)))
}

fn cannot(error: RulesetError) -> String {
    match error {
        RulesetError::HandleAccesses(_) | RulesetError::CreateRuleset(_) => UNSUPPORTED.to_owned(),
        other => format!("--sandbox cannot be enforced: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On a thread of its own, which alone is restricted.
    #[test]
    fn what_is_out_of_reach_cannot_be_opened() {
        let inside = tempfile::tempdir().unwrap();
        let source = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        for directory in [&inside, &source, &outside] {
            std::fs::write(directory.path().join("file"), b"x").unwrap();
        }
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let reach = Reach {
                    destination: inside.path(),
                    state: None,
                    sources: vec![source.path()],
                    filesystem: Filesystem::Useless,
                };
                match enter(&reach) {
                    Err(text) if text == UNSUPPORTED => return eprintln!("left out: {text}"),
                    result => result.unwrap(),
                }
                let refused = |result: io::Result<()>| {
                    let error = result.unwrap_err();
                    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
                };
                let read = |path: &Path| std::fs::read(path).map(drop);
                refused(read(Path::new("/etc/shadow")));
                refused(read(Path::new("/etc/passwd")));
                refused(read(&outside.path().join("file")));
                refused(std::fs::write(outside.path().join("new"), b"x"));
                refused(std::fs::write(source.path().join("file"), b"x"));
                refused(std::net::TcpListener::bind("127.0.0.1:0").map(drop));
                // By way of the destination, too.
                let link = inside.path().join("link");
                std::os::unix::fs::symlink(outside.path(), &link).unwrap();
                refused(read(&link.join("file")));
                read(&inside.path().join("file")).unwrap();
                read(&source.path().join("file")).unwrap();
                std::fs::create_dir(inside.path().join("d")).unwrap();
                let moved = inside.path().join("d/file");
                std::fs::rename(inside.path().join("file"), &moved).unwrap();
                std::fs::hard_link(&moved, inside.path().join("again")).unwrap();
            });
        });
    }
}
