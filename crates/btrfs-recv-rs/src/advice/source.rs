//! Parents and clone sources that were not found, and names that are taken.

use btrfs_receive::btrfs_lineage::{Capability, NoSource, Verdict};
use btrfs_receive::{Conflict, ExtractionProblem, Failure};

use super::Advice;

/// Returns the advice for a parent or clone source that was not found.
pub(super) fn on_no_source(failure: &Failure, error: &NoSource) -> Advice {
    let uuid = error.wanted.uuid;
    let is_parent = failure.operation == "snapshot";
    let role = if is_parent { "parent" } else { "clone source" };
    let any = |wanted: Verdict| error.candidates.iter().any(|it| it.verdict == wanted);
    let likely = if error.candidates.is_empty() {
        format!("the {role} was not received here, or was made writable and lost its received UUID")
    } else {
        format!("the {role} is here, but cannot be used as it is")
    };
    let first = if any(Verdict::OutsideJail) {
        "move the source below PATH, or receive without --chroot (with --accept: with another \
         directory as `sources` in the rules)"
            .to_owned()
    } else if any(Verdict::Unreachable) || error.missing.contains(&Capability::DacReadSearch) {
        "receive with the missing capabilities, or below a mount of the top level (subvolid=5)"
            .to_owned()
    } else if any(Verdict::Writable) || any(Verdict::Unfinished) {
        format!("receive the {role} again")
    } else {
        format!(
            "receive the {role} first (on the sender, btrfs subvolume list -uR shows which it is)"
        )
    };
    let option = if is_parent {
        "--parent=PATH".to_owned()
    } else {
        format!("--clone-source={uuid}:PATH")
    };
    Advice::new(
        likely,
        format!(
            "{first}, or send a full stream; if a subvolume here has the content of the sender's \
             {role}: {option}"
        ),
    )
}

/// Returns the advice for a name that is taken.
pub(super) fn on_taken(by: Conflict) -> Option<Advice> {
    Some(match by {
        Conflict::Incomplete => Advice::new(
            "another receive is running, or an earlier one did not finish",
            "make sure that no receive is running, then delete that subvolume (btrfs subvolume \
             delete), or receive into another directory",
        ),
        Conflict::Other | Conflict::NoSubvolume => Advice::to_do(
            "move it away or delete it, or receive under another name (--name) or into another \
             directory",
        ),
        Conflict::IncompleteExtraction => Advice::to_do(
            "make sure that no extraction is running, then remove that directory (rm -r)",
        ),
        Conflict::Records => Advice::to_do("extract under another name (--name)"),
        // Nothing is to be done.
        _ => return None,
    })
}

/// Returns the advice for an earlier extraction that cannot be used.
pub(super) fn on_extraction(problem: ExtractionProblem) -> Option<Advice> {
    Some(match problem {
        ExtractionProblem::Gone => {
            Advice::to_do("move the extraction back, or extract its stream again")
        }
        ExtractionProblem::Replaced => Advice::to_do(
            "extract its stream again; or, if the directory is an unchanged copy, remove the line \
             that begins with \"born\" from the record of the extraction",
        ),
        ExtractionProblem::OtherState { wanted, .. } => Advice::to_do(format!(
            "extract the stream of that state into this directory first; or, if both are one \
             snapshot that came by way of different hosts, write \"transid {wanted}\" into the \
             record of the extraction"
        )),
        ExtractionProblem::DamagedRecord => Advice::to_do("extract its stream again"),
        _ => return None,
    })
}
