//! Each call against the kernel, with an error number of each.

use std::fs::File;
use std::ops::ControlFlow;
use std::path::Path;

use rustix::fs::syncfs;
use rustix::io::Errno;
use uuid::Uuid;

use super::*;
use btrfs_testkit::unit::on_btrfs;

fn open(path: &Path) -> File {
    File::open(path).unwrap()
}

#[test]
fn subvolumes_are_made_and_copied() {
    on_btrfs(|fs| {
        let top = open(fs.path());
        subvol_create(&top, b"a").unwrap();
        assert_eq!(subvol_create(&top, b"a"), Err(Errno::EXIST));
        assert_eq!(subvol_create(&top, b"a/b"), Err(Errno::INVAL));
        assert_eq!(subvol_create(&top, &[b'n'; 256]), Err(Errno::NAMETOOLONG));
        assert_eq!(subvol_create(&top, &[b'n'; 5000]), Err(Errno::NAMETOOLONG));
        subvol_create(&top, b"\xff\n").unwrap();

        let a = open(&fs.path().join("a"));
        snap_create(&top, b"rw", &a, false).unwrap();
        snap_create(&top, b"ro", &a, true).unwrap();
        assert_eq!(snap_create(&top, b"rw", &a, false), Err(Errno::EXIST));
        let is_read_only = |name| {
            let info = subvolume_info(open(&fs.path().join(name)));
            info.unwrap().read_only
        };
        assert!(!is_read_only("rw"));
        assert!(is_read_only("ro"));
    });
}

#[test]
fn space_is_divided() {
    on_btrfs(|fs| {
        let top = open(fs.path());
        let infos = space_info(&top).unwrap();
        let of = |kind| infos.iter().find(|info| info.kind == kind).unwrap();
        for kind in [SpaceKind::Data, SpaceKind::Metadata, SpaceKind::System] {
            let info = of(kind);
            assert!(info.total > 0 && info.used <= info.total, "{info:?}");
        }
        assert_eq!(of(SpaceKind::Metadata).profile(), "DUP");
        assert_eq!(of(SpaceKind::Data).profile(), "single");
        assert!(of(SpaceKind::Reserve).total > 0);
        let free = unallocated(&top).unwrap();
        let twice = of(SpaceKind::Metadata).total + of(SpaceKind::System).total;
        let size = std::fs::metadata(fs.image()).unwrap().len();
        assert_eq!(free, size - of(SpaceKind::Data).total - 2 * twice);
        assert_eq!(space_info(open(Path::new("/proc"))), Err(Errno::NOTTY));
        assert_eq!(unallocated(open(Path::new("/proc"))), Err(Errno::NOTTY));
    });
}

#[test]
fn a_subvolume_is_sealed_and_described() {
    on_btrfs(|fs| {
        let top = open(fs.path());
        std::fs::create_dir(fs.path().join("d")).unwrap();
        let directory = open(&fs.path().join("d"));
        subvol_create(&directory, b"a").unwrap();
        let a = open(&fs.path().join("d/a"));
        let uuid = Uuid::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10);
        let received = set_received_subvol(&a, uuid, 77).unwrap();
        subvol_set_read_only(&a, true).unwrap();
        assert_eq!(set_received_subvol(&a, uuid, 77), Err(Errno::ROFS));
        assert_eq!(subvol_set_read_only(&directory, true), Err(Errno::INVAL));

        let info = subvolume_info(&a).unwrap();
        assert_eq!(info.name, b"a");
        assert_eq!(info.id, containing_subvolume(&a).unwrap());
        assert_eq!((info.parent_id, info.received_uuid), (5, uuid));
        assert_eq!((info.stransid, info.rtransid), (77, received.rtransid));
        assert!(info.read_only && !info.uuid.is_nil() && info.parent_uuid.is_nil());
        let place = RootRef {
            id: info.id,
            dir_id: info.dir_id,
        };
        assert_eq!(subvolume_rootrefs(&top, 10).unwrap(), [place]);
        assert_eq!(subvolume_rootrefs(&directory, 0).unwrap(), []);
        let found = ino_lookup_user(&top, info.id, info.dir_id).unwrap();
        assert_eq!(
            (&found.directory[..], &found.name[..]),
            (&b"d/"[..], &b"a"[..])
        );
        assert!(ino_lookup_user(&top, info.id, 256).is_err());

        subvol_set_read_only(&a, false).unwrap();
        set_received_subvol(&a, Uuid::nil(), 0).unwrap();
        assert!(subvolume_info(&a).unwrap().received_uuid.is_nil());
    });
}

#[test]
fn a_handle_opens_what_has_its_id_and_generation() {
    on_btrfs(|fs| {
        let top = open(fs.path());
        subvol_create(&top, b"a").unwrap();
        let info = subvolume_info(open(&fs.path().join("a"))).unwrap();
        let key = Key {
            objectid: 256,
            item_type: 1,
            offset: 0,
        };
        let mut generation = None;
        tree_search(&top, info.id, key, key, |item| {
            generation = item.data.first_chunk().copied().map(u32::from_le_bytes);
            ControlFlow::Break(())
        })
        .unwrap();
        let generation = generation.unwrap();
        assert_eq!(u64::from(generation), info.otransid);
        let opened = open_subvolume(&top, info.id, generation).unwrap();
        assert_eq!(subvolume_info(&opened).unwrap(), info);
        let wrong = open_subvolume(&top, info.id, generation + 1);
        assert_eq!(wrong.unwrap_err(), Errno::STALE);
        assert_eq!(open_subvolume(&top, 9999, 0).unwrap_err(), Errno::STALE);
    });
}

#[test]
fn trees_are_searched_whole_and_in_order() {
    on_btrfs(|fs| {
        let top = open(fs.path());
        for number in 0..500 {
            std::fs::write(fs.path().join(format!("{number:0>200}")), b"x").unwrap();
        }
        // Names enter the tree with the commit.
        syncfs(&top).unwrap();
        let key = |objectid| Key {
            objectid,
            item_type: 0,
            offset: 0,
        };
        let mut keys = Vec::new();
        // DIR_INDEX items: each has the name in it, so they fill many buffers.
        tree_search(&top, 5, key(256), key(257), |item| {
            keys.push((item.key, item.data.len()));
            ControlFlow::Continue(())
        })
        .unwrap();
        let names = keys
            .iter()
            .filter(|(key, len)| key.item_type == 96 && *len > 200);
        assert_eq!(names.count(), 500);
        assert!(keys.is_sorted_by(|(a, _), (b, _)| a < b));
        let nothing = tree_search(&top, 12345, key(0), key(1), |_| ControlFlow::Continue(()));
        assert_eq!(nothing, Err(Errno::NOENT));
    });
}

#[test]
fn data_is_cloned_and_written_encoded() {
    on_btrfs(|fs| {
        let info = fs_info(open(fs.path())).unwrap();
        assert_eq!(info.sector_size, 4096);
        assert!(info.node_size >= 4096 && !info.fsid.is_nil());
        let content = vec![b'c'; 8192];
        std::fs::write(fs.path().join("from"), &content).unwrap();
        let from = open(&fs.path().join("from"));
        let to = File::create(fs.path().join("to")).unwrap();
        ficlonerange(&from, 4096, 4096, &to, 0).unwrap();
        assert_eq!(
            std::fs::read(fs.path().join("to")).unwrap(),
            content[..4096]
        );
        assert_eq!(ficlonerange(&from, 1, 4096, &to, 0), Err(Errno::INVAL));

        let plain = vec![b'e'; 65536];
        let mut encoder =
            flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        std::io::Write::write_all(&mut encoder, &plain).unwrap();
        let data = encoder.finish().unwrap();
        let range = EncodedRange {
            offset: 0,
            len: 65536,
            unencoded_len: 65536,
            unencoded_offset: 0,
            compression: 1,
            encryption: 0,
        };
        let encoded = File::create(fs.path().join("encoded")).unwrap();
        let written = encoded_write(&encoded, &range, &data);
        if written == Err(Errno::NOTTY) {
            // Before Linux 5.18.
            return;
        }
        assert_eq!(written, Ok(data.len()));
        assert_eq!(std::fs::read(fs.path().join("encoded")).unwrap(), plain);
        let encrypted = EncodedRange {
            encryption: 1,
            ..range
        };
        assert_eq!(
            encoded_write(&encoded, &encrypted, &data),
            Err(Errno::INVAL)
        );
        let beyond = EncodedRange {
            offset: u64::MAX,
            ..range
        };
        assert_eq!(
            encoded_write(&encoded, &beyond, &data),
            Err(Errno::OVERFLOW)
        );
    });
}

#[test]
fn verity_is_built_or_unsupported() {
    on_btrfs(|fs| {
        std::fs::write(fs.path().join("file"), b"x").unwrap();
        let verity = Verity {
            hash_algorithm: 1,
            block_size: 4096,
            salt: b"salt",
            signature: b"",
        };
        let file = open(&fs.path().join("file"));
        let built = enable_verity(&file, &verity);
        if built.is_ok() {
            assert_eq!(enable_verity(&file, &verity), Err(Errno::EXIST));
        } else {
            // A kernel without CONFIG_FS_VERITY.
            assert!(
                matches!(built, Err(Errno::OPNOTSUPP | Errno::NOTTY)),
                "{built:?}"
            );
        }
    });
}

#[test]
fn another_filesystem_has_none_of_this() {
    let elsewhere = open(Path::new("/proc"));
    assert_eq!(fs_info(&elsewhere), Err(Errno::NOTTY));
    assert_eq!(containing_subvolume(&elsewhere), Err(Errno::NOTTY));
}

#[test]
fn opened_files_are_noted() {
    assert_eq!(super::opens::METADATA, 24);
    on_btrfs(|fs| {
        let create = btrfs_testkit::subvolume::create;
        let (one, other) = (
            create(&fs.path().join("one")),
            create(&fs.path().join("other")),
        );
        for directory in [&one, &other] {
            std::fs::write(directory.join("file"), b"x").unwrap();
        }
        let (top, root) = (open(fs.path()), open(&one));
        assert_eq!(Opens::watch(&root).unwrap_err(), Errno::XDEV);
        let opens = Opens::watch(&top).unwrap();
        let id = subvolume_info(&root).unwrap().id;
        assert!(opens.of_subvolume(id).unwrap().is_empty());
        drop(File::open(other.join("file")).unwrap());
        let write = File::options().write(true).open(one.join("file")).unwrap();
        let found = Vec::from_iter(opens.of_subvolume(id).unwrap());
        let [opened] = found[..] else {
            panic!("{found:?}");
        };
        assert_eq!(opened.subvolume, id);
        let Opened {
            inode, generation, ..
        } = opened;
        let file = open_inode(&root, id, inode, generation).unwrap();
        assert_eq!(is_open_for_writing(&file), Ok(true));
        drop(write);
        assert_eq!(is_open_for_writing(&file), Ok(false));
        assert_eq!(is_open_for_writing(&root), Err(Errno::INVAL));
    });
}
