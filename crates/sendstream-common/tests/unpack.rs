//! What zstd, pzstd, gzip, lz4 and xz write is unpacked, and nothing else.

use std::fs::File;
use std::io::{self, Cursor, ErrorKind, Read, Seek, SeekFrom};
use std::process::Command;

use sendstream_common::unpack::{Decompress, Format, Problem, UnpackError, Unpacked};

/// What `command`, a program and its arguments, writes for `input`.
fn packed(command: &str, input: &[u8]) -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), input).unwrap();
    let mut words = command.split(' ');
    let output = Command::new(words.next().unwrap())
        .args(words)
        .stdin(File::open(file.path()).unwrap())
        .output()
        .unwrap_or_else(|error| panic!("{command}: {error}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {stderr}");
    output.stdout
}

/// Bytes that can be compressed, but not to nothing.
fn content(len: usize) -> Vec<u8> {
    let mut random = Random(len as u64 + 1);
    let mut bytes = Vec::new();
    while bytes.len() < len {
        match random.below(3) {
            0 => bytes.extend_from_slice(&[0; 300]),
            1 => bytes.extend((0..100).map(|_| random.below(256) as u8)),
            _ => {
                let from = random.below(bytes.len() + 1);
                let again = bytes[from..].iter().take(500).copied();
                let again: Vec<_> = again.collect();
                bytes.extend(again);
            }
        }
    }
    bytes.truncate(len);
    bytes
}

/// xorshift64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

const WRITERS: [(Format, &str); 31] = [
    (Format::Zstd, "zstd"),
    (Format::Zstd, "zstd -1 --no-check"),
    (Format::Zstd, "zstd --fast=5"),
    (Format::Zstd, "zstd -19"),
    (Format::Zstd, "zstd --ultra -22"),
    (Format::Zstd, "zstd --long=27"),
    (Format::Zstd, "zstd -T2 -B524288"),
    (Format::Zstd, "zstd --rsyncable -T2"),
    (Format::Zstd, "pzstd -p 2"),
    (Format::Gzip, "gzip"),
    (Format::Gzip, "gzip -1"),
    (Format::Gzip, "gzip -9"),
    (Format::Gzip, "gzip --rsyncable"),
    (Format::Lz4, "lz4"),
    (Format::Lz4, "lz4 -9"),
    (Format::Lz4, "lz4 -B4"),
    (Format::Lz4, "lz4 -B5"),
    (Format::Lz4, "lz4 -B6"),
    (Format::Lz4, "lz4 -BD"),
    (Format::Lz4, "lz4 -B4 -BD -BX -9"),
    (Format::Lz4, "lz4 -BI -BX"),
    (Format::Lz4, "lz4 -BD --no-frame-crc"),
    (Format::Xz, "xz"),
    (Format::Xz, "xz -0"),
    (Format::Xz, "xz -9e"),
    (Format::Xz, "xz --check=none"),
    (Format::Xz, "xz --check=crc32"),
    (Format::Xz, "xz --check=crc64"),
    (Format::Xz, "xz --check=sha256"),
    (Format::Xz, "xz -T2 --block-size=65536"),
    (Format::Xz, "xz --lzma2=preset=6,lc=0,lp=2,pb=0,dict=4096"),
];

/// One for each format, with all of the checksums it can have.
const STRICT: [(Format, &str); 4] = [
    (Format::Zstd, "zstd"),
    (Format::Gzip, "gzip -n"),
    (Format::Lz4, "lz4 -B4 -BD -BX"),
    (Format::Xz, "xz"),
];

/// What comes out until the end or an error.
fn read(input: impl Read, what: Decompress, at_once: usize) -> (Vec<u8>, io::Result<()>) {
    let mut input = Unpacked::new(input, what);
    let (mut all, mut piece) = (Vec::new(), vec![0; at_once]);
    loop {
        match input.read(&mut piece) {
            Ok(0) => return (all, Ok(())),
            Ok(len) => all.extend_from_slice(&piece[..len]),
            Err(error) => {
                // It does not end well after that, either.
                assert!(input.read(&mut piece).is_err());
                return (all, Err(error));
            }
        }
    }
}

#[track_caller]
fn assert_unpacked(input: &[u8], what: Decompress, expected: &[u8]) {
    let (all, result) = read(input, what, 64 * 1024);
    result.unwrap();
    assert!(all == expected);
}

/// The problem, and where it was found.
#[track_caller]
fn problem(input: &[u8], what: Decompress) -> (Problem, u64) {
    let (_, result) = read(input, what, 4096);
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    let known = error.into_inner().unwrap().downcast::<UnpackError>();
    let known = known.unwrap();
    (known.problem, known.position)
}

#[test]
fn what_the_tools_write_is_unpacked() {
    for len in [0, 1, 2, 1000, 70_000, 3_000_000] {
        let content = content(len);
        for (format, command) in WRITERS {
            let packed = packed(&format!("{command} -c"), &content);
            for what in [Decompress::Auto, Decompress::Only(format)] {
                for at_once in [1, 7, 4096, 1 << 20] {
                    if at_once < 100 && len > 100_000 {
                        continue;
                    }
                    let (all, result) = read(&packed[..], what, at_once);
                    result.unwrap_or_else(|error| panic!("{command}, {len}: {error}"));
                    assert!(all == content, "{command}, {len}, {at_once}");
                }
            }
        }
    }
}

/// A writer that wakes the reader for each byte.
struct Drop<'a>(&'a [u8]);

impl Read for Drop<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let len = into.len().min(1);
        self.0.read(&mut into[..len])
    }
}

#[test]
fn input_may_come_in_drops() {
    let content = content(20_000);
    for (_, command) in WRITERS {
        let packed = packed(&format!("{command} -c"), &content);
        let (all, result) = read(Drop(&packed), Decompress::Auto, 4096);
        result.unwrap();
        assert!(all == content, "{command}");
    }
}

fn skippable(number: u8, content: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x50 + number, 0x2a, 0x4d, 0x18];
    frame.extend((content.len() as u32).to_le_bytes());
    frame.extend(content);
    frame
}

#[test]
fn one_frame_may_follow_another() {
    let (one, two) = (content(100_000), content(5000));
    let both = [&one[..], &two].concat();
    for (format, command) in WRITERS {
        let command = format!("{command} -c");
        let (one, two) = (packed(&command, &one), packed(&command, &two));
        let nothing = packed(&command, b"");
        let mut inputs = vec![
            [&one[..], &two].concat(),
            [&nothing[..], &one, &nothing, &nothing, &two, &nothing].concat(),
        ];
        match format {
            Format::Zstd | Format::Lz4 => {
                let (short, long) = (skippable(0, b""), skippable(15, &[7; 300_000]));
                inputs.push([&short[..], &long, &one, &short, &two, &long].concat());
            }
            Format::Xz => inputs.push([&one[..], &[0; 4], &two, &[0; 8]].concat()),
            Format::Gzip => {}
        }
        for input in inputs {
            assert_unpacked(&input, Decompress::Auto, &both);
            assert_unpacked(&input, Decompress::Only(format), &both);
        }
    }
}

#[test]
fn a_cut_is_never_an_end() {
    let content = content(700);
    for (format, command) in STRICT {
        let packed = packed(&format!("{command} -c"), &content);
        for len in 1..packed.len() {
            let cut = &packed[..len];
            let (all, result) = read(cut, Decompress::Only(format), 64);
            // Nor is all of the content passed on.
            assert!(
                result.is_err() && all.len() < content.len(),
                "{command}, {len}"
            );
            assert!(content.starts_with(&all));
            let (all, result) = read(cut, Decompress::Auto, 64);
            // Of what is too short to be recognised, no byte is lost.
            assert!(
                result.is_err() || (all == cut && len < 6),
                "{command}, {len}"
            );
        }
        let whole = [&packed[..], &packed].concat();
        for len in packed.len() + 1..whole.len() {
            let (all, result) = read(&whole[..len], Decompress::Auto, 1000);
            assert!(
                result.is_err() && all.len() < 2 * content.len(),
                "{command}, {len}"
            );
        }
        let (problem, at) = problem(&packed[..packed.len() - 1], Decompress::Auto);
        assert_eq!(problem, Problem::Ended, "{command}");
        assert!(at < packed.len() as u64);
    }
}

#[test]
fn a_bit_that_flipped_is_found() {
    let content = content(700);
    for (format, command) in STRICT {
        let packed = packed(&format!("{command} -c"), &content);
        let mut harmless = 0;
        for bit in 0..packed.len() * 8 {
            let mut damaged = packed.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let (all, result) = read(&damaged[..], Decompress::Only(format), 64);
            if result.is_ok() {
                assert!(all == content, "{command}, bit {bit}");
                harmless += 1;
            }
        }
        // Times and systems in the header of gzip; in that of zstd, how large a
        // window is, and bits that mean nothing.
        assert!(harmless < 70, "{command}: {harmless}");
    }
}

#[test]
fn what_follows_a_frame_has_to_be_another() {
    let content = content(700);
    for (format, command) in STRICT {
        let one = packed(&format!("{command} -c"), &content);
        for follows in [
            &b"x"[..],
            &[0; 3],
            &[0; 510],
            b"btrfs-stream\0",
            b"\x28\xb5\x2f",
        ] {
            if format == Format::Xz && follows.len() == 510 {
                // Padding, and two bytes more.
                assert_eq!(follows.len() % 4, 2);
            }
            let input = [&one[..], follows].concat();
            let (all, result) = read(&input[..], Decompress::Auto, 64);
            assert!(result.is_err() && all == content, "{command}, {follows:?}");
            assert_eq!(problem(&input, Decompress::Auto).0, Problem::Trailing);
        }
        for (other, command) in STRICT {
            let two = packed(&format!("{command} -c"), &content);
            let input = [&one[..], &two].concat();
            if other != format {
                let expected = (Problem::Trailing, one.len() as u64);
                assert_eq!(problem(&input, Decompress::Auto), expected);
            }
        }
    }
}

#[test]
fn what_is_not_compressed_is_passed_on_if_it_may_be() {
    for plain in [
        &b""[..],
        b"b",
        b"btrfs-stream\0\x01\0\0\0 and so on",
        b"BZh9",
    ] {
        for at_once in [1, 3, 100] {
            for what in [Decompress::No, Decompress::Auto] {
                let (all, result) = read(plain, what, at_once);
                result.unwrap();
                assert_eq!(all, plain);
            }
        }
        for (format, _) in STRICT {
            if !plain.is_empty() {
                let expected = (Problem::Other(format), 0);
                assert_eq!(problem(plain, Decompress::Only(format)), expected);
            }
        }
    }
    for (format, command) in STRICT {
        let packed = packed(&format!("{command} -c"), b"content");
        assert_unpacked(&packed, Decompress::No, &packed);
        for (other, _) in STRICT {
            if other != format {
                let expected = (Problem::Other(other), 0);
                assert_eq!(problem(&packed, Decompress::Only(other)), expected);
            }
        }
    }
}

#[test]
fn no_more_is_read_than_was_asked_for() {
    let plain = b"btrfs-stream\0 and the rest";
    let mut rest = &plain[..];
    let mut input = Unpacked::new(&mut rest, Decompress::Auto);
    input.read_exact(&mut [0; 13]).unwrap();
    assert!(!input.is_packed());
    assert_eq!(rest, b" and the rest");
}

#[test]
fn memory_is_not_allocated_without_limit() {
    for (command, needed) in [
        ("zstd --long=28 -c", 1 << 28),
        ("zstd --long=31 -c", 1 << 31),
        ("xz --lzma2=dict=192MiB -c", 192 << 20),
    ] {
        let packed = packed(command, &content(5000));
        let (problem, at) = problem(&packed, Decompress::Auto);
        assert_eq!(problem, Problem::Window(needed), "{command}");
        assert!(at < 50);
    }
}

#[test]
fn what_is_not_supported_is_named() {
    let content = content(5000);
    let dictionary = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(dictionary.path(), &content).unwrap();
    let lz4 = format!("lz4 -D {} -c", dictionary.path().display());
    for command in ["xz --x86 --lzma2 -c", "xz --delta --lzma2 -c"] {
        let (problem, _) = problem(&packed(command, &content), Decompress::Auto);
        assert_eq!(problem, Problem::Unsupported("a filter other than LZMA2"));
    }
    // The header of lz4 does not say that there is one.
    assert!(
        read(&packed(&lz4, &content)[..], Decompress::Auto, 100)
            .1
            .is_err()
    );
    // Bit 0 of the flags says it.
    let with_id = b"\x04\x22\x4d\x18\x61\x40\x07\0\0\0\0";
    assert_eq!(
        problem(with_id, Decompress::Auto).0,
        Problem::Unsupported("a dictionary")
    );
}

#[test]
fn errors_of_the_input_are_passed_on() {
    /// Fails in the middle.
    struct Fails<'a>(&'a [u8]);
    impl Read for Fails<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            match self.0.read(into)? {
                0 => Err(io::Error::new(
                    ErrorKind::ConnectionReset,
                    "stopped by SIGTERM",
                )),
                len => Ok(len),
            }
        }
    }
    let content = content(700);
    for (format, command) in STRICT {
        let packed = packed(&format!("{command} -c"), &content);
        for len in 0..=packed.len() {
            for what in [Decompress::Auto, Decompress::Only(format)] {
                let (all, result) = read(Fails(&packed[..len]), what, 100);
                let error = result.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{command}, {len}");
                assert_eq!(error.to_string(), "stopped by SIGTERM");
                assert!(all.len() <= content.len());
            }
        }
    }
}

#[test]
fn the_last_byte_is_passed_on_when_its_frame_is_good() {
    let content = content(700);
    for (_, command) in STRICT {
        let mut packed = packed(&format!("{command} -c"), &content);
        let last = packed.len() - 1;
        packed[last] ^= 1;
        for at_once in [1, 2, 699, 700, 701, 5000] {
            let (all, result) = read(&packed[..], Decompress::Auto, at_once);
            let error = result.unwrap_err();
            let known = UnpackError::of(&error).unwrap();
            assert!(matches!(known.problem, Problem::Damaged(_)), "{error}");
            assert_eq!(all.len(), 699, "{command}, {at_once}");
        }
    }
}

#[test]
fn a_place_in_the_content_is_sought_by_unpacking_again() {
    let content = content(300_000);
    for (_, command) in STRICT {
        // It need not begin at the beginning of the file.
        let packed = [b"ab", &packed(&format!("{command} -c"), &content)[..]].concat();
        let mut input = Cursor::new(&packed[..]);
        input.set_position(2);
        let mut input = Unpacked::new(input, Decompress::Auto);
        assert_eq!(input.stream_position().unwrap(), 0);
        for to in [0, 1, 299_999, 300_000, 5, 1000] {
            assert_eq!(input.seek(SeekFrom::Start(to)).unwrap(), to);
            let mut rest = Vec::new();
            input.read_to_end(&mut rest).unwrap();
            assert!(rest == content[to as usize..], "{command}, {to}");
        }
        assert!(input.seek(SeekFrom::End(0)).is_err());
    }
    let mut input = Unpacked::new(Cursor::new(&content[..]), Decompress::Auto);
    input.read_exact(&mut [0; 100]).unwrap();
    input.seek(SeekFrom::Start(0)).unwrap();
    let mut all = Vec::new();
    input.read_to_end(&mut all).unwrap();
    assert!(all == content);
}

#[test]
fn nothing_makes_it_panic() {
    let seed = std::env::var("UNPACK_SEED").ok();
    let seed = seed.and_then(|it| it.parse().ok()).unwrap_or_else(|| {
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
        now.as_nanos() as u64 | 1
    });
    println!("UNPACK_SEED={seed}");
    let mut random = Random(seed);
    let content = content(3000);
    for (format, command) in WRITERS {
        let packed = packed(&format!("{command} -c"), &content);
        for _ in 0..50 {
            let mut damaged = packed.clone();
            for _ in 0..=random.below(4) {
                let at = random.below(damaged.len());
                match random.below(3) {
                    0 => damaged[at] = random.below(256) as u8,
                    1 => drop(damaged.drain(at..damaged.len().min(at + 1 + random.below(9)))),
                    _ => {
                        let again = damaged[at..].iter().take(random.below(50) + 1);
                        let again: Vec<_> = again.copied().collect();
                        damaged.splice(at..at, again);
                    }
                }
                if damaged.is_empty() {
                    damaged.push(0);
                }
            }
            for what in [Decompress::Auto, Decompress::Only(format)] {
                let mut input = Unpacked::new(&damaged[..], what);
                // What it becomes has an end.
                let limit = 64 << 20;
                let _ = io::copy(&mut input.by_ref().take(limit), &mut io::sink());
            }
        }
    }
}
