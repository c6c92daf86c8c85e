//! Looking at model trees: entries, differences, and a listing.

use std::collections::{BTreeMap, btree_map};
use std::fmt;
use std::sync::Arc;

use btrfs_sendstream::{Bytes, StreamPath};

use super::inode::{Inode, Kind};
use super::tree::{ROOT, Tree};

/// A name in a model tree and the inode it belongs to.
#[derive(Clone, Debug)]
pub struct Entry<'t> {
    /// Where it is.
    pub path: StreamPath,
    /// The inode number: equal for all names of one inode.
    pub number: u64,
    /// The inode.
    pub inode: &'t Inode,
}

/// All names of a tree, see [`Tree::entries`].
#[derive(Clone, Debug)]
pub struct Entries<'t> {
    tree: &'t Tree,
    root: bool,
    /// Directories from the root down to the current one, with the length of
    /// the path up to each.
    open: Vec<(usize, btree_map::Iter<'t, Bytes, u64>)>,
    path: Vec<u8>,
}

/// What [`Tree::differences`] leaves out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ignored {
    /// Access and modification times.
    pub times: bool,
    /// Inode flags.
    pub attributes: bool,
}

impl Tree {
    /// Every name with its inode, each directory before what it holds, names
    /// in byte order; the root comes first.
    pub fn entries(&self) -> Entries<'_> {
        Entries {
            tree: self,
            root: true,
            open: Vec::new(),
            path: Vec::new(),
        }
    }

    /// What differs between two trees, one line of text each: names, kinds,
    /// contents, modes, owners, times, extended attributes, flags, and which
    /// names belong to one inode. Empty if nothing does.
    pub fn differences(&self, other: &Self, ignored: Ignored) -> Vec<String> {
        let by_path = |tree: &Self| -> BTreeMap<Vec<u8>, u64> {
            let entries = tree.entries();
            entries
                .map(|entry| (entry.path.as_bytes().to_vec(), entry.number))
                .collect()
        };
        let (ours, theirs) = (by_path(self), by_path(other));
        let mut lines = Vec::new();
        for path in theirs.keys().filter(|path| !ours.contains_key(*path)) {
            lines.push(format!("{}: only in the second", path.escape_ascii()));
        }
        // Names belong together in the same way if numbers match one to one.
        let mut pairs = BTreeMap::new();
        let mut backwards = BTreeMap::new();
        for (path, number) in &ours {
            let name = path.escape_ascii();
            let Some(their_number) = theirs.get(path) else {
                lines.push(format!("{name}: only in the first"));
                continue;
            };
            if pairs
                .insert(number, their_number)
                .is_some_and(|before| before != their_number)
                || backwards
                    .insert(their_number, number)
                    .is_some_and(|before| before != number)
            {
                lines.push(format!("{name}: hard links differ"));
            }
            if let (Some(a), Some(b)) = (self.inodes.get(number), other.inodes.get(their_number)) {
                let fields = differing_fields(a, b, ignored);
                lines.extend(fields.into_iter().map(|field| format!("{name}: {field}")));
            }
        }
        lines
    }
}

fn differing_fields(a: &Inode, b: &Inode, ignored: Ignored) -> Vec<String> {
    let mut fields = Vec::new();
    let mut compare = |what: &str, a: &dyn fmt::Debug, b: &dyn fmt::Debug| {
        let (a, b) = (format!("{a:?}"), format!("{b:?}"));
        if a != b {
            fields.push(format!("{what} {a}, {b}"));
        }
    };
    compare("kind", &a.kind.name(), &b.kind.name());
    compare(
        "mode",
        &format_args!("{:04o}", a.mode),
        &format_args!("{:04o}", b.mode),
    );
    compare("owner", &(a.uid, a.gid), &(b.uid, b.gid));
    compare("links", &a.links, &b.links);
    if !ignored.times {
        compare("atime", &a.atime, &b.atime);
        compare("mtime", &a.mtime, &b.mtime);
    }
    if !ignored.attributes {
        compare(
            "flags",
            &format_args!("{:#x}", a.attributes),
            &format_args!("{:#x}", b.attributes),
        );
    }
    let xattrs = |inode: &Inode| -> Vec<_> {
        inode
            .xattrs()
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    };
    compare("xattrs", &xattrs(a), &xattrs(b));
    match (&a.kind, &b.kind) {
        (Kind::File(a), Kind::File(b)) if !a.reads_like(b) => {
            fields.push(format!("content differs, sizes {}, {}", a.size(), b.size()));
        }
        (Kind::Symlink(a), Kind::Symlink(b)) => compare("target", a, b),
        (Kind::CharacterDevice(a), Kind::CharacterDevice(b))
        | (Kind::BlockDevice(a), Kind::BlockDevice(b)) => compare("device number", a, b),
        _ => {}
    }
    fields
}

impl<'t> Iterator for Entries<'t> {
    type Item = Entry<'t>;

    fn next(&mut self) -> Option<Entry<'t>> {
        if self.root {
            self.root = false;
            return self.enter(ROOT);
        }
        loop {
            let (len, names) = self.open.last_mut()?;
            self.path.truncate(*len);
            match names.next() {
                Some((name, &number)) => {
                    if !self.path.is_empty() {
                        self.path.push(b'/');
                    }
                    self.path.extend_from_slice(name);
                    return self.enter(number);
                }
                None => {
                    self.open.pop();
                }
            }
        }
    }
}

impl<'t> Entries<'t> {
    fn enter(&mut self, number: u64) -> Option<Entry<'t>> {
        let inode = self.tree.inodes.get(&number).map(Arc::as_ref)?;
        if let Kind::Directory(names) = &inode.kind {
            self.open.push((self.path.len(), names.iter()));
        }
        let path = StreamPath::parse(Bytes::copy_from_slice(&self.path)).ok()?;
        Some(Entry {
            path,
            number,
            inode,
        })
    }
}

/// A listing, one line for each name as `ls -l` has it (kind and mode, links,
/// owner, group, size or device number, time of the last change as seconds
/// since 1970, name), and one for each extended attribute.
impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for entry in self.entries() {
            let inode = entry.inode;
            let size = match &inode.kind {
                Kind::File(content) => content.size().to_string(),
                Kind::Symlink(target) => target.len().to_string(),
                Kind::CharacterDevice(number) | Kind::BlockDevice(number) => {
                    format!(
                        "{}, {}",
                        number >> 8 & 0xfff,
                        number & 0xff | number >> 12 & 0xf_ff00
                    )
                }
                _ => "0".to_owned(),
            };
            let name = match entry.path.as_bytes() {
                [] => ".".to_owned(),
                path => path.escape_ascii().to_string(),
            };
            write!(
                f,
                "{}{} {:>2} {:>5} {:>5} {size:>10} {:>11} {name}",
                kind_letter(&inode.kind),
                permissions(inode.mode),
                inode.links,
                inode.uid,
                inode.gid,
                inode.mtime.seconds,
            )?;
            if let Kind::Symlink(target) = &inode.kind {
                write!(f, " -> {}", target.escape_ascii())?;
            }
            writeln!(f)?;
            for (name, value) in inode.xattrs() {
                writeln!(
                    f,
                    "    {} = \"{}\"",
                    name.escape_ascii(),
                    value.escape_ascii()
                )?;
            }
        }
        Ok(())
    }
}

fn kind_letter(kind: &Kind) -> char {
    match kind {
        Kind::File(_) => '-',
        Kind::Directory(_) => 'd',
        Kind::Symlink(_) => 'l',
        Kind::CharacterDevice(_) => 'c',
        Kind::BlockDevice(_) => 'b',
        Kind::Fifo => 'p',
        Kind::Socket => 's',
    }
}

fn permissions(mode: u32) -> String {
    let mut text = String::with_capacity(9);
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (mode & special != 0, bits & 1 != 0) {
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    text
}
