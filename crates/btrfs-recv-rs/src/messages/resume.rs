//! Messages of resumable receives.

use btrfs_receive::SubvolumeReport;
use btrfs_receive::resume::ResumeError;

use super::Messages;

impl Messages {
    /// The beginning of the stream is compared, not applied.
    pub(super) fn comparing(&mut self, name: &[u8], offset: u64) {
        if self.verbosity >= 1 {
            let line = self.line.text("comparing ").name(name);
            line.format(format_args!(
                " up to byte {offset}, which was received before"
            ));
            line.write_stderr();
        }
    }

    /// The stream differs from the interrupted one, and is read again.
    pub(super) fn starts_again(&mut self, error: &ResumeError) {
        if let ResumeError::Differs {
            after,
            before,
            from,
        } = error
        {
            self.warning(format_args!(
                "the stream differs from the interrupted one between bytes {after} and {before} \
                 of the subvolume: reading it again to {}",
                from.map_or_else(
                    || "start over".to_owned(),
                    |from| format!("resume from byte {from}")
                )
            ));
        }
    }

    /// From here on the stream is applied.
    pub(super) fn resumed(&mut self, name: &[u8], offset: u64) {
        if self.verbosity >= 1 {
            let line = self.line.text("resuming ").name(name);
            line.format(format_args!(" from byte {offset}"));
            line.write_stderr();
        }
    }

    /// A checkpoint was taken.
    pub(super) fn checkpoint(&mut self, offset: u64) {
        if self.verbosity >= 2 {
            let line = self
                .line
                .format(format_args!("checkpoint at byte {offset}"));
            line.write_stderr();
        }
    }

    /// A subvolume was complete before.
    pub(super) fn present(&mut self, subvolume: &SubvolumeReport) {
        // The failure, where it is one, says so.
        if self.verbosity >= 1 && subvolume.failures == 0 {
            let line = self.line.name(subvolume.name.as_bytes());
            line.text(" is already complete").write_stderr();
        }
    }

    /// The next receive of an incomplete subvolume resumes from this byte.
    pub(super) fn left_to_resume(&mut self, path: &[u8], checkpoint: u64) {
        let line = self.line.text("ERROR: ").name(path);
        line.text(" is incomplete; receive the same stream again with --resumable to ");
        match checkpoint {
            0 => line.text("start over"),
            offset => line.format(format_args!("resume from byte {offset}")),
        };
        line.text(", or remove it with --abandon").write_stderr();
    }
}
