//! How histories are drawn at random.

use proptest::prelude::*;
use proptest::strategy::Union;

use super::operation::{Flag, Operation, Pick, What};
use super::{Features, History};

/// Draws histories; shrinking drops operations and makes numbers smaller.
///
/// Each begins with a few new files, for the rest to have something to work
/// on, and takes some snapshots, so that there is something to compare.
pub fn histories(features: &Features) -> impl Strategy<Value = History> + use<> {
    let made = proptest::collection::vec(make(), 0..15);
    let stretch = proptest::collection::vec(operation(features), 1..=features.operations);
    let stretches = proptest::collection::vec(stretch, 1..=3);
    (made, stretches).prop_map(|(mut all, stretches)| {
        for stretch in stretches {
            all.extend(stretch);
            all.push(Operation::Snapshot);
        }
        // Playing adds the last.
        all.pop();
        History(all)
    })
}

fn operation(features: &Features) -> impl Strategy<Value = Operation> + use<> {
    let mut choices = names();
    choices.extend(data());
    choices.extend(attributes());
    choices.extend(xattrs());
    choices.push((2, Just(Operation::Snapshot).boxed()));
    if features.clones {
        choices.extend(clones());
    }
    if features.flags {
        let flag = (pick(), flag(), any::<bool>());
        let flag = flag.prop_map(|(path, flag, on)| Operation::SetFlag { path, flag, on });
        choices.push((3, flag.boxed()));
    }
    Union::new_weighted(choices)
}

/// A strategy and how often it is drawn.
type Choice = (u32, BoxedStrategy<Operation>);

fn names() -> Vec<Choice> {
    let place = || (pick(), pick(), pick());
    vec![
        (20, make().boxed()),
        (
            8,
            place()
                .prop_map(|(from, parent, name)| Operation::Rename { from, parent, name })
                .boxed(),
        ),
        (
            5,
            place()
                .prop_map(|(existing, parent, name)| Operation::Link {
                    existing,
                    parent,
                    name,
                })
                .boxed(),
        ),
        (
            3,
            (pick(), pick())
                .prop_map(|(a, b)| Operation::Exchange { a, b })
                .boxed(),
        ),
        (
            3,
            (pick(), pick())
                .prop_map(|(a, b)| Operation::ExchangeDirectories { a, b })
                .boxed(),
        ),
        (
            6,
            pick().prop_map(|path| Operation::Remove { path }).boxed(),
        ),
    ]
}

fn make() -> impl Strategy<Value = Operation> {
    (what(), pick(), pick()).prop_map(|(what, parent, name)| Operation::Make { what, parent, name })
}

/// The first few come up often: things happen to one file again and again,
/// and directories have names in common.
fn pick() -> impl Strategy<Value = Pick> + Clone {
    prop_oneof![0_u8..3, any::<Pick>()]
}

fn data() -> Vec<Choice> {
    let write = (pick(), offset(), length(), any::<u8>(), any::<bool>());
    let range = || (pick(), offset(), length());
    vec![
        (
            16,
            write
                .prop_map(
                    |(file, offset, length, seed, compressible)| Operation::Write {
                        file,
                        offset,
                        length,
                        seed,
                        compressible,
                    },
                )
                .boxed(),
        ),
        (
            4,
            (pick(), offset())
                .prop_map(|(file, size)| Operation::Truncate { file, size })
                .boxed(),
        ),
        (
            4,
            range()
                .prop_map(|(file, offset, length)| Operation::Punch {
                    file,
                    offset,
                    length,
                })
                .boxed(),
        ),
        (
            3,
            (range(), any::<bool>())
                .prop_map(
                    |((file, offset, length), keep_size)| Operation::Preallocate {
                        file,
                        offset,
                        length,
                        keep_size,
                    },
                )
                .boxed(),
        ),
        (4, pick().prop_map(|file| Operation::Sync { file }).boxed()),
    ]
}

fn clones() -> Vec<Choice> {
    let share = (pick(), pick(), 0_u8..40, 0_u8..60, 1_u8..30);
    vec![
        (
            6,
            share
                .prop_map(
                    |(from, to, from_block, to_block, blocks)| Operation::Share {
                        from,
                        to,
                        from_block,
                        to_block,
                        blocks,
                    },
                )
                .boxed(),
        ),
        (
            4,
            (pick(), pick(), pick())
                .prop_map(|(from, parent, name)| Operation::Reflink { from, parent, name })
                .boxed(),
        ),
    ]
}

fn attributes() -> Vec<Choice> {
    let owner = (pick(), any::<u16>(), any::<u16>());
    vec![
        (
            4,
            (pick(), 0_u16..0o10000)
                .prop_map(|(path, mode)| Operation::SetMode { path, mode })
                .boxed(),
        ),
        (
            4,
            owner
                .prop_map(|(path, uid, gid)| Operation::SetOwner { path, uid, gid })
                .boxed(),
        ),
        (
            4,
            (pick(), time(), time())
                .prop_map(|(path, atime, mtime)| Operation::SetTimes { path, atime, mtime })
                .boxed(),
        ),
    ]
}

fn xattrs() -> Vec<Choice> {
    let set = (pick(), pick(), xattr_length(), any::<u8>());
    vec![
        (
            9,
            set.prop_map(|(path, name, length, seed)| Operation::SetXattr {
                path,
                name,
                length,
                seed,
            })
            .boxed(),
        ),
        (
            3,
            (pick(), pick())
                .prop_map(|(path, name)| Operation::RemoveXattr { path, name })
                .boxed(),
        ),
        (
            3,
            (pick(), any::<bool>(), any::<u8>())
                .prop_map(|(path, default, user)| Operation::SetAcl {
                    path,
                    default,
                    user,
                })
                .boxed(),
        ),
        (
            2,
            (pick(), any::<bool>())
                .prop_map(|(path, default)| Operation::RemoveAcl { path, default })
                .boxed(),
        ),
        (
            3,
            (pick(), any::<u8>())
                .prop_map(|(file, bits)| Operation::SetCapability { file, bits })
                .boxed(),
        ),
        (
            3,
            (pick(), pick())
                .prop_map(|(path, algorithm)| Operation::Compress { path, algorithm })
                .boxed(),
        ),
    ]
}

fn what() -> impl Strategy<Value = What> {
    prop_oneof![
        8 => Just(What::File),
        6 => Just(What::Directory),
        2 => pick().prop_map(What::Symlink),
        1 => Just(What::Fifo),
        1 => Just(What::Socket),
        1 => (0_u16..4096, 0_u32..1 << 20).prop_map(|(major, minor)| What::CharDevice(major, minor)),
        1 => (0_u16..4096, 0_u32..1 << 20).prop_map(|(major, minor)| What::BlockDevice(major, minor)),
    ]
}

fn flag() -> impl Strategy<Value = Flag> {
    prop::sample::select(vec![
        Flag::NoDump,
        Flag::NoAtime,
        Flag::Sync,
        Flag::NoCow,
        Flag::Compress,
        Flag::NoCompress,
        Flag::Immutable,
        Flag::Append,
    ])
}

/// Offsets at block boundaries and anywhere.
fn offset() -> impl Strategy<Value = u32> {
    prop_oneof![
        2 => Just(0),
        3 => (0_u32..80).prop_map(|blocks| blocks * 4096),
        2 => 0_u32..300_000,
    ]
}

/// Lengths that stay inline, of whole blocks, and any.
fn length() -> impl Strategy<Value = u32> {
    prop_oneof![
        2 => 1_u32..2000,
        3 => (1_u32..40).prop_map(|blocks| blocks * 4096),
        2 => 1_u32..150_000,
    ]
}

fn xattr_length() -> impl Strategy<Value = u16> {
    prop_oneof![0_u16..200, 200_u16..4000, 4000_u16..16_000]
}

/// Times of all eras btrfs keeps.
fn time() -> impl Strategy<Value = (i64, u32)> {
    let seconds = prop_oneof![
        0_i64..2_000_000_000,
        -2_000_000_000_i64..0,
        -(1_i64 << 40)..1 << 40,
    ];
    (seconds, 0_u32..1_000_000_000)
}
