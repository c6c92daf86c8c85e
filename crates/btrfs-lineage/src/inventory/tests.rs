//! Inventories as JSON, and of stored streams.

use btrfs_sendstream::{NewSubvolume, SourceId, SubvolumeName};
use serde_json::{Value, json};

use super::*;

fn one() -> Value {
    json!({
        "version": 1,
        "filesystem": "00000000-0000-0000-0000-000000000001",
        "searched": "filesystem",
        "paths_from": "top",
        "complete": true,
        "unseen": 0,
        "missing_capabilities": ["CAP_SYS_ADMIN"],
        "subvolumes": [
            {
                "id": 5, "path": "", "state": "writable",
                "uuid": "00000000-0000-0000-0000-000000000002",
                "ctransid": 9, "ctime": "2026-11-27T09:00:00.000000001Z", "read_only": false,
            },
            {
                "id": 256, "path": {"hex": "636166e9"}, "state": "complete",
                "changed_since_received": false,
                "uuid": "00000000-0000-0000-0000-000000000003",
                "received_uuid": "00000000-0000-0000-0000-000000000004",
                "ctransid": 7, "otransid": 6, "stransid": 11, "rtransid": 8,
                "read_only": true,
            },
            {"id": 257, "state": "unfinished", "read_only": false},
        ],
    })
}

#[test]
fn what_is_written_is_what_was_read() {
    let inventory: Inventory = serde_json::from_value(one()).unwrap();
    assert_eq!(serde_json::to_value(&inventory).unwrap(), one());
    let copy = inventory.get(256).unwrap();
    assert_eq!(copy.path.as_deref(), Some(&b"caf\xe9"[..]));
    assert_eq!(copy.state.received_uuid, Uuid::from_u128(4));
    assert_eq!(inventory.subvolumes[0].state.ctime.nanoseconds, 1);
    assert!(inventory.is_exhaustive());
}

#[test]
fn keys_of_the_future_are_skipped_and_versions_are_not() {
    let mut later = one();
    later["more"] = json!(1);
    later["subvolumes"][0]["more"] = json!({"a": []});
    assert!(serde_json::from_value::<Inventory>(later).is_ok());
    let mut other = one();
    other["version"] = json!(2);
    let error = serde_json::from_value::<Inventory>(other).unwrap_err();
    assert!(error.to_string().contains("version 2"), "{error}");
    let cut = one().to_string();
    let error = serde_json::from_str::<Inventory>(&cut[..cut.len() - 1]).unwrap_err();
    assert!(error.is_eof());
    for digits in ["6", "6x", "é"] {
        let mut bad = one();
        bad["subvolumes"][1]["path"]["hex"] = json!(digits);
        assert!(serde_json::from_value::<Inventory>(bad).is_err());
    }
}

fn stored(uuid: u128, parent: Option<u128>) -> StoredSubvolume {
    let name = SubvolumeName::parse(Bytes::from_static(b"s")).unwrap();
    let parent = parent.map(|uuid| SourceId::from(Uuid::from_u128(uuid)));
    StoredSubvolume {
        file: "file".into(),
        subvolume: NewSubvolume::new(name, Uuid::from_u128(uuid), 3, parent),
    }
}

#[test]
fn a_stored_stream_counts_if_its_chain_is_there() {
    let streams = [
        stored(3, Some(2)),
        stored(1, None),
        stored(5, Some(4)),
        stored(6, Some(5)),
        stored(2, Some(1)),
        // They wait for each other.
        stored(7, Some(8)),
        stored(8, Some(7)),
        // Twice, once on a parent that is not there.
        stored(2, Some(9)),
    ];
    let (inventory, left_out) = Inventory::of_streams(&streams);
    assert_eq!(left_out, [2, 3, 5, 6, 7]);
    let uuids: Vec<_> = inventory
        .subvolumes
        .iter()
        .map(|it| it.state.received_uuid.as_u128())
        .collect();
    assert_eq!(uuids, [3, 1, 2]);
    let first = &inventory.subvolumes[0];
    assert_eq!((first.id, first.state.stransid), (1, 3));
    assert!(inventory.is_exhaustive() && inventory.filesystem.is_none());
}
