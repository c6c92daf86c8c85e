//! What differs between two trees.

use std::cmp::Ordering;
use std::fmt::{self, Display};

use super::document::{Device, Name, TreeEntry};

/// Something that is not the same in two trees.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Difference {
    /// Where, relative to the roots; empty for the roots.
    pub path: Name,
    /// What: `missing`, `extra`, or the name of the field: `kind`, `mode`, `uid`,
    /// `gid`, `mtime`, `links`, `same_as`, `size`, `content`, `target`, `device`,
    /// `xattr NAME`.
    pub field: String,
    /// What it is in the first tree; empty if there is nothing.
    pub expected: String,
    /// What it is in the second.
    pub found: String,
}

impl Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = Path(&self.path);
        match &*self.field {
            "missing" => write!(f, "{path}: missing ({})", self.expected),
            "extra" => write!(f, "{path}: not expected ({})", self.found),
            field => {
                let shown = |value: &str| match value {
                    "" => "nothing".to_owned(),
                    value => value.to_owned(),
                };
                let (expected, found) = (shown(&self.expected), shown(&self.found));
                write!(f, "{path}: {field}: expected {expected}, found {found}")
            }
        }
    }
}

/// A path that stays on its line.
struct Path<'a>(&'a [u8]);

impl Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str(".");
        }
        for chunk in self.0.utf8_chunks() {
            for char in chunk.valid().chars() {
                if char.is_control() {
                    write!(f, "{}", char.escape_default())?;
                } else {
                    write!(f, "{char}")?;
                }
            }
            write!(f, "{}", chunk.invalid().escape_ascii())?;
        }
        Ok(())
    }
}

/// What differs between two trees, in the order of paths; the first `most`.
/// Nothing is said of what is below a directory that only one of them has.
///
/// Of two trees with different digests that were computed from a filesystem it
/// finds at least one.
pub fn differences(expected: &[TreeEntry], found: &[TreeEntry], most: usize) -> Vec<Difference> {
    let mut list = Vec::new();
    let (mut left, mut right) = (expected.iter().peekable(), found.iter().peekable());
    let mut only = None::<(Name, &str)>;
    while list.len() < most {
        let order = match (left.peek(), right.peek()) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(a), Some(b)) => order(&a.path, &b.path),
        };
        let (side, entry) = match order {
            Ordering::Equal => {
                if let (Some(a), Some(b)) = (left.next(), right.next()) {
                    fields(a, b, &mut list);
                }
                continue;
            }
            Ordering::Less => ("missing", left.next()),
            Ordering::Greater => ("extra", right.next()),
        };
        let Some(entry) = entry else { continue };
        let is_below = |(directory, of): &(Name, &str)| {
            *of == side
                && (entry.path.strip_prefix(&directory[..])).is_some_and(|it| it.starts_with(b"/"))
        };
        if only.as_ref().is_some_and(is_below) {
            continue;
        }
        only = Some((entry.path.clone(), side));
        let (kind, nothing) = (entry.kind.to_string(), String::new());
        let (expected, found) = match side {
            "missing" => (kind, nothing),
            _ => (nothing, kind),
        };
        list.push(Difference {
            path: entry.path.clone(),
            field: side.to_owned(),
            expected,
            found,
        });
    }
    list.truncate(most);
    list
}

/// The order of trees: a directory before what is in it, and names by their
/// bytes.
fn order(a: &[u8], b: &[u8]) -> Ordering {
    let parts = |path| <[u8]>::split(path, |&byte| byte == b'/');
    match (a.is_empty(), b.is_empty()) {
        (false, false) => parts(a).cmp(parts(b)),
        (a, b) => b.cmp(&a),
    }
}

fn fields(a: &TreeEntry, b: &TreeEntry, list: &mut Vec<Difference>) {
    if a.kind != b.kind {
        // Nothing else can be expected to be the same.
        note(a, "kind", &a.kind, &b.kind, list);
        return;
    }
    let mode = |entry: &TreeEntry| format!("{:04o}", entry.mode);
    let path = |path: &Option<Name>| path.as_ref().map(|it| Path(it).to_string());
    let text = |it: Option<String>| it.unwrap_or_default();
    note(a, "mode", &mode(a), &mode(b), list);
    note(a, "uid", &a.uid, &b.uid, list);
    note(a, "gid", &a.gid, &b.gid, list);
    note(a, "size", &or_nothing(a.size), &or_nothing(b.size), list);
    note(
        a,
        "content",
        &or_nothing(a.content),
        &or_nothing(b.content),
        list,
    );
    note(a, "mtime", &a.mtime, &b.mtime, list);
    note(
        a,
        "target",
        &text(path(&a.target)),
        &text(path(&b.target)),
        list,
    );
    let device = |device: Option<Device>| device.map(|it| format!("{}:{}", it.major, it.minor));
    note(
        a,
        "device",
        &text(device(a.device)),
        &text(device(b.device)),
        list,
    );
    note(a, "links", &a.links, &b.links, list);
    note(
        a,
        "same_as",
        &text(path(&a.same_as)),
        &text(path(&b.same_as)),
        list,
    );
    let mut names: Vec<&Name> = (a.xattrs.iter().chain(&b.xattrs))
        .map(|it| &it.name)
        .collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let value = |entry: &TreeEntry| {
            let found = entry.xattrs.iter().find(|it| it.name == *name);
            or_nothing(found.map(|it| it.sha256))
        };
        note(
            a,
            &format!("xattr {}", Path(name)),
            &value(a),
            &value(b),
            list,
        );
    }
}

fn or_nothing(value: Option<impl Display>) -> String {
    value.map_or_else(String::new, |it| it.to_string())
}

fn note(
    entry: &TreeEntry,
    field: &str,
    expected: &impl Display,
    found: &impl Display,
    list: &mut Vec<Difference>,
) {
    let (expected, found) = (expected.to_string(), found.to_string());
    if expected != found {
        list.push(Difference {
            path: entry.path.clone(),
            field: field.to_owned(),
            expected,
            found,
        });
    }
}
