//! A sender for the memory model: the difference of two trees as a stream in
//! the kernel's style.
//!
//! Inode by inode in ascending order, as the kernel does it: new inodes get
//! an orphan name in the root first, taken names are freed by renaming what
//! has them, files are renamed by LINK and UNLINK, deleted directories get an
//! orphan name until they are empty, and directories that would move below
//! themselves wait until others have moved. The sender keeps the names that
//! the receiver has at each moment, and asks only those what is to be done.

mod data;
mod names;
mod random;

use std::collections::{BTreeMap, BTreeSet};

use btrfs_model::{Inode, Kind, Tree};
use btrfs_sendstream::{Bytes, Command, StreamPath, SubvolumeName, Uuid, Version};

use data::Sources;
use names::{Names, Place, ROOT};
use random::Random;

const CAPABILITY: &[u8] = b"security.capability";

/// The generation in orphan names. Histories use names with it too.
const GENERATION: u64 = 8;

/// How a stream is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    pub(crate) version: Version,
    /// The times of directories: with each inode that changed names in them,
    /// as kernels before 6.3, or at the end.
    pub(crate) times_early: bool,
    /// Data that the parent has, or that was sent, is cloned at times.
    pub(crate) clones: bool,
    /// Data is sent compressed at times; from version 2 on.
    pub(crate) encoded: bool,
    /// TRUNCATE even where the size is right, as kernels before 4.17.
    pub(crate) always_truncate: bool,
    /// Bytes in a WRITE, at most.
    pub(crate) largest_write: usize,
    /// Decides what happens "at times".
    pub(crate) seed: u64,
}

/// A tree that can be sent.
#[derive(Clone, Copy)]
pub(crate) struct Snapshot<'t> {
    pub(crate) number: u64,
    pub(crate) tree: &'t Tree,
}

impl Snapshot<'_> {
    pub(crate) fn name(&self) -> Bytes {
        Bytes::from(format!("snapshot-{}", self.number))
    }

    pub(crate) fn uuid(&self) -> Uuid {
        Uuid::from_u128(0x5e4d << 64 | u128::from(self.number))
    }

    pub(crate) fn ctransid(&self) -> u64 {
        100 + self.number
    }
}

/// The commands that make `snapshot`, from nothing or from a copy of
/// `parent`, without END.
pub(crate) fn send(
    snapshot: Snapshot<'_>,
    parent: Option<Snapshot<'_>>,
    style: Style,
) -> Vec<Command> {
    let name = SubvolumeName::parse(snapshot.name()).unwrap();
    let (uuid, ctransid) = (snapshot.uuid(), snapshot.ctransid());
    let first = match parent {
        None => Command::Subvol {
            name,
            uuid,
            ctransid,
        },
        Some(parent) => Command::Snapshot {
            name,
            uuid,
            ctransid,
            parent_uuid: parent.uuid(),
            parent_ctransid: parent.ctransid(),
        },
    };
    let mut sender = Sender::new(snapshot, parent, style);
    sender.commands.push(first);
    sender.run();
    sender.commands
}

struct Sender<'t> {
    style: Style,
    random: Random,
    old: BTreeMap<u64, &'t Inode>,
    new: BTreeMap<u64, &'t Inode>,
    /// Names in the root of either tree, which no orphan may have.
    reserved: BTreeSet<Vec<u8>>,
    wanted: Names,
    /// The names on the receiver.
    now: Names,
    /// Orphan names in use.
    orphans: BTreeSet<Vec<u8>>,
    /// Deleted directories that are not empty yet.
    doomed: BTreeSet<u64>,
    /// Directories that cannot move yet.
    waiting: BTreeSet<u64>,
    /// Directories whose times have to be sent.
    touched: BTreeSet<u64>,
    sources: Sources,
    commands: Vec<Command>,
}

impl<'t> Sender<'t> {
    fn new(snapshot: Snapshot<'t>, parent: Option<Snapshot<'t>>, style: Style) -> Self {
        let (old, now) = match parent {
            Some(parent) => (inodes(parent.tree), Names::of(parent.tree)),
            None => (BTreeMap::new(), Names::default()),
        };
        let roots = [Some(snapshot), parent].into_iter().flatten();
        let reserved =
            roots.flat_map(
                |s| match s.tree.get(&StreamPath::default()).unwrap().kind() {
                    Kind::Directory(names) => names.keys().map(|name| name.to_vec()).collect(),
                    _ => Vec::new(),
                },
            );
        Self {
            style,
            random: Random::new(style.seed),
            reserved: reserved.collect(),
            new: inodes(snapshot.tree),
            wanted: Names::of(snapshot.tree),
            orphans: BTreeSet::new(),
            doomed: BTreeSet::new(),
            waiting: BTreeSet::new(),
            touched: BTreeSet::new(),
            sources: Sources::new(snapshot, parent),
            commands: Vec::new(),
            old,
            now,
        }
    }

    fn run(&mut self) {
        let numbers: BTreeSet<u64> = self.old.keys().chain(self.new.keys()).copied().collect();
        for number in numbers {
            match self.new.get(&number).copied() {
                None => self.delete(number),
                Some(inode) => {
                    if !self.now.has(number) {
                        self.make(number, inode);
                    }
                    self.place(number, inode);
                    self.contents(number, inode);
                }
            }
            self.settle();
            if self.style.times_early {
                self.send_touched();
            }
        }
        assert!(self.doomed.is_empty() && self.waiting.is_empty());
        self.send_touched();
    }

    /// Creates an inode under an orphan name.
    fn make(&mut self, ino: u64, inode: &Inode) {
        let place = self.orphan(ino);
        let path = self.now.path_of(&place);
        let mode = u64::from(inode.mode());
        self.commands.push(match inode.kind() {
            Kind::File(_) => Command::Mkfile { path, ino },
            Kind::Directory(_) => Command::Mkdir { path, ino },
            Kind::Symlink(target) => Command::Symlink {
                path,
                ino,
                target: target.clone(),
            },
            Kind::CharacterDevice(number) => Command::Mknod {
                path,
                ino,
                rdev: u64::from(*number),
                mode: 0o20000 | mode,
            },
            Kind::BlockDevice(number) => Command::Mknod {
                path,
                ino,
                rdev: u64::from(*number),
                mode: 0o60000 | mode,
            },
            Kind::Fifo => Command::Mkfifo {
                path,
                ino,
                rdev: 0,
                mode: 0o10000 | mode,
            },
            Kind::Socket => Command::Mksock {
                path,
                ino,
                rdev: 0,
                mode: 0o140_000 | mode,
            },
            kind => panic!("{kind:?}"),
        });
        self.now.add(place, ino);
    }

    /// A free name in the root.
    fn orphan(&mut self, ino: u64) -> Place {
        for index in 0.. {
            let name = format!("o{ino}-{GENERATION}-{index}").into_bytes();
            if !self.reserved.contains(&name) && self.orphans.insert(name.clone()) {
                return (ROOT, name);
            }
        }
        unreachable!("as many names as numbers");
    }

    /// Gives an inode its names, and takes the ones it no longer has.
    fn place(&mut self, number: u64, inode: &Inode) {
        if number == ROOT {
            return;
        }
        if matches!(inode.kind(), Kind::Directory(_)) {
            self.waiting.insert(number);
            self.move_directory(number);
            return;
        }
        let wanted = self.wanted.places(number);
        for place in &wanted {
            if self.now.at(place) == Some(number) {
                continue;
            }
            self.prepare(place);
            let present = self.now.places(number);
            match present.iter().find(|place| self.is_orphan(place)) {
                Some(orphan) => self.rename(orphan, place),
                None => self.link(number, place),
            }
        }
        for place in self.now.places(number) {
            if !wanted.contains(&place) {
                self.unlink(&place);
            }
        }
    }

    /// Moves a directory where it belongs, unless that is below itself for
    /// now.
    fn move_directory(&mut self, number: u64) -> bool {
        let (wanted, present) = (self.wanted.places(number), self.now.places(number));
        let ([to], [from]) = (&wanted[..], &present[..]) else {
            panic!("a directory has one name");
        };
        if to != from {
            self.ensure(to.0);
            if self.now.is_within(to.0, number) {
                return false;
            }
            self.prepare(to);
            // Freeing the name may have moved a directory above this one.
            let from = self.now.places(number).remove(0);
            self.rename(&from, to);
        }
        self.waiting.remove(&number);
        true
    }

    /// Makes the directory of a place if it is new, and frees the name.
    fn prepare(&mut self, place: &Place) {
        self.ensure(place.0);
        let Some(other) = self.now.at(place) else {
            return;
        };
        if self.now.places(other).len() > 1 {
            self.unlink(place);
        } else {
            let orphan = self.orphan(other);
            self.rename(place, &orphan);
        }
    }

    fn ensure(&mut self, directory: u64) {
        if !self.now.has(directory) {
            self.make(directory, self.new[&directory]);
        }
    }

    /// Takes everything that is gone: directories once they are empty.
    fn delete(&mut self, number: u64) {
        if !matches!(self.old[&number].kind(), Kind::Directory(_)) {
            for place in self.now.places(number) {
                self.unlink(&place);
            }
            return;
        }
        self.doomed.insert(number);
        let place = self.now.places(number).remove(0);
        if !self.now.is_empty(number) && !self.is_orphan(&place) {
            let orphan = self.orphan(number);
            self.rename(&place, &orphan);
        }
    }

    /// Does what had to wait and can be done now.
    fn settle(&mut self) {
        loop {
            let emptied = self
                .doomed
                .iter()
                .find(|number| self.now.is_empty(**number));
            if let Some(&number) = emptied {
                self.doomed.remove(&number);
                let place = self.now.places(number).remove(0);
                let path = self.now.path_of(&place);
                self.commands.push(Command::Rmdir { path });
                self.forget(&place);
                continue;
            }
            let waiting: Vec<u64> = self.waiting.iter().copied().collect();
            if !waiting
                .into_iter()
                .any(|number| self.move_directory(number))
            {
                return;
            }
        }
    }

    fn rename(&mut self, from: &Place, to: &Place) {
        let number = self.now.at(from).expect("something to rename");
        let (path, to_path) = (self.now.path_of(from), self.now.path_of(to));
        self.commands.push(Command::Rename { path, to: to_path });
        self.forget(from);
        self.now.add(to.clone(), number);
        self.touch(to);
    }

    fn link(&mut self, number: u64, place: &Place) {
        let (path, existing) = (self.now.path_of(place), self.now.path(number));
        self.commands.push(Command::Link { path, existing });
        self.now.add(place.clone(), number);
        self.touch(place);
    }

    fn unlink(&mut self, place: &Place) {
        let path = self.now.path_of(place);
        self.commands.push(Command::Unlink { path });
        self.forget(place);
    }

    /// Takes note that a name is gone.
    fn forget(&mut self, place: &Place) {
        self.now.remove(place);
        self.touch(place);
        if self.is_orphan(place) {
            self.orphans.remove(&place.1);
        }
    }

    /// Orphan names come and go without the root's times being sent.
    fn touch(&mut self, place: &Place) {
        if !self.is_orphan(place) {
            self.touched.insert(place.0);
        }
    }

    fn is_orphan(&self, (directory, name): &Place) -> bool {
        *directory == ROOT && self.orphans.contains(name)
    }

    /// Everything about an inode but its names.
    fn contents(&mut self, number: u64, inode: &'t Inode) {
        let old = self.old.get(&number).copied();
        let is_directory = matches!(inode.kind(), Kind::Directory(_));
        if old.is_some_and(|old| is_same(old, inode)) {
            self.sources.sent(number, inode);
            return;
        }
        let path = self.now.path(number);
        self.xattrs(&path, old, inode);
        if let Some(content) = inode.content() {
            self.data(number, &path, old.and_then(Inode::content), content);
            self.sources.sent(number, inode);
        }
        self.attributes(&path, old, inode);
        if is_directory && !self.style.times_early {
            self.touched.insert(number);
        } else {
            self.times(path, inode);
        }
    }

    fn xattrs(&mut self, path: &StreamPath, old: Option<&Inode>, new: &Inode) {
        for (name, data) in new.xattrs() {
            let same = old.and_then(|old| old.xattr(name)) == Some(data);
            if !same && name != CAPABILITY {
                self.commands.push(Command::SetXattr {
                    path: path.clone(),
                    name: name.clone(),
                    data: data.clone(),
                });
            }
        }
        for (name, _) in old.into_iter().flat_map(Inode::xattrs) {
            if new.xattr(name).is_none() {
                self.commands.push(Command::RemoveXattr {
                    path: path.clone(),
                    name: name.clone(),
                });
            }
        }
    }

    fn attributes(&mut self, path: &StreamPath, old: Option<&Inode>, new: &Inode) {
        let path = || path.clone();
        if old.is_none_or(|old| (old.uid(), old.gid()) != (new.uid(), new.gid())) {
            self.commands.push(Command::Chown {
                path: path(),
                uid: new.uid().into(),
                gid: new.gid().into(),
            });
        }
        let is_symlink = matches!(new.kind(), Kind::Symlink(_));
        if old.is_none_or(|old| old.mode() != new.mode()) && !is_symlink {
            self.commands.push(Command::Chmod {
                path: path(),
                mode: new.mode().into(),
            });
        }
        let flags_changed = old.is_some_and(|old| old.attributes() != new.attributes());
        if flags_changed && self.style.version >= Version::V2 {
            self.commands.push(Command::FileAttr {
                path: path(),
                attributes: new.attributes(),
            });
        }
        if let Some(data) = new.xattr(CAPABILITY) {
            self.commands.push(Command::SetXattr {
                path: path(),
                name: Bytes::from_static(CAPABILITY),
                data: data.clone(),
            });
        }
    }

    fn send_touched(&mut self) {
        for number in std::mem::take(&mut self.touched) {
            if let Some(inode) = self.new.get(&number).copied() {
                let path = self.now.path(number);
                self.times(path, inode);
            }
        }
    }

    fn times(&mut self, path: StreamPath, inode: &Inode) {
        let otime = (self.style.version >= Version::V2).then(Default::default);
        self.commands.push(Command::Utimes {
            path,
            atime: inode.atime(),
            mtime: inode.mtime(),
            ctime: inode.mtime(),
            otime,
        });
    }
}

fn inodes(tree: &Tree) -> BTreeMap<u64, &Inode> {
    tree.entries()
        .map(|entry| (entry.number, entry.inode))
        .collect()
}

/// Whether nothing but names and what a directory holds may differ.
fn is_same(old: &Inode, new: &Inode) -> bool {
    let fields = |inode: &Inode| {
        let times = (inode.atime(), inode.mtime());
        (
            inode.mode(),
            inode.uid(),
            inode.gid(),
            inode.attributes(),
            times,
        )
    };
    let content = match (old.content(), new.content()) {
        (Some(old), Some(new)) => old.reads_like(new),
        _ => true,
    };
    fields(old) == fields(new) && content && old.xattrs().eq(new.xattrs())
}
