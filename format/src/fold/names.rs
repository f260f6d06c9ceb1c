//! The names of a folded span: those stay that name a frame which stays.

use crate::id::{Address, ModuleIx, ProcessIx};
use crate::names::{NamedCode, NamedFrame, NamedModule, Naming};
use crate::record::Frame;
use crate::writer::Writer;
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::BTreeSet;

#[derive(Clone, Default)]
pub(super) struct Names {
    modules: FxHashMap<ModuleIx, NamedModule>,
    frames: Vec<NamedFrame>,
    codes: Vec<NamedCode>,
    cut: FxHashMap<ProcessIx, u64>,
}

impl Names {
    pub(super) fn add(&mut self, naming: Naming) {
        match naming {
            Naming::Module(module) => {
                self.modules.insert(module.module, module);
            }
            Naming::Frame(frame) => self.frames.push(frame),
            Naming::Code(code) => self.codes.push(code),
            Naming::Cut { process, bytes } => {
                let known = self.cut.entry(process).or_default();
                *known = known.saturating_add(bytes);
            }
        }
    }

    /// Hands a writer what names one of its frames, in the order in which it came.
    pub(super) fn finish(self, writer: &mut Writer, out: &mut Vec<u8>) {
        let frames: FxHashSet<Frame> = writer.frames().iter().copied().collect();
        let raw: BTreeSet<(ProcessIx, Address)> = frames
            .iter()
            .filter_map(|frame| match *frame {
                // A return address belongs to the instruction before it.
                Frame::Raw { process, address } => Some((process, Address(address.get().wrapping_sub(1)))),
                _ => None,
            })
            .collect();
        let is_met = |code: &NamedCode| {
            let end = Address(code.start.get().saturating_add(code.length));
            code.length > 0
                && raw
                    .range((code.process, code.start)..(code.process, end))
                    .next()
                    .is_some()
        };
        let mut modules: Vec<NamedModule> = self.modules.into_values().collect();
        modules.sort_unstable_by_key(|module| module.module);
        let mut cut: Vec<(ProcessIx, u64)> = self.cut.into_iter().collect();
        cut.sort_unstable();
        cut.retain(|&(process, _)| raw.iter().any(|&(of, _)| of == process));
        let named = self.frames.into_iter().filter(|named| frames.contains(&named.frame));
        let codes = self.codes.into_iter().filter(is_met);
        let cut = cut.into_iter().map(|(process, bytes)| Naming::Cut { process, bytes });
        let all = modules.into_iter().map(Naming::Module).chain(named.map(Naming::Frame));
        for naming in all.chain(codes.map(Naming::Code)).chain(cut) {
            writer.name(&naming, out);
        }
    }
}
