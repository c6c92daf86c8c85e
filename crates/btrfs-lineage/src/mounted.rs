//! Where a subvolume can be reached by a path.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};
use uuid::Uuid;

use super::mount::is_subvolume_root;
use btrfs_ioctl as sys;

/// The btrfs filesystems that are mounted in the mount namespace of this process.
#[derive(Clone, Debug)]
pub struct Mounts(Vec<Mount>);

/// A line of `/proc/self/mountinfo`.
#[derive(Clone, Debug)]
struct Mount {
    device: Vec<u8>,
    /// What of the filesystem is mounted, without a leading slash.
    root: Vec<u8>,
    point: PathBuf,
}

impl Mounts {
    /// Reads `/proc/self/mountinfo`.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read() -> io::Result<Self> {
        fs::read("/proc/self/mountinfo").map(|table| Self::parse(&table))
    }

    fn parse(table: &[u8]) -> Self {
        let lines = table.split(|&byte| byte == b'\n');
        Self(lines.filter_map(Mount::parse).collect())
    }

    /// Returns a path by which programs can open the subvolume `id` of `filesystem`.
    /// `path` is its path from the top level of the filesystem, such as
    /// [`Subvolume::path`](super::Subvolume) with
    /// [`PathsFrom::Top`](super::PathsFrom). Among several mounts the one whose path
    /// has the most in common with `near` is taken.
    ///
    /// `None` if it lies outside of everything that is mounted, or something is
    /// mounted over it.
    pub fn subvolume(
        &self,
        filesystem: Uuid,
        id: u64,
        path: &[u8],
        near: &Path,
    ) -> Option<PathBuf> {
        let mut found: Vec<_> = self.0.iter().filter_map(|it| it.find(path)).collect();
        let common = |path: &Path| {
            let pairs = path.components().zip(near.components());
            pairs.take_while(|(one, other)| one == other).count()
        };
        found.sort_by_key(|path| (std::cmp::Reverse(common(path)), path.as_os_str().len()));
        found.into_iter().find(|it| leads_to(it, filesystem, id))
    }

    /// Returns a path of whatever has this `path` from the top level of the
    /// filesystem that `at` lies on; `None` if it lies outside of what is mounted.
    /// `at` has no symbolic links in it.
    pub fn entry(&self, path: &[u8], at: &Path) -> Option<PathBuf> {
        let own = self.around(at)?;
        let same = self.0.iter().filter(|mount| mount.device == own.device);
        let mut found = [own].into_iter().chain(same).filter_map(|it| it.find(path));
        found.find(|path| path.symlink_metadata().is_ok())
    }

    /// Returns the mount point that `at` lies beneath, which has no symbolic links in
    /// it.
    pub fn point(&self, at: &Path) -> Option<&Path> {
        self.around(at).map(|mount| &*mount.point)
    }

    /// Of several mounts at one place, the last is seen.
    fn around(&self, at: &Path) -> Option<&Mount> {
        let around = self.0.iter().filter(|mount| at.starts_with(&mount.point));
        around.max_by_key(|mount| mount.point.as_os_str().len())
    }
}

impl Mount {
    /// `None` if it is a mount of another filesystem.
    fn parse(line: &[u8]) -> Option<Self> {
        let fields: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
        let separator = fields.iter().position(|field| *field == b"-")?;
        let root = unescaped(fields.get(3)?);
        let mount = Self {
            device: fields.get(2)?.to_vec(),
            root: root.strip_prefix(b"/").unwrap_or(&root).to_vec(),
            point: OsString::from_vec(unescaped(fields.get(4)?)).into(),
        };
        (fields.get(separator + 1)? == b"btrfs").then_some(mount)
    }

    /// Where what lies at `path` in the filesystem is, if the mount reaches as far.
    fn find(&self, path: &[u8]) -> Option<PathBuf> {
        let below = path.strip_prefix(&self.root[..])?;
        let below = match below {
            [] => return Some(self.point.clone()),
            [b'/', below @ ..] => below,
            below if self.root.is_empty() => below,
            _ => return None,
        };
        Some(self.point.join(OsStr::from_bytes(below)))
    }
}

/// The kernel writes blanks, newlines and backslashes as three octal digits.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        let code = (byte == b'\\').then(|| after.first_chunk::<3>()).flatten();
        let code = code.and_then(|digits| {
            let text = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(text, 8).ok()
        });
        out.push(code.unwrap_or(byte));
        let skip = if code.is_some() { 3 } else { 0 };
        rest = after.get(skip..).unwrap_or_default();
    }
    out
}

fn leads_to(path: &Path, filesystem: Uuid, id: u64) -> bool {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(fd) = openat(CWD, path, flags, Mode::empty()) else {
        return false;
    };
    sys::containing_subvolume(&fd) == Ok(id)
        && is_subvolume_root(&fd) == Ok(true)
        && sys::fs_info(&fd).is_ok_and(|info| info.fsid == filesystem)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: &str, path: &str) -> Option<String> {
        let path = Mount::parse(line.as_bytes())?.find(path.as_bytes())?;
        Some(path.to_str().unwrap().to_owned())
    }

    #[test]
    fn a_mount_shows_what_lies_beneath_its_root() {
        let line = |root: &str, point: &str| {
            format!("36 35 0:42 {root} {point} rw,noatime shared:1 - btrfs /dev/sda1 rw,subvolid=5")
        };
        let top = line("/", "/mnt/pool");
        assert_eq!(at(&top, "@home").as_deref(), Some("/mnt/pool/@home"));
        assert_eq!(at(&top, "a/b").as_deref(), Some("/mnt/pool/a/b"));
        assert_eq!(at(&top, "").as_deref(), Some("/mnt/pool"));
        let home = line("/@home", "/home");
        assert_eq!(at(&home, "@home").as_deref(), Some("/home"));
        assert_eq!(at(&home, "@home/snap").as_deref(), Some("/home/snap"));
        assert_eq!(at(&home, "@home2"), None);
        assert_eq!(at(&home, "@"), None);
        let blank = line("/with\\040blank", "/a\\011b\\134");
        assert_eq!(at(&blank, "with blank/x").as_deref(), Some("/a\tb\\/x"));
        let other = "36 35 8:1 / /boot rw - ext4 /dev/sda2 rw";
        assert_eq!(at(other, "@home"), None);
        assert_eq!(at("", "@home"), None);
    }

    #[test]
    fn entries_are_found_in_any_mount_of_the_filesystem() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path().canonicalize().unwrap();
        for path in ["home/a b", "top/other"] {
            fs::create_dir_all(at.join(path)).unwrap();
        }
        let line = |device: &str, root: &str, point: &str| {
            let point = at.join(point);
            format!(
                "36 35 {device} {root} {} rw - btrfs /dev/sda rw\n",
                point.display()
            )
        };
        let table = [
            line("0:1", "/", ""),
            line("0:42", "/@home", "home"),
            line("0:42", "/", "top"),
        ];
        let mounts = Mounts::parse(table.concat().as_bytes());
        let inside = at.join("home/a b");
        let find = |path: &str| {
            let found = mounts.entry(path.as_bytes(), &inside)?;
            Some(found.strip_prefix(&at).unwrap().display().to_string())
        };
        assert_eq!(find("@home/a b").as_deref(), Some("home/a b"));
        assert_eq!(find("@home").as_deref(), Some("home"));
        assert_eq!(find("other").as_deref(), Some("top/other"));
        assert_eq!(find("@homes"), None);
        assert_eq!(mounts.point(&inside), Some(&*at.join("home")));
    }
}
