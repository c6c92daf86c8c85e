//! A dry run says what the receive then says.

use btrfs_receive::dry_run::DryRun;
use btrfs_receive::{BtrfsDestination, Receiver};
use btrfs_sendstream::{Command, EnableVerity, StreamPath, SubvolumeName, Uuid, Version, Writer};
use btrfs_testkit::{LoopFilesystem, Test, test};

pub(crate) fn tests() -> Vec<Test> {
    vec![test!(verity_is_foretold)]
}

fn with_verity(block_size: u32, salt: &[u8]) -> Vec<u8> {
    let path = || StreamPath::parse(&b"file"[..]).unwrap();
    let mut writer = Writer::new(Vec::new());
    writer.header(Version::V3).unwrap();
    let commands = [
        Command::Subvol {
            name: SubvolumeName::parse(&b"sealed"[..]).unwrap(),
            uuid: Uuid::from_u128(1),
            ctransid: 7,
        },
        Command::Mkfile {
            path: path(),
            ino: 257,
        },
        Command::Write {
            path: path(),
            offset: 0,
            data: b"data",
        },
        Command::EnableVerity(EnableVerity {
            path: path(),
            algorithm: 1,
            block_size,
            salt,
            signature: b"",
        }),
        Command::End,
    ];
    for command in commands {
        writer.command(&command).unwrap();
    }
    writer.finish().unwrap()
}

/// Whether this kernel has fs-verity or not.
fn verity_is_foretold() {
    for (block_size, salt_len) in [
        (4096, 0),
        (4096, 32),
        (4096, 33),
        (1024, 8),
        (2048, 0),
        (512, 0),
        (8192, 0),
    ] {
        let filesystem = LoopFilesystem::new();
        let stream = with_verity(block_size, &[7; 64][..salt_len]);
        let case = format!("blocks of {block_size}, {salt_len} bytes of salt");
        let mut dry_run = DryRun::open(filesystem.path()).unwrap();
        let forecast = dry_run.run(&stream[..]);
        assert!(forecast.stream.is_good(), "{case}");
        let destination = BtrfsDestination::open(filesystem.path()).unwrap();
        let result = Receiver::new(destination).receive(&stream[..], &mut ());
        assert_eq!(forecast.is_good(), result.is_ok(), "{case}: {result:?}");
        if let Err(error) = result {
            let failure = error.first_failure.unwrap();
            assert_eq!(forecast.failures[0].to_string(), failure.to_string());
        }
    }
}
