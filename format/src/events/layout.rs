//! The numbers of the coding, see `docs/FORMAT.md`.

/// Number of columns, in the order of the constants that follow.
pub(super) const COLUMNS: usize = 10;
/// One byte an event: its kind and which expectations came true.
pub(super) const CONTROL: usize = 0;
/// Runs of events of one thread.
pub(super) const THREADS: usize = 1;
/// Steps of time.
pub(super) const TIMES: usize = 2;
/// Stacks that were not expected.
pub(super) const STACKS: usize = 3;
/// Sizes that were not expected.
pub(super) const SIZES: usize = 4;
/// Addresses that were not expected.
pub(super) const ADDRESSES: usize = 5;
/// Places in lists of free addresses.
pub(super) const PLACES: usize = 6;
/// References to earlier events.
pub(super) const DEATHS: usize = 7;
/// Calls that were not expected, and everything about mappings.
pub(super) const REST: usize = 8;
/// Types that were not expected.
pub(super) const TYPES: usize = 9;

// Control bytes. Below FREE: Alloc or MoveIn.
pub(super) const FREE: u8 = 0x80;
pub(super) const MOVE_OUT: u8 = 0xc0;
pub(super) const RESIZE: u8 = 0xd0;
pub(super) const MAP: u8 = 0xe0;
pub(super) const UNMAP: u8 = 0xe1;
pub(super) const REMAP: u8 = 0xe2;
pub(super) const BRK: u8 = 0xe3;
pub(super) const TYPED: u8 = 0xf0;
pub(super) const TYPED_DISTANT: u8 = 0xfe;
pub(super) const TYPED_ELSEWHERE: u8 = 0xff;

/// A `Typed` says in its control byte the rank of the block among the live ones of its thread, if it is below this.
pub(super) const TYPED_RANKS: u32 = 0x0e;

// The low bits of births.
pub(super) const SITE_STACK: u8 = 3;
pub(super) const STACK_NARROW: u8 = 0;
pub(super) const STACK_WIDE: u8 = 1;
pub(super) const STACK_GIVEN: u8 = 2;
pub(super) const SITE_CALL: u8 = 4;
pub(super) const SITE_SIZE: u8 = 8;

// The high bits of births: where the address comes from.
pub(super) const PLACE_SHIFT: u32 = 4;
pub(super) const PLACE_FIRST: u8 = 0;
pub(super) const PLACE_NEXT: u8 = 1;
pub(super) const PLACE_OLDER: u8 = 2;
pub(super) const PLACE_NEWER: u8 = 3;
pub(super) const PLACE_NEAR: u8 = 4;
pub(super) const PLACE_DISTANT: u8 = 5;
pub(super) const PLACE_GIVEN: u8 = 6;

// Bytes of PLACES.
pub(super) const NEAR_STEPS: u8 = 0x10;
pub(super) const STRAY_OLDER: u8 = 0x20;
pub(super) const STRAY_NEWER: u8 = 0x21;
pub(super) const STRAY_FIRST: u8 = 0x22;
pub(super) const STRAY_END: u8 = 0x40;

// How a block dies: below RANKS its rank among the live blocks of the thread, newest first.
pub(super) const RANKS: u32 = 0x3c;
pub(super) const OLDER: u8 = 0x3c;
pub(super) const NEWER: u8 = 0x3d;
pub(super) const DISTANT: u8 = 0x3e;
pub(super) const ELSEWHERE: u8 = 0x3f;

// A call: entry point and operation.
pub(super) const CALL_API: u8 = 0x1f;
pub(super) const CALL_OP: u8 = 0xe0;
pub(super) const CALL_ALLOC: u8 = 0x00;
pub(super) const CALL_MOVE_IN: u8 = 0x20;
pub(super) const CALL_RESIZE: u8 = 0x40;

/// In ADDRESSES: a distance that is no multiple of 8 follows.
pub(super) const UNALIGNED: u64 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    /// The rows of tables in the specification that begin with a name.
    fn rows(name: &str) -> Vec<&'static str> {
        include_str!("../../../docs/FORMAT.md")
            .lines()
            .filter(|line| line.starts_with('|') && line.contains(name))
            .collect()
    }

    #[test]
    fn the_numbers_of_the_coding_are_those_of_the_specification() {
        macro_rules! bytes {
            ($($name:ident)*) => {[$((stringify!($name), $name as u64)),*]};
        }
        let bytes = bytes!(FREE MOVE_OUT RESIZE MAP UNMAP REMAP BRK TYPED TYPED_DISTANT TYPED_ELSEWHERE STACK_NARROW STACK_WIDE STACK_GIVEN SITE_CALL SITE_SIZE
            PLACE_FIRST PLACE_NEXT PLACE_OLDER PLACE_NEWER PLACE_NEAR PLACE_DISTANT PLACE_GIVEN NEAR_STEPS STRAY_OLDER
            STRAY_NEWER STRAY_FIRST STRAY_END OLDER NEWER DISTANT ELSEWHERE CALL_ALLOC CALL_MOVE_IN CALL_RESIZE);
        for (name, value) in bytes {
            let wanted = format!("| `{name}` | {value:#04x} |");
            assert!(rows(name).iter().any(|row| row.starts_with(&wanted)), "{wanted}");
        }
        let columns = bytes!(CONTROL THREADS TIMES STACKS SIZES ADDRESSES PLACES DEATHS REST TYPES);
        assert_eq!(columns.len(), COLUMNS);
        for (name, value) in columns {
            let wanted = format!("| {value} | `{name}` |");
            assert!(rows(name).iter().any(|row| row.starts_with(&wanted)), "{wanted}");
        }
        assert!(rows("RANKS").contains(
            &format!("| below `RANKS` | {RANKS:#04x} | the live block of this thread with so many newer ones |")
                .as_str()
        ));
        let typed = format!("| `TYPED` + below `TYPED_RANKS` | {TYPED_RANKS:#04x} | the live block of this thread with so many newer ones |");
        assert!(rows("TYPED_RANKS").contains(&typed.as_str()));
        assert_eq!(
            (PLACE_SHIFT, SITE_STACK, CALL_API | CALL_OP, UNALIGNED),
            (4, 3, 0xff, 1)
        );
    }
}
