//! The memory that `verify`, `diff`, `list` and `cat-file` say they take for names, measured. In a
//! process of its own: a child begins with the peak of its parent.

use std::fs;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use btrfs_sendstream::{
    Command as Sent, CommandRef, StreamPath, SubvolumeName, Uuid, Version, Writer,
};
use wait4::Wait4;

/// Names in a stream: enough for the memory of the program itself not to
/// count.
const NAMES: u64 = 200_000;

/// A stream of this many files, in directories of `each`.
fn write_stream(to: &Path, each: u64) {
    // Not in memory: a program that is started counts what this one takes.
    let mut writer = Writer::new(BufWriter::new(fs::File::create(to).unwrap()));
    writer.header(Version::V1).unwrap();
    let subvol = Sent::Subvol {
        name: SubvolumeName::parse(&b"s"[..]).unwrap(),
        uuid: Uuid::from_u128(1),
        ctransid: 7,
    };
    writer.command(&subvol).unwrap();
    for number in 0..NAMES {
        let (directory, file) = (number / each, number % each);
        let directory = format!("directory-{directory:08}");
        if file == 0 {
            let path = StreamPath::parse(directory.as_bytes()).unwrap();
            writer.command(&Sent::Mkdir { path, ino: 1 }).unwrap();
        }
        let path = format!("{directory}/{file:08}");
        let path = StreamPath::parse(path.as_bytes()).unwrap();
        writer.command(&Sent::Mkfile { path, ino: 1 }).unwrap();
    }
    writer.command(&CommandRef::End).unwrap();
    writer.finish().unwrap().flush().unwrap();
}

/// The most memory that the command took, in bytes.
fn peak(args: &[&str], file: &Path) -> u64 {
    let child = Command::new(env!("CARGO_BIN_EXE_sendstream"))
        .args(args)
        .arg(file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let result = child.wait4().unwrap();
    assert!(result.status.success());
    result.rusage.maxrss
}

/// 300 MB of zeros, in little.
#[test]
fn a_bomb_takes_no_memory() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for program in ["zstd -c", "gzip -c", "lz4 -c", "xz -1 -c"] {
        let mut words = program.split(' ');
        let mut child = Command::new(words.next().unwrap())
            .args(words)
            .stdin(Stdio::piped())
            .stdout(fs::File::create(file.path()).unwrap())
            .spawn()
            .unwrap();
        let mut writer = Writer::new(BufWriter::new(child.stdin.take().unwrap()));
        writer.header(Version::V1).unwrap();
        let subvol = Sent::Subvol {
            name: SubvolumeName::parse(&b"s"[..]).unwrap(),
            uuid: Uuid::from_u128(1),
            ctransid: 7,
        };
        writer.command(&subvol).unwrap();
        let path = StreamPath::parse(&b"bomb"[..]).unwrap();
        writer.command(&Sent::Mkfile { path, ino: 1 }).unwrap();
        let data = &[0; 48 * 1024][..];
        for number in 0..6_000 {
            let write = CommandRef::Write {
                path,
                offset: number * data.len() as u64,
                data,
            };
            writer.command(&write).unwrap();
        }
        writer.command(&CommandRef::End).unwrap();
        writer.finish().unwrap().flush().unwrap();
        assert!(child.wait().unwrap().success());
        for command in [&["verify"][..], &["list"], &["cat-file", "bomb"]] {
            let most = peak(command, file.path());
            println!("{program}, {command:?}: {most}");
            // The dictionary of xz, the buffers, the program.
            assert!(most < 32 << 20, "{program}, {command:?}: {most}");
        }
    }
}

#[test]
fn names_take_what_is_said() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for each in [1, 1000] {
        write_stream(file.path(), each);
        let directories = NAMES / each;
        let names = NAMES + directories;
        let bytes = NAMES * 8 + directories * 18;
        let path_bytes = NAMES * 27 + directories * 18;
        let without = peak(&["verify", "--no-names"], file.path());
        // The buffer of the reader, the decompressor, the program.
        assert!(without < 16 << 20, "{without}");
        let verify = peak(&["verify"], file.path()) - without;
        let diff = peak(&["diff"], file.path()) - without;
        let list = peak(&["list"], file.path()) - without;
        let one = "directory-00000000/00000000";
        let cat_file = peak(&["cat-file", one], file.path()) - without;
        println!(
            "{names} names, {directories} directories: {verify} to verify, {diff} to compare, \
             {list} to list, {cat_file} to print a file"
        );
        assert!(verify < names * 512 + directories * 1024 + bytes);
        assert!(diff < names * 2048 + 2 * bytes + 4 * path_bytes);
        assert!(list < (names + directories) * 1024 + 2 * bytes);
        assert!(cat_file < (names + directories) * 2048 + 4 * bytes);
    }
}
