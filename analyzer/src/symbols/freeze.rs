//! Names into the tape, so that it can be read anywhere for ever with the same answers.

use super::{Coverage, Place, Symbolizer};
use crate::symbols::Resolver;
use crate::table::Heap;
use crate::tape::{FrameIx, PlaceKind};
use crate::text::Text;
use heaptape_format::names::{NamedFrame, NamedModule, NamedPlace};
use heaptape_format::{Frame, ModuleIx, Naming};

/// Looks up every frame of a tape, and hands what the tape is to hold to `add`: all modules, then all frames that have a name. Returns what was found of each module.
pub fn freeze(heap: &Heap, symbolizer: &Symbolizer, mut add: impl FnMut(&Naming)) -> Vec<Coverage> {
    let stacks = &heap.catalog.stacks;
    let native = |frame: FrameIx| match stacks.kind(frame) {
        PlaceKind::Native { module, offset } => Some((frame, Frame::Native { module, offset })),
        _ => None,
    };
    let frames: Vec<(FrameIx, Frame)> = (1..stacks.frame_count() as u32)
        .map(FrameIx)
        .filter_map(native)
        .collect();
    let wanted: Vec<FrameIx> = frames.iter().map(|(frame, _)| *frame).collect();
    let named = symbolizer.resolve(heap, &wanted);
    let modules = symbolizer.survey(heap);
    for (number, module) in modules.iter().enumerate() {
        let ix = ModuleIx(number as u32);
        add(&Naming::Module(NamedModule {
            module: ix,
            state: module.state.text().into(),
            file: raw(&module.file),
            debug_file: raw(&module.debug_file),
            problem: raw(&module.problem),
        }));
    }
    for ((_, frame), places) in frames.iter().zip(&named) {
        if places
            .iter()
            .any(|place| place.function.is_some() || place.file.is_some())
        {
            add(&Naming::Frame(NamedFrame {
                frame: *frame,
                places: places.iter().map(named_place).collect(),
            }));
        }
    }
    modules
}

fn named_place(place: &Place) -> NamedPlace {
    NamedPlace {
        function: raw(&place.function),
        file: raw(&place.file),
        line: place.line,
        declared: place.declared,
    }
}

fn raw(text: &Option<Text>) -> Vec<u8> {
    text.as_ref()
        .map(|text| text.as_str().as_bytes().to_vec())
        .unwrap_or_default()
}
