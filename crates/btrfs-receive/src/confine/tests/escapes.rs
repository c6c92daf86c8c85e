//! Trees and paths that lead outside.

use std::fs;
use std::os::unix::fs::symlink;

use rustix::io::Errno;

use super::operations::ALL;
use super::{Fixture, assert_escape, errno, open_directory, path, with_both};
use crate::confine::{Access, Resolver, Root};
use crate::error::{Barrier, Cause};

/// What a symbolic link can say, by name. `{}` is the fixture's directory.
const TARGETS: &[(&str, &str)] = &[
    ("absolute", "{}/outside"),
    ("relative", "../outside"),
    ("deep", "d/../../outside"),
    ("slash", "/"),
    ("up", ".."),
    ("dot", "."),
    ("within", "d"),
    ("dangling", "nowhere"),
    ("itself", "itself"),
    ("chain", "absolute"),
    ("magic", "/proc/self/root"),
    ("to-file", "{}/outside/file"),
];

/// The hostile links in the root, and below a directory.
fn lay_links(fixture: &Fixture) -> Vec<String> {
    fs::create_dir_all(fixture.inside("d/sub")).unwrap();
    fs::write(fixture.inside("d/file"), b"inside").unwrap();
    let top = fixture.directory.path().to_str().unwrap();
    let mut links = Vec::new();
    for (name, target) in TARGETS {
        let target = target.replace("{}", top);
        symlink(&target, fixture.inside(name)).unwrap();
        symlink(&target, fixture.inside(&format!("d/{name}"))).unwrap();
        links.push((*name).to_owned());
        links.push(format!("d/{name}"));
    }
    links
}

/// What an operation may need besides its path.
fn lay_other(fixture: &Fixture) {
    let _ = fs::remove_file(fixture.inside("new"));
    let _ = fs::remove_dir(fixture.inside("new"));
    fs::write(fixture.inside("other"), b"other").unwrap();
}

#[test]
fn no_link_on_the_way_is_followed() {
    with_both(|fixture| {
        let links = lay_links(&fixture);
        let before = fixture.canary();
        for link in &links {
            for rest in ["file", "new", "sub", "sub/file"] {
                for (name, operation) in ALL {
                    lay_other(&fixture);
                    let at = format!("{link}/{rest}");
                    eprintln!("{name} {at}");
                    let result = operation(&fixture.root, &path(&at));
                    assert_escape(result, link, Barrier::SymbolicLink);
                }
            }
        }
        assert_eq!(fixture.canary(), before);
        assert_eq!(fs::read(fixture.inside("d/file")).unwrap(), b"inside");
    });
}

#[test]
fn no_link_at_the_end_is_followed() {
    with_both(|fixture| {
        for fixture in [Fixture::new(fixture.root.resolver), fixture.without_proc()] {
            let before = fixture.canary();
            for (name, operation) in ALL {
                for (link, target) in TARGETS {
                    lay_other(&fixture);
                    let at = fixture.inside(link);
                    let target = target.replace("{}", fixture.directory.path().to_str().unwrap());
                    let _ = fs::remove_file(&at);
                    symlink(&target, &at).unwrap();
                    let result = operation(&fixture.root, &path(link));
                    expect_at_link(name, link, result);
                }
            }
            assert_eq!(fixture.canary(), before);
        }
    });
}

/// What each operation does to a symbolic link: refuse it, or change the
/// link itself.
fn expect_at_link(name: &str, link: &str, result: Result<(), Cause>) {
    match name {
        "directory" => assert_escape(result, link, Barrier::SymbolicLink),
        "truncate" | "read" | "write" => assert!(
            matches!(
                result,
                Err(Cause::NotRegularFile {
                    found: "symbolic link"
                })
            ),
            "{name} {link}"
        ),
        "flags" | "set_flags" => {
            assert!(matches!(result, Err(Cause::NoInodeFlags { .. })), "{name}");
        }
        "chmod" => assert_eq!(errno(result), Errno::OPNOTSUPP),
        "rmdir" => assert_eq!(errno(result), Errno::NOTDIR),
        "mkdir"
        | "create_file"
        | "mknod"
        | "mkfifo"
        | "mksock"
        | "symlink"
        | "link to"
        | "rename to, no replace" => assert_eq!(errno(result), Errno::EXIST, "{name}"),
        // The kernel has no user.* on symbolic links; without proc there is
        // no way to try. trusted.* takes privilege.
        "set_xattr" | "set_xattr trusted" | "remove_xattr" | "xattr" => {}
        "inode" | "link from" | "rename from" | "rename to" | "unlink" | "chown" | "utimens" => {
            assert!(result.is_ok(), "{name} {link}: {result:?}");
        }
        other => panic!("no expectation for {other}"),
    }
}

#[test]
fn data_goes_to_regular_files_only() {
    with_both(|fixture| {
        for fixture in [Fixture::new(fixture.root.resolver), fixture.without_proc()] {
            let root = &fixture.root;
            root.mkdir(&path("directory"), 0o755).unwrap();
            root.mkfifo(&path("FIFO"), 0o644).unwrap();
            root.mksock(&path("socket"), 0o644).unwrap();
            root.mknod(&path("character device"), 0o020_644, 0).unwrap();
            // Root can make one that would answer: /dev/null, a disk.
            let disk = root.mknod(&path("block device"), 0o060_644, 0x700);
            for at in [
                "directory",
                "FIFO",
                "socket",
                "character device",
                "block device",
            ] {
                if at == "block device" && disk.is_err() {
                    continue;
                }
                for access in [Access::Read, Access::Write] {
                    match root.open_file(&path(at), access) {
                        Err(Cause::NotRegularFile { found }) => assert_eq!(found, at),
                        other => panic!("{at}: {other:?}"),
                    }
                }
                let result = root.truncate(&path(at), 0);
                assert!(matches!(result, Err(Cause::NotRegularFile { .. })));
                let result = root.set_flags(&path(at), 0);
                assert_eq!(
                    matches!(result, Err(Cause::NoInodeFlags { .. })),
                    at != "directory"
                );
            }
        }
    });
}

#[test]
fn a_file_or_nothing_in_the_way_is_no_attack() {
    with_both(|fixture| {
        fs::write(fixture.inside("file"), b"").unwrap();
        for (name, operation) in ALL {
            lay_other(&fixture);
            let result = operation(&fixture.root, &path("file/x"));
            assert_eq!(errno(result), Errno::NOTDIR, "{name}");
            let result = operation(&fixture.root, &path("nothing/x"));
            assert_eq!(errno(result), Errno::NOENT, "{name}");
        }
        assert_eq!(errno(fixture.root.directory(&path("file"))), Errno::NOTDIR);
    });
}

#[test]
fn mount_points_are_not_crossed() {
    for resolver in [Resolver::Openat2, Resolver::Walk] {
        let root = Root::with_resolver(open_directory("/".as_ref()), resolver).unwrap();
        let at = "proc/self/status";
        assert_escape(root.inode(&path(at)), "proc", Barrier::MountPoint);
        let result = root.open_file(&path(at), Access::Read);
        assert_escape(result, "proc", Barrier::MountPoint);
        assert_escape(root.directory(&path("proc")), "proc", Barrier::MountPoint);
        assert_escape(root.inode(&path("proc")), "proc", Barrier::MountPoint);
    }
}

#[test]
fn magic_links_are_not_followed() {
    for resolver in [Resolver::Openat2, Resolver::Walk] {
        let proc_self = open_directory("/proc/self".as_ref());
        let root = Root::with_resolver(proc_self, resolver).unwrap();
        for (at, link) in [
            ("root/etc/passwd", "root"),
            ("cwd/Cargo.toml", "cwd"),
            ("fd/0/x", "fd/0"),
        ] {
            assert_escape(root.inode(&path(at)), link, Barrier::SymbolicLink);
        }
        for at in ["root", "cwd"] {
            assert_escape(root.directory(&path(at)), at, Barrier::SymbolicLink);
        }
        let result = root.open_file(&path("exe"), Access::Read);
        assert!(matches!(result, Err(Cause::NotRegularFile { .. })));
    }
}

/// The other end of a rename or link is confined like the first.
#[test]
fn both_ends_are_confined() {
    with_both(|fixture| {
        lay_links(&fixture);
        lay_other(&fixture);
        let before = fixture.canary();
        let (root, bad) = (&fixture.root, path("absolute/file"));
        let barrier = Barrier::SymbolicLink;
        for good in ["other", "new", "d/file", "d/new"] {
            let good = path(good);
            for replace in [true, false] {
                assert_escape(root.rename(&good, &bad, replace), "absolute", barrier);
                assert_escape(root.rename(&bad, &good, replace), "absolute", barrier);
            }
            assert_escape(root.link(&good, &bad), "absolute", barrier);
            assert_escape(root.link(&bad, &good), "absolute", barrier);
        }
        assert_eq!(fixture.canary(), before);
    });
}
