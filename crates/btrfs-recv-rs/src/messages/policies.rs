//! Warnings about the effect of options and about doubtful sources.

use std::fmt;

use btrfs_receive::btrfs_lineage::SourceUsed;
use btrfs_receive::{Cause, Excluded, SubvolumeReport, reports_failed_writes, running_kernel};
use btrfs_sendstream::inspect::Kernel;

use super::strerror;
use super::{Line, Messages};

/// Most warnings about clone sources for one subvolume.
const MAX_WARNINGS: usize = 8;

impl Messages {
    /// Prints in one line what options excluded from a complete subvolume.
    pub(super) fn excluded(&mut self, name: &[u8], excluded: &Excluded) {
        if excluded.is_none() {
            return;
        }
        let line = self.line.text("WARNING: ").name(name);
        let mut separator = ": complete except for ";
        for (count, what, option) in [
            (excluded.xattrs, "extended attribute", "--exclude-xattr"),
            (
                excluded.file_attributes,
                "change of inode flags",
                "--no-fileattr",
            ),
            (
                excluded.unknown_commands,
                "unknown command",
                "--allow-unknown",
            ),
            (
                excluded.unknown_attributes,
                "unknown attribute of a command",
                "--allow-unknown",
            ),
            (excluded.by_filter, "change", "--accept"),
        ] {
            if count > 0 {
                let what = Counted(count, what);
                line.format(format_args!("{separator}{what} ({option})"));
                separator = ", ";
            }
        }
        line.text(", ignored as requested").write_stderr();
    }

    /// A rule dropped commands, or what it is about from commands.
    pub(crate) fn dropped(&mut self, rule: &str, commands: u64) {
        let what = Counted(commands, "command");
        self.warning(format_args!("the rule {rule} dropped or changed {what}"));
    }

    /// The parent was chosen by `--parent`.
    pub(super) fn vouched_parent(&mut self, name: &[u8], parent: &SourceUsed) {
        let line = self
            .line
            .text("WARNING: ")
            .name(name)
            .text(": its parent is ");
        source(line, parent)
            .text(", as given with --parent (not verified); if its content is not that of the ")
            .text("sender's parent, the subvolume is wrong, but marked as received")
            .write_stderr();
    }

    /// Clone sources were chosen by `--clone-source`.
    pub(super) fn vouched_sources(&mut self, subvolume: &SubvolumeReport) {
        let parent = subvolume.parent.as_ref().map(|it| it.subvolume_id);
        let vouched = subvolume
            .clone_sources
            .iter()
            .filter(|used| used.unverified && Some(used.subvolume_id) != parent);
        for used in vouched.take(MAX_WARNINGS) {
            let name = subvolume.name.as_bytes();
            let line = self
                .line
                .text("WARNING: ")
                .name(name)
                .text(": cloned from ");
            source(line, used)
                .text(", as given with --clone-source (not verified); if its content is not that ")
                .text(
                    "of the sender's clone source, the subvolume is wrong, but marked as received",
                )
                .write_stderr();
        }
    }

    /// The parent may not be what the sender's is, and was not named by the user.
    pub(crate) fn doubtful_parent(&mut self, name: &[u8], parent: &SourceUsed) {
        let Some(doubt) = doubt(parent) else {
            return;
        };
        let line = self
            .line
            .text("WARNING: ")
            .name(name)
            .text(": its parent is ");
        let line = source(line, parent);
        match doubt {
            Doubt::Writable => line
                .text(", which is writable and may have changed since it was received; if more ")
                .text("than access times changed, the subvolume is wrong, but marked as received"),
            Doubt::Changed { inode } => changed(line, inode),
        }
        .text(COMPARE)
        .write_stderr();
    }

    /// Clone sources may not be what the sender's are, and were not named by the
    /// user. The parent is not printed twice.
    pub(crate) fn doubtful_sources<'a>(
        &mut self,
        name: &[u8],
        parent: Option<&SourceUsed>,
        sources: impl IntoIterator<Item = &'a SourceUsed>,
    ) {
        let warned_of = parent.filter(|it| doubt(it).is_some());
        let warned_of = warned_of.map(|it| it.subvolume_id);
        let doubtful = sources
            .into_iter()
            .filter(|used| Some(used.subvolume_id) != warned_of)
            .filter_map(|used| Some((used, doubt(used)?)));
        for (used, doubt) in doubtful.take(MAX_WARNINGS) {
            let line = self
                .line
                .text("WARNING: ")
                .name(name)
                .text(": cloned from ");
            let line = source(line, used);
            match doubt {
                Doubt::Writable => line
                    .text(", which is writable and may have changed since it was received; if its ")
                    .text("data changed, the subvolume is wrong, but marked as received"),
                Doubt::Changed { inode } => changed(line, inode),
            }
            .text(COMPARE)
            .write_stderr();
        }
    }

    /// `--parent` was given, but no stream is incremental.
    pub(crate) fn parent_not_used(&mut self) {
        self.warning("--parent was not used: the input contains no incremental stream");
    }

    /// After subvolumes were completed on a kernel that does not say whether all
    /// data could be written.
    pub(crate) fn writes_unreported(&mut self) {
        if self.completed_any() {
            self.unreported_by(running_kernel());
        }
    }

    /// The same before a receive.
    pub(crate) fn unreported_by(&mut self, kernel: Option<Kernel>) {
        if let Some(kernel) = kernel.filter(|&it| !reports_failed_writes(Some(it))) {
            self.warning(format_args!(
                "Linux {kernel} does not report every failed write (Linux 5.8 and later do): \
                 look for I/O errors of the destination in the kernel log (dmesg) before relying \
                 on what was received"
            ));
        }
    }

    /// An incomplete subvolume could not be deleted.
    pub(super) fn not_deleted(&mut self, subvolume: &SubvolumeReport, cause: &Cause) {
        let path = self.path_of(subvolume.built_as.as_bytes());
        let line = self.line.text("ERROR: cannot delete ").name(&path);
        match cause {
            Cause::System { call, error } => {
                line.format(format_args!(": {} ({call})", strerror(error)));
                if error.raw_os_error() == Some(rustix::io::Errno::PERM.raw_os_error()) {
                    line.text(
                        "; this needs CAP_SYS_ADMIN, or the mount option user_subvol_rm_allowed",
                    );
                }
            }
            other => {
                line.text(": ").text_of(other);
            }
        }
        line.write_stderr();
    }
}

/// What to do about a doubtful source.
const COMPARE: &str = "; btrfs-lineage digest shows whether it is the same as the sender's";

/// Why a source that nobody named may hold something else than the sender's.
enum Doubt {
    Writable,
    Changed { inode: u64 },
}

fn doubt(used: &SourceUsed) -> Option<Doubt> {
    if used.unverified {
        None
    } else if used.may_have_changed {
        Some(Doubt::Writable)
    } else {
        let inode = used.changed_inode?;
        Some(Doubt::Changed { inode })
    }
}

/// Whether a source is warned of.
pub(crate) fn is_doubtful(used: &SourceUsed) -> bool {
    doubt(used).is_some()
}

fn changed(line: &mut Line, inode: u64) -> &mut Line {
    line.format(format_args!(
        ", which was made writable and changed after it was received (inode {inode}), and is \
         read-only again; unless the sender's has the same changes, the subvolume is wrong, but \
         marked as received"
    ))
}

fn source<'a>(line: &'a mut Line, used: &SourceUsed) -> &'a mut Line {
    match &used.path {
        Some(path) => line
            .name(path)
            .format(format_args!(" (subvolume {})", used.subvolume_id)),
        None => line.format(format_args!("subvolume {}", used.subvolume_id)),
    }
}

/// A number of things; the plural is made at the end of the first word, or of
/// all of them.
struct Counted(u64, &'static str);

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(count, what) = *self;
        match (count, what.split_once(" of ")) {
            (1, _) => write!(f, "1 {what}"),
            (_, Some((thing, of))) => write!(f, "{count} {thing}s of {of}"),
            (_, None) => write!(f, "{count} {what}s"),
        }
    }
}
