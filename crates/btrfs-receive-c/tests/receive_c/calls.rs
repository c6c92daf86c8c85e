//! Every call, and what it returns.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use btrfs_receive::btrfs_sendstream::{
    Command as StreamCommand, StreamPath, SubvolumeName, Uuid, Version, Writer,
};
use btrfs_testkit::{LoopFilesystem, SentSample, Test, assert_same_tree, subvolume, test};

use crate::program::{With, compile, driven, libraries, run};

pub(crate) fn tests() -> Vec<Test> {
    let tests = vec![
        test!(what_is_sent_arrives),
        test!(what_is_written_gives_the_same_errors),
        test!(a_receiver_is_used_again),
        test!(a_receive_is_cancelled),
        test!(mistakes_are_errors),
        test!(options_have_their_effect),
        test!(an_interrupted_receive_is_resumed),
        test!(the_shared_library_does_the_same),
    ];
    tests.into_iter().map(|test| test.needs("cc")).collect()
}

pub(crate) const UUID: Uuid = Uuid::from_u128(0x1111);

/// A subvolume with a file, and a file that cannot be made again if `fails`.
pub(crate) fn stream(name: &'static str, fails: bool) -> Vec<u8> {
    let path = |path: &'static str| StreamPath::parse(path.as_bytes()).unwrap();
    let mut writer = Writer::new(Vec::new());
    writer.header(Version::V1).unwrap();
    let name = SubvolumeName::parse(name.as_bytes()).unwrap();
    let (uuid, ctransid) = (UUID, 7);
    let subvol = StreamCommand::Subvol {
        name,
        uuid,
        ctransid,
    };
    writer.command(&subvol).unwrap();
    let mkdir = StreamCommand::Mkdir {
        path: path("hi"),
        ino: 257,
    };
    writer.command(&mkdir).unwrap();
    if fails {
        writer.command(&mkdir).unwrap();
    }
    writer.command(&StreamCommand::<&[u8]>::End).unwrap();
    writer.finish().unwrap()
}

/// A filesystem, and files that are no part of it.
pub(crate) struct Place {
    pub(crate) filesystem: LoopFilesystem,
    files: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self {
            filesystem: LoopFilesystem::new(),
            files: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.files.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// A path on the filesystem, as text.
    pub(crate) fn path(&self, path: &str) -> String {
        let path = self.filesystem.path().join(path);
        path.to_str().unwrap().to_owned()
    }

    /// A new directory to receive in.
    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        let path = self.filesystem.path().join(name);
        fs::create_dir(&path).unwrap();
        path
    }
}

fn what_is_sent_arrives() {
    let sent = SentSample::new();
    let place = Place::new();
    let file = place.file("stream", &sent.stream);
    for what in ["fd", "descriptor", "quiet", "write:1000", "write:3000000"] {
        let to = place.directory(what);
        let text = driven(&to, what, &file, &[]).replace("- progress\n", "");
        let end = "= 0 kind= errno=0 at=0,0,0 operation= path=\n\n\
                   {\"event\":\"report\",\"success\":true,";
        let events = match what {
            "quiet" => String::new(),
            _ => {
                "- subvolume_begins\n- subvolume_created\n- subvolume_finished\n".repeat(2)
                    + "- report\n"
            }
        };
        assert!(text.starts_with(&(events + end)), "{what}: {text}");
        for name in ["first", "second"] {
            assert_same_tree(&sent.from.path().join(name), &to.join(name));
            assert!(subvolume::facts(&to.join(name)).read_only);
        }
    }
}

/// What was printed, without the reports: when a failure is noticed, a different
/// number of commands may have been read.
pub(crate) fn without_reports(text: &str) -> Vec<&str> {
    let lines = text.lines();
    lines.filter(|line| !line.starts_with('{')).collect()
}

fn what_is_written_gives_the_same_errors() {
    let place = Place::new();
    let good = stream("home", false);
    let mut damaged = good.clone();
    damaged[30] ^= 1;
    let mut version = good.clone();
    version[13] = 9;
    let twice = [&good[..], &good[..]].concat();
    let cases: [(&str, &[u8], &str); 9] = [
        ("empty", b"", "= 2 kind=empty "),
        ("text", b"what is no stream", "= 2 kind=malformed "),
        (
            "header",
            &good[..17],
            "= 2 kind=truncated errno=0 at=1,1,17 ",
        ),
        (
            "cut",
            &good[..good.len() - 3],
            "= 2 kind=truncated errno=0 at=1,3,",
        ),
        ("damaged", &damaged, "= 2 kind=malformed errno=0 at=1,1,17 "),
        ("version", &version, "= 2 kind=unsupported "),
        (
            "trailing",
            &[&good[..], b"x"].concat(),
            "= 2 kind=sequence errno=0 at=1,4,105 ",
        ),
        (
            "fails",
            &stream("home", true),
            "= 1 kind=system errno=17 at=1,3,",
        ),
        ("twice", &twice, "= 1 kind=name_taken errno=0 at=2,1,"),
    ];
    for (name, content, expected) in cases {
        let file = place.file(name, content);
        let read = driven(&place.directory(name), "fd", &file, &[]);
        assert!(read.contains(expected), "{name}: {read}");
        for what in ["write:1", "write:7", "write:100000", "careless"] {
            let to = place.directory(&format!("{name}-{what}"));
            let written = driven(&to, what, &file, &[]);
            assert_eq!(
                without_reports(&written),
                without_reports(&read),
                "{name} {what}"
            );
        }
    }
    let to = place.directory("no-file");
    let text = driven(&to, "fd", &to, &[]);
    assert!(text.contains("= 3 kind=io errno=21 at="), "{text}");
    let fails = place.file("fails", &stream("home", true));
    let text = driven(&place.directory("text-of-failure"), "fd", &fails, &[]);
    let expected = " operation=mkdir path=hi\nstream 1, command 3, byte ";
    assert!(text.contains(expected), "{text}");
    assert!(
        text.contains(": mkdir \"hi\": mkdirat: File exists"),
        "{text}"
    );
}

fn a_receiver_is_used_again() {
    let place = Place::new();
    let to = place.directory("to");
    let file = place.file("stream", &stream("home", false));
    let text = driven(&to, "twice", &file, &[]);
    let codes: Vec<_> = (text.lines())
        .filter_map(|line| line.strip_prefix("= "))
        .map(|line| line.split(" errno").next().unwrap())
        .collect();
    let expected = [
        "0 kind=",
        "1 kind=name_taken",
        "1 kind=name_taken",
        "2 kind=empty",
    ];
    assert_eq!(codes, expected);
}

fn a_receive_is_cancelled() {
    let place = Place::new();
    let file = place.file("stream", &stream("home", false));
    // Without an end, so that nothing can be complete.
    let endless = stream("home", false);
    let endless = place.file("endless", &endless[..endless.len() - 10]);
    let sent = place.file("sent", &SentSample::new().stream);
    let cases = [
        ("stop:subvolume_created", &file),
        ("stop:subvolume_begins", &file),
        ("stop-written:subvolume_created", &sent),
        ("wait", &endless),
        ("signal", &endless),
        ("cancelled", &file),
    ];
    for (what, file) in cases {
        let to = place.directory(what);
        let text = driven(&to, what, file, &[]);
        let expected = "- error\n- report\n= 4 kind=cancelled errno=0 at=0,0,0 operation= path=\n\
                        the receive was cancelled\n{\"event\":\"report\",\"success\":false,";
        assert!(text.contains(expected), "{what}: {text}");
        if what == "cancelled" {
            assert!(!to.join("home").exists());
        } else {
            let name = if file == &sent { "first" } else { "home" };
            let facts = subvolume::facts(&to.join(name));
            assert!(!facts.read_only && facts.received_uuid.is_none(), "{what}");
        }
    }
    let to = place.directory("delete");
    let text = driven(&to, "wait", &endless, &["on_error", "delete"]);
    assert!(text.contains("\"outcome\":\"deleted\""), "{text}");
    assert!(!to.join("home").exists());
    let to = place.directory("busy");
    let text = driven(&to, "stop:busy", &file, &[]);
    assert!(text.contains("- report\n= 0 kind="), "{text}");
}

fn mistakes_are_errors() {
    let place = Place::new();
    let to = place.directory("to");
    let text = driven(&to, "misuse", Path::new("-"), &[]);
    let expected = "\
6 the key is NULL
6 the value is NULL
6 there is no option \"nam\"
6 atomic=1: it must be true or false
6 the directory is NULL
6 the UUID is NULL
6 the directory is NULL
6 the snapshot is NULL
6 the inventory is NULL
6 no destination is open
6 no destination is open
6 no destination is open
6 the directory is NULL
5 open /nowhere: No such file or directory (os error 2)
5 /proc is not on a btrfs filesystem
6 the descriptor is negative
5 open /proc/self/fd/999: Bad file descriptor (os error 9)
0 
6 the destination is open already
6 the destination is open already
6 the descriptor is negative
3 the descriptor cannot be duplicated: Bad file descriptor (os error 9)
3 input/output error: Bad file descriptor (os error 9) (byte 0)
6 the data is NULL
6 the length is larger than memory can be
0 
6 a stream is being written to this receiver: brecv_finish ends it
6 a stream is being written to this receiver: brecv_finish ends it
2 the input is empty (byte 0)
";
    let mut found = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(rest) = line.strip_prefix("= ") {
            let code = rest.split(' ').next().unwrap();
            found += &format!("{code} {}\n", lines.next().unwrap());
        }
    }
    assert_eq!(found, expected);
}

fn options_have_their_effect() {
    let place = Place::new();
    let file = place.file("stream", &stream("home", false));
    let fails = place.file("fails", &stream("home", true));
    let to = place.directory("to");
    let named = driven(&to, "fd", &file, &["name", "other"]);
    assert!(named.contains("= 0 "), "{named}");
    assert!(to.join("other/hi").is_dir() && !to.join("home").exists());
    let deleted = driven(&to, "fd", &fails, &["on_error", "delete"]);
    assert!(deleted.contains("\"outcome\":\"deleted\""), "{deleted}");
    assert!(!to.join("home").exists());
    let all = driven(&to, "fd", &fails, &["max_errors", "0", "atomic", "true"]);
    assert!(all.contains("= 1 kind=system errno=17 "), "{all}");
    assert!(to.join("home.receiving").is_dir());
    let skipped = driven(
        &to,
        "fd",
        &file,
        &["skip_complete", "true", "name", "other"],
    );
    assert!(skipped.contains("- subvolume_present\n"), "{skipped}");
    assert!(skipped.contains("= 0 "), "{skipped}");
    let twice = [stream("a", false), stream("b", false)].concat();
    let twice = place.file("twice", &twice);
    for (what, name) in [("fd", "read"), ("write:10", "written")] {
        let to = place.directory(name);
        let first = driven(&to, what, &twice, &["stop_at_end", "true"]);
        assert!(first.contains("= 0 "), "{first}");
        assert!(to.join("a/hi").is_dir() && !to.join("b").exists());
    }
    let to = place.directory("each");
    let each = driven(&to, "each", &twice, &["stop_at_end", "true"]);
    assert_eq!(each.matches("\n= 0 kind=").count(), 2, "{each}");
    assert!(
        each.contains("- error\n- report\n= 2 kind=empty "),
        "{each}"
    );
    assert!(to.join("a/hi").is_dir() && to.join("b/hi").is_dir());
    // What is opened with the destination.
    for (key, kind) in [
        ("parent", "open"),
        ("clone_source", "open"),
        ("jail", "open"),
    ] {
        let text = driven(&to, "fd", &file, &[key, "/nowhere"]);
        assert!(
            text.contains(&format!("= 5 kind={kind} errno=2 ")),
            "{text}"
        );
        assert!(text.contains("/nowhere"), "{text}");
    }
}

fn an_interrupted_receive_is_resumed() {
    let place = Place::new();
    let sent = SentSample::new();
    let options = ["resumable", "true", "resume_every_bytes", "1000000"];
    for (what, name) in [("fd", "read"), ("write:5000", "written")] {
        let to = place.directory(name);
        let cut = place.file("cut", &sent.stream[..sent.stream.len() - 100]);
        let text = driven(&to, what, &cut, &options);
        assert!(text.contains("- checkpoint\n"), "{text}");
        assert!(text.contains("= 2 kind=truncated "), "{text}");
        let full = place.file("full", &sent.stream);
        let text = driven(&to, what, &full, &options);
        assert!(text.contains("- resumed\n"), "{text}");
        assert!(text.contains("= 0 "), "{text}");
        assert_same_tree(&sent.from.path().join("second"), &to.join("second"));
    }
    let full = place.file("full", &sent.stream);
    for what in ["wait", "stop-written:progress"] {
        let to = place.directory(what);
        let text = driven(&to, what, &full, &options);
        assert!(text.contains("\n= 4 kind=cancelled "), "{text}");
        let text = driven(&to, "fd", &full, &options);
        // Too little was read for a checkpoint.
        assert_eq!(text.contains("- resumed\n"), what != "wait", "{text}");
        assert!(text.contains("= 0 "), "{text}");
        assert_same_tree(&sent.from.path().join("second"), &to.join("second"));
    }
}

fn the_shared_library_does_the_same() {
    let place = Place::new();
    let to = place.directory("to");
    let file = place.file("fails", &stream("home", true));
    let program = compile("tests/receive_c/drive.c", With::Shared);
    let mut shared = Command::new(program);
    shared.env("LD_LIBRARY_PATH", libraries());
    let text = run(shared.arg(&to).args(["fd".as_ref(), file.as_os_str()]));
    subvolume::delete(&to.join("home"));
    assert_eq!(
        without_reports(&text),
        without_reports(&driven(&to, "fd", &file, &[]))
    );
}
