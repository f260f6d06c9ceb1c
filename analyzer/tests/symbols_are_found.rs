//! Debug information is found wherever toolchains and distributions put it, and only that of the recorded build is used.

#[path = "support/native.rs"]
#[allow(dead_code)]
mod native;
mod support;

use heaptape::query::Group;
use heaptape::symbols::{Coverage, FoundBy, Options, State};
use native::{build, build_id, has, in_tree, offsets, rows, run, tape};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::TempDir;

/// A program with debug information, and what a device would have of it.
struct Program {
    dir: TempDir,
    binary: PathBuf,
    id: Vec<u8>,
    wanted: Range<u64>,
}

impl Program {
    fn new(name: &str, extra: &[&str]) -> Program {
        let dir = TempDir::new(name);
        let binary = build(dir.path(), "thing", extra);
        let (id, wanted) = (build_id_or_none(&binary), offsets(&binary));
        Program {
            dir,
            binary,
            id,
            wanted,
        }
    }

    fn folder(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::create_dir_all(&path).expect("a folder can be made");
        path
    }

    /// The debug information alone.
    fn keep_debug(&self, to: &Path) {
        fs::create_dir_all(to.parent().expect("it has one")).expect("a folder can be made");
        objcopy(&["--only-keep-debug"], &self.binary, to);
    }

    /// The program without any.
    fn strip(&self, to: &Path, extra: &[&str]) {
        fs::create_dir_all(to.parent().expect("it has one")).expect("a folder can be made");
        objcopy(&[&["--strip-all"], extra].concat(), &self.binary, to);
    }

    /// Whether the inlined call has its line, and what was found of the module recorded as `path`.
    fn ask(&self, path: &str, options: Options) -> (bool, Coverage) {
        let heap = tape(path.as_bytes(), &self.id, self.wanted.clone());
        let (lines, symbolizer) = rows(&heap, options, Group::Line);
        let call = format!("{}:3", self.dir.path().join("thing.c").display());
        (lines.contains(&call), symbolizer.coverage().remove(0))
    }

    fn expect_lines(&self, path: &str, options: Options) -> Coverage {
        let (has_lines, coverage) = self.ask(path, options);
        assert!(has_lines && coverage.state == State::Found, "{coverage:?}");
        coverage
    }
}

fn build_id_or_none(binary: &Path) -> Vec<u8> {
    let bytes = fs::read(binary).expect("it was built");
    let file = object::File::parse(&*bytes).expect("it is ELF");
    object::Object::build_id(&file)
        .expect("it can be read")
        .unwrap_or_default()
        .to_vec()
}

fn objcopy(args: &[&str], from: &Path, to: &Path) {
    run(Command::new("objcopy").args(args).arg(from).arg(to));
}

fn sysroot(path: &Path) -> Options {
    Options {
        sysroot: Some(path.to_owned()),
        ..Options::default()
    }
}

fn debug_dir(path: &Path) -> Options {
    Options {
        debug_dirs: vec![path.to_owned()],
        ..Options::default()
    }
}

#[test]
fn a_debug_link_is_followed_if_its_crc_holds() {
    for ids in ["-Wl,--build-id", "-Wl,--build-id=none"] {
        let program = Program::new("link", &["-g", ids]);
        let root = program.folder("root");
        let debug = program.folder("root/usr/bin").join("other-name.dbg");
        program.keep_debug(&debug);
        let link = format!("--add-gnu-debuglink={}", debug.display());
        program.strip(&root.join("usr/bin/thing"), &[&link]);
        let coverage = program.expect_lines("/usr/bin/thing", sysroot(&root));
        assert_eq!(coverage.debug_found_by, Some(FoundBy::DebugLink));
        // As Debian has it: the path again below usr/lib/debug.
        let system = program.folder("root/usr/lib/debug/usr/bin").join("other-name.dbg");
        fs::rename(&debug, &system).expect("it can be moved");
        program.expect_lines("/usr/bin/thing", sysroot(&root));
        // One byte more, and it is another file.
        let mut other = fs::read(&system).expect("it is there");
        other.push(0);
        fs::write(&system, other).expect("it can be written");
        let (has_lines, coverage) = program.ask("/usr/bin/thing", sysroot(&root));
        assert!(!has_lines && coverage.debug_file.is_none(), "{coverage:?}");
        let refused = coverage.refused[0].message();
        assert!(
            refused.contains("CRC") && refused.contains("other-name.dbg"),
            "{refused}"
        );
    }
}

#[test]
fn yocto_has_debug_files_beside_the_program() {
    let program = Program::new("yocto", &["-g"]);
    let root = program.folder("root");
    program.strip(&root.join("usr/bin/thing.real"), &[]);
    std::os::unix::fs::symlink("/usr/bin/thing.real", root.join("usr/bin/thing")).expect("a link can be made");
    let debug = root.join("usr/bin/.debug/thing.real");
    program.keep_debug(&debug);
    let coverage = program.expect_lines("/usr/bin/thing", sysroot(&root));
    assert_eq!(coverage.debug_found_by, Some(FoundBy::DebugFolder));
    assert_eq!(coverage.found_by, Some(FoundBy::Sysroot));
    // A package of debug files that was unpacked elsewhere, without the program.
    let unpacked = program.folder("unpacked");
    program.keep_debug(&unpacked.join("usr/bin/.debug/thing"));
    let coverage = program.expect_lines("/usr/bin/thing", debug_dir(&unpacked));
    assert_eq!(coverage.debug_found_by, Some(FoundBy::DebugFolder));
}

#[test]
fn trees_of_build_ids_may_lie_deep_in_a_debug_folder() {
    let program = Program::new("tree", &["-g"]);
    let packages = program.folder("packages");
    program.keep_debug(&in_tree(&packages.join("thing-dbg/usr/lib/debug"), &program.id));
    let coverage = program.expect_lines("/gone/thing", debug_dir(&packages));
    assert_eq!(coverage.debug_found_by, Some(FoundBy::BuildId));
    let root = program.folder("root");
    program.keep_debug(&in_tree(&root.join("usr/lib/debug"), &program.id));
    program.expect_lines("/gone/thing", sysroot(&root));
}

#[test]
fn a_debug_file_of_another_build_is_refused_by_name() {
    let program = Program::new("other", &["-g"]);
    let other = Program::new("other-build", &["-g", "-DOTHER", "-O2"]);
    assert_ne!(program.id, other.id);
    let debug = program.folder("debug");
    let file = in_tree(&debug, &program.id);
    other.keep_debug(&file);
    let (has_lines, coverage) = program.ask("/gone/thing", debug_dir(&debug));
    assert!(!has_lines && coverage.state == State::Mismatched, "{coverage:?}");
    let hex = |id: &[u8]| id.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let refused = &coverage.refused[0];
    assert!(refused.found.as_str().contains(&hex(&other.id)), "{refused:?}");
    assert!(refused.expected.as_str().contains(&hex(&program.id)), "{refused:?}");
    assert_eq!(refused.file.as_str(), file.to_string_lossy());
}

#[test]
fn compressed_debug_information_is_read() {
    for format in ["zlib", "zlib-gnu", "zstd"] {
        let program = Program::new("packed", &["-g"]);
        let packed = program.folder("root/app").join("thing");
        let compress = format!("--compress-debug-sections={format}");
        objcopy(&[&compress], &program.binary, &packed);
        let plain = fs::metadata(&program.binary).expect("it is there").len();
        assert!(fs::metadata(&packed).expect("it is there").len() < plain, "{format}");
        program.expect_lines("/app/thing", sysroot(&program.folder("root")));
    }
}

#[test]
fn what_dwz_moved_to_a_shared_file_is_found_there() {
    if !has("dwz") {
        return;
    }
    let program = Program::new("dwz", &["-g", "-include", "stdio.h"]);
    let debug = program.folder("debug");
    let (own, other) = (in_tree(&debug, &program.id), debug.join("other"));
    program.keep_debug(&own);
    // Another program with the same functions, so that there is something to share.
    fs::copy(&program.binary, &other).expect("it can be copied");
    let common = program.folder("debug/.dwz").join("common.debug");
    run(Command::new("dwz")
        .args([
            "-m".as_ref(),
            common.as_os_str(),
            "-M".as_ref(),
            "/usr/lib/debug/.dwz/common.debug".as_ref(),
        ])
        .args(["-L", "none"])
        .arg(&own)
        .arg(&other));
    assert!(common.exists(), "dwz found nothing to share");
    let coverage = program.expect_lines("/gone/thing", debug_dir(&debug));
    assert_eq!(coverage.supplements.len(), 1, "{coverage:?}");
    fs::remove_file(&common).expect("it can be removed");
    let (_, coverage) = program.ask("/gone/thing", debug_dir(&debug));
    let problem = coverage.problem.expect("it is missed");
    assert!(problem.as_str().contains("common.debug"), "{problem}");
}

#[test]
fn split_debug_information_is_found_file_by_file_or_as_a_package() {
    for version in ["-gdwarf-4", "-gdwarf-5"] {
        let program = Program::new("split", &["-g", "-gsplit-dwarf", version]);
        let find = |name: &str| {
            let files = fs::read_dir(program.dir.path()).expect("it is there");
            let mut paths = files.map(|entry| entry.expect("it can be read").path());
            paths.find(|path| path.extension().is_some_and(|extension| extension == name))
        };
        let split = find("dwo").expect("the compiler left it beside the program");
        program.expect_lines(&program.binary.to_string_lossy(), Options::default());
        // The path that the compiler noted is not there any more.
        let debug = program.folder("debug");
        let moved = debug.join(split.file_name().expect("it has a name"));
        fs::rename(&split, &moved).expect("it can be moved");
        let path = program.binary.to_string_lossy();
        let (_, coverage) = program.ask(&path, Options::default());
        let problem = coverage.problem.expect("it is missed");
        assert!(problem.as_str().contains("split debug information"), "{problem}");
        // Lines stay in the program, inlined functions do not.
        let heap = tape(path.as_bytes(), &program.id, program.wanted.clone());
        assert_eq!(rows(&heap, Options::default(), Group::Function).0, ["outer"]);
        assert_eq!(rows(&heap, debug_dir(&debug), Group::Function).0.len(), 2);
        program.expect_lines(&program.binary.to_string_lossy(), debug_dir(&debug));
        // Debian's dwp knows nothing of version 5.
        if version == "-gdwarf-5" || !has("dwp") {
            continue;
        }
        let package = program.dir.path().join("thing.dwp");
        run(Command::new("dwp").arg(&moved).arg("-o").arg(&package));
        let coverage = program.expect_lines(&program.binary.to_string_lossy(), Options::default());
        assert!(coverage.supplements[0].as_str().ends_with("thing.dwp"), "{coverage:?}");
    }
}

#[test]
fn a_stripped_program_may_carry_its_symbol_table_packed() {
    if !has("xz") {
        return;
    }
    let program = Program::new("mini", &["-g"]);
    let root = program.folder("root/app");
    let table = program.dir.path().join("table");
    objcopy(&["--strip-debug", "--remove-section=.comment"], &program.binary, &table);
    run(Command::new("xz").arg("--keep").arg(&table));
    let add = format!("--add-section=.gnu_debugdata={}.xz", table.display());
    program.strip(&root.join("thing"), &[&add]);
    let heap = tape(b"/app/thing", &program.id, program.wanted.clone());
    let (functions, symbolizer) = rows(&heap, sysroot(&program.folder("root")), Group::Function);
    assert_eq!(functions, ["outer"]);
    assert_eq!(symbolizer.coverage()[0].state, State::Found);
    program.strip(&root.join("thing"), &[]);
    let (_, coverage) = program.ask("/app/thing", sysroot(&program.folder("root")));
    assert_eq!(coverage.state, State::Stripped);
}

#[test]
fn programs_of_other_machines_are_named() {
    for (compiler, extra) in [
        ("arm-linux-gnueabihf-gcc", &["-marm"][..]),
        ("arm-linux-gnueabihf-gcc", &["-mthumb"]),
        ("aarch64-linux-gnu-gcc", &[]),
        ("riscv64-linux-gnu-gcc", &[]),
    ] {
        if !has(compiler) {
            continue;
        }
        let dir = TempDir::new("machine");
        let source = dir.path().join("thing.c");
        let binary = dir.path().join("thing.so");
        fs::write(&source, native::SOURCE).expect("a file can be written");
        run(Command::new(compiler)
            .args(["-O1", "-g", "-fno-builtin", "-shared", "-fPIC", "-Wl,--build-id"])
            .args(extra)
            .arg("-o")
            .args([&binary, &source]));
        let is_thumb = extra.contains(&"-mthumb");
        // A return address to Thumb code is odd, and so is the symbol's.
        let wanted = offsets(&binary)
            .step_by(2)
            .map(|offset| if is_thumb { offset | 1 } else { offset + 1 });
        let wanted: Vec<u64> = wanted.collect();
        let heap = native::tape_of(b"/lib/thing.so", &build_id(&binary), &wanted[1..]);
        let (lines, _) = rows(&heap, debug_dir(dir.path()), Group::Line);
        assert!(
            lines.contains(&format!("{}:3", source.display())),
            "{compiler} {extra:?}: {lines:?}"
        );
        let (functions, _) = rows(&heap, debug_dir(dir.path()), Group::Function);
        assert!(
            functions.iter().all(|name| name == "outer" || name == "inner"),
            "{functions:?}"
        );
    }
}

#[test]
fn a_link_in_the_sysroot_never_leads_out_of_it() {
    let program = Program::new("escape", &["-g"]);
    let root = program.folder("root/app");
    std::os::unix::fs::symlink(&program.binary, root.join("thing")).expect("a link can be made");
    std::os::unix::fs::symlink("../../thing", root.join("up")).expect("a link can be made");
    for path in ["/app/thing", "/app/up", "/app/../../thing"] {
        let (has_lines, coverage) = program.ask(path, sysroot(&program.folder("root")));
        assert!(!has_lines && coverage.state == State::Missing, "{coverage:?}");
    }
}

/// The problem that is told of a library with this debug information beside one function, which the symbol table names all the same.
fn problem_of(sections: &str) -> String {
    let dir = TempDir::new("hostile");
    let source = dir.path().join("hostile.s");
    let function = "\
.text
.globl outer
.type outer, @function
outer:
 .fill 64, 1, 0x90
.size outer, .-outer
";
    fs::write(&source, [function, sections].concat()).expect("a file can be written");
    let binary = dir.path().join("hostile.so");
    run(Command::new("cc")
        .args(["-shared", "-nostdlib", "-Wl,--build-id", "-o"])
        .args([&binary, &source]));
    let heap = tape(b"/lib/hostile.so", &build_id(&binary), offsets(&binary));
    let (functions, symbolizer) = rows(&heap, debug_dir(dir.path()), Group::Function);
    assert_eq!(functions, ["outer"], "the symbol table still names it");
    let problem = symbolizer.coverage()[0].problem.clone().expect("it is told");
    problem.to_string()
}

#[test]
fn debug_information_that_nests_without_end_is_given_up() {
    // A unit with one function in which two million inlined functions nest.
    let problem = problem_of(
        "\
.section .debug_abbrev
 .uleb128 1, 0x11
 .byte 1
 .uleb128 0x11, 1, 0x12, 7, 0, 0
 .uleb128 2, 0x2e
 .byte 1
 .uleb128 0x11, 1, 0x12, 7, 0, 0
 .uleb128 3, 0x1d
 .byte 1
 .uleb128 0, 0
 .uleb128 0
.section .debug_info
 .long 9f - 8f
8: .value 4
 .long 0
 .byte 8
 .uleb128 1
 .quad outer, 64
 .uleb128 2
 .quad outer, 64
 .rept 2000000
 .byte 3
 .endr
9:
",
    );
    assert!(problem.contains("nests or repeats"), "{problem}");
}

#[test]
fn a_folder_that_is_long_and_that_of_many_files_takes_no_memory_for_each() {
    // The parser joins the folder of a unit, of a megabyte here, with each of its sixty thousand files.
    let problem = problem_of(
        "\
.section .debug_abbrev
 .uleb128 1, 0x11
 .byte 0
 .uleb128 0x11, 1, 0x12, 7, 0x1b, 8, 0x10, 0x17, 0, 0
 .uleb128 0
.section .debug_info
 .long 9f - 8f
8: .value 4
 .long 0
 .byte 8
 .uleb128 1
 .quad outer, 64
 .fill 1000000, 1, 0x78
 .byte 0
 .long 0
9:
.section .debug_line
 .long 9f - 8f
8: .value 4
 .long 7f - 6f
6: .byte 1, 1, 1, 0xfb, 14, 10, 0, 1, 1, 1, 1, 0, 0, 0, 1, 0
 .rept 60000
 .asciz \"a\"
 .byte 0, 0, 0
 .endr
 .byte 0
7: .byte 0, 9, 2
 .quad outer
 .byte 1, 2, 64, 0, 1, 1
9:
",
    );
    assert!(problem.contains("nests or repeats"), "{problem}");
}

#[test]
fn entries_with_a_hundred_thousand_attributes_are_not_gone_through() {
    // A million entries of one byte, each with attributes of none.
    let problem = problem_of(
        "\
.section .debug_abbrev
 .uleb128 1, 0x11
 .byte 1
 .uleb128 0x11, 1, 0x12, 7, 0, 0
 .uleb128 2, 0x34
 .byte 0
 .rept 100000
 .byte 0x3f, 0x19
 .endr
 .uleb128 0, 0
 .uleb128 0
.section .debug_info
 .long 9f - 8f
8: .value 4
 .long 0
 .byte 8
 .uleb128 1
 .quad outer, 64
 .rept 1000000
 .byte 2
 .endr
9:
",
    );
    assert!(problem.contains("damaged"), "{problem}");
}
