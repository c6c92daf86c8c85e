//! `--zeros=holes`: the same content, in fewer blocks.

use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use btrfs_sendstream::{
    CloneRange, Command, CommandRef, EncodedWrite, StreamPath, SubvolumeName, Uuid, Version,
};
use btrfs_testkit::{LoopFilesystem, Sender, Test, assert_same_tree, subvolume, test};

use crate::support::{encode, receive, text};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(holes_arrive_as_holes),
        test!(the_content_is_the_same),
        test!(a_file_has_its_size_whatever_comes),
        test!(what_was_stored_compressed_may_become_a_hole).needs_version(2),
        test!(set_aside_room_reads_as_zeros),
        test!(an_interrupted_receive_resumes),
    ]
}

const BLOCK: u64 = 4096;
const UUID: Uuid = Uuid::from_u128(7);

fn path(name: &str) -> StreamPath<&[u8]> {
    StreamPath::parse(name.as_bytes()).unwrap()
}

/// A subvolume `made` from these commands.
fn stream(commands: &[CommandRef<'_>]) -> Vec<u8> {
    let subvol = Command::Subvol {
        name: SubvolumeName::parse(&b"made"[..]).unwrap(),
        uuid: UUID,
        ctransid: 8,
    };
    let mut all = vec![subvol];
    all.extend(commands.iter().cloned());
    all.push(Command::End);
    encode(Version::V3, &all)
}

/// Receives it with zeros and with holes, beside each other.
#[track_caller]
fn both(stream: &[u8], to: &Path) -> [PathBuf; 2] {
    let made = ["keep", "holes"].map(|how| {
        let into = to.join(how);
        if !into.exists() {
            fs::create_dir(&into).unwrap();
        }
        let output = receive(stream, &[&format!("--zeros={how}")], &into);
        assert!(output.status.success(), "{how}: {}", text(&output).1);
        into.join("made")
    });
    rustix::fs::sync();
    made
}

fn content(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap()
}

/// Bytes that data takes, without holes.
fn stored(path: &Path) -> u64 {
    path.metadata().unwrap().blocks() * 512
}

/// In version 1, kernels send the holes of a file that was changed as zeros.
fn holes_arrive_as_holes() {
    const MIB: u64 = 1 << 20;
    let (from, to) = (LoopFilesystem::new(), LoopFilesystem::new());
    let work = subvolume::create(&from.path().join("work"));
    let image = File::create(work.join("image")).unwrap();
    image.set_len(64 * MIB).unwrap();
    for at in [0, 9, 40] {
        image.write_all_at(&[7; 65_536], at * MIB).unwrap();
    }
    let full = File::create(work.join("full")).unwrap();
    full.write_all_at(&vec![8; 8 << 20], 0).unwrap();
    let first = subvolume::snapshot_read_only(&work, &from.path().join("first"));
    let range = [3 * MIB + 5, 2 * MIB];
    let mode = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(&full, mode, range[0], range[1]).unwrap();
    image.set_len(80 * MIB + 1).unwrap();
    let second = subvolume::snapshot_read_only(&work, &from.path().join("second"));
    let streams = [
        Sender::new(&first).version(1).to_vec(),
        Sender::new(&second).parent(&first).version(1).to_vec(),
    ];
    for (stream, sent) in streams.iter().zip([&first, &second]) {
        let has_zeros = sent == &second;
        let output = receive(stream, &["--zeros=holes", "--json"], to.path());
        let (stdout, stderr) = text(&output);
        assert!(output.status.success(), "{stderr}");
        let said = stderr.contains(" MiB of zeros became holes\n");
        assert_eq!(said, has_zeros, "{stderr}");
        let counted = !stdout.contains("\"zeros_as_holes\":0");
        assert_eq!(counted, has_zeros, "{stdout}");
        let received = to.path().join(sent.file_name().unwrap());
        assert_same_tree(sent, &received);
        for name in ["image", "full"] {
            let (sent, received) = (stored(&sent.join(name)), stored(&received.join(name)));
            assert!(received <= sent + 2 * BLOCK, "{name}: {received} {sent}");
        }
    }
    assert!(stored(&to.path().join("second/image")) < MIB);
    assert!(stored(&to.path().join("second/full")) < 7 * MIB);
    // As it is by default.
    let other = LoopFilesystem::new();
    for stream in &streams {
        let output = receive(stream, &["--json"], other.path());
        assert!(text(&output).0.contains("\"zeros_as_holes\":0"));
    }
    rustix::fs::sync();
    assert!(stored(&other.path().join("second/full")) > 7 * MIB);
}

/// A generator that is good enough to choose with.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = self.0.wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    /// An offset or a length, mostly of whole blocks.
    fn range(&mut self, blocks: u64) -> u64 {
        match self.below(3) {
            0 => self.below(blocks * BLOCK),
            _ => self.below(blocks) * BLOCK,
        }
    }

    /// Runs of zeros and of other bytes.
    fn data(&mut self) -> Vec<u8> {
        let mut data = Vec::new();
        for _ in 0..=self.below(4) {
            let byte = self.below(2) as u8 * (1 + self.below(200) as u8);
            let len = data.len() + self.range(8) as usize;
            data.resize(len.min(48 << 10), byte);
        }
        data
    }
}

/// Random writes with runs of zeros, clones, holes and sizes.
fn the_content_is_the_same() {
    const FILES: [&str; 3] = ["a", "b", "c"];
    let seed = match std::env::var("ZEROS_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => RandomState::new().hash_one(0),
    };
    eprintln!("ZEROS_SEED={seed}");
    let mut random = Random(seed);
    let to = LoopFilesystem::new();
    let mut saved = 0;
    for round in 0..25 {
        let data: Vec<_> = (0..60).map(|_| random.data()).collect();
        let mut commands: Vec<CommandRef<'_>> = FILES
            .iter()
            .enumerate()
            .map(|(at, name)| Command::Mkfile {
                path: path(name),
                ino: 257 + at as u64,
            })
            .collect();
        // What a clone or a size refers to has to exist.
        let mut sizes = [0_u64; 3];
        let mut at = 0;
        for data in &data {
            let file = random.below(3) as usize;
            let name = path(FILES[file]);
            match random.below(8) {
                0 => {
                    let size = random.range(40);
                    sizes[file] = size;
                    commands.push(Command::Truncate { path: name, size });
                }
                1 => {
                    let (offset, len) = (random.range(40), random.range(9) + 1);
                    let mode = [3, 0, 1, 16][random.below(4) as usize];
                    if mode & 1 == 0 {
                        sizes[file] = sizes[file].max(offset + len);
                    }
                    commands.push(Command::Fallocate {
                        path: name,
                        mode,
                        offset,
                        len,
                    });
                }
                2 => {
                    let source = (file + 1) % 3;
                    let blocks = sizes[source] / BLOCK;
                    if blocks == 0 {
                        continue;
                    }
                    let first = random.below(blocks);
                    let len = (1 + random.below(blocks - first)) * BLOCK;
                    let offset = random.below(30) * BLOCK;
                    sizes[file] = sizes[file].max(offset + len);
                    commands.push(Command::Clone(CloneRange {
                        path: name,
                        offset,
                        len,
                        source_uuid: UUID,
                        source_ctransid: 8,
                        source_path: path(FILES[source]),
                        source_offset: first * BLOCK,
                    }));
                }
                choice => {
                    // Some follow the one before, and are joined with it.
                    let offset = if choice < 5 { at } else { random.range(40) };
                    if data.is_empty() {
                        continue;
                    }
                    at = offset + data.len() as u64;
                    sizes[file] = sizes[file].max(at);
                    commands.push(Command::Write {
                        path: name,
                        offset,
                        data,
                    });
                }
            }
        }
        let [kept, holes] = both(&stream(&commands), to.path());
        for (file, name) in FILES.iter().enumerate() {
            let (kept, holes) = (kept.join(name), holes.join(name));
            assert_eq!(kept.metadata().unwrap().len(), sizes[file], "round {round}");
            assert!(content(&kept) == content(&holes), "round {round}: {name}");
            assert!(stored(&holes) <= stored(&kept), "round {round}: {name}");
            saved += stored(&kept) - stored(&holes);
        }
        subvolume::delete(&kept);
        subvolume::delete(&holes);
    }
    assert!(saved > 0);
}

/// Also without a TRUNCATE at the end.
fn a_file_has_its_size_whatever_comes() {
    // Offsets and lengths, the size, and the bytes on disk.
    type Case = (&'static [(u64, usize)], u64, u64);
    const CASES: [Case; 6] = [
        (&[(0, 12 << 10)], 12 << 10, 0),
        (&[(0, 4096), (4096, 4096)], 8192, 0),
        (&[(100, 5000)], 5100, 8192),
        (&[(8192, 4096)], 12 << 10, 0),
        (&[(1 << 40, 4096)], (1 << 40) + 4096, 0),
        (&[(0, 4096), (1 << 20, 1)], (1 << 20) + 1, 4096),
    ];
    let to = LoopFilesystem::new();
    let zeros = vec![0; 12 << 10];
    for (writes, size, most) in CASES {
        let mut commands = vec![Command::Mkfile {
            path: path("file"),
            ino: 257,
        }];
        for &(offset, len) in writes {
            commands.push(Command::Write {
                path: path("file"),
                offset,
                data: &zeros[..len],
            });
        }
        let output = receive(&stream(&commands), &["--zeros=holes"], to.path());
        assert!(output.status.success(), "{}", text(&output).1);
        rustix::fs::sync();
        let file = to.path().join("made/file");
        assert_eq!(file.metadata().unwrap().len(), size, "{writes:?}");
        assert!(stored(&file) <= most, "{writes:?}: {}", stored(&file));
        subvolume::delete(&to.path().join("made"));
    }
    // An offset that no file has.
    for offset in [u64::MAX, u64::MAX - 4095, 1 << 63, (1 << 63) - 4096] {
        let commands = [
            Command::Mkfile {
                path: path("file"),
                ino: 257,
            },
            Command::Write {
                path: path("file"),
                offset,
                data: &zeros[..8192],
            },
        ];
        let output = receive(&stream(&commands), &["--zeros=holes"], to.path());
        assert_eq!(output.status.code(), Some(1), "{offset}");
        assert!(text(&output).1.contains("ERROR: "), "{}", text(&output).1);
        subvolume::delete(&to.path().join("made"));
    }
}

/// The receiver looks at the end whether compressed data is there.
fn what_was_stored_compressed_may_become_a_hole() {
    const LEN: u64 = 131_072;
    // Nobody looks into it: a kernel with encoded writes does not, and it is replaced.
    let extent: Vec<u8> = (0..8192_u32).map(|at| (at * 7 % 251) as u8).collect();
    let zeros = vec![0; 48 << 10];
    let mut commands = vec![
        Command::Mkfile {
            path: path("file"),
            ino: 257,
        },
        Command::EncodedWrite(EncodedWrite {
            path: path("file"),
            offset: 0,
            unencoded_file_len: LEN,
            unencoded_len: LEN,
            unencoded_offset: 0,
            compression: Some(1),
            encryption: None,
            data: &extent[..],
        }),
    ];
    for at in 0..3 {
        let offset = at * zeros.len() as u64;
        commands.push(Command::Write {
            path: path("file"),
            offset,
            data: &zeros,
        });
    }
    let to = LoopFilesystem::new();
    let output = receive(&stream(&commands), &["--zeros=holes"], to.path());
    assert!(output.status.success(), "{}", text(&output).1);
    rustix::fs::sync();
    let file = to.path().join("made/file");
    assert_eq!(content(&file), vec![0; 144 << 10]);
    assert_eq!(stored(&file), 0);
}

/// Behind the end of a file there may be room, and in it.
fn set_aside_room_reads_as_zeros() {
    let zeros = vec![0; 16 << 10];
    let commands = [
        Command::Mkfile {
            path: path("file"),
            ino: 257,
        },
        Command::Fallocate {
            path: path("file"),
            mode: 1,
            offset: 0,
            len: 64 << 10,
        },
        Command::Write {
            path: path("file"),
            offset: 0,
            data: &zeros,
        },
        Command::Write {
            path: path("file"),
            offset: 32 << 10,
            data: b"end",
        },
        Command::Write {
            path: path("file"),
            offset: 16 << 10,
            data: &zeros[..8192],
        },
    ];
    let to = LoopFilesystem::new();
    let [kept, holes] = both(&stream(&commands), to.path());
    assert_eq!(content(&kept.join("file")), content(&holes.join("file")));
}

/// From a checkpoint, with the same option or without.
fn an_interrupted_receive_resumes() {
    const PIECE: usize = 48 << 10;
    let zeros = vec![0; PIECE];
    let other: Vec<u8> = (0..PIECE).map(|at| (at / 8192 * 3) as u8).collect();
    let mut commands = vec![Command::Mkfile {
        path: path("file"),
        ino: 257,
    }];
    for at in 0..200_u64 {
        commands.push(Command::Write {
            path: path("file"),
            offset: at * PIECE as u64,
            data: if at % 3 == 0 { &other } else { &zeros },
        });
    }
    let stream = stream(&commands);
    let expected: Vec<u8> = (0..200)
        .flat_map(|at| if at % 3 == 0 { &other } else { &zeros })
        .copied()
        .collect();
    for second in ["--zeros=holes", "--zeros=keep"] {
        let to = LoopFilesystem::new();
        let checkpoints = "--checkpoint-every=1M";
        let cut = &stream[..stream.len() * 2 / 3];
        let output = receive(cut, &[checkpoints, "--zeros=holes"], to.path());
        assert_eq!(output.status.code(), Some(1));
        let output = receive(&stream, &[checkpoints, second], to.path());
        let (_, stderr) = text(&output);
        assert!(output.status.success(), "{stderr}");
        assert!(stderr.contains("resuming made from byte "), "{stderr}");
        rustix::fs::sync();
        let file = to.path().join("made/file");
        assert!(content(&file) == expected, "{second}");
        let all = expected.len() as u64;
        assert!(stored(&file) < all, "{second}: {}", stored(&file));
    }
}
