//! Paths longer than the kernel takes, and descriptors running out.

use std::fs::File;
use std::io::Write;
use std::process::Command;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{Fixture, assert_escape, content, errno, path, with_both};
use crate::confine::{Access, Resolver};
use crate::error::Barrier;

/// A path of `depth` names of 255 bytes.
fn deep(depth: usize) -> String {
    vec!["n".repeat(255); depth].join("/")
}

#[test]
fn paths_over_path_max_work() {
    with_both(|fixture| {
        let root = &fixture.root;
        for depth in 1..=40 {
            root.mkdir(&path(&deep(depth)), 0o755).unwrap();
            if depth % 3 == 0 {
                root.cache.borrow_mut().clear();
            }
        }
        let below = |name: &str| path(&format!("{}/{name}", deep(40)));
        root.cache.borrow_mut().clear();
        let mut file = File::from(root.create_file(&below("a"), 0o600).unwrap());
        root.cache.borrow_mut().clear();
        root.rename(&below("a"), &below("b"), true).unwrap();
        root.chmod(&below("b"), 0o640).unwrap();
        root.set_xattr(&below("b"), b"user.a", b"v").unwrap();
        root.cache.borrow_mut().clear();
        let mut again = File::from(root.open_file(&below("b"), Access::Write).unwrap());
        again.write_all(b"far down").unwrap();
        assert_eq!(content(&mut file), b"far down");
        root.symlink(&below("link"), b"/").unwrap();
        root.cache.borrow_mut().clear();
        let link = format!("{}/link", deep(40));
        let result = root.inode(&below("link/etc"));
        assert_escape(result, &link, Barrier::SymbolicLink);
        root.cache.borrow_mut().clear();
        let result = root.directory(&below("no/such"));
        assert_eq!(errno(result), Errno::NOENT);
    });
}

/// Boundaries around the longest path of one call, in the kernel's way.
#[test]
fn pieces_end_at_any_byte() {
    with_both(|fixture| {
        let root = &fixture.root;
        let base = deep(15);
        for depth in 1..=15 {
            root.mkdir(&path(&deep(depth)), 0o755).unwrap();
        }
        // 15 names of 255 bytes and 14 slashes are 3,839 bytes.
        for len in 245..=255 {
            let name = "m".repeat(len);
            root.mkdir(&path(&format!("{base}/{name}")), 0o755).unwrap();
            root.mkdir(&path(&format!("{base}/{name}/x")), 0o755)
                .unwrap();
            for below in ["x", "x/y"] {
                root.cache.borrow_mut().clear();
                let result = root.create_file(&path(&format!("{base}/{name}/{below}")), 0o600);
                assert_eq!(result.is_ok(), below == "x/y", "{len} {below}: {result:?}");
            }
        }
    });
}

#[test]
fn long_names_are_refused_clearly() {
    with_both(|fixture| {
        for len in [256, 4095, 4096, 5000, 65535] {
            let name = "n".repeat(len);
            for at in [name.clone(), format!("{name}/x"), format!("{name}/x/y")] {
                let at = path(&at);
                assert_eq!(errno(fixture.root.inode(&at)), Errno::NAMETOOLONG);
                assert_eq!(errno(fixture.root.mkdir(&at, 0o755)), Errno::NAMETOOLONG);
                let result = fixture.root.set_xattr(&at, b"user.a", b"");
                assert_eq!(errno(result), Errno::NAMETOOLONG);
            }
        }
    });
}

#[test]
fn a_directory_is_opened_once() {
    with_both(|fixture| {
        let root = &fixture.root;
        root.mkdir(&path("d"), 0o755).unwrap();
        let first = root.directory(&path("d")).unwrap();
        for number in 0..100 {
            let at = path(&format!("d/{number}"));
            root.create_file(&at, 0o600).unwrap();
            let (parent, _) = root.parent(&at).unwrap();
            assert!(Arc::ptr_eq(&parent, &first));
        }
    });
}

const CHILD: &str = "CONFINE_FEW_DESCRIPTORS";

/// The limit is the process's, so the case runs in one of its own.
#[test]
fn few_descriptors_are_enough() {
    if std::env::var_os(CHILD).is_some() {
        return with_few_descriptors();
    }
    let status = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "confine::tests::limits::few_descriptors_are_enough",
        ])
        .env(CHILD, "1")
        .status()
        .unwrap();
    assert!(status.success());
}

fn with_few_descriptors() {
    let fixture = Fixture::new(Resolver::Openat2);
    let root = &fixture.root;
    // The cache was sized by the limit before; now it is far too large.
    let maximum = getrlimit(Resource::Nofile).maximum;
    let current = Some(32);
    setrlimit(Resource::Nofile, Rlimit { current, maximum }).unwrap();
    for number in 0..100 {
        root.mkdir(&path(&format!("{number}")), 0o755).unwrap();
        root.create_file(&path(&format!("{number}/f")), 0o600)
            .unwrap();
        root.truncate(&path(&format!("{number}/f")), 5).unwrap();
    }
}
