//! Which subvolume is chosen, and what is passed over.

use btrfs_testkit::{Sender, reference_receive};

use super::*;

fn origin(top: &Path) -> PathBuf {
    let work = subvolume::create(&top.join("work"));
    std::fs::write(work.join("file"), b"s1").unwrap();
    let snapshot = subvolume::snapshot_read_only(&work, &top.join("s1"));
    rustix::fs::syncfs(open(&snapshot)).unwrap();
    snapshot
}

#[test]
fn forward_and_reverse() {
    on_btrfs(|a| {
        let b = LoopFilesystem::new();
        let sent = origin(a.path());
        reference_receive(&Sender::new(&sent).to_vec(), b.path()).unwrap();
        let copy = b.path().join("s1");

        let forward = wanted(info(&sent).uuid, info(&sent).ctransid);
        let source = Resolver::new(open(b.path()))
            .unwrap()
            .resolve(forward)
            .unwrap();
        assert_is(&source, &copy);
        assert_eq!(source.matched_by(), MatchedBy::ReceivedUuid);
        assert_eq!(source.path(), Some(&b"s1"[..]));
        assert_eq!(source.used().subvolume_id, info(&copy).id);

        // What B names when it sends something based on its copy.
        let reverse = wanted(info(&copy).received_uuid, info(&copy).ctransid);
        let source = Resolver::new(open(a.path()))
            .unwrap()
            .resolve(reverse)
            .unwrap();
        assert_is(&source, &sent);
        assert_eq!(source.matched_by(), MatchedBy::OwnUuid);
    });
}

#[test]
fn by_way_of_a_third_host() {
    on_btrfs(|a| {
        let (b, c) = (LoopFilesystem::new(), LoopFilesystem::new());
        // So that transaction ids on B are others than on A.
        for name in ["x", "y", "z"] {
            received(&b.path().join(name), Uuid::from_u128(7), 1);
        }
        let sent = origin(a.path());
        reference_receive(&Sender::new(&sent).to_vec(), b.path()).unwrap();
        reference_receive(&Sender::new(&b.path().join("s1")).to_vec(), c.path()).unwrap();
        let copy = c.path().join("s1");
        assert_ne!(info(&copy).stransid, info(&sent).ctransid);
        let forward = wanted(info(&sent).uuid, info(&sent).ctransid);
        let source = Resolver::new(open(c.path()))
            .unwrap()
            .resolve(forward)
            .unwrap();
        assert_is(&source, &copy);
    });
}

#[test]
fn the_first_with_the_uuid_need_not_be_the_best() {
    on_btrfs(|fs| {
        let top = fs.path();
        let writable = received(&top.join("writable"), FAR, 11);
        let gone = received(&top.join("gone"), FAR, 11);
        let modified = received(&top.join("modified"), FAR, 11);
        let other_state = received(&top.join("other_state"), FAR, 9);
        let good = received(&top.join("good"), FAR, 11);
        sys::subvol_set_read_only(open(&writable), false).unwrap();
        sys::subvol_set_read_only(open(&modified), false).unwrap();
        std::fs::write(modified.join("more"), b"").unwrap();
        rustix::fs::syncfs(open(&modified)).unwrap();
        sys::subvol_set_read_only(open(&modified), true).unwrap();
        subvolume::delete(&gone);

        let mut resolver = Resolver::new(open(top)).unwrap();
        let source = resolver.resolve(wanted(FAR, 11)).unwrap();
        assert_is(&source, &good);
        let candidates = resolver.survey(wanted(FAR, 11)).candidates;
        let order: Vec<u64> = candidates.iter().map(|candidate| candidate.id).collect();
        let expected = [&good, &modified, &other_state, &writable].map(|path| info(path).id);
        assert_eq!(order, expected);
        assert_eq!(
            verdict_on(&candidates, info(&writable).id),
            Some(Verdict::LastResort)
        );

        // The choice holds, though a better one may appear.
        let again = received(&top.join("again"), FAR, 11);
        assert_is(&resolver.resolve(wanted(FAR, 11)).unwrap(), &good);
        // Unless it goes away.
        drop(source);
        subvolume::delete(&good);
        resolver.set_under_construction(None);
        assert_is(&resolver.resolve(wanted(FAR, 11)).unwrap(), &again);
    });
}

#[test]
fn a_rejected_source_is_followed_by_the_next() {
    on_btrfs(|fs| {
        let damaged = received(&fs.path().join("damaged"), FAR, 11);
        let whole = received(&fs.path().join("whole"), FAR, 10);
        let mut resolver = Resolver::new(open(fs.path())).unwrap();
        let first = resolver.resolve(wanted(FAR, 11)).unwrap();
        assert_is(&first, &damaged);
        resolver.reject(&first);
        assert_is(&resolver.resolve(wanted(FAR, 11)).unwrap(), &whole);
        let candidates = resolver.survey(wanted(FAR, 11)).candidates;
        assert_eq!(verdict_on(&candidates, first.id()), Some(Verdict::Rejected));
    });
}

#[test]
fn a_subvolume_just_finished_is_found() {
    on_btrfs(|fs| {
        for ask in [true, false] {
            let uuid = Uuid::from_u128(if ask { 21 } else { 22 });
            let mut resolver = Resolver::builder()
                .uuid_tree(ask)
                .build(open(fs.path()))
                .unwrap();
            resolver.resolve(wanted(uuid, 5)).unwrap_err();
            let path = fs.path().join(format!("new-{ask}"));
            subvolume::create(&path);
            std::fs::write(
                path.join("file"),
                path.file_name().unwrap().as_encoded_bytes(),
            )
            .unwrap();
            let id = info(&path).id;
            resolver.set_under_construction(Some(id));
            resolver.resolve(wanted(uuid, 5)).unwrap_err();
            seal(&path, uuid, 5);
            // Finished, but the caller has not said so.
            let error = resolver.resolve(wanted(uuid, 5)).unwrap_err();
            assert_eq!(
                verdict_on(&error.candidates, id),
                Some(Verdict::UnderConstruction)
            );
            resolver.set_under_construction(None);
            assert_is(&resolver.resolve(wanted(uuid, 5)).unwrap(), &path);
        }
    });
}

#[test]
fn more_ids_than_the_old_search_shows() {
    on_btrfs(|fs| {
        let first = received(&fs.path().join("first"), FAR, 11);
        let (top, source) = (open(fs.path()), open(&first));
        for number in 0..600 {
            sys::snap_create(&top, format!("s{number}").as_bytes(), &source, true).unwrap();
        }
        let mut resolver = Resolver::new(&top).unwrap();
        assert_is(&resolver.resolve(wanted(FAR, 11)).unwrap(), &first);
        assert_eq!(resolver.survey(wanted(FAR, 11)).candidates.len(), 601);
        assert_eq!(uuid::subvolumes(&top, FAR).unwrap().len(), 601);
        // Without the UUID tree: more children than one ROOTREF holds.
        let mut resolver = Resolver::builder().uuid_tree(false).build(&top).unwrap();
        assert_is(&resolver.resolve(wanted(FAR, 11)).unwrap(), &first);
        assert_eq!(resolver.survey(wanted(FAR, 11)).candidates.len(), 601);
        // An error stays readable.
        for candidate in resolver.survey(wanted(FAR, 11)).candidates {
            resolver.excluded.rejected.insert(candidate.id);
        }
        let error = resolver.resolve(wanted(FAR, 12)).unwrap_err();
        assert_eq!(error.candidates.len(), 601);
        assert!(error.to_string().contains("and 569 more"), "{error}");
    });
}

#[test]
fn what_the_caller_names_comes_first() {
    on_btrfs(|fs| {
        let top = fs.path();
        let sealed = received(&top.join("sealed"), FAR, 11);
        let writable = received(&top.join("writable"), FAR, 9);
        sys::subvol_set_read_only(open(&writable), false).unwrap();
        let stranger = received(&top.join("stranger"), Uuid::from_u128(5), 1);

        let named = || Resolver::builder().prefer(open(&writable));
        let mut resolver = named().build(open(top)).unwrap();
        assert_is(&resolver.resolve(wanted(FAR, 11)).unwrap(), &sealed);
        let mut resolver = named()
            .dangerously_allow_writable_names(true)
            .build(open(top))
            .unwrap();
        assert_is(&resolver.resolve(wanted(FAR, 11)).unwrap(), &writable);
        let missing = resolver.resolve(wanted(Uuid::from_u128(6), 1)).unwrap_err();
        assert!(missing.candidates.is_empty());

        let builder = Resolver::builder().substitute(FAR, open(&stranger));
        let mut resolver = builder.build(open(top)).unwrap();
        let source = resolver.resolve(wanted(FAR, 11)).unwrap();
        assert_is(&source, &stranger);
        assert_eq!(source.matched_by(), MatchedBy::Name);
        resolver.reject(&source);
        assert_is(&resolver.resolve(wanted(FAR, 11)).unwrap(), &sealed);

        std::fs::create_dir(top.join("directory")).unwrap();
        let refused = Resolver::builder()
            .prefer(open(&top.join("directory")))
            .build(open(top));
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::InvalidInput);
        let other = LoopFilesystem::new();
        let refused = Resolver::builder()
            .prefer(open(other.path()))
            .build(open(top));
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    });
}

#[test]
fn the_error_says_what_was_found() {
    on_btrfs(|fs| {
        std::fs::create_dir(fs.path().join("d")).unwrap();
        let writable = received(&fs.path().join("d/writ\"able"), FAR, 11);
        sys::subvol_set_read_only(open(&writable), false).unwrap();
        let mut resolver = Resolver::builder()
            .refuse_writable_sources(true)
            .build(open(fs.path()))
            .unwrap();
        let error = resolver.resolve(wanted(FAR, 11)).unwrap_err();
        let text = error.to_string();
        let id = info(&writable).id;
        let facts = [
            format!("source {FAR} (ctransid 11)"),
            format!(
                "subvolume {id} \"d/writ\\\"able\" (uuid {}",
                info(&writable).uuid
            ),
            format!("received uuid {FAR}, stransid 11"),
            "it is writable, so it may have changed".to_owned(),
            "searched: the UUID tree: 1 found".to_owned(),
            "searched: the filesystem: looked at 2 subvolumes".to_owned(),
        ];
        for fact in facts {
            assert!(text.contains(&fact), "{fact:?} is missing in:\n{text}");
        }
        let nothing = resolver.resolve(wanted(Uuid::from_u128(9), 1)).unwrap_err();
        assert!(nothing.candidates.is_empty() && nothing.missing.is_empty());
        // Every subvolume that was not received has that received UUID.
        let nil = resolver.resolve(wanted(Uuid::nil(), 0)).unwrap_err();
        assert!(nil.candidates.is_empty());
        let nothing = resolver.survey(wanted(Uuid::nil(), 0));
        assert!(nothing.candidates.is_empty() && !nothing.is_exhaustive());
    });
}

#[test]
fn open_sources_and_choices_are_bounded() {
    on_btrfs(|fs| {
        let path = received(&fs.path().join("only"), FAR, 11);
        let mut resolver = Resolver::new(open(fs.path())).unwrap();
        for ctransid in 0..200 {
            assert_is(&resolver.resolve(wanted(FAR, ctransid)).unwrap(), &path);
        }
        assert_eq!(resolver.open.len(), MAX_OPEN);
        assert_eq!(resolver.choices.len(), 200);
    });
}
