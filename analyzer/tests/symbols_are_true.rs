//! Names come from the recorded build of a module or not at all.

#[path = "support/native.rs"]
#[allow(dead_code)]
mod native;
mod support;

use heaptape::query::Group;
use heaptape::symbols::{Options, Resolver};
use heaptape::tape::PlaceKind;
use native::{build, build_id, offsets, rows, run, tape};
use std::process::Command;
use support::TempDir;

#[test]
fn lines_and_inlined_functions_are_found() {
    let dir = TempDir::new("lines");
    let binary = build(dir.path(), "thing", &["-g"]);
    let heap = tape(
        binary.as_os_str().as_encoded_bytes(),
        &build_id(&binary),
        offsets(&binary),
    );
    let source = dir.path().join("thing.c");
    let (lines, symbolizer) = rows(&heap, Options::default(), Group::Line);
    let call = format!("{}:3", source.display());
    assert!(lines.contains(&call), "{lines:?}");
    let (functions, _) = rows(&heap, Options::default(), Group::Function);
    assert!(
        functions.contains(&"inner".to_owned()) && functions.contains(&"outer".to_owned()),
        "{functions:?}"
    );
    // The frame of the call is two frames of the source: the inlined function and, around it, its caller.
    let frames: Vec<_> = (0..heap.catalog.stacks.frame_count() as u32)
        .map(heaptape::tape::FrameIx)
        .filter(|&frame| matches!(heap.catalog.stacks.kind(frame), PlaceKind::Native { .. }))
        .collect();
    let inlined = symbolizer
        .resolve(&heap, &frames)
        .into_iter()
        .find(|places| places.len() == 2)
        .expect("one is inlined");
    let names: Vec<_> = inlined
        .iter()
        .map(|place| {
            (
                place.function.as_ref().map(|f| f.to_string()),
                place.line,
                place.inlined,
            )
        })
        .collect();
    assert_eq!(
        names,
        [
            (Some("inner".to_owned()), 3, true),
            (Some("outer".to_owned()), 6, false)
        ]
    );
    let coverage = &symbolizer.coverage()[0];
    assert!(
        coverage.problem.is_none() && coverage.frames == coverage.with_line,
        "{coverage:?}"
    );
}

#[test]
fn another_build_is_refused_by_name() {
    let dir = TempDir::new("refused");
    let binary = build(dir.path(), "thing", &["-g"]);
    let heap = tape(binary.as_os_str().as_encoded_bytes(), b"\x01\x02\x03", offsets(&binary));
    let (lines, symbolizer) = rows(&heap, Options::default(), Group::Line);
    assert!(
        lines
            .iter()
            .all(|line| line.contains("thing+0x") && line.ends_with("(??)")),
        "{lines:?}"
    );
    let problem = symbolizer.coverage()[0].problem.clone().expect("it is refused");
    assert!(
        problem.as_str().contains("expected was build-id 010203; refused"),
        "{problem}"
    );
    let known = build_id(&binary);
    let shown: String = known.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(problem.as_str().contains(&shown), "{problem}");
}

#[test]
fn without_debug_information_the_symbol_table_names_functions() {
    let dir = TempDir::new("symtab");
    let binary = build(dir.path(), "thing", &[]);
    let heap = tape(
        binary.as_os_str().as_encoded_bytes(),
        &build_id(&binary),
        offsets(&binary),
    );
    let (lines, symbolizer) = rows(&heap, Options::default(), Group::Line);
    assert_eq!(lines, [format!("{} (outer)", binary.display())]);
    let problem = symbolizer.coverage()[0].problem.clone().expect("lines are unknown");
    assert!(problem.as_str().contains("no debug information"), "{problem}");
}

#[test]
fn separate_debug_files_and_sysroots_are_searched() {
    let dir = TempDir::new("separate");
    let binary = build(dir.path(), "thing", &["-g", "-gz=zlib"]);
    let id = build_id(&binary);
    let wanted = offsets(&binary);
    let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    let debug_dir = dir.path().join("debug");
    let tree = debug_dir.join(".build-id").join(&hex[..2]);
    std::fs::create_dir_all(&tree).expect("a folder can be made");
    let debug_file = tree.join(format!("{}.debug", &hex[2..]));
    run(Command::new("objcopy")
        .arg("--only-keep-debug")
        .arg(&binary)
        .arg(&debug_file));
    let sysroot = dir.path().join("root");
    std::fs::create_dir_all(sysroot.join("app")).expect("a folder can be made");
    run(Command::new("objcopy")
        .arg("--strip-all")
        .arg(&binary)
        .arg(sysroot.join("app/thing")));
    let heap = tape(b"/app/thing", &id, wanted);
    let call = format!("{}:3", dir.path().join("thing.c").display());
    let both = Options {
        sysroot: Some(sysroot.clone()),
        debug_dirs: vec![debug_dir.clone()],
        ..Options::default()
    };
    let debug_only = Options {
        sysroot: None,
        debug_dirs: vec![debug_dir],
        ..Options::default()
    };
    for options in [both, debug_only] {
        let (lines, _) = rows(&heap, options.clone(), Group::Line);
        assert!(lines.contains(&call), "{options:?}: {lines:?}");
    }
    let (lines, _) = rows(
        &heap,
        Options {
            sysroot: Some(sysroot),
            debug_dirs: Vec::new(),
            ..Options::default()
        },
        Group::Line,
    );
    assert!(
        lines.iter().all(|line| line.starts_with("/app/thing+0x")),
        "stripped: {lines:?}"
    );
}

#[test]
fn a_module_path_that_is_no_file_is_not_opened() {
    let dir = TempDir::new("fifo");
    let fifo = dir.path().join("pipe");
    run(Command::new("mkfifo").arg(&fifo));
    for path in [
        fifo.as_os_str().as_encoded_bytes(),
        b"/dev/zero",
        b"/dev/stdin",
        b"/",
        b"",
    ] {
        let heap = tape(path, b"", 1..3);
        let (lines, _) = rows(&heap, Options::default(), Group::Line);
        assert!(lines.iter().all(|line| line.ends_with("(??)")), "{lines:?}");
    }
}

#[test]
fn a_module_of_garbage_is_no_symbols_and_no_panic() {
    let dir = TempDir::new("garbage");
    let binary = build(dir.path(), "thing", &["-g"]);
    let good = std::fs::read(&binary).expect("it was built");
    let wanted = offsets(&binary);
    let mut seed = 1u64;
    for _ in 0..40 {
        let mut bad = good.clone();
        for _ in 0..50 {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let at = (seed >> 20) as usize % bad.len();
            bad[at] = (seed >> 8) as u8;
        }
        let path = dir.path().join("bad");
        std::fs::write(&path, &bad).expect("a file can be written");
        let heap = tape(path.as_os_str().as_encoded_bytes(), b"", wanted.clone());
        let (lines, _) = rows(&heap, Options::default(), Group::Line);
        assert!(!lines.is_empty());
    }
}
