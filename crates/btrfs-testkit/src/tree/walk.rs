//! Reading a tree into records.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::entry::{Content, Entry, Kind, Time};

/// Every file below a directory, by path relative to it; the directory itself
/// is the empty path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    /// The records, in order of path bytes.
    pub entries: BTreeMap<Vec<u8>, Entry>,
}

/// What to read beyond the usual.
#[derive(Clone, Copy, Debug, Default)]
pub struct Walk {
    /// Record which ranges of files hold data.
    pub layout: bool,
}

/// btrfs gives this number to the root directory of every subvolume.
const SUBVOLUME_ROOT: u64 = 256;

/// btrfs shows this number where a snapshot had a nested subvolume.
const EMPTY_SUBVOLUME: u64 = 2;

impl Tree {
    /// Reads a tree. Nested subvolumes are recorded but not entered.
    ///
    /// # Panics
    ///
    /// If something cannot be read.
    pub fn read(root: &Path) -> Self {
        Self::read_with(root, Walk::default())
    }

    /// Reads a tree, with options.
    ///
    /// # Panics
    ///
    /// If something cannot be read.
    pub fn read_with(root: &Path, walk: Walk) -> Self {
        let attempt = Walker::new(walk).run(root);
        attempt.unwrap_or_else(|error| panic!("reading {}: {error}", root.display()))
    }

    /// Looks up the record at a path.
    pub fn get(&self, path: impl AsRef<[u8]>) -> Option<&Entry> {
        self.entries.get(path.as_ref())
    }
}

struct Walker {
    options: Walk,
    entries: BTreeMap<Vec<u8>, Entry>,
    /// The paths of each inode with several names.
    links: HashMap<u64, Vec<Vec<u8>>>,
}

impl Walker {
    fn new(options: Walk) -> Self {
        Self {
            options,
            entries: BTreeMap::new(),
            links: HashMap::new(),
        }
    }

    fn run(mut self, root: &Path) -> io::Result<Tree> {
        let root = std::fs::canonicalize(root)?;
        let facts = std::fs::symlink_metadata(&root)?;
        let entry = self.record(&root, &facts, Kind::Directory)?;
        self.entries.insert(Vec::new(), entry);
        self.directory(&root, facts.dev(), b"")?;
        for paths in self.links.into_values() {
            let first = paths.iter().min().cloned().unwrap_or_default();
            for path in paths {
                if let Some(entry) = self.entries.get_mut(&path) {
                    entry.first_link.clone_from(&first);
                }
            }
        }
        Ok(Tree {
            entries: self.entries,
        })
    }

    /// Reads what is in a directory. Works by descriptor, so that trees
    /// deeper than `PATH_MAX` can be read.
    fn directory(&mut self, path: &Path, device: u64, prefix: &[u8]) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle: OwnedFd = rustix::fs::open(path, flags, Mode::empty())?;
        let here = PathBuf::from(format!("/proc/self/fd/{}", handle.as_raw_fd()));
        for item in std::fs::read_dir(&here)? {
            let name = item?.file_name();
            let mut relative = prefix.to_vec();
            if !relative.is_empty() {
                relative.push(b'/');
            }
            relative.extend_from_slice(name.as_bytes());
            let at = here.join(&name);
            let annotate = |error: io::Error| {
                let shown = relative.escape_ascii();
                io::Error::new(error.kind(), format!("{shown}: {error}"))
            };
            let facts = std::fs::symlink_metadata(&at).map_err(annotate)?;
            let kind = kind_of(&facts, device);
            let mut entry = self.record(&at, &facts, kind).map_err(annotate)?;
            entry.first_link.clone_from(&relative);
            self.entries.insert(relative.clone(), entry);
            if kind == Kind::Directory {
                self.directory(&at, device, &relative)?;
            } else if facts.nlink() > 1 {
                self.links.entry(facts.ino()).or_default().push(relative);
            }
        }
        Ok(())
    }

    fn record(&self, path: &Path, facts: &Metadata, kind: Kind) -> io::Result<Entry> {
        let mut entry = Entry {
            kind,
            mode: facts.mode() & 0o7777,
            uid: facts.uid(),
            gid: facts.gid(),
            size: facts.size(),
            atime: time(facts.atime(), facts.atime_nsec()),
            mtime: time(facts.mtime(), facts.mtime_nsec()),
            rdev: facts.rdev(),
            target: Vec::new(),
            content: Content::default(),
            layout: Vec::new(),
            xattrs: xattrs(path)?,
            flags: 0,
            links: 1,
            first_link: Vec::new(),
        };
        match kind {
            Kind::Symlink => entry.target = std::fs::read_link(path)?.into_os_string().into_vec(),
            Kind::Directory => entry.flags = flags(&File::open(path)?)?,
            Kind::File => {
                let mut file = File::open(path)?;
                entry.flags = flags(&file)?;
                let ranges = data_ranges(&mut file, facts.size())?;
                entry.content = content(&mut file, &ranges)?;
                if self.options.layout {
                    entry.layout = ranges;
                }
            }
            _ => {}
        }
        if kind != Kind::Directory {
            entry.links = facts.nlink();
        }
        Ok(entry)
    }
}

fn kind_of(facts: &Metadata, device: u64) -> Kind {
    let kind = facts.file_type();
    if kind.is_dir() {
        let nested = facts.dev() != device && facts.ino() == SUBVOLUME_ROOT;
        if nested || facts.ino() == EMPTY_SUBVOLUME {
            return Kind::Subvolume;
        }
        return Kind::Directory;
    }
    if kind.is_symlink() {
        Kind::Symlink
    } else if kind.is_fifo() {
        Kind::Fifo
    } else if kind.is_socket() {
        Kind::Socket
    } else if kind.is_char_device() {
        Kind::CharDevice
    } else if kind.is_block_device() {
        Kind::BlockDevice
    } else {
        Kind::File
    }
}

fn time(seconds: i64, nanoseconds: i64) -> Time {
    Time {
        seconds,
        nanoseconds: u32::try_from(nanoseconds).unwrap_or(u32::MAX),
    }
}

fn flags(file: &File) -> io::Result<u32> {
    match rustix::fs::ioctl_getflags(file) {
        Ok(flags) => Ok(flags.bits()),
        // A filesystem without such flags.
        Err(Errno::NOTTY | Errno::OPNOTSUPP) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

fn xattrs(path: &Path) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut names = vec![0; 1 << 16];
    let used = match rustix::fs::llistxattr(path, &mut names[..]) {
        Ok(used) => used,
        Err(Errno::OPNOTSUPP) => 0,
        Err(error) => return Err(error.into()),
    };
    let mut found = BTreeMap::new();
    for name in names[..used].split(|byte| *byte == 0) {
        if name.is_empty() {
            continue;
        }
        let mut value = vec![0; 1 << 16];
        let length = rustix::fs::lgetxattr(path, name, &mut value[..])?;
        value.truncate(length);
        found.insert(name.to_vec(), value);
    }
    Ok(found)
}

/// The ranges with data, so that a sparse file of terabytes is read quickly.
fn data_ranges(file: &mut File, size: u64) -> io::Result<Vec<(u64, u64)>> {
    use rustix::fs::{SeekFrom as From, seek};
    let mut ranges = Vec::new();
    let mut offset = 0;
    while offset < size {
        let start = match seek(&*file, From::Data(offset)) {
            Ok(start) => start,
            // Nothing but a hole up to the end.
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let end = seek(&*file, From::Hole(start))?;
        ranges.push((start, end - start));
        offset = end;
    }
    Ok(ranges)
}

fn content(file: &mut File, ranges: &[(u64, u64)]) -> io::Result<Content> {
    let mut content = Content::default();
    let mut block = vec![0; Content::BLOCK as usize];
    let mut next = 0;
    for &(start, length) in ranges {
        let first = (start / Content::BLOCK).max(next);
        next = (start + length).div_ceil(Content::BLOCK);
        file.seek(SeekFrom::Start(first * Content::BLOCK))?;
        for index in first..next {
            let filled = fill(file, &mut block)?;
            let data = &block[..filled];
            if data.iter().any(|byte| *byte != 0) {
                // Without trailing zeros, so that a block at the end of a
                // shorter file differs by the size alone.
                let used = data
                    .iter()
                    .rposition(|byte| *byte != 0)
                    .map_or(0, |at| at + 1);
                content
                    .blocks
                    .insert(index, Sha256::digest(&data[..used]).into());
            }
        }
    }
    Ok(content)
}

fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}
