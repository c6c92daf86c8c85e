//! Which names exist, and so what an operation means.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::operation::{Flag, Operation, Pick, What};
use super::step::{Step, Target};
use super::{Features, History};
use crate::Time;
use crate::files::{acl, capability, pattern};

/// Plays a history, closing with a snapshot, and returns the steps that were
/// carried out.
pub fn play(history: &History, features: &Features, target: &mut impl Target) -> Vec<Step> {
    let mut catalogue = Catalogue::new(*features);
    let mut done = Vec::new();
    for operation in history.0.iter().chain([&Operation::Snapshot]) {
        let Some(step) = catalogue.resolve(operation) else {
            continue;
        };
        if target.carry_out(&step).is_ok() {
            catalogue.record(&step);
            done.push(step);
        }
    }
    done
}

/// Few names, so that they are taken, freed and taken again.
const NAMES: &[&[u8]] = &[
    b"a",
    b"b",
    b"c",
    b"d",
    b"foo",
    b"with space",
    b"new\nline",
    b"\xff\xfe",
    b"o257-8-0",
    b"o260-9-0",
    &[b'n'; 255],
];

/// Targets of symlinks.
const TARGETS: &[&str] = &["a", "../b", "/etc/passwd", "nowhere/at all", "foo"];

/// Names of xattrs.
const XATTRS: &[&str] = &["user.a", "user.b", "trusted.c", "user.with space \u{e9}"];

/// Values of `btrfs.compression`; the empty one stands for removal.
const ALGORITHMS: &[&str] = &["zlib", "lzo", "zstd", ""];

const COMPRESSION: &str = "btrfs.compression";

/// Paths stay well below `PATH_MAX`, wherever the subvolume lies.
const LONGEST_PATH: usize = 1500;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    File,
    Directory,
    Other,
}

/// One inode under one name.
#[derive(Clone, Copy, Debug)]
struct Node {
    kind: Kind,
    /// The same for all names of an inode.
    inode: u64,
}

#[derive(Debug)]
struct Catalogue {
    features: Features,
    nodes: BTreeMap<PathBuf, Node>,
    next_inode: u64,
}

impl Catalogue {
    fn new(features: Features) -> Self {
        Self {
            features,
            nodes: BTreeMap::new(),
            next_inode: 0,
        }
    }

    /// Turns an operation into a step, if what it needs exists.
    fn resolve(&self, operation: &Operation) -> Option<Step> {
        self.resolve_names(operation)
            .or_else(|| self.resolve_data(operation))
            .or_else(|| self.resolve_attributes(operation))
            .or_else(|| self.resolve_xattrs(operation))
    }

    fn resolve_names(&self, operation: &Operation) -> Option<Step> {
        Some(match *operation {
            Operation::Snapshot => Step::Snapshot,
            Operation::Make { what, parent, name } => {
                let target = match what {
                    What::Symlink(pick) => PathBuf::from(pick_from(TARGETS, pick)?),
                    _ => PathBuf::new(),
                };
                let path = self.free_name(parent, name)?;
                Step::Make { path, what, target }
            }
            Operation::Reflink { from, parent, name } => Step::Reflink {
                from: self.file(from)?,
                to: self.free_name(parent, name)?,
            },
            Operation::Link {
                existing,
                parent,
                name,
            } => Step::Link {
                existing: self.existing(existing, |node| node.kind != Kind::Directory)?,
                new: self.free_name(parent, name)?,
            },
            Operation::Remove { path } => Step::Remove {
                path: self.existing(path, |_| true)?,
            },
            Operation::Rename { from, parent, name } => {
                let from = self.existing(from, |node| self.may_move(node))?;
                let to = self.name(parent, name)?;
                if to.starts_with(&from) {
                    return None;
                }
                Step::Rename { from, to }
            }
            Operation::Exchange { a, b } => {
                let a = self.existing(a, |node| self.may_move(node))?;
                exchange(a, self.existing(b, |node| self.may_move(node))?)?
            }
            Operation::ExchangeDirectories { a, b } if self.features.directory_renames => {
                let a = self.existing(a, |node| node.kind == Kind::Directory)?;
                exchange(a, self.existing(b, |node| node.kind == Kind::Directory)?)?
            }
            _ => return None,
        })
    }

    fn resolve_data(&self, operation: &Operation) -> Option<Step> {
        const BLOCK: u64 = 4096;
        Some(match *operation {
            Operation::Write {
                file,
                offset,
                length,
                seed,
                compressible,
            } => Step::Write {
                path: self.file(file)?,
                offset: offset.into(),
                length: length as usize,
                seed,
                compressible,
            },
            Operation::Truncate { file, size } => Step::Truncate {
                path: self.file(file)?,
                size: size.into(),
            },
            Operation::Punch {
                file,
                offset,
                length,
            } => Step::Punch {
                path: self.file(file)?,
                offset: offset.into(),
                length: length.into(),
            },
            Operation::Preallocate {
                file,
                offset,
                length,
                keep_size,
            } => Step::Preallocate {
                path: self.file(file)?,
                offset: offset.into(),
                length: length.into(),
                keep_size,
            },
            Operation::Share {
                from,
                to,
                from_block,
                to_block,
                blocks,
            } => Step::Share {
                from: self.file(from)?,
                to: self.file(to)?,
                range: (
                    u64::from(from_block) * BLOCK,
                    u64::from(to_block) * BLOCK,
                    u64::from(blocks) * BLOCK,
                ),
            },
            Operation::Sync { file } => Step::Sync {
                path: self.file(file)?,
            },
            _ => return None,
        })
    }

    fn resolve_attributes(&self, operation: &Operation) -> Option<Step> {
        Some(match *operation {
            Operation::SetMode { path, mode } => {
                let path = self.any(path)?;
                let setgid_leaks = path.as_os_str().is_empty() && !self.features.root_inheritance;
                let allowed = if setgid_leaks { 0o5777 } else { 0o7777 };
                Step::SetMode {
                    path,
                    mode: u32::from(mode) & allowed,
                }
            }
            Operation::SetOwner { path, uid, gid } => Step::SetOwner {
                path: self.any(path)?,
                uid: uid.into(),
                gid: gid.into(),
            },
            Operation::SetTimes { path, atime, mtime } => {
                let time = |(seconds, nanoseconds)| Time {
                    seconds,
                    nanoseconds,
                };
                let path = self.any(path)?;
                Step::SetTimes {
                    path,
                    atime: time(atime),
                    mtime: time(mtime),
                }
            }
            Operation::SetFlag { path, flag, on } => {
                if matches!(flag, Flag::Immutable | Flag::Append) && !self.features.immutable {
                    return None;
                }
                Step::SetFlag {
                    path: self.inheritable(path)?,
                    flag,
                    on,
                }
            }
            _ => return None,
        })
    }

    fn resolve_xattrs(&self, operation: &Operation) -> Option<Step> {
        let acl_name = |default| match default {
            true => "system.posix_acl_default".to_owned(),
            false => "system.posix_acl_access".to_owned(),
        };
        Some(match *operation {
            Operation::SetXattr {
                path,
                name,
                length,
                seed,
            } => Step::SetXattr {
                path: self.any(path)?,
                name: pick_from(XATTRS, name)?.to_string(),
                value: pattern(seed, length.min(self.features.largest_xattr).into(), false),
            },
            Operation::RemoveXattr { path, name } => Step::RemoveXattr {
                path: self.any(path)?,
                name: pick_from(XATTRS, name)?.to_string(),
            },
            Operation::SetAcl {
                path,
                default,
                user,
            } => Step::SetXattr {
                path: if default {
                    self.inheritable(path)?
                } else {
                    self.any(path)?
                },
                name: acl_name(default),
                value: acl(1000 + u32::from(user), u16::from(user) & 7),
            },
            Operation::RemoveAcl { path, default } => Step::RemoveXattr {
                path: self.any(path)?,
                name: acl_name(default),
            },
            Operation::SetCapability { file, bits } => Step::SetXattr {
                path: self.file(file)?,
                name: "security.capability".to_owned(),
                value: capability(bits.into()),
            },
            Operation::Compress { path, algorithm } => {
                let path = self.inheritable(path)?;
                let name = COMPRESSION.to_owned();
                match pick_from(ALGORITHMS, algorithm)?.as_bytes() {
                    b"" => Step::RemoveXattr { path, name },
                    value => Step::SetXattr {
                        path,
                        name,
                        value: value.to_vec(),
                    },
                }
            }
            _ => return None,
        })
    }

    /// Takes note of what a step did to the names.
    fn record(&mut self, step: &Step) {
        match step {
            Step::Make { path, what, .. } => {
                let kind = match what {
                    What::File => Kind::File,
                    What::Directory => Kind::Directory,
                    _ => Kind::Other,
                };
                self.add(path, kind);
            }
            Step::Reflink { to, .. } => self.add(to, Kind::File),
            Step::Link { existing, new } => {
                if let Some(node) = self.nodes.get(existing).copied() {
                    self.nodes.insert(new.clone(), node);
                }
            }
            Step::Remove { path } => drop(self.take(path)),
            Step::Rename { from, to } => {
                let inode = |path| self.nodes.get(path).map(|node: &Node| node.inode);
                // rename(2) between two links to one inode does nothing.
                if inode(from) != inode(to) {
                    self.take(to);
                    let moved = self.take(from);
                    self.put(to, moved);
                }
            }
            Step::Exchange { a, b } => {
                let (from_a, from_b) = (self.take(a), self.take(b));
                self.put(a, from_b);
                self.put(b, from_a);
            }
            _ => {}
        }
    }

    fn add(&mut self, path: &Path, kind: Kind) {
        self.next_inode += 1;
        let inode = self.next_inode;
        self.nodes.insert(path.to_owned(), Node { kind, inode });
    }

    /// Removes a path and all below it; the paths returned are relative to it.
    fn take(&mut self, path: &Path) -> Vec<(PathBuf, Node)> {
        let below: Vec<PathBuf> = self
            .nodes
            .keys()
            .filter(|other| other.starts_with(path))
            .cloned()
            .collect();
        let taken = below.into_iter().filter_map(|full| {
            let node = self.nodes.remove(&full)?;
            Some((full.strip_prefix(path).ok()?.to_owned(), node))
        });
        taken.collect()
    }

    fn put(&mut self, path: &Path, nodes: Vec<(PathBuf, Node)>) {
        for (relative, node) in nodes {
            // Joining an empty path would add a slash.
            let full = match relative.as_os_str().is_empty() {
                true => path.to_owned(),
                false => path.join(relative),
            };
            self.nodes.insert(full, node);
        }
    }

    fn may_move(&self, node: &Node) -> bool {
        self.features.directory_renames || node.kind != Kind::Directory
    }

    fn existing(&self, pick: Pick, fits: impl Fn(&Node) -> bool) -> Option<PathBuf> {
        let fitting = self.nodes.iter().filter(|(_, node)| fits(node));
        let paths: Vec<&PathBuf> = fitting.map(|(path, _)| path).collect();
        pick_from(&paths, pick).map(|path| path.to_path_buf())
    }

    fn file(&self, pick: Pick) -> Option<PathBuf> {
        self.existing(pick, |node| node.kind == Kind::File)
    }

    /// Any path, the root too.
    fn any(&self, pick: Pick) -> Option<PathBuf> {
        let root = PathBuf::new();
        let mut paths: Vec<&PathBuf> = self.nodes.keys().collect();
        paths.push(&root);
        pick_from(&paths, pick).map(|path| path.to_path_buf())
    }

    /// Any path, the root only where its attributes may be inherited.
    fn inheritable(&self, pick: Pick) -> Option<PathBuf> {
        let path = self.any(pick)?;
        let allowed = self.features.root_inheritance || !path.as_os_str().is_empty();
        allowed.then_some(path)
    }

    /// A name in a directory, whether taken or not.
    fn name(&self, parent: Pick, name: Pick) -> Option<PathBuf> {
        let root = PathBuf::new();
        let nodes = self.nodes.iter();
        let mut directories = vec![&root];
        directories.extend(
            nodes
                .filter(|(_, node)| node.kind == Kind::Directory)
                .map(|(path, _)| path),
        );
        let parent = pick_from(&directories, parent)?;
        let path = parent.join(OsStr::from_bytes(pick_from(NAMES, name)?));
        (path.as_os_str().len() <= LONGEST_PATH).then_some(path)
    }

    fn free_name(&self, parent: Pick, name: Pick) -> Option<PathBuf> {
        let path = self.name(parent, name)?;
        (!self.nodes.contains_key(&path)).then_some(path)
    }
}

/// An exchange, unless one is the other or lies below it.
fn exchange(a: PathBuf, b: PathBuf) -> Option<Step> {
    let apart = !a.starts_with(&b) && !b.starts_with(&a);
    apart.then_some(Step::Exchange { a, b })
}

fn pick_from<T>(items: &[T], pick: Pick) -> Option<&T> {
    let index = usize::from(pick).checked_rem(items.len())?;
    items.get(index)
}
