//! What a caller may set about checkpoints.

use std::path::PathBuf;
use std::time::Duration;

/// When to take checkpoints, and where to put them.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ResumeOptions {
    /// Take a checkpoint after so many bytes of the stream. Default 4 GiB.
    pub every_bytes: u64,
    /// Take a checkpoint after so much time, with the next command. Default 5
    /// minutes.
    pub every: Duration,
    /// Where to make the directory `btrfs-recv-rs.unfinished`: on the
    /// filesystem that is received on. Default: where subvolumes are created.
    pub directory: Option<PathBuf>,
    /// A command line or the like that says how to go on, for people:
    /// [`Progress::hint`](super::Progress::hint).
    pub hint: String,
}

impl Default for ResumeOptions {
    fn default() -> Self {
        Self {
            every_bytes: 4 << 30,
            every: Duration::from_secs(300),
            directory: None,
            hint: String::new(),
        }
    }
}
