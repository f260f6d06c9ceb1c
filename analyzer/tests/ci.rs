//! `summarize` and `check` as a user meets them: exit statuses, forms that other programs read, what keeps from judging.

mod support;

use quick_xml::events::Event;
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};
use support::{heap_of, Recording, TempDir};

fn heaptape(dir: &Path, line: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_heaptape"));
    command
        .args(line.split(' '))
        .current_dir(dir)
        .output()
        .expect("heaptape runs")
}

fn ran(dir: &Path, line: &str) -> (i32, String, String) {
    let output = heaptape(dir, line);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (
        output.status.code().expect("a status"),
        text(output.stdout),
        text(output.stderr),
    )
}

fn write(dir: &Path, name: &str, bytes: impl AsRef<[u8]>) {
    std::fs::write(dir.join(name), bytes).expect("a file can be written");
}

/// A Python program that keeps some objects in each of four spans.
fn spans(name: &[u8], kept: u64) -> Vec<u8> {
    let mut tape = Recording::new(16);
    tape.process(7, heaptape_format::record::ProcessOrigin::Exec, b"/app/service")
        .thread(0, 7, b"main");
    tape.runtime(b"CPython 3.11", true, b"");
    tape.code(name, b"/app/session.py")
        .code(b"main", b"/app/main.py")
        .object_type(b"app.Session");
    let stack = tape.frames(&[support::line(1, 9), support::line(0, 44)]);
    let mut address = 0x1000;
    for _ in 0..4 {
        tape.marker(b"job:begin");
        for _ in 0..kept {
            tape.object(0, address, 64, stack, 1);
            address += 0x100;
        }
        tape.marker(b"job:end");
    }
    tape.end_process(0, 0);
    tape.finish()
}

#[test]
fn a_summary_is_written_and_read_back_and_is_a_baseline_like_its_tape() {
    let dir = TempDir::new("ci-summary");
    write(dir.path(), "svc.tape", support::service());
    let (status, _, stderr) = ran(dir.path(), "summarize svc.tape -o heap.json");
    assert_eq!((status, stderr.as_str()), (0, "wrote heap.json\n"));
    let json = std::fs::read_to_string(dir.path().join("heap.json")).unwrap();
    let (_, again, _) = ran(dir.path(), "summarize heap.json");
    assert_eq!(json, again, "reading and writing changes nothing");
    for baseline in ["heap.json", "svc.tape"] {
        let (status, text, stderr) = ran(dir.path(), &format!("check svc.tape --baseline {baseline}"));
        assert_eq!((status, stderr.as_str()), (0, ""), "{text}");
        assert!(text.contains("all 4 limit(s) hold"), "{text}");
    }
    let heap = heap_of(support::service());
    let value: Value = serde_json::from_str(&json).unwrap();
    let (_, peak) = heap.peak().unwrap();
    assert_eq!(value["totals"]["peak"]["size"], peak.size as u64);
    assert_eq!(value["totals"]["allocated"]["count"], heap.counters.allocations);
    assert_eq!(value["totals"]["end"]["size"], heap.live_level(&heap.end()).size as u64);
    assert_eq!(value["totals"]["rss"], (2 << 20) + 90 * 300);
    // An existing file stays.
    assert_eq!(ran(dir.path(), "summarize svc.tape -o heap.json").0, 1);
}

#[test]
fn several_runs_are_a_list_of_values_and_a_limit_breaks_only_outside_their_band() {
    let dir = TempDir::new("ci-runs");
    for (name, kept) in [
        ("1", 98),
        ("2", 100),
        ("3", 102),
        ("4", 101),
        ("5", 99),
        ("far", 130),
        ("near", 101),
    ] {
        write(dir.path(), &format!("{name}.tape"), spans(b"save", kept));
    }
    ran(dir.path(), "summarize 1.tape 2.tape 3.tape 4.tape 5.tape -o all.json");
    let json = std::fs::read_to_string(dir.path().join("all.json")).unwrap();
    assert!(json.contains("\"count\":[392,396,400,404,408]"), "{json}");
    assert_eq!(ran(dir.path(), "check near.tape --baseline all.json").0, 0);
    let (status, text, _) = ran(dir.path(), "check far.tape --baseline all.json");
    assert_eq!(status, 1);
    assert!(
        text.contains("measured 520 block(s), baseline 400 block(s) (+120 block(s)), noise up to"),
        "{text}"
    );
    // Alone, 101 is more than 100.
    assert_eq!(ran(dir.path(), "check near.tape --baseline 2.tape").0, 1);
}

#[test]
fn a_limit_on_objects_of_a_type_names_their_line() {
    let dir = TempDir::new("ci-types");
    write(dir.path(), "py.tape", spans(b"save", 3));
    write(
        dir.path(),
        "budget.toml",
        "[[span]]\nname = \"job\"\ntypes = { \"app.*\" = 2 }\n[[site]]\ntype = \"app.Session\"\nleaked_blocks = 12\n",
    );
    let (status, text, _) = ran(dir.path(), "check py.tape --budget budget.toml");
    assert_eq!(status, 1, "{text}");
    assert!(
        text.contains("BROKEN span job: objects of app.* left_blocks at most 2 block(s): measured 3 block(s)\n  /app/session.py:44 save [app.Session]: 3 block(s)\n      from main (/app/main.py:9)\n"),
        "{text}"
    );
    assert!(text.contains("holds  type app.Session: leaked_blocks"), "{text}");
}

#[test]
fn what_a_marker_takes_from_python_is_not_of_the_span_that_it_ends() {
    let dir = TempDir::new("ci-marking");
    let tape = |function: &[u8], file: &[u8]| {
        let mut tape = Recording::new(16);
        tape.process(7, heaptape_format::record::ProcessOrigin::Exec, b"/app/service")
            .thread(0, 7, b"main");
        tape.runtime(b"CPython 3.11", true, b"");
        tape.code(function, file)
            .code(b"main", b"/app/main.py")
            .object_type(b"str");
        let stack = tape.frames(&[support::line(1, 9), support::line(0, 82)]);
        tape.marker(b"job:begin")
            .object(0, 0x1000, 64, stack, 1)
            .marker(b"job:end");
        tape.end_process(0, 0);
        tape.finish()
    };
    write(
        dir.path(),
        "budget.toml",
        "[[span]]\nname = \"job\"\nleft = 0\nallocations = 0\n",
    );
    for (function, file, status) in [
        (&b"span.__exit__"[..], &b"/lib/heaptape.py"[..], 0),
        (b"_span", b"/lib/pytest_heaptape.py", 0),
        (b"span.__exit__", b"/lib/other.py", 1),
        (b"work", b"/lib/heaptape.py", 1),
    ] {
        write(dir.path(), "py.tape", tape(function, file));
        let (found, text, _) = ran(dir.path(), "check py.tape --budget budget.toml --no-index");
        assert_eq!(found, status, "{text}");
    }
}

#[test]
fn the_flame_graph_of_a_check_needs_summaries_only_and_markdown_links_to_it() {
    let dir = TempDir::new("ci-draw");
    for (name, kept) in [("old", 1), ("new", 2)] {
        write(dir.path(), &format!("{name}.tape"), spans(b"save", kept));
        ran(dir.path(), &format!("summarize {name}.tape -o {name}.json"));
    }
    let (status, text, stderr) = ran(
        dir.path(),
        "check new.json --baseline old.json --draw diff.svg --format markdown",
    );
    assert_eq!((status, stderr.as_str()), (1, "wrote diff.svg\n"), "{text}");
    assert!(text.contains("[differential flame graph](diff.svg)"), "{text}");
    let svg = std::fs::read_to_string(dir.path().join("diff.svg")).unwrap();
    quick_xml::Reader::from_str(&svg).read_event().expect("sound XML");
    // Half of what it has now it had before.
    assert!(svg.contains("save (512 bytes, 100.00%; +50.00%)"), "{svg}");
    // A picture that exists stays.
    assert_eq!(
        ran(dir.path(), "check new.json --baseline old.json --draw diff.svg").0,
        2
    );
}

#[test]
fn what_is_left_out_counts_nowhere_and_only_like_is_compared_with_like() {
    let dir = TempDir::new("ci-left-out");
    let tape = |noise: u64| {
        let mut tape = Recording::new(16);
        tape.process(7, heaptape_format::record::ProcessOrigin::Exec, b"/app/service")
            .thread(0, 7, b"main");
        tape.runtime(b"CPython 3.11", true, b"");
        tape.code(b"work", b"/app/work.py")
            .code(b"harness", b"/lib/harness.py")
            .object_type(b"str");
        let own = tape.frames(&[support::line(0, 82)]);
        let around = tape.frames(&[support::line(1, 9), support::line(0, 5)]);
        tape.marker(b"job:begin").object(0, 0x1000, 700, own, 1);
        for block in 0..noise {
            tape.object(0, 0x10000 + block * 0x1000, 1000, around, 1);
        }
        // Most is alive here, but for the harness a block ago.
        tape.object(0, 0x2000, 300, own, 1).free(0, 0x1000);
        tape.object(0, 0x3000, 200, own, 1).marker(b"job:end");
        tape.end_process(0, 0);
        tape.finish()
    };
    write(dir.path(), "calm.tape", tape(1));
    write(dir.path(), "noisy.tape", tape(9));
    write(
        dir.path(),
        "budget.toml",
        "[[span]]\nname = \"job\"\nleft = 500\npeak = 1000\nallocated = 1200\n",
    );
    let without = "--exclude func:harness";
    for (line, status) in [
        ("check noisy.tape --baseline calm.tape".to_owned(), 1),
        (format!("check noisy.tape --baseline calm.tape {without}"), 0),
        ("check noisy.tape --budget budget.toml".to_owned(), 1),
        (format!("check noisy.tape --budget budget.toml {without}"), 0),
    ] {
        let (found, text, stderr) = ran(dir.path(), &line);
        assert_eq!(found, status, "{line}: {text}{stderr}");
    }
    ran(dir.path(), &format!("summarize noisy.tape {without} -o left.json"));
    let json = std::fs::read_to_string(dir.path().join("left.json")).unwrap();
    let value: Value = serde_json::from_str(&json).unwrap();
    let totals = |field: &str| [&value["totals"][field]["size"], &value["totals"][field]["count"]].map(Value::as_u64);
    assert_eq!(totals("peak"), [Some(1000), Some(2)]);
    assert_eq!(totals("leaked"), [Some(500), Some(2)]);
    assert_eq!(totals("allocated"), [Some(1200), Some(3)]);
    assert!(!json.contains("harness.py") && json.contains("func:harness"), "{json}");
    assert_eq!(
        ran(dir.path(), &format!("check calm.tape --baseline left.json {without}")).0,
        0
    );
    let (status, _, stderr) = ran(dir.path(), "check calm.tape --baseline left.json");
    assert_eq!(status, 2);
    assert!(
        stderr.contains(
            "left.json: expected a summary made with no --exclude, found one made with --exclude func:harness"
        ),
        "{stderr}"
    );
}

#[test]
fn what_cannot_be_judged_is_no_pass_and_no_failure() {
    let dir = TempDir::new("ci-unjudged");
    let whole = support::service();
    write(dir.path(), "svc.tape", &whole);
    write(dir.path(), "half.tape", &whole[..whole.len() / 2]);
    let mut damaged = whole.clone();
    let middle = damaged.len() / 2;
    damaged[middle..middle + 16].iter_mut().for_each(|byte| *byte ^= 0x55);
    write(dir.path(), "damaged.tape", damaged);
    let mut lossy = Recording::new(16);
    lossy
        .process(7, heaptape_format::record::ProcessOrigin::Exec, b"/app/service")
        .thread(0, 7, b"main")
        .record(heaptape_format::record::Record::Loss(heaptape_format::record::Loss {
            thread: None,
            events: 12,
            cause: heaptape_format::record::LossCause::PoolFull,
        }))
        .end_process(0, 0);
    write(dir.path(), "lossy.tape", lossy.finish());
    write(dir.path(), "bad.toml", "[limits]\npeek = 3\n");
    write(dir.path(), "names.toml", "[[site]]\nfunction = \"leak*\"\nleaked = 0\n");
    write(dir.path(), "growth.toml", "[limits]\npeak = \"+5 %\"\n");
    write(dir.path(), "span.toml", "[[span]]\nname = \"request\"\nleft = 0\n");
    write(
        dir.path(),
        "no.json",
        "{\"version\": 9, \"kind\": \"heaptape summary\"}",
    );
    ran(dir.path(), "summarize svc.tape -o svc.json");
    let json = std::fs::read_to_string(dir.path().join("svc.json")).unwrap();
    write(
        dir.path(),
        "other.json",
        json.replace("\"program\": \"service\"", "\"program\": \"elsewhere\""),
    );
    for (line, reason) in [
        ("check svc.tape", "--baseline FILE, or --budget FILE"),
        ("check half.tape --baseline svc.tape", "is not whole"),
        ("check svc.tape --baseline half.tape", "is not whole"),
        ("check damaged.tape --baseline svc.tape", "is not whole"),
        ("check lossy.tape --baseline svc.tape", "12 event(s) in all"),
        (
            "check svc.tape --baseline other.json",
            "expected a baseline of service, found one of elsewhere",
        ),
        ("check svc.tape --baseline no.json", "expected version 1, found 9"),
        ("check svc.tape --baseline missing.json", "missing.json: No such file"),
        ("check svc.tape --budget bad.toml", "line 2"),
        ("check svc.tape --budget names.toml", "sites without names"),
        ("check svc.tape --budget growth.toml", "no baseline was given"),
        ("check svc.tape --budget span.toml", "no span of this name"),
    ] {
        let (status, text, stderr) = ran(dir.path(), line);
        assert_eq!(status, 2, "{line}: {text}{stderr}");
        assert!(
            text.contains(reason) || stderr.contains(reason),
            "{line}: {text}{stderr}"
        );
    }
    let (status, ..) = ran(dir.path(), "check svc.tape --baseline other.json --any-program");
    assert_eq!(status, 0);
}

/// A check that breaks limits, at a site with a name that tries to be markup.
fn broken(dir: &Path, form: &str) -> String {
    let name = b"<b>&|save\"\x1b[31m]]>";
    write(dir, "old.tape", spans(name, 1));
    write(dir, "new.tape", spans(name, 2));
    let (status, text, _) = ran(dir, &format!("check new.tape --baseline old.tape --format {form}"));
    assert_eq!(status, 1, "{text}");
    assert!(!text.contains('\x1b'), "{text}");
    text
}

#[test]
fn junit_is_sound_xml_with_a_case_for_each_limit() {
    let dir = TempDir::new("ci-junit");
    let text = broken(dir.path(), "junit");
    let mut reader = quick_xml::Reader::from_str(&text);
    let (mut cases, mut failures) = (0, 0);
    loop {
        match reader.read_event().expect("sound XML") {
            Event::Start(tag) | Event::Empty(tag) if tag.name().as_ref() == b"testcase" => cases += 1,
            Event::Start(tag) if tag.name().as_ref() == b"failure" => failures += 1,
            Event::Text(text) => drop(text.decode().expect("sound text")),
            Event::Eof => break,
            _ => {}
        }
    }
    assert_eq!((cases, failures), (4, 4), "{text}");
    assert!(
        text.contains("tests=\"4\"") && text.contains("/app/session.py:44"),
        "{text}"
    );
}

#[test]
fn sarif_has_what_version_2_1_0_requires() {
    let dir = TempDir::new("ci-sarif");
    let log: Value = serde_json::from_str(&broken(dir.path(), "sarif")).expect("JSON");
    assert_eq!(log["version"], "2.1.0");
    let run = &log["runs"][0];
    assert_eq!(run["tool"]["driver"]["name"], "heaptape");
    assert_eq!(run["invocations"][0]["executionSuccessful"], true);
    let rules: Vec<&Value> = run["tool"]["driver"]["rules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| &rule["id"])
        .collect();
    let results = run["results"].as_array().unwrap();
    assert_eq!(results.len(), 4);
    for result in results {
        assert!(rules.contains(&&result["ruleId"]), "{result}");
        assert!(result["message"]["text"].as_str().is_some_and(|text| !text.is_empty()));
        assert!(["none", "note", "warning", "error"].contains(&result["level"].as_str().unwrap()));
        let place = &result["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"]["uri"], "file:///app/session.py");
        assert_eq!(place["region"]["startLine"], 44);
        for frame in result["stacks"][0]["frames"].as_array().unwrap() {
            assert!(frame["location"]["message"]["text"].is_string());
        }
    }
}

#[test]
fn gitlab_and_markdown_and_json_carry_the_same_sites() {
    let dir = TempDir::new("ci-forms");
    let issues: Value = serde_json::from_str(&broken(dir.path(), "gitlab")).expect("JSON");
    let issues = issues.as_array().unwrap();
    let prints: std::collections::HashSet<&str> = issues
        .iter()
        .map(|issue| issue["fingerprint"].as_str().unwrap())
        .collect();
    assert_eq!((issues.len(), prints.len()), (4, 4));
    for issue in issues {
        assert_eq!(issue["location"]["path"], "/app/session.py");
        assert_eq!(issue["location"]["lines"]["begin"], 44);
        assert!(["info", "minor", "major", "critical", "blocker"].contains(&issue["severity"].as_str().unwrap()));
        assert!(issue["description"].is_string() && issue["check_name"].is_string());
    }
    let markdown = broken(dir.path(), "markdown --flamegraph https://ci.example/diff.svg");
    assert!(
        markdown.starts_with("### ❌ Heap: service: 4 of 4 limit(s) broken"),
        "{markdown}"
    );
    assert!(
        markdown.contains("[differential flame graph](https://ci.example/diff.svg)"),
        "{markdown}"
    );
    assert!(!markdown.contains("<b>"), "{markdown}");
    let json: Value = serde_json::from_str(&broken(dir.path(), "json")).expect("JSON");
    assert_eq!(
        (&json["version"], &json["kind"], &json["outcome"]),
        (&1.into(), &"check".into(), &"broken".into())
    );
    assert_eq!(json["limits"][0]["sites"][0]["more"], 256);
}

#[test]
fn a_file_beside_the_text_gets_the_other_form() {
    let dir = TempDir::new("ci-output");
    write(dir.path(), "svc.tape", support::service());
    let (status, text, stderr) = ran(
        dir.path(),
        "check svc.tape --baseline svc.tape --format sarif -o out.sarif",
    );
    assert_eq!((status, stderr.as_str()), (0, "wrote out.sarif\n"));
    assert!(
        text.ends_with("all 4 limit(s) hold (one run a side: no noise is allowed for)\n"),
        "{text}"
    );
    assert!(std::fs::read_to_string(dir.path().join("out.sarif"))
        .unwrap()
        .starts_with("{"));
    assert_eq!(
        ran(
            dir.path(),
            "check svc.tape --baseline svc.tape --format sarif -o out.sarif"
        )
        .0,
        2
    );
}
