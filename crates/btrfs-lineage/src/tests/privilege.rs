//! Finding sources with fewer capabilities, dropped in a thread.

use rustix::io::Errno;
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

use super::*;

/// Runs `case` in a thread that lacks capabilities.
pub(super) fn without(dropped: CapabilitySet, case: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            let mut sets = capabilities(None).unwrap();
            sets.effective.remove(dropped);
            sets.permitted.remove(dropped);
            sets.inheritable.remove(dropped);
            set_capabilities(None, sets).unwrap();
            case();
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// Before Linux 6.2, only `CAP_SYS_ADMIN` finds that out.
fn handles_need_a_generation(mount: &Path) -> bool {
    let top = sys::open_subvolume(open(mount), sys::TOP_LEVEL, 0);
    top.is_err_and(|errno| errno == Errno::STALE)
}

#[test]
fn with_dac_read_search_alone() {
    on_btrfs(|fs| {
        let holder = subvolume::create(&fs.path().join("holder"));
        std::fs::create_dir(holder.join("d")).unwrap();
        let parent = received(&holder.join("d/parent"), FAR, 11);
        subvolume::create(&fs.path().join("target"));
        let mount = fs.mount("subvol=target");
        without(
            CapabilitySet::all().difference(CapabilitySet::DAC_READ_SEARCH),
            || {
                let mut resolver = Resolver::new(open(mount.path())).unwrap();
                let found = resolver.resolve(wanted(FAR, 11));
                if handles_need_a_generation(mount.path()) {
                    assert_eq!(found.unwrap_err().missing, [Capability::SysAdmin]);
                    return;
                }
                let source = found.unwrap();
                assert_is(&source, &parent);
                assert_eq!(source.path(), Some(&b"holder/d/parent"[..]));
                let error = resolver.resolve(wanted(Uuid::from_u128(1), 1)).unwrap_err();
                assert_eq!(error.missing, [Capability::SysAdmin]);
                assert!(error.to_string().contains("CAP_SYS_ADMIN"), "{error}");
            },
        );
    });
}

#[test]
fn with_sys_admin_alone() {
    on_btrfs(|fs| {
        let parent = received(&fs.path().join("parent"), FAR, 11);
        subvolume::create(&fs.path().join("target"));
        let mount = fs.mount("subvol=target");
        without(CapabilitySet::DAC_READ_SEARCH, || {
            let mut resolver = Resolver::new(open(fs.path())).unwrap();
            assert_is(&resolver.resolve(wanted(FAR, 11)).unwrap(), &parent);
            let mut resolver = Resolver::new(open(mount.path())).unwrap();
            let error = resolver.resolve(wanted(FAR, 11)).unwrap_err();
            let id = info(&parent).id;
            assert_eq!(
                verdict_on(&error.candidates, id),
                Some(Verdict::Unreachable)
            );
            assert_eq!(error.missing, [Capability::DacReadSearch]);
        });
    });
}

#[test]
fn without_any() {
    on_btrfs(|fs| {
        let outer = Uuid::from_u128(41);
        let holder = subvolume::create(&fs.path().join("holder"));
        std::fs::create_dir_all(holder.join("d/e")).unwrap();
        let parent = received(&holder.join("d/parent"), FAR, 11);
        let outside = received(&fs.path().join("outside"), outer, 11);
        let below = holder.join("d/e");
        let mount = fs.mount("subvol=holder");
        without(CapabilitySet::all(), || {
            // From a directory far below, through the root of its mount.
            let mut resolver = Resolver::new(open(&below)).unwrap();
            let source = resolver.resolve(wanted(FAR, 11)).unwrap();
            assert_is(&source, &parent);
            assert_eq!(source.path(), Some(&b"holder/d/parent"[..]));
            assert_is(&resolver.resolve(wanted(outer, 11)).unwrap(), &outside);

            let mut resolver = Resolver::new(open(&mount.path().join("d/e"))).unwrap();
            let source = resolver.resolve(wanted(FAR, 11)).unwrap();
            assert_is(&source, &parent);
            assert_eq!(source.path(), Some(&b"d/parent"[..]));
            let error = resolver.resolve(wanted(outer, 11)).unwrap_err();
            assert_eq!(
                error.missing,
                [Capability::SysAdmin, Capability::DacReadSearch]
            );
            let text = error.to_string();
            for name in [
                "CAP_SYS_ADMIN",
                "CAP_DAC_READ_SEARCH",
                "this mount: looked at 2",
            ] {
                assert!(text.contains(name), "{name} is missing in:\n{text}");
            }
        });
    });
}

#[test]
fn without_any_in_a_bind_mount_of_a_directory() {
    on_btrfs(|fs| {
        let directory = fs.path().join("d");
        std::fs::create_dir(&directory).unwrap();
        let parent = received(&directory.join("parent"), FAR, 11);
        received(&fs.path().join("outside"), Uuid::from_u128(41), 11);
        let bind = fs.bind(&directory);
        without(CapabilitySet::all(), || {
            let mut resolver = Resolver::new(open(bind.path())).unwrap();
            let source = resolver.resolve(wanted(FAR, 11)).unwrap();
            assert_is(&source, &parent);
            assert_eq!(source.path(), Some(&b"parent"[..]));
            let error = resolver
                .resolve(wanted(Uuid::from_u128(41), 11))
                .unwrap_err();
            assert!(error.candidates.is_empty());
        });
    });
}
