//! What these tests share: filesystems to extract onto, and the comparison
//! with what was sent.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use btrfs_receive::{DirectoryDestination, Loss, LossKind, ReceiveError, Receiver, Report};
use btrfs_testkit::{Compared, Difference, LoopFilesystem, Mount, Tree, compare, scratch_dir};
use rustix::process::{Gid, Uid};
use tempfile::TempDir;

/// The user and group that ordinary users are here.
pub(crate) const USER: u32 = 65_534;

/// A kind of filesystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Btrfs,
    Ext4,
    Tmpfs,
    /// Of two filesystems, as the root of a live system is.
    Overlay,
}

/// An empty filesystem to extract onto.
pub(crate) enum Ground {
    Btrfs(LoopFilesystem),
    Ext4(Ext4),
    Tmpfs(Mount),
    Overlay(Overlay),
}

impl Ground {
    /// `None` where the tools for it are missing.
    pub(crate) fn new(kind: Kind) -> Option<Self> {
        Some(match kind {
            Kind::Btrfs => Self::Btrfs(LoopFilesystem::new()),
            Kind::Tmpfs => Self::Tmpfs(Mount::tmpfs(1 << 30)),
            Kind::Ext4 => Self::Ext4(Ext4::new()?),
            Kind::Overlay => Self::Overlay(Overlay::new()),
        })
    }

    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Btrfs(filesystem) => filesystem.path(),
            Self::Ext4(filesystem) => filesystem.0.path(),
            Self::Tmpfs(mount) => mount.path(),
            Self::Overlay(overlay) => overlay.mount.path(),
        }
    }

    /// A new directory for everybody.
    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir(&path).unwrap();
        std::os::unix::fs::chown(&path, Some(USER), Some(USER)).unwrap();
        path
    }
}

/// Dropped in this order.
pub(crate) struct Overlay {
    mount: Mount,
    _upper: Mount,
    _lower: TempDir,
}

impl Overlay {
    fn new() -> Self {
        let lower = TempDir::new_in(std::env::temp_dir()).unwrap();
        let upper = Mount::tmpfs(1 << 30);
        Self {
            mount: Mount::overlay(lower.path(), upper.path()),
            _upper: upper,
            _lower: lower,
        }
    }
}

/// An ext4 in an image file, unmounted when dropped.
pub(crate) struct Ext4(TempDir);

impl Ext4 {
    fn new() -> Option<Self> {
        let image = tempfile::NamedTempFile::new_in(scratch_dir()).unwrap();
        image.as_file().set_len(1 << 30).unwrap();
        let made = Command::new("mkfs.ext4")
            .args(["-q", "-F"])
            .arg(image.path())
            .status();
        if !made.is_ok_and(|status| status.success()) {
            eprintln!("left out: no mkfs.ext4");
            return None;
        }
        let point = TempDir::new_in(scratch_dir()).unwrap();
        let mounted = Command::new("mount")
            .args(["-o", "loop"])
            .args([image.path(), point.path()])
            .status();
        assert!(mounted.unwrap().success());
        // The loop device keeps the image.
        Some(Self(point))
    }
}

impl Drop for Ext4 {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

/// A finished extraction of one stream.
pub(crate) struct Extracted {
    pub(crate) report: Report,
    /// Everything that was left out.
    pub(crate) losses: Vec<Loss>,
}

/// Extracts one stream.
pub(crate) fn try_extract(stream: &[u8], into: &Path) -> Result<Extracted, Box<ReceiveError>> {
    let list = Arc::new(Mutex::new(Vec::new()));
    let theirs = Arc::clone(&list);
    let destination = DirectoryDestination::builder()
        .losses(move |losses| {
            theirs.lock().unwrap().push(losses.clone());
            Ok(())
        })
        .open(into)
        .unwrap();
    let report = Receiver::new(destination).receive(stream, &mut ())?;
    let losses = std::mem::take(&mut *list.lock().unwrap());
    Ok(Extracted { report, losses })
}

/// Extracts one stream that has to succeed.
#[track_caller]
pub(crate) fn extract(stream: &[u8], into: &Path) -> Extracted {
    try_extract(stream, into).unwrap_or_else(|error| panic!("{error}"))
}

/// Asserts that an extraction is what was sent, but for what is listed as
/// left out, and that nothing is listed that is there.
#[track_caller]
pub(crate) fn assert_extracted(sent: &Path, found: &Path, losses: &[Loss]) {
    let (expected, there) = (Tree::read(sent), Tree::read(found));
    let differences = compare(&expected, &there, &Compared::default());
    // Files are listed by one of their names.
    let first = |path: &[u8]| {
        there
            .get(path)
            .map_or(path.to_vec(), |e| e.first_link.clone())
    };
    let listed: BTreeSet<_> = losses.iter().flat_map(fields).collect();
    let listed: BTreeSet<_> = listed.into_iter().map(|(p, f)| (first(&p), f)).collect();
    let unlisted: Vec<Difference> = differences
        .iter()
        .filter(|difference| {
            let special = (first(&difference.path), "type".to_owned());
            let field = (first(&difference.path), difference.field.clone());
            !listed.contains(&field) && !listed.contains(&special)
        })
        .cloned()
        .collect();
    let unlisted_text = Difference::list(&unlisted);
    assert!(unlisted.is_empty(), "not listed:\n{unlisted_text}");
    let differing: BTreeSet<_> = differences
        .into_iter()
        .map(|difference| (difference.path, difference.field))
        .collect();
    for item in losses {
        let mut fields = fields(item).into_iter();
        // Flags are not compared; both ids may not differ.
        let special = (item.path.to_vec(), "type".to_owned());
        let differs = differing.contains(&special) || fields.any(|f| differing.contains(&f));
        let flags = matches!(item.what, LossKind::Flags { .. });
        assert!(differs || flags, "listed, and there: {item:?}");
    }
}

/// Asserts that an extraction holds the names and the data that were sent.
#[track_caller]
pub(crate) fn assert_same_content(sent: &Path, found: &Path) {
    let (expected, there) = (Tree::read(sent), Tree::read(found));
    let mut differences = compare(&expected, &there, &Compared::default());
    differences.retain(|difference| {
        let content = [
            "missing",
            "extra",
            "size",
            "target",
            "links",
            "hard link to",
        ];
        content.contains(&&difference.field[..]) || difference.field.starts_with("content")
    });
    assert!(differences.is_empty(), "{}", Difference::list(&differences));
}

/// What differs because of what was left out.
fn fields(losses: &Loss) -> Vec<(Vec<u8>, String)> {
    let fields = match &losses.what {
        LossKind::Owner { .. } => vec!["uid".to_owned(), "gid".to_owned()],
        LossKind::Mode { .. } => vec!["mode".to_owned()],
        LossKind::Xattr { name } => vec![format!("xattr {}", name.escape_ascii())],
        LossKind::Times => vec!["mtime".to_owned()],
        LossKind::SpecialFile { .. } => vec!["type".to_owned()],
        LossKind::Flags { .. } => vec!["flags".to_owned()],
        other => panic!("{other:?}"),
    };
    let path = losses.path.to_vec();
    fields.into_iter().map(|f| (path.clone(), f)).collect()
}

/// Runs `action` on a thread that belongs to an ordinary user.
pub(crate) fn as_user<T: Send>(action: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let (uid, gid) = (Uid::from_raw(USER), Gid::from_raw(USER));
            rustix::thread::set_thread_groups(&[]).unwrap();
            rustix::thread::set_thread_res_gid(gid, gid, gid).unwrap();
            rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
            action()
        });
        thread.join().unwrap()
    })
}

/// The names in a directory, records aside.
pub(crate) fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name != ".btrfs-extract").collect();
    names.sort();
    names
}

/// The records of complete extractions in a directory.
pub(crate) fn records(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory.join(".btrfs-extract")) else {
        return Vec::new();
    };
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// Blocks that a tree takes on disk, in units of 512 bytes.
pub(crate) fn blocks(path: &Path) -> u64 {
    let meta = std::fs::symlink_metadata(path).unwrap();
    let below = match meta.is_dir() {
        true => std::fs::read_dir(path).unwrap().collect(),
        false => Vec::new(),
    };
    let below = below
        .into_iter()
        .map(|entry| blocks(&entry.unwrap().path()));
    meta.blocks() + below.sum::<u64>()
}
