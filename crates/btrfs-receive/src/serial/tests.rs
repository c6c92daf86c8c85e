//! What needs more than the public interface to be put together.

use btrfs_sendstream::SubvolumeName;
use serde_json::{json, to_value};

use crate::{Loss, LossKind};

/// What the command lists with `--extract-report`.
#[test]
fn lacks_are_words() {
    let losses = Loss {
        subvolume: SubvolumeName::parse("s".into()).unwrap(),
        path: "pipe".into(),
        what: LossKind::SpecialFile {
            mode: 0o10_644,
            rdev: 0,
        },
        errno: Some(1),
    };
    let expected = json!({
        "subvolume": "s", "path": "pipe", "loss": "special-file",
        "mode": "010644", "rdev": 0, "errno": 1,
    });
    assert_eq!(to_value(losses).unwrap(), expected);
}
