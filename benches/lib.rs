//! Streams to measure with, made in memory; see README.md.

use btrfs_sendstream::{
    Bytes, Command, CommandBuf, Encoder, Error, StreamPath, SubvolumeName, Timespec, Uuid, Version,
};

/// Bytes in one WRITE of the streams with large writes: what kernels send in
/// version 1.
pub const WRITE_LEN: usize = 48 * 1024;

/// The name of the subvolume in every stream made here.
pub const SUBVOLUME: &str = "made";

/// The UUID of that subvolume.
pub const UUID: Uuid = Uuid::from_u128(0x6265_6e63_6865_7320_7375_6276_6f6c_756d);

/// A path that is known to be one.
///
/// # Panics
/// If it is none.
pub fn path(text: &str) -> StreamPath {
    StreamPath::parse(Bytes::copy_from_slice(text.as_bytes())).expect("a path")
}

/// The command that begins every stream made here.
pub fn subvol() -> CommandBuf {
    Command::Subvol {
        name: SubvolumeName::parse(Bytes::from_static(SUBVOLUME.as_bytes())).expect("a name"),
        uuid: UUID,
        ctransid: 7,
    }
}

/// The commands of one small file or directory as kernels send them: created
/// under a temporary name, renamed, given owner, mode and times.
pub fn inode(number: u64, to: StreamPath, is_directory: bool) -> [CommandBuf; 5] {
    let first = path(&format!("o{number}-7-0"));
    let ino = number;
    let create = match is_directory {
        true => Command::Mkdir {
            path: first.clone(),
            ino,
        },
        false => Command::Mkfile {
            path: first.clone(),
            ino,
        },
    };
    let time = |seconds| Timespec {
        seconds,
        nanoseconds: 123_456_789,
    };
    [
        create,
        Command::Rename {
            path: first,
            to: to.clone(),
        },
        Command::Chown {
            path: to.clone(),
            uid: 1000,
            gid: 1000,
        },
        Command::Chmod {
            path: to.clone(),
            mode: if is_directory { 0o755 } else { 0o644 },
        },
        Command::Utimes {
            path: to,
            atime: time(1_700_000_000),
            mtime: time(1_600_000_000),
            ctime: time(1_700_000_001),
            otime: None,
        },
    ]
}

/// Commands without file data: `inodes` files, a hundred in each directory.
pub fn metadata_commands(inodes: u64) -> Vec<CommandBuf> {
    let mut commands = vec![subvol()];
    for number in 0..inodes {
        let directory = format!("directory-{}", number / 100);
        if number % 100 == 0 {
            commands.extend(inode(1_000_000_000 + number, path(&directory), true));
        }
        let name = format!("{directory}/some-file-{number}");
        commands.extend(inode(257 + number, path(&name), false));
    }
    commands.push(Command::End);
    commands
}

/// `writes` commands with [`WRITE_LEN`] bytes each, to one file.
pub fn write_commands(writes: u64) -> Vec<CommandBuf> {
    let file = path("file");
    let mut commands = vec![subvol()];
    commands.extend(inode(257, file.clone(), false));
    let data: Bytes = (0..WRITE_LEN).map(|index| (index / 7) as u8).collect();
    commands.extend((0..writes).map(|number| Command::Write {
        path: file.clone(),
        offset: number * WRITE_LEN as u64,
        data: data.clone(),
    }));
    commands.push(Command::End);
    commands
}

/// The stream with these commands.
///
/// # Errors
/// A command that cannot be encoded in version 1.
pub fn encoded(commands: &[CommandBuf]) -> Result<Vec<u8>, Error> {
    let (mut encoder, mut out) = (Encoder::new(), Vec::new());
    encoder.header(Version::V1, &mut out)?;
    for command in commands {
        encoder.command(command, &mut out)?;
    }
    Ok(out)
}
