//! What a stream needs is held against the destination: `--dry-run` says what the
//! receive then says, for each need that `sendstream verify` names.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command as Process, Output, Stdio};

use btrfs_sendstream::{
    CloneRange, Command, CommandRef, EnableVerity, EncodedWrite, StreamPath, SubvolumeName, Uuid,
    Version, inode_flags,
};
use btrfs_testkit::{LoopFilesystem, Test, files, test};

use crate::support::{encode, run_with_input, text};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(every_need_is_foretold, false),
        test!(every_need_is_foretold, true),
        test!(what_to_do_without_verity),
        test!(what_to_do_about_verity).needs_verity(),
    ]
}

/// 8192 bytes of 7, as zlib compresses them.
const ZLIB: &[u8] = &[
    0x78, 0xda, 0xed, 0xc1, 0x31, 0x0d, 0x00, 0x00, 0x00, 0xc3, 0xa0, 0xb3, 0xfe, 0x1d, 0x4f, 0xc7,
    0x12, 0xa0, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x80, 0x77, 0x03, 0x62, 0x0f, 0xe0, 0x01,
];

/// The same, as zstd could: one block of a repeated byte.
const ZSTD: &[u8] = &[
    0x28, 0xb5, 0x2f, 0xfd, 0x60, 0x00, 0x1f, 0x03, 0x00, 0x01, 0x07,
];

fn file<'a>() -> StreamPath<&'a [u8]> {
    StreamPath::parse(&b"file"[..]).unwrap()
}

fn encoded(compression: u32, data: &[u8]) -> CommandRef<'_> {
    Command::EncodedWrite(EncodedWrite {
        path: file(),
        offset: 0,
        unencoded_file_len: 8192,
        unencoded_len: 8192,
        unencoded_offset: 0,
        compression: Some(compression),
        encryption: None,
        data,
    })
}

fn verity(block_size: u32, salt: &[u8]) -> CommandRef<'_> {
    Command::EnableVerity(EnableVerity {
        path: file(),
        algorithm: 1,
        block_size,
        salt,
        signature: b"",
    })
}

fn xattr<'a>(name: &'a str, data: &'a [u8]) -> CommandRef<'a> {
    Command::SetXattr {
        path: file(),
        name: name.as_bytes(),
        data,
    }
}

fn fallocate<'a>(mode: u32) -> CommandRef<'a> {
    Command::Fallocate {
        path: file(),
        mode,
        offset: 0,
        len: 4096,
    }
}

fn owner<'a>(uid: u64, gid: u64) -> CommandRef<'a> {
    Command::Chown {
        path: file(),
        uid,
        gid,
    }
}

fn stream(command: CommandRef<'_>) -> Vec<u8> {
    let subvol = Command::Subvol {
        name: SubvolumeName::parse(&b"received"[..]).unwrap(),
        uuid: Uuid::from_u128(1),
        ctransid: 7,
    };
    let mkfile = Command::Mkfile {
        path: file(),
        ino: 257,
    };
    encode(Version::V3, &[subvol, mkfile, command, Command::End])
}

/// The command; as root of a user namespace in which there is no other user, as in
/// a container.
fn program(contained: bool, options: &[&str], destination: &Path, stream: &[u8]) -> Output {
    let program = env!("CARGO_BIN_EXE_btrfs-recv-rs");
    let mut process = if contained {
        let mut unshare = Process::new("unshare");
        unshare.args(["--user", "--map-root-user", program]);
        unshare
    } else {
        Process::new(program)
    };
    process.args(options).arg(destination);
    process.stdout(Stdio::piped()).stderr(Stdio::piped());
    run_with_input(&mut process, stream)
}

/// Where commands fail, such as `command 3, byte 97`.
fn places(output: &Output) -> BTreeSet<&str> {
    let lines = text(output).1.lines();
    let at = lines.filter_map(|line| Some(line.split_once("command ")?.1));
    at.map(|at| at.split([')', ':']).next().unwrap_or(at))
        .collect()
}

fn every_need_is_foretold(contained: bool) {
    let capability = files::capability(1);
    let device = Command::Mknod {
        path: StreamPath::parse(&b"device"[..]).unwrap(),
        ino: 258,
        rdev: 0x103,
        mode: 0o20_644,
    };
    let clone = Command::Clone(CloneRange {
        path: file(),
        offset: 0,
        len: 4096,
        source_uuid: Uuid::from_u128(99),
        source_ctransid: 9,
        source_path: file(),
        source_offset: 0,
    });
    let flags = |attributes| Command::FileAttr {
        path: file(),
        attributes,
    };
    let cases = [
        ("owners", owner(5, 5)),
        ("owners", owner(0, 5)),
        ("devices", device),
        ("capabilities", xattr("security.capability", &capability)),
        ("trusted_xattrs", xattr("trusted.name", b"value")),
        ("file_attributes", flags(inode_flags::IMMUTABLE)),
        ("file_attributes", flags(inode_flags::NODUMP)),
        ("verity", verity(4096, b"")),
        ("verity", verity(4096, &[1; 33])),
        ("verity", verity(1024, b"")),
        ("fallocate", fallocate(0)),
        ("fallocate", fallocate(2)),
        ("fallocate", fallocate(3)),
        ("clones", clone),
        ("zlib", encoded(1, ZLIB)),
        ("lzo", encoded(4, &[0x55; 64])),
        ("zstd", encoded(2, ZSTD)),
    ];
    for (need, command) in cases {
        let to = LoopFilesystem::new();
        let stream = stream(command.clone());
        let case = format!("{need}: {command:?}");
        let json = program(contained, &["--dry-run", "--json"], to.path(), &stream);
        let json = text(&json).0;
        // LZO says of which sectors it is.
        assert!(json.contains(&format!("\"{need}")), "{case}: {json}");
        let forecast = program(contained, &["--dry-run"], to.path(), &stream);
        let received = program(contained, &[], to.path(), &stream);
        if text(&received).1.contains("cannot decode") {
            // Of content a dry run only says that it has to be decoded.
            assert!(
                text(&forecast).0.contains("would be decompressed"),
                "{case}"
            );
            continue;
        }
        assert_eq!(
            forecast.status.success(),
            received.status.success(),
            "{case}: {forecast:?} {received:?}"
        );
        let said = text(&received).1;
        assert_eq!(
            text(&forecast).0.contains("would be decompressed"),
            said.contains("decompressed"),
            "{case}: {said}"
        );
        // Flags that forbid changes are set at the end.
        if !said.contains("finish") {
            assert_eq!(places(&forecast), places(&received), "{case}");
        }
    }
}

/// The reason depends on the kernel: too old, built without it, or with blocks of
/// other sizes.
fn what_to_do_without_verity() {
    let has_verity = Path::new("/sys/fs/btrfs/features/verity").exists();
    let release = rustix::system::uname();
    let release = release.release().to_str().unwrap();
    let mut numbers = release.split('.').map(|it| it.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap(), numbers.next().unwrap());
    let likely = if has_verity {
        "the kernel does not support the hash algorithm or the block size"
    } else if version < (5, 15) {
        "btrfs has fs-verity since Linux 5.15"
    } else {
        "this kernel was built without fs-verity (CONFIG_FS_VERITY)"
    };
    let to = LoopFilesystem::new();
    let output = program(false, &[], to.path(), &stream(verity(512, b"")));
    assert!(!output.status.success());
    let said = text(&output).1;
    assert!(said.contains(&format!("likely: {likely}")), "{said}");
    assert!(said.contains("sendstream downgrade --drop-newer"), "{said}");
}

/// A file that has it takes no data.
fn what_to_do_about_verity() {
    let to = LoopFilesystem::new();
    let output = program(false, &[], to.path(), &stream(verity(4096, b"")));
    assert!(output.status.success(), "{output:?}");
    let commands = [
        Command::Snapshot {
            name: SubvolumeName::parse(&b"changed"[..]).unwrap(),
            uuid: Uuid::from_u128(2),
            ctransid: 8,
            parent_uuid: Uuid::from_u128(1),
            parent_ctransid: 7,
        },
        Command::Write {
            path: file(),
            offset: 0,
            data: b"data",
        },
        Command::End,
    ];
    let change = encode(Version::V3, &commands);
    let output = program(false, &[], to.path(), &change);
    assert!(!output.status.success());
    let said = text(&output).1;
    assert!(
        said.contains("likely: a file that is immutable or has fs-verity"),
        "{said}"
    );
}
