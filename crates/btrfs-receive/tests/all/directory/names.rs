//! A filesystem that lists names otherwise than they were given, and takes two
//! names for one.

use std::fs;
use std::path::Path;
use std::process::Command;

use btrfs_receive::{Cause, ReceiveError};
use btrfs_testkit::raw::{RawStream, attr};
use btrfs_testkit::{Test, scratch_dir};
use tempfile::TempDir;

use super::support::{Extracted, extract, names, try_extract};

/// NTFS by a driver that knows small letters only.
struct SmallLetters {
    point: TempDir,
    _image: tempfile::NamedTempFile,
}

impl SmallLetters {
    /// `None` where the tools for it are missing.
    fn new() -> Option<Self> {
        let image = tempfile::NamedTempFile::new_in(scratch_dir()).unwrap();
        image.as_file().set_len(64 << 20).unwrap();
        let point = TempDir::new_in(scratch_dir()).unwrap();
        let succeeds = |command: &mut Command| {
            let output = command.output();
            output.is_ok_and(|output| output.status.success())
        };
        let made = succeeds(
            Command::new("mkntfs")
                .args(["-q", "-F", "-f"])
                .arg(image.path()),
        );
        let mount = ["-o", "ignore_case"];
        let paths = [image.path(), point.path()];
        if !made || !succeeds(Command::new("lowntfs-3g").args(mount).args(paths)) {
            eprintln!("left out: no mkntfs or no lowntfs-3g");
            return None;
        }
        Some(Self {
            point,
            _image: image,
        })
    }

    fn path(&self) -> &Path {
        self.point.path()
    }
}

impl Drop for SmallLetters {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path()).status();
    }
}

/// What is said of a name, and whether a name in its way is the reason.
#[track_caller]
fn refused(result: Result<Extracted, Box<ReceiveError>>) -> (String, bool) {
    let error = result.err().expect("an error");
    let why = *error.first_failure.expect("a failure").cause;
    match why {
        Cause::NameNotStored { path, taken } => (String::from_utf8(path.to_vec()).unwrap(), taken),
        other => panic!("{other}"),
    }
}

/// Files as the kernel sends them: made under a name of their own.
fn files(named: &[&str]) -> RawStream {
    let mut stream = RawStream::new(1).mkdir("d");
    for (number, name) in named.iter().enumerate() {
        let orphan = format!("o{}-5-0", 257 + number);
        let path = format!("d/{name}");
        stream = stream.mkfile(&orphan);
        stream = stream.write(&orphan, 0, name.as_bytes());
        stream = stream.rename(&orphan, &path);
    }
    stream
}

fn no_file_replaces_another() {
    let Some(ground) = SmallLetters::new() else {
        return;
    };
    let place = |name: &str| {
        let path = ground.path().join(name);
        fs::create_dir(&path).unwrap();
        path
    };
    let at = place("letters");
    let stream = files(&["foo", "FOO"]).end().into_bytes();
    assert_eq!(refused(try_extract(&stream, &at)), ("d/FOO".into(), true));
    assert_eq!(fs::read(at.join("s.incomplete/d/foo")).unwrap(), b"foo");
    let at = place("made");
    let stream = files(&["foo"]).mkfile("d/Foo").end().into_bytes();
    assert_eq!(refused(try_extract(&stream, &at)), ("d/Foo".into(), true));
    // A file with that very name is replaced, as rename(2) does.
    let at = place("replaced");
    let stream = files(&["foo", "foo"]).end().into_bytes();
    extract(&stream, &at);
    assert_eq!(names(&at.join("s/d")), ["foo"]);
}

fn no_file_is_called_otherwise() {
    let Some(ground) = SmallLetters::new() else {
        return;
    };
    let place = |name: &str| {
        let path = ground.path().join(name);
        fs::create_dir(&path).unwrap();
        path
    };
    let at = place("file");
    let stream = files(&["one", "Two", "three"]).end().into_bytes();
    assert_eq!(refused(try_extract(&stream, &at)), ("d/Two".into(), false));
    assert_eq!(names(&at), ["s.incomplete"]);
    // The spelling changes, and the file is the same.
    let at = place("spelling");
    let stream = files(&["one"]).rename("d/one", "d/One").end();
    let refusal = refused(try_extract(&stream.into_bytes(), &at));
    assert_eq!(refusal, ("d/One".into(), false));
    let at = place("subvolume");
    let attributes = [attr::path("S"), attr::uuid([3; 16]), attr::ctransid(9)];
    let stream = RawStream::header(1).command(1, attributes).end();
    let refusal = refused(try_extract(&stream.into_bytes(), &at));
    assert_eq!(refusal, ("S".into(), false));
    assert_eq!(names(&at), Vec::<String>::new());
    // Names that were not there in the end do no harm.
    let at = place("gone");
    let stream = files(&["one"]).mkfile("d/Two");
    let stream = stream.command(11, [attr::path("d/Two")]).end();
    extract(&stream.into_bytes(), &at);
    let stream = files(&["one", "two"]).end().into_bytes();
    let at = place("fine");
    extract(&stream, &at);
    assert_eq!(names(&at.join("s/d")), ["one", "two"]);
}

pub(crate) fn tests() -> Vec<Test> {
    vec![
        btrfs_testkit::test!(no_file_replaces_another),
        btrfs_testkit::test!(no_file_is_called_otherwise),
    ]
}
