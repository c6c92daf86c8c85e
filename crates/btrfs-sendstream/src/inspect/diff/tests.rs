//! What streams come down to.

use btrfs_testkit::raw::{RawStream, attr};

use super::*;

/// A stream that makes a snapshot of some parent.
fn snapshot() -> RawStream {
    RawStream::header(1).command(
        2,
        [
            attr::path("s"),
            attr::uuid([1; 16]),
            attr::ctransid(9),
            attr::clone_uuid([2; 16]),
            attr::clone_ctransid(7),
        ],
    )
}

trait Commands {
    fn one(self, number: u16, path: &str) -> Self;
    fn link(self, path: &str, existing: &str) -> Self;
    fn truncate(self, path: &str) -> Self;
}

impl Commands for RawStream {
    fn one(self, number: u16, path: &str) -> Self {
        self.command(number, [attr::path(path)])
    }

    fn link(self, path: &str, existing: &str) -> Self {
        self.command(10, [attr::path(path), attr::path_link(existing)])
    }

    fn truncate(self, path: &str) -> Self {
        self.command(17, [attr::path(path), attr::size(0)])
    }
}

/// Directories that are moved into one another, `depth` of them: paths by the
/// square of the stream.
fn nested(start: RawStream, depth: usize) -> Vec<u8> {
    let stream = (0..depth).fold(start.mkdir("a"), |stream, _| {
        stream.mkdir("b").rename("a", "b/a").rename("b", "a")
    });
    stream.end().into_bytes()
}

#[test]
fn paths_that_no_sender_builds_are_refused() {
    let deep = nested(snapshot(), 2047);
    assert_eq!(entries(&deep, DiffOptions::default()).unwrap(), 2048);
    let deeper = nested(snapshot(), 2048);
    let error = entries(&deeper, DiffOptions::default()).unwrap_err();
    assert!(error.to_string().contains("4097 bytes"), "{error}");
    // What was there before, too: "e" moves out of "d", "f" out of "e".
    let moved = (0..3000).fold(snapshot(), |stream, _| {
        stream
            .rename("d/d", "b")
            .rename("d", "c")
            .rename("b", "d")
            .one(RMDIR, "c")
    });
    let error = entries(&moved.end().into_bytes(), DiffOptions::default()).unwrap_err();
    assert!(error.to_string().contains("4097 bytes"), "{error}");
}

#[test]
fn paths_are_bounded_by_the_memory_granted() {
    let deep = nested(snapshot(), 2000);
    // The names fit, their paths do not.
    let options = DiffOptions {
        max_memory: 4 << 20,
        ..DiffOptions::default()
    };
    let error = entries(&deep, options).unwrap_err();
    assert!(error.to_string().contains("4194304 bytes"), "{error}");
}

/// How many entries there are.
fn entries(stream: &[u8], options: DiffOptions) -> Result<usize, DiffError> {
    let difference = Differ::with_options(stream, options).next_difference()?;
    Ok(difference.unwrap().entries.len())
}

const UNLINK: u16 = 11;
const RMDIR: u16 = 12;

/// The entries of a stream with one subvolume, one to a line.
fn lines(stream: RawStream) -> Vec<String> {
    let bytes = stream.end().into_bytes();
    let mut differ = Differ::new(&bytes[..]);
    let difference = differ.next_difference().unwrap().unwrap();
    assert!(differ.next_difference().unwrap().is_none());
    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    let entries = difference.entries.iter().map(|entry| {
        let mut line = format!(
            "{} {} {}",
            entry.action.name(),
            entry.kind.name(),
            text(&entry.path)
        );
        match &entry.action {
            Action::Linked { to } => line += &format!(" = {}", text(to)),
            Action::Renamed { from } => line += &format!(" < {}", text(from)),
            _ => {}
        }
        let changes: Vec<_> = entry.changes.names().collect();
        if !changes.is_empty() {
            line += &format!(" ({})", changes.join(" "));
        }
        line
    });
    entries.collect()
}

#[test]
fn temporary_names_do_not_show() {
    let stream = snapshot()
        .mkdir("o260-9-0")
        .rename("o260-9-0", "new")
        .mkfile("o261-9-0")
        .rename("o261-9-0", "new/file")
        .link("also", "new/file")
        .write("new/file", 0, b"x")
        .mkfile("o262-9-0")
        .one(UNLINK, "o262-9-0");
    assert_eq!(
        lines(stream),
        [
            "created file also",
            "created directory new",
            "linked file new/file = also"
        ]
    );
}

#[test]
fn two_names_that_change_places() {
    let stream = snapshot()
        .rename("a", "o257-7-0")
        .rename("b", "a")
        .rename("o257-7-0", "b");
    assert_eq!(
        lines(stream),
        ["renamed unknown a < b", "renamed unknown b < a"]
    );
}

#[test]
fn a_directory_that_is_gone_was_where_it_was() {
    let stream = snapshot()
        .rename("d", "o257-7-0")
        .one(UNLINK, "o257-7-0/f")
        .one(RMDIR, "o257-7-0")
        .one(UNLINK, "e/f");
    assert_eq!(
        lines(stream),
        [
            "deleted directory d",
            "deleted no directory d/f",
            "deleted no directory e/f"
        ]
    );
}

#[test]
fn what_lies_in_a_renamed_directory_moves_along() {
    let stream = snapshot()
        .truncate("d/sub/file")
        .rename("d", "e")
        .link("e/sub/second", "e/sub/file");
    assert_eq!(
        lines(stream),
        [
            "renamed directory e < d",
            "changed file e/sub/file (size)",
            "linked file e/sub/second = e/sub/file",
        ]
    );
}

#[test]
fn a_file_is_renamed_by_link_and_unlink() {
    let stream = snapshot()
        .link("z", "a")
        .one(UNLINK, "a")
        .utimes("z", 1, 2)
        .utimes("", 1, 2);
    assert_eq!(
        lines(stream),
        [
            "changed directory  (times)",
            "renamed no directory z < a (times)"
        ]
    );
}

#[test]
fn a_name_may_go_to_another_inode() {
    let stream = snapshot()
        .one(UNLINK, "a")
        .mkfile("o260-9-0")
        .rename("o260-9-0", "a");
    assert_eq!(lines(stream), ["created file a", "deleted no directory a"]);
}

#[test]
fn contradictions_are_errors() {
    let stream = snapshot().one(UNLINK, "a").one(UNLINK, "a").end();
    let bytes = stream.into_bytes();
    let error = Differ::new(&bytes[..]).next_difference().unwrap_err();
    let DiffError::Command(failure) = error else {
        panic!("{error}");
    };
    assert_eq!(failure.at.command, 3);
}
