//! What is in a tree, in order.

use bytes::Bytes;

use super::{Device, InodeId, InodeKind, ROOT, Timespec, Tree};

/// A name in a [`Tree`], and what is known of the file, directory or other inode that
/// has it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct TreeEntry {
    /// The path. Empty for the root.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::serial::text"))]
    pub path: Bytes,
    /// The kind of file; never unknown.
    pub kind: InodeKind,
    /// Number of names. 1 for a directory.
    pub links: u32,
    /// Size of a regular file in bytes. `None` for all else.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub size: Option<u64>,
    /// Permission bits, 0 to 0o7777. `None` if no command set them: symbolic links have
    /// none, and a sender sets them for everything else.
    #[cfg_attr(
        feature = "serde",
        serde(serialize_with = "octal", skip_serializing_if = "Option::is_none")
    )]
    pub mode: Option<u32>,
    /// User id. `None` if no command set it, which a sender always does.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub uid: Option<u64>,
    /// Group id. The same.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub gid: Option<u64>,
    /// Last change of the content. `None` if no command set it, which a sender always
    /// does.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub mtime: Option<Timespec>,
    /// Target of a symbolic link. `None` for all else.
    #[cfg_attr(
        feature = "serde",
        serde(
            serialize_with = "crate::serial::optional_text",
            skip_serializing_if = "Option::is_none"
        )
    )]
    pub target: Option<Bytes>,
    /// The kind and number of a device node. `None` for all else.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub device: Option<Device>,
}

/// `None` is skipped.
#[cfg(feature = "serde")]
fn octal<S: serde::Serializer>(mode: &Option<u32>, serializer: S) -> Result<S::Ok, S::Error> {
    crate::serial::permissions(&mode.unwrap_or_default(), serializer)
}

/// The names of a directory that are still to come.
type Names<'a> = Box<dyn Iterator<Item = (&'a [u8], InodeId)> + 'a>;

/// Goes through a tree.
pub(super) struct Walk<'a> {
    tree: &'a Tree,
    path: Vec<u8>,
    /// The directories on the way, and how much of `path` is theirs.
    open: Vec<(Names<'a>, usize)>,
    begun: bool,
}

impl<'a> Walk<'a> {
    pub(super) fn new(tree: &'a Tree) -> Self {
        Self {
            tree,
            path: Vec::new(),
            open: Vec::new(),
            begun: false,
        }
    }

    /// Returns the entry of `path`; if it is a directory, its content comes next.
    fn enter(&mut self, id: InodeId) -> TreeEntry {
        let entry = self.tree.entry(&self.path, id);
        if entry.kind == InodeKind::Directory {
            let names = Box::new(self.tree.names.names(id));
            self.open.push((names, self.path.len()));
        }
        entry
    }
}

impl Iterator for Walk<'_> {
    type Item = TreeEntry;

    fn next(&mut self) -> Option<TreeEntry> {
        if !self.begun {
            self.begun = true;
            return Some(self.enter(ROOT));
        }
        loop {
            let (names, len) = self.open.last_mut()?;
            self.path.truncate(*len);
            if let Some((name, id)) = names.next() {
                if !self.path.is_empty() {
                    self.path.push(b'/');
                }
                self.path.extend_from_slice(name);
                return Some(self.enter(id));
            }
            self.open.pop();
        }
    }
}
