//! Names that a tape holds itself: frozen ones answer every question as the files did, and code that a program made has the program's names.

#[path = "support/native.rs"]
#[allow(dead_code)]
mod native;
mod support;

use heaptape::query::Group;
use heaptape::symbols::{Options, Symbolizer};
use heaptape_format::names::NamedCode;
use heaptape_format::record::{Frame, ProcessOrigin};
use heaptape_format::{Address, ModuleIx, Naming, ProcessIx};
use native::{build, build_id, offsets, rows};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use support::{heap_of, Recording, TempDir};

fn heaptape(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_heaptape"))
        .args(args)
        .current_dir(dir)
        .env("XDG_CACHE_HOME", dir.join("cache"))
        .output()
        .expect("it runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A recording of a program that is at `path` on the device, and of a library of which nothing is here.
fn recording(path: &Path, id: &[u8], wanted: std::ops::Range<u64>) -> Vec<u8> {
    let path = path.as_os_str().as_encoded_bytes();
    let mut tape = Recording::new(16);
    tape.process(1, ProcessOrigin::Exec, path)
        .thread(0, 1, b"")
        .module(path, id)
        .module(b"/lib/libgone.so", b"\x0a\x0b");
    for offset in wanted {
        let inner = Frame::Native {
            module: ModuleIx(0),
            offset,
        };
        let outer = Frame::Native {
            module: ModuleIx((offset % 2) as u32),
            offset: 77,
        };
        let stack = tape.frames(&[outer, inner]);
        tape.alloc(0, 0x1000 * offset, 10 + offset % 7, stack).wait(1000);
    }
    tape.finish()
}

/// Every question whose answer names something.
const QUESTIONS: &[&str] = &[
    "snapshot TAPE --rows 0",
    "snapshot TAPE --rows 0 --json",
    "snapshot TAPE --by file",
    "snapshot TAPE --by traceback --rows 0",
    "snapshot TAPE --by function,library",
    "snapshot TAPE --raw-frames --json",
    "snapshot TAPE --include func:inner --all-frames",
    "diff TAPE@10% @90% --rows 0 --json",
    "leaks TAPE --rows 0 --by traceback --json",
    "tree TAPE --least 0",
    "tree TAPE --least 0 --json",
    "timeline TAPE --points 20 --include func:outer --json",
    "flamegraph TAPE -o -",
    "export TAPE --format folded",
    "export TAPE --format json",
    "export TAPE --format csv --by line",
    "summarize TAPE",
];

#[test]
fn a_frozen_tape_answers_everything_alike_where_the_binaries_are_not() {
    let dir = TempDir::new("frozen");
    let here = dir.path().join("here");
    let there = dir.path().join("there");
    std::fs::create_dir_all(&here).expect("a folder can be made");
    std::fs::create_dir_all(&there).expect("a folder can be made");
    let binary = build(dir.path(), "thing", &["-g"]);
    let bytes = recording(&binary, &build_id(&binary), offsets(&binary));
    std::fs::write(here.join("svc.tape"), &bytes).expect("a file can be written");
    let ask = |dir: &Path| -> Vec<String> {
        let answers = QUESTIONS.iter().map(|question| {
            let question = question.replace("TAPE", "svc.tape");
            let output = heaptape(dir, &question.split(' ').collect::<Vec<_>>());
            assert!(output.status.success(), "{question}: {}", text(&output.stderr));
            assert_eq!(text(&output.stderr), "", "{question}");
            text(&output.stdout)
        });
        answers.collect()
    };
    let expected = ask(&here);
    assert!(expected[0].contains("thing.c:3"), "{}", expected[0]);

    let output = heaptape(&here, &["symbolize", "svc.tape", "-o", "../there/svc.tape"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(
        text(&output.stderr).contains("missing /lib/libgone.so"),
        "{}",
        text(&output.stderr)
    );
    let again = heaptape(&here, &["symbolize", "svc.tape", "-o", "../there/svc.tape"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stderr).contains("--force"), "{}", text(&again.stderr));

    std::fs::remove_file(&binary).expect("it can be removed");
    let bare = heaptape(&here, &["snapshot", "svc.tape"]);
    assert!(
        !text(&bare.stdout).contains("thing.c"),
        "without the binary nothing is named"
    );
    for (question, (expected, found)) in QUESTIONS.iter().zip(expected.iter().zip(ask(&there))) {
        assert_eq!(*expected, found, "{question}");
    }
    assert!(heaptape(&there, &["verify", "svc.tape"]).status.success());
    // A binary of another build at the same place changes nothing.
    build(dir.path(), "thing", &["-g", "-O2", "-DOTHER"]);
    assert_eq!(ask(&there), expected);
    let check = heaptape(&there, &["symbols", "check", "svc.tape"]);
    assert_eq!(check.status.code(), Some(1), "one library was missing and still is");
    assert!(
        text(&check.stdout).contains("names were frozen"),
        "{}",
        text(&check.stdout)
    );
}

#[test]
fn names_can_be_put_into_a_tape_that_was_not_ended() {
    let dir = TempDir::new("unended");
    let binary = build(dir.path(), "thing", &["-g"]);
    let bytes = recording(&binary, &build_id(&binary), offsets(&binary));
    let scan = heaptape_format::scan(bytes.as_slice()).expect("it is a tape");
    let last = scan.blocks[scan.blocks.len() - 2];
    // Into the end block, and into the block of events before it.
    for length in [last.offset + last.length + 50, last.offset + 20, last.offset] {
        let cut = &bytes[..length as usize];
        std::fs::write(dir.path().join("cut.tape"), cut).expect("a file can be written");
        let args = ["symbolize", "cut.tape", "-o", "named.tape", "--force"];
        let output = heaptape(dir.path(), &args);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let named = std::fs::read(dir.path().join("named.tape")).expect("it was written");
        let (before, after) = (heap_of(cut.to_vec()), heap_of(named));
        assert_eq!(before.counters, after.counters);
        assert!(!after.ended_cleanly() && after.damage.is_empty(), "{:?}", after.damage);
        let lines = rows(&after, Options::default(), Group::Line).0;
        assert_eq!(rows(&before, Options::default(), Group::Line).0, lines);
        assert!(after.catalog.names.are_frozen());
    }
}

#[test]
fn what_is_missing_has_an_exit_status_and_a_name() {
    let dir = TempDir::new("check");
    let binary = build(dir.path(), "thing", &["-g"]);
    let (id, wanted) = (build_id(&binary), offsets(&binary));
    let write = |name: &str, id: &[u8]| {
        let path = binary.as_os_str().as_encoded_bytes();
        let mut tape = Recording::new(64);
        tape.process(1, ProcessOrigin::Exec, path)
            .thread(0, 1, b"")
            .module(path, id)
            .module(b"/lib/libunused.so", b"\x0a\x0b");
        for offset in wanted.clone() {
            let stack = tape.stack(0, &[offset]);
            tape.alloc(0, 0x1000 * offset, 10, stack);
        }
        std::fs::write(dir.path().join(name), tape.finish()).expect("a file can be written");
    };
    write("good.tape", &id);
    write("other.tape", b"\x01\x02\x03");
    let json = |name: &str| -> (Option<i32>, serde_json::Value) {
        let output = heaptape(dir.path(), &["symbols", "check", name, "--json"]);
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
        (output.status.code(), report)
    };
    let (status, report) = json("good.tape");
    assert_eq!(status, Some(0), "{report}");
    let modules = &report["modules"];
    assert_eq!(modules[0]["state"], "found");
    assert_eq!(modules[0]["found_by"], "path");
    assert_eq!(
        modules[1]["state"], "missing",
        "no frame lies in it, so that nothing is missing for the tape"
    );
    let all = report["frames"]["all"].as_u64();
    assert!(
        all.is_some_and(|all| all > 0) && report["frames"]["with_line"].as_u64() == all,
        "{report}"
    );
    assert_eq!(report["bytes"]["all"], report["bytes"]["with_function"]);
    assert_eq!(modules[0]["bytes"]["all"].as_u64(), all.map(|all| all * 10));

    let (status, report) = json("other.tape");
    assert_eq!(status, Some(1), "{report}");
    let module = &report["modules"][0];
    assert_eq!(module["state"], "mismatched");
    let refused = &module["refused"][0];
    let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(refused["expected"], "build-id 010203");
    assert_eq!(refused["found"], format!("build-id is {hex}"));
    assert_eq!(report["bytes"]["with_function"], 0);

    for bad in [
        &["symbols", "check"][..],
        &["symbols", "check", "good.tape", "--no-symbols"],
        &["symbols", "check", "good.tape", "--sysroot", "/none"],
    ] {
        assert_eq!(heaptape(dir.path(), bad).status.code(), Some(2), "{bad:?}");
    }
}

#[test]
fn code_that_a_program_made_has_the_name_that_the_program_gave_it() {
    let mut tape = Recording::new(64);
    for pid in [1, 2] {
        tape.process(pid, ProcessOrigin::Exec, b"/usr/bin/node")
            .thread(pid - 1, pid, b"");
    }
    let code = |process: u32, start: u64, length: u64, name: &str| {
        Naming::Code(NamedCode {
            process: ProcessIx(process),
            start: Address(start),
            length,
            name: name.into(),
        })
    };
    let namings = [
        code(0, 0x1000, 0x100, "first"),
        code(0, 0x1100, 0x100, "second"),
        code(0, 0x1080, 0x10, "first, made anew"),
        code(1, 0x1000, 0x1000, "another program's"),
        Naming::Cut {
            process: ProcessIx(0),
            bytes: 99,
        },
    ];
    let expected = [
        (0, 0x1000, None),
        (0, 0x1001, Some("first")),
        // A return address belongs to the call before it.
        (0, 0x1100, Some("first")),
        (0, 0x1101, Some("second")),
        (0, 0x1085, Some("first, made anew")),
        (0, 0x1200, Some("second")),
        (0, 0x1201, None),
        (1, 0x1085, Some("another program's")),
        (1, 0x3000, None),
    ];
    for (number, (process, address, _)) in expected.iter().enumerate() {
        let frame = Frame::Raw {
            process: ProcessIx(*process),
            address: Address(*address),
        };
        let stack = tape.frames(&[frame]);
        tape.alloc(*process, 0x10_0000 + number as u64 * 64, 1 << number, stack);
    }
    namings.iter().for_each(|naming| tape.name(naming));
    let heap = heap_of(tape.finish());
    for (address, name) in expected.map(|(process, address, name)| ((process, address), name)) {
        let stacks = &heap.catalog.stacks;
        let frame = (1..stacks.frame_count() as u32).map(heaptape::tape::FrameIx).find(|&frame| {
            matches!(stacks.kind(frame), heaptape::tape::PlaceKind::Raw { process, address: at } if (process.get(), at.get()) == address)
        });
        let frame = frame.expect("it is in the tape");
        assert_eq!(
            heap.catalog.names.code(frame).map(|name| name.as_str()),
            name,
            "{address:x?}"
        );
    }
    let functions = rows(&heap, Options::default(), Group::Function).0;
    assert!(functions.contains(&"first, made anew".to_owned()), "{functions:?}");
    assert_eq!(heap.catalog.names.cut.get(&ProcessIx(0)), Some(&99));
    let check = heaptape::symbols::check(&heap, &Symbolizer::new(Options::default()));
    assert_eq!((check.outside.all, check.outside.with_function), (9, 6));
}

#[test]
fn names_looked_up_once_are_kept_beside_the_index() {
    let dir = TempDir::new("kept");
    let folder = dir.path().join("indexes");
    std::fs::create_dir_all(&folder).expect("a folder can be made");
    // Large enough to be worth a cache.
    std::fs::write(dir.path().join("pad"), vec![b'x'; 3 << 20]).expect("a file can be written");
    let plain = build(dir.path(), "plain", &["-g"]);
    let binary = dir.path().join("thing");
    native::run(
        Command::new("objcopy")
            .arg(format!("--add-section=.pad={}", dir.path().join("pad").display()))
            .args([&plain, &binary]),
    );
    let bytes = recording(&binary, &build_id(&binary), offsets(&binary));
    std::fs::write(dir.path().join("svc.tape"), &bytes).expect("a file can be written");
    let ask = |extra: &[&str]| {
        let args = [&["snapshot", "svc.tape", "--rows", "0", "--json"], extra].concat();
        text(&heaptape(dir.path(), &args).stdout)
    };
    let kept = || -> Vec<PathBuf> {
        let hex: String = build_id(&binary).iter().map(|byte| format!("{byte:02x}")).collect();
        let file = folder
            .join("names")
            .join(&hex[..2])
            .join(format!("{}.names", &hex[2..]));
        file.exists().then_some(file).into_iter().collect()
    };
    let expected = ask(&["--no-index"]);
    assert!(expected.contains("thing.c") && kept().is_empty());
    let with = ["--index-dir", "indexes"];
    assert_eq!(ask(&with), expected);
    let file = kept().pop().expect("names are kept");
    assert_eq!(ask(&with), expected);
    // Whatever is in the file: a damaged one is made again.
    let good = std::fs::read(&file).expect("it is there");
    for at in [0, 9, good.len() / 2, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 0x40;
        std::fs::write(&file, bad).expect("it can be written");
        assert_eq!(ask(&with), expected);
        assert_eq!(std::fs::read(&file).expect("it is there").len(), good.len());
    }
}
