//! The call tree from the outside in: who called whom to hold how much.

use super::cells::sum_live;
use super::key::KeyFrame;
use super::stats::accepted_stacks;
use super::{Grouping, Instant, Query};
use crate::symbols::{Names, Resolver};
use crate::table::{Heap, Level, Moment};
use crate::tape::{StackIx, StackTable};
use crate::text::Text;
use serde::Serialize;
use std::collections::BTreeMap;

/// Deepest level that is shown; what lies deeper is counted in its caller there.
const DEEPEST: usize = 500;

/// A frame and everything that was allocated below it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Node {
    /// Where the call was made.
    #[serde(flatten)]
    pub frame: KeyFrame,
    /// Everything below it.
    pub total: Level,
    /// What it allocated itself.
    pub own: Level,
    /// Largest first.
    pub children: Vec<Node>,
    /// Children that were left out.
    pub omitted: usize,
}

/// The tree of one instant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tree {
    /// The tape.
    pub tape: Text,
    /// When.
    pub at: Instant,
    /// Everything that the filter accepts.
    pub total: Level,
    /// Outermost frames.
    pub roots: Vec<Node>,
    /// Outermost frames that were left out.
    pub omitted: usize,
}

/// The call tree of what was alive at `moment`. `query.rows` is the most children of a node; children below `least` millionths of the
/// total, and levels below `depth`, are left out.
pub fn tree(heap: &Heap, moment: &Moment, query: &Query, least: u32, depth: usize, resolver: &dyn Resolver) -> Tree {
    let cells = sum_live(heap, moment, &query.filter, &Grouping::default());
    let names = Names::of(heap, resolver, query.view, cells.keys().map(|&(stack, _)| stack));
    let accepted = accepted_stacks(heap, &names, query, cells.keys().map(|&(stack, _)| stack));
    let trie = &heap.catalog.stacks;
    // The nearest frame outwards that the view shows, itself included, stands for every stack. Parents have lower ids than their children.
    let mut shown = vec![StackTable::ROOT; trie.len()];
    for stack in (1..trie.len() as u32).map(StackIx) {
        let parent = trie.parent(stack).unwrap_or(StackTable::ROOT);
        shown[stack.0 as usize] = if names.shows(heap, stack) {
            stack
        } else {
            shown[parent.0 as usize]
        };
    }
    let mut own = vec![Level::default(); trie.len()];
    for (&(stack, _), cell) in cells.iter().filter(|((stack, _), _)| accepted[stack.0 as usize]) {
        own[shown[stack.0 as usize].0 as usize].add(cell.all);
    }
    // One pass from the end sums the subtrees.
    let mut totals = own.clone();
    let mut children: BTreeMap<StackIx, Vec<StackIx>> = BTreeMap::new();
    for stack in (1..trie.len() as u32).rev().map(StackIx) {
        let total = totals[stack.0 as usize];
        if let Some(parent) = trie.parent(stack).filter(|_| total.count > 0) {
            let parent = shown[parent.0 as usize];
            totals[parent.0 as usize].add(total);
            children.entry(parent).or_default().push(stack);
        }
    }
    let total = totals[0];
    let builder = Builder {
        trie,
        names: &names,
        own: &own,
        totals: &totals,
        children: &children,
        least: total.size * u128::from(least) / 1_000_000,
        rows: query.rows,
        depth: depth.min(DEEPEST),
    };
    let outermost = builder.enter(StackTable::ROOT);
    let (mut roots, omitted) = builder.level(outermost, 0);
    if own[0].count > 0 {
        roots.push(Node {
            frame: KeyFrame::without_place(query.view.nothing()),
            total: own[0],
            own: own[0],
            children: Vec::new(),
            omitted: 0,
        });
    }
    Tree {
        tape: heap.name.clone(),
        at: Instant::of(heap, moment),
        total,
        roots,
        omitted,
    }
}

/// A position in the tree: a node of the trie, and how many of its frame's places lie further in.
type Position = (StackIx, usize);

struct Builder<'a> {
    trie: &'a StackTable,
    names: &'a Names,
    own: &'a [Level],
    totals: &'a [Level],
    children: &'a BTreeMap<StackIx, Vec<StackIx>>,
    least: u128,
    rows: usize,
    depth: usize,
}

impl Builder<'_> {
    /// The positions one level in from a trie node: its children, each at its outermost place.
    fn enter(&self, stack: StackIx) -> Vec<Position> {
        let children = self.children.get(&stack).map_or(&[][..], Vec::as_slice);
        children
            .iter()
            .map(|&child| (child, self.places(child).saturating_sub(1)))
            .collect()
    }

    fn places(&self, stack: StackIx) -> usize {
        self.trie.frame(stack).map_or(0, |frame| self.names.places(frame).len())
    }

    fn level(&self, positions: Vec<Position>, depth: usize) -> (Vec<Node>, usize) {
        let mut groups: BTreeMap<KeyFrame, Vec<Position>> = BTreeMap::new();
        for (stack, inner) in positions {
            let place = self
                .trie
                .frame(stack)
                .and_then(|frame| self.names.places(frame).get(inner));
            if let Some(place) = place {
                groups.entry(KeyFrame::of(place)).or_default().push((stack, inner));
            }
        }
        let mut nodes: Vec<(Node, Vec<Position>)> = groups
            .into_iter()
            .map(|(frame, positions)| {
                let (mut total, mut own) = (Level::default(), Level::default());
                for &(stack, inner) in &positions {
                    total.add(self.totals[stack.0 as usize]);
                    if inner == 0 {
                        own.add(self.own[stack.0 as usize]);
                    }
                }
                (
                    Node {
                        frame,
                        total,
                        own,
                        children: Vec::new(),
                        omitted: 0,
                    },
                    positions,
                )
            })
            .collect();
        nodes.sort_by(|(a, _), (b, _)| (b.total, &b.frame).cmp(&(a.total, &a.frame)));
        let all = nodes.len();
        nodes.retain(|(node, _)| node.total.size >= self.least);
        nodes.truncate(if self.rows == 0 { usize::MAX } else { self.rows });
        let omitted = all - nodes.len();
        let nodes = nodes
            .into_iter()
            .map(|(mut node, positions)| {
                if depth + 1 < self.depth {
                    let inner = positions
                        .into_iter()
                        .flat_map(|(stack, inner)| match inner {
                            0 => self.enter(stack),
                            _ => vec![(stack, inner - 1)],
                        })
                        .collect();
                    (node.children, node.omitted) = self.level(inner, depth + 1);
                }
                node
            })
            .collect();
        (nodes, omitted)
    }
}
