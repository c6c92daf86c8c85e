//! What only btrfs can show: subvolumes inside the subvolume, and its limits
//! on extended attributes.

use std::path::Path;

use btrfs_testkit::subvolume;
use rustix::io::Errno;

use super::operations::ALL;
use super::{assert_escape, errno, open_directory, path};
use crate::confine::{Resolver, Root};
use crate::error::Barrier;
use btrfs_testkit::unit::on_btrfs;

fn roots(subvolume: &Path) -> [Root; 2] {
    [Resolver::Openat2, Resolver::Walk]
        .map(|resolver| Root::with_resolver(open_directory(subvolume), resolver).unwrap())
}

/// Nothing is mounted at a nested subvolume, so only `st_dev` tells.
#[test]
fn nested_subvolumes_are_not_entered() {
    on_btrfs(|fs| {
        let top = fs.path();
        let received = subvolume::create(&top.join("received"));
        std::fs::create_dir(received.join("d")).unwrap();
        std::fs::write(received.join("other"), b"other").unwrap();
        let nested = subvolume::create(&received.join("d/nested"));
        std::fs::create_dir(nested.join("sub")).unwrap();
        std::fs::write(nested.join("file"), b"precious").unwrap();
        for root in roots(&received) {
            let barrier = Barrier::OtherSubvolume;
            for (name, operation) in ALL {
                eprintln!("{:?} {name}", root.resolver);
                let result = operation(&root, &path("d/nested/file"));
                assert_escape(result, "d/nested", barrier);
            }
            assert_escape(root.directory(&path("d/nested")), "d/nested", barrier);
            assert_escape(root.inode(&path("d/nested")), "d/nested", barrier);
            let below = root.directory(&path("d/nested/sub"));
            assert!(below.is_err());
        }
        assert_eq!(std::fs::read(nested.join("file")).unwrap(), b"precious");
        assert_eq!(std::fs::read_dir(&nested).unwrap().count(), 2);
    });
}

/// A snapshot shows a nested subvolume as an empty directory that nothing
/// can be put into. It has an `st_dev` of its own, so it counts as another
/// subvolume, but can be removed.
#[test]
fn the_stub_of_a_nested_subvolume_can_only_go() {
    on_btrfs(|fs| {
        let top = fs.path();
        let work = subvolume::create(&top.join("work"));
        subvolume::create(&work.join("nested"));
        let snapshot = subvolume::snapshot_writable(&work, &top.join("snapshot"));
        for root in roots(&snapshot) {
            let barrier = Barrier::OtherSubvolume;
            assert_escape(root.mkdir(&path("nested/x"), 0o755), "nested", barrier);
            assert_escape(root.chmod(&path("nested"), 0o755), "nested", barrier);
            let renamed = root.rename(&path("nested"), &path("renamed"), true);
            assert_eq!(errno(renamed), Errno::NOTEMPTY);
        }
        let [root, _] = roots(&snapshot);
        root.rmdir(&path("nested")).unwrap();
        assert_eq!(std::fs::read_dir(&snapshot).unwrap().count(), 0);
    });
}

/// btrfs refuses this replacement, though the larger value alone fits.
#[test]
fn a_larger_xattr_replaces_a_smaller_one() {
    on_btrfs(|fs| {
        let top = fs.path();
        std::fs::write(top.join("file"), b"").unwrap();
        std::fs::create_dir(top.join("d")).unwrap();
        for root in roots(top) {
            for at in ["file", "d", ""] {
                for len in [9000, 16000, 10, 16000] {
                    let value = vec![7; len];
                    root.set_xattr(&path(at), b"user.a", &value).unwrap();
                    let found = root.xattr(&path(at), b"user.a").unwrap();
                    assert_eq!(found, Some(value), "{at} {len}");
                }
                root.remove_xattr(&path(at), b"user.a").unwrap();
            }
        }
    });
}

#[test]
fn inode_flags_are_set_and_read() {
    on_btrfs(|fs| {
        let top = fs.path();
        const NOCOW: u32 = 0x0080_0000;
        const NOATIME: u32 = 0x80;
        let work = subvolume::create(&top.join("work"));
        std::fs::write(work.join("file"), b"").unwrap();
        std::fs::create_dir(work.join("d")).unwrap();
        for root in roots(&work) {
            for at in ["file", "d", ""] {
                for flags in [NOCOW | NOATIME, NOATIME, 0] {
                    root.set_flags(&path(at), flags).unwrap();
                    assert_eq!(root.flags(&path(at)).unwrap(), flags, "{at}");
                }
            }
        }
    });
}
