//! The rows of groups that a question divides: they alone have to be looked at one by one.

use super::lives::{fine_life, FineLife};
use super::{Alike, Heap, Horizon, Item, Piece, Times, NEVER};
use heaptape_format::EventNo;

/// Rows by stack and length of life: those of groups of which it could not be said what becomes of them as a whole.
#[derive(Debug)]
pub(crate) struct Undecided {
    /// By stack, a bit for each [`Class`].
    classes: Vec<u64>,
    /// The same of all stacks together.
    any: u64,
    /// No life that ended is shorter or longer, in events.
    events: (u64, u64),
}

/// What a row tells of its group without a look at more than its life.
#[derive(Clone, Copy)]
struct Class {
    life: FineLife,
    is_at_once: bool,
}

impl Class {
    fn all() -> impl Iterator<Item = Class> {
        FineLife::all().flat_map(|life| [false, true].map(|is_at_once| Class { life, is_at_once }))
    }

    fn of(alike: &Alike) -> Class {
        Class {
            life: alike.life(),
            is_at_once: alike.is_at_once(),
        }
    }

    fn bit(self) -> u64 {
        1 << (2 * self.life.number() + u32::from(self.is_at_once))
    }
}

impl Undecided {
    fn new(stacks: usize) -> Undecided {
        Undecided {
            classes: vec![0; stacks],
            any: 0,
            events: (u64::MAX, 0),
        }
    }

    /// The pieces of the table to visit: none if every group is decided.
    pub(crate) fn pieces(&self, heap: &Heap) -> Vec<Piece> {
        heap.pieces(match self.any {
            0 => 0..0,
            _ => 0..heap.allocations.len(),
        })
    }

    /// Calls `visit` with those of a piece of the table, in their order.
    #[inline]
    pub(crate) fn visit(&self, heap: &Heap, piece: &Piece, visit: impl FnMut(&Item)) {
        let classes = Class::all().filter(|class| self.any & class.bit() != 0);
        let lives = classes.filter_map(|class| class.life.lives());
        let (least, most) = lives.fold((u64::MAX, 0), |(least, most), lives| {
            (least.min(*lives.start()), most.max(*lives.end()))
        });
        let mut longer = least.checked_sub(1).map(|below| Horizon::new(&heap.clock, below));
        let mut shorter = (most < u64::MAX).then(|| Horizon::new(&heap.clock, most));
        let mut times = Times::new(&heap.clock);
        let endless = Class {
            life: FineLife::ENDLESS,
            is_at_once: false,
        };
        let is_wanted = |birth: EventNo, death: EventNo, stack: u32| {
            let wanted = self.classes.get(stack as usize).copied().unwrap_or(0);
            if wanted == 0 || death == NEVER {
                return wanted & endless.bit() != 0;
            }
            let events = death.get().saturating_sub(birth.get());
            if events < self.events.0 || self.events.1 < events {
                return false;
            }
            let times = &mut times;
            if shorter.as_mut().is_some_and(|most| most.is_before(birth, death, times))
                || longer
                    .as_mut()
                    .is_some_and(|least| !least.is_before(birth, death, times))
            {
                return false;
            }
            let class = Class {
                life: fine_life(times, birth.get(), death.get()),
                is_at_once: events == 1,
            };
            wanted & class.bit() != 0
        };
        heap.allocations.visit_some(piece.range.clone(), is_wanted, visit);
    }
}

impl Heap {
    /// Asks about each group of alike rows, and hands over what is answered. What is given back is which rows are left: all of a stack and a class in which a group has no answer.
    /// `None` when no index has groups, or when so many rows are of such classes that to look at all rows takes less time; what was handed over means nothing then.
    pub(crate) fn sort_out<X>(
        &self,
        ask: impl Fn(&Alike) -> Option<X>,
        mut take: impl FnMut(&Alike, X),
    ) -> Option<Undecided> {
        let groups = self.alike()?;
        let mut undecided = Undecided::new(self.catalog.stacks.len());
        let mut asked = Vec::new();
        for of_stack in groups.chunk_by(|one, next| one.stack() == next.stack()) {
            asked.extend(of_stack.iter().map(|alike| (alike, ask(alike))));
            let open = asked.iter().filter(|(_, answer)| answer.is_none());
            let left = open.fold(0, |left, (alike, _)| left | Class::of(alike).bit());
            undecided.any |= left;
            undecided.classes[of_stack[0].stack().0 as usize] |= left;
            for (alike, answer) in asked.drain(..) {
                if left & Class::of(alike).bit() != 0 {
                    let (least, most) = &mut undecided.events;
                    *least = (*least).min(*alike.events().start());
                    *most = (*most).max(*alike.events().end());
                } else if let Some(answer) = answer {
                    take(alike, answer);
                }
            }
        }
        let (close, all) = groups.iter().fold((0u64, 0u64), |(close, all), alike| {
            let count = alike.level.count;
            let is_close = undecided.any & Class::of(alike).bit() != 0;
            (
                close.saturating_add(if is_close { count } else { 0 }),
                all.saturating_add(count),
            )
        });
        (close <= all / 6).then_some(undecided)
    }
}
