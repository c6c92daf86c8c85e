//! Each on a thread of its own, which alone is restricted.

use std::io;
use std::path::Path;

use super::{Filesystem, Reach, calls, files};

#[track_caller]
fn assert_refused<T>(result: io::Result<T>) {
    let error = result.err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
}

#[test]
fn what_is_out_of_reach_cannot_be_opened() {
    let inside = tempfile::tempdir().unwrap();
    let source = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    for directory in [&inside, &source, &outside] {
        std::fs::write(directory.path().join("file"), b"x").unwrap();
    }
    let one_file = outside.path().join("file to read");
    std::fs::write(&one_file, b"x").unwrap();
    let restricted = || {
        let reach = Reach {
            destination: inside.path(),
            state: None,
            tee: None,
            sources: vec![source.path(), &one_file],
            filesystem: Filesystem::Useless,
        };
        let required = std::env::var_os("BTRFS_TESTS").is_some_and(|it| it == "required");
        if !files::restrict(&reach).unwrap() {
            assert!(!required, "no Landlock here");
            return eprintln!("left out: no Landlock here");
        }
        let read = |path: &Path| std::fs::read(path).map(drop);
        assert_refused(read(Path::new("/etc/shadow")));
        assert_refused(read(Path::new("/etc/passwd")));
        assert_refused(read(&outside.path().join("file")));
        assert_refused(std::fs::write(outside.path().join("new"), b"x"));
        assert_refused(std::fs::write(source.path().join("file"), b"x"));
        assert_refused(std::fs::write(&one_file, b"x"));
        assert_refused(std::net::TcpListener::bind("127.0.0.1:0").map(drop));
        // By way of the destination, too.
        let link = inside.path().join("link");
        std::os::unix::fs::symlink(outside.path(), &link).unwrap();
        assert_refused(read(&link.join("file")));
        read(&inside.path().join("file")).unwrap();
        read(&source.path().join("file")).unwrap();
        read(&one_file).unwrap();
        std::fs::create_dir(inside.path().join("d")).unwrap();
        let moved = inside.path().join("d/file");
        std::fs::rename(inside.path().join("file"), &moved).unwrap();
        std::fs::hard_link(&moved, inside.path().join("again")).unwrap();
    };
    std::thread::scope(|scope| scope.spawn(restricted).join().unwrap());
}

#[test]
fn calls_that_are_not_needed_are_refused() {
    let restricted = || {
        calls::restrict().unwrap();
        assert_refused(std::net::TcpStream::connect("127.0.0.1:1"));
        assert_refused(std::net::UdpSocket::bind("127.0.0.1:0"));
        assert_refused(std::os::unix::net::UnixStream::connect("/run/x"));
        assert_refused(std::process::Command::new("true").status());
        assert_refused(std::os::unix::fs::chroot("/"));
        // Threads and files are.
        std::thread::spawn(|| std::fs::read("/etc/passwd").unwrap())
            .join()
            .unwrap();
    };
    std::thread::scope(|scope| scope.spawn(restricted).join().unwrap());
}
