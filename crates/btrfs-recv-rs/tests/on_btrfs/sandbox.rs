//! `--sandbox`: receiving works, from parents and clone sources outside of the
//! mount too, and whatever the kernel forgets meanwhile.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use btrfs_testkit::{LoopFilesystem, Sender, Test, assert_same_tree, subvolume, test};

use crate::support::{Sent, command, run_with_input, text};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(a_sandboxed_receive_works),
        test!(sources_outside_the_mount_serve_in_a_sandbox),
        test!(a_sandbox_takes_named_sources),
        test!(without_landlock_calls_are_restricted),
    ]
}

/// Length of END.
const END: usize = 10;

/// Receives in a sandbox. Before END the kernel forgets what names the inodes
/// have, as it may at any time.
fn receive(stream: &[u8], options: &[&str], into: &Path) -> Output {
    let mut child = command(&["--sandbox"])
        .args(options)
        .arg(into)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let (commands, end) = stream.split_at(stream.len() - END);
    // What it says about a failure is worth more than that it stopped reading.
    let _ = stdin.write_all(commands);
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", "2").unwrap();
    let _ = stdin.write_all(end);
    drop(stdin);
    child.wait_with_output().unwrap()
}

#[track_caller]
fn assert_received(output: &Output) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
}

fn a_sandboxed_receive_works() {
    let sent = Sent::new();
    let to = LoopFilesystem::new();
    let first = sent.from.path().join("first");
    let compressed = Sender::new(&first).version(2).compressed().to_vec();
    for options in [&[][..], &["--chroot"]] {
        let into = to.path().join(format!("with {} options", options.len()));
        fs::create_dir(&into).unwrap();
        for (stream, name) in [(&compressed, "first"), (&sent.incremental, "second")] {
            assert_received(&receive(stream, options, &into));
            assert_same_tree(&sent.from.path().join(name), &into.join(name));
        }
    }
}

fn sources_outside_the_mount_serve_in_a_sandbox() {
    let sent = Sent::new();
    let to = LoopFilesystem::new();
    assert_received(&receive(&sent.full, &[], to.path()));
    subvolume::create(&to.path().join("inner"));
    let mount = to.mount("subvol=inner");
    assert_received(&receive(&sent.incremental, &[], mount.path()));
    let (sent, received) = (sent.from.path().join("second"), mount.path().join("second"));
    assert_same_tree(&sent, &received);
    fs::metadata(to.path().join("inner/second")).unwrap();
}

fn a_sandbox_takes_named_sources() {
    let sent = Sent::small();
    let to = LoopFilesystem::new();
    assert_received(&receive(&sent.full, &["--chroot"], to.path()));
    let inner = to.path().join("inner");
    fs::create_dir(&inner).unwrap();
    let refused = receive(&sent.incremental, &["--chroot"], &inner);
    assert!(!refused.status.success());
    let parent = format!("--parent={}", to.path().join("first").display());
    assert_received(&receive(&sent.incremental, &[&parent], &inner));
    assert_same_tree(&sent.from.path().join("second"), &inner.join("second"));
}

/// The kernel says that it has no Landlock.
fn without_landlock_calls_are_restricted() {
    let sent = Sent::new();
    let to = LoopFilesystem::new();
    let inject = "inject=landlock_create_ruleset:error=ENOSYS";
    let receive = |stream: &[u8]| {
        let log = tempfile::NamedTempFile::new().unwrap();
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-o"]).arg(log.path());
        strace.args(["-e", "trace=landlock_create_ruleset,seccomp", "-e", inject]);
        strace.arg(env!("CARGO_BIN_EXE_btrfs-recv-rs"));
        let output = run_with_input(
            strace
                .arg("--sandbox")
                .arg(to.path())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped()),
            stream,
        );
        let calls = fs::read_to_string(log.path()).unwrap();
        assert!(calls.contains("SECCOMP_SET_MODE_FILTER"), "{calls}");
        output
    };
    for (stream, name) in [(&sent.full, "first"), (&sent.incremental, "second")] {
        let output = receive(stream);
        assert_received(&output);
        let stderr = text(&output).1;
        assert!(
            stderr.starts_with("WARNING: --sandbox: this kernel has no Landlock"),
            "{stderr}"
        );
        assert_same_tree(&sent.from.path().join(name), &to.path().join(name));
    }
}
