use btrfs_sendstream::{EncodedWrite, SubvolumeName, Timespec};

use super::*;

const STREAM: Uuid = Uuid::from_u128(0xaaaa);
const ACL: &[u8] = b"\x02\0\0\0\x01\0\x07\0\xff\xff\xff\xff\x02\0\x05\0\xd2\x04\0\0\
    \x04\0\x05\0\xff\xff\xff\xff\x10\0\x07\0\xff\xff\xff\xff\x20\0\x05\0\xff\xff\xff\xff";
const AT: Position = Position {
    stream: 1,
    command: 7,
    offset: 99,
};

fn path(text: &'static str) -> StreamPath {
    StreamPath::parse(Bytes::from_static(text.as_bytes())).unwrap()
}

fn new(name: &'static str, uuid: Uuid, parent: Option<Uuid>) -> NewSubvolume {
    let name = SubvolumeName::parse(Bytes::from_static(name.as_bytes())).unwrap();
    let parent = parent.map(|uuid| SourceId { uuid, ctransid: 9 });
    NewSubvolume::new(name, uuid, 10, parent)
}

fn begun(name: &'static str) -> MemoryDestination {
    let mut destination = MemoryDestination::new();
    destination.begin(&new(name, STREAM, None), AT).unwrap();
    destination
}

fn apply(destination: &mut MemoryDestination, op: Op) -> Result<(), Box<Failure>> {
    destination.apply(Step::new(op, AT));
    destination.settle().map_err(Box::new)
}

fn file(at: &'static str) -> Op {
    Op::Create {
        path: path(at),
        created_as: None,
        kind: NewInode::File,
        mode: None,
    }
}

fn write(at: &'static str, offset: u64, data: &'static [u8]) -> Op {
    Op::Write {
        path: path(at),
        offset,
        data: vec![Bytes::from_static(data)],
    }
}

fn xattr(at: &'static str, name: &'static [u8], data: &'static [u8]) -> Op {
    Op::SetXattr {
        path: path(at),
        name: Bytes::from_static(name),
        data: Bytes::from_static(data),
    }
}

fn clone(at: &'static str, offset: u64, uuid: Uuid, from: &'static str, len: u64) -> Op {
    Op::Clone(CloneRange {
        path: path(at),
        offset,
        len,
        source_uuid: uuid,
        source_ctransid: 10,
        source_path: path(from),
        source_offset: 0,
    })
}

fn read(destination: &MemoryDestination, subvolume: &str, at: &'static str) -> Vec<u8> {
    let tree = destination.subvolume(subvolume.as_bytes()).unwrap().tree();
    let content = tree.get(&path(at)).unwrap().content().unwrap();
    let mut buffer = vec![0; usize::try_from(content.size()).unwrap()];
    content.read_at(0, &mut buffer);
    buffer
}

#[test]
fn a_finished_subvolume_is_stamped_and_an_abandoned_one_is_not() {
    let mut destination = begun("done");
    destination.finish(AT).unwrap();
    destination
        .begin(&new("given up", STREAM, Some(STREAM)), AT)
        .unwrap();
    destination.abandon();
    let [done, given_up] = destination.subvolumes() else {
        panic!("two subvolumes");
    };
    let received = done.received().unwrap();
    assert_eq!((received.uuid, received.stransid), (STREAM, 10));
    assert!(done.is_read_only());
    assert!(!given_up.is_read_only() && given_up.received().is_none());
    assert!(destination.finish(AT).is_err());
    assert!(apply(&mut destination, file("f")).is_err());
}

#[test]
fn a_name_that_exists_is_left_alone() {
    let mut destination = begun("sub");
    destination.finish(AT).unwrap();
    let failure = destination
        .begin(&new("sub", STREAM, None), AT)
        .unwrap_err();
    assert_eq!((failure.operation, failure.at), ("subvol", AT));
    assert_eq!(destination.subvolumes().len(), 1);
    assert!(destination.subvolumes()[0].is_read_only());
}

#[test]
fn parents_are_found_by_received_and_by_own_uuid_unless_writable() {
    let mut destination = begun("first");
    let missing = new("second", Uuid::from_u128(2), Some(STREAM));
    let failure = destination.begin(&missing, AT).unwrap_err();
    assert!(matches!(*failure.cause, Cause::SourceNotFound { .. }));

    let mut destination = begun("first");
    destination.finish(AT).unwrap();
    let own = destination.subvolumes()[0].uuid();
    for (name, parent) in [("second", STREAM), ("third", own)] {
        let begun = destination.begin(&new(name, Uuid::from_u128(3), Some(parent)), AT);
        assert_eq!(begun.unwrap().parent.unwrap().subvolume_id, 256);
        destination.finish(AT).unwrap();
    }
}

#[test]
fn a_snapshot_and_its_parent_change_independently() {
    let mut destination = begun("parent");
    apply(&mut destination, file("f")).unwrap();
    apply(&mut destination, write("f", 0, b"parent")).unwrap();
    destination.finish(AT).unwrap();
    let next = Uuid::from_u128(2);
    destination
        .begin(&new("child", next, Some(STREAM)), AT)
        .unwrap();
    apply(&mut destination, write("f", 0, b"c")).unwrap();
    apply(&mut destination, clone("f", 4096, STREAM, "f", 6)).unwrap();
    let finished = destination.finish(AT).unwrap();
    assert_eq!(read(&destination, "parent", "f"), b"parent");
    assert_eq!(&read(&destination, "child", "f")[4096..], b"parent");
    assert_eq!(&read(&destination, "child", "f")[..6], b"carent");
    assert_eq!(finished.clone_sources.len(), 1);
    assert_eq!(finished.fallbacks.clones_copied, 0);
}

#[test]
fn clones_from_the_subvolume_under_construction_and_copies() {
    let mut destination = begun("sub");
    for name in ["a", "b"] {
        apply(&mut destination, file(name)).unwrap();
    }
    apply(&mut destination, write("a", 0, b"0123456789")).unwrap();
    apply(&mut destination, clone("b", 0, STREAM, "a", 10)).unwrap();
    apply(&mut destination, clone("b", 3, STREAM, "a", 4)).unwrap();
    let short = apply(&mut destination, clone("b", 0, STREAM, "a", 11)).unwrap_err();
    assert!(matches!(*short.cause, Cause::SourceTooShort { .. }));
    assert_eq!(read(&destination, "sub", "b"), b"0120123789");
    assert_eq!(destination.finish(AT).unwrap().fallbacks.clones_copied, 1);
}

#[test]
fn the_root_of_a_snapshot_hands_nothing_down() {
    let mut destination = begun("parent");
    for op in [
        xattr("", DEFAULT_ACL, ACL),
        xattr("", COMPRESSION, b"zstd:3"),
        Op::Chmod {
            path: path(""),
            mode: 0o2755,
        },
    ] {
        apply(&mut destination, op).unwrap();
    }
    destination.finish(AT).unwrap();
    let next = new("child", Uuid::from_u128(2), Some(STREAM));
    let deferred = destination.begin(&next, AT).unwrap().deferred;
    assert_eq!(deferred.default_acl.as_deref(), Some(ACL));
    assert_eq!(deferred.compression.as_deref(), Some(&b"zstd:3"[..]));
    assert_eq!(
        (deferred.attributes, deferred.mode),
        (Some(COMPRESS), Some(0o2755))
    );
    let tree = destination.subvolume(b"child").unwrap().tree();
    let root = tree.get(&path("")).unwrap();
    assert_eq!((root.xattrs().count(), root.mode()), (0, 0o755));
    assert_eq!(root.attributes(), 0);
    let parent = destination.subvolume(b"parent").unwrap().tree();
    assert_eq!(root.mtime(), parent.get(&path("")).unwrap().mtime());
}

#[test]
fn a_fused_creation_equals_creation_and_rename() {
    let mut trees = Vec::new();
    for fused in [true, false] {
        let mut destination = begun("sub");
        let mut create = |as_name: Option<&'static str>, at, kind| {
            let created_as = as_name.map(path);
            let (path, mode) = (path(at), None);
            apply(
                &mut destination,
                Op::Create {
                    path,
                    created_as,
                    kind,
                    mode,
                },
            )
            .unwrap();
        };
        create(None, "dir", NewInode::Directory);
        let leaky = destination.subvolumes.last_mut().unwrap();
        leaky
            .tree
            .set_xattr(&path("dir"), DEFAULT_ACL, &Bytes::from_static(ACL))
            .unwrap();
        leaky
            .tree
            .set_xattr(&path("dir"), COMPRESSION, &Bytes::from_static(b"zlib"))
            .unwrap();
        leaky.tree.chmod(&path("dir"), 0o2777).unwrap();
        leaky.tree.chown(&path("dir"), 5, 5).unwrap();
        for (kind, name) in [(NewInode::File, "dir/f"), (NewInode::Directory, "dir/d")] {
            let created_as = fused.then(|| path("o257-7-0"));
            let at = if fused { path(name) } else { path("o257-7-0") };
            let op = Op::Create {
                path: at,
                created_as,
                kind,
                mode: Some(0o640),
            };
            apply(&mut destination, op).unwrap();
            if !fused {
                let op = Op::Rename {
                    path: path("o257-7-0"),
                    to: path(name),
                };
                apply(&mut destination, op).unwrap();
            }
            let inode = destination.subvolumes()[0].tree().get(&path(name)).unwrap();
            assert_eq!((inode.mode(), inode.uid(), inode.gid()), (0o640, 0, 0));
            assert_eq!((inode.xattrs().count(), inode.attributes()), (0, 0));
        }
        trees.push(destination.subvolumes()[0].tree().clone());
    }
    let differences = trees[0].differences(
        &trees[1],
        Ignored {
            times: true,
            ..Ignored::default()
        },
    );
    assert_eq!(differences, Vec::<String>::new());
}

#[test]
fn fileattr_keeps_the_compression_property() {
    let mut destination = begun("sub");
    apply(&mut destination, file("f")).unwrap();
    apply(&mut destination, xattr("f", COMPRESSION, b"zstd")).unwrap();
    let attributes = COMPRESS | 1 << 8;
    let op = |attributes| Op::FileAttr {
        path: path("f"),
        attributes,
    };
    apply(&mut destination, op(attributes)).unwrap();
    let inode = |d: &MemoryDestination| d.subvolumes()[0].tree().get(&path("f")).unwrap().clone();
    assert_eq!(inode(&destination).attributes(), attributes);
    assert_eq!(
        inode(&destination).xattr(COMPRESSION).unwrap(),
        &b"zstd"[..]
    );
    // NOCOW and compression exclude each other, whichever comes first.
    apply(&mut destination, op(NODATACOW)).unwrap();
    assert_eq!(
        inode(&destination).xattr(COMPRESSION).unwrap(),
        &b"zstd"[..]
    );
    let (path, name) = (path("f"), Bytes::from_static(COMPRESSION));
    apply(&mut destination, Op::RemoveXattr { path, name }).unwrap();
    apply(&mut destination, op(NODATACOW)).unwrap();
    apply(&mut destination, xattr("f", COMPRESSION, b"zstd")).unwrap();
    assert_eq!(inode(&destination).xattr(COMPRESSION), None);
    let fallbacks = destination.finish(AT).unwrap().fallbacks;
    assert_eq!(
        (fallbacks.flags_refused, fallbacks.compression_refused),
        (1, 1)
    );
}

#[test]
fn a_step_without_subvolume_fails() {
    let mut destination = MemoryDestination::new();
    let failure = apply(&mut destination, file("f")).unwrap_err();
    assert!(matches!(*failure.cause, Cause::NothingToFinish));
}

#[test]
fn failures_name_the_fused_command() {
    let mut destination = begun("sub");
    apply(&mut destination, file("f")).unwrap();
    let second = Position { command: 8, ..AT };
    let mut step = Step::new(
        Op::Write {
            path: path("f"),
            offset: i64::MAX as u64 - 1,
            data: vec![Bytes::from_static(b"x"), Bytes::from_static(b"y")],
        },
        AT,
    );
    step.fused = vec![second];
    destination.apply(step);
    assert_eq!(destination.next_failure().unwrap().at, second);
}

#[test]
fn far_offsets_cost_little_and_the_limit_is_kept() {
    let mut destination = MemoryDestination::new().with_limit(20_000);
    destination.begin(&new("sub", STREAM, None), AT).unwrap();
    apply(&mut destination, file("f")).unwrap();
    apply(&mut destination, write("f", 1 << 60, b"x")).unwrap();
    let used = destination.subvolumes()[0].tree().used();
    assert!(used < 2_500, "{used}");
    for at in 0.. {
        match apply(&mut destination, write("f", at * 9, b"12345678")) {
            Ok(()) => assert!(at < 200),
            Err(failure) => {
                assert!(matches!(*failure.cause, Cause::Limit { limit: 20_000, .. }));
                break;
            }
        }
    }
    let used = destination.subvolumes()[0].tree().used();
    assert!(used <= 20_000 && used > 15_000, "{used}");
}

#[test]
fn a_removed_tree_leaves_nothing_behind() {
    let mut tree = Tree::new(1 << 20);
    let empty = tree.used();
    tree.create(&path("d"), &NewInode::Directory, 0o755)
        .unwrap();
    tree.create(&path("d/f"), &NewInode::File, 0o644).unwrap();
    tree.write(&path("d/f"), 5, b"content").unwrap();
    tree.set_xattr(&path("d/f"), b"user.a", &Bytes::from_static(b"v"))
        .unwrap();
    tree.link(&path("g"), &path("d/f")).unwrap();
    tree.unlink(&path("d/f")).unwrap();
    tree.rename(&path("g"), &path("d/longer")).unwrap();
    tree.unlink(&path("d/longer")).unwrap();
    tree.rmdir(&path("d")).unwrap();
    assert_eq!((tree.used(), tree.entries().count()), (empty, 1));
}

#[test]
fn encoded_writes_are_decoded_and_damaged_ones_fail() {
    let mut destination = begun("sub");
    apply(&mut destination, file("f")).unwrap();
    let mut encoded = EncodedWrite {
        path: path("f"),
        offset: 10,
        unencoded_file_len: 3,
        unencoded_len: 8,
        unencoded_offset: 2,
        compression: None,
        encryption: None,
        data: Bytes::from_static(b"abcd"),
    };
    apply(&mut destination, Op::EncodedWrite(encoded.clone())).unwrap();
    assert_eq!(&read(&destination, "sub", "f")[10..], b"cd\0");
    encoded.compression = Some(1);
    let failure = apply(&mut destination, Op::EncodedWrite(encoded)).unwrap_err();
    assert!(matches!(*failure.cause, Cause::Undecodable(_)));
}

#[test]
fn a_listing_shows_every_name() {
    let mut tree = Tree::new(1 << 20);
    let target = Bytes::from_static(b"dir/f");
    tree.create(&path("dir"), &NewInode::Directory, 0o755)
        .unwrap();
    tree.create(&path("dir/f"), &NewInode::File, 0o4644)
        .unwrap();
    tree.create(&path("link"), &NewInode::Symlink { target }, 0)
        .unwrap();
    let null = NewInode::Device {
        mode: 0o20666,
        rdev: 0x103,
    };
    tree.create(&path("null"), &null, 0).unwrap();
    tree.set_xattr(&path("dir/f"), b"user.note", &Bytes::from_static(b"\xff"))
        .unwrap();
    for name in ["", "dir", "dir/f", "link", "null"] {
        let time = Timespec {
            seconds: 77,
            nanoseconds: 0,
        };
        tree.set_times(&path(name), time, Some(time)).unwrap();
    }
    let expected = "\
drwxr-xr-x  1     0     0          0          77 .
drwxr-xr-x  1     0     0          0          77 dir
-rwSr--r--  1     0     0          0          77 dir/f
    user.note = \"\\xff\"
lrwxrwxrwx  1     0     0          5          77 link -> dir/f
crw-rw-rw-  1     0     0       1, 3          77 null
";
    assert_eq!(tree.to_string(), expected);
}

mod arbitrary {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    fn any_path() -> impl Strategy<Value = StreamPath> {
        select(&["", "a", "b", "a/a", "a/b", "a/a/a", "b/c", "x/y"][..]).prop_map(path)
    }

    fn any_number() -> impl Strategy<Value = u64> {
        let edges = vec![
            0,
            1,
            4095,
            4096,
            (1 << 63) - 4096,
            (1 << 63) - 1,
            1 << 63,
            u64::MAX,
        ];
        prop_oneof![select(edges), 0u64..20_000, any::<u64>()]
    }

    fn any_bytes() -> impl Strategy<Value = Bytes> {
        prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from)
    }

    fn any_kind() -> impl Strategy<Value = NewInode> {
        prop_oneof![
            4 => Just(NewInode::File),
            4 => Just(NewInode::Directory),
            1 => any_bytes().prop_map(|target| NewInode::Symlink { target }),
            1 => (any::<u32>(), any::<u64>()).prop_map(|(mode, rdev)| NewInode::Device { mode, rdev }),
            1 => any::<u32>().prop_map(|mode| NewInode::Fifo { mode }),
            1 => any::<u32>().prop_map(|mode| NewInode::Socket { mode }),
        ]
    }

    fn any_data_op() -> impl Strategy<Value = Op> {
        let number = any_number;
        let uuid = select(vec![STREAM, Uuid::nil(), Uuid::from_u128(7)]);
        prop_oneof![
            (
                any_path(),
                number(),
                prop::collection::vec(any_bytes(), 0..4)
            )
                .prop_map(|(path, offset, data)| Op::Write { path, offset, data }),
            (
                (any_path(), any_path()),
                (number(), number(), number()),
                uuid
            )
                .prop_map(
                    |((path, source_path), (offset, len, source_offset), source_uuid)| {
                        let source_ctransid = 10;
                        Op::Clone(CloneRange {
                            path,
                            offset,
                            len,
                            source_uuid,
                            source_ctransid,
                            source_path,
                            source_offset,
                        })
                    }
                ),
            (
                (any_path(), any_bytes()),
                (number(), number(), number(), number()),
                0u32..9
            )
                .prop_map(
                    |((path, data), (offset, file_len, len, start), compression)| {
                        Op::EncodedWrite(EncodedWrite {
                            path,
                            offset,
                            unencoded_file_len: file_len,
                            unencoded_len: len,
                            unencoded_offset: start,
                            compression: Some(compression),
                            encryption: None,
                            data,
                        })
                    }
                ),
            (any_path(), number()).prop_map(|(path, size)| Op::Truncate { path, size }),
            (any_path(), 0u32..40, number(), number()).prop_map(|(path, mode, offset, len)| {
                Op::Fallocate {
                    path,
                    mode,
                    offset,
                    len,
                }
            }),
        ]
    }

    fn any_op() -> impl Strategy<Value = Op> {
        let names: Vec<&'static [u8]> = vec![ACL_NAME, DEFAULT_ACL, COMPRESSION, b"user.a", b""];
        let name = move || select(names.clone()).prop_map(Bytes::from_static);
        let value = prop_oneof![
            any_bytes(),
            select(vec![ACL, b"zstd"]).prop_map(Bytes::from_static)
        ];
        prop_oneof![
            4 => (any_path(), prop::option::of(any_path()), any_kind(), prop::option::of(any::<u32>()))
                .prop_map(|(path, created_as, kind, mode)| Op::Create { path, created_as, kind, mode }),
            5 => any_data_op(),
            1 => (any_path(), any_path()).prop_map(|(path, to)| Op::Rename { path, to }),
            1 => (any_path(), any_path()).prop_map(|(path, existing)| Op::Link { path, existing }),
            1 => any_path().prop_map(|path| Op::Unlink { path }),
            1 => any_path().prop_map(|path| Op::Rmdir { path }),
            2 => (any_path(), name(), value).prop_map(|(path, name, data)| Op::SetXattr { path, name, data }),
            1 => (any_path(), name()).prop_map(|(path, name)| Op::RemoveXattr { path, name }),
            1 => (any_path(), any::<u32>(), any::<u32>()).prop_map(|(path, uid, gid)| Op::Chown { path, uid, gid }),
            1 => (any_path(), any::<u32>()).prop_map(|(path, mode)| Op::Chmod { path, mode }),
            1 => (any_path(), any::<u64>()).prop_map(|(path, attributes)| Op::FileAttr { path, attributes }),
        ]
    }

    const ACL_NAME: &[u8] = b"system.posix_acl_access";

    proptest! {
        /// Whatever is asked for, nothing panics, the limit holds, and what
        /// is counted is what is there.
        #[test]
        fn operations_end_in_a_result(ops in prop::collection::vec(any_op(), 0..60)) {
            let mut destination = MemoryDestination::new().with_limit(50_000);
            destination.begin(&new("one", Uuid::from_u128(7), None), AT).unwrap();
            let half = ops.len() / 2;
            for (index, op) in ops.into_iter().enumerate() {
                if index == half {
                    destination.finish(AT).unwrap();
                    let next = new("two", STREAM, Some(Uuid::from_u128(7)));
                    if destination.begin(&next, AT).is_err() {
                        return Ok(());
                    }
                }
                let _ = apply(&mut destination, op);
            }
            let mut used = 0;
            for subvolume in destination.subvolumes() {
                used += subvolume.tree().used();
                prop_assert_eq!(subvolume.tree().used(), subvolume.tree().recount());
                prop_assert!(!subvolume.tree().to_string().is_empty());
            }
            prop_assert!(used <= 50_000);
        }
    }
}

#[test]
fn a_file_that_gets_no_new_name_keeps_the_old_one() {
    let mut destination = begun("a");
    for name in ["old", "taken"] {
        apply(&mut destination, file(name)).unwrap();
    }
    let moved = Op::Move {
        path: path("taken"),
        existing: path("old"),
    };
    let failure = apply(&mut destination, moved).unwrap_err();
    assert_eq!(failure.operation, "link");
    let tree = destination.subvolume(b"a").unwrap().tree();
    assert!(tree.get(&path("old")).is_some());
}
