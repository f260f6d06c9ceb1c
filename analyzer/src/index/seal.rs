//! Makes the checksums of a hostile index hold, so that the fuzz target sees what lies behind them. Built for fuzzing alone.

use super::layout::{ColumnPlace, Head, Rest, HEAD};
use super::stamp::Stamp;
use crate::table::PIECE;
use crate::tape::Tape;

/// The file with the stamp of this tape and checksums that hold; nothing when it has no layout at all.
pub fn seal(tape: &Tape, file: &[u8]) -> Option<Vec<u8>> {
    let offset = u64::from_le_bytes(file.get(8..16)?.try_into().ok()?);
    let (columns, rest) = file.split_at_checked(usize::try_from(offset).ok()?)?;
    let mut columns = columns.to_vec();
    let mut rest: Rest = postcard::from_bytes(rest).ok()?;
    rest.stamp = Stamp::of(tape);
    for (place, width) in places(&mut rest) {
        place.checksums = checksums(&columns, place, width).unwrap_or_default();
    }
    let rest = postcard::to_allocvec(&rest).ok()?;
    let head = Head {
        offset,
        length: rest.len() as u64,
        checksum: crc32fast::hash(&rest),
    };
    columns.get_mut(..HEAD)?.copy_from_slice(&head.to_bytes());
    Some([columns, rest].concat())
}

fn checksums(columns: &[u8], place: &ColumnPlace, width: usize) -> Option<Vec<u32>> {
    let start = usize::try_from(place.start).ok()?;
    let length = usize::try_from(place.numbers).ok()?.checked_mul(width)?;
    let column = columns.get(start..start.checked_add(length)?)?;
    Some(column.chunks(PIECE * width).map(crc32fast::hash).collect())
}

/// The columns, and how many bytes a number of each has.
fn places(rest: &mut Rest) -> Vec<(&mut ColumnPlace, usize)> {
    let mut places = vec![
        (&mut rest.birth, 4),
        (&mut rest.death, 4),
        (&mut rest.address, 8),
        (&mut rest.size, 4),
        (&mut rest.stack, 4),
        (&mut rest.thread, 4),
        (&mut rest.kind, 4),
        (&mut rest.marks, 1),
        (&mut rest.successor, 4),
        (&mut rest.predecessor, 4),
        (&mut rest.mark_times, 8),
        (&mut rest.mark_steps, 8),
        (&mut rest.steps, 1),
        (&mut rest.lives, 1),
    ];
    for stratum in &mut rest.strata {
        places.extend([
            (&mut stratum.row, 4),
            (&mut stratum.death, 8),
            (&mut stratum.size, 8),
            (&mut stratum.stack, 4),
            (&mut stratum.thread, 4),
            (&mut stratum.kind, 4),
            (&mut stratum.marks, 1),
        ]);
    }
    places
}
