//! Which sites grow over the run, how fast, and whether that is a leak, a warm-up, or a cache.

use super::cells::sum_live;
use super::tally::{gather_tallies, SiteRow, Tallies, Tally};
use super::trend::{trend, Shape, Trend};
use super::{Grouping, Instant, Query};
use crate::symbols::Resolver;
use crate::table::{Heap, Level, Moment};
use crate::text::Text;
use heaptape_format::Micros;
use serde::Serialize;

/// Parts of the run by which the blocks of the final level are told apart.
const PARTS: usize = 8;

/// How to look for growth.
#[derive(Clone, Debug)]
pub struct GrowthQuery {
    /// Instants, evenly spaced in time, at which levels are taken.
    pub points: usize,
    /// The part of the recording that is looked at.
    pub from: Moment,
    /// Its end.
    pub until: Moment,
    /// How many bytes there may be.
    pub limit: Option<u64>,
    /// Rows that are no growth, too.
    pub all: bool,
}

/// The course of a row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Course {
    levels: Vec<Level>,
    survivors: Vec<u128>,
}

impl Tally for Course {
    fn merge(&mut self, other: &Course) {
        self.levels
            .resize(self.levels.len().max(other.levels.len()), Level::default());
        for (own, &more) in self.levels.iter_mut().zip(&other.levels) {
            own.add(more);
        }
        self.survivors.resize(PARTS, 0);
        for (own, more) in self.survivors.iter_mut().zip(&other.survivors) {
            *own += more;
        }
    }
}

impl Course {
    fn trend(&self, step_seconds: f64) -> Trend {
        let bytes: Vec<u128> = self.levels.iter().map(|level| level.size).collect();
        trend(&bytes, step_seconds, &self.survivors)
    }
}

/// Growth of one row, or of all together.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GrowthSum {
    /// At the end.
    #[serde(flatten)]
    pub level: Level,
    /// The course in numbers.
    #[serde(flatten)]
    pub trend: Trend,
    /// Bytes alive at each point.
    pub sizes: Vec<u128>,
    /// Seconds from the end until the limit is reached if it goes on like this, and all else stays as it is; nothing when it does not grow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds_to_limit: Option<f64>,
}

/// Sites by their growth.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Growth {
    /// The tape.
    pub tape: Text,
    /// Where the levels are taken from.
    pub from: Instant,
    /// And up to.
    pub until: Instant,
    /// The time of each point, microseconds since the recording began.
    pub points: Vec<u64>,
    /// What was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// What rows are made of.
    pub by: Grouping,
    /// All rows together, also those that do not grow.
    pub total: GrowthSum,
    /// Steady growth first, then by slope, size and key, all falling.
    pub rows: Vec<SiteRow<GrowthSum>>,
    /// Growing rows that were left out.
    pub omitted_rows: usize,
    /// Rows that do not grow.
    pub level_rows: usize,
}

/// Ranks sites by their growth between two instants.
pub fn growth(heap: &Heap, which: &GrowthQuery, query: &Query, resolver: &dyn Resolver) -> Growth {
    let (begin, end) = (which.from.time.get(), which.until.time.get().max(which.from.time.get()));
    let count = which.points.max(2);
    let moments: Vec<Moment> = (1..=count)
        .map(|point| {
            let time = begin + (u128::from(end - begin) * point as u128 / count as u128) as u64;
            match point == count {
                true => which.until,
                false => Moment {
                    cut: heap.clock.cut_at(Micros(time)),
                    time: Micros(time),
                    by_time: true,
                },
            }
        })
        .collect();
    let mut courses: Tallies<Course> = Tallies::new();
    for (point, moment) in moments.iter().enumerate() {
        for (key, cell) in sum_live(heap, moment, &query.filter, &query.by) {
            let course = courses.entry(key).or_default();
            course.levels.resize(count, Level::default());
            course.levels[point] = cell.all;
        }
    }
    survivors(heap, which, query, &mut courses);
    let by_key = gather_tallies(heap, &courses, query, resolver, false, |_, _, _, _| true);

    let step_seconds = (end - begin) as f64 / 1e6 / count as f64;
    let mut total = Course {
        levels: vec![Level::default(); count],
        survivors: vec![0; PARTS],
    };
    by_key.values().for_each(|(course, _)| total.merge(course));
    let now = total.levels[count - 1].size;
    let of = |course: &Course| {
        let trend = course.trend(step_seconds);
        let left = |limit: u64| (u128::from(limit).saturating_sub(now)) as f64;
        let grows = trend.slope > 0.0 && trend.shape < Shape::Step;
        GrowthSum {
            level: course.levels.last().copied().unwrap_or_default(),
            sizes: course.levels.iter().map(|level| level.size).collect(),
            seconds_to_limit: which.limit.filter(|_| grows).map(|limit| left(limit) / trend.slope),
            trend,
        }
    };
    let mut rows: Vec<SiteRow<GrowthSum>> = by_key
        .iter()
        .map(|(key, (course, function))| SiteRow {
            key: key.clone(),
            function: function.clone(),
            sum: of(course),
        })
        .collect();
    let is_level = |row: &SiteRow<GrowthSum>| matches!(row.sum.trend.shape, Shape::Level | Shape::Warmup);
    let level_rows = rows.iter().filter(|row| is_level(row)).count();
    if !which.all {
        rows.retain(|row| !is_level(row));
    }
    rows.sort_unstable_by(|a, b| {
        let shapes = a.sum.trend.shape.cmp(&b.sum.trend.shape);
        let slopes = b.sum.trend.slope.total_cmp(&a.sum.trend.slope);
        let levels = b.sum.level.cmp(&a.sum.level);
        shapes.then(slopes).then(levels).then_with(|| b.key.cmp(&a.key))
    });
    let kept = match query.rows {
        0 => rows.len(),
        wanted => wanted.min(rows.len()),
    };
    let omitted_rows = rows.len() - kept;
    rows.truncate(kept);
    Growth {
        tape: heap.name.clone(),
        from: Instant::of(heap, &which.from),
        until: Instant::of(heap, &which.until),
        points: moments.iter().map(|moment| moment.time.get()).collect(),
        limit: which.limit,
        by: query.by.clone(),
        total: of(&total),
        rows,
        omitted_rows,
        level_rows,
    }
}

/// Adds, of what is alive at the end, in which part of the run it was born.
fn survivors(heap: &Heap, which: &GrowthQuery, query: &Query, courses: &mut Tallies<Course>) {
    let (begin, end) = (which.from.time.get(), which.until.time.get());
    let first_row = |part: usize| {
        let time = begin + (u128::from(end.saturating_sub(begin)) * part as u128 / PARTS as u128) as u64;
        heap.allocations.born_before(heap.clock.cut_at(Micros(time)))
    };
    let bounds: Vec<usize> = (1..PARTS).map(first_row).collect();
    let wanted = query.filter.rows(heap);
    let tallies = super::tally::tally(
        heap,
        &heap.candidates(which.until.cut),
        which.until.cut.get(),
        &query.by,
        || (),
        |(), item| {
            let is_there = wanted.accepts(item) && heap.is_home_alive(item.thread, &which.until);
            is_there.then(|| bounds.partition_point(|&bound| bound <= item.row as usize))
        },
        |course: &mut Course, item, part| {
            course.survivors.resize(PARTS, 0);
            course.survivors[part] += heap.level(item).size;
        },
    );
    for (key, course) in tallies {
        courses.entry(key).or_default().merge(&course);
    }
}
