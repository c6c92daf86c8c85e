//! Where a subvolume can be reached by a path.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};
use uuid::Uuid;

use super::mount::is_subvolume_root;
use btrfs_ioctl as sys;

/// A path by which programs can open the subvolume `id` of `filesystem`, through
/// whatever is mounted in the mount namespace of this process. `path` is its path
/// from the top level of the filesystem, such as
/// [`Subvolume::path`](super::Subvolume) with
/// [`PathsFrom::Top`](super::PathsFrom). Among several mounts the one whose path
/// has the most in common with `near` is taken.
///
/// `None` if it lies outside of everything that is mounted, or something is
/// mounted over it.
///
/// # Errors
/// `/proc/self/mountinfo` cannot be read.
pub fn mounted_path(
    filesystem: Uuid,
    id: u64,
    path: &[u8],
    near: &Path,
) -> io::Result<Option<PathBuf>> {
    let table = fs::read("/proc/self/mountinfo")?;
    let lines = table.split(|&byte| byte == b'\n');
    let mut found: Vec<PathBuf> = lines.filter_map(|line| path_in(line, path)).collect();
    let common = |path: &Path| {
        let pairs = path.components().zip(near.components());
        pairs.take_while(|(one, other)| one == other).count()
    };
    found.sort_by_key(|path| (std::cmp::Reverse(common(path)), path.as_os_str().len()));
    Ok(found.into_iter().find(|it| leads_to(it, filesystem, id)))
}

/// Where a line of mountinfo has what lies at `path` in the filesystem, if it is
/// the line of a btrfs that reaches as far.
fn path_in(line: &[u8], path: &[u8]) -> Option<PathBuf> {
    let fields: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
    let separator = fields.iter().position(|field| *field == b"-")?;
    if fields.get(separator + 1)? != b"btrfs" {
        return None;
    }
    let root = unescaped(fields.get(3)?);
    let point = PathBuf::from(OsString::from_vec(unescaped(fields.get(4)?)));
    let root = root.strip_prefix(b"/").unwrap_or(&root);
    let below = path.strip_prefix(root)?;
    let below = match below.first() {
        None => return Some(point),
        Some(b'/') => below.get(1..)?,
        Some(_) if root.is_empty() => below,
        Some(_) => return None,
    };
    Some(point.join(std::ffi::OsStr::from_bytes(below)))
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
        let path = path_in(line.as_bytes(), path.as_bytes())?;
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
}
