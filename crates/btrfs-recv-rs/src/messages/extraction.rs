//! Metadata that extractions into plain directories lack.

use btrfs_receive::LossSummary;

use super::{Made, Messages};

impl Messages {
    /// Prints in one line what a plain directory lacks.
    pub(super) fn losses(&mut self, name: &[u8], summary: &LossSummary) {
        if summary.total() == 0 {
            return;
        }
        let line = self.line.text("WARNING: ").name(name);
        let mut separator = ": could not set ";
        for (count, what) in [
            (summary.owners, "owner"),
            (summary.modes, "mode"),
            (summary.xattrs, "extended attribute"),
            (summary.times, "times"),
            (summary.flags, "inode flags"),
            (summary.special_files, "type (special file)"),
            (summary.verity, "fs-verity"),
        ] {
            if count > 0 {
                let files = if count == 1 { "file" } else { "files" };
                line.format(format_args!("{separator}{what} of {count} {files}"));
                separator = ", ";
            }
        }
        if summary.of_parent > 0 {
            let start = if separator.starts_with(':') {
                ": "
            } else {
                "; "
            };
            let count = summary.of_parent;
            line.format(format_args!("{start}its parent lacks {count} more"));
        }
        line.text("; the content is complete");
        if self.made == (Made::Directory { listed: false }) {
            line.text(" (--extract-report=FILE lists them)");
        }
        line.write_stderr();
    }
}
