//! What extractions into plain directories do not keep.

use btrfs_receive::NotKeptSummary;

use super::{Made, Messages};

impl Messages {
    /// What a plain directory could not hold, in one line.
    pub(super) fn not_kept(&mut self, name: &[u8], summary: &NotKeptSummary) {
        if summary.total() == 0 {
            return;
        }
        let line = self.line.text("WARNING: ").name(name);
        let mut separator = ": not kept of ";
        for (count, what) in [
            (summary.owners, "files the owner"),
            (summary.modes, "files the mode"),
            (summary.xattrs, "files an extended attribute"),
            (summary.times, "files the exact times"),
            (summary.flags, "files the inode flags"),
            (summary.special_files, "special files all but the name"),
            (summary.verity, "files fs-verity"),
        ] {
            if count > 0 {
                line.format(format_args!("{separator}{count} {what}"));
                separator = ", of ";
            }
        }
        if summary.of_parent > 0 {
            let start = if separator.starts_with(':') {
                ": "
            } else {
                "; "
            };
            line.text(start);
            line.format(format_args!(
                "what its parent lacks ({}) may be lacking too",
                summary.of_parent
            ));
        }
        line.text("; the content is complete");
        if self.made == (Made::Directory { listed: false }) {
            line.text(" (--extract-report FILE lists each)");
        }
        line.write_stderr();
    }
}
