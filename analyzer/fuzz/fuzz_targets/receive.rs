//! What a sender says, whole or over two connections. The input: whether its hello is made for the tape, where the first connection breaks (two bytes), then what is sent. Seeds: any tapes.
#![no_main]

#[path = "../../../format/tests/common/forge.rs"]
#[allow(dead_code)]
mod forge;
#[path = "../../../format/fuzz/mutate.rs"]
mod mutate;
#[path = "../../tests/support/mod.rs"]
#[allow(dead_code)]
mod support;

use heaptape::receive::{receive, Shelf};
use heaptape_format::link::{BlockHead, Hello};
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use std::fs;
use std::io::Write;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::LazyLock;
use support::TempDir;

const HEAD: usize = 3;
/// What is sent lies in the socket until it is received.
const MOST_SENT: usize = 64 << 10;

static LISTENER: LazyLock<TcpListener> = LazyLock::new(|| TcpListener::bind("127.0.0.1:0").expect("there is a port"));
static FOLDER: LazyLock<TempDir> = LazyLock::new(|| TempDir::new("fuzzed-receive"));

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    if size <= HEAD || max_size <= HEAD || seed % 16 == 0 {
        return fuzzer_mutate(data, size, max_size);
    }
    HEAD + mutate::tape(&mut data[HEAD..], size - HEAD, max_size - HEAD, seed / 16)
});

/// One connection, from beginning to end.
fn send(shelf: &Shelf, sent: &[&[u8]]) {
    let address = LISTENER.local_addr().expect("it listens");
    let mut sender = TcpStream::connect(address).expect("somebody listens");
    let (receiver, _) = LISTENER.accept().expect("somebody connects");
    for bytes in sent {
        sender.write_all(bytes).expect("there is room");
    }
    sender.shutdown(Shutdown::Write).expect("it is open");
    match receive(&receiver, shelf) {
        Ok(Some(path)) => assert!(path.exists()),
        Ok(None) => {}
        Err(error) => assert!(!error.to_string().contains(char::is_control)),
    }
}

/// Whole blocks of one tape, from its first on.
fn assert_whole_blocks(file: &[u8]) {
    let (mut rest, mut last) = (file, None);
    while !rest.is_empty() {
        let head = BlockHead::at_start(rest).expect("a block begins here");
        let (block, after) = rest.split_at(BlockHead::LENGTH + head.payload_length());
        assert!(head.has_payload(&block[BlockHead::LENGTH..]));
        match last {
            None => assert!(head.is_header() && head.sequence() == 0),
            Some((tape, sequence)) => assert!(head.tape() == tape && head.sequence() > sequence),
        }
        last = Some((head.tape(), head.sequence()));
        rest = after;
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&[greets, low, high], sent)) = data.split_first_chunk::<HEAD>() else {
        return;
    };
    if sent.len() > MOST_SENT {
        return;
    }
    let tape = BlockHead::at_start(sent).map_or(0, |head| head.tape());
    let hello = Hello { tape, oldest: 0 }.to_bytes();
    let hello: &[u8] = if greets & 1 == 1 { &hello } else { &[] };
    let cut = usize::from(u16::from_le_bytes([low, high])).min(sent.len());
    let shelf = Shelf::new(FOLDER.path().to_owned(), false);
    if greets & 2 == 2 {
        send(&shelf, &[hello, &sent[..cut]]);
    }
    // What it has already it passes over.
    send(&shelf, &[hello, sent]);
    for entry in fs::read_dir(FOLDER.path()).expect("it is there").flatten() {
        assert_whole_blocks(&fs::read(entry.path()).expect("it can be read"));
        fs::remove_file(entry.path()).expect("it can be removed");
    }
});
