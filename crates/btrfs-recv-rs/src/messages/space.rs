//! Messages about a filesystem that is nearly full, and about space that was saved.

use sendstream_common::text::bytes;

use super::Messages;

impl Messages {
    /// Operations succeeded only after everything was written to disk.
    pub(super) fn retried_for_space(&mut self, name: &[u8], count: u64) {
        if count == 0 {
            return;
        }
        let line = self.line.text("WARNING: ").name(name);
        let operations = if count == 1 {
            "operation"
        } else {
            "operations"
        };
        line.format(format_args!(
            ": {count} {operations} found no space, and succeeded after everything was written to \
             disk; the filesystem is nearly full; the content is complete"
        ));
        line.write_stderr();
    }

    /// Zeros became holes, as asked for.
    pub(super) fn zeros_as_holes(&mut self, name: &[u8], count: u64) {
        if count == 0 || self.verbosity == 0 {
            return;
        }
        let zeros = bytes(count);
        let line = self.line.name(name);
        line.format(format_args!(": {zeros} of zeros became holes"));
        line.write_stderr();
    }
}
