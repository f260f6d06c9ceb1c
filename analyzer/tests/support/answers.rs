//! Everything that can be asked of a heap.

use heaptape::query::{
    arenas, diff, domains, epochs, flame, fragmentation, growth, leaks, lifetimes, overview, peak, processes, reallocs,
    rss, sizes, snapshot, temporary, threads, timeline, tree, unwinding, Group, GrowthQuery, LeakQuery, Query, Span,
    AT_ONCE, REGION_GAP,
};
use heaptape::symbols::NoSymbols;
use heaptape::table::{Heap, Moment};
use heaptape_format::{EventNo, Micros, ProcessIx};

/// The answers, in one text.
pub fn answers(heap: &Heap) -> String {
    answers_at(heap, 60)
}

/// The same at so many instants, evenly spaced by events.
pub fn answers_at(heap: &Heap, instants: u64) -> String {
    let end = heap.end().cut.get();
    let mut text = format!("{:?} {:?} {:?}", heap.counters, heap.peak(), domains(heap));
    let queries = [Group::Line, Group::Traceback, Group::Thread, Group::Type, Group::Size].map(|group| Query {
        by: group.into(),
        rows: 0,
        ..Query::default()
    });
    let moment = |cut: u64| Moment {
        cut: EventNo(cut),
        time: heap.clock.time_of(EventNo(cut.saturating_sub(1))),
        by_time: cut.is_multiple_of(2),
    };
    for cut in (0..=end).step_by(1 + (end / instants) as usize) {
        let at = moment(cut);
        for query in &queries {
            text += &format!("{:?}", snapshot(heap, &at, query, &NoSymbols).rows);
        }
        let which = LeakQuery {
            born_from: Some(moment(cut / 2)),
            born_until: Some(at),
            alive_at: Some(moment(cut + (end - cut) / 2)),
            ..LeakQuery::default()
        };
        let never = LeakQuery {
            alive_at: None,
            ..which.clone()
        };
        for which in [which, never] {
            text += &format!("{:?}", leaks(heap, &which, &queries[1], &NoSymbols));
        }
        text += &format!("{:?}", diff((heap, &at), (heap, &heap.end()), &queries[0], &NoSymbols));
        text += &format!("{:?}", arenas(heap, &at, 25, &queries[3], &NoSymbols));
        text += &format!(
            "{:?}",
            flame(heap, &Span::Between(at, heap.end()), &queries[0], &NoSymbols)
        );
        for process in 0..heap.catalog.processes.len() as u32 {
            let mut rows = Vec::new();
            heap.inherited(ProcessIx(process), &at, |row| rows.push(row));
            rows.sort_unstable();
            text += &format!("{rows:?}");
        }
        let share = u128::from(heap.duration().get()) * u128::from(cut) / u128::from(end.max(1));
        text += &format!("{:?}", heap.clock.cut_at(Micros(share as u64)));
    }
    let at = heap.end();
    text += &format!("{:?}", processes(heap, &at, &queries[0], &NoSymbols));
    text += &format!("{:?}", threads(heap, &at, &queries[0], &NoSymbols));
    text += &format!("{:?}", fragmentation(heap, &at, REGION_GAP, &queries[0], &NoSymbols));
    text += &format!("{:?}", rss(heap, Some(&at), &queries[0]));
    for query in &queries {
        text += &format!("{:?}", lifetimes(heap, query, &NoSymbols));
        text += &format!("{:?}", temporary(heap, AT_ONCE, query, &NoSymbols));
        text += &format!("{:?}", reallocs(heap, query, &NoSymbols));
        text += &format!("{:?}", sizes(heap, None, query, &NoSymbols));
        text += &format!("{:?}", peak(heap, query, &NoSymbols));
    }
    let course = GrowthQuery {
        points: 20,
        from: heap.start(),
        until: heap.end(),
        limit: None,
        all: true,
    };
    text += &format!("{:?}", growth(heap, &course, &queries[0], &NoSymbols));
    for marker in heap.catalog.markers.iter().take(3) {
        text += &format!("{:?}", epochs(heap, marker.name.as_str(), 1, &queries[0], &NoSymbols));
    }
    text += &format!("{:?}", tree(heap, &heap.end(), &queries[0], 0, 100, &NoSymbols));
    text + &format!(
        "{:?} {:?} {:?}",
        unwinding(heap),
        timeline(heap, &queries[0], 50, &NoSymbols),
        overview(heap)
    )
}
