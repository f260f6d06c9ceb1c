//! `symbolize`: a copy of a tape that holds its names.

use super::args::SymbolizeArgs;
use super::load::{check, load, symbol_options, trust};
use super::output::wrote;
use super::Failure;
use crate::symbols::{self, State, Symbolizer};
use crate::tape::Tape;
use crate::text::escape_message;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use tempfile::NamedTempFile;

pub(super) fn symbolize(args: &SymbolizeArgs) -> Result<(), Failure> {
    if args.symbols.no_symbols {
        return Err(Failure::Usage(
            "symbolize --no-symbols: there would be no name to keep".to_owned(),
        ));
    }
    if args.output == Path::new("-") {
        return Err(Failure::Usage("symbolize writes to a file: -o FILE".to_owned()));
    }
    let options = symbol_options(&args.symbols, &args.reading)?;
    let shown = args.output.display().to_string();
    if !args.force && args.output.symlink_metadata().is_ok() {
        return Err(Failure::Failed(format!(
            "{shown} exists; give another name, or --force to overwrite it"
        )));
    }
    let tape = Tape::open(&args.tape)?;
    let Some((body, mut annex)) = tape.scan().annex(tape.length()) else {
        return Err(Failure::Failed(format!(
            "{}: something lies behind the end of this tape, and no name can be put there (heaptape verify shows what)",
            args.tape.display()
        )));
    };
    let heap = load(&args.tape, &args.reading.place())?;
    check(&heap, &args.reading)?;
    let failed = |error: io::Error| Failure::writing(&shown, &error);
    // The copy has its name when it is whole: reading and writing one file is no way to lose it.
    let folder = match args.output.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut file = NamedTempFile::new_in(folder).map_err(failed)?;
    let mut out = BufWriter::new(&mut file);
    copy(&tape, body, &mut out).map_err(failed)?;
    let mut blocks = Vec::new();
    let mut written = Ok(());
    let modules = symbols::freeze(&heap, &Symbolizer::new(options), |naming| {
        annex.name(naming, &mut blocks);
        if written.is_ok() && !blocks.is_empty() {
            written = out.write_all(&blocks);
            blocks.clear();
        }
    });
    trust(&heap)?;
    annex.finish(&mut blocks);
    written
        .and_then(|()| out.write_all(&blocks))
        .and_then(|()| out.flush())
        .map_err(failed)?;
    drop(out);
    keep(file, tape.file(), args).map_err(failed)?;
    wrote(&args.output);
    let dropped = tape.length() - body;
    if !heap.ended_cleanly() && dropped > 0 {
        anstream::eprintln!("left out: {dropped} byte(s) of a block that was not finished");
    }
    let missing = modules
        .iter()
        .filter(|module| module.frames > 0 && module.state != State::Found);
    for module in missing {
        let problem = module
            .problem
            .as_ref()
            .map(|problem| format!(": {problem}"))
            .unwrap_or_default();
        let line = format!("{} {}{problem}", module.state.text(), module.module);
        anstream::eprintln!("{}", escape_message(&line));
    }
    Ok(())
}

/// Copies the first bytes of a tape.
fn copy(tape: &Tape, length: u64, out: &mut impl Write) -> io::Result<()> {
    let mut bytes = vec![0; 1 << 20];
    let mut at = 0;
    while at < length {
        let count = (length - at).min(bytes.len() as u64) as usize;
        let read = tape.source().read_at(at, &mut bytes[..count]);
        read.map_err(|error| io::Error::other(error.message))?;
        out.write_all(&bytes[..count])?;
        at += count as u64;
    }
    Ok(())
}

/// Gives the file its name, with the access that files of this user have.
fn keep(file: NamedTempFile, tape: &Path, args: &SymbolizeArgs) -> io::Result<()> {
    let access = std::fs::metadata(tape)?.permissions();
    file.as_file().set_permissions(access)?;
    let kept = match args.force {
        true => file.persist(&args.output),
        false => file.persist_noclobber(&args.output),
    };
    kept.map(drop).map_err(|error| error.error)
}
