//! Comparing two trees field by field.

use std::fmt;
use std::path::Path;

use super::entry::{Content, Entry, Kind};
use super::walk::{Tree, Walk};

/// Which fields are compared.
///
/// The default is what a stream carries and a receiver must keep. Left out:
/// access times (a reader moves them), layout (a clone or a zero write may be
/// kept otherwise) and inode flags (kernels send none for new files, and set
/// `NOCOMP` themselves). Sizes of directories, inode numbers, ctime and otime
/// are never compared; nested subvolumes are not in a stream and are skipped.
#[derive(Clone, Debug)]
pub struct Compared {
    /// Compare access times. Meaningful between read-only subvolumes.
    pub atime: bool,
    /// Compare the times of the root directory.
    pub root_times: bool,
    /// Compare which ranges hold data; both trees must have them recorded.
    pub layout: bool,
    /// Compare these bits of the inode flags.
    pub flags: u32,
    /// Leave out xattrs whose name begins with one of these.
    pub without_xattrs: Vec<Vec<u8>>,
}

/// One field that is not the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Where, relative to the roots.
    pub path: Vec<u8>,
    /// Which field: `mode`, `content`, `xattr user.a`, …; `missing` or `extra`
    /// for whole entries.
    pub field: String,
    /// What it is on the left, and on the right.
    pub values: (String, String),
}

impl Default for Compared {
    fn default() -> Self {
        Self {
            atime: false,
            root_times: true,
            layout: false,
            flags: 0,
            without_xattrs: Vec::new(),
        }
    }
}

/// Compares two trees; the first is what is expected.
pub fn compare(expected: &Tree, found: &Tree, compared: &Compared) -> Vec<Difference> {
    let mut differences = Vec::new();
    for (path, entry) in &expected.entries {
        if entry.kind == Kind::Subvolume {
            continue;
        }
        match found.entries.get(path) {
            Some(other) => Pair {
                path,
                compared,
                differences: &mut differences,
            }
            .compare(entry, other),
            None => differences.push(whole(path, "missing", entry)),
        }
    }
    for (path, entry) in &found.entries {
        if entry.kind != Kind::Subvolume && !expected.entries.contains_key(path) {
            differences.push(whole(path, "extra", entry));
        }
    }
    differences
}

/// Reads two trees and panics with a list unless they are the same.
///
/// # Panics
///
/// If they differ, or one cannot be read.
pub fn assert_same_tree(expected: &Path, found: &Path) {
    assert_same_tree_in(expected, found, &Compared::default());
}

/// Like [`assert_same_tree`], with a choice of fields.
///
/// # Panics
///
/// If they differ, or one cannot be read.
pub fn assert_same_tree_in(expected: &Path, found: &Path, compared: &Compared) {
    let walk = Walk {
        layout: compared.layout,
    };
    let (left, right) = (
        Tree::read_with(expected, walk),
        Tree::read_with(found, walk),
    );
    let differences = compare(&left, &right, compared);
    assert!(
        differences.is_empty(),
        "{} (expected) and {} (found) differ:\n{}",
        expected.display(),
        found.display(),
        Difference::list(&differences),
    );
}

impl Difference {
    /// The differences, a line each, cut off after forty.
    pub fn list(differences: &[Self]) -> String {
        const SHOWN: usize = 40;
        let mut lines: Vec<String> = differences
            .iter()
            .take(SHOWN)
            .map(Self::to_string)
            .collect();
        if let Some(more) = differences
            .len()
            .checked_sub(SHOWN)
            .filter(|more| *more > 0)
        {
            lines.push(format!("and {more} more"));
        }
        lines.join("\n")
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            path,
            field,
            values,
        } = self;
        let path = if path.is_empty() {
            b"."
        } else {
            path.as_slice()
        };
        let (expected, found) = values;
        write!(
            f,
            "{}: {field}: expected {expected}, found {found}",
            path.escape_ascii()
        )
    }
}

fn whole(path: &[u8], field: &str, entry: &Entry) -> Difference {
    let there = format!("{:?}", entry.kind);
    let nothing = "nothing".to_owned();
    Difference {
        path: path.to_vec(),
        field: field.to_owned(),
        values: if field == "missing" {
            (there, nothing)
        } else {
            (nothing, there)
        },
    }
}

/// The comparison of the two records at one path.
struct Pair<'a> {
    path: &'a [u8],
    compared: &'a Compared,
    differences: &'a mut Vec<Difference>,
}

impl Pair<'_> {
    fn compare(mut self, a: &Entry, b: &Entry) {
        if a.kind != b.kind {
            // Nothing else can be expected to agree.
            self.note("type", format!("{:?}", a.kind), format!("{:?}", b.kind));
            return;
        }
        self.numbers(a, b);
        self.times(a, b);
        if a.target != b.target {
            self.note("target", escaped(&a.target), escaped(&b.target));
        }
        self.content(&a.content, &b.content);
        if self.compared.layout && a.layout != b.layout {
            self.note(
                "layout",
                format!("{:?}", a.layout),
                format!("{:?}", b.layout),
            );
        }
        self.xattrs(a, b);
        if a.links != b.links {
            self.note("links", a.links.to_string(), b.links.to_string());
        }
        if a.first_link != b.first_link {
            self.note(
                "hard link to",
                escaped(&a.first_link),
                escaped(&b.first_link),
            );
        }
    }

    fn numbers(&mut self, a: &Entry, b: &Entry) {
        if a.mode != b.mode {
            self.note("mode", format!("{:04o}", a.mode), format!("{:04o}", b.mode));
        }
        if a.kind != Kind::Directory && a.size != b.size {
            self.note("size", a.size.to_string(), b.size.to_string());
        }
        let flags = (a.flags & self.compared.flags, b.flags & self.compared.flags);
        if flags.0 != flags.1 {
            self.note(
                "flags",
                format!("{:#x}", flags.0),
                format!("{:#x}", flags.1),
            );
        }
        for (field, a, b) in [
            ("uid", u64::from(a.uid), u64::from(b.uid)),
            ("gid", u64::from(a.gid), u64::from(b.gid)),
            ("rdev", a.rdev, b.rdev),
        ] {
            if a != b {
                self.note(field, a.to_string(), b.to_string());
            }
        }
    }

    fn times(&mut self, a: &Entry, b: &Entry) {
        if self.path.is_empty() && !self.compared.root_times {
            return;
        }
        if a.mtime != b.mtime {
            self.note("mtime", a.mtime.to_string(), b.mtime.to_string());
        }
        if self.compared.atime && a.atime != b.atime {
            self.note("atime", a.atime.to_string(), b.atime.to_string());
        }
    }

    fn content(&mut self, a: &Content, b: &Content) {
        let offsets: Vec<u64> = a.differing(b).collect();
        if let Some(first) = offsets.first() {
            let say = |content: &Content| {
                let known = content.blocks.get(&(first / Content::BLOCK));
                known.map_or("zeros".to_owned(), |digest| {
                    format!(
                        "bytes of digest {:02x}{:02x}{:02x}…",
                        digest[0], digest[1], digest[2]
                    )
                })
            };
            let field = format!("content in {} blocks, the first at {first}", offsets.len());
            let values = (say(a), say(b));
            self.note(&field, values.0, values.1);
        }
    }

    fn xattrs(&mut self, a: &Entry, b: &Entry) {
        let mut names: Vec<&Vec<u8>> = a.xattrs.keys().chain(b.xattrs.keys()).collect();
        names.sort_unstable();
        names.dedup();
        let excluded = &self.compared.without_xattrs;
        names.retain(|name| !excluded.iter().any(|prefix| name.starts_with(prefix)));
        for name in names {
            let (left, right) = (a.xattrs.get(name), b.xattrs.get(name));
            if left != right {
                let field = format!("xattr {}", name.escape_ascii());
                self.note(&field, value(left), value(right));
            }
        }
    }

    fn note(&mut self, field: &str, expected: String, found: String) {
        self.differences.push(Difference {
            path: self.path.to_vec(),
            field: field.to_owned(),
            values: (expected, found),
        });
    }
}

fn value(bytes: Option<&Vec<u8>>) -> String {
    bytes.map_or("nothing".to_owned(), |bytes| escaped(bytes))
}

/// Bytes in quotes, long ones shortened.
fn escaped(bytes: &[u8]) -> String {
    const SHOWN: usize = 64;
    match bytes.get(..SHOWN) {
        Some(start) if bytes.len() > SHOWN => {
            format!("\"{}…\" ({} bytes)", start.escape_ascii(), bytes.len())
        }
        _ => format!("\"{}\"", bytes.escape_ascii()),
    }
}
