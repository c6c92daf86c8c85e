//! Sources in odd places.

use super::*;

#[test]
fn outside_of_the_mounted_subvolume() {
    on_btrfs(|fs| {
        let target = subvolume::create(&fs.path().join("target"));
        subvolume::create(&fs.path().join("a"));
        std::fs::create_dir_all(fs.path().join("a/b/c")).unwrap();
        let parent = received(&fs.path().join("a/b/c/parent"), FAR, 11);
        let mount = fs.mount("subvol=target");
        assert!(!mount.path().join("a").exists());
        let source = Resolver::new(open(mount.path()))
            .unwrap()
            .resolve(wanted(FAR, 11))
            .unwrap();
        assert_is(&source, &parent);
        assert_eq!(source.path(), Some(&b"a/b/c/parent"[..]));
        // It serves: a snapshot of it, and a clone from a file in it.
        sys::snap_create(open(mount.path()), b"snapshot", &source, false).unwrap();
        let snapshot = target.join("snapshot");
        assert_eq!(std::fs::read(snapshot.join("file")).unwrap(), b"parent");
        let from = openat(&source, "file", OFlags::RDONLY, Mode::empty()).unwrap();
        let to = File::create(mount.path().join("clone")).unwrap();
        sys::ficlonerange(&from, 0, 0, &to, 0).unwrap();
        assert_eq!(std::fs::read(target.join("clone")).unwrap(), b"parent");
    });
}

#[test]
fn behind_a_bind_mount() {
    on_btrfs(|fs| {
        let parent = received(&fs.path().join("parent"), FAR, 11);
        let directory = fs.path().join("deep/directory");
        std::fs::create_dir_all(&directory).unwrap();
        let bind = fs.bind(&directory);
        let source = Resolver::new(open(bind.path()))
            .unwrap()
            .resolve(wanted(FAR, 11))
            .unwrap();
        assert_is(&source, &parent);
    });
}

#[test]
fn above_a_changed_default_subvolume() {
    on_btrfs(|fs| {
        let parent = received(&fs.path().join("parent"), FAR, 11);
        let default = subvolume::create(&fs.path().join("default"));
        let done = Command::new("btrfs")
            .args(["subvolume", "set-default"])
            .arg(&default)
            .status()
            .unwrap();
        assert!(done.success());
        let mount = fs.mount("");
        assert!(!mount.path().join("parent").exists());
        let source = Resolver::new(open(mount.path()))
            .unwrap()
            .resolve(wanted(FAR, 11))
            .unwrap();
        assert_is(&source, &parent);
    });
}

#[test]
fn the_mounted_subvolume_itself_and_nested_ones() {
    on_btrfs(|fs| {
        let other = Uuid::from_u128(3);
        let parent = fs.path().join("parent");
        subvolume::create(&parent);
        std::fs::write(parent.join("file"), b"parent").unwrap();
        std::fs::create_dir(parent.join("d")).unwrap();
        let nested = received(&parent.join("d/nested"), other, 12);
        seal(&parent, FAR, 11);
        let mount = fs.mount("subvol=parent");
        let mut resolver = Resolver::new(open(mount.path())).unwrap();
        assert_is(&resolver.resolve(wanted(FAR, 11)).unwrap(), &parent);
        let source = resolver.resolve(wanted(other, 12)).unwrap();
        assert_is(&source, &nested);
        assert_eq!(source.path(), Some(&b"parent/d/nested"[..]));
    });
}

#[test]
fn without_uuid_tree() {
    on_btrfs(|fs| {
        let parent = received(&fs.path().join("parent"), FAR, 11);
        subvolume::create(&fs.path().join("target"));
        let mount = fs.mount("subvol=target");
        let mut resolver = Resolver::builder()
            .uuid_tree(false)
            .build(open(mount.path()))
            .unwrap();
        assert_is(&resolver.resolve(wanted(FAR, 11)).unwrap(), &parent);
        assert!(resolver.reach.fresh);
        // The map serves again, until it lacks something.
        assert_is(&resolver.resolve(wanted(FAR, 12)).unwrap(), &parent);
        assert!(!resolver.reach.fresh);
        let later = received(&fs.path().join("later"), Uuid::from_u128(8), 11);
        let source = resolver.resolve(wanted(Uuid::from_u128(8), 11)).unwrap();
        assert_is(&source, &later);
        assert!(resolver.reach.fresh);
    });
}

#[test]
fn inside_the_jail_only() {
    on_btrfs(|fs| {
        let (inner, outer) = (Uuid::from_u128(31), Uuid::from_u128(32));
        std::fs::create_dir_all(fs.path().join("jail/d")).unwrap();
        let inside = received(&fs.path().join("jail/d/inside"), inner, 11);
        let holder = subvolume::create(&fs.path().join("jail/holder"));
        let deeper = received(&holder.join("deeper"), FAR, 11);
        let outside = received(&fs.path().join("outside"), outer, 11);
        // A better fit than the one inside.
        received(&fs.path().join("also"), FAR, 12);

        for ask in [true, false] {
            let jail = open(&fs.path().join("jail"));
            let builder = Resolver::builder().jail(jail).uuid_tree(ask);
            let mut resolver = builder.build(open(fs.path())).unwrap();
            let source = resolver.resolve(wanted(inner, 11)).unwrap();
            assert_is(&source, &inside);
            assert_eq!(source.path(), Some(&b"d/inside"[..]));
            let source = resolver.resolve(wanted(FAR, 12)).unwrap();
            assert_is(&source, &deeper);
            assert_eq!(source.path(), Some(&b"holder/deeper"[..]));

            let error = resolver.resolve(wanted(outer, 11)).unwrap_err();
            let verdict = verdict_on(&error.candidates, info(&outside).id);
            assert_eq!(verdict, ask.then_some(Verdict::OutsideJail));
            assert!(
                error
                    .candidates
                    .iter()
                    .all(|candidate| candidate.state.is_none())
            );
        }

        // A jail that is a subvolume is inside itself.
        let builder = Resolver::builder().jail(open(&inside));
        let mut resolver = builder.build(open(fs.path())).unwrap();
        assert_is(&resolver.resolve(wanted(inner, 11)).unwrap(), &inside);
        resolver.resolve(wanted(FAR, 11)).unwrap_err();
    });
}

#[test]
fn a_jail_is_not_left_by_symbolic_link_or_mount() {
    on_btrfs(|fs| {
        let jail = fs.path().join("jail");
        std::fs::create_dir(&jail).unwrap();
        let parent = received(&jail.join("parent"), FAR, 11);
        let other = LoopFilesystem::new();
        let decoy = received(&other.path().join("decoy"), FAR, 11);
        assert_eq!(info(&decoy).id, info(&parent).id);
        let builder = Resolver::builder().jail(open(&jail));
        let mut resolver = builder.build(open(fs.path())).unwrap();
        // Another btrfs covers the parent: with the same id and UUID, even.
        rustix::mount::mount_bind(&decoy, &parent).unwrap();
        let covered = resolver.resolve(wanted(FAR, 11));
        rustix::mount::unmount(&parent, rustix::mount::UnmountFlags::DETACH).unwrap();
        covered.unwrap_err();
        assert_is(&resolver.resolve(wanted(FAR, 11)).unwrap(), &parent);
    });
}
