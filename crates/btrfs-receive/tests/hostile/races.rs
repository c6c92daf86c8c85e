//! Another process changes the tree while it is being received.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use btrfs_receive::{BtrfsDestination, Options, Receiver};
use btrfs_testkit::raw::{OWN_UUID, RawStream, attr};
use btrfs_testkit::{LoopFilesystem, Site, Test, files, test};

use crate::receive::receive;

/// Directories, each with a link beside it that leads out.
const PAIRS: usize = 24;

/// Receives of the whole stream.
const ROUNDS: usize = 12;

/// Every command goes through directories that change places with links to
/// the canary all the time. Which of them fail is chance; what they reach is
/// not.
fn directories_are_swapped_for_links(walk: bool) {
    let filesystem = LoopFilesystem::new();
    let site = Site::new(filesystem.path(), "race");
    let stream = stream().into_bytes();
    let mut swaps = 0;
    for _ in 0..ROUNDS {
        let mut options = Options::default();
        options.max_errors = 0;
        let destination = BtrfsDestination::builder().without_openat2(walk);
        let destination = destination.open(site.path()).unwrap();
        let mut receiver = Receiver::with_options(destination, options);
        let subvolume = site.path().join("s");
        let mut failed = false;
        swaps += while_swapping(&subvolume, || {
            failed = receiver.receive(&stream[..], &mut ()).is_err();
        });
        site.assert_untouched();
        let expected = if failed { (0, 1) } else { (1, 0) };
        assert_eq!(site.subvolumes(), Ok(expected));
        site.clear();
    }
    assert!(swaps > 0, "the other thread never came to swap anything");
}

fn stream() -> RawStream {
    let mut stream = RawStream::new(1).mkfile("f").write("f", 0, &[b'f'; 4096]);
    for pair in 0..PAIRS {
        stream = stream
            .symlink(format!("l{pair}"), "../canary")
            .mkdir(format!("d{pair}"))
            .mkfile(format!("d{pair}/file"));
    }
    for pair in (0..PAIRS).chain(0..PAIRS).chain(0..PAIRS) {
        let file = format!("d{pair}/file");
        let path = || attr::path(&file);
        stream = stream
            .write(&file, 0, b"escaped")
            .command(17, [path(), attr::size(3)])
            .command(18, [path(), attr::mode(0o777)])
            .command(19, [path(), attr::uid(1), attr::gid(1)])
            .command(
                13,
                [path(), attr::xattr_name("user.x"), attr::xattr_data("x")],
            )
            .clone_block(&file, OWN_UUID, "f")
            .utimes(&file, 0, 0)
            .mkfile(format!("d{pair}/new"))
            .rename(format!("d{pair}/new"), format!("d{pair}/sub"))
            .command(11, [attr::path(format!("d{pair}/sub"))])
            .command(12, [attr::path(format!("d{pair}/sub"))])
            .command(
                10,
                [attr::path(format!("d{pair}/other")), attr::path_link("f")],
            )
            .command(11, [attr::path(format!("d{pair}/other"))]);
    }
    stream.end()
}

/// Runs `body` while every directory and its link change places; returns
/// how often they did.
fn while_swapping(subvolume: &Path, body: impl FnOnce()) -> u64 {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let swapper = scope.spawn(|| {
            let mut swaps = 0;
            while !over.load(Ordering::Relaxed) {
                for pair in 0..PAIRS {
                    let (d, l) = (format!("d{pair}"), format!("l{pair}"));
                    let (d, l) = (subvolume.join(d), subvolume.join(l));
                    swaps += u64::from(files::exchange(&d, &l).is_ok());
                }
            }
            swaps
        });
        body();
        over.store(true, Ordering::Relaxed);
        swapper.join().unwrap()
    })
}

/// Nobody else comes in before the end, whatever the stream or the umask
/// says.
fn a_subvolume_under_construction_is_closed() {
    let filesystem = LoopFilesystem::new();
    let site = Site::new(filesystem.path(), "closed");
    let open = [attr::path(""), attr::mode(0o777)];
    let stream = RawStream::new(1).command(18, open).mkfile("f");
    let mode = || fs::metadata(site.path().join("s")).unwrap().mode() & 0o7777;
    receive(&site, stream.clone()).unwrap_err();
    assert_eq!(mode(), 0o700);
    site.clear();
    receive(&site, stream.end()).unwrap();
    assert_eq!(mode(), 0o777);
}

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(directories_are_swapped_for_links, false),
        test!(directories_are_swapped_for_links, true),
        test!(a_subvolume_under_construction_is_closed),
    ]
}
