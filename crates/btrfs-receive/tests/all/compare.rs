//! Compares a model tree with what is on disk.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use btrfs_model::{Inode, Kind, Tree};

/// `BTRFS_INODE_*` bits and the `FS_*_FL` of the same meaning.
pub(crate) const FLAGS: [(u64, u32); 7] = [
    (1 << 1, 0x0080_0000),
    (1 << 3, 0x400),
    (1 << 5, 0x8),
    (1 << 8, 0x40),
    (1 << 9, 0x80),
    (1 << 10, 0x1_0000),
    (1 << 11, 0x4),
];

/// The first second of the model's clock, and long before today: what is
/// later was not set by a call but moved by a change.
const MOVED: i64 = 1_000_000_000;

/// What differs between the model and what is on disk.
pub(crate) fn differences(model: &Tree, disk: &Path) -> Vec<String> {
    let found = btrfs_testkit::Tree::read(disk);
    let mut lines = Vec::new();
    let mut first_names = BTreeMap::new();
    let mut names = 0;
    for entry in model.entries() {
        names += 1;
        let path = entry.path.as_bytes();
        let first = first_names.entry(entry.number).or_insert(path.to_vec());
        let Some(on_disk) = found.get(path) else {
            lines.push(format!("{:?}: not on disk", entry.path));
            continue;
        };
        let (ours, theirs) = (of_model(entry.inode, first), of_disk(on_disk));
        for ((field, ours), (_, theirs)) in ours.iter().zip(&theirs) {
            if ours != theirs {
                lines.push(format!(
                    "{:?}: {field} is {ours}, on disk {theirs}",
                    entry.path
                ));
            }
        }
        let (ours, theirs) = (entry.inode.mtime(), on_disk.mtime.seconds);
        if ours.seconds.min(theirs) < MOVED && ours.seconds != theirs {
            lines.push(format!(
                "{:?}: mtime {}, on disk {theirs}",
                entry.path, ours.seconds
            ));
        }
        if let Some(content) = entry.inode.content() {
            let mut expected = vec![0; usize::try_from(content.size()).unwrap()];
            content.read_at(0, &mut expected);
            let content = std::fs::read(disk.join(OsStr::from_bytes(path))).unwrap();
            if content != expected {
                lines.push(format!("{:?}: content differs", entry.path));
            }
        }
    }
    if names != found.entries.len() {
        lines.push(format!("{names} names, on disk {}", found.entries.len()));
    }
    lines
}

type Fields = Vec<(&'static str, String)>;

fn of_model(inode: &Inode, first_name: &[u8]) -> Fields {
    let (size, rdev) = match inode.kind() {
        Kind::File(content) => (content.size(), 0),
        Kind::Symlink(target) => (target.len() as u64, 0),
        Kind::CharacterDevice(number) | Kind::BlockDevice(number) => (0, u64::from(*number)),
        _ => (0, 0),
    };
    // Other kinds of inode inherit flags too, but nothing shows them.
    let shown = matches!(inode.kind(), Kind::File(_) | Kind::Directory(_));
    let flags = FLAGS
        .iter()
        .filter(|(bit, _)| shown && inode.attributes() & bit != 0);
    let is_directory = matches!(inode.kind(), Kind::Directory(_));
    let links = if is_directory {
        1
    } else {
        inode.links().into()
    };
    let xattrs: BTreeMap<_, _> = inode
        .xattrs()
        .map(|(name, value)| (name.to_vec(), value.to_vec()))
        .collect();
    fields(
        inode.kind().name(),
        (inode.mode(), inode.uid(), inode.gid()),
        (if is_directory { 0 } else { size }, rdev, links),
        (&xattrs, flags.fold(0, |all, (_, flag)| all | flag)),
        first_name,
    )
}

fn of_disk(entry: &btrfs_testkit::Entry) -> Fields {
    let kind = match entry.kind {
        btrfs_testkit::Kind::File => "regular file",
        btrfs_testkit::Kind::Directory => "directory",
        btrfs_testkit::Kind::Symlink => "symbolic link",
        btrfs_testkit::Kind::Fifo => "FIFO",
        btrfs_testkit::Kind::Socket => "socket",
        btrfs_testkit::Kind::CharDevice => "character device",
        btrfs_testkit::Kind::BlockDevice => "block device",
        btrfs_testkit::Kind::Subvolume => "subvolume",
    };
    let size = if kind == "directory" { 0 } else { entry.size };
    fields(
        kind,
        (entry.mode, entry.uid, entry.gid),
        (size, entry.rdev, entry.links),
        (&entry.xattrs, entry.flags),
        &entry.first_link,
    )
}

fn fields(
    kind: &str,
    (mode, uid, gid): (u32, u32, u32),
    (size, rdev, links): (u64, u64, u64),
    (xattrs, flags): (&BTreeMap<Vec<u8>, Vec<u8>>, u32),
    first_name: &[u8],
) -> Fields {
    vec![
        ("kind", kind.to_owned()),
        ("mode", format!("{mode:04o}")),
        ("owner", format!("{uid}:{gid}")),
        ("size", size.to_string()),
        ("device number", format!("{rdev:#x}")),
        ("links", links.to_string()),
        ("xattrs", format!("{xattrs:02x?}")),
        ("flags", format!("{flags:#x}")),
        ("first name", first_name.escape_ascii().to_string()),
    ]
}
