//! Every operation, as a table that the hostile cases run through; and what
//! each does where nothing is hostile.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

use btrfs_sendstream::{StreamPath, Timespec};
use rustix::fs::FileType;
use rustix::io::Errno;

use super::{Fixture, content, errno, is_root, path, with_both};
use crate::confine::{Access, Root};
use crate::error::Cause;

pub(super) type Operation = (&'static str, fn(&Root, &StreamPath) -> Result<(), Cause>);

/// Each operation on one path. Where a second one is needed, it is "other",
/// or "new" for a name that is not taken, in the root.
pub(super) const ALL: &[Operation] = &[
    ("directory", |root, path| root.directory(path).map(drop)),
    ("inode", |root, path| root.inode(path).map(drop)),
    ("mkdir", |root, path| root.mkdir(path, 0o755)),
    ("create_file", |root, path| {
        root.create_file(path, 0o644).map(drop)
    }),
    // 0:0 is the one device that needs no privilege.
    ("mknod", |root, path| root.mknod(path, 0o020_644, 0)),
    ("mkfifo", |root, path| root.mkfifo(path, 0o644)),
    ("mksock", |root, path| root.mksock(path, 0o644)),
    ("symlink", |root, path| root.symlink(path, b"/target")),
    ("link from", |root, at| root.link(at, &path("new"))),
    ("link to", |root, at| root.link(&path("other"), at)),
    ("rename from", |root, at| {
        root.rename(at, &path("new"), true)
    }),
    ("rename to", |root, at| {
        root.rename(&path("other"), at, true)
    }),
    ("rename to, no replace", |root, at| {
        root.rename(&path("other"), at, false)
    }),
    ("unlink", |root, path| root.unlink(path)),
    ("rmdir", |root, path| root.rmdir(path)),
    ("set_xattr", |root, path| {
        root.set_xattr(path, b"user.test", b"value")
    }),
    ("set_xattr trusted", |root, path| {
        root.set_xattr(path, b"trusted.test", b"value")
    }),
    ("remove_xattr", |root, path| {
        root.remove_xattr(path, b"user.test")
    }),
    ("chown", |root, path| {
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        root.chown(path, uid.as_raw(), gid.as_raw())
    }),
    ("chmod", |root, path| root.chmod(path, 0o700)),
    ("utimens", |root, path| root.utimens(path, AT, Some(AT))),
    ("truncate", |root, path| root.truncate(path, 1)),
    ("flags", |root, path| root.flags(path).map(drop)),
    ("set_flags", |root, path| root.set_flags(path, 0x80)),
    ("read", |root, path| {
        root.open_file(path, Access::Read).map(drop)
    }),
    ("write", |root, path| {
        let mut file = File::from(root.open_file(path, Access::Write)?);
        file.write_all(b"overwritten").unwrap();
        Ok(())
    }),
];

const AT: Timespec = Timespec {
    seconds: -1,
    nanoseconds: 5,
};

#[test]
fn names_are_made_moved_and_removed() {
    with_both(|fixture| {
        let root = &fixture.root;
        root.mkdir(&path("d"), 0o700).unwrap();
        root.mkdir(&path("d/e"), 0o700).unwrap();
        let mut file = File::from(root.create_file(&path("d/e/f"), 0o600).unwrap());
        file.write_all(b"data").unwrap();
        assert_eq!(content(&mut file), b"data");
        assert_eq!(errno(root.create_file(&path("d/e/f"), 0o600)), Errno::EXIST);
        root.link(&path("d/e/f"), &path("d/hard")).unwrap();
        assert_eq!(fixture.inside("d/hard").metadata().unwrap().nlink(), 2);
        root.symlink(&path("d/soft"), b"e/f").unwrap();
        root.mkfifo(&path("d/fifo"), 0o600).unwrap();
        root.mksock(&path("d/sock"), 0o600).unwrap();
        let kind = |name: &str| {
            fs::symlink_metadata(fixture.inside(name))
                .unwrap()
                .file_type()
        };
        assert!(kind("d/soft").is_symlink());
        assert!(kind("d/fifo").is_fifo());
        assert!(kind("d/sock").is_socket());
        assert_eq!(
            errno(root.rename(&path("d/fifo"), &path("d/sock"), false)),
            Errno::EXIST
        );
        root.rename(&path("d/fifo"), &path("d/sock"), true).unwrap();
        assert!(kind("d/sock").is_fifo());
        for name in ["d/e/f", "d/hard", "d/soft", "d/sock"] {
            root.unlink(&path(name)).unwrap();
        }
        assert_eq!(errno(root.unlink(&path("d/e"))), Errno::ISDIR);
        assert_eq!(errno(root.rmdir(&path("d"))), Errno::NOTEMPTY);
        root.rmdir(&path("d/e")).unwrap();
        root.rmdir(&path("d")).unwrap();
    });
}

#[test]
fn devices_are_made_as_told() {
    with_both(|fixture| {
        let root = &fixture.root;
        for mode in [0o644, 0o100_644, 0o040_755, 0o010_644, 0o140_644] {
            let refused = root.mknod(&path("n"), mode, 0);
            assert!(matches!(refused, Err(Cause::OutOfRange { .. })), "{mode:o}");
        }
        let refused = root.mknod(&path("n"), 0o020_644, 1 << 32);
        assert!(matches!(refused, Err(Cause::OutOfRange { .. })));
        if is_root() {
            // Major 300, minor 70,000.
            root.mknod(&path("n"), 0o060_600, 0x1111_2C70).unwrap();
            let meta = fixture.inside("n").metadata().unwrap();
            assert!(meta.file_type().is_block_device());
            assert_eq!(meta.rdev(), 0x1111_2C70);
        }
    });
}

fn check_metadata(fixture: &Fixture, name: &str) {
    let root = &fixture.root;
    let at = path(name);
    root.chmod(&at, 0o750).unwrap();
    root.utimens(&at, AT, Some(Timespec { seconds: 7, ..AT }))
        .unwrap();
    let meta = fixture.inside(name).metadata().unwrap();
    assert_eq!(meta.permissions().mode() & 0o7777, 0o750);
    assert_eq!((meta.atime(), meta.atime_nsec()), (-1, 5));
    assert_eq!((meta.mtime(), meta.mtime_nsec()), (7, 5));
    assert!(matches!(
        root.chmod(&at, 0o10000),
        Err(Cause::OutOfRange { .. })
    ));
    for nanoseconds in [1_000_000_000, 0x3fff_fffe, 0x3fff_ffff, u32::MAX] {
        let wrong = Timespec {
            seconds: 0,
            nanoseconds,
        };
        let refused = root.utimens(&at, AT, Some(wrong));
        assert!(matches!(refused, Err(Cause::OutOfRange { .. })));
    }
    for (uid, gid) in [(u32::MAX, 0), (0, u32::MAX)] {
        let refused = root.chown(&at, uid, gid);
        assert!(matches!(refused, Err(Cause::OutOfRange { .. })));
    }
    if is_root() {
        root.chown(&at, 12, 34).unwrap();
        let meta = fixture.inside(name).metadata().unwrap();
        assert_eq!((meta.uid(), meta.gid()), (12, 34));
        root.chmod(&at, 0o6755).unwrap();
        let meta = fixture.inside(name).metadata().unwrap();
        assert_eq!(meta.mode() & 0o7777, 0o6755);
    }
}

fn check_xattrs(root: &Root, name: &str) {
    let at = path(name);
    root.remove_xattr(&at, b"user.a").unwrap();
    assert_eq!(root.xattr(&at, b"user.a").unwrap(), None);
    for value in [&b""[..], b"short", &[7; 2000], b"x"] {
        root.set_xattr(&at, b"user.a", value).unwrap();
        assert_eq!(root.xattr(&at, b"user.a").unwrap().as_deref(), Some(value));
    }
    root.remove_xattr(&at, b"user.a").unwrap();
    assert_eq!(root.xattr(&at, b"user.a").unwrap(), None);
}

#[test]
fn metadata_of_files_directories_and_the_root() {
    with_both(|fixture| {
        fixture.root.mkdir(&path("d"), 0o700).unwrap();
        fixture.root.create_file(&path("d/f"), 0o600).unwrap();
        for name in ["", "d", "d/f"] {
            check_metadata(&fixture, name);
            check_xattrs(&fixture.root, name);
        }
    });
}

#[test]
fn metadata_without_proc() {
    with_both(|fixture| {
        let fixture = fixture.without_proc();
        let root = &fixture.root;
        root.mkdir(&path("d"), 0o700).unwrap();
        root.create_file(&path("d/f"), 0o600).unwrap();
        root.mkfifo(&path("d/fifo"), 0o600).unwrap();
        for name in ["", "d", "d/f"] {
            check_metadata(&fixture, name);
            check_xattrs(root, name);
        }
        root.truncate(&path("d/f"), 10).unwrap();
        root.open_file(&path("d/f"), Access::Read).unwrap();
        let refused = root.open_file(&path("d/fifo"), Access::Write);
        assert!(matches!(refused, Err(Cause::NotRegularFile { .. })));
        let refused = root.chmod(&path("d/fifo"), 0o600);
        assert!(matches!(refused, Err(Cause::NoProc { found: "FIFO" })));
        let refused = root.set_xattr(&path("d/fifo"), b"trusted.a", b"");
        assert!(matches!(refused, Err(Cause::NoProc { found: "FIFO" })));
    });
}

#[test]
fn metadata_of_special_files() {
    with_both(|fixture| {
        let root = &fixture.root;
        root.mkfifo(&path("fifo"), 0o600).unwrap();
        root.mksock(&path("sock"), 0o600).unwrap();
        root.mknod(&path("dev"), 0o020_600, 0).unwrap();
        for name in ["fifo", "sock", "dev"] {
            check_metadata(&fixture, name);
            assert_eq!(
                errno(root.set_xattr(&path(name), b"user.a", b"")),
                Errno::PERM
            );
            if is_root() {
                root.set_xattr(&path(name), b"trusted.a", b"v").unwrap();
                let value = root.xattr(&path(name), b"trusted.a").unwrap();
                assert_eq!(value.as_deref(), Some(&b"v"[..]));
            }
        }
    });
}

#[test]
fn the_root_is_no_name() {
    with_both(|fixture| {
        let root = &fixture.root;
        root.create_file(&path("other"), 0o600).unwrap();
        let needs_name = |name: &str| {
            name.starts_with("mk")
                || name.starts_with("link")
                || name.starts_with("rename")
                || ["inode", "create_file", "symlink", "unlink", "rmdir"].contains(&name)
        };
        for (name, operation) in ALL {
            let result = operation(root, &path(""));
            match *name {
                name if needs_name(name) => {
                    assert!(matches!(result, Err(Cause::RootItself)), "{name}");
                }
                "truncate" | "read" | "write" => {
                    assert!(
                        matches!(result, Err(Cause::NotRegularFile { .. })),
                        "{name}"
                    );
                }
                _ => {}
            }
        }
        assert_eq!(fixture.inside("other").metadata().unwrap().len(), 0);
    });
}

/// Without `CAP_FSETID` the kernel reports success and drops the bit.
#[test]
fn a_setgid_bit_that_was_dropped_is_noticed() {
    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

    if !is_root() {
        return;
    }
    with_both(|fixture| {
        let root = &fixture.root;
        root.create_file(&path("f"), 0o600).unwrap();
        root.chown(&path("f"), 0, 4242).unwrap();
        let all = capabilities(None).unwrap();
        let mut fewer = all;
        fewer.effective.remove(CapabilitySet::FSETID);
        // Of this thread only.
        set_capabilities(None, fewer).unwrap();
        let result = root.chmod(&path("f"), 0o2755);
        set_capabilities(None, all).unwrap();
        assert!(matches!(
            result,
            Err(Cause::ModeNotSet {
                wanted: 0o2755,
                kept: 0o755
            })
        ));
    });
}

#[test]
fn an_inode_says_what_it_is() {
    with_both(|fixture| {
        fixture.root.symlink(&path("link"), b"/nowhere").unwrap();
        let inode = fixture.root.inode(&path("link")).unwrap();
        assert_eq!(inode.file_type(), FileType::Symlink);
    });
}
