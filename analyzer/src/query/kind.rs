//! What blocks hold: objects of a type, or something without one.

use crate::table::{Domain, Item, Level};
use heaptape_format::TypeIx;
use serde::Serialize;

/// What a block holds, for a row by type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An object of this type.
    Object(TypeIx),
    /// No object, or one whose type is not known, from this allocator.
    Untyped(Domain),
}

impl Kind {
    pub(crate) fn of(kind: TypeIx, domain: Domain) -> Kind {
        match kind {
            TypeIx::UNKNOWN => Kind::Untyped(domain),
            kind => Kind::Object(kind),
        }
    }

    /// What a row of the table holds.
    pub(crate) fn of_item(item: &Item) -> Kind {
        Kind::of(item.kind, Domain::of(item.marks.api()))
    }

    /// Types count up, so the highest numbers are free for what has none.
    pub(super) fn number(self) -> u32 {
        match self {
            Kind::Object(kind) => kind.get(),
            Kind::Untyped(domain) => u32::MAX - domain as u32,
        }
    }

    pub(super) fn from_number(number: u32) -> Kind {
        let domain = Domain::ALL.get((u32::MAX - number) as usize);
        domain.map_or(Kind::Object(TypeIx(number)), |&domain| Kind::Untyped(domain))
    }
}

/// How much of what a report counts has a type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TypeShare {
    /// Blocks with a type, and all others of the allocator of Python's objects.
    pub objects: Level,
    /// Those others: they hold no object, or one whose type is not known.
    pub untyped: Level,
}

impl TypeShare {
    pub(crate) fn merge(&mut self, other: TypeShare) {
        self.objects.add(other.objects);
        self.untyped.add(other.untyped);
    }

    pub(crate) fn add(&mut self, kind: Kind, level: Level) {
        if kind == Kind::Untyped(Domain::PyObj) {
            self.untyped.add(level);
        }
        if matches!(kind, Kind::Object(_) | Kind::Untyped(Domain::PyObj)) {
            self.objects.add(level);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_without_a_type_is_told_from_every_type() {
        for domain in Domain::ALL {
            assert_eq!(Kind::from_number(Kind::Untyped(domain).number()), Kind::Untyped(domain));
        }
        let highest = Kind::Object(TypeIx(u32::MAX - 4));
        assert_eq!(Kind::from_number(highest.number()), highest);
    }
}
