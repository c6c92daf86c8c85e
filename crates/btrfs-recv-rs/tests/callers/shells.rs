//! The shells understand the completions, and man the manual pages.

use std::path::{Path, PathBuf};
use std::process::Command;

use btrfs_testkit::Test;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::anywhere("bash_completes", bash_completes).needs("bash"),
        Test::anywhere("zsh_reads_its_completions", || {
            syntax("zsh", "_btrfs-recv-rs")
        })
        .needs("zsh"),
        Test::anywhere("fish_completes", fish_completes).needs("fish"),
        Test::anywhere("the_manual_pages_are_sound", the_manual_pages_are_sound).needs("man"),
    ]
}

fn in_repository(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(file)
}

/// What a program prints when all is well, and it must have nothing to say on
/// standard error.
fn print_of(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.is_empty(),
        "{command:?}: {said}"
    );
    String::from_utf8(output.stdout).unwrap()
}

fn syntax(shell: &str, name: &str) {
    let file = in_repository("completions").join(name);
    print_of(Command::new(shell).arg("-n").arg(file));
}

fn bash_completes() {
    let file = in_repository("completions/btrfs-recv-rs.bash");
    let script = r#"
        compopt() { :; }
        source "$1" || exit 1
        try() {
            COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
            _btrfs_recv_rs
            echo "${COMPREPLY[*]}"
        }
        try btrfs-recv-rs --max
        try btrfs-recv-rs --on-error = d
        try btrfs-recv-rs --on-error k
        try btrfs-recv-rs -m /us
        try btrfs-recv-rs -E 1
    "#;
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-u", "-c", script, "bash"]).arg(file);
    assert_eq!(print_of(&mut bash), "--max-errors\ndelete\nkeep\n/usr\n\n");
}

fn fish_completes() {
    let file = in_repository("completions/btrfs-recv-rs.fish");
    let script = "source $argv[1]; complete -C 'btrfs-recv-rs --on-error='";
    let mut fish = Command::new("fish");
    let home = tempfile::tempdir().unwrap();
    fish.args(["--no-config", "-c", script])
        .arg(file)
        .env("HOME", home.path());
    let found = print_of(&mut fish);
    assert!(found.contains("--on-error=delete"), "{found}");
}

fn the_manual_pages_are_sound() {
    for page in ["btrfs-recv-rs.8", "sendstream.1", "btrfs-lineage.8"] {
        let mut man = Command::new("man");
        man.args(["--warnings", "--local-file", "-Tutf8", "-Z"]);
        man.arg(in_repository(&format!("docs/{page}")));
        print_of(man.env("LC_ALL", "C.UTF-8"));
    }
}
