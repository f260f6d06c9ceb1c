//! Recording real programs with the real binary: what the program shows to the world, and what reaches the tape.

#[allow(dead_code)]
#[path = "../src/testing/tape.rs"]
mod tape;

use heaptape_format::record::{LossCause, ProcessEnd, ProcessOrigin};
use heaptape_format::scan::Ending;
use heaptape_format::{Op, Record};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tape::Tape;

const RECORDER: &str = env!("CARGO_BIN_EXE_heaptape-record");

/// A folder of its own for each test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("heaptape-record-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The preload library, built on first use. It is no dependency of the tests: it is without the standard library, and a test build has it unwind.
fn library() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let folder = Path::new(RECORDER).parent().unwrap();
        let mut build = Command::new(env!("CARGO"));
        build
            .args(["build", "--quiet", "-p", "heaptape-preload", "--target-dir"])
            .arg(folder.parent().unwrap());
        if folder.ends_with("release") {
            build.arg("--release");
        }
        assert!(build
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status()
            .unwrap()
            .success());
        folder.join("libheaptape_preload.so")
    })
}

fn recorder(folder: &Folder) -> Command {
    let mut command = Command::new(RECORDER);
    command
        .env("HEAPTAPE_PRELOAD", library())
        .current_dir(&folder.0)
        .stdin(Stdio::null());
    command
}

fn record(folder: &Folder, arguments: &[&str]) -> Output {
    recorder(folder)
        .args(["-o", "a.tape"])
        .args(arguments)
        .output()
        .unwrap()
}

fn read(folder: &Folder) -> Tape {
    Tape::read(&std::fs::read(folder.path("a.tape")).unwrap())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A program that allocates so many blocks and says so, then waits for its standard input to end.
const ALLOCATE_AND_WAIT: &str = "import sys, ctypes\n\
    libc = ctypes.CDLL(None)\n\
    libc.malloc.restype = ctypes.c_void_p\n\
    for i in range(1000): libc.malloc(7000001 + i)\n\
    print('ready', flush=True)\n\
    sys.stdin.read()\n";

fn seen_blocks(tape: &Tape) -> usize {
    let marked = |op: &Op| matches!(op, Op::Alloc { size, .. } if (7000001..7001001).contains(&size.0));
    tape.events.iter().filter(|event| marked(&event.op)).count()
}

fn start_waiting(folder: &Folder, options: &[&str], program: &[&str]) -> Child {
    let mut child = recorder(folder)
        .args(["-o", "a.tape"])
        .args(options)
        .args(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "ready\n");
    child
}

/// The program that the launcher `parent` has started.
fn child_of(parent: u32) -> u32 {
    let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap();
    children.split_ascii_whitespace().next().unwrap().parse().unwrap()
}

fn collector_of(target: u32) -> u32 {
    let environment = std::fs::read(format!("/proc/{target}/environ")).unwrap();
    let entry = environment
        .split(|byte| *byte == 0)
        .find_map(|entry| entry.strip_prefix(b"HEAPTAPE_SEGMENT=/proc/"));
    text(entry.unwrap()).split('/').next().unwrap().parse().unwrap()
}

fn kill(pid: u32, signal: &str) {
    assert!(Command::new("kill")
        .args([signal, &pid.to_string()])
        .status()
        .unwrap()
        .success());
}

/// Waits for something that must come true.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_program_is_recorded_and_its_output_is_its_own() {
    let folder = Folder::new("plain");
    let bare = Command::new("ls").arg("/").output().unwrap();
    let recorded = record(&folder, &["ls", "/"]);
    assert_eq!(text(&recorded.stdout), text(&bare.stdout));
    assert_eq!(recorded.status.code(), Some(0));
    let said = text(&recorded.stderr);
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(
        said.contains(" 0 lost") && said.contains("next: heaptape timeline a.tape"),
        "{said}"
    );
    let tape = read(&folder);
    assert!(tape.events.len() > 50);
    assert_eq!(tape.processes().len(), 1);
    assert!(tape.processes()[0].exe.ends_with(b"/ls"));
    assert_eq!(tape.processes()[0].command, [b"ls".to_vec(), b"/".to_vec()]);
    assert_eq!(tape.ends(), [(0, ProcessEnd::Exit(0))]);
    let Ending::Clean(end) = tape.ending else {
        panic!("{:?}", tape.ending)
    };
    assert_eq!((end.lost, end.status), (0, Some(ProcessEnd::Exit(0))));
}

#[test]
fn the_exit_status_is_the_program_s() {
    let folder = Folder::new("status");
    for status in [0, 3, 255] {
        let output = record(&folder, &["--force", "sh", "-c", &format!("exit {status}")]);
        assert_eq!(output.status.code(), Some(status));
    }
    for signal in [9, 15, 11, 14] {
        let output = record(&folder, &["--force", "-q", "sh", "-c", &format!("kill -{signal} $$")]);
        assert_eq!(output.status.signal(), Some(signal), "{}", text(&output.stderr));
        assert_eq!(text(&output.stderr), "");
        assert_eq!(read(&folder).ends(), [(0, ProcessEnd::Signal(signal))]);
    }
}

#[test]
fn a_whole_pipeline_goes_into_one_tape() {
    let folder = Folder::new("pipeline");
    let output = record(&folder, &["sh", "-c", "ls / | sort -r | cat; ls -l / >/dev/null"]);
    assert!(output.status.success());
    let tape = read(&folder);
    let names: Vec<String> = tape.processes().iter().map(|process| text(&process.exe)).collect();
    for name in ["sh", "ls", "sort"] {
        assert!(
            names
                .iter()
                .any(|exe| exe.ends_with(&format!("/{name}")) || exe.ends_with("/dash")),
            "{name}: {names:?}"
        );
    }
    assert!(tape
        .processes()
        .iter()
        .any(|process| matches!(process.origin, ProcessOrigin::Fork(_))));
    assert!(tape
        .processes()
        .iter()
        .any(|process| matches!(process.origin, ProcessOrigin::Replace(_))));
    assert_eq!(tape.ends().len(), tape.processes().len());
    assert_eq!(tape.lost(LossCause::Late), 0);
}

#[test]
fn a_killed_program_loses_nothing_that_it_did() {
    let folder = Folder::new("killed");
    let mut child = start_waiting(&folder, &[], &["python3", "-c", ALLOCATE_AND_WAIT]);
    kill(child_of(child.id()), "-KILL");
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    let tape = read(&folder);
    assert_eq!(seen_blocks(&tape), 1000);
    assert!(matches!(tape.ending, Ending::Clean(_)));
}

#[test]
fn a_killed_collector_leaves_a_readable_tape_and_a_living_program() {
    let folder = Folder::new("collector");
    let mut child = start_waiting(&folder, &["--flush", "0.01"], &["python3", "-c", ALLOCATE_AND_WAIT]);
    let target = child_of(child.id());
    until("everything is flushed", || seen_blocks(&read(&folder)) == 1000);
    kill(collector_of(target), "-KILL");
    drop(child.stdin.take());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(said.contains("the collector ended before"), "{said}");
    let tape = read(&folder);
    assert_eq!(seen_blocks(&tape), 1000);
    assert!(matches!(tape.ending, Ending::Unclean { .. }));
}

#[test]
fn signals_reach_the_program_once() {
    let folder = Folder::new("signals");
    let script = "import signal, sys\n\
        count = 0\n\
        def handler(*a):\n    global count\n    count += 1\n    print('got', flush=True)\n\
        signal.signal(signal.SIGUSR1, handler)\n\
        signal.signal(signal.SIGTERM, lambda *a: sys.exit(40 + count))\n\
        print('ready', flush=True)\n\
        while True: signal.pause()\n";
    let mut child = start_waiting(&folder, &["-q"], &["python3", "-c", script]);
    let mut output = BufReader::new(child.stdout.take().unwrap());
    for _ in 0..2 {
        kill(child.id(), "-USR1");
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert_eq!(line, "got\n");
    }
    kill(child.id(), "-TERM");
    assert_eq!(child.wait().unwrap().code(), Some(42));
}

#[test]
fn nothing_is_overwritten_and_nothing_started_when_the_tape_cannot_be_written() {
    let folder = Folder::new("refusal");
    std::fs::write(folder.path("a.tape"), b"precious").unwrap();
    let output = record(&folder, &["touch", "started"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output.stderr).contains("exists already"),
        "{}",
        text(&output.stderr)
    );
    assert_eq!(std::fs::read(folder.path("a.tape")).unwrap(), b"precious");
    for (name, words) in [
        ("missing/a.tape", "no folder"),
        (".", "is a folder"),
        ("/dev/full", "exists already"),
    ] {
        let output = recorder(&folder)
            .args(["-o", name, "touch", "started"])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains(words), "{}", text(&output.stderr));
        assert_eq!(text(&output.stderr).lines().count(), 1);
    }
    let output = recorder(&folder)
        .args(["--force", "-o", "/dev/full", "touch", "started"])
        .output()
        .unwrap();
    assert!(
        text(&output.stderr).contains("No space left"),
        "{}",
        text(&output.stderr)
    );
    assert!(Path::new("/dev/full").exists());
    assert!(!folder.path("started").exists());
}

#[test]
fn a_full_disk_ends_the_recording_and_not_the_program() {
    let folder = Folder::new("full");
    let script = "import sys\nprint('ready', flush=True)\nsys.stdin.read()\n\
        x = [bytes([i % 256]) * (i % 5000) for i in range(100000)]\nprint(len(x))\n";
    let mut child = start_waiting(&folder, &[], &["python3", "-c", script]);
    let collector = collector_of(child_of(child.id()));
    // The collector may write no file beyond this size: as a full disk, but for the number of the error.
    let most = std::fs::metadata(folder.path("a.tape")).unwrap().len() + 20_000;
    let limit = Command::new("prlimit")
        .args([&format!("--fsize={most}"), "--pid", &collector.to_string()])
        .status()
        .unwrap();
    assert!(limit.success());
    drop(child.stdin.take());
    let output = child.wait_with_output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert_eq!(text(&output.stdout), "100000\n");
    assert!(
        said.contains("recording ended after") && said.contains("File too large"),
        "{said}"
    );
    assert!(std::fs::metadata(folder.path("a.tape")).unwrap().len() <= most);
    let tape = read(&folder);
    assert!(
        matches!(tape.ending, Ending::Unclean { partial: 0, .. }),
        "{:?}",
        tape.ending
    );
}

#[test]
fn what_cannot_be_started_or_recorded_is_said_in_one_line() {
    let folder = Folder::new("programs");
    std::fs::write(folder.path("text"), b"no program").unwrap();
    std::fs::write(folder.path("s.c"), b"int main(void) { return 7; }").unwrap();
    let built = Command::new("cc")
        .args(["-static", "-o", "static", "s.c"])
        .current_dir(&folder.0)
        .status()
        .unwrap();
    assert!(built.success());
    for (program, status, words) in [
        ("./no-such", 127, "not found"),
        ("no-such", 127, "not found in the folders of PATH"),
        ("./text", 126, "permission denied"),
        (".", 126, "is a folder"),
        ("./static", 2, "statically linked"),
    ] {
        let output = record(&folder, &[program]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{said}");
        assert!(said.contains(words) && said.lines().count() == 1, "{said}");
        assert!(!folder.path("a.tape").exists(), "no tape is left behind");
    }
    let output = record(&folder, &["--anyway", "./static"]);
    assert_eq!(output.status.code(), Some(7));
    assert!(text(&output.stderr).contains("never seen"), "{}", text(&output.stderr));
}

#[test]
fn a_script_without_interpreter_line_is_the_shell_s() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new("script");
    std::fs::write(folder.path("s"), b"echo hello $1\n").unwrap();
    std::fs::set_permissions(folder.path("s"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let output = record(&folder, &["-q", "./s", "you"]);
    assert_eq!(text(&output.stdout), "hello you\n");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn closed_standard_streams_stay_closed_and_no_descriptor_is_added() {
    let folder = Folder::new("fds");
    let script = "import os\nlisting = sorted(os.listdir('/proc/self/fd'), key=int)\n\
        names = [n for n in listing if os.path.exists('/proc/self/fd/' + n)]\n\
        open('fds', 'w').write(' '.join(names))\n";
    for redirect in ["", "<&- >&- 2>&-", ">&-", "2>&-"] {
        let run = |arguments: &[&str]| {
            let status = Command::new("sh")
                .args(["-c", &format!("exec \"$@\" {redirect}"), "sh"])
                .args(arguments)
                .args(["python3", "-c", script])
                .env("HEAPTAPE_PRELOAD", library())
                .current_dir(&folder.0)
                .stdin(Stdio::null())
                .status()
                .unwrap();
            assert_eq!(status.code(), Some(0));
            std::fs::read_to_string(folder.path("fds")).unwrap()
        };
        let bare = run(&[]);
        assert_eq!(run(&[RECORDER, "-q", "--force", "-o", "a.tape"]), bare, "{redirect}");
        assert!(!read(&folder).events.is_empty());
    }
}

#[test]
fn the_signal_dispositions_are_the_ones_given() {
    let folder = Folder::new("dispositions");
    let script = "grep -E 'Sig(Blk|Ign)' /proc/self/status";
    for ignored in ["", "trap '' PIPE HUP; "] {
        let run = |program: &str| {
            Command::new("sh")
                .args(["-c", &format!("{ignored}exec {program}")])
                .env("HEAPTAPE_PRELOAD", library())
                .current_dir(&folder.0)
                .output()
                .unwrap()
        };
        let bare = run(script);
        let recorded = run(&format!("{RECORDER} -q --force -o a.tape {script}"));
        assert_eq!(text(&recorded.stdout), text(&bare.stdout));
    }
}

#[test]
fn a_daemon_is_recorded_on_after_the_launcher_has_returned() {
    let folder = Folder::new("daemon");
    let script = "python3 -c \"$0\" <fifo >/dev/null 2>&1 & echo $!";
    assert!(Command::new("mkfifo")
        .arg(folder.path("fifo"))
        .status()
        .unwrap()
        .success());
    let waiting = std::thread::spawn({
        let fifo = folder.path("fifo");
        move || std::fs::OpenOptions::new().write(true).open(fifo).unwrap()
    });
    let output = record(&folder, &["sh", "-c", script, ALLOCATE_AND_WAIT]);
    assert_eq!(output.status.code(), Some(0));
    let said = text(&output.stderr);
    assert!(said.contains("still running"), "{said}");
    let mut fifo = waiting.join().unwrap();
    fifo.write_all(b"go on\n").unwrap();
    drop(fifo);
    until("the tape is complete", || {
        matches!(read(&folder).ending, Ending::Clean(_))
    });
    assert_eq!(seen_blocks(&read(&folder)), 1000);
}

#[test]
fn with_exec_the_recorder_becomes_the_program() {
    let folder = Folder::new("exec");
    let output = record(&folder, &["--exec", "sh", "-c", "echo $$; ls / >/dev/null; exit 6"]);
    assert_eq!(output.status.code(), Some(6));
    until("the tape is complete", || {
        matches!(read(&folder).ending, Ending::Clean(_))
    });
    let tape = read(&folder);
    assert_eq!(tape.processes()[0].pid.to_string(), text(&output.stdout).trim());
}

#[test]
fn without_a_launcher_the_library_starts_the_collector_beside_it() {
    let folder = Folder::new("preload");
    std::fs::copy(RECORDER, folder.path("heaptape-record")).unwrap();
    std::fs::copy(library(), folder.path("library.so")).unwrap();
    let run = |output: &str| {
        Command::new("sh")
            .args(["-c", "echo $$; ls / >/dev/null; exit 6"])
            .env("LD_PRELOAD", folder.path("library.so"))
            .env("HEAPTAPE_OUTPUT", output)
            .current_dir(&folder.0)
            .output()
            .unwrap()
    };
    let output = run("a.tape");
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(6), String::new()));
    until("the tape is complete", || {
        matches!(read(&folder).ending, Ending::Clean(_))
    });
    let tape = read(&folder);
    let processes = tape.processes();
    assert_eq!(processes[0].pid.to_string(), text(&output.stdout).trim());
    assert_eq!(processes.len(), 2, "what the program starts is in the same recording");
    // Nothing is overwritten, and the program does not care.
    for (path, message) in [
        ("a.tape", "exists already"),
        ("-", "expected a file"),
        ("none/a.tape", "no folder"),
    ] {
        let output = run(path);
        assert_eq!(output.status.code(), Some(6));
        assert!(text(&output.stderr).contains(message), "{}", text(&output.stderr));
    }
    std::fs::remove_file(folder.path("heaptape-record")).unwrap();
    let output = run("b.tape");
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(6), String::new()));
    assert!(!folder.path("b.tape").exists());
}

#[test]
fn marks_and_pauses_come_from_outside() {
    use heaptape_collector::control::{send_command, Command as Ask, ControlError};
    let folder = Folder::new("control");
    let mut child = start_waiting(&folder, &[], &["python3", "-c", ALLOCATE_AND_WAIT]);
    let target = child_of(child.id());
    assert_eq!(send_command(target, &Ask::Mark(b"here".to_vec())).unwrap(), "marked");
    assert_eq!(send_command(target, &Ask::Stop).unwrap(), "paused");
    assert_eq!(send_command(target, &Ask::Start).unwrap(), "recording");
    assert!(send_command(target, &Ask::Status).unwrap().starts_with("recording; "));
    assert!(matches!(
        send_command(std::process::id(), &Ask::Status),
        Err(ControlError::NotRecorded(_))
    ));
    drop(child.stdin.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let tape = read(&folder);
    let marked = |record: &Record| matches!(record, Record::Marker(marker) if marker.name == b"here");
    assert!(tape.records.iter().any(|placed| marked(&placed.record)));
    let pauses = |record: &Record| matches!(record, Record::Loss(loss) if loss.cause == LossCause::Paused);
    assert!(tape.records.iter().any(|placed| pauses(&placed.record)));
}

#[test]
fn a_terminated_collector_ends_its_tape_properly() {
    let folder = Folder::new("terminated");
    let mut child = start_waiting(&folder, &[], &["python3", "-c", ALLOCATE_AND_WAIT]);
    kill(collector_of(child_of(child.id())), "-TERM");
    until("the tape is complete", || {
        matches!(read(&folder).ending, Ending::Clean(_))
    });
    drop(child.stdin.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let tape = read(&folder);
    assert_eq!(seen_blocks(&tape), 1000);
    // Where python3 is a wrapper of some kind, there were others before.
    let running = tape
        .ends()
        .iter()
        .filter(|(_, end)| *end == ProcessEnd::Running)
        .count();
    assert_eq!(running, 1);
}

#[test]
fn the_program_keeps_its_name_its_group_and_its_folder() {
    let folder = Folder::new("identity");
    let mut command = recorder(&folder);
    command
        .args(["-q", "-o", "a.tape", "sh", "-c", "umask; ps -o pgid= -p $$; pwd"])
        .process_group(0);
    let child = command.stdout(Stdio::piped()).spawn().unwrap();
    let group = child.id();
    let output = child.wait_with_output().unwrap();
    let said = text(&output.stdout);
    let lines: Vec<&str> = said.lines().map(str::trim).collect();
    assert_eq!(lines[1], group.to_string());
    assert_eq!(Path::new(lines[2]), folder.0.canonicalize().unwrap());
}

#[test]
fn a_panic_inside_the_program_ends_the_recording_and_not_the_program() {
    for kind in ["cold", "here"] {
        let folder = Folder::new(&format!("panic-{kind}"));
        let target = Path::new(RECORDER).parent().unwrap().parent().unwrap();
        // A library that panics on purpose, built aside.
        let target = target.join(format!("panic-{kind}"));
        let status = Command::new(env!("CARGO"))
            .args([
                "build",
                "--quiet",
                "--release",
                "-p",
                "heaptape-preload",
                "--target-dir",
            ])
            .arg(&target)
            .env("RUSTFLAGS", format!("--cfg heaptape_panic=\"{kind}\""))
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status()
            .unwrap();
        assert!(status.success());
        let program =
            "import os\nx = [os.urandom(5000 + i) for i in range(200)]\nprint(len(x), os.getpid() > 0)\nos._exit(7)";
        let output = recorder(&folder)
            .env("HEAPTAPE_PRELOAD", target.join("release/libheaptape_preload.so"))
            .args(["-o", "a.tape", "python3", "-S", "-c", program])
            .output()
            .unwrap();
        assert_eq!(text(&output.stdout), "200 True\n", "{kind}");
        assert_eq!(output.status.code(), Some(7), "{kind}");
        let said = text(&output.stderr);
        assert!(said.contains("went on unrecorded"), "{kind}: {said}");
        assert!(matches!(
            heaptape_format::scan::scan(&std::fs::read(folder.path("a.tape")).unwrap())
                .unwrap()
                .ending,
            Ending::Clean(_)
        ));
    }
}

#[test]
fn standard_output_takes_the_tape_and_standard_error_what_the_program_says() {
    let folder = Folder::new("stdout");
    for exec in [&[][..], &["--exec"]] {
        let output = recorder(&folder)
            .args(["-q", "-o", "-"])
            .args(exec)
            .args(["--", "sh", "-c", "echo said; echo complained >&2; exit 7"])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(7));
        assert_eq!(String::from_utf8_lossy(&output.stderr), "said\ncomplained\n");
        let tape = Tape::read(&output.stdout);
        assert!(matches!(tape.ending, Ending::Clean(_)) && !tape.events.is_empty());
    }
}

#[test]
fn a_reader_of_the_tape_that_goes_away_ends_the_recording_and_not_the_program() {
    let folder = Folder::new("pipe");
    let mut child = recorder(&folder)
        .args(["-o", "-", "--flush", "0.01"])
        .args(["--", "sh", "-c", "read line; ls / >/dev/null; exit 5"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut start = [0; 8];
    child.stdout.take().unwrap().read_exact(&mut start).unwrap();
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(5));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("Broken pipe") && !said.contains("next:"), "{said}");
}

#[test]
fn a_terminal_is_no_place_for_a_tape() {
    let folder = Folder::new("terminal");
    let command = format!("{RECORDER} -o - -- true");
    let output = Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .env("HEAPTAPE_PRELOAD", library())
        .current_dir(&folder.0)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("standard output is a terminal"), "{said}");
    assert_eq!(output.status.code(), Some(2));
}

/// A program of a million blocks with sizes that nobody can guess, of which it keeps five hundred.
const CHURN: &str = "srand 7; our @kept; for my $i (1 .. 400000) { $kept[rand 500] = 'x' x (600 + rand 9000) }";

/// Sizes of the blocks of at least 600 bytes that are alive at the end of a tape, in their order, and the numbers of all its events.
fn left(bytes: &[u8]) -> (Vec<u64>, u64) {
    let found = heaptape_format::scan(bytes).unwrap();
    assert_eq!(found.damage, []);
    let mut columns = heaptape_format::EventColumns::default();
    let mut live = std::collections::HashMap::new();
    let mut next = 0;
    for block in found.blocks.iter().filter(|block| block.span() > 0) {
        assert_eq!(block.first_event.get(), next);
        next += u64::from(block.span());
        heaptape_format::read_events(bytes, block, &mut columns).unwrap();
        for event in columns.iter() {
            match event.op {
                Op::Alloc { address, size, .. }
                | Op::Resize { address, size, .. }
                | Op::MoveIn { address, size, .. } => {
                    live.insert(address, size.get());
                }
                Op::Free { address } | Op::MoveOut { address } => {
                    live.remove(&address);
                }
                _ => {}
            }
        }
    }
    let mut sizes: Vec<u64> = live.into_values().filter(|size| *size >= 600).collect();
    sizes.sort_unstable();
    (sizes, next)
}

#[test]
fn a_bounded_tape_never_takes_more_than_its_limit_and_keeps_all_that_is_alive() {
    const LIMIT: u64 = 1 << 20;
    let folder = Folder::new("bounded");
    let run = |options: &[&str]| {
        let mut child = recorder(&folder)
            .args(["-q", "-o", "a.tape"])
            .args(options)
            .args(["--", "perl", "-e", CHURN])
            .env("PERL_HASH_SEED", "0")
            .spawn()
            .unwrap();
        let mut most = 0;
        let status = loop {
            let lengths = std::fs::read_dir(&folder.0).unwrap();
            let sum = lengths
                .filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len()))
                .sum();
            most = u64::max(most, sum);
            match child.try_wait().unwrap() {
                Some(status) => break status,
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        };
        assert!(status.success());
        let bytes = std::fs::read(folder.path("a.tape")).unwrap();
        let names = std::fs::read_dir(&folder.0).unwrap().count();
        assert_eq!(names, 1, "nothing is left beside it");
        std::fs::remove_file(folder.path("a.tape")).unwrap();
        (bytes, most)
    };
    let (whole, _) = run(&[]);
    let (bounded, most) = run(&["--max-size", "1M"]);
    assert!(
        whole.len() as u64 > 2 * LIMIT,
        "{} bytes are too little for this test",
        whole.len()
    );
    assert!(most <= LIMIT, "{most} bytes");
    let found = heaptape_format::scan(&bounded[..]).unwrap();
    assert!(matches!(found.ending, Ending::Clean(_)));
    let folded = found
        .blocks
        .iter()
        .filter(|block| block.kind == heaptape_format::BlockKind::Folded);
    assert_eq!(folded.count(), 1);
    let ((kept, _), (alive, events)) = (left(&bounded), left(&whole));
    assert!(alive.len() >= 500);
    assert_eq!(kept, alive);
    let Ending::Clean(end) = found.ending else {
        unreachable!()
    };
    assert!(end.events > events / 2);
}

#[test]
fn a_live_heap_that_does_not_fit_into_the_limit_ends_the_recording_and_says_so() {
    let folder = Folder::new("overfull");
    let leak = "srand 3; my @kept; for my $i (1 .. 600000) { push @kept, 'x' x rand 300 }";
    let output = record(&folder, &["--max-size", "1M", "--", "perl", "-e", leak]);
    assert!(output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("does not fit into the size that --max-size allows"),
        "{said}"
    );
    let bytes = std::fs::read(folder.path("a.tape")).unwrap();
    assert!(bytes.len() <= 1 << 20);
    assert_eq!(heaptape_format::scan(&bytes[..]).unwrap().damage, []);
}

#[test]
fn what_cannot_be_bounded_is_refused() {
    let folder = Folder::new("unbounded");
    for (output, size, words) in [
        ("-", "64M", "standard output cannot be taken back"),
        ("/dev/null", "64M", "not a regular file"),
        ("a.tape", "64k", "at least 1M"),
    ] {
        let refused = recorder(&folder)
            .args(["--force", "-o", output, "--max-size", size, "--", "true"])
            .output()
            .unwrap();
        assert_eq!(refused.status.code(), Some(2));
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(said.contains(words), "{said}");
    }
}
