//! Debug files from servers: only the build that was asked for, once, and within bounds.

#[path = "support/native.rs"]
#[allow(dead_code)]
mod native;
mod support;

use heaptape::query::Group;
use heaptape::symbols::{Coverage, Debuginfod, FoundBy, Options};
use native::{build, build_id, offsets, rows, tape};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use support::TempDir;

/// What the server does with a request.
#[derive(Clone)]
enum Answer {
    /// Gives this file.
    File(Vec<u8>),
    /// Has none.
    NotFound,
    /// Is broken.
    Failure,
    /// Says nothing.
    Silence,
    /// Announces more than comes.
    HalfOf(Vec<u8>),
}

/// A server on this machine, and the paths it was asked for.
struct Server {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(answer: Answer) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = format!("http://{}", listener.local_addr().expect("it is bound"));
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = Arc::clone(&asked);
        std::thread::spawn(move || {
            // Connections that get no answer stay open.
            let mut open = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.expect("it connects");
                let mut reader = BufReader::new(stream.try_clone().expect("it can be shared"));
                let mut line = String::new();
                let _ = reader.read_line(&mut line);
                let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
                log.lock().expect("nobody panicked").push(path);
                while reader.read_line(&mut line).is_ok_and(|length| length > 2) {}
                let head = |status: &str, length: usize| {
                    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n").into_bytes()
                };
                let bytes = match &answer {
                    Answer::File(bytes) => [head("200 OK", bytes.len()), bytes.clone()].concat(),
                    Answer::NotFound => head("404 Not Found", 0),
                    Answer::Failure => head("500 Internal Server Error", 0),
                    Answer::Silence => {
                        open.push(stream);
                        continue;
                    }
                    Answer::HalfOf(bytes) => [head("200 OK", bytes.len()), bytes[..bytes.len() / 2].to_vec()].concat(),
                };
                let _ = stream.write_all(&bytes);
            }
        });
        Server { address, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("nobody panicked").clone()
    }
}

struct Program {
    dir: TempDir,
    debug: Vec<u8>,
    id: Vec<u8>,
    wanted: std::ops::Range<u64>,
}

impl Program {
    fn new(extra: &[&str]) -> Program {
        let dir = TempDir::new("debuginfod");
        let binary = build(dir.path(), "thing", &[&["-g"], extra].concat());
        Program {
            debug: std::fs::read(&binary).expect("it was built"),
            id: build_id(&binary),
            wanted: offsets(&binary),
            dir,
        }
    }

    fn cache(&self) -> PathBuf {
        self.dir.path().join("cache")
    }

    fn client(&self, servers: &[&Server]) -> Debuginfod {
        let servers = servers.iter().map(|server| server.address.clone()).collect();
        let mut client = Debuginfod::new(servers, self.cache());
        client.patience = Duration::from_millis(300);
        client
    }

    /// Whether the inlined call has its line. The program itself is not here.
    fn ask(&self, debuginfod: Option<Debuginfod>) -> (bool, Coverage) {
        let heap = tape(b"/gone/thing", &self.id, self.wanted.clone());
        let options = Options {
            debuginfod,
            ..Options::default()
        };
        let (lines, symbolizer) = rows(&heap, options, Group::Line);
        let call = format!("{}:3", self.dir.path().join("thing.c").display());
        (lines.contains(&call), symbolizer.coverage().remove(0))
    }

    fn kept(&self) -> PathBuf {
        let hex: String = self.id.iter().map(|byte| format!("{byte:02x}")).collect();
        self.cache().join(hex).join("debuginfo")
    }
}

fn length(path: &Path) -> Option<u64> {
    std::fs::metadata(path).ok().map(|metadata| metadata.len())
}

#[test]
fn a_debug_file_comes_once_and_stays_where_elfutils_keeps_it() {
    let program = Program::new(&[]);
    assert!(!program.ask(None).0, "nobody is asked unless the user wants it");
    let server = Server::start(Answer::File(program.debug.clone()));
    let none = Server::start(Answer::NotFound);
    let (has_lines, coverage) = program.ask(Some(program.client(&[&none, &server])));
    assert!(
        has_lines && coverage.debug_found_by == Some(FoundBy::Debuginfod),
        "{coverage:?}"
    );
    assert_eq!(std::fs::read(program.kept()).expect("it is kept"), program.debug);
    let hex = coverage.build_id;
    assert_eq!(server.asked(), [format!("/buildid/{hex}/debuginfo")]);
    assert!(program.ask(Some(program.client(&[&none, &server]))).0);
    assert_eq!(
        (server.asked().len(), none.asked().len()),
        (1, 1),
        "the second time it is here"
    );
}

#[test]
fn a_server_that_has_nothing_is_not_asked_again_soon() {
    let program = Program::new(&[]);
    let server = Server::start(Answer::NotFound);
    let (has_lines, _) = program.ask(Some(program.client(&[&server])));
    let asked = server.asked().len();
    assert!(!has_lines && length(&program.kept()) == Some(0));
    assert!(!program.ask(Some(program.client(&[&server]))).0);
    assert_eq!(server.asked().len(), asked);
}

#[test]
fn what_is_not_the_build_asked_for_is_refused_and_not_kept() {
    let program = Program::new(&[]);
    let other = Program::new(&["-O2", "-DOTHER"]);
    let mut large = program.client(&[&Server::start(Answer::File(program.debug.clone()))]);
    large.largest = 100;
    for (client, expected) in [
        (
            program.client(&[&Server::start(Answer::File(other.debug.clone()))]),
            "its build-id is",
        ),
        (
            program.client(&[&Server::start(Answer::File(b"<html>".to_vec()))]),
            "not an ELF file",
        ),
        (
            program.client(&[&Server::start(Answer::HalfOf(program.debug.clone()))]),
            "",
        ),
        (program.client(&[&Server::start(Answer::Failure)]), "status 500"),
        (large, "larger than 100 bytes"),
    ] {
        let (has_lines, coverage) = program.ask(Some(client));
        let problem = coverage.problem.expect("it is told");
        assert!(
            !has_lines && problem.as_str().contains(expected),
            "{expected}: {problem}"
        );
        assert_eq!(length(&program.kept()), None, "{problem}");
    }
}

#[test]
fn a_server_that_says_nothing_costs_its_patience_once() {
    let program = Program::new(&[]);
    let server = Server::start(Answer::Silence);
    let client = program.client(&[&server]);
    let begun = Instant::now();
    let (has_lines, coverage) = program.ask(Some(client.clone()));
    assert!(
        !has_lines
            && coverage
                .problem
                .is_some_and(|problem| problem.as_str().contains("timeout"))
    );
    assert!(!program.ask(Some(client)).0);
    assert_eq!(server.asked().len(), 1);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}
