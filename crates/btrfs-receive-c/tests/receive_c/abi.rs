//! `abi.txt` lists what programs are compiled and linked against.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use btrfs_testkit::Test;

use crate::program::{CRATE, compile_text, libraries, run};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::anywhere("the_abi_is_listed", the_abi_is_listed)
            .needs("cc")
            .needs("nm"),
    ]
}

/// With `UPDATE` in the environment, writes the list.
fn the_abi_is_listed() {
    let header = fs::read_to_string(format!("{CRATE}/include/btrfs-receive.h")).unwrap();
    let header = Header::parse(&header);
    let declared: BTreeSet<_> = header.functions.iter().map(|it| name(it)).collect();
    assert_eq!(
        exported(),
        declared.iter().map(|it| (*it).to_owned()).collect()
    );
    let mut listed = String::new();
    for line in header.enums.iter().chain(&header.functions) {
        listed += &format!("{line}\n");
    }
    listed += &layouts(&header.structs);
    let path = Path::new(CRATE).join("abi.txt");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, &listed).unwrap();
    }
    let checked_in = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        checked_in == listed,
        "the ABI changed. Programs that are linked already break if a line is gone or different; \
         then the version of the library has to be another. Run with UPDATE=1 in the \
         environment; it should be:\n{listed}"
    );
}

/// What a header declares.
#[derive(Default)]
struct Header {
    /// `enum NAME: CONSTANT = VALUE`.
    enums: Vec<String>,
    /// Prototypes.
    functions: Vec<String>,
    /// Names, with their fields.
    structs: Vec<(String, Vec<String>)>,
}

impl Header {
    fn parse(text: &str) -> Self {
        let code: String = (text.lines())
            .filter(|line| !line.starts_with(['#', '/']) && !line.starts_with(" *"))
            .filter(|line| !line.trim_start().starts_with("//") && !line.contains("extern \"C\""))
            .map(|line| line.trim().to_owned() + " ")
            .collect();
        let mut header = Self::default();
        let mut rest = &*code;
        while let Some(at) = rest.find([';', '{']) {
            let (statement, after) = rest.split_at(at);
            let statement = statement.trim().trim_start_matches(['}', ' ']);
            if let Some(body) = after.strip_prefix('{') {
                let (body, after) = body.split_once("};").unwrap();
                header.block(statement, body);
                rest = after;
            } else {
                if statement.contains('(') {
                    let words: Vec<_> = statement.split_whitespace().collect();
                    header.functions.push(words.join(" "));
                }
                rest = &after[1..];
            }
        }
        header
    }

    fn block(&mut self, statement: &str, body: &str) {
        if let Some(name) = statement.strip_prefix("struct ") {
            let fields = body.split(';').map(str::trim).filter(|it| !it.is_empty());
            let fields = fields.map(str::to_owned).collect();
            self.structs.push((name.to_owned(), fields));
        } else {
            for constant in body.split(',').map(str::trim).filter(|it| !it.is_empty()) {
                self.enums.push(format!("{statement}: {constant}"));
            }
        }
    }
}

/// The name in a prototype or of a field.
fn name(declaration: &str) -> &str {
    let declaration = declaration.split('(').next().unwrap();
    declaration.rsplit([' ', '*']).next().unwrap()
}

/// The symbols of the shared library.
fn exported() -> BTreeSet<String> {
    let library = libraries().join("libbtrfs_receive_c.so");
    let text = run(Command::new("nm")
        .args(["-D", "--defined-only"])
        .arg(library));
    let symbols = text.lines().map(|line| line.rsplit(' ').next().unwrap());
    symbols.map(str::to_owned).collect()
}

/// Size and fields of each structure, as C has them where pointers have 64
/// bits.
fn layouts(structs: &[(String, Vec<String>)]) -> String {
    let mut source =
        "#include <btrfs-receive.h>\n#include <stdio.h>\nint main(void) {\n".to_owned();
    for (of, fields) in structs {
        source += &format!("printf(\"struct {of}: %zu bytes\\n\", sizeof(struct {of}));\n");
        for field in fields {
            source += &format!(
                "printf(\"struct {of}: at %zu: {field}\\n\", offsetof(struct {of}, {}));\n",
                name(field)
            );
        }
    }
    run(&mut Command::new(compile_text(
        "abi",
        &(source + "return 0; }\n"),
    )))
}
