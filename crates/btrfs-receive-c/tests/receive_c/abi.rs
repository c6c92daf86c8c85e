//! The header that is checked in is the one that the sources give, and `abi.txt`
//! lists what programs are compiled and linked against.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use btrfs_testkit::Test;

use crate::program::{CRATE, compile_text, libraries, run};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::anywhere("the_header_and_the_abi_are_current", both_are_current)
            .needs("cc")
            .needs("nm"),
        Test::anywhere("the_header_is_cpp_too", the_header_is_cpp_too).needs("c++"),
    ]
}

fn both_are_current() {
    let directory = Path::new(CRATE);
    let mut config = cbindgen::Config::from_file(directory.join("cbindgen.toml")).unwrap();
    config.sort_by = cbindgen::SortKey::None;
    let bindings = cbindgen::Builder::new()
        .with_config(config)
        .with_src(directory.join("src/types.rs"))
        .with_src(directory.join("src/handle.rs"))
        .with_src(directory.join("src/sys/mod.rs"))
        .generate()
        .unwrap();
    let mut header = Vec::new();
    bindings.write(&mut header);
    let header = String::from_utf8(header).unwrap();
    is_current(
        "include/btrfs-receive.h",
        &header,
        "the header is made from the sources",
    );
    is_current(
        "abi.txt",
        &listed(&header),
        "the ABI changed. Programs that are linked already break if a line is gone or different; \
         then the version of the library has to be another",
    );
}

fn the_header_is_cpp_too() {
    let mut compiler = Command::new("c++");
    compiler.args(["-std=c++11", "-Wall", "-Wextra", "-Werror", "-pedantic"]);
    compiler.args(["-fsyntax-only", "-x", "c++"]);
    run(compiler.arg(format!("{CRATE}/include/btrfs-receive.h")));
}

/// With `UPDATE` in the environment, writes the file.
fn is_current(file: &str, expected: &str, why: &str) {
    let path = Path::new(CRATE).join(file);
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, expected).unwrap();
    }
    let checked_in = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        checked_in == expected,
        "{why}. Run with UPDATE=1 in the environment; it should be:\n{expected}"
    );
}

fn listed(header: &str) -> String {
    let header = Header::parse(header);
    let declared: BTreeSet<_> = header.functions.iter().map(|it| name(it)).collect();
    assert_eq!(
        exported(),
        declared.iter().map(|it| (*it).to_owned()).collect()
    );
    let mut listed = String::new();
    for line in header.enums.iter().chain(&header.functions) {
        listed += &format!("{line}\n");
    }
    listed + &layouts(&header.structs)
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
