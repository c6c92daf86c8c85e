//! Extractions compared with what was sent, on several filesystems, as root
//! and as an ordinary user.

use std::path::{Path, PathBuf};

use btrfs_testkit::{LoopFilesystem, Sample, Sender, Test, subvolume, test};

use super::support::{
    Ground, Kind, as_user, assert_extracted, assert_same_content, blocks, extract,
};

/// The sample before and after its changes.
struct Sent {
    filesystem: LoopFilesystem,
}

impl Sent {
    fn new() -> Self {
        let filesystem = LoopFilesystem::new();
        let work = subvolume::create(&filesystem.path().join("work"));
        let sample = Sample::default();
        sample.build(&work);
        subvolume::snapshot_read_only(&work, &filesystem.path().join("full"));
        sample.change(&work);
        subvolume::snapshot_read_only(&work, &filesystem.path().join("incremental"));
        Self { filesystem }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.filesystem.path().join(name)
    }

    fn streams(&self, version: u32, compressed: bool) -> [Vec<u8>; 2] {
        let (full, incremental) = (self.path("full"), self.path("incremental"));
        [Sender::new(&full), Sender::new(&incremental).parent(&full)].map(|sender| {
            let sender = sender.version(version);
            match compressed {
                true => sender.compressed().to_vec(),
                false => sender.to_vec(),
            }
        })
    }
}

fn extract_sample(sent: &Sent, streams: &[Vec<u8>; 2], into: &Path) {
    for (name, stream) in ["full", "incremental"].iter().zip(streams) {
        let extracted = extract(stream, into);
        let subvolume = &extracted.report.subvolumes[0];
        let list = &extracted.losses;
        assert_eq!(
            subvolume.losses.total() - subvolume.losses.of_parent,
            list.len() as u64
        );
        // What the parent lacks, its copy lacks, and only the first is told.
        match subvolume.losses.of_parent {
            0 => assert_extracted(&sent.path(name), &into.join(name), list),
            _ => assert_same_content(&sent.path(name), &into.join(name)),
        }
    }
}

fn the_sample_arrives(on: Kind) {
    let Some(ground) = Ground::new(on) else {
        return;
    };
    let sent = Sent::new();
    for (version, compressed) in [(1, false), (2, false), (2, true)] {
        let into = ground.directory(&format!("{version}{compressed}"));
        extract_sample(&sent, &sent.streams(version, compressed), &into);
    }
}

fn the_sample_arrives_at_an_ordinary_user(on: Kind) {
    let Some(ground) = Ground::new(on) else {
        return;
    };
    let sent = Sent::new();
    let streams = sent.streams(2, true);
    let into = ground.directory("user");
    let lists = as_user(|| {
        streams
            .each_ref()
            .map(|stream| extract(stream, &into).losses)
    });
    assert_extracted(&sent.path("full"), &into.join("full"), &lists[0]);
    // The parent's list holds for what the second stream does not mention.
    assert_same_content(&sent.path("incremental"), &into.join("incremental"));
    assert!(lists[0].len() > 20 && lists[1].len() > 5, "{lists:?}");
}

fn a_copy_of_the_parent_shares_its_data() {
    let ground = Ground::new(Kind::Btrfs).unwrap();
    let filesystem = LoopFilesystem::new();
    let work = subvolume::create(&filesystem.path().join("work"));
    let data = btrfs_testkit::files::pattern(1, 8 << 20, false);
    std::fs::write(work.join("large"), &data).unwrap();
    let first = subvolume::snapshot_read_only(&work, &filesystem.path().join("first"));
    std::fs::write(work.join("small"), b"x").unwrap();
    let second = subvolume::snapshot_read_only(&work, &filesystem.path().join("second"));
    extract(&Sender::new(&first).to_vec(), ground.path());
    let Ground::Btrfs(on) = &ground else { return };
    let used = || {
        on.sync();
        let facts = rustix::fs::statvfs(on.path()).unwrap();
        (facts.f_blocks - facts.f_bfree) * facts.f_frsize
    };
    let before = used();
    extract(&Sender::new(&second).parent(&first).to_vec(), on.path());
    assert!(used() - before < 4 << 20, "{} bytes more", used() - before);
    assert_eq!(std::fs::read(on.path().join("second/large")).unwrap(), data);
}

fn holes_stay_holes(on: Kind) {
    let Some(ground) = Ground::new(on) else {
        return;
    };
    let filesystem = LoopFilesystem::new();
    let work = subvolume::create(&filesystem.path().join("work"));
    btrfs_testkit::files::write(&work.join("f"), 64 << 20, b"the end").unwrap();
    let first = subvolume::snapshot_read_only(&work, &filesystem.path().join("first"));
    std::fs::write(work.join("small"), b"x").unwrap();
    let second = subvolume::snapshot_read_only(&work, &filesystem.path().join("second"));
    extract(&Sender::new(&first).to_vec(), ground.path());
    extract(&Sender::new(&second).parent(&first).to_vec(), ground.path());
    for name in ["first", "second"] {
        let path = ground.path().join(name);
        assert!(
            blocks(&path) < 1000,
            "{name} takes {} blocks",
            blocks(&path)
        );
        assert_eq!(
            std::fs::metadata(path.join("f")).unwrap().len(),
            (64 << 20) + 7
        );
    }
}

pub(crate) fn tests() -> Vec<Test> {
    let mut tests = vec![test!(a_copy_of_the_parent_shares_its_data)];
    for kind in [Kind::Btrfs, Kind::Ext4, Kind::Tmpfs, Kind::Overlay] {
        tests.extend([
            test!(the_sample_arrives, kind),
            test!(the_sample_arrives_at_an_ordinary_user, kind),
            test!(holes_stay_holes, kind),
        ]);
    }
    tests
}
