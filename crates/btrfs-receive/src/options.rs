//! Options of a receive.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use btrfs_sendstream::{Command, CommandBuf, Limits, SubvolumeName};

use crate::plan::Rules;
use crate::policy::XattrPattern;
use crate::report::Excluded;

/// Options of a [`Receiver`](crate::Receiver).
///
/// ```
/// use btrfs_receive::{Cancel, OnError, Options};
///
/// let cancel = Cancel::new();
/// let options = Options::new()
///     .with_on_error(OnError::Delete)
///     .with_skip_complete(true)
///     .with_cancel(cancel.clone());
/// assert_eq!(options.max_errors, 1);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Stop after this many failed operations; 0: never. Default 1.
    ///
    /// A subvolume with a failed operation is never marked as received. A
    /// malformed stream always ends the receive.
    pub max_errors: u64,
    /// Stop after the first END and leave the rest of the input unread.
    /// Default `false`: all streams in the input are received.
    pub stop_at_end: bool,
    /// Skip a subvolume that was received before and is complete
    /// ([`Conflict::Same`](crate::Conflict::Same)), instead of failing.
    /// Default `false`.
    pub skip_complete: bool,
    /// Skip unknown commands and attributes instead of refusing the stream.
    /// What is skipped is counted in the report. Default `false`.
    pub allow_unknown: bool,
    /// Create the subvolume under this name instead of the name in the stream.
    /// A second subvolume in the input is refused. Default `None`.
    pub name: Option<SubvolumeName>,
    /// What to do with an incomplete subvolume. Default: keep it.
    pub on_error: OnError,
    /// Neither set nor remove extended attributes that match one of these
    /// patterns, and count them. Default: none.
    ///
    /// The group bits in the mode of a file with an access ACL are the mask of
    /// the ACL: without `system.posix_acl_access` the group may get more access
    /// than on the sender.
    pub exclude_xattrs: Vec<XattrPattern>,
    /// Ignore inode flags (`chattr`), and count the FILEATTR commands. Default
    /// `false`.
    pub exclude_file_attributes: bool,
    /// Limits on the memory that a stream may make the decoder allocate.
    pub limits: Limits,
    /// Fusing rules of the planner; for diagnosis.
    pub rules: Rules,
    /// Stops the receive between two commands when it is set. The subvolume
    /// under construction stays writable and without received UUID.
    pub cancel: Cancel,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_errors: 1,
            stop_at_end: false,
            skip_complete: false,
            allow_unknown: false,
            name: None,
            on_error: OnError::default(),
            exclude_xattrs: Vec::new(),
            exclude_file_attributes: false,
            limits: Limits::default(),
            rules: Rules::default(),
            cancel: Cancel::default(),
        }
    }
}

macro_rules! setters {
    ($($name:ident: $field:ident, $type:ty;)*) => {$(
        #[doc = concat!("Sets [`", stringify!($field), "`](Self::", stringify!($field), ").")]
        #[must_use]
        pub fn $name(mut self, $field: $type) -> Self {
            self.$field = $field;
            self
        }
    )*};
}

impl Options {
    /// The default options.
    pub fn new() -> Self {
        Self::default()
    }

    setters! {
        with_max_errors: max_errors, u64;
        with_stop_at_end: stop_at_end, bool;
        with_skip_complete: skip_complete, bool;
        with_allow_unknown: allow_unknown, bool;
        with_on_error: on_error, OnError;
        with_exclude_xattrs: exclude_xattrs, Vec<XattrPattern>;
        with_exclude_file_attributes: exclude_file_attributes, bool;
        with_limits: limits, Limits;
        with_rules: rules, Rules;
        with_cancel: cancel, Cancel;
    }

    /// Sets [`name`](Self::name).
    #[must_use]
    pub fn with_name(mut self, name: SubvolumeName) -> Self {
        self.name = Some(name);
        self
    }
}

/// What to do with an incomplete subvolume, after a failure or a cancelled
/// receive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnError {
    /// Keep it, writable and without received UUID.
    #[default]
    Keep,
    /// Delete it, if the destination supports that. Only a subvolume that this
    /// receive created is deleted, and none that has a received UUID or is
    /// read-only.
    Delete,
}

/// A flag that stops a receive, from another thread or a signal handler.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Creates a flag that is not set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the flag as an atomic, for a signal handler for example.
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }

    /// Stops the receive before the next command.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Returns whether the flag is set.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Options {
    /// What of `command` these options leave out: all of it, or nothing.
    pub(crate) fn excludes(&self, command: &CommandBuf) -> Option<Excluded> {
        let mut excluded = Excluded::default();
        match command {
            Command::SetXattr { name, .. } | Command::RemoveXattr { name, .. }
                if self.exclude_xattrs.iter().any(|it| it.matches(name)) =>
            {
                excluded.xattrs = 1;
            }
            Command::FileAttr { .. } if self.exclude_file_attributes => {
                excluded.file_attributes = 1;
            }
            Command::Subvol { .. }
            | Command::Snapshot { .. }
            | Command::Mkfile { .. }
            | Command::Mkdir { .. }
            | Command::Mknod { .. }
            | Command::Mkfifo { .. }
            | Command::Mksock { .. }
            | Command::Symlink { .. }
            | Command::Rename { .. }
            | Command::Link { .. }
            | Command::Unlink { .. }
            | Command::Rmdir { .. }
            | Command::SetXattr { .. }
            | Command::RemoveXattr { .. }
            | Command::Write { .. }
            | Command::Clone(_)
            | Command::EncodedWrite(_)
            | Command::Truncate { .. }
            | Command::Chmod { .. }
            | Command::Chown { .. }
            | Command::Utimes { .. }
            | Command::UpdateExtent { .. }
            | Command::Fallocate { .. }
            | Command::FileAttr { .. }
            | Command::EnableVerity(_)
            | Command::End => return None,
        }
        Some(excluded)
    }
}
