//! Capabilities decide, not the user id; and what lacks one fails clearly.

use std::io::{Seek, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use btrfs_receive::dry_run::DryRun;
use btrfs_receive::{ReceiveError, Report};
use btrfs_testkit::{LoopFilesystem, Sender, Test, files, subvolume, test};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

use crate::support::{Pair, Script, assert_received, receive, try_receive};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(encoded_writes_are_decoded_without_sys_admin).needs_version(2),
        test!(the_same_user_needs_no_chown),
        test!(set_id_bits_survive_without_fsetid),
        test!(a_lost_setgid_bit_is_noticed),
        test!(what_lacks_a_capability_is_an_error),
        test!(a_mode_that_lets_a_file_be_written_comes_first),
        test!(sources_are_found_without_sys_admin),
        test!(an_ordinary_user_receives_what_is_theirs),
        test!(an_ordinary_user_cannot_give_files_away),
    ]
}

/// Runs `action` on a thread of its own, which is root without some
/// capabilities.
fn without<T: Send>(dropped: CapabilitySet, action: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let mut sets = capabilities(None).unwrap();
            sets.effective -= dropped;
            sets.permitted -= dropped;
            sets.inheritable -= dropped;
            set_capabilities(None, sets).unwrap();
            action()
        });
        thread.join().unwrap()
    })
}

fn receive_without(
    dropped: CapabilitySet,
    stream: &[u8],
    into: &Path,
) -> Result<Report, Box<ReceiveError>> {
    without(dropped, || try_receive(stream, into))
}

fn encoded_writes_are_decoded_without_sys_admin() {
    let pair = Pair::new();
    let work = pair.work();
    for algorithm in ["zlib", "lzo", "zstd"] {
        let path = work.join(algorithm);
        files::make_file(&path).unwrap();
        files::set_xattr(&path, "btrfs.compression", algorithm.as_bytes()).unwrap();
        files::write(&path, 0, &files::pattern(1, 300_003, true)).unwrap();
        files::sync(&path).unwrap();
        files::write(&path, 12_000, b"changed").unwrap();
    }
    let snapshot = pair.snapshot("snapshot");
    let stream = Sender::new(&snapshot).version(2).compressed().to_vec();
    let report = receive_without(CapabilitySet::SYS_ADMIN, &stream, pair.to.path()).unwrap();
    assert!(report.fallbacks.encoded_writes_decoded > 3);
    assert_received(&snapshot, &pair.received("snapshot"));
}

fn the_same_user_needs_no_chown() {
    let pair = Pair::new();
    let work = pair.work();
    std::fs::create_dir(work.join("directory")).unwrap();
    std::fs::write(work.join("directory/file"), b"x").unwrap();
    std::os::unix::fs::symlink("target", work.join("link")).unwrap();
    let snapshot = pair.snapshot("snapshot");
    let stream = Sender::new(&snapshot).to_vec();
    receive_without(CapabilitySet::CHOWN, &stream, pair.to.path()).unwrap();
    assert_received(&snapshot, &pair.received("snapshot"));
}

/// Without the capability the kernel takes them off with every change of
/// data, which the stream does not know.
fn set_id_bits_survive_without_fsetid() {
    let pair = Pair::new();
    let work = pair.work();
    let path = work.join("program");
    std::fs::write(&path, files::pattern(1, 50_000, false)).unwrap();
    files::set_mode(&path, 0o6755).unwrap();
    let first = pair.carry("first", None);
    files::write(&path, 10_000, b"changed").unwrap();
    files::punch(&path, 16_384, 4096).unwrap();
    files::truncate(&path, 60_000).unwrap();
    files::set_mode(&path, 0o6755).unwrap();
    let second = pair.snapshot("second");
    let stream = Sender::new(&second).parent(&first).version(2).to_vec();
    receive_without(CapabilitySet::FSETID, &stream, pair.to.path()).unwrap();
    assert_received(&second, &pair.received("second"));
}

fn a_lost_setgid_bit_is_noticed() {
    let to = LoopFilesystem::new();
    for (name, path) in [
        ("of a file", "file"),
        ("of a directory", "directory"),
        ("of the root", ""),
    ] {
        let stream = Script::full(name)
            .file("file")
            .directory("directory")
            .owner(path, 0, 777)
            .mode(path, 0o2755)
            .end();
        let error = receive_without(CapabilitySet::FSETID, &stream, to.path()).unwrap_err();
        assert!(
            error.to_string().contains("but the kernel stored"),
            "{error}"
        );
        assert!(!subvolume::facts(&to.path().join(name)).read_only);
    }
    // Root is in its own group, so nothing is lost here.
    let stream = Script::full("kept").file("file").mode("file", 0o2755).end();
    receive_without(CapabilitySet::FSETID, &stream, to.path()).unwrap();
}

/// The file is opened on one thread, its mode is set on another.
fn a_mode_that_lets_a_file_be_written_comes_first() {
    let pair = Pair::new();
    let work = pair.work();
    std::fs::write(work.join("file"), b"old").unwrap();
    files::set_mode(&work.join("file"), 0o444).unwrap();
    pair.carry("first", None);
    let parent = pair.received("first");
    let stream = Script::change_of(&parent, "second")
        .mode("file", 0o644)
        .write("file", 0, b"new")
        .mode("file", 0o444)
        .end();
    receive_without(CapabilitySet::DAC_OVERRIDE, &stream, pair.to.path()).unwrap();
    let written = std::fs::read(pair.received("second").join("file")).unwrap();
    assert_eq!(written, b"new");
}

fn what_lacks_a_capability_is_an_error() {
    let to = LoopFilesystem::new();
    let script = |name: &str| Script::full(name).file("file");
    let cases = [
        (
            CapabilitySet::CHOWN,
            "chown",
            script("1").owner("file", 5, 5),
        ),
        (CapabilitySet::CHOWN, "chown", script("2").owner("", 5, 5)),
        (
            CapabilitySet::SYS_ADMIN,
            "set_xattr",
            script("3").xattr("file", "trusted.name", b"value"),
        ),
        (
            CapabilitySet::SETFCAP,
            "set_xattr",
            script("4").xattr("file", "security.capability", &files::capability(1)),
        ),
        (
            CapabilitySet::LINUX_IMMUTABLE,
            "finish",
            script("5").attributes("file", 1 << 6),
        ),
        (
            CapabilitySet::MKNOD,
            "mknod",
            script("6").device("device", 0o20_644, 0x103),
        ),
    ];
    for (index, (dropped, operation, script)) in cases.into_iter().enumerate() {
        let stream = script.end();
        let forecast = without(dropped, || {
            DryRun::open(to.path()).unwrap().run(&stream[..])
        });
        let error = receive_without(dropped, &stream, to.path()).unwrap_err();
        // Foretold, and by a name.
        let finding = &forecast.failures[0];
        let missing = forecast.forecasts[0].missing_capabilities[0];
        assert!(
            format!("{dropped:?}").contains(&missing.name[4..]),
            "{missing:?}"
        );
        if operation != "finish" {
            let failure = error.first_failure.as_ref().unwrap();
            assert_eq!(finding.at, failure.at, "{finding}");
        }
        let message = error.to_string();
        assert!(message.contains(operation), "{dropped:?}: {message}");
        assert!(message.contains("not permitted"), "{dropped:?}: {message}");
        let facts = subvolume::facts(&to.path().join((index + 1).to_string()));
        assert_eq!((facts.read_only, facts.received_uuid), (false, None));
    }
}

fn sources_are_found_without_sys_admin() {
    let pair = Pair::new();
    let work = pair.work();
    std::fs::write(work.join("data"), files::pattern(1, 300_000, false)).unwrap();
    let first = pair.snapshot("first");
    let below = pair.to.path().join("below");
    std::fs::create_dir(&below).unwrap();
    receive(&Sender::new(&first).to_vec(), &below);
    files::reflink(&work.join("data"), &work.join("copy")).unwrap();
    std::fs::remove_file(work.join("data")).unwrap();
    let second = pair.snapshot("second");
    let stream = Sender::new(&second).parent(&first).version(2).to_vec();
    for (name, dropped) in [
        ("without SYS_ADMIN", CapabilitySet::SYS_ADMIN),
        (
            "without both",
            CapabilitySet::SYS_ADMIN | CapabilitySet::DAC_READ_SEARCH,
        ),
    ] {
        let into = pair.to.path().join(name);
        std::fs::create_dir(&into).unwrap();
        receive_without(dropped, &stream, &into).unwrap();
        assert_received(&second, &into.join("second"));
        subvolume::delete(&into.join("second"));
    }
}

const USER: u32 = 1000;

/// Names the directory that [`helper`] is to receive into.
const INTO: &str = "BTRFS_RECEIVE_AS_ANOTHER_USER";

/// The part of a test that runs as another user, in a process of its own: a
/// thread that changes its user leaves `/proc/self` to root.
pub(crate) fn helper() -> Option<ExitCode> {
    let into = std::env::var_os(INTO)?;
    let mut stream = Vec::new();
    std::io::Read::read_to_end(&mut std::io::stdin(), &mut stream).unwrap();
    Some(match try_receive(&stream, Path::new(&into)) {
        Ok(report) => {
            println!("{}", report.fallbacks.encoded_writes_decoded);
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    })
}

/// Receives as an ordinary user; returns what [`helper`] printed.
fn receive_as_user(stream: &[u8], into: &Path) -> Result<String, String> {
    let mut input = tempfile::tempfile().unwrap();
    input.write_all(stream).unwrap();
    input.rewind().unwrap();
    let output = Command::new("/proc/self/exe")
        .env(INTO, into)
        .stdin(input)
        .uid(USER)
        .gid(USER)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    match output.status.success() {
        true => Ok(said),
        false => Err(said + &String::from_utf8_lossy(&output.stderr)),
    }
}

/// A directory that belongs to the ordinary user.
fn place_of_user(filesystem: &LoopFilesystem) -> std::path::PathBuf {
    let place = filesystem.path().join("place");
    std::fs::create_dir(&place).unwrap();
    files::set_owner(&place, USER, USER).unwrap();
    place
}

fn give_to_user(path: &Path) {
    if path.is_dir() && !path.is_symlink() {
        for entry in std::fs::read_dir(path).unwrap() {
            give_to_user(&entry.unwrap().path());
        }
    }
    files::set_owner(path, USER, USER).unwrap();
}

fn an_ordinary_user_receives_what_is_theirs() {
    let pair = Pair::new();
    let work = pair.work();
    std::fs::create_dir_all(work.join("directory/below")).unwrap();
    std::fs::write(
        work.join("directory/file"),
        files::pattern(1, 70_000, false),
    )
    .unwrap();
    std::os::unix::fs::symlink("target", work.join("link")).unwrap();
    files::make_node(&work.join("fifo"), rustix::fs::FileType::Fifo, (0, 0)).unwrap();
    let compressed = work.join("compressed");
    files::make_file(&compressed).unwrap();
    files::set_xattr(&compressed, "btrfs.compression", b"zstd").unwrap();
    files::set_xattr(&compressed, "user.name", b"value").unwrap();
    files::write(&compressed, 0, &files::pattern(2, 200_000, true)).unwrap();
    files::set_xattr(&work, "system.posix_acl_default", &files::acl(5, 7)).unwrap();
    give_to_user(&work);
    files::set_mode(&work.join("directory/file"), 0o4711).unwrap();
    files::set_mode(&work.join("directory"), 0o2770).unwrap();
    // Its owner may not write to it, nor take attributes off.
    files::set_mode(&work, 0o555).unwrap();
    let first = pair.snapshot("first");
    // Names and data change below a directory that hands down its group.
    files::write(&work.join("directory/file"), 5000, b"changed").unwrap();
    files::set_mode(&work.join("directory/file"), 0o4711).unwrap();
    std::fs::create_dir(work.join("directory/new")).unwrap();
    files::reflink(&compressed, &work.join("directory/copy")).unwrap();
    std::fs::remove_file(&compressed).unwrap();
    give_to_user(&work.join("directory/new"));
    give_to_user(&work.join("directory/copy"));
    std::fs::rename(work.join("directory/below"), work.join("moved")).unwrap();
    let second = pair.snapshot("second");

    let place = place_of_user(&pair.to);
    let stream = Sender::new(&first).version(2).compressed().to_vec();
    let decoded = receive_as_user(&stream, &place).unwrap();
    assert_eq!(decoded != "0", Sender::highest_version() >= 2);
    assert_received(&first, &place.join("first"));
    let stream = Sender::new(&second)
        .parent(&first)
        .version(2)
        .compressed()
        .to_vec();
    receive_as_user(&stream, &place).unwrap();
    assert_received(&second, &place.join("second"));
}

fn an_ordinary_user_cannot_give_files_away() {
    let to = LoopFilesystem::new();
    let place = place_of_user(&to);
    for (name, path) in [("1", "file"), ("2", "directory"), ("3", "link"), ("4", "")] {
        let stream = Script::full(name)
            .file("file")
            .directory("directory")
            .symlink("link", "target")
            .owner(path, 0, 0)
            .end();
        let message = receive_as_user(&stream, &place).unwrap_err();
        assert!(message.contains("chown"), "{message}");
        assert!(message.contains("not permitted"), "{message}");
        assert!(!subvolume::facts(&place.join(name)).read_only);
    }
    // Nor receive where they may not write.
    let stream = Script::full("5").end();
    let message = receive_as_user(&stream, to.path()).unwrap_err();
    assert!(message.contains("denied"), "{message}");
}
