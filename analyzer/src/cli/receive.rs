//! `receive`: a tape that is sent from a device.

use super::args::ReceiveArgs;
use super::Failure;
use crate::receive::{listen, News, Shelf, Store};
use crate::text::escape_message;
use heaptape_format::link::BlockHead;
use std::fs::File;
use std::io::{BufReader, Read};
use std::net::TcpListener;
use std::path::Path;

pub(super) fn receive(args: &ReceiveArgs) -> Result<(), Failure> {
    if let Some(rest) = &args.add {
        return add(rest, args);
    }
    let output = &args.output;
    let is_there = output.symlink_metadata().is_ok();
    if is_there && !output.is_dir() && !args.force && crate::tape::Tape::open(output).is_err() {
        return Err(Failure::Failed(format!(
            "{} exists, and is no tape that could be gone on with; give another name, or --force to overwrite it",
            output.display()
        )));
    }
    let listener = listen_on(&args.listen)?;
    let shelf = Shelf::new(output.clone(), args.force);
    let is_folder = shelf.is_folder();
    for news in listen(listener, shelf) {
        match news {
            News::Connected(peer) => say(&format!("{peer} has connected")),
            News::Broken(peer, None) => say(&format!("{peer} has gone; what it had sent is stored")),
            News::Broken(peer, Some(error)) => say(&format!("{peer}: {error}")),
            News::Complete(path) => {
                say(&format!("{} is complete", path.display()));
                if !is_folder {
                    return Ok(());
                }
            }
            News::Failed(error) => return Err(Failure::Failed(format!("cannot take connections: {error}"))),
        }
    }
    Ok(())
}

/// Takes connections at an address, and says at which: the system may have chosen the port.
pub(super) fn listen_on(at: &str) -> Result<TcpListener, Failure> {
    let listening = TcpListener::bind(at).and_then(|listener| Ok((listener.local_addr()?, listener)));
    let (at, listener) = listening.map_err(|error| Failure::Failed(format!("cannot listen on {at}: {error}")))?;
    say(&format!("listening on {at}"));
    Ok(listener)
}

/// There is nothing to be done about a closed standard error.
fn say(text: &str) {
    anstream::eprintln!("heaptape: {}", escape_message(text));
}

/// Adds what a recorder could not send, and has left in a file.
fn add(rest: &Path, args: &ReceiveArgs) -> Result<(), Failure> {
    let reading = |error| Failure::Failed(format!("cannot read {}: {error}", rest.display()));
    let no_block = || Failure::Failed(format!("{} does not consist of whole blocks of a tape", rest.display()));
    let mut source = BufReader::new(File::open(rest).map_err(reading)?);
    let mut store: Option<Store> = None;
    loop {
        let mut block = Vec::new();
        let header = source.by_ref().take(BlockHead::LENGTH as u64);
        if { header }.read_to_end(&mut block).map_err(reading)? == 0 {
            break;
        }
        let head = BlockHead::at_start(&block).ok_or_else(no_block)?;
        let payload = source.by_ref().take(head.payload_length() as u64);
        { payload }.read_to_end(&mut block).map_err(reading)?;
        if !head.has_payload(&block[BlockHead::LENGTH..]) {
            return Err(no_block());
        }
        let store = match &mut store {
            Some(store) => store,
            none => {
                let opened = Store::open(&args.output, head.tape(), args.force);
                none.insert(opened.map_err(|error| Failure::Failed(error.to_string()))?)
            }
        };
        store.take(&head, &block).map_err(|error| {
            Failure::Failed(format!(
                "cannot add {} to {}: {error}",
                rest.display(),
                args.output.display()
            ))
        })?;
    }
    match store {
        None => Err(Failure::Failed(format!("{} is empty", rest.display()))),
        Some(store) => {
            let what = if store.is_ended() {
                "is complete"
            } else {
                "has more now, and no end yet"
            };
            say(&format!("{} {what}", args.output.display()));
            Ok(())
        }
    }
}
