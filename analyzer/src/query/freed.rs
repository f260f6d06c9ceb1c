//! What was freed before full history begins: of a folded span, the totals by stack that are all that the tape has of it.

use super::cells::{Cell, Cells};
use super::group::Facts;
use super::stats::{gather, statistics};
use super::{NoSuchTime, Query, Statistics};
use crate::symbols::Resolver;
use crate::table::{Heap, Level};
use crate::tape::Tape;
use heaptape_format::read_folded;

/// Whether totals by stack can be asked this: they know neither sizes nor types, threads, processes or entry points.
pub fn is_of_stacks(query: &Query) -> bool {
    let filter = &query.filter;
    query.by.is_by_stack_alone() && filter.only.is_empty() && filter.without.is_empty() && !filter.inherited
}

/// The blocks that were freed before full history begins, and that no forked process had any more, by who had asked for them. The second part of the answer are those of stacks that were not kept apart: they are in no row
/// and not in the total.
///
/// # Errors
/// When nothing of the tape was folded away, or what there is of it is damaged.
pub fn freed(
    heap: &Heap,
    tape: &Tape,
    query: &Query,
    resolver: &dyn Resolver,
) -> Result<(Statistics, Level), NoSuchTime> {
    let mut found = None;
    for block in &tape.scan().blocks {
        let folded = read_folded(tape.source(), block).map_err(|damage| NoSuchTime {
            message: format!(
                "{}: the totals of what was folded away are damaged: {damage}",
                heap.name
            ),
        })?;
        found = folded.map(|folded| (block.generation, folded)).or(found);
    }
    let Some((generation, folded)) = found else {
        return Err(NoSuchTime {
            message: format!("{}: history is full from the start; nothing was folded away", heap.name),
        });
    };
    let mut cells = Cells::new();
    for site in &folded.sites {
        let stack = heap.catalog.stacks.resolve(generation, site.stack);
        let cell: &mut Cell = cells.entry((stack, Facts::default())).or_default();
        cell.all.add(Level {
            size: u128::from(site.bytes),
            count: site.blocks,
        });
    }
    let others = Level {
        size: u128::from(folded.other_bytes),
        count: folded.other_blocks,
    };
    let groups = gather(heap, &cells, query, resolver);
    let mut report = statistics(heap, &heap.start(), groups, query);
    // Of a sample, these are the blocks that were recorded, whose sizes are not known one by one.
    report.standard_error = None;
    for row in &mut report.rows {
        row.standard_error = None;
    }
    Ok((report, others))
}
