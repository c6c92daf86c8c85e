//! What the adapters share: values in the form of reports.

use std::io::Read;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// A path or a name.
pub fn text(bytes: impl AsRef<[u8]>) -> Value {
    match std::str::from_utf8(bytes.as_ref()) {
        Ok(text) => Value::from(text),
        Err(_) => json!({ "hex": hex(bytes.as_ref()) }),
    }
}

/// Other bytes.
pub fn bytes(bytes: &[u8]) -> Value {
    json!({ "length": bytes.len(), "sha256": hex(&Sha256::digest(bytes)) })
}

/// A time.
pub fn time(seconds: i64, nanoseconds: u32) -> Value {
    json!({ "seconds": seconds, "nanoseconds": nanoseconds })
}

/// A UUID.
pub fn uuid(bytes: &[u8]) -> Value {
    Value::from(hex(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Prints a command, at an offset if that is known.
pub fn command(offset: Option<u64>, name: &str, attributes: Value) {
    let line =
        json!({ "type": "command", "offset": offset, "name": name, "attributes": attributes });
    println!("{line}");
}

/// Prints a header.
pub fn header(offset: Option<u64>, version: u32) {
    println!(
        "{}",
        json!({ "type": "header", "offset": offset, "version": version })
    );
}

/// Prints the last line: of a complete stream, or of one with a defect of this class.
pub fn end(offset: Option<u64>, class: Result<(), Option<&str>>) {
    let line = match class {
        Ok(()) => json!({ "type": "complete" }),
        Err(class) => json!({ "type": "error", "offset": offset, "class": class }),
    };
    println!("{line}");
}

/// Describes the adapter if it was asked to, otherwise returns the input.
pub fn input(name: &str, version: &str, omits: &[&str]) -> Option<Vec<u8>> {
    if std::env::args_os().nth(1).is_some() {
        println!(
            "{}",
            json!({ "name": name, "version": version, "omits": omits })
        );
        return None;
    }
    let mut input = Vec::new();
    std::io::stdin()
        .read_to_end(&mut input)
        .expect("standard input");
    Some(input)
}
