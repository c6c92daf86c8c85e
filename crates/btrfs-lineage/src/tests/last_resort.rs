//! Writable subvolumes that were marked as received.

use super::*;

/// As Incus leaves one: writable, and marked as received after that.
fn stamped(path: &Path, uuid: Uuid) -> PathBuf {
    subvolume::create(path);
    let name = path.file_name().unwrap().as_encoded_bytes();
    std::fs::write(path.join("file"), name).unwrap();
    rustix::fs::syncfs(open(path)).unwrap();
    sys::set_received_subvol(open(path), uuid, 0).unwrap();
    path.to_owned()
}

fn resolver(top: &Path, ask: bool) -> Resolver {
    let builder = Resolver::builder().uuid_tree(ask);
    builder.build(open(top)).unwrap()
}

#[test]
fn it_serves_if_nothing_else_does() {
    on_btrfs(|fs| {
        let writable = stamped(&fs.path().join("writable"), FAR);
        // Its own UUID says nothing about what it holds.
        let own = info(&writable).uuid;
        for ask in [true, false] {
            // The file is read below, which changes its access time.
            sys::set_received_subvol(open(&writable), FAR, 0).unwrap();
            let mut resolver = resolver(fs.path(), ask);
            let source = resolver.resolve(wanted(FAR, 11)).unwrap();
            assert_is(&source, &writable);
            assert_eq!(source.matched_by(), MatchedBy::ReceivedUuid);
            let used = source.used();
            assert!(used.writable && !used.may_have_changed && !used.unverified);
            let error = resolver.resolve(wanted(own, 11)).unwrap_err();
            assert_eq!(error.candidates[0].verdict, Verdict::Writable);
        }
        let sealed = received(&fs.path().join("sealed"), FAR, 9);
        for ask in [true, false] {
            let mut resolver = resolver(fs.path(), ask);
            let source = resolver.resolve(wanted(FAR, 11)).unwrap();
            assert_is(&source, &sealed);
            assert!(!source.used().writable);
            let candidates = resolver.survey(wanted(FAR, 11)).candidates;
            let verdicts: Vec<_> = candidates.iter().map(|it| (it.id, it.verdict)).collect();
            let expected = [
                (info(&sealed).id, Verdict::Suitable),
                (info(&writable).id, Verdict::LastResort),
            ];
            assert_eq!(verdicts, expected);
        }
    });
}

#[test]
fn the_one_that_did_not_change_comes_first() {
    on_btrfs(|fs| {
        let changed = stamped(&fs.path().join("changed"), FAR);
        let same = stamped(&fs.path().join("same"), FAR);
        std::fs::write(changed.join("more"), b"").unwrap();
        let mut resolver = resolver(fs.path(), true);
        assert_is(&resolver.resolve(wanted(FAR, 0)).unwrap(), &same);
        subvolume::delete(&same);
        resolver.set_under_construction(None);
        let source = resolver.resolve(wanted(FAR, 0)).unwrap();
        assert_is(&source, &changed);
        assert!(source.used().may_have_changed);
    });
}

#[test]
fn the_choice_ends_with_the_subvolume() {
    on_btrfs(|fs| {
        let writable = stamped(&fs.path().join("writable"), FAR);
        let mut resolver = resolver(fs.path(), true);
        assert_is(&resolver.resolve(wanted(FAR, 11)).unwrap(), &writable);
        let sealed = received(&fs.path().join("sealed"), FAR, 9);
        // Clones come from what the snapshot was taken of.
        assert_is(&resolver.resolve(wanted(FAR, 11)).unwrap(), &writable);
        resolver.set_under_construction(None);
        assert_is(&resolver.resolve(wanted(FAR, 11)).unwrap(), &sealed);
    });
}

#[test]
fn the_choice_ends_with_the_mark() {
    on_btrfs(|fs| {
        let writable = stamped(&fs.path().join("writable"), FAR);
        let mut resolver = resolver(fs.path(), true);
        for _ in 0..2 {
            assert_is(&resolver.resolve(wanted(FAR, 11)).unwrap(), &writable);
            resolver.set_under_construction(None);
        }
        sys::set_received_subvol(open(&writable), Uuid::nil(), 0).unwrap();
        resolver.resolve(wanted(FAR, 11)).unwrap_err();
    });
}

#[test]
fn whoever_is_asked_can_take_it_or_not() {
    on_btrfs(|fs| {
        let writable = stamped(&fs.path().join("writable"), FAR);
        let id = info(&writable).id;
        let asked = |choice: Choice, refuse: bool| {
            let builder = Resolver::builder()
                .refuse_writable_sources(refuse)
                .choose_with(move |_, _| choice);
            let mut resolver = builder.build(open(fs.path())).unwrap();
            resolver.resolve(wanted(FAR, 11))
        };
        for choice in [
            Choice::Best,
            Choice::Subvolume(id),
            Choice::DangerouslyUseWritable(id),
        ] {
            assert_is(&asked(choice, false).unwrap(), &writable);
        }
        let verdict = |choice, refuse| asked(choice, refuse).unwrap_err().candidates[0].verdict;
        assert_eq!(verdict(Choice::Decline, false), Verdict::NotChosen);
        for choice in [Choice::Best, Choice::Subvolume(id)] {
            assert_eq!(verdict(choice, true), Verdict::Writable);
        }
        assert_is(
            &asked(Choice::DangerouslyUseWritable(id), true).unwrap(),
            &writable,
        );
    });
}

#[test]
fn naming_it_is_not_insisting_on_it() {
    on_btrfs(|fs| {
        stamped(&fs.path().join("other"), FAR);
        let named = stamped(&fs.path().join("named"), FAR);
        let build = |refuse: bool| {
            let builder = Resolver::builder()
                .prefer(open(&named))
                .refuse_writable_sources(refuse);
            builder.build(open(fs.path())).unwrap()
        };
        let source = build(false).resolve(wanted(FAR, 11)).unwrap();
        assert_is(&source, &named);
        assert_eq!(source.matched_by(), MatchedBy::ReceivedUuid);
        assert!(!source.used().unverified);
        build(true).resolve(wanted(FAR, 11)).unwrap_err();
        let sealed = received(&fs.path().join("sealed"), FAR, 9);
        assert_is(&build(false).resolve(wanted(FAR, 11)).unwrap(), &sealed);
    });
}

/// Whatever a caller says.
#[test]
fn an_unfinished_one_never_serves() {
    on_btrfs(|fs| {
        let root = stamped(&fs.path().join("unfinished"), FAR);
        let id = info(&root).id;
        let flags = rustix::fs::XattrFlags::CREATE;
        rustix::fs::setxattr(&root, crate::UNFINISHED, b"", flags).unwrap();
        let verdict = |builder: ResolverBuilder| {
            let mut resolver = builder.build(open(fs.path())).unwrap();
            resolver.resolve(wanted(FAR, 11)).unwrap_err().candidates[0].verdict
        };
        let insist = move |_: SourceId, _: &[Candidate]| Choice::DangerouslyUseWritable(id);
        for builder in [
            Resolver::builder(),
            Resolver::builder().uuid_tree(false),
            Resolver::builder().choose_with(insist),
            Resolver::builder().prefer(open(&root)),
        ] {
            assert_eq!(verdict(builder), Verdict::Unfinished);
        }
        // Somebody made sure of it.
        sys::subvol_set_read_only(open(&root), true).unwrap();
        let source = resolver(fs.path(), true).resolve(wanted(FAR, 11));
        assert_is(&source.unwrap(), &root);
    });
}
