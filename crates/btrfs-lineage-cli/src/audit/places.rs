//! Where programs find the subvolumes: by paths in what is mounted.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use btrfs_lineage::SearchPlace;

/// Directories, and which path of the listing each has.
pub(super) struct Places(Vec<(Vec<u8>, PathBuf)>);

impl Places {
    /// For a listing that was made in `path`: of what lies beneath it, or as a search
    /// in `place` shows it.
    pub(super) fn of(path: &Path, below: bool, place: SearchPlace) -> Self {
        if below {
            return Self(vec![(Vec::new(), path.to_owned())]);
        }
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let table = fs::read("/proc/self/mountinfo").unwrap_or_default();
        Self::in_table(&table, &path, place)
    }

    fn in_table(table: &[u8], path: &Path, place: SearchPlace) -> Self {
        let mounts: Vec<Mount> = table
            .split(|&byte| byte == b'\n')
            .filter_map(Mount::parse)
            .collect();
        // Of several mounts at one place, the last is seen.
        let own = mounts
            .iter()
            .filter(|mount| path.starts_with(&mount.point))
            .max_by_key(|mount| mount.point.as_os_str().len());
        let Some(own) = own else {
            return Self(Vec::new());
        };
        if place == SearchPlace::Mount {
            return Self(vec![(Vec::new(), own.point.clone())]);
        }
        let same = mounts.iter().filter(|mount| mount.device == own.device);
        let all = [own].into_iter().chain(same);
        Self(
            all.map(|mount| (mount.root.clone(), mount.point.clone()))
                .collect(),
        )
    }

    /// A path by which programs find what the listing has at `path`; `None` if it
    /// lies outside of what is mounted.
    pub(super) fn find(&self, path: &[u8]) -> Option<PathBuf> {
        let mut found = self.0.iter().filter_map(|(root, point)| {
            let rest = path.strip_prefix(&root[..])?;
            let rest = match rest {
                [] => return Some(point.clone()),
                [b'/', rest @ ..] => rest,
                rest if root.is_empty() => rest,
                _ => return None,
            };
            Some(point.join(OsStr::from_bytes(rest)))
        });
        found.find(|path| path.symlink_metadata().is_ok())
    }
}

/// A line of `/proc/self/mountinfo`.
struct Mount {
    device: Vec<u8>,
    /// What of the filesystem is mounted, without a leading slash.
    root: Vec<u8>,
    point: PathBuf,
}

impl Mount {
    fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.split(|&byte| byte == b' ').skip(2);
        let device = fields.next()?.to_vec();
        let root = unescaped(fields.next()?);
        let point = OsString::from_vec(unescaped(fields.next()?));
        Some(Self {
            device,
            root: root.strip_prefix(b"/").unwrap_or(&root).to_vec(),
            point: point.into(),
        })
    }
}

/// The kernel writes blanks, newlines and backslashes as three octal digits.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    loop {
        rest = match rest {
            [] => return out,
            [
                b'\\',
                a @ b'0'..=b'3',
                b @ b'0'..=b'7',
                c @ b'0'..=b'7',
                after @ ..,
            ] => {
                let digits = [a, b, c].map(|digit| digit - b'0');
                out.push(digits[0] << 6 | digits[1] << 3 | digits[2]);
                after
            }
            [byte, after @ ..] => {
                out.push(*byte);
                after
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subvolumes_are_found_in_any_mount_of_the_filesystem() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path().canonicalize().unwrap();
        for path in ["home/a b", "top/other"] {
            fs::create_dir_all(at.join(path)).unwrap();
        }
        let line = |device: &str, root: &str, point: &str| {
            format!(
                "36 35 {device} {root} {} rw - btrfs /dev/sda rw\n",
                at.join(point).display()
            )
        };
        let table = [
            line("0:1", "/", ""),
            line("0:42", "/@home", "home"),
            line("0:42", "/", "top"),
        ];
        let table = table.concat();
        let find = |place: SearchPlace, path: &str| {
            let places = Places::in_table(table.as_bytes(), &at.join("home/a b"), place);
            let found = places.find(path.as_bytes())?;
            Some(found.strip_prefix(&at).unwrap().display().to_string())
        };
        let whole = SearchPlace::Filesystem;
        assert_eq!(find(whole, "@home/a b").as_deref(), Some("home/a b"));
        assert_eq!(find(whole, "@home").as_deref(), Some("home"));
        assert_eq!(find(whole, "other").as_deref(), Some("top/other"));
        assert_eq!(find(whole, "@homes"), None);
        assert_eq!(find(SearchPlace::Mount, "a b").as_deref(), Some("home/a b"));
        assert_eq!(unescaped(b"a\\040b\\134\\9"), b"a b\\\\9");
    }
}
