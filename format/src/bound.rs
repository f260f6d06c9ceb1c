//! Keeps what a program may make as long as it likes (command lines, names) within what a block of records can hold.

use crate::names::Naming;
use crate::record::{Header, Record};

/// Longest text that is kept.
const MAX_TEXT: usize = 64 << 10;
/// Longest command line that is kept.
const MAX_COMMAND: usize = 256 << 10;
/// Most bytes of the names of one frame.
const MAX_NAMES: usize = 512 << 10;
/// What stands at the end of a text that was cut.
const CUT: &[u8] = b"[...]";

/// Cuts a text; the cut can be seen.
fn text(text: &mut Vec<u8>) {
    if text.len() > MAX_TEXT {
        text.truncate(MAX_TEXT - CUT.len());
        text.extend_from_slice(CUT);
    }
}

fn string(string: &mut String) {
    if string.len() > MAX_TEXT {
        let end = (0..=MAX_TEXT - CUT.len())
            .rev()
            .find(|&end| string.is_char_boundary(end))
            .unwrap_or(0);
        string.truncate(end);
        string.push_str("[...]");
    }
}

fn command(command: &mut Vec<Vec<u8>>) {
    let mut length = 0;
    let mut fits = 0;
    for argument in command.iter_mut() {
        text(argument);
        length += argument.len() + 4;
        if length > MAX_COMMAND {
            break;
        }
        fits += 1;
    }
    if fits < command.len() {
        command.truncate(fits);
        command.push(CUT.to_vec());
    }
}

/// A header that fits.
pub(crate) fn header(header: &Header) -> Header {
    let mut header = header.clone();
    string(&mut header.writer);
    string(&mut header.machine);
    string(&mut header.host);
    string(&mut header.kernel);
    command(&mut header.command);
    header
}

/// A name that fits. Of functions inlined into each other without end, those in the middle go.
pub(crate) fn naming(naming: &Naming) -> Naming {
    let mut naming = naming.clone();
    match &mut naming {
        Naming::Module(module) => {
            for part in [
                &mut module.state,
                &mut module.file,
                &mut module.debug_file,
                &mut module.problem,
            ] {
                text(part);
            }
        }
        Naming::Frame(named) => {
            let places = &mut named.places;
            for place in places.iter_mut() {
                text(&mut place.function);
                text(&mut place.file);
            }
            let length = |place: &crate::names::NamedPlace| place.function.len() + place.file.len() + 16;
            let mut total: usize = places.iter().map(length).sum();
            while total > MAX_NAMES {
                total -= length(&places.remove(places.len() / 2));
            }
        }
        Naming::Code(code) => text(&mut code.name),
        Naming::Cut { .. } => {}
    }
    naming
}

/// A record that fits.
pub(crate) fn record(mut record: Record) -> Record {
    match &mut record {
        Record::Process(process) => {
            text(&mut process.exe);
            command(&mut process.command);
        }
        Record::Thread(thread) => text(&mut thread.name),
        Record::ThreadName { name, .. } => text(name),
        Record::Module(module) => {
            text(&mut module.path);
            text(&mut module.build_id);
        }
        Record::Marker(marker) => text(&mut marker.name),
        Record::Code(code) => {
            text(&mut code.name);
            text(&mut code.file);
        }
        Record::Type { name } | Record::Libc { name, .. } => text(name),
        Record::Runtime(runtime) => {
            text(&mut runtime.name);
            text(&mut runtime.note);
        }
        Record::ProcessEnd { .. }
        | Record::ThreadEnd { .. }
        | Record::Stacks(_)
        | Record::Unwind { .. }
        | Record::Sample(_)
        | Record::Loss(_) => {}
    }
    record
}
