//! The manual page and the completions in the repository are those that the
//! command makes, and the shells understand them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use btrfs_testkit::Test;

/// What is made, and where it lies in the repository.
const FILES: &[(&str, &str)] = &[
    ("man", "docs/btrfs-recv-rs.8"),
    ("bash", "completions/btrfs-recv-rs.bash"),
    ("zsh", "completions/_btrfs-recv-rs"),
    ("fish", "completions/btrfs-recv-rs.fish"),
];

/// Set to write the files instead of comparing them.
const UPDATE: &str = "UPDATE_GENERATED";

fn main() -> ExitCode {
    let files = FILES.iter().map(|&(what, file)| {
        Test::anywhere(format!("{file}_is_current"), move || is_current(what, file))
    });
    let others = [
        Test::anywhere("bash_completes", bash_completes).needs("bash"),
        Test::anywhere("zsh_reads_its_completions", || {
            syntax("zsh", "_btrfs-recv-rs")
        })
        .needs("zsh"),
        Test::anywhere("fish_completes", fish_completes).needs("fish"),
        Test::anywhere("the_manual_page_is_sound", the_manual_page_is_sound).needs("man"),
    ];
    btrfs_testkit::main(files.chain(others))
}

fn in_repository(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(file)
}

fn is_current(what: &str, file: &str) {
    let output = Command::new(env!("CARGO_BIN_EXE_btrfs-recv-rs"))
        .arg(format!("--generate={what}"))
        .output()
        .unwrap();
    assert!(output.status.success());
    let path = in_repository(file);
    if std::env::var_os(UPDATE).is_some() {
        fs::write(&path, &output.stdout).unwrap();
    }
    let there = fs::read(&path).unwrap_or_default();
    assert!(
        there == output.stdout,
        "{file} is not current; {UPDATE}=1 cargo test -p btrfs-recv-rs --test generated renews it"
    );
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

fn the_manual_page_is_sound() {
    let page = in_repository("docs/btrfs-recv-rs.8");
    let mut man = Command::new("man");
    man.args(["--warnings", "--local-file", "-Tutf8", "-Z"]);
    print_of(man.arg(page).env("LC_ALL", "C.UTF-8"));
}
