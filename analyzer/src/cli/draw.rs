//! `timeline` and `flamegraph`.

use super::args::{FlamegraphArgs, TimelineArgs};
use super::compare::Pair;
use super::load::{check, load, load_at, resolver, trust};
use super::output::{print, write, wrote};
use super::stats::{check_question, filter_query, print_json, resolve, units};
use super::Failure;
use crate::query::{self, Instant, Measure, Span, TimeSpec};
use crate::report::{columns, flamegraph as draw, plot, text_instant, timeline_svg, FlameOptions};
use crate::table::{Heap, Moment};
use std::path::{Path, PathBuf};

/// Columns of a picture; more than there are pixels is wasted.
const SVG_POINTS: usize = 800;
/// Width of a terminal that does not tell.
const USUAL_WIDTH: usize = 80;

pub(super) fn timeline(args: &TimelineArgs) -> Result<(), Failure> {
    let heap = load(&args.tape, &args.scope.reading.place())?;
    let notes = check(&heap, &args.scope.reading)?;
    let points = match args.points {
        Some(points) => points as usize,
        None if args.svg.is_some() => SVG_POINTS,
        None => columns(width()),
    };
    let query = filter_query(&args.scope.filter);
    check_question(&query, &heap)?;
    let timeline = query::timeline(&heap, &query, points, &*resolver(&args.scope)?);
    trust(&heap)?;
    if args.json {
        return print_json("timeline", &timeline, &notes);
    }
    match &args.svg {
        Some(path) => {
            write(path, timeline_svg(&timeline, units(&args.units)).as_bytes(), args.force)?;
            wrote(path);
            Ok(())
        }
        None => print(&plot(&timeline, units(&args.units))),
    }
}

/// Columns of the terminal: as `COLUMNS` says, else as the terminal itself does.
pub(super) fn width() -> usize {
    let said = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    said.or_else(|| terminal_size::terminal_size().map(|(width, _)| usize::from(width.0)))
        .unwrap_or(USUAL_WIDTH)
}

pub(super) fn flamegraph(args: &FlamegraphArgs) -> Result<(), Failure> {
    let query = filter_query(&args.scope.filter);
    let measure = if args.blocks { Measure::Blocks } else { Measure::Bytes };
    let resolver = resolver(&args.scope)?;
    let at = |heap: &Heap, moment: &Moment| text_instant(&Instant::of(heap, moment));
    let (flame, options, tape) = match (&args.diff[..], &args.tape) {
        ([old, new], _) => {
            let pair = Pair::load(old, new, &args.scope.reading)?;
            pair.check(&args.scope.reading)?;
            for (heap, _) in [pair.older(), pair.newer()] {
                check_question(&query, heap)?;
            }
            let flame = query::flame_diff(pair.older(), pair.newer(), &query, &*resolver);
            pair.trust()?;
            let ((old, old_moment), (new, new_moment)) = (pair.older(), pair.newer());
            let title = format!("{} at {}", new.name, at(new, new_moment));
            let subtitle = format!("red grew, blue shrank since {} at {}", old.name, at(old, old_moment));
            (
                flame,
                FlameOptions {
                    title,
                    subtitle,
                    measure,
                    is_diff: true,
                },
                new.name.to_string(),
            )
        }
        (_, Some(tape)) => {
            let (heap, moment) = load_at(tape, TimeSpec::End, &args.scope.reading)?;
            check(&heap, &args.scope.reading)?;
            check_question(&query, &heap)?;
            let (span, subtitle) = match &args.between {
                Some(span) => {
                    let (from, until) = resolve(span, &heap)?;
                    let title = format!("allocated from {} to {}", at(&heap, &from), at(&heap, &until));
                    (Span::Between(from, until), title)
                }
                None => (Span::At(moment), format!("alive at {}", at(&heap, &moment))),
            };
            let flame = query::flame(&heap, &span, &query, &*resolver);
            trust(&heap)?;
            let title = heap.name.to_string();
            (
                flame,
                FlameOptions {
                    title: title.clone(),
                    subtitle,
                    measure,
                    is_diff: false,
                },
                title,
            )
        }
        _ => return Err(Failure::Usage("expected a tape, or --diff OLD NEW".to_owned())),
    };
    let svg = draw(&flame, &options).map_err(Failure::Failed)?;
    let output = args.output.clone().unwrap_or_else(|| default_output(&tape));
    write(&output, &svg, args.force)?;
    wrote(&output);
    Ok(())
}

/// `svc.flamegraph.svg` for `/tmp/svc.tape`, in the current folder.
fn default_output(tape: &str) -> PathBuf {
    let stem = Path::new(tape).file_stem().unwrap_or_default();
    let mut name = stem.to_owned();
    name.push(".flamegraph.svg");
    PathBuf::from(name)
}
