//! What `--json` prints: `docs/json.md` holds an example, which is produced here.
//! `JSON=renew` in the environment writes what is printed now into the document.

use std::fs;
use std::path::Path;

use btrfs_testkit::{LoopFilesystem, Test, subvolume, test};
use serde_json::Value;

use super::support::{audit, let_the_clock_tick, outcome};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test!(the_example_is_that_of_the_document),
        test!(what_fails_is_json_too),
    ]
}

/// Puts what differs from run to run into the form that the document has.
fn normalised(line: &str, top: &Path) -> String {
    const UUID: &str = "c1d2e3f4-0000-4000-8000-000000000001";
    let mut line = line.replace(top.to_str().unwrap(), "/backup");
    let value: Value = serde_json::from_str(&line).unwrap();
    if let Some(subvolume) = value.get("subvolume") {
        line = line.replace(subvolume["uuid"].as_str().unwrap(), UUID);
        for (key, id) in [("ctransid", 12), ("rtransid", 9)] {
            let found = format!("\"{key}\":{}", subvolume[key]);
            line = line.replace(&found, &format!("\"{key}\":{id}"));
        }
        let at = value["since_received"]["at"].as_str().unwrap();
        line = line.replace(at, "2026-11-27T09:30:12.000000001Z");
        line = line.replace(&at[..19], "2026-11-27T09:30:12");
    }
    line + "\n"
}

fn the_example_is_that_of_the_document() {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/json.md");
    let to = LoopFilesystem::new();
    let monday = subvolume::create(&to.path().join("monday"));
    fs::write(monday.join("file"), b"content").unwrap();
    to.sync();
    subvolume::stamp(&monday, "00000000-0000-0000-0000-000000001111", 7);
    let_the_clock_tick(to.path());
    fs::write(monday.join("file"), b"changed").unwrap();
    to.sync();
    let (status, stdout, stderr) = outcome(&audit(["--json".as_ref(), to.path().as_os_str()]));
    assert_eq!((status, &*stderr), (1, ""));
    let printed: String = stdout.lines().map(|it| normalised(it, to.path())).collect();
    let text = fs::read_to_string(&document).unwrap();
    let marker = "<!-- audit -->\n\n```json\n";
    let begin = text.find(marker).unwrap() + marker.len();
    let end = begin + text[begin..].find("```").unwrap();
    if std::env::var_os("JSON").is_some_and(|value| value == "renew") {
        let renewed = [&text[..begin], &printed, &text[end..]].concat();
        fs::write(document, renewed).unwrap();
    } else {
        assert_eq!(text[begin..end], printed);
    }
}

fn what_fails_is_json_too() {
    let (status, stdout, _) = outcome(&audit(["--json", "/no/such/path"]));
    assert_eq!(status, 2);
    let lines: Vec<Value> = stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines[0]["event"], "error");
    assert_eq!(
        lines[1],
        serde_json::json!({"event": "end", "success": false})
    );
}
