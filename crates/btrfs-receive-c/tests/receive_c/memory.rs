//! Nothing reads or writes memory that is not its own, and nothing is lost.

use std::process::Command;

use btrfs_testkit::{SentSample, Test, test};

use crate::calls::{Place, stream};
use crate::program::{With, compile, drive};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(valgrind_finds_nothing).needs("cc").needs("valgrind"),
        test!(address_sanitizer_finds_nothing).needs("cc"),
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
