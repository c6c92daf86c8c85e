//! Sources, inventories and plans.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use btrfs_lineage::Resolver;
use btrfs_testkit::{SentSample, Test, subvolume, test};
use serde_json::{Value, json, to_value};

use crate::calls::{Place, UUID, stream};
use crate::examples::example;
use crate::program::{With, compile, driven};

pub(crate) fn tests() -> Vec<Test> {
    let tests = vec![
        test!(a_source_is_resolved),
        test!(options_restrict_sources),
        test!(an_inventory_is_that_of_the_library),
        test!(a_plan_names_what_is_mounted),
        test!(what_cannot_be_planned_is_an_error),
    ];
    tests.into_iter().map(|test| test.needs("cc")).collect()
}

/// Runs the example; whether it succeeded, the JSON, and the message.
fn resolve(arguments: &[&str]) -> (bool, Value, String) {
    let program = compile(&example("resolve.c"), With::Static);
    let output = Command::new(program).args(arguments).output().unwrap();
    let json = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let text = String::from_utf8(output.stderr).unwrap();
    (output.status.success(), json, text)
}

/// A filesystem with the received subvolume `to/home`.
fn received() -> Place {
    let place = Place::new();
    let file = place.file("stream", &stream("home", false));
    let text = driven(&place.directory("to"), "fd", &file, &[]);
    assert!(text.contains("= 0 "), "{text}");
    place
}

fn a_source_is_resolved() {
    let place = received();
    let top = place.filesystem.path();
    let (directory, wanted) = (top.to_str().unwrap(), UUID.to_string());
    let (found, json, text) = resolve(&[directory, &wanted, "7"]);
    assert!(found && text.is_empty(), "{text}");
    assert_eq!(json["wanted"], json!({"uuid": wanted, "ctransid": 7}));
    assert_eq!(json["source"]["path"], "to/home");
    assert_eq!(json["mounted_at"], top.join("to/home").to_str().unwrap());
    assert_eq!(json["exhaustive"], true);
    let candidate = json!({"subvolume_id": json["source"]["subvolume_id"], "path": "to/home",
                           "reason": "suitable"});
    assert_eq!(json["candidates"], json!([candidate]));
    assert_eq!(json["missing_capabilities"], json!([]));

    let other = subvolume::create(&top.join("other"));
    let own = subvolume::facts(&other).uuid;
    let (found, json, text) = resolve(&[directory, &own]);
    assert!(!found && json.get("source").is_none(), "{json}");
    assert_eq!(json["candidates"][0]["path"], "other");
    let reason = "it is writable, so it may have changed";
    assert_eq!(json["candidates"][0]["reason"], reason);
    let first = format!("no usable subvolume here is, or was received from, the source {own}\n");
    assert!(text.starts_with(&first) && text.contains(reason), "{text}");

    let (found, json, text) = resolve(&[directory, "00000000-0000-0000-0000-00000000000f"]);
    assert!(!found && json["candidates"] == json!([]), "{json}");
    assert!(text.starts_with("no subvolume here is, "), "{text}");
    for (directory, uuid, expected) in [
        (directory, "x", "\"x\": failed to parse a UUID"),
        ("/nowhere", &wanted, "open /nowhere: No such file"),
        ("/proc", &wanted, "/proc: Inappropriate ioctl"),
    ] {
        let (found, json, text) = resolve(&[directory, uuid]);
        assert!(!found && json.is_null(), "{json}");
        assert!(text.starts_with(expected), "{text}");
    }
}

fn options_restrict_sources() {
    let place = received();
    let elsewhere = place.directory("elsewhere");
    let what = format!("resolve:{UUID}");
    let none = Path::new("-");
    let found = driven(place.filesystem.path(), &what, none, &[]);
    assert!(found.starts_with("= 0 kind= "), "{found}");
    let jail = ["jail", elsewhere.to_str().unwrap()];
    let text = driven(place.filesystem.path(), &what, none, &jail);
    assert!(
        text.starts_with("= 1 kind=no_source errno=0 at=0,0,0 "),
        "{text}"
    );
    let source = format!(
        "00000000-0000-0000-0000-00000000000f:{}",
        place.path("to/home")
    );
    let what = "resolve:00000000-0000-0000-0000-00000000000f";
    let text = driven(&elsewhere, what, none, &["clone_source", &source]);
    assert!(
        text.starts_with("= 0 ") && text.contains("\"unverified\":true"),
        "{text}"
    );
    let text = driven(&elsewhere, what, none, &["clone_source", "/proc"]);
    assert!(
        text.contains("\n/proc: the subvolume named as a source is on another"),
        "{text}"
    );
}

/// The JSON in what was printed.
fn result(text: &str) -> Value {
    serde_json::from_str(text.lines().last().unwrap()).unwrap_or_else(|_| panic!("{text}"))
}

fn an_inventory_is_that_of_the_library() {
    let place = received();
    let top = place.filesystem.path();
    let expected = Resolver::new(File::open(top).unwrap()).unwrap().inventory();
    let (found, json, _) = resolve(&[top.to_str().unwrap()]);
    assert!(found);
    assert_eq!(json, to_value(expected).unwrap());
    let elsewhere = place.directory("elsewhere");
    let jail = ["jail", elsewhere.to_str().unwrap()];
    let text = driven(top, "inventory", Path::new("-"), &jail);
    assert_eq!(result(&text)["subvolumes"], json!([]));
}

fn a_plan_names_what_is_mounted() {
    let sent = SentSample::new();
    let place = Place::new();
    let to = place.directory("to");
    let empty = driven(&to, "inventory", Path::new("-"), &[]);
    let file = place.file("stream", &sent.stream);
    assert!(driven(&to, "fd", &file, &["stop_at_end", "true"]).contains("= 0 "));
    let one = driven(&to, "inventory", Path::new("-"), &[]);
    let [first, second] = ["first", "second"].map(|name| sent.from.path().join(name));
    let plan = |inventory: &str, options: &[&str]| {
        let inventory = place.file("inventory", inventory.lines().last().unwrap().as_bytes());
        result(&driven(&second, "plan", &inventory, options))
    };
    let full = plan(&empty, &[]);
    assert_eq!(
        (&full["result"], &full["arguments"]),
        (&json!("full"), &json!([]))
    );
    let found = plan(&one, &["plan_clone_sources", "0"]);
    assert_eq!(found["result"], "incremental");
    assert_eq!(found["arguments"], json!(["-p", first.to_str().unwrap()]));
    assert!(driven(&to, "fd", &file, &["skip_complete", "true"]).contains("= 0 "));
    let both = plan(&driven(&to, "inventory", Path::new("-"), &[]), &[]);
    assert_eq!(both["arguments"], json!([]));
    assert_eq!(both["already_there"].as_array().unwrap().len(), 1);
}

fn what_cannot_be_planned_is_an_error() {
    let place = received();
    let top = place.filesystem.path();
    let listed = driven(top, "inventory", Path::new("-"), &[]);
    let listed = listed.lines().last().unwrap();
    let good = place.file("good", listed.as_bytes());
    let cut = place.file("cut", &listed.as_bytes()[..50]);
    let other = place.file(
        "other",
        listed.replace("\"version\":1", "\"version\":2").as_bytes(),
    );
    let writable = subvolume::create(&top.join("writable"));
    let snapshot = top.join("to/home");
    for (snapshot, inventory, code, message) in [
        (
            &snapshot,
            &cut,
            "6 kind=misuse",
            "the inventory is none: EOF while parsing",
        ),
        (
            &snapshot,
            &other,
            "6 kind=misuse",
            "the inventory is none: ",
        ),
        (
            &writable,
            &good,
            "1 kind=not_sendable",
            "is writable, and only read-only ones",
        ),
        (
            &top.join("to"),
            &good,
            "1 kind=not_sendable",
            "to: not a subvolume",
        ),
        (
            &top.join("none"),
            &good,
            "5 kind=open errno=2",
            "none: No such file or directory",
        ),
    ] {
        let text = driven(snapshot, "plan", inventory, &[]);
        assert!(
            text.starts_with(&format!("= {code} ")) && text.contains(message),
            "{text}"
        );
    }
}
