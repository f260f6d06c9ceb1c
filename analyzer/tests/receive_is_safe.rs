//! Whoever can connect can send anything: nothing but whole blocks of one tape ever reaches a file, and the next sender is served as if nothing had been.

use heaptape::receive::{listen, News, SessionError, Shelf};
use heaptape_format::link::{Answer, BlockHead, Hello};
use heaptape_format::record::{End, Header, Marker};
use heaptape_format::{scan, Ending, Micros, ProcessIx, Record, Writer, WriterOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

/// A tape of several blocks.
fn tape(host: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let header = Header {
        host: host.into(),
        ..Header::default()
    };
    let mut writer = Writer::new(&header, WriterOptions::default(), &mut out);
    for number in 0..20u32 {
        let marker = Marker {
            process: ProcessIx(0),
            thread: None,
            name: number.to_string().into_bytes(),
        };
        writer.record(Micros(u64::from(number)), Record::Marker(marker));
        writer.flush(&mut out);
    }
    writer.finish(&End::default(), &mut out);
    out
}

fn hello(tape: &[u8]) -> [u8; Hello::LENGTH] {
    let tape = scan(tape).unwrap().tape();
    Hello { tape, oldest: 0 }.to_bytes()
}

struct Listening {
    folder: PathBuf,
    address: SocketAddr,
    news: Receiver<News>,
}

impl Listening {
    fn new(name: &str, file: Option<&str>, force: bool) -> Listening {
        let folder = std::env::temp_dir().join(format!("heaptape-receive-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let to = file.map_or_else(|| folder.clone(), |file| folder.join(file));
        Listening {
            news: listen(listener, Shelf::new(to, force)),
            folder,
            address,
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    /// Sends a hello and hears the answer.
    fn greet(&self, hello: &[u8]) -> (TcpStream, Option<Answer>) {
        let mut stream = self.connect();
        stream.write_all(hello).unwrap();
        let mut answer = [0; Answer::LENGTH];
        let heard = stream.read_exact(&mut answer).ok();
        (stream, heard.and_then(|()| Answer::from_bytes(&answer)))
    }

    /// How the connection at hand ends.
    fn end(&self) -> News {
        loop {
            match self.news.recv_timeout(Duration::from_secs(60)).expect("it ends") {
                News::Connected(_) => {}
                news => return news,
            }
        }
    }

    /// Sends a whole tape from where it is wanted.
    fn send(&self, tape: &[u8]) -> News {
        let (mut stream, answer) = self.greet(&hello(tape));
        let Some(Answer::Wants(next)) = answer else {
            return self.end();
        };
        let found = scan(tape).unwrap();
        for block in found.blocks.iter().filter(|block| block.sequence >= next) {
            let range = block.offset as usize..(block.offset + block.length) as usize;
            stream.write_all(&tape[range]).unwrap();
            let mut stored = [0; 8];
            stream.read_exact(&mut stored).unwrap();
            assert_eq!(u64::from_le_bytes(stored), block.sequence + 1);
        }
        drop(stream);
        self.end()
    }

    fn files(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(&self.folder).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn assert_whole_blocks(path: &Path, of: &[u8]) {
    let bytes = std::fs::read(path).unwrap();
    assert!(of.starts_with(&bytes), "what is stored is a beginning of the tape");
    if !bytes.is_empty() {
        let found = scan(&bytes[..]).unwrap();
        assert_eq!(found.damage, []);
        assert!(matches!(
            found.ending,
            Ending::Clean(_) | Ending::Unclean { partial: 0, .. }
        ));
    }
}

#[test]
fn a_tape_is_followed_on_its_way() {
    let mut follow = Command::new(env!("CARGO_BIN_EXE_heaptape"))
        .args(["follow", "tcp://127.0.0.1:0", "--interval", "0.1"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = BufReader::new(follow.stderr.take().unwrap()).lines();
    let first = told.next().unwrap().unwrap();
    let address = first.strip_prefix("heaptape: listening on ").unwrap().parse().unwrap();
    // Somebody who sends something else is named, and is no reason to end.
    TcpStream::connect::<SocketAddr>(address)
        .unwrap()
        .write_all(&[b'?'; 100])
        .unwrap();
    assert!(told.next().unwrap().unwrap().ends_with("this is no sender of a tape"));
    let tape = tape("one");
    let mut stream = TcpStream::connect::<SocketAddr>(address).unwrap();
    stream.write_all(&hello(&tape)).unwrap();
    let mut answer = [0; Answer::LENGTH];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(Answer::from_bytes(&answer), Some(Answer::Wants(0)));
    stream.write_all(&tape).unwrap();
    let output = follow.wait_with_output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("received.tape"), "{text}");
}

#[test]
fn a_tape_arrives_as_it_is_in_one_piece_or_in_several() {
    let listening = Listening::new("whole", Some("a.tape"), false);
    let tape = tape("one");
    let blocks = scan(&tape[..]).unwrap().blocks;
    for cut in [10, 100, tape.len() / 3, tape.len() / 2] {
        let (mut stream, answer) = listening.greet(&hello(&tape));
        let Some(Answer::Wants(next)) = answer else {
            panic!("{answer:?}")
        };
        let from = blocks.iter().find(|block| block.sequence == next).unwrap().offset as usize;
        stream.write_all(&tape[from..cut.max(from)]).unwrap();
        drop(stream);
        let ended = listening.end();
        assert!(matches!(ended, News::Broken(..)), "{ended:?}");
        if cut > blocks[0].length as usize {
            assert_whole_blocks(&listening.folder.join("a.tape"), &tape);
        }
    }
    assert!(matches!(listening.send(&tape), News::Complete(_)));
    assert_eq!(std::fs::read(listening.folder.join("a.tape")).unwrap(), tape);
    // Whoever asks again hears that all is there.
    let (_stream, answer) = listening.greet(&hello(&tape));
    assert_eq!(answer, Some(Answer::Wants(blocks.len() as u64)));
}

#[test]
fn what_is_no_block_of_the_tape_is_not_stored() {
    let listening = Listening::new("garbage", None, false);
    let (tape, other) = (tape("one"), tape("two"));
    let first = scan(&tape[..]).unwrap().blocks[0].length as usize;
    let mut flipped = tape[..first].to_vec();
    flipped[first - 1] ^= 1;
    let large = {
        // A header that is sound but for a payload beyond the limit.
        let mut header = *tape.first_chunk::<{ BlockHead::LENGTH }>().unwrap();
        header[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
        let sum = crc32fast::hash(&header[..92]);
        header[92..].copy_from_slice(&sum.to_le_bytes());
        header.to_vec()
    };
    let second = tape[first * 2..].to_vec();
    for sent in [
        vec![0; 500],
        b"GET / HTTP/1.1\r\n\r\n".repeat(20),
        flipped,
        large,
        second,
        other[..first].to_vec(),
    ] {
        let (mut stream, answer) = listening.greet(&hello(&tape));
        assert_eq!(answer, Some(Answer::Wants(0)));
        // The other end may close in the middle of it.
        let _ = stream.write_all(&sent);
        let ended = listening.end();
        assert!(matches!(ended, News::Broken(_, Some(_))), "{ended:?}");
        assert_eq!(listening.files(), Vec::<PathBuf>::new());
    }
    // No hello at all, and one that ends early.
    for sent in [&b"GET / HTTP/1.1\r\nHost: device\r\n\r\n"[..], b"HTAPETO1"] {
        let mut stream = listening.connect();
        stream.write_all(sent).unwrap();
        drop(stream);
        assert!(matches!(listening.end(), News::Broken(_, Some(_))));
    }
    assert!(matches!(listening.send(&tape), News::Complete(_)));
    let files = listening.files();
    assert_eq!(files.len(), 1);
    assert_eq!(std::fs::read(&files[0]).unwrap(), tape);
}

#[test]
fn a_block_with_the_last_number_is_not_stored() {
    let listening = Listening::new("last", None, false);
    let tape = tape("one");
    let blocks = scan(&tape[..]).unwrap().blocks;
    let (first, second) = (blocks[0].length as usize, blocks[1].length as usize);
    let mut last = tape[first..first + second].to_vec();
    last[32..40].copy_from_slice(&u64::MAX.to_le_bytes());
    let sum = crc32fast::hash(&last[..92]);
    last[92..96].copy_from_slice(&sum.to_le_bytes());
    let (mut stream, answer) = listening.greet(&hello(&tape));
    assert_eq!(answer, Some(Answer::Wants(0)));
    stream.write_all(&tape[..first]).unwrap();
    // The other end may close in the middle of it.
    let _ = stream.write_all(&last.repeat(3));
    let ended = listening.end();
    assert!(matches!(ended, News::Broken(_, Some(_))), "{ended:?}");
    assert_eq!(std::fs::read(&listening.files()[0]).unwrap(), tape[..first]);
}

#[test]
fn a_tape_whose_beginning_is_elsewhere_or_whose_file_is_another_s_is_refused() {
    let listening = Listening::new("refused", Some("a.tape"), false);
    let (tape, other) = (tape("one"), tape("two"));
    let late = Hello {
        tape: scan(&tape[..]).unwrap().tape(),
        oldest: 5,
    };
    let (_stream, answer) = listening.greet(&late.to_bytes());
    assert_eq!(answer, Some(Answer::Refused));
    assert!(matches!(
        listening.end(),
        News::Broken(_, Some(SessionError::Refused(_)))
    ));
    assert!(matches!(listening.send(&tape), News::Complete(_)));
    assert!(matches!(
        listening.send(&other),
        News::Broken(_, Some(SessionError::Refused(_)))
    ));
    assert_eq!(std::fs::read(listening.folder.join("a.tape")).unwrap(), tape);
    let again = Listening::new("refused", Some("a.tape"), false);
    assert!(matches!(
        again.send(&other),
        News::Broken(_, Some(SessionError::Refused(_)))
    ));
    let forced = Listening::new("refused", Some("a.tape"), true);
    assert!(matches!(forced.send(&other), News::Complete(_)));
    assert_eq!(std::fs::read(forced.folder.join("a.tape")).unwrap(), other);
}

#[test]
fn two_connections_of_one_sender_store_every_block_once() {
    let listening = Listening::new("twice", Some("a.tape"), false);
    let tape = tape("one");
    let half = scan(&tape[..]).unwrap().blocks[10];
    // This end does not know yet that the first is broken.
    let (mut first, _) = listening.greet(&hello(&tape));
    first.write_all(&tape[..half.offset as usize]).unwrap();
    let mut stored = [0; 8];
    while u64::from_le_bytes(stored) < half.sequence {
        first.read_exact(&mut stored).unwrap();
    }
    assert!(matches!(listening.send(&tape), News::Complete(_)));
    let _ = first.write_all(&tape[half.offset as usize..]);
    drop(first);
    listening.end();
    assert_eq!(std::fs::read(listening.folder.join("a.tape")).unwrap(), tape);
}

#[test]
fn connections_that_say_nothing_keep_nobody_out_for_ever() {
    let listening = Listening::new("silent", Some("a.tape"), false);
    let tape = tape("one");
    let silent: Vec<TcpStream> = (0..40).map(|_| listening.connect()).collect();
    // As soon as they are gone there is room again.
    drop(silent);
    let sent = (0..200).find_map(|_| {
        let (mut stream, answer) = listening.greet(&hello(&tape));
        if answer.is_none() {
            std::thread::sleep(Duration::from_millis(20));
            return None;
        }
        stream.write_all(&tape).unwrap();
        Some(stream)
    });
    let stream = sent.expect("there is room");
    let path = listening.folder.join("a.tape");
    let begun = Instant::now();
    while !std::fs::read(&path).is_ok_and(|bytes| bytes == tape) {
        assert!(begun.elapsed() < Duration::from_secs(60), "it does not arrive");
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(stream);
}
