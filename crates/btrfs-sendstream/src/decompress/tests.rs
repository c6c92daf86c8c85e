use std::io::Write as _;

use proptest::prelude::*;

use super::*;
use crate::command::StreamPath;

const LZO4K: Compression = Compression::Lzo { sector_size: 4096 };

/// The encoded writes of a stream that a kernel made.
fn encoded_writes(stream: &[u8]) -> Vec<EncodedWrite<Vec<u8>>> {
    let mut writes = Vec::new();
    let mut at = 17;
    while at < stream.len() {
        let length = u32::from_le_bytes(stream[at..at + 4].try_into().unwrap()) as usize;
        let payload = &stream[at + 10..at + 10 + length];
        if stream[at + 4] == 25 {
            writes.push(encoded_write(payload));
        }
        at += 10 + length;
    }
    writes
}

fn encoded_write(mut payload: &[u8]) -> EncodedWrite<Vec<u8>> {
    let mut attributes = std::collections::BTreeMap::new();
    while let [low, high, rest @ ..] = payload {
        let number = u16::from_le_bytes([*low, *high]);
        if number == 19 {
            attributes.insert(number, rest.to_vec());
            break;
        }
        let length = u16::from_le_bytes([rest[0], rest[1]]) as usize;
        attributes.insert(number, rest[2..2 + length].to_vec());
        payload = &rest[2 + length..];
    }
    let u64_of = |number| u64::from_le_bytes(attributes[&number][..].try_into().unwrap());
    let u32_of = |number| {
        let value: &Vec<u8> = attributes.get(&number)?;
        Some(u32::from_le_bytes(value[..].try_into().unwrap()))
    };
    EncodedWrite {
        path: StreamPath::parse(attributes[&15].clone()).unwrap(),
        offset: u64_of(18),
        unencoded_file_len: u64_of(27),
        unencoded_len: u64_of(28),
        unencoded_offset: u64_of(29),
        compression: u32_of(30),
        encryption: u32_of(31),
        data: attributes[&19].clone(),
    }
}

fn kernel_stream(algorithm: &str) -> Vec<EncodedWrite<Vec<u8>>> {
    let path = format!(
        "{}/../../testdata/streams/encoded-{algorithm}.v2.stream",
        env!("CARGO_MANIFEST_DIR")
    );
    encoded_writes(&std::fs::read(path).unwrap())
}

fn decode(compression: Compression, data: &[u8], len: u64) -> Result<Vec<u8>, DecodeError> {
    Decompressor::new()
        .decode(compression, data, len)
        .map(<[u8]>::to_vec)
}

fn zlib_of(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn zstd_of(content: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(content, ruzstd::encoding::CompressionLevel::Fastest)
}

/// btrfs's segment layout; returns how often a length was moved to the next
/// sector.
fn lzo_of(content: &[u8], sector: usize) -> (Vec<u8>, usize) {
    let mut out = vec![0; 4];
    let mut moved = 0;
    for piece in content.chunks(sector) {
        let left = sector - out.len() % sector;
        if left < 4 {
            out.resize(out.len() + left, 0);
            moved += 1;
        }
        let segment = lzo1x_of(piece);
        out.extend_from_slice(&u32::try_from(segment.len()).unwrap().to_le_bytes());
        out.extend_from_slice(&segment);
    }
    let total = u32::try_from(out.len()).unwrap();
    out[..4].copy_from_slice(&total.to_le_bytes());
    (out, moved)
}

/// LZO1X with every kind of instruction: at each place the last match there
/// was, if it is long enough.
fn lzo1x_of(content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    // Where the number of literals after the last match goes.
    let mut tail = None;
    let (mut seen, mut at, mut literals) = (std::collections::HashMap::new(), 0, 0);
    while at < content.len() {
        let mut best = None;
        for least in [2, 3] {
            let Some(key) = content.get(at..at + least) else {
                break;
            };
            let Some(from) = seen.insert(key, at) else {
                continue;
            };
            let (distance, rest) = (at - from, &content[at..]);
            let same = rest.iter().zip(&content[from..]);
            let length = same.take_while(|(a, b)| a == b).count();
            let usable = match least {
                2 => (1..=3).contains(&literals) && distance <= 1024,
                _ => distance < 49152,
            };
            if usable {
                best = Some((if least == 2 { 2 } else { length }, distance));
            }
        }
        let Some((length, distance)) = best else {
            at += 1;
            literals += 1;
            continue;
        };
        lzo1x_literals(&mut out, &content[at - literals..at], tail);
        tail = Some(lzo1x_match(&mut out, length, distance, literals));
        (at, literals) = (at + length, 0);
    }
    lzo1x_literals(&mut out, &content[at - literals..], tail);
    out.extend_from_slice(&[17, 0, 0]);
    out
}

fn lzo1x_literals(out: &mut Vec<u8>, literals: &[u8], tail: Option<usize>) {
    match (literals.len(), tail) {
        (count @ 0..=3, Some(tail)) => out[tail] |= count as u8,
        (0, None) => {}
        (count @ 1..=238, None) => out.push(17 + count as u8),
        (count, _) => lzo1x_length(out, 0, count - 3, 15),
    }
    out.extend_from_slice(literals);
}

/// Returns the place of the byte that has room for a number of literals.
fn lzo1x_match(out: &mut Vec<u8>, length: usize, distance: usize, literals: usize) -> usize {
    let at = out.len();
    match (length, distance, literals) {
        (2, _, _) => {
            out.push(((distance - 1) << 2) as u8 & 0b1100);
            out.push(((distance - 1) >> 2) as u8);
            return at;
        }
        (3, 2049..=3072, 4..) => {
            out.push(((distance - 2049) << 2) as u8 & 0b1100);
            out.push(((distance - 2049) >> 2) as u8);
            return at;
        }
        (3..=8, ..=2048, _) => {
            out.push((length - 1) as u8 * 32 + ((distance - 1) << 2) as u8 % 32);
            out.push(((distance - 1) >> 3) as u8);
            return at;
        }
        (_, ..=16384, _) => lzo1x_length(out, 32, length - 2, 31),
        _ => {
            let high = (distance - 16384) >> 14 << 3;
            lzo1x_length(out, 16 + high as u8, length - 2, 7);
        }
    }
    let distance = if distance <= 16384 {
        distance - 1
    } else {
        distance - 16384
    };
    out.extend_from_slice(&((distance << 2) as u16).to_le_bytes());
    out.len() - 2
}

fn lzo1x_length(out: &mut Vec<u8>, instruction: u8, length: usize, largest: usize) {
    match length.checked_sub(largest + 1) {
        None => out.push(instruction + length as u8),
        Some(more) => {
            out.push(instruction);
            out.resize(out.len() + more / 255, 0);
            out.push((more % 255 + 1) as u8);
        }
    }
}

fn encode(compression: Compression, content: &[u8]) -> Vec<u8> {
    match compression {
        Compression::Zlib => zlib_of(content),
        Compression::Zstd => zstd_of(content),
        Compression::Lzo { sector_size } => lzo_of(content, sector_size as usize).0,
        _ => content.to_vec(),
    }
}

#[test]
fn kernel_extents_of_every_algorithm_hold_the_files() {
    let mut decompressor = Decompressor::new();
    let mut headers = Vec::new();
    for algorithm in ["zlib", "lzo", "zstd"] {
        let mut files = std::collections::BTreeMap::<_, Vec<u8>>::new();
        for write in kernel_stream(algorithm) {
            let content = decompressor.decode_write(&write).unwrap();
            assert_eq!(content.len() as u64, write.unencoded_file_len);
            let file = files.entry(write.path.as_bytes().to_vec()).or_default();
            assert_eq!(file.len() as u64, write.offset);
            file.extend_from_slice(content);
        }
        let line = format!("compress me {algorithm}\n");
        let repeated = |line: &str, len| line.bytes().cycle().take(len).collect::<Vec<u8>>();
        assert!(files[&b"big"[..]] == repeated(&line, 300_000));
        assert!(files[&b"inl"[..]] == repeated("in\n", 500));
        headers.push(files[&b"hdr"[..]].clone());
    }
    assert_eq!(headers[0].len(), 31_526);
    assert!(headers.iter().all(|header| *header == headers[0]));
}

#[test]
fn short_output_is_filled_and_long_output_cut() {
    for compression in [
        Compression::None,
        Compression::Zlib,
        Compression::Zstd,
        LZO4K,
    ] {
        let data = encode(compression, &[7; 6000]);
        let filled = decode(compression, &data, 8192).unwrap();
        assert_eq!(
            (&filled[..6000], &filled[6000..]),
            (&[7; 6000][..], &[0; 2192][..])
        );
        for len in [0, 1, 4096, 5999, 6000] {
            assert_eq!(
                decode(compression, &data, len).unwrap(),
                vec![7; len as usize]
            );
        }
    }
}

#[test]
fn padding_after_the_stream_is_ignored() {
    for compression in [Compression::Zlib, Compression::Zstd, LZO4K] {
        let mut data = encode(compression, b"some content");
        data.resize(4096, 0);
        assert_eq!(decode(compression, &data, 12).unwrap(), b"some content");
    }
}

#[test]
fn lzo_lengths_stay_clear_of_sector_boundaries() {
    // Incompressible pieces leave fewer than four bytes in some sector.
    let noise = |len: usize| -> Vec<u8> {
        let mut state = 1u32;
        std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .take(len)
        .collect()
    };
    let mut moved_at_all = 0;
    for zeros in 0..64 {
        let mut content = noise(4096 * 3);
        content[4000 - zeros..4000].fill(0);
        let (data, moved) = lzo_of(&content, 4096);
        moved_at_all += moved;
        assert_eq!(decode(LZO4K, &data, content.len() as u64).unwrap(), content);
    }
    assert!(moved_at_all > 0);
}

#[test]
fn lzo_lengths_count_themselves() {
    for total in 0..4_u32 {
        let data = [&total.to_le_bytes()[..], &[0; 8]].concat();
        let error = decode(LZO4K, &data, 4096).unwrap_err();
        assert!(matches!(error, DecodeError::Damaged { .. }), "{error}");
    }
}

#[test]
fn sizes_are_checked_first() {
    let too_long = MAX_UNENCODED_LEN as u64 + 1;
    assert_eq!(
        decode(Compression::Zlib, b"", too_long),
        Err(DecodeError::UnencodedTooLong { len: too_long })
    );
    assert_eq!(
        decode(Compression::None, &vec![0; MAX_ENCODED_LEN + 1], 1),
        Err(DecodeError::EncodedTooLong {
            len: MAX_ENCODED_LEN + 1
        })
    );
}

#[test]
fn a_window_over_the_limit_is_refused() {
    // Magic, no single segment, window log 31.
    let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x01, 0x00, 0x00];
    assert!(matches!(
        decode(Compression::Zstd, &frame, 4096),
        Err(DecodeError::Damaged { format: "zstd", .. })
    ));
}

#[test]
fn a_bomb_of_blocks_stops_at_the_wanted_length() {
    // Window 128 KiB, then run-length blocks of 128 KiB, none the last.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x38];
    while frame.len() + 4 <= MAX_ENCODED_LEN {
        frame.extend_from_slice(&[0x02, 0x00, 0x10, 0xaa]);
    }
    assert_eq!(
        decode(Compression::Zstd, &frame, 4096).unwrap(),
        [0xaa; 4096]
    );
}

#[test]
fn cut_off_data_is_named_so() {
    let content: Vec<u8> = (0..20_000u32).flat_map(u32::to_le_bytes).collect();
    for compression in [Compression::Zlib, Compression::Zstd] {
        let data = encode(compression, &content);
        let error = decode(compression, &data[..data.len() / 2], content.len() as u64);
        assert!(
            matches!(error, Err(DecodeError::Truncated { .. })),
            "{error:?}"
        );
    }
    let (data, _) = lzo_of(&content, 4096);
    assert_eq!(
        decode(LZO4K, &data[..data.len() - 1], content.len() as u64),
        Err(DecodeError::Truncated { format: "LZO" })
    );
}

#[test]
fn the_part_must_lie_inside_the_extent_and_the_file() {
    let write = |offset, unencoded_offset, unencoded_file_len| EncodedWrite {
        path: StreamPath::parse(b"f".to_vec()).unwrap(),
        offset,
        unencoded_file_len,
        unencoded_len: 8192,
        unencoded_offset,
        compression: Some(1),
        encryption: None,
        data: zlib_of(&[9; 8000]),
    };
    let mut decompressor = Decompressor::new();
    let part = decompressor.decode_write(&write(0, 7000, 1192)).unwrap();
    assert_eq!(
        (&part[..1000], &part[1000..]),
        (&[9; 1000][..], &[0; 192][..])
    );
    for (start, len) in [(7000, 1193), (8193, 0), (u64::MAX, 1), (1, u64::MAX - 1)] {
        let error = decompressor
            .decode_write(&write(0, start, len))
            .unwrap_err();
        assert!(
            matches!(
                error,
                DecodeError::OutsideExtent { .. } | DecodeError::BeyondFile { .. }
            ),
            "{error}"
        );
    }
    assert!(matches!(
        decompressor.decode_write(&write(i64::MAX as u64, 0, 1)),
        Err(DecodeError::BeyondFile { .. })
    ));
    let mut encrypted = write(0, 0, 1);
    encrypted.encryption = Some(1);
    assert_eq!(
        decompressor.decode_write(&encrypted),
        Err(DecodeError::Encrypted { number: 1 })
    );
    let mut unknown = write(0, 0, 1);
    unknown.compression = Some(8);
    assert_eq!(
        decompressor.decode_write(&unknown),
        Err(DecodeError::UnknownCompression { number: 8 })
    );
}

fn any_compression() -> impl Strategy<Value = Compression> {
    prop_oneof![
        Just(Compression::None),
        Just(Compression::Zlib),
        Just(Compression::Zstd),
        (3u32..=7).prop_map(|number| Compression::from_number(number).unwrap()),
    ]
}

/// Content with runs and repeats, so that every kind of block occurs.
fn any_content() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(
        (prop::collection::vec(any::<u8>(), 1..300), 1usize..20),
        0..30,
    )
    .prop_map(|pieces| {
        let mut content: Vec<u8> = pieces
            .into_iter()
            .flat_map(|(piece, times)| piece.repeat(times))
            .collect();
        content.truncate(MAX_UNENCODED_LEN);
        content
    })
}

proptest! {
    #[test]
    fn decoding_undoes_encoding(compression in any_compression(), content in any_content()) {
        let data = encode(compression, &content);
        prop_assert_eq!(decode(compression, &data, content.len() as u64).unwrap(), content);
    }

    #[test]
    fn arbitrary_bytes_end_in_a_result(
        compression in any_compression(),
        data in prop::collection::vec(any::<u8>(), 0..2000),
        len in 0u64..140_000,
    ) {
        let _ = decode(compression, &data, len);
    }

    #[test]
    fn damaged_extents_end_in_a_result(
        compression in any_compression(),
        content in any_content(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
        keep in any::<bool>(),
    ) {
        let mut data = encode(compression, &content);
        if data.is_empty() {
            return Ok(());
        }
        for (index, byte) in damage {
            let index = index.index(data.len());
            data[index] ^= byte;
        }
        if !keep {
            data.truncate(cut.index(data.len()));
        }
        let mut decompressor = Decompressor::new();
        if let Ok(decoded) = decompressor.decode(compression, &data, content.len() as u64) {
            prop_assert_eq!(decoded.len(), content.len());
        }
        // Damage leaves nothing behind that the next extent could notice.
        let sound = encode(compression, &content);
        let decoded = decompressor.decode(compression, &sound, content.len() as u64);
        prop_assert_eq!(decoded.unwrap(), content);
    }

    #[test]
    fn damaged_kernel_extents_end_in_a_result(
        algorithm in prop::sample::select(vec!["zlib", "lzo", "zstd"]),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut write = kernel_stream(algorithm).swap_remove(3);
        for (index, byte) in damage {
            // The stream proper; what follows it is padding.
            let index = index.index(7000);
            write.data[index] ^= byte;
        }
        let _ = Decompressor::new().decode_write(&write);
    }
}
