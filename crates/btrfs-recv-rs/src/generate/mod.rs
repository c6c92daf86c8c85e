//! The manual page and the shell completions, from the table of options: a
//! test makes the files of the repository, and keeps them current.

mod bash;
mod fish;
mod manual;
mod zsh;

/// Set to write the files instead of comparing them.
const UPDATE: &str = "UPDATE_GENERATED";

#[track_caller]
fn is_current(file: &str, text: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(file);
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(&path, text).unwrap();
    }
    assert!(
        std::fs::read_to_string(path).unwrap_or_default() == text,
        "{file} is not current; {UPDATE}=1 cargo test -p btrfs-recv-rs generate renews it"
    );
}

#[test]
fn the_manual_page_is_current() {
    is_current("docs/btrfs-recv-rs.8", &manual::text());
}

#[test]
fn completions_are_current() {
    is_current("completions/btrfs-recv-rs.bash", &bash::text());
    is_current("completions/_btrfs-recv-rs", &zsh::text());
    is_current("completions/btrfs-recv-rs.fish", &fish::text());
}
