//! Nothing reads or writes memory that is not its own, and nothing is lost.

use std::process::Command;

use btrfs_testkit::{SentSample, Test, document, test};

use crate::calls::{Place, stream, without_reports};
use crate::program::{With, compile, drive, run};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(valgrind_finds_nothing).needs("cc").needs("valgrind"),
        test!(address_sanitizer_finds_nothing).needs("cc"),
        test!(hostile_streams_are_refused_alike).needs("cc"),
    ]
}

fn valgrind_finds_nothing() {
    let mut valgrind = Command::new("valgrind");
    valgrind
        .args(["-q", "--error-exitcode=9", "--leak-check=full"])
        .arg("--errors-for-leak-kinds=definite")
        // It does not know what ioctls of btrfs write.
        .arg("--undef-value-errors=no")
        .arg(drive());
    // Everything takes twenty times as long.
    finds_nothing(valgrind, false);
}

fn address_sanitizer_finds_nothing() {
    let program = compile("tests/receive_c/drive.c", With::AddressSanitizer);
    finds_nothing(Command::new(program), true);
}

/// Read or written, with AddressSanitizer, each gives the same error, which is no
/// bug of the library.
fn hostile_streams_are_refused_alike() {
    let program = compile("tests/receive_c/drive.c", With::AddressSanitizer);
    let place = Place::new();
    let streams = document::repository().join("testdata/hostile");
    for stream in std::fs::read_dir(streams).unwrap() {
        let stream = stream.unwrap().path();
        let name = stream.file_stem().unwrap().to_str().unwrap();
        let [read, written] = ["fd", "write:13"].map(|what| {
            let to = place.directory(&format!("{name}-{what}"));
            // Messages say how many subvolumes were looked at.
            let options = ["jail".as_ref(), to.as_os_str()];
            let mut drive = Command::new(&program);
            run(drive.arg(&to).arg(what).arg(&stream).args(options))
        });
        assert_eq!(without_reports(&read), without_reports(&written), "{name}");
        assert!(!read.contains("\n= 8 "), "{name}: {read}");
    }
}

/// Runs every kind of receive. `command` is followed by the arguments.
fn finds_nothing(command: Command, large: bool) {
    let place = Place::new();
    let good = stream("home", false);
    let fails = place.file("fails", &stream("home", true));
    let cut = place.file("cut", &good[..good.len() - 10]);
    let good = place.file("good", &good);
    let mut runs = vec![
        ("fd", &good),
        ("write:3", &good),
        ("fd", &fails),
        ("careless", &fails),
        ("fd", &cut),
        ("twice", &good),
        ("stop:subvolume_created", &good),
        ("stop:busy", &good),
        ("wait", &cut),
        ("signal", &cut),
        ("misuse", &good),
        ("inventory", &good),
        ("resolve:00000000-0000-0000-0000-00000000000f", &good),
    ];
    let sent = place.file("sent", &SentSample::new().stream);
    if large {
        runs.push(("write:100000", &sent));
        runs.push(("stop-written:subvolume_created", &sent));
    }
    for (at, (what, file)) in runs.into_iter().enumerate() {
        let to = place.directory(&at.to_string());
        let mut run = Command::new(command.get_program());
        run.args(command.get_args()).arg(to).arg(what).arg(file);
        let output = run.output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{run:?}: {errors}");
    }
}
