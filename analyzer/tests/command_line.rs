//! The command line as a user meets it: what is printed for a small tape, exit statuses, files that are not overwritten.

mod support;

use heaptape_format::{scan, BlockKind};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use support::TempDir;

fn heaptape(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_heaptape"))
        .args(args)
        .current_dir(dir)
        .env("COLUMNS", "80")
        .output()
        .expect("heaptape runs")
}

fn service(dir: &Path) {
    std::fs::write(dir.join("svc.tape"), support::service()).expect("a file can be written");
    std::fs::write(dir.join("known"), "# Known.\nleak:/app/serv\nleak:^libgone$\n").expect("a file can be written");
}

/// A tape of Python, and the source of one of its files.
fn python_service(dir: &Path) {
    std::fs::write(dir.join("py.tape"), support::python_service()).expect("a file can be written");
    let folder = dir.join("sources/app");
    std::fs::create_dir_all(&folder).expect("a folder can be made");
    let lines: String = (1..=50).map(|line| format!("\t statement({line})\n")).collect();
    std::fs::write(folder.join("session.py"), lines).expect("a file can be written");
}

/// Runs a command that must succeed quietly; its stdout.
fn stdout(dir: &Path, line: &str) -> String {
    let output = heaptape(dir, &line.split(' ').collect::<Vec<_>>());
    let messages = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {messages}");
    assert!(messages.is_empty(), "{line}: {messages}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn failure(dir: &Path, line: &str) -> (Option<i32>, String) {
    let output = heaptape(dir, &line.split(' ').collect::<Vec<_>>());
    assert!(!output.status.success(), "{line} should fail");
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

/// Each command with what it prints, kept in a file beside this test. `HEAPTAPE_BLESS=1` rewrites the files.
#[test]
fn every_command_prints_what_is_kept() {
    let dir = TempDir::new("kept");
    service(dir.path());
    python_service(dir.path());
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kept");
    for (name, line) in [
        ("info", "info svc.tape"),
        ("info-json", "info svc.tape --json --no-symbols"),
        ("verify", "verify svc.tape"),
        ("verify-json", "verify svc.tape --json"),
        ("timeline", "timeline svc.tape"),
        ("timeline-json", "timeline svc.tape --json --points 4"),
        ("timeline-svg", "timeline svc.tape --svg - --points 20"),
        ("snapshot-peak", "snapshot svc.tape@peak"),
        ("snapshot-api", "snapshot svc.tape@peak --by api --bytes"),
        ("snapshot-size", "snapshot svc.tape@50% --by size -n 2"),
        ("snapshot-thread", "snapshot svc.tape@6.0909s --by thread"),
        ("snapshot-json", "snapshot svc.tape@marker:busy#2 --by traceback --json"),
        ("snapshot-inherited", "snapshot svc.tape@#358 --by process --inherited"),
        ("diff", "diff svc.tape@marker:ready @marker:busy"),
        ("diff-json", "diff svc.tape@25% svc.tape@end --json"),
        ("leaks", "leaks svc.tape --by traceback"),
        (
            "leaks-born",
            "leaks svc.tape --born 2s..3s --alive-at @-1s --most-recent-first --by traceback",
        ),
        (
            "leaks-filter",
            "leaks svc.tape --max-size 4000 --thread worker --process 100 --api malloc",
        ),
        ("tree", "tree svc.tape"),
        ("tree-json", "tree svc.tape@peak --json --depth 2"),
        ("flamegraph", "flamegraph svc.tape@peak -o -"),
        (
            "flamegraph-between",
            "flamegraph svc.tape --between 2s..3s --blocks -o -",
        ),
        ("flamegraph-diff", "flamegraph --diff svc.tape@2s svc.tape@5s -o -"),
        ("export-folded", "export svc.tape@peak --format folded"),
        ("python-info", "info py.tape"),
        ("python-info-json", "info py.tape --json"),
        ("python-line", "diff py.tape@marker:ready py.tape@marker:busy"),
        ("python-type", "diff py.tape@marker:ready py.tape@marker:busy --by type"),
        ("python-type-line", "snapshot py.tape --by type,line"),
        ("python-type-line-json", "snapshot py.tape --by type,line -n 3 --json"),
        ("python-domain", "snapshot py.tape --by domain"),
        ("python-library", "snapshot py.tape --by library"),
        ("python-leaks", "leaks py.tape --by type,domain --type session.*"),
        ("python-traceback", "snapshot py.tape --by traceback -n 2"),
        (
            "python-view",
            "snapshot py.tape --by traceback --python -n 2 --source-root sources",
        ),
        ("python-native", "snapshot py.tape --native -n 3"),
        ("python-tree", "tree py.tape --python"),
        ("python-folded", "export py.tape --format folded --python"),
        ("python-csv", "export py.tape --format csv --by domain,function"),
        ("python-arenas", "arenas py.tape"),
        (
            "python-arenas-json",
            "arenas py.tape@marker:busy --below 50 -n 2 --json",
        ),
        ("export-csv", "export svc.tape@peak --format csv --by function"),
        ("peak", "peak svc.tape"),
        ("peak-json", "peak svc.tape --exclude size:64KiB.. --json"),
        ("temporary", "temporary svc.tape --within 1ms"),
        ("temporary-json", "temporary svc.tape --json"),
        ("lifetimes", "lifetimes svc.tape"),
        ("lifetimes-json", "lifetimes svc.tape --by thread --json"),
        ("sizes", "sizes svc.tape"),
        ("sizes-json", "sizes svc.tape@peak --json"),
        ("growth", "growth svc.tape --limit 64MiB --all"),
        ("growth-json", "growth svc.tape --points 16 --by process --json"),
        ("epochs", "epochs svc.tape --marker busy --after 0"),
        ("epochs-json", "epochs svc.tape --marker ready --after 0 --json"),
        ("threads", "threads svc.tape@50%"),
        ("threads-json", "threads svc.tape -n 2 --json"),
        ("processes", "processes svc.tape@#358"),
        ("processes-json", "processes svc.tape --json"),
        ("realloc", "realloc svc.tape"),
        ("realloc-json", "realloc svc.tape --json"),
        ("fragmentation", "fragmentation svc.tape@50% -n 3"),
        ("fragmentation-json", "fragmentation svc.tape@50% -n 2 --json"),
        ("rss", "rss svc.tape"),
        ("rss-json", "rss svc.tape@2s --json"),
        ("suppressed", "leaks svc.tape --suppressions known"),
        ("suppressed-json", "leaks svc.tape --suppressions known --json"),
        (
            "lifetime-filter",
            "temporary svc.tape --min-lifetime #3 --max-lifetime 1ms --within 1s --by api",
        ),
        (
            "rules",
            "snapshot svc.tape@50% --include thread:worker --include size:..250 --exclude born:..2s --exclude lifetime:..1ms",
        ),
    ] {
        let found = stdout(dir.path(), line);
        let path = kept.join(format!("{name}.out"));
        if std::env::var_os("HEAPTAPE_BLESS").is_some() {
            std::fs::create_dir_all(&kept).expect("a folder can be made");
            std::fs::write(&path, &found).expect("a file can be written");
        }
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            found == expected,
            "`heaptape {line}` no longer prints what {} keeps:\n{found}",
            path.display()
        );
    }
}

#[test]
fn the_output_is_the_same_for_any_number_of_threads() {
    let dir = TempDir::new("threads");
    service(dir.path());
    python_service(dir.path());
    for line in [
        "snapshot svc.tape@peak --by traceback --json",
        "diff py.tape@25% @75% --by type,line --json",
        "arenas py.tape --json",
    ] {
        assert_same_output(dir.path(), line);
    }
}

fn assert_same_output(dir: &Path, line: &str) {
    let run = |threads: &str| {
        Command::new(env!("CARGO_BIN_EXE_heaptape"))
            .args(line.split(' '))
            .current_dir(dir)
            .env("RAYON_NUM_THREADS", threads)
            .output()
            .expect("heaptape runs")
            .stdout
    };
    let one = run("1");
    assert!(one.starts_with(b"{"));
    for threads in ["2", "3", "8", "16"] {
        assert_eq!(run(threads), one, "{line}: {threads} threads");
    }
}

#[test]
fn wrong_usage_is_one_clear_error_and_status_2() {
    let dir = TempDir::new("usage");
    service(dir.path());
    for (line, says) in [
        ("snapshot svc.tape@pek", "@marker:NAME"),
        ("snapshot svc.tape@90s", "the recording spans 11.00 s"),
        ("snapshot svc.tape@#99999", "there is no event #99999"),
        ("snapshot svc.tape@marker:gone", "markers: busy, ready"),
        ("snapshot svc.tape@marker:busy#3", "there is no #3"),
        ("snapshot svc.tape@2020-01-01T00:00:00Z", "outside the recording"),
        ("snapshot svc.tape --by type", "--by function"),
        ("leaks svc.tape --type dict", "no types of objects are recorded"),
        (
            "snapshot svc.tape --by line,file,api,size",
            "one to 3 different properties",
        ),
        ("snapshot svc.tape --by line,line", "--by line,line: expected"),
        ("snapshot svc.tape --type [", "--type"),
        ("snapshot svc.tape --python --native", "cannot be used with"),
        ("snapshot svc.tape --domain heap", "possible values"),
        ("arenas svc.tape --below 101", "0 to 100"),
        ("snapshot svc.tape --by colour", "possible values"),
        ("snapshot svc.tape --include lib:[", "lib:GLOB"),
        ("snapshot svc.tape --api mallok", "posix_memalign"),
        ("diff svc.tape svc.tape", "name two instants"),
        ("leaks svc.tape --born 5s..2s", "ends before it begins"),
        ("leaks svc.tape --born 5s", "A..B"),
        ("tree svc.tape --least 101", "0 to 100"),
        ("flamegraph", "required"),
        ("temporary svc.tape --within 5", "#100"),
        ("snapshot svc.tape --min-lifetime 5M", "64KiB"),
        ("snapshot svc.tape --born 5s", "A..B"),
        ("snapshot svc.tape --exclude born:5s..2s", "ends before it begins"),
        ("snapshot svc.tape --include lifetime:#1..1s", "both ends"),
        ("epochs svc.tape --marker gone", "markers: busy, ready"),
        ("growth svc.tape --points 2", "16..=1000"),
        ("leaks svc.tape --suppressions svc.tape", "expected leak:PATTERN"),
        ("frobnicate", "unrecognized"),
    ] {
        let (status, message) = failure(dir.path(), line);
        assert_eq!(status, Some(2), "{line}: {message}");
        assert!(message.contains(says), "{line}: {message}");
        assert!(!message.contains("panicked"), "{line}: {message}");
    }
}

#[test]
fn what_cannot_be_opened_is_status_1_and_says_why() {
    let dir = TempDir::new("open");
    std::fs::write(dir.path().join("text"), "hello").expect("a file can be written");
    for (line, says) in [
        ("info missing.tape", "cannot open missing.tape"),
        ("info .", "not a regular file"),
        ("info /dev/null", "not a regular file"),
        ("info text", "it is no tape"),
    ] {
        let (status, message) = failure(dir.path(), line);
        assert_eq!(status, Some(1), "{line}: {message}");
        assert!(message.contains(says), "{line}: {message}");
    }
}

#[test]
fn a_damaged_tape_gives_its_result_with_a_loud_note_and_fails_when_strict() {
    let dir = TempDir::new("damaged");
    let mut bytes = support::service();
    let found = scan(&bytes).expect("it is a tape");
    let block = found
        .blocks
        .iter()
        .filter(|block| block.kind == BlockKind::Events)
        .nth(3)
        .expect("it has so many");
    bytes[block.payload_offset() as usize + 5] ^= 0xff;
    std::fs::write(dir.path().join("bad.tape"), bytes).expect("a file can be written");
    let output = heaptape(dir.path(), &["leaks", "bad.tape"]);
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && message.contains("warning: bad.tape: damaged in 1 place(s)"),
        "{message}"
    );
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("may have been freed where events are missing"), "{text}");
    let (status, message) = failure(dir.path(), "leaks bad.tape --strict");
    assert!(status == Some(1) && message.contains("--strict"), "{message}");
    let output = heaptape(dir.path(), &["verify", "bad.tape"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.code() == Some(1) && text.contains("damage at byte") && text.contains("lost"),
        "{text}"
    );
}

#[test]
fn numbers_of_types_and_code_without_a_record_make_a_tape_unsound() {
    let dir = TempDir::new("dangling");
    let mut tape = support::Recording::new(64);
    tape.process(1, heaptape_format::record::ProcessOrigin::Exec, b"python3")
        .thread(0, 1, b"");
    let stack = tape.frames(&[support::line(3, 1)]);
    tape.object(0, 0x1000, 10, stack, 9);
    std::fs::write(dir.path().join("py.tape"), tape.finish()).expect("a file can be written");
    let output = heaptape(dir.path(), &["verify", "py.tape"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("1 event(s) that name types") && text.contains("1 frame(s) of code"),
        "{text}"
    );
}

#[test]
fn an_unfinished_tape_is_read_to_its_end_and_verify_says_that_it_is_unfinished() {
    let dir = TempDir::new("unfinished");
    let bytes = support::service();
    std::fs::write(dir.path().join("cut.tape"), &bytes[..bytes.len() - 50]).expect("a file can be written");
    let output = heaptape(dir.path(), &["snapshot", "cut.tape"]);
    assert!(output.status.success() && String::from_utf8_lossy(&output.stderr).contains("not ended properly"));
    let output = heaptape(dir.path(), &["verify", "cut.tape"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("not ended properly; everything up to there is sound"));
}

#[test]
fn an_existing_file_is_overwritten_only_with_force() {
    let dir = TempDir::new("force");
    service(dir.path());
    let mine = dir.path().join("mine.svg");
    std::fs::write(&mine, "mine").expect("a file can be written");
    for line in [
        "timeline svc.tape --svg mine.svg",
        "flamegraph svc.tape -o mine.svg",
        "export svc.tape --format csv -o mine.svg",
    ] {
        let (status, message) = failure(dir.path(), line);
        assert!(status == Some(1) && message.contains("--force"), "{line}: {message}");
        assert_eq!(std::fs::read_to_string(&mine).expect("it is there"), "mine");
    }
    let output = heaptape(dir.path(), &["timeline", "svc.tape", "--svg", "mine.svg", "--force"]);
    assert!(output.status.success());
    assert!(std::fs::read_to_string(&mine).expect("it is there").starts_with("<svg"));
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let dir = TempDir::new("pipe");
    service(dir.path());
    let mut child = Command::new(env!("CARGO_BIN_EXE_heaptape"))
        .args(["timeline", "svc.tape", "--json", "--points", "100000"])
        .current_dir(dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("heaptape runs");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn a_full_disk_is_a_failure() {
    let dir = TempDir::new("full");
    service(dir.path());
    let full = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .expect("Linux has it");
    let output = Command::new(env!("CARGO_BIN_EXE_heaptape"))
        .args(["info", "svc.tape"])
        .current_dir(dir.path())
        .stdout(full)
        .output()
        .expect("heaptape runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot write to stdout"));
}

#[test]
fn completions_and_man_pages_come_from_the_same_table() {
    let dir = TempDir::new("man");
    for shell in ["bash", "zsh", "fish"] {
        assert!(
            stdout(dir.path(), &format!("completions {shell}")).contains("flamegraph"),
            "{shell}"
        );
    }
    assert_eq!(stdout(dir.path(), "man ."), "");
    let page = std::fs::read_to_string(dir.path().join("heaptape-diff.1")).expect("a page was written");
    assert!(page.contains("OLD") && page.contains("heaptape"), "{page}");
}

#[test]
fn an_index_is_kept_where_it_is_asked_for_and_made_again_when_it_is_damaged() {
    let dir = TempDir::new("index");
    service(dir.path());
    let folder = dir.path().join("indexes");
    std::fs::create_dir(&folder).expect("a folder can be made");
    let asked = |line: &str| {
        let replayed = stdout(dir.path(), &format!("{line} --no-index"));
        assert_eq!(
            stdout(dir.path(), &format!("{line} --index-dir indexes")),
            replayed,
            "{line}"
        );
        // With its table on disk.
        assert_eq!(stdout(dir.path(), &format!("{line} --no-index --memory 1")), replayed);
    };
    let files = || -> Vec<_> {
        let entries = std::fs::read_dir(&folder).expect("the folder is there");
        entries.map(|entry| entry.expect("an entry").path()).collect()
    };
    asked("snapshot svc.tape@50%");
    let [index] = &files()[..] else {
        panic!("one index: {:?}", files())
    };
    let good = std::fs::read(index).expect("it can be read");
    let columns_end = u64::from_le_bytes(std::array::from_fn(|i| good[8 + i])) as usize;
    for line in [
        "snapshot svc.tape@peak",
        "leaks svc.tape",
        "diff svc.tape@20% @80%",
        "info svc.tape",
        "tree svc.tape",
        "timeline svc.tape",
    ] {
        asked(line);
        for damaged in [64..columns_end, columns_end..good.len(), 8..40] {
            let mut bad = good.clone();
            bad[damaged].iter_mut().for_each(|byte| *byte ^= 0xff);
            // Not over what another process may have mapped.
            std::fs::remove_file(index).expect("it can be removed");
            std::fs::write(index, bad).expect("it can be written");
            if line.starts_with("snapshot") {
                asked(line);
            } else {
                stdout(dir.path(), &format!("{line} --index-dir indexes --no-symbols"));
            }
        }
    }
    assert_eq!(files(), std::slice::from_ref(index));
}

#[test]
fn a_small_tape_gets_no_index_unless_it_is_asked_for() {
    let dir = TempDir::new("no-index");
    service(dir.path());
    stdout(dir.path(), "snapshot svc.tape");
    assert!(!dir.path().join("svc.tape.idx").exists());
    let (status, message) = failure(dir.path(), "snapshot svc.tape --index-dir missing");
    assert_eq!(status, Some(1));
    assert!(
        message.contains("cannot write the index missing/svc.tape-"),
        "{message}"
    );
}

#[test]
fn follow_shows_what_has_changed_and_ends_with_the_tape() {
    let dir = TempDir::new("follow");
    let bytes = support::service();
    let blocks = scan(&bytes[..]).expect("it is a tape").blocks;
    let half = blocks[blocks.len() / 2].offset as usize;
    std::fs::write(dir.path().join("svc.tape"), &bytes[..half]).expect("a file can be written");
    let before = String::from_utf8(heaptape(dir.path(), &["snapshot", "svc.tape"]).stdout).expect("UTF-8");
    let mut follow = Command::new(env!("CARGO_BIN_EXE_heaptape"))
        .args(["follow", "svc.tape", "--interval", "0.1", "-n", "3"])
        .current_dir(dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("heaptape runs");
    let mut lines = BufReader::new(follow.stdout.take().expect("it was asked for")).lines();
    let mut next_total = || {
        let mut total = lines
            .by_ref()
            .map_while(Result::ok)
            .filter(|line| line.starts_with("total: "));
        total.next()
    };
    // `size=1 KiB (+0 B), count=2 (+0), average=...`, without the differences.
    let plain = |line: String| {
        let parts = line
            .split(" (")
            .map(|part| part.split_once(')').map_or(part, |(_, rest)| rest));
        parts.collect::<String>()
    };
    let total = |text: &str| text.lines().find(|line| line.starts_with("total: ")).map(str::to_owned);
    assert_eq!(next_total().map(plain), total(&before));
    let mut file = std::fs::OpenOptions::new()
        .append(true)
        .open(dir.path().join("svc.tape"))
        .expect("it is there");
    file.write_all(&bytes[half..]).expect("a file can be written");
    let last = std::iter::from_fn(next_total).last();
    assert!(follow.wait().expect("it ends").success());
    let after = stdout(dir.path(), "snapshot svc.tape");
    assert_ne!(total(&before), total(&after));
    assert_eq!(last.map(plain), total(&after));
}
