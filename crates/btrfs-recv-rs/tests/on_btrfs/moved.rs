//! What is said if other processes move, delete or lock the subvolume during the receive.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::Stdio;

use crate::support::{Sent, command};
use btrfs_testkit::{LoopFilesystem, Test, subvolume, test};

/// The tests of this file.
pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(another_one_of_its_name_is_not_to_be_deleted, true),
        test!(another_one_of_its_name_is_not_to_be_deleted, false),
        test!(one_that_was_deleted_is_not_the_fault_of_the_parent),
        test!(one_that_became_read_only_is_not_the_fault_of_the_mount),
        test!(too_few_files_are_not_the_fault_of_the_directory),
    ]
}

/// Receives `stream` and calls `meddle` once the subvolume `first` is there and nothing
/// else was read. Returns the exit status and standard error.
fn receive(stream: &[u8], to: &Path, meddle: impl FnOnce(&Path)) -> (Option<i32>, String) {
    let mut child = command(&["-q"])
        .arg(to)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // The header of the stream has 17 bytes, that of a command 10.
    let len = u32::from_le_bytes(*stream[17..].first_chunk().unwrap());
    let (begin, rest) = stream.split_at(17 + 10 + len as usize);
    stdin.write_all(begin).unwrap();
    let built = to.join("first");
    while !built.exists() {
        std::thread::yield_now();
    }
    meddle(&built);
    // If it has ended, it says why.
    let _ = stdin.write_all(rest);
    drop(stdin);
    let mut stderr = String::new();
    let mut from = child.stderr.take().unwrap();
    from.read_to_string(&mut stderr).unwrap();
    (child.wait().unwrap().code(), stderr)
}

/// Whether the stream is complete or not.
fn another_one_of_its_name_is_not_to_be_deleted(complete: bool) {
    let sent = Sent::small();
    let to = LoopFilesystem::new();
    let len = sent.full.len() - if complete { 0 } else { 30 };
    let (built, moved) = (to.path().join("first"), to.path().join("moved"));
    let (code, stderr) = receive(&sent.full[..len], to.path(), |built| {
        fs::rename(built, &moved).unwrap();
        subvolume::create(built);
    });
    assert_eq!(code, Some(1), "{stderr}");
    let said = format!(
        "ERROR: the incomplete subvolume (id {}) is not {} any more: another process renamed, \
         moved or deleted it; if it exists, delete it (btrfs subvolume list shows where it is)\n",
        subvolume::facts(&moved).id,
        built.display()
    );
    assert!(stderr.ends_with(&said), "{stderr}");
    assert!(!stderr.contains("subvolume delete"), "{stderr}");
}

fn one_that_was_deleted_is_not_the_fault_of_the_parent() {
    let sent = Sent::small();
    let to = LoopFilesystem::new();
    let (code, stderr) = receive(&sent.full, to.path(), subvolume::delete);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(
        stderr.contains("likely: another process renamed, moved or deleted the subvolume"),
        "{stderr}"
    );
    assert!(!stderr.contains("subvolume delete"), "{stderr}");
}

fn one_that_became_read_only_is_not_the_fault_of_the_mount() {
    let sent = Sent::small();
    let to = LoopFilesystem::new();
    let (code, stderr) = receive(&sent.full, to.path(), |built| {
        subvolume::set_read_only(built, true);
    });
    assert_eq!(code, Some(1), "{stderr}");
    assert!(
        stderr.contains("likely: another process made the subvolume read-only"),
        "{stderr}"
    );
}

fn too_few_files_are_not_the_fault_of_the_directory() {
    let to = LoopFilesystem::new();
    let receive = command(&[]);
    let script = format!(
        "ulimit -n 10; exec {} {}",
        receive.get_program().display(),
        to.path().display()
    );
    let output = std::process::Command::new("sh")
        .args(["-c", &script])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains("to do: raise the limit of open files"),
        "{stderr}"
    );
}
