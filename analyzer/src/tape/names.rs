//! Names that a tape holds itself: those that were frozen by `symbolize`, and those of code that the program made while it ran.
//!
//! Only names of frames that are in the tape's stacks are kept, so that a hostile list of names takes no more memory than the stacks do.

use super::stacks::{FrameIx, PlaceKind, StackTable};
use super::Tape;
use crate::text::Text;
use hashbrown::HashMap;
use heaptape_format::names::{NamedCode, NamedFrame, NamedModule, NamedPlace};
use heaptape_format::{read_names, BlockKind, Damage, Frame, ModuleIx, Naming, ProcessIx};

/// Pieces of code that are kept while their frames are looked up; what comes later is counted as cut.
const MOST_CODES: usize = 1 << 20;

/// A place in the source as the tape has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeptPlace {
    /// The function.
    pub function: Option<Text>,
    /// The file.
    pub file: Option<Text>,
    /// The line; 0 when not known.
    pub line: u32,
    /// The line at which the function is declared; 0 when not known.
    pub declared: u32,
}

/// A module that was looked up when the names were frozen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptModule {
    /// What was found, in one word.
    pub state: Text,
    /// The file that symbols came from.
    pub file: Option<Text>,
    /// The file that lines came from.
    pub debug_file: Option<Text>,
    /// Why there is nothing, or less than there could be.
    pub problem: Option<Text>,
}

/// The names that a tape holds.
#[derive(Debug, Default)]
pub struct KeptNames {
    places: HashMap<FrameIx, Vec<KeptPlace>>,
    modules: HashMap<ModuleIx, KeptModule>,
    /// Names of code that programs made, by frame.
    code: HashMap<FrameIx, Text>,
    /// Bytes of lists of such code that were not copied, by process.
    pub cut: HashMap<ProcessIx, u64>,
}

impl KeptNames {
    /// The places of a frame, innermost first; none when the tape does not tell.
    pub fn places(&self, frame: FrameIx) -> &[KeptPlace] {
        self.places.get(&frame).map_or(&[], Vec::as_slice)
    }

    /// What was known of a module when the names were frozen.
    pub fn module(&self, module: ModuleIx) -> Option<&KeptModule> {
        self.modules.get(&module)
    }

    /// The name of the code that a program made, in which a frame lies.
    pub fn code(&self, frame: FrameIx) -> Option<&Text> {
        self.code.get(&frame)
    }

    /// Whether names were frozen.
    pub fn are_frozen(&self) -> bool {
        !self.modules.is_empty()
    }

    /// Reads the names of a tape whose stacks are known. What cannot be read is listed as damage.
    pub(crate) fn read(tape: &Tape, stacks: &StackTable, damage: &mut Vec<Damage>) -> KeptNames {
        let mut blocks = tape
            .scan()
            .blocks
            .iter()
            .filter(|block| block.kind == BlockKind::Names)
            .peekable();
        let mut names = KeptNames::default();
        if blocks.peek().is_none() {
            return names;
        }
        let frames = (1..stacks.frame_count() as u32).map(FrameIx);
        let by_kind: HashMap<PlaceKind, FrameIx> = frames.map(|frame| (stacks.kind(frame), frame)).collect();
        let mut texts = Texts::default();
        let mut codes = Vec::new();
        for block in blocks {
            match read_names(tape.source(), block) {
                Ok(namings) => namings
                    .into_iter()
                    .for_each(|naming| names.add(naming, &by_kind, &mut texts, &mut codes)),
                Err(found) => damage.push(found),
            }
        }
        names.name_code(codes, &by_kind, &mut texts);
        names
    }

    fn add(
        &mut self,
        naming: Naming,
        by_kind: &HashMap<PlaceKind, FrameIx>,
        texts: &mut Texts,
        codes: &mut Vec<NamedCode>,
    ) {
        match naming {
            Naming::Module(NamedModule {
                module,
                state,
                file,
                debug_file,
                problem,
            }) => {
                let kept = KeptModule {
                    state: texts.get(&state).unwrap_or_default(),
                    file: texts.get(&file),
                    debug_file: texts.get(&debug_file),
                    problem: texts.get(&problem),
                };
                self.modules.insert(module, kept);
            }
            Naming::Frame(NamedFrame { frame, places }) => {
                let kind = match frame {
                    Frame::Native { module, offset } => PlaceKind::Native { module, offset },
                    Frame::Raw { process, address } => PlaceKind::Raw { process, address },
                    _ => return,
                };
                if let Some(&frame) = by_kind.get(&kind) {
                    let places = places.iter().map(|place| texts.place(place)).collect();
                    self.places.insert(frame, places);
                }
            }
            Naming::Code(code) if codes.len() < MOST_CODES => codes.push(code),
            Naming::Code(code) => self.note_cut(code.process, code.name.len() as u64),
            Naming::Cut { process, bytes } => self.note_cut(process, bytes),
            _ => {}
        }
    }

    fn note_cut(&mut self, process: ProcessIx, bytes: u64) {
        if self.cut.len() < MOST_CODES || self.cut.contains_key(&process) {
            let known = self.cut.entry(process).or_default();
            *known = known.saturating_add(bytes);
        }
    }

    /// Finds the code in which each raw frame lies. Of two pieces at one address the later holds.
    fn name_code(&mut self, codes: Vec<NamedCode>, by_kind: &HashMap<PlaceKind, FrameIx>, texts: &mut Texts) {
        let mut sorted: Vec<(ProcessIx, u64, usize)> = codes
            .iter()
            .enumerate()
            .map(|(order, code)| (code.process, code.start.get(), order))
            .collect();
        sorted.sort_unstable();
        for (kind, &frame) in by_kind {
            let PlaceKind::Raw { process, address } = *kind else {
                continue;
            };
            // A return address belongs to the instruction before it.
            let probe = address.get().wrapping_sub(1);
            let after = sorted.partition_point(|&(of, start, _)| (of, start) <= (process, probe));
            // Pieces are short: one that began far below does not reach here.
            let around = sorted[..after].iter().rev().take(MOST_OVERLAPS);
            let best = around
                .filter(|&&(of, start, order)| of == process && probe - start < codes[order].length)
                .max_by_key(|&&(_, _, order)| order);
            if let Some(name) = best.and_then(|&(_, _, order)| texts.get(&codes[order].name)) {
                self.code.insert(frame, name);
            }
        }
    }
}

/// Pieces of code that are looked at for one frame.
const MOST_OVERLAPS: usize = 64;

/// Texts met again are shared.
#[derive(Default)]
struct Texts(HashMap<Vec<u8>, Text>);

impl Texts {
    fn get(&mut self, raw: &[u8]) -> Option<Text> {
        if raw.is_empty() {
            return None;
        }
        if let Some(text) = self.0.get(raw) {
            return Some(text.clone());
        }
        let text = Text::again(raw);
        self.0.insert(raw.to_vec(), text.clone());
        Some(text)
    }

    fn place(&mut self, place: &NamedPlace) -> KeptPlace {
        KeptPlace {
            function: self.get(&place.function),
            file: self.get(&place.file),
            line: place.line,
            declared: place.declared,
        }
    }
}
