//! Restricts files, by Landlock.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use btrfs_receive::btrfs_lineage;
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus,
};

use super::{Filesystem, Reach};
use crate::messages::strerror;

/// Linux 5.19. Before, no file could be given a name in another directory.
const LEAST: ABI = ABI::V2;

/// What is restricted where the kernel can: Linux 6.10.
const BEST: ABI = ABI::V5;

/// Drops access to every file that is not in `reach`, and to the network as far
/// as Landlock supports that. `false` if the kernel has no Landlock.
///
/// # Errors
/// See [`super::enter`].
pub(super) fn restrict(reach: &Reach<'_>) -> Result<bool, String> {
    let destination = open(reach.destination)?;
    let reading = AccessFs::ReadFile | AccessFs::ReadDir;
    let mut ruleset = match ruleset() {
        Ok(ruleset) => ruleset,
        Err(RulesetError::HandleAccesses(_) | RulesetError::CreateRuleset(_)) => return Ok(false),
        Err(other) => return Err(cannot(other)),
    };
    let changing = !(AccessFs::Execute | AccessFs::IoctlDev);
    ruleset = allow(ruleset, &destination, changing)?;
    if let Some(state) = reach.state {
        ruleset = allow(ruleset, open(state)?, changing)?;
    }
    if let Some(directory) = reach.tee {
        // To give a file its name, or to remove it.
        let naming = AccessFs::MakeReg | AccessFs::RemoveFile;
        ruleset = allow(ruleset, open(directory)?, naming)?;
    }
    for path in &reach.sources {
        let file = open(path)?;
        let is_directory = file.metadata().is_ok_and(|it| it.is_dir());
        let reading = if is_directory {
            reading
        } else {
            AccessFs::ReadFile.into()
        };
        ruleset = allow(ruleset, file, reading)?;
    }
    if reach.filesystem != Filesystem::Useless {
        match btrfs_lineage::top_level(&destination) {
            Ok(top) => ruleset = allow(ruleset, top, reading)?,
            Err(_) if reach.filesystem == Filesystem::IfPermitted => {}
            Err(error) => {
                return Err(format!(
                    "--sandbox needs CAP_DAC_READ_SEARCH to open clone sources: {}; with --chroot \
                     it does not",
                    strerror(&error)
                ));
            }
        }
    }
    let status = ruleset.restrict_self().map_err(cannot)?;
    Ok(status.ruleset != RulesetStatus::NotEnforced)
}

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
    format!("--sandbox cannot be enforced: {error}")
}
