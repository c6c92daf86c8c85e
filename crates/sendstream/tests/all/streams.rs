//! Streams that a kernel sent, and streams by hand.

use std::path::{Path, PathBuf};

use btrfs_sendstream::{Command as Sent, CommandRef, SubvolumeName, Uuid, Version, Writer};

/// A stream that a kernel sent.
pub(crate) fn kernel_stream(name: &str) -> String {
    let streams = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/streams");
    let path: PathBuf = streams.join(format!("{name}.stream"));
    path.to_str().unwrap().to_owned()
}

/// The bytes of a stream.
pub(crate) fn build(commands: &[CommandRef<'_>]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    writer.header(Version::V2).unwrap();
    for command in commands {
        writer.command(command).unwrap();
    }
    writer.finish().unwrap()
}

/// A full stream with these commands; its subvolume has the transid 7.
pub(crate) fn full_stream<'a>(
    name: &'a str,
    uuid: u128,
    commands: &[CommandRef<'a>],
) -> Vec<CommandRef<'a>> {
    let first = Sent::Subvol {
        name: SubvolumeName::parse(name.as_bytes()).unwrap(),
        uuid: Uuid::from_u128(uuid),
        ctransid: 7,
    };
    [&[first], commands, &[Sent::End]].concat()
}
