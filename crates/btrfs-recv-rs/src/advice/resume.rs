//! Receives that cannot be made resumable, or cannot be resumed.

use btrfs_receive::resume::ResumeError;

use super::Advice;

/// Starts over.
const ABANDON: &str = "remove the unfinished receive with --abandon, then receive again";

/// Returns the advice for a resumable receive that failed, if there is some.
pub(crate) fn on_resume(error: &ResumeError) -> Option<Advice> {
    Some(match error {
        ResumeError::Locked { .. } => Advice::to_do("wait until it ends, or stop it"),
        ResumeError::OtherStream { .. } => Advice::to_do(
            "resume that receive with its own stream, or remove it with --abandon, or receive \
             under another name (--name)",
        ),
        ResumeError::Differs { from, .. } => Advice::new(
            "the stream was sent again with other options, or by another kernel",
            match from {
                Some(from) => format!(
                    "receive the stream again from its beginning; it resumes from byte {from}, \
                     where both are identical"
                ),
                None => "receive the stream again from its beginning; it starts over".to_owned(),
            },
        ),
        ResumeError::Newer { .. } => {
            Advice::to_do("use the version that wrote it, to resume the receive or to --abandon it")
        }
        ResumeError::Damaged { .. } => Advice::to_do(ABANDON),
        ResumeError::CheckpointChanged { .. } => {
            Advice::new("another process changed it", "receive again")
        }
        ResumeError::Changed { .. } => Advice::new(
            "another process changed it",
            "undo the change, or move the subvolume away; it is then built again",
        ),
        ResumeError::OtherFilesystem { .. } => {
            Advice::to_do("name a directory on the filesystem of the destination with --state-dir")
        }
        ResumeError::Elsewhere { .. } => {
            Advice::to_do("use another directory for the state (--state-dir)")
        }
        ResumeError::NotRenamed { .. } => {
            Advice::to_do("move away what has the name, then receive again")
        }
        ResumeError::Reserved => Advice::to_do(
            "receive under another name (--name), or keep the state in another directory \
             (--state-dir)",
        ),
        ResumeError::FolderTaken { .. } => Advice::new(
            "a subvolume of this name was received, or another program made the directory",
            "move it away, or name another directory for the state with --state-dir",
        ),
        ResumeError::NotPrivileged => Advice::new(
            "the receive is not run by root, or is run in a container",
            "receive as root outside of containers, or without --resumable",
        ),
        _ => return None,
    })
}
