//! Other settings than the default, several transforms in a row, version 3,
//! and the reference as the receiver.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use btrfs_receive::btrfs_sendstream::transform::{
    Apart, Codec, Downgrade, Filter, Identity, Newer, Rewrite, Rules, Together, Transform,
    TransformErrorKind, Upgrade,
};
use btrfs_receive::btrfs_sendstream::{
    Command, EnableVerity, Item, Reader, StreamPath, SubvolumeName, Uuid, Version, Writer,
};
use btrfs_testkit::history::{Differential, Mode};
use btrfs_testkit::{
    Compared, LoopFilesystem, Sender, Test, assert_same_tree_in, reference_receive, test,
};

use super::support::{assert_received, commands, receive, sample, transformed};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(the_sample_arrives_upgraded_with, "zstd", 1, 1),
        test!(the_sample_arrives_upgraded_with, "zstd", 15, 3),
        test!(the_sample_arrives_upgraded_with, "zlib", 1, 4),
        test!(the_sample_arrives_upgraded_with, "zlib", 9, 1),
        test!(threads_change_nothing),
        test!(the_sample_arrives_from_version_3),
        test!(the_reference_receives_what_was_transformed, "upgraded"),
        test!(the_reference_receives_what_was_transformed, "downgraded"),
        test!(the_reference_receives_what_was_transformed, "up and down"),
        test!(random_histories_arrive_up_and_down_again),
        test!(random_histories_arrive_through_all_that_changes_nothing),
    ]
}

fn upgrade(codec: &str, level: u8, threads: usize) -> Upgrade {
    let codec = match codec {
        "zlib" => Codec::Zlib,
        _ => Codec::Zstd,
    };
    let builder = Upgrade::builder().codec(codec).level(level);
    builder.threads(NonZeroUsize::new(threads).unwrap()).build()
}

/// Without what version 1 cannot say.
fn downgrade(target: Version) -> Downgrade {
    Downgrade::builder(target).newer(Newer::Drop).build()
}

/// The sample and its change, as streams of version 1.
fn streams(filesystem: &LoopFilesystem) -> [(PathBuf, Vec<u8>); 2] {
    let (first, second) = sample(filesystem);
    let full = Sender::new(&first).version(1).to_vec();
    let change = Sender::new(&second).parent(&first).version(1).to_vec();
    [(first, full), (second, change)]
}

/// Receives what becomes of the streams and compares it with what was sent.
fn arrive<T: Transform>(streams: &[(PathBuf, Vec<u8>)], transform: impl Fn() -> T) {
    let to = LoopFilesystem::new();
    for (snapshot, stream) in streams {
        receive(&transformed(stream, transform()).unwrap(), to.path()).unwrap();
        let name = snapshot.file_name().unwrap();
        assert_received(snapshot, &to.path().join(name));
    }
}

fn the_sample_arrives_upgraded_with(codec: &str, level: u8, threads: usize) {
    let from = LoopFilesystem::new();
    arrive(&streams(&from), || upgrade(codec, level, threads));
}

fn threads_change_nothing() {
    let from = LoopFilesystem::new();
    for (_, stream) in streams(&from) {
        for codec in ["zstd", "zlib"] {
            let one = transformed(&stream, upgrade(codec, 3, 1)).unwrap();
            for threads in [2, 5] {
                let more = transformed(&stream, upgrade(codec, 3, threads)).unwrap();
                assert!(one == more, "{codec}, {threads} threads");
            }
        }
    }
}

/// No kernel sends version 3 without being built for experiments: this is a
/// stream of version 2 under another header, with ENABLE_VERITY for a file.
fn of_version_3(stream: &[u8]) -> Vec<u8> {
    let (mut reader, mut writer) = (Reader::new(stream), Writer::new(Vec::new()));
    let mut last = None;
    while let Some(item) = reader.next_owned().unwrap() {
        match item {
            Item::Header(_) => writer.header(Version::V3).unwrap(),
            Item::Command(end @ Command::End) => {
                let path: StreamPath = last.take().unwrap();
                let verity = Command::EnableVerity(EnableVerity {
                    path,
                    algorithm: 1,
                    block_size: 4096,
                    salt: "".into(),
                    signature: "".into(),
                });
                writer.command(&verity).unwrap();
                writer.command(&end).unwrap();
            }
            other => {
                if let Item::Command(Command::Write { path, .. }) = &other {
                    last = Some(path.clone());
                }
                writer.item(&other).unwrap();
            }
        }
    }
    writer.finish().unwrap()
}

fn the_sample_arrives_from_version_3() {
    let from = LoopFilesystem::new();
    let (first, second) = sample(&from);
    let full = Sender::new(&first).version(2);
    let change = Sender::new(&second).parent(&first).version(2);
    let streams = [(first.clone(), full), (second.clone(), change)]
        .map(|(snapshot, sender)| (snapshot, of_version_3(&sender.to_vec())));
    for (_, stream) in &streams {
        for target in [Version::V1, Version::V2] {
            let refused = transformed(stream, Downgrade::to(target)).unwrap_err();
            assert!(
                matches!(refused.kind(), TransformErrorKind::Newer { .. }),
                "{refused}"
            );
        }
        let steps = downgrade(Version::V2).then(downgrade(Version::V1));
        let steps = transformed(stream, steps).unwrap();
        assert!(steps == transformed(stream, downgrade(Version::V1)).unwrap());
        let newer = |command: &Command| command.kind().since() > Version::V1;
        assert!(!commands(&steps).iter().any(newer));
    }
    arrive(&streams, || downgrade(Version::V2));
    arrive(&streams, || downgrade(Version::V1));
}

/// The reference makes mistakes of its own, and has to make the same ones. The
/// change of the sample is more than it can receive.
fn the_reference_receives_what_was_transformed(how: &str) {
    let from = LoopFilesystem::new();
    let (to, other) = (LoopFilesystem::new(), LoopFilesystem::new());
    let up = || upgrade("zstd", 3, 2);
    let (snapshot, _) = sample(&from);
    let version = if how == "downgraded" { 2 } else { 1 };
    let original = Sender::new(&snapshot).version(version).to_vec();
    let stream = match how {
        "upgraded" => transformed(&original, up()),
        "downgraded" => transformed(&original, downgrade(Version::V1)),
        _ => transformed(&original, up().then(downgrade(Version::V1))),
    };
    reference_receive(&original, other.path()).unwrap();
    reference_receive(&stream.unwrap(), to.path()).unwrap();
    let name = snapshot.file_name().unwrap();
    // It does not always keep the times of the root.
    let compared = Compared {
        root_times: false,
        ..Compared::default()
    };
    assert_same_tree_in(&other.path().join(name), &to.path().join(name), &compared);
}

/// Receives a random history through a transform.
fn through<T: Transform + 'static>(make: fn() -> T) -> Differential {
    Differential::new(
        move |stream: &[u8], directory: &Path| match transformed(stream, make()) {
            Ok(stream) => receive(&stream, directory),
            // Nothing in the stream shows that a hole lies inside its file.
            Err(error) if matches!(error.kind(), TransformErrorKind::UnknownSize { .. }) => {
                receive(stream, directory)
            }
            Err(error) => Err(error.to_string()),
        },
    )
}

fn random_histories_arrive_up_and_down_again() {
    let there_and_back = || upgrade("zlib", 1, 2).then(downgrade(Version::V1));
    through(there_and_back).modes(&[Mode::V1]).run();
    let down_and_up = || downgrade(Version::V1).then(upgrade("zstd", 1, 2));
    through(down_and_up).modes(&[Mode::Compressed]).run();
}

/// Other names and back, joined and split, filtered by no rule.
fn nothing(stream: &[u8]) -> Result<Vec<u8>, String> {
    let failed =
        |error: btrfs_receive::btrfs_sendstream::transform::TransformError| error.to_string();
    let commands = commands(stream);
    let (name, own) = match commands.first() {
        Some(Command::Subvol { name, uuid, .. } | Command::Snapshot { name, uuid, .. }) => {
            (name.clone(), *uuid)
        }
        other => return Err(format!("begins with {other:?}")),
    };
    let rewrite = |name: SubvolumeName, uuid| {
        let identity = Identity {
            uuid: Some(uuid),
            ctransid: None,
        };
        Rewrite::new().name(name).own(identity)
    };
    let other = SubvolumeName::parse("another name".into()).map_err(|error| error.to_string())?;
    let there = rewrite(other, Uuid::from_u128(1)).then(Filter::new(Rules::default()));
    let there = transformed(stream, there).map_err(failed)?;
    assert!(there != stream);
    let back = Together::new().then(Apart::new()).then(rewrite(name, own));
    let back = transformed(&there, back).map_err(failed)?;
    assert!(back == stream);
    Ok(back)
}

fn random_histories_arrive_through_all_that_changes_nothing() {
    Differential::new(|stream, directory| receive(&nothing(stream)?, directory)).run();
}
