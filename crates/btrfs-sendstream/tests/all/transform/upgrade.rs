//! What becomes of older streams in version 2.

use btrfs_sendstream::transform::Upgrade;
use btrfs_sendstream::{Command, Version};

use super::{about_f, ranges, through, utimes, write};

fn upgraded(commands: Vec<Command>) -> Vec<Command> {
    about_f(through(&mut Upgrade::new(), Version::V1, commands).unwrap())
}

#[test]
fn adjacent_writes_become_extents() {
    let text = b"some text\n".repeat(30_000);
    let writes = |start: u64| {
        let pieces = (0..).step_by(48 * 1024).zip(text.chunks(48 * 1024));
        pieces
            .map(move |(offset, piece)| write(start + offset, piece))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        ranges(&upgraded(writes(0))),
        [
            ('e', 0, 131_072),
            ('e', 131_072, 131_072),
            ('e', 262_144, 37_856)
        ]
    );
    // Up to a sector boundary, data stays as it is.
    assert_eq!(
        ranges(&upgraded(writes(4096 - 10)))[..2],
        [('w', 4086, 10), ('e', 4096, 131_072)]
    );
    // What is not adjacent is not joined.
    let apart = vec![write(0, &text[..8192]), write(12_288, &text[..8192])];
    assert_eq!(
        ranges(&upgraded(apart)),
        [('e', 0, 8192), ('e', 12_288, 8192)]
    );
}

#[test]
fn what_does_not_shrink_is_written() {
    let mut state = 1_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    })
    .take(200_000)
    .collect();
    let commands = upgraded(vec![
        write(0, &noise[..100_000]),
        write(100_000, &noise[100_000..]),
    ]);
    assert_eq!(
        ranges(&commands),
        [('w', 0, 131_072), ('w', 131_072, 68_928)]
    );
    // Less than two sectors cannot shrink on disk.
    assert_eq!(
        ranges(&upgraded(vec![write(0, &[b'a'; 4096])])),
        [('w', 0, 4096)]
    );
    let empty = write(u64::MAX, b"");
    assert_eq!(upgraded(vec![empty.clone()]), [empty]);
    let too_far = write(u64::MAX, b"ab");
    assert_eq!(upgraded(vec![too_far.clone()]), [too_far]);
}

#[test]
fn zeros_become_holes_but_leave_the_size() {
    let zeros = vec![0; 300_000];
    // At the end of the data, the last sector is written.
    assert_eq!(
        ranges(&upgraded(vec![write(0, &zeros)])),
        [('h', 0, 299_008), ('w', 299_008, 992)]
    );
    let mut mixed = b"data ".repeat(60_000);
    mixed[8192..8192 + 65_536].fill(0);
    mixed[200_000..].fill(0);
    assert_eq!(
        ranges(&upgraded(vec![write(0, &mixed)])),
        [
            ('e', 0, 8192),
            ('h', 8192, 65_536),
            ('e', 73_728, 57_344),
            ('e', 131_072, 69_632),
            ('h', 200_704, 98_304),
            ('w', 299_008, 992),
        ]
    );
    let mut plain = Upgrade::builder().holes(false).build();
    let items = through(&mut plain, Version::V1, vec![write(0, &zeros)]).unwrap();
    assert_eq!(ranges(&about_f(items)).len(), 3);
    let stats = plain.stats();
    assert_eq!((stats.compressed, stats.bytes_punched), (3, 0));
}

#[test]
fn order_is_kept_between_compressed_and_other_commands() {
    let data = b"text ".repeat(20_000);
    let commands: Vec<Command> = (0..500_u64)
        .flat_map(|number| [write(number << 32, &data), utimes("f")])
        .collect();
    let out = upgraded(commands);
    let mut expected = 0;
    for pair in out.chunks(2) {
        assert_eq!(ranges(&pair[..1]), [('e', expected, 100_000)]);
        assert_eq!(pair[1], utimes("f"));
        expected += 1 << 32;
    }
    assert_eq!(out.len(), 1000);
}
