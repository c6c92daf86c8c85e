//! Subvolumes, through the `btrfs` program.
//!
//! The kit does not use the crates under test for this: it would take their
//! word for what it is to check.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use rustix::fs::IFlags;

use crate::{files, tool};

/// What `btrfs subvolume show` says of a subvolume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The subvolume's id.
    pub id: u64,
    /// Its own UUID, as text.
    pub uuid: String,
    /// The UUID of the subvolume it is a snapshot of.
    pub parent_uuid: Option<String>,
    /// The UUID of the sender's subvolume: the stamp of a finished receive.
    pub received_uuid: Option<String>,
    /// The sender's transaction number, 0 without a stamp.
    pub send_transid: u64,
    /// Whether it is read-only.
    pub read_only: bool,
}

/// Creates a subvolume and returns its path.
///
/// # Panics
///
/// Like everything here, if `btrfs` fails.
pub fn create(path: &Path) -> PathBuf {
    run(["subvolume".as_ref(), "create".as_ref(), path.as_os_str()]);
    path.to_owned()
}

/// Takes a read-only snapshot and returns its path.
pub fn snapshot_read_only(source: &Path, path: &Path) -> PathBuf {
    let flag = OsStr::new("-r");
    run([
        "subvolume".as_ref(),
        "snapshot".as_ref(),
        flag,
        source.as_os_str(),
        path.as_os_str(),
    ]);
    path.to_owned()
}

/// Takes a writable snapshot and returns its path.
pub fn snapshot_writable(source: &Path, path: &Path) -> PathBuf {
    run([
        "subvolume".as_ref(),
        "snapshot".as_ref(),
        source.as_os_str(),
        path.as_os_str(),
    ]);
    path.to_owned()
}

/// Deletes a subvolume, even one whose root is immutable or append-only.
pub fn delete(path: &Path) {
    let arguments = ["subvolume".as_ref(), "delete".as_ref(), path.as_os_str()];
    if tool::run("btrfs", arguments).is_ok() {
        return;
    }
    set_read_only(path, false);
    let protection = IFlags::IMMUTABLE | IFlags::APPEND;
    files::change_flags(path, IFlags::empty(), protection)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    run(arguments);
}

/// Makes a subvolume read-only or writable, even a received one.
pub fn set_read_only(path: &Path, read_only: bool) {
    let value = if read_only { "true" } else { "false" };
    run([
        "property".as_ref(),
        "set".as_ref(),
        "-f".as_ref(),
        path.as_os_str(),
        "ro".as_ref(),
        value.as_ref(),
    ]);
}

/// Sets or removes the read-only flag by the ioctl and nothing else: a received
/// UUID stays.
pub fn flip(path: &Path, read_only: bool) {
    // BTRFS_IOC_SUBVOL_SETFLAGS
    const PROGRAM: &str = "\
        my ($path, $flags) = @ARGV; \
        sysopen(my $root, $path, 0) or die \"$path: $!\"; \
        my $args = pack('Q', $flags); \
        ioctl($root, 0x4008941A, $args) or die \"$path: $!\";";
    let flags = if read_only { "2" } else { "0" };
    let arguments = ["-e", PROGRAM].map(OsStr::new);
    let arguments = arguments
        .into_iter()
        .chain([path.as_os_str(), flags.as_ref()]);
    tool::run("perl", arguments).unwrap_or_else(|error| panic!("{error}"));
}

/// Sets the received UUID, written with or without hyphens, and the sender's
/// transaction number, by the ioctl and nothing else: it stays writable if it
/// is. Perl does it, as no command of btrfs-progs does.
pub fn stamp(path: &Path, uuid: &str, transid: u64) {
    // BTRFS_IOC_SET_RECEIVED_SUBVOL
    const PROGRAM: &str = "\
        my ($path, $uuid, $transid) = @ARGV; \
        sysopen(my $root, $path, 0) or die \"$path: $!\"; \
        my $args = pack('H32 Q Q x16 x16 Q x128', $uuid, $transid, 0, 0); \
        ioctl($root, 0xC0C89425, $args) or die \"$path: $!\";";
    let uuid = uuid.replace('-', "");
    let arguments = [OsStr::new("-e"), OsStr::new(PROGRAM), path.as_os_str()];
    let arguments = arguments.into_iter().map(OsStr::to_os_string);
    let values = [uuid.into(), transid.to_string().into()];
    tool::run("perl", arguments.chain(values)).unwrap_or_else(|error| panic!("{error}"));
}

/// Asks for the facts of a subvolume.
pub fn facts(path: &Path) -> Facts {
    let shown = run(["subvolume".as_ref(), "show".as_ref(), path.as_os_str()]);
    let text = String::from_utf8_lossy(&shown).into_owned();
    let field = |name: &str| -> String {
        let found = text.lines().find_map(|line| {
            let (key, value) = line.trim().split_once(':')?;
            (key == name).then(|| value.trim().to_owned())
        });
        found.unwrap_or_else(|| panic!("no field {name:?} in:\n{text}"))
    };
    let optional = |name: &str| Some(field(name)).filter(|value| value != "-");
    Facts {
        id: number(&field("Subvolume ID")),
        uuid: field("UUID"),
        parent_uuid: optional("Parent UUID"),
        received_uuid: optional("Received UUID"),
        send_transid: number(&field("Send transid")),
        read_only: field("Flags").contains("readonly"),
    }
}

fn number(text: &str) -> u64 {
    text.parse()
        .unwrap_or_else(|_| panic!("{text:?} is no number"))
}

fn run<const N: usize>(arguments: [&OsStr; N]) -> Vec<u8> {
    tool::run("btrfs", arguments).unwrap_or_else(|error| panic!("{error}"))
}
