//! The worked example of `docs/QUERIES.md` is what the commands print. `HEAPTAPE_BLESS=1` writes it anew.

mod support;

use std::path::Path;
use std::process::Command;
use support::TempDir;

const BEGIN: &str = "```console\n";
const END: &str = "```\n";

/// Runs `heaptape` with the words of a line.
fn run(folder: &Path, line: &str) -> String {
    let mut words = line.split(' ');
    assert_eq!(words.next(), Some("heaptape"), "{line}");
    let output = Command::new(env!("CARGO_BIN_EXE_heaptape"))
        .args(words)
        .current_dir(folder)
        .env("COLUMNS", "80")
        .output()
        .expect("heaptape runs");
    let messages = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && messages.is_empty(), "{line}: {messages}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn the_worked_example_is_what_the_commands_print() {
    let folder = TempDir::new("example");
    std::fs::write(folder.path().join("svc.tape"), support::founding_case()).expect("a file can be written");
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/QUERIES.md");
    let found = std::fs::read_to_string(&page).expect("the page is there");
    let (mut expected, mut rest, mut commands) = (String::new(), found.as_str(), 0);
    while let Some((before, block)) = rest.split_once(BEGIN) {
        let (block, after) = block.split_once(END).expect("a block has an end");
        expected += before;
        expected += BEGIN;
        for line in block.lines().filter_map(|line| line.strip_prefix("$ ")) {
            expected += &format!("$ {line}\n{}", run(folder.path(), line));
            commands += 1;
        }
        expected += END;
        rest = after;
    }
    expected += rest;
    assert!(commands >= 4, "{commands} commands");
    if std::env::var_os("HEAPTAPE_BLESS").is_some() {
        std::fs::write(&page, &expected).expect("a file can be written");
        return;
    }
    assert!(
        found == expected,
        "docs/QUERIES.md is not what the commands print; they print:\n{expected}"
    );
}
