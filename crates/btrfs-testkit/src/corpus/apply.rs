//! Commands that cannot be carried out: names, kinds and numbers that do not
//! fit what is there.

use super::Case;
use super::Layer::Apply;
use crate::raw::{OWN_UUID, RawStream, UNKNOWN_UUID, attr};

const RANGE: &str = "OutOfRange";
const DATA: &str = "NotRegularFile";

pub(super) fn cases() -> Vec<Case> {
    [
        subvolumes(),
        names(),
        roots(),
        kinds(),
        metadata(),
        numbers(),
        clones(),
    ]
    .concat()
}

/// A subvolume with a file `f` of 4 KiB, a directory `d` with a file, and an
/// empty directory `e`; the defect comes next.
fn tree(version: u32) -> RawStream {
    RawStream::new(version)
        .mkfile("f")
        .write("f", 0, &[b'f'; 4096])
        .mkdir("d")
        .mkfile("d/f")
        .mkdir("e")
        .here()
}

fn case(name: &str, error: &str, defect: &str, stream: RawStream) -> Case {
    Case::new(name, Apply, error, defect, stream.end())
}

fn subvolumes() -> Vec<Case> {
    let snapshot = |uuid: [u8; 16]| {
        let attributes = [
            attr::path("s"),
            attr::uuid(OWN_UUID),
            attr::ctransid(9),
            attr::clone_uuid(uuid),
            attr::clone_ctransid(5),
        ];
        RawStream::header(1).here().command(2, attributes)
    };
    vec![
        case(
            "subvol-exists",
            "NameTaken",
            "Two streams make a subvolume of the same name; the second writes into it.",
            RawStream::new(1)
                .mkfile("f")
                .write("f", 0, b"first")
                .end()
                .next_header(1)
                .here()
                .subvol("s")
                .write("f", 0, b"other"),
        )
        .finished(1),
        case(
            "subvol-exists-without-end-between",
            "NameTaken",
            "Two subvolumes of the same name under one header, as send -e joins them.",
            RawStream::new(1)
                .mkfile("f")
                .here()
                .subvol("s")
                .write("f", 0, b"other"),
        )
        .finished(1),
        case(
            "snapshot-of-unknown-parent",
            "NoSource",
            "SNAPSHOT of a parent that is not there.",
            snapshot(UNKNOWN_UUID).write("f", 0, b"x"),
        )
        .nothing_left(),
        case(
            "snapshot-of-itself",
            "NoSource",
            "SNAPSHOT that names its own UUID as the parent.",
            snapshot(OWN_UUID),
        )
        .nothing_left(),
        case(
            "snapshot-of-nil",
            "NoSource",
            "SNAPSHOT of the nil UUID, which every subvolume that was not received has.",
            snapshot([0; 16]),
        )
        .nothing_left(),
    ]
}

fn names() -> Vec<Case> {
    let long = "n".repeat(256);
    let deep = vec!["d"; 2100].join("/");
    let missing = "System.NotFound";
    let exists = "System.AlreadyExists";
    vec![
        case(
            "mkfile-exists",
            exists,
            "MKFILE of a name that exists.",
            tree(1).mkfile("f"),
        ),
        case(
            "mkdir-exists",
            exists,
            "MKDIR of a name that exists.",
            tree(1).mkdir("d"),
        ),
        case(
            "symlink-exists",
            exists,
            "SYMLINK of a name that exists.",
            tree(1).symlink("f", "x"),
        ),
        case(
            "link-exists",
            exists,
            "LINK to a name that exists.",
            tree(1).command(10, [attr::path("f"), attr::path_link("d/f")]),
        ),
        case(
            "mkfile-in-missing-directory",
            missing,
            "MKFILE in a directory that is not there.",
            tree(1).mkfile("x/f"),
        ),
        case(
            "mkfile-in-file",
            "System.NotADirectory",
            "MKFILE below a regular file.",
            tree(1).mkfile("f/g"),
        ),
        case(
            "mkfile-256-bytes",
            "System.InvalidFilename",
            "MKFILE of a name of 256 bytes.",
            tree(1).mkfile(&long),
        ),
        case(
            "mkfile-below-256-bytes",
            "System.InvalidFilename",
            "A component of 256 bytes within a path.",
            tree(1).mkfile(format!("{long}/f")),
        ),
        case(
            "path-over-path-max",
            missing,
            "A path of 4,199 bytes through a directory that is not there.",
            tree(1).mkfile(deep),
        ),
        case(
            "rename-missing",
            missing,
            "RENAME of what is not there.",
            tree(1).rename("x", "y"),
        ),
        case(
            "unlink-missing",
            missing,
            "UNLINK of what is not there.",
            tree(1).command(11, [attr::path("x")]),
        ),
        case(
            "rmdir-missing",
            missing,
            "RMDIR of what is not there.",
            tree(1).command(12, [attr::path("x")]),
        ),
        case(
            "write-missing",
            missing,
            "WRITE to a file that is not there.",
            tree(1).write("x", 0, b"x"),
        ),
        case(
            "rename-into-itself",
            "System.InvalidInput",
            "RENAME of a directory into itself.",
            tree(1).rename("d", "d/x"),
        ),
        case(
            "rename-onto-filled-directory",
            "System.DirectoryNotEmpty",
            "RENAME of a directory onto one that is not empty.",
            tree(1).rename("e", "d"),
        ),
        case(
            "rename-file-onto-directory",
            "System.IsADirectory",
            "RENAME of a file onto a directory.",
            tree(1).rename("f", "e"),
        ),
        case(
            "rename-directory-onto-file",
            "System.NotADirectory",
            "RENAME of a directory onto a file.",
            tree(1).rename("e", "f"),
        ),
        case(
            "link-of-directory",
            "System.PermissionDenied",
            "LINK of a directory.",
            tree(1).command(10, [attr::path("x"), attr::path_link("d")]),
        ),
        case(
            "unlink-directory",
            "System.IsADirectory",
            "UNLINK of a directory.",
            tree(1).command(11, [attr::path("e")]),
        ),
        case(
            "rmdir-file",
            "System.NotADirectory",
            "RMDIR of a file.",
            tree(1).command(12, [attr::path("f")]),
        ),
        case(
            "rmdir-filled",
            "System.DirectoryNotEmpty",
            "RMDIR of a directory that is not empty.",
            tree(1).command(12, [attr::path("d")]),
        ),
    ]
}

fn roots() -> Vec<Case> {
    let root = |name: &str, what: &str, stream: RawStream| {
        let defect = format!("{what} the root of the subvolume.");
        case(&format!("{name}-root"), "RootItself", &defect, stream)
    };
    vec![
        root("mkfile", "MKFILE in place of", tree(1).mkfile("")),
        root("mkdir", "MKDIR in place of", tree(1).mkdir("")),
        root("symlink", "SYMLINK in place of", tree(1).symlink("", "/")),
        root(
            "mknod",
            "MKNOD in place of",
            tree(1).special(5, "", 0o20_666, 0x103),
        ),
        root("rename", "RENAME of", tree(1).rename("", "x")),
        root("rename-onto", "RENAME onto", tree(1).rename("d", "")),
        root(
            "link",
            "LINK of",
            tree(1).command(10, [attr::path("x"), attr::path_link("")]),
        ),
        root("unlink", "UNLINK of", tree(1).command(11, [attr::path("")])),
        root("rmdir", "RMDIR of", tree(1).command(12, [attr::path("")])),
        case(
            "write-root",
            DATA,
            "WRITE to the root of the subvolume.",
            tree(1).write("", 0, b"x"),
        ),
        case(
            "truncate-root",
            DATA,
            "TRUNCATE of the root of the subvolume.",
            tree(1).command(17, [attr::path(""), attr::size(0)]),
        ),
        case(
            "clone-root",
            DATA,
            "CLONE of the root of the subvolume.",
            tree(1).clone_block("f", OWN_UUID, ""),
        ),
    ]
}

fn kinds() -> Vec<Case> {
    vec![
        case(
            "write-directory",
            DATA,
            "WRITE to a directory.",
            tree(1).write("d", 0, b"x"),
        ),
        case(
            "truncate-directory",
            DATA,
            "TRUNCATE of a directory.",
            tree(1).command(17, [attr::path("d"), attr::size(0)]),
        ),
        case(
            "fallocate-directory",
            DATA,
            "FALLOCATE of a directory.",
            tree(2).command(
                23,
                [
                    attr::path("d"),
                    attr::fallocate_mode(3),
                    attr::file_offset(0),
                    attr::size(1),
                ],
            ),
        ),
        case(
            "encoded-write-directory",
            DATA,
            "ENCODED_WRITE to a directory.",
            tree(2).encoded("d", [1, 1, 0], [0, 0], b"x"),
        ),
        case(
            "mknod-without-type",
            RANGE,
            "MKNOD with a mode that has no type.",
            tree(1).special(5, "n", 0o600, 0),
        ),
        case(
            "mknod-of-file",
            RANGE,
            "MKNOD with the mode of a regular file.",
            tree(1).special(5, "n", 0o100_600, 0),
        ),
        case(
            "mkfifo-of-device",
            RANGE,
            "MKFIFO with the mode of a block device.",
            tree(1).special(6, "n", 0o60_600, 0x700),
        ),
        case(
            "mksock-of-device",
            RANGE,
            "MKSOCK with the mode of a character device.",
            tree(1).special(7, "n", 0o20_600, 0x101),
        ),
        case(
            "mknod-mode-over-32-bits",
            RANGE,
            "MKNOD with a mode that is right only in its low 32 bits.",
            tree(1).special(5, "n", 0x1_0000_0000 | 0o20_600, 0),
        ),
        case(
            "mknod-device-over-32-bits",
            RANGE,
            "MKNOD with a device number over 32 bits.",
            tree(1).special(5, "n", 0o20_600, 0x1_0000_0103),
        ),
    ]
}

fn metadata() -> Vec<Case> {
    let xattr = |version: u32, name: &str, value: &[u8]| {
        let attributes = [
            attr::path("f"),
            attr::xattr_name(name),
            attr::xattr_data(value),
        ];
        tree(version).command(13, attributes)
    };
    let chown =
        |uid: u64, gid: u64| tree(1).command(19, [attr::path("f"), attr::uid(uid), attr::gid(gid)]);
    vec![
        case(
            "xattr-namespace-unknown",
            "System.Unsupported",
            "An extended attribute of a namespace that no kernel has.",
            xattr(1, "vendor.label", b"x"),
        ),
        case(
            "xattr-name-256-bytes",
            "System.Uncategorized",
            "An extended attribute with a name of 256 bytes.",
            xattr(1, &format!("user.{}", "n".repeat(251)), b"x"),
        ),
        case(
            "xattr-name-empty",
            "System.Uncategorized",
            "An extended attribute without a name.",
            xattr(1, "", b"x"),
        ),
        case(
            "xattr-acl-garbage",
            "System.Unsupported",
            "An access control list of version 7.",
            xattr(1, "system.posix_acl_access", b"\x07\0\0\0garbage!"),
        ),
        case(
            "xattr-capability-garbage",
            "System.InvalidInput",
            "File capabilities of three bytes.",
            xattr(1, "security.capability", b"cap"),
        ),
        case(
            "xattr-compression-unknown",
            "System.InvalidInput",
            "btrfs.compression with an algorithm that no kernel has.",
            xattr(1, "btrfs.compression", b"rot13"),
        ),
        case(
            "xattr-value-60-kib",
            "System.StorageFull",
            "An extended attribute that no 16 KiB node can hold.",
            xattr(2, "user.large", &[b'x'; 60_000]),
        ),
        case(
            "chmod-type-bits",
            RANGE,
            "CHMOD that would turn a file into a block device.",
            tree(1).command(18, [attr::path("f"), attr::mode(0o60_777)]),
        ),
        case(
            "chmod-huge",
            RANGE,
            "CHMOD with a mode over 32 bits.",
            tree(1).command(18, [attr::path("f"), attr::mode(0x1_0000_01ff)]),
        ),
        case(
            "chown-uid-2-to-32",
            RANGE,
            "CHOWN to user 4,294,967,296, which is root in 32 bits.",
            chown(1 << 32, 0),
        ),
        case(
            "chown-gid-2-to-64",
            RANGE,
            "CHOWN to group 18,446,744,073,709,551,615.",
            chown(0, u64::MAX),
        ),
        case(
            "chown-uid-minus-1",
            RANGE,
            "CHOWN to user 4,294,967,295, which the kernel takes for \"leave it\".",
            chown(0xffff_ffff, 0),
        ),
    ]
}

fn numbers() -> Vec<Case> {
    let truncate = |size: u64| tree(1).command(17, [attr::path("f"), attr::size(size)]);
    let fallocate = |mode: u32, offset: u64, len: u64| {
        let attributes = [
            attr::path("f"),
            attr::fallocate_mode(mode),
            attr::file_offset(offset),
            attr::size(len),
        ];
        tree(2).command(23, attributes)
    };
    vec![
        case(
            "write-at-2-to-63",
            RANGE,
            "WRITE at offset 2^63.",
            tree(1).write("f", 1 << 63, b"x"),
        ),
        case(
            "write-over-2-to-63",
            RANGE,
            "WRITE that begins below 2^63 and ends beyond.",
            tree(1).write("f", (1 << 63) - 2, b"xyz"),
        ),
        case(
            "write-over-2-to-64",
            RANGE,
            "WRITE whose end wraps around.",
            tree(1).write("f", u64::MAX, b"xyz"),
        ),
        case(
            "truncate-2-to-63",
            RANGE,
            "TRUNCATE to 2^63 bytes.",
            truncate(1 << 63),
        ),
        case(
            "truncate-2-to-64",
            RANGE,
            "TRUNCATE to 2^64 - 1 bytes.",
            truncate(u64::MAX),
        ),
        case(
            "fallocate-wraps",
            RANGE,
            "FALLOCATE of a range that wraps around.",
            fallocate(3, u64::MAX - 4095, 8192),
        ),
        case(
            "fallocate-mode-unknown",
            "System.Unsupported",
            "FALLOCATE with every mode at once.",
            fallocate(u32::MAX, 0, 4096),
        ),
        case(
            "encoded-write-at-2-to-63",
            RANGE,
            "ENCODED_WRITE that ends beyond 2^63.",
            tree(2).encoded("f", [u64::MAX, 4096, 0], [1, 0], b"x"),
        ),
    ]
}

fn clones() -> Vec<Case> {
    let clone = |offset: u64, len: u64, source_offset: u64| {
        let source = (OWN_UUID, &b"f"[..], source_offset);
        tree(1).clone_range("d/f", offset, len, source)
    };
    let within = tree(1).clone_block("f", OWN_UUID, "f");
    vec![
        case(
            "clone-from-unknown",
            "NoSource",
            "CLONE from a subvolume that is not there.",
            tree(1).clone_block("d/f", UNKNOWN_UUID, "f"),
        ),
        case(
            "clone-from-nil",
            "NoSource",
            "CLONE from the nil UUID.",
            tree(1).clone_block("d/f", [0; 16], "f"),
        ),
        case(
            "clone-from-missing",
            "System.NotFound",
            "CLONE from a file that is not there.",
            tree(1).clone_block("d/f", OWN_UUID, "x"),
        ),
        case(
            "clone-from-directory",
            DATA,
            "CLONE from a directory.",
            tree(1).clone_block("f", OWN_UUID, "d"),
        ),
        case(
            "clone-to-directory",
            DATA,
            "CLONE to a directory.",
            tree(1).clone_block("d", OWN_UUID, "f"),
        ),
        case(
            "clone-past-source",
            "SourceTooShort",
            "CLONE from beyond the end of the source.",
            clone(0, 4096, 1 << 40),
        ),
        case(
            "clone-huge",
            "SourceTooShort",
            "CLONE of 2^62 bytes.",
            clone(0, 1 << 62, 0),
        ),
        case(
            "clone-length-wraps",
            RANGE,
            "CLONE whose length wraps around.",
            clone(4096, u64::MAX, 0),
        ),
        case(
            "clone-offset-2-to-63",
            RANGE,
            "CLONE to offset 2^63.",
            clone(1 << 63, 4096, 0),
        ),
        case(
            "clone-source-2-to-63",
            RANGE,
            "CLONE from offset 2^63.",
            clone(0, 4096, 1 << 63),
        ),
        case(
            "clone-onto-itself",
            "System.InvalidInput",
            "CLONE of a range onto itself.",
            within,
        ),
    ]
}
