//! Messages about the writable snapshot of a received subvolume.

use btrfs_lineage::writable::Taken;
use btrfs_sendstream::SubvolumeName;
use serde::Serialize;
use uuid::Uuid;

use super::Messages;

#[derive(Serialize)]
struct Writable<'a> {
    name: &'a SubvolumeName,
    of: &'a SubvolumeName,
    subvolume_id: u64,
    uuid: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    replaced: Option<Replaced<'a>>,
}

#[derive(Serialize)]
struct Replaced<'a> {
    subvolume_id: u64,
    uuid: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a SubvolumeName>,
}

impl Messages {
    /// A writable snapshot `name` of the received subvolume `of` is on disk.
    pub(crate) fn writable(&mut self, of: &SubvolumeName, name: &SubvolumeName, taken: &Taken) {
        let replaced = taken.replaced.as_ref();
        self.emit(
            "writable",
            Writable {
                name,
                of,
                subvolume_id: taken.subvolume_id,
                uuid: taken.uuid,
                replaced: replaced.map(|old| Replaced {
                    subvolume_id: old.subvolume_id,
                    uuid: old.uuid,
                    name: old.name.as_ref(),
                }),
            },
        );
        if self.verbosity == 0 {
            return;
        }
        let line = self.line.name(name.as_bytes());
        line.text(" is a writable snapshot of ").name(of.as_bytes());
        match replaced.map(|old| &old.name) {
            Some(Some(old)) => _ = line.text("; the old one is ").name(old.as_bytes()),
            Some(None) => _ = line.text("; the old one was deleted"),
            None => {}
        }
        line.write_stderr();
    }
}
