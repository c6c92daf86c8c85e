//! The options that select what is extracted.

use std::ffi::OsString;
use std::path::PathBuf;

use btrfs_sendstream::StreamPath;
use sendstream_common::files::user_path;

use super::UsageError;
use super::id::Id;
use super::option::{Hint, Mode, Opt};

const ONLY: &str = "--only";

/// `--only`.
pub(super) const ONLY_OPTION: Opt = Opt::new(
    Id::Only,
    "only",
    "with --extract, extract only PATH and what is below it, from the streams of one \
     subvolume; may be repeated",
)
.value("PATH", Hint::Nothing)
.modes(&[Mode::Extract])
.manual(
    "With `--extract`, extract only <PATH>, a path in the subvolume, and everything below it, \
     and create the directories that lead to it. May be repeated. The streams are those of `-f` \
     and `--chain`: the full stream of the subvolume and the incremental streams after it, in any \
     order; streams of other subvolumes are ignored. The result is the state at the end of them; \
     nothing has to be extracted before. All streams are read and checked first, and those that \
     contain data of <PATH> are read a second time, so that each must be in a regular file.\n\
     A file that has several names gets those that are selected. Data that was cloned comes from \
     the streams of this subvolume and its parents, and is not shared in <DIR>. The result has \
     no record in <DIR>`/.btrfs-extract`, because it cannot be a parent: it is incomplete.\n\
     For each name in one of the subvolumes, uses less than 2 KiB of memory (for a directory 4 \
     KiB), and 256 bytes for each extent that is selected; at most 16 GiB. The temporary \
     directory (see `TMPDIR`) needs 48 bytes for each command in the streams.",
);

/// `--subvolume`.
pub(super) const SUBVOLUME_OPTION: Opt = Opt::new(
    Id::Subvolume,
    "subvolume",
    "with --only, the subvolume to extract from, if the streams contain several",
)
.value("NAME|UUID", Hint::Nothing)
.modes(&[Mode::Extract])
.manual(
    "With `--only`, the name or UUID of the subvolume to extract from. By default, the one that \
     is not the parent of another in the streams.",
);

/// What to extract of stored streams.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Only {
    /// Files and directories of stored streams.
    pub(crate) sources: Vec<PathBuf>,
    /// The paths in the subvolume.
    pub(crate) paths: Vec<StreamPath>,
    /// The name or UUID of the subvolume.
    pub(crate) subvolume: Option<OsString>,
}

impl Only {
    /// Takes the value of `--only`.
    pub(super) fn add(&mut self, value: OsString) -> Result<(), UsageError> {
        // Of a variable that is not set, not everything.
        if value.is_empty() {
            let option = ONLY;
            return Err(UsageError::Value { option, value });
        }
        let path = user_path(&value).map_err(|error| UsageError::unusable(ONLY, value, error))?;
        self.paths.push(path);
        Ok(())
    }

    /// Whether the options go together with others.
    pub(super) fn check(
        &self,
        mode: Mode,
        has_input: bool,
        stop_at_end: bool,
        has_buffer: bool,
    ) -> Result<(), UsageError> {
        if self.paths.is_empty() {
            return match self.subvolume {
                Some(_) => Err(UsageError::Needs("--subvolume", ONLY)),
                None => Ok(()),
            };
        }
        if mode == Mode::Extract && !has_input {
            return Err(UsageError::Needs(ONLY, "-f or --chain"));
        }
        if stop_at_end {
            return Err(UsageError::Together(ONLY, "-e"));
        }
        if has_buffer {
            return Err(UsageError::Together(ONLY, "--buffer"));
        }
        Ok(())
    }
}
