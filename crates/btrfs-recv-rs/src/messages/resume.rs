//! What a resumable receive says besides.

use btrfs_receive::SubvolumeReport;
use btrfs_receive::resume::ResumeError;

use super::Messages;

impl Messages {
    /// The beginning of the stream is only compared.
    pub(super) fn comparing(&mut self, name: &[u8], offset: u64) {
        if self.verbosity >= 1 {
            let line = self.line.text("comparing ").name(name);
            line.format(format_args!(
                ": the first {offset} bytes were received before"
            ));
            line.write_stderr();
        }
    }

    /// The file is not the one that was interrupted; it is read again.
    pub(super) fn starts_again(&mut self, error: &ResumeError) {
        if let ResumeError::Differs {
            after,
            before,
            from,
        } = error
        {
            self.warning(format_args!(
                "the stream differs from the interrupted one between bytes {after} and {before} \
                 of the subvolume: reading it again, to {}",
                from.map_or_else(
                    || "start over".to_owned(),
                    |from| format!("go on from byte {from}")
                )
            ));
        }
    }

    /// From here on the stream is applied.
    pub(super) fn resumed(&mut self, name: &[u8], offset: u64) {
        if self.verbosity >= 1 {
            let line = self.line.text("going on with ").name(name);
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

    /// An earlier receive has completed a subvolume.
    pub(super) fn present(&mut self, subvolume: &SubvolumeReport) {
        // The failure, where it is one, says so.
        if self.verbosity >= 1 && subvolume.failures == 0 {
            let line = self.line.name(subvolume.name.as_bytes());
            line.text(" is complete already").write_stderr();
        }
    }

    /// The next receive of what is incomplete goes on from this byte.
    pub(super) fn left_to_resume(&mut self, path: &[u8], checkpoint: u64) {
        let line = self.line.text("ERROR: ").name(path);
        line.text(" is incomplete; receive the same stream again with --resumable, which ");
        match checkpoint {
            0 => line.text("starts over"),
            offset => line.format(format_args!("goes on from byte {offset}")),
        };
        line.text("; or give it up with --abandon").write_stderr();
    }
}
