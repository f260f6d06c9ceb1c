//! How live blocks lie in the address space: how full their pages are, and what lies between them.
//!
//! What a process holds resident for its heap is whole pages. A page with one live byte stays; what lies in it beside live blocks is lost until these are freed.

use super::snapshot::is_mapped;
use super::stats::accepted_anywhere;
use super::{Instant, Query};
use crate::symbols::Resolver;
use crate::table::{Heap, Level, MappingKind, MappingRow, Moment};
use crate::text::Text;
use heaptape_format::ProcessIx;
use serde::Serialize;

/// Pages that are filled alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PageFill {
    /// Filled to at least so many percent, and to less than ten more; the last has the full ones.
    pub percent: u32,
    /// Pages.
    pub pages: u64,
    /// Live bytes in them.
    pub live: u128,
}

/// Holes of like length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct HoleColumn {
    /// The shortest: a power of two.
    pub from: u64,
    /// All of them.
    #[serde(flatten)]
    pub level: Level,
}

/// A hole between two live blocks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hole {
    /// Where it begins, in hexadecimal.
    pub address: String,
    /// Its length in bytes.
    pub length: u64,
    /// Id of its process, if known.
    pub pid: Option<u32>,
}

/// A stretch of address space with live blocks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Region {
    /// Where it begins, in hexadecimal.
    pub address: String,
    /// From there to its end: of the mapping, or of the last block.
    pub length: u64,
    /// The mapping that the program made, or `heap` for what the allocator mapped for itself.
    pub kind: &'static str,
    /// Id of its process, if known.
    pub pid: Option<u32>,
    /// Live blocks.
    pub live: Level,
    /// Pages with any live byte, in bytes.
    pub pages: u128,
    /// Between its blocks.
    pub holes: Level,
}

/// The address space of one instant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fragmentation {
    /// The tape.
    pub tape: Text,
    /// When.
    pub at: Instant,
    /// Bytes of a page.
    pub page: u64,
    /// A longer hole, outside of the program's own mappings, is the end of a region.
    pub gap: u64,
    /// Live blocks.
    pub live: Level,
    /// Pages with any live byte, in bytes.
    pub pages: u128,
    /// Pages by how full they are, emptiest first.
    pub fill: Vec<PageFill>,
    /// Holes between neighbours of a region.
    pub holes: Level,
    /// Holes by length, shortest first; only those that there are.
    pub holes_by_length: Vec<HoleColumn>,
    /// Longest first.
    pub largest_holes: Vec<Hole>,
    /// Those whose pages hold the most besides live bytes first.
    pub regions: Vec<Region>,
    /// Regions that were left out.
    pub omitted_regions: usize,
}

/// A live block.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Block {
    process: Option<ProcessIx>,
    start: u64,
    size: u64,
    row: u32,
}

/// How the blocks that the filter accepts lie at a moment. What forked processes inherited is left out.
pub fn fragmentation(heap: &Heap, moment: &Moment, gap: u64, query: &Query, resolver: &dyn Resolver) -> Fragmentation {
    let wanted = query.filter.rows(heap);
    let accepted = accepted_anywhere(heap, query, resolver);
    let mut blocks = Vec::new();
    for piece in heap.candidates(moment.cut) {
        heap.visit(&piece, moment.cut.get(), |item| {
            let is_there = heap.is_home_alive(item.thread, moment);
            if is_there && accepted[item.stack.0 as usize] && wanted.accepts(item) {
                blocks.push(Block {
                    process: heap.catalog.process_of(item.thread),
                    start: heap.allocations.address(item.row as usize).get(),
                    size: item.size,
                    row: item.row,
                });
            }
        });
    }
    blocks.sort_unstable();
    let page = u64::from(heap.catalog.header.page_bytes).max(1);
    let mut walk = Walk::new(heap, moment, page, gap);
    blocks.iter().for_each(|block| walk.step(block));
    walk.finish(query.rows)
}

/// The walk over all blocks in the order of their addresses.
struct Walk<'a> {
    heap: &'a Heap,
    /// The mappings of the moment, by process and start.
    mappings: Vec<&'a MappingRow>,
    page: u64,
    report: Fragmentation,
    holes_by_bits: [Level; 64],
    holes: Vec<(u64, u64, Option<ProcessIx>)>,
    current: Option<Current>,
}

/// The region that is walked through.
struct Current {
    process: Option<ProcessIx>,
    start: u64,
    /// Up to where blocks reach.
    end: u64,
    /// The mapping that it lies in, by its place.
    mapping: Option<usize>,
    live: Level,
    pages: u128,
    holes: Level,
    /// The page that is being filled, with its live bytes.
    open: Option<(u64, u64)>,
}

impl<'a> Walk<'a> {
    fn new(heap: &'a Heap, moment: &Moment, page: u64, gap: u64) -> Walk<'a> {
        let rows = heap.mappings.rows.iter();
        let mut mappings: Vec<&MappingRow> = rows.filter(|row| is_mapped(heap, row, moment)).collect();
        mappings.sort_unstable_by_key(|row| (row.process, row.start));
        let fill = |tenth: u32| PageFill {
            percent: tenth * 10,
            ..PageFill::default()
        };
        Walk {
            heap,
            mappings,
            page,
            report: Fragmentation {
                tape: heap.name.clone(),
                at: Instant::of(heap, moment),
                page,
                gap,
                live: Level::default(),
                pages: 0,
                fill: (0..10).map(fill).collect(),
                holes: Level::default(),
                holes_by_length: Vec::new(),
                largest_holes: Vec::new(),
                regions: Vec::new(),
                omitted_regions: 0,
            },
            holes_by_bits: [Level::default(); 64],
            holes: Vec::new(),
            current: None,
        }
    }

    fn mapping_of(&self, process: Option<ProcessIx>, address: u64) -> Option<usize> {
        let after = self
            .mappings
            .partition_point(|row| (row.process, row.start.get()) <= (process, address));
        let last = after.checked_sub(1)?;
        let row = self.mappings[last];
        (row.process == process && address - row.start.get() < row.length.get()).then_some(last)
    }

    fn step(&mut self, block: &Block) {
        let mapping = self.mapping_of(block.process, block.start);
        let goes_on = self.current.as_ref().is_some_and(|region| {
            let is_near = mapping.is_some() || block.start.saturating_sub(region.end) <= self.report.gap;
            region.process == block.process && region.mapping == mapping && is_near
        });
        if !goes_on {
            // A block that begins in a mapping may reach beyond it, over blocks of the next region.
            let before = self.current.as_ref().filter(|region| region.process == block.process);
            let covered = before.map_or(0, |region| region.end);
            self.close();
            self.current = Some(Current {
                process: block.process,
                start: block.start,
                end: block.start.max(covered),
                mapping,
                live: Level::default(),
                pages: 0,
                holes: Level::default(),
                open: None,
            });
        }
        let level = self.heap.level_of(block.row);
        let Some(mut region) = self.current.take() else { return };
        if block.start > region.end {
            self.hole(&mut region, block.start);
        }
        region.live.add(level);
        // A tape can say that blocks overlap; every byte counts once.
        let start = block.start.max(region.end);
        let end = block.start.saturating_add(block.size);
        if end > start {
            self.cover(&mut region, start, end);
            region.end = end;
        }
        self.current = Some(region);
    }

    fn hole(&mut self, region: &mut Current, until: u64) {
        let length = until - region.end;
        let hole = Level {
            size: u128::from(length),
            count: 1,
        };
        region.holes.add(hole);
        self.report.holes.add(hole);
        self.holes_by_bits[length.ilog2() as usize].add(hole);
        self.holes.push((length, region.end, region.process));
    }

    /// Live bytes from `start` to `end`, behind all before.
    fn cover(&mut self, region: &mut Current, start: u64, end: u64) {
        let length = self.page;
        let (first, last) = (start / length, (end - 1) / length);
        let bytes_in = |page: u64| {
            let begin = page.saturating_mul(length);
            end.min(begin.saturating_add(length)) - start.max(begin)
        };
        match &mut region.open {
            Some((page, bytes)) if *page == first => *bytes += bytes_in(first),
            _ => {
                let bytes = bytes_in(first);
                self.close_page(region);
                region.open = Some((first, bytes));
            }
        }
        if last > first {
            let bytes = bytes_in(last);
            self.close_page(region);
            // Those between are full, and may be very many.
            self.add_pages(region, last - first - 1, self.page);
            region.open = Some((last, bytes));
        }
    }

    fn close_page(&mut self, region: &mut Current) {
        if let Some((_, bytes)) = region.open.take() {
            self.add_pages(region, 1, bytes);
        }
    }

    fn add_pages(&mut self, region: &mut Current, pages: u64, bytes_in_each: u64) {
        if pages == 0 {
            return;
        }
        let tenth = (u128::from(bytes_in_each) * 10 / u128::from(self.page)).min(9);
        let fill = &mut self.report.fill[tenth as usize];
        // Each process of a hostile tape can fill an address space of its own.
        fill.pages = fill.pages.saturating_add(pages);
        fill.live += u128::from(pages) * u128::from(bytes_in_each);
        region.pages += u128::from(pages) * u128::from(self.page);
    }

    fn close(&mut self) {
        let Some(mut region) = self.current.take() else { return };
        self.close_page(&mut region);
        self.report.live.add(region.live);
        self.report.pages += region.pages;
        let mapping = region.mapping.map(|mapping| self.mappings[mapping]);
        let (start, length) = match mapping {
            Some(row) => (row.start.get(), row.length.get()),
            None => (region.start, region.end - region.start),
        };
        self.report.regions.push(Region {
            address: format!("{start:#x}"),
            length,
            kind: match mapping.map(|row| row.kind) {
                None => "heap",
                Some(MappingKind::Anonymous) => "anonymous",
                Some(MappingKind::File) => "file",
                Some(MappingKind::Brk) => "brk",
                Some(MappingKind::Arena) => "arena",
            },
            pid: self.pid(region.process),
            live: region.live,
            pages: region.pages,
            holes: region.holes,
        });
    }

    fn pid(&self, process: Option<ProcessIx>) -> Option<u32> {
        let info = self.heap.catalog.processes.get(process?.get() as usize);
        info.map(|info| info.pid)
    }

    fn finish(mut self, rows: usize) -> Fragmentation {
        self.close();
        self.holes.sort_unstable_by(|a, b| b.cmp(a));
        let kept = if rows == 0 { self.holes.len() } else { rows };
        let largest = self.holes.iter().take(kept).map(|&(length, start, process)| Hole {
            address: format!("{start:#x}"),
            length,
            pid: self.pid(process),
        });
        self.report.largest_holes = largest.collect();
        let columns = self.holes_by_bits.iter().enumerate();
        self.report.holes_by_length = columns
            .filter(|(_, level)| level.count > 0)
            .map(|(bits, &level)| HoleColumn { from: 1 << bits, level })
            .collect();
        let regions = &mut self.report.regions;
        // Equal ones stay in the order of their addresses.
        regions.sort_by_key(|region| std::cmp::Reverse((region.pages.saturating_sub(region.live.size), region.pages)));
        let kept = if rows == 0 {
            regions.len()
        } else {
            rows.min(regions.len())
        };
        self.report.omitted_regions = regions.len() - kept;
        regions.truncate(kept);
        self.report
    }
}
