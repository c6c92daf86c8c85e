//! What a receive looks like when it is serialised, from its events to its
//! report.

use btrfs_model::MemoryDestination;
use btrfs_receive::{Event, Observer, Receiver};
use btrfs_testkit::Test;
use btrfs_testkit::raw::{RawStream, attr};
use serde_json::{Value, json, to_value};

#[derive(Default)]
struct Recorder(Vec<Value>);

impl Observer for Recorder {
    fn event(&mut self, event: Event<'_>) {
        self.0.push(to_value(event).unwrap());
    }

    fn wants_commands(&self) -> bool {
        true
    }
}

/// The uuid of [`RawStream`]'s subvolumes.
fn own_uuid() -> Value {
    let bytes = btrfs_testkit::raw::OWN_UUID;
    to_value(uuid::Uuid::from_bytes(bytes)).unwrap()
}

fn a_receive_is_told_from_the_beginning_to_the_report() {
    let stream = RawStream::new(1)
        .command(3, [attr::path(&b"\xff"[..]), attr::ino(257)])
        .end()
        .into_bytes();
    let mut recorder = Recorder::default();
    let mut receiver = Receiver::new(MemoryDestination::new());
    let report = receiver.receive(&stream[..], &mut recorder).unwrap();
    let events: Vec<_> = recorder.0.iter().map(|it| it["event"].clone()).collect();
    let expected = [
        "subvolume_begins",
        "subvolume_created",
        "command",
        "subvolume_finished",
    ];
    assert_eq!(events, expected);
    let command = json!({
        "event": "command", "stream": 1, "command": 2, "byte": recorder.0[2]["byte"],
        "type": "mkfile", "path": {"hex": "ff"}, "ino": 257,
    });
    assert_eq!(recorder.0[2], command);
    let report = to_value(&report).unwrap();
    assert_eq!(report["finished"], 1);
    let subvolume = &report["subvolumes"][0];
    assert_eq!(subvolume["outcome"], "finished");
    assert_eq!(subvolume["uuid"], own_uuid());
    assert_eq!(subvolume["fallbacks"]["clones_copied"], 0);
    assert!(subvolume.get("wanted_parent").is_none(), "{subvolume}");
}

fn a_failure_says_where_what_and_why() {
    let stream = RawStream::new(1)
        .command(11, [attr::path("gone")])
        .end()
        .into_bytes();
    let mut recorder = Recorder::default();
    let mut receiver = Receiver::new(MemoryDestination::new());
    let error = receiver.receive(&stream[..], &mut recorder).unwrap_err();
    let failed = recorder.0.iter().find(|it| it["event"] == "failed");
    let failed = failed.unwrap();
    assert_eq!(failed["operation"], "unlink");
    assert_eq!(failed["path"], "gone");
    assert_eq!(failed["cause"]["kind"], "system");
    assert_eq!(failed["cause"]["errno"], 2);
    let error = to_value(&error).unwrap();
    assert_eq!(error["reason"]["kind"], "failures");
    assert_eq!(error["first_failure"]["cause"], failed["cause"]);
    assert_eq!(error["report"]["subvolumes"][0]["outcome"], "abandoned");
}

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::anywhere(
            "a_receive_is_told_from_the_beginning_to_the_report",
            a_receive_is_told_from_the_beginning_to_the_report,
        ),
        Test::anywhere(
            "a_failure_says_where_what_and_why",
            a_failure_says_where_what_and_why,
        ),
    ]
}
