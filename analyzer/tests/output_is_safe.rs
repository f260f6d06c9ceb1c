//! Names from a tape are hostile: whatever they hold, no output carries a control byte, a direction mark or markup of theirs.

mod support;

use heaptape_format::record::ProcessOrigin;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use support::Recording;

const HOSTILE: &[u8] = b"/x/\x1b]52;c;aGk=\x07\x1b[2J</script><img src=x onerror=alert(1)>\xc2\x9b31m\xe2\x80\xae\n1 2 3: size=0 B;\xff\x00&quot;";

fn hostile_tape(dir: &Path) -> PathBuf {
    let mut tape = Recording::new(16);
    tape.process(1, ProcessOrigin::Exec, HOSTILE)
        .thread(0, 1, HOSTILE)
        .module(HOSTILE, b"\x01\x02")
        .runtime(HOSTILE, false, HOSTILE)
        .code(HOSTILE, HOSTILE)
        .code(b"climbs", b"../../outside/secret.py")
        .code(b"shown", b"/srv/app/shown.py")
        .object_type(HOSTILE);
    let stack = tape.stack(0, &[0x10, 0x20]);
    for code in 0..4 {
        let stack = tape.frames(&[support::native(0, 0x10), support::line(code, 1)]);
        tape.object(0, 0x8000 + u64::from(code) * 64, 64, stack, 1);
    }
    tape.arena(0, 0x8000, 0x1000, stack);
    tape.wait(10)
        .alloc(0, 0x1000, 100, stack)
        .marker(HOSTILE)
        .wait(10)
        .alloc(0, 0x2000, 50, stack);
    tape.sample(0, 4096);
    let path = dir.join("hostile.tape");
    // Not ended, so that the notes about it are part of the test.
    std::fs::write(&path, tape.abandon()).expect("a file can be written");
    path
}

fn heaptape(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_heaptape"))
        .args(args)
        .current_dir(dir)
        .output()
        .expect("heaptape runs")
}

fn assert_clean(what: &str, bytes: &[u8]) {
    let text = std::str::from_utf8(bytes).unwrap_or_else(|error| panic!("{what}: not UTF-8: {error}"));
    for c in text.chars() {
        let allowed = c == '\n' || (c == '\r' && what.contains("csv")) || (c == '\t' && what.contains("svg"));
        let is_mark = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        assert!(allowed || !(c.is_control() || is_mark), "{what}: {c:?} in {text}");
    }
}

#[test]
fn no_output_carries_what_a_hostile_name_smuggles() {
    let dir = support::TempDir::new("hostile");
    let tape = hostile_tape(dir.path());
    let name = tape.to_str().expect("the path is text");
    let at = |time: &str| format!("{name}@{time}");
    let commands: Vec<Vec<String>> = [
        "info",
        "info --json",
        "verify",
        "verify --json",
        "timeline",
        "timeline --json",
        "timeline --svg -",
        "leaks",
        "leaks --json",
    ]
    .iter()
    .map(|line| {
        let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        words.insert(1, name.to_owned());
        words
    })
    .chain(
        [
            "line",
            "file",
            "traceback",
            "function",
            "library",
            "thread",
            "process",
            "api",
            "size",
            "domain",
            "type",
            "type,line,process",
        ]
        .iter()
        .flat_map(|by| {
            ["snapshot", "export"].map(|command| {
                let mut words = vec![command.to_owned(), at("end"), "--by".to_owned(), (*by).to_owned()];
                if command == "export" {
                    words.extend(["--format".to_owned(), "csv".to_owned()]);
                }
                words
            })
        }),
    )
    .chain([
        vec!["diff".into(), at("start"), at("end"), "--json".into()],
        vec!["diff".into(), at("start"), at("end"), "--by".into(), "thread".into()],
        vec!["tree".into(), at("end")],
        vec!["arenas".into(), at("end")],
        vec!["arenas".into(), at("end"), "--json".into()],
        vec!["flamegraph".into(), at("end"), "-o".into(), "-".into()],
        vec!["export".into(), at("end"), "--format".into(), "folded".into()],
        vec!["snapshot".into(), at("marker:nope")],
    ])
    .collect();
    for command in commands {
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        let output = heaptape(dir.path(), &words);
        let what = words.join(" ")
            + if words.contains(&"--svg") || words[0] == "flamegraph" {
                " svg"
            } else {
                ""
            };
        assert_clean(&what, &output.stdout);
        assert_clean(&format!("{what} (stderr)"), &output.stderr);
        assert!(
            !output.stdout.is_empty() || !output.stderr.is_empty(),
            "{what} said nothing"
        );
        if what.ends_with("svg") {
            let svg = String::from_utf8_lossy(&output.stdout);
            assert!(svg.starts_with('<') && !svg.contains("<img"), "{what}: {svg}");
            // inferno's own script is the only one.
            assert!(svg.matches("</script").count() <= 1, "{what}");
        }
    }
}

#[test]
fn lines_of_sources_are_escaped_and_no_path_of_a_tape_leads_out_of_their_folder() {
    let dir = support::TempDir::new("hostile-source");
    let tape = hostile_tape(dir.path());
    let name = tape.to_str().expect("the path is text");
    let roots = dir.path().join("roots/app");
    std::fs::create_dir_all(&roots).expect("a folder can be made");
    std::fs::create_dir_all(dir.path().join("outside")).expect("a folder can be made");
    std::fs::write(dir.path().join("outside/secret.py"), "secret = 1\n").expect("a file can be written");
    let line = [b"shown = \x1b[2J", HOSTILE].concat();
    std::fs::write(roots.join("shown.py"), line).expect("a file can be written");
    for extra in [&[][..], &["--by", "traceback"], &["--json"]] {
        let words = [&["snapshot", name, "--source-root", "roots", "-n", "0"], extra].concat();
        let output = heaptape(dir.path(), &words);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_clean(&words.join(" "), &output.stdout);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("shown = "), "{text}");
        assert!(!text.contains("secret = "), "{text}");
    }
}

#[test]
fn a_file_name_given_by_the_user_is_escaped_in_messages() {
    let dir = support::TempDir::new("hostile-name");
    let output = heaptape(dir.path(), &["info", "no\x1b[31msuch\nfile"]);
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("no\\u{1b}[31msuch"), "{message}");
}
