//! Which site of one build is which of another.
//!
//! In this order: the same place (lines are counted from the function's beginning, so an edit above a function moves nothing); another line of the
//! same function, in the order of lines; a function of the same name elsewhere; and then by likeness of stacks, with the sizes and numbers of
//! blocks as further evidence: a function under a new name, one that was taken apart, one that was put into its caller.

use super::{similarity, Site};
use crate::text::Text;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// What became of a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// The same place.
    Same,
    /// Another line of the same function.
    Shifted,
    /// A function of the same name in another file or module.
    Moved,
    /// A function of another name.
    Renamed,
    /// One site is several now, or a part of it went into a function that its own calls.
    Split,
    /// Several sites are one now.
    Merged,
    /// It counts for its caller now: the function was put into it.
    Inlined,
    /// It counts for a function that its own calls now.
    Outlined,
    /// There was none.
    New,
    /// There is none any more.
    Gone,
}

/// Sites that are the same: their indexes in the two lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// In the older one; none for a new site.
    pub old: Vec<usize>,
    /// In the newer one; none for one that is gone.
    pub new: Vec<usize>,
    /// How they were recognised.
    pub how: How,
}

/// All pairs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matching {
    /// Every site of both lists is in one.
    pub pairs: Vec<Pair>,
}

/// Sites on either side that are compared with all others of the other side; the smaller ones are new or gone.
const COMPARED: usize = 500;
/// Lines of one function that are put side by side.
const LINES: usize = 200;
/// Stacks at least this alike belong to one site, if one function took the other's place in it.
const ALIKE: f64 = 0.6;
/// Evidence that a function is another under a new name: 1 is all of it.
const RENAMED: f64 = 0.75;
/// How near two numbers of blocks are when what one site made is made by two.
const CONSERVED: f64 = 0.9;

impl Matching {
    /// Matches the sites of two builds.
    pub fn of(old: &[Site], new: &[Site]) -> Matching {
        let mut work = Work {
            old,
            new,
            old_left: (0..old.len()).collect(),
            new_left: (0..new.len()).collect(),
            pairs: Vec::new(),
        };
        work.pair_up(|site| Some(&site.key), |_, _| How::Same);
        work.lines();
        work.pair_up(
            |site| Some((site.key.place.function.clone()?, site.key.kind.clone())),
            |_, _| How::Moved,
        );
        work.likeness();
        work.parts();
        let (old_left, new_left) = (std::mem::take(&mut work.old_left), std::mem::take(&mut work.new_left));
        let gone = old_left.into_iter().map(|site| (vec![site], vec![], How::Gone));
        let fresh = new_left.into_iter().map(|site| (vec![], vec![site], How::New));
        let made = gone.chain(fresh).map(|(old, new, how)| Pair { old, new, how });
        work.pairs.extend(made);
        work.pairs.sort_by(|a, b| (&a.new, &a.old).cmp(&(&b.new, &b.old)));
        Matching { pairs: work.pairs }
    }
}

struct Work<'a> {
    old: &'a [Site],
    new: &'a [Site],
    old_left: Vec<usize>,
    new_left: Vec<usize>,
    pairs: Vec<Pair>,
}

fn average(site: &Site) -> f64 {
    site.allocated.size.mean() / site.allocated.count.mean().max(1.0)
}

impl<'a> Work<'a> {
    /// Pairs sites that are the only ones of a key on both sides.
    fn pair_up<K: Hash + Eq>(&mut self, key: impl Fn(&'a Site) -> Option<K>, how: impl Fn(&Site, &Site) -> How) {
        let mut by_key: HashMap<K, (Vec<usize>, Vec<usize>)> = HashMap::new();
        for &index in &self.old_left {
            if let Some(key) = key(&self.old[index]) {
                by_key.entry(key).or_default().0.push(index);
            }
        }
        for &index in &self.new_left {
            if let Some(key) = key(&self.new[index]) {
                by_key.entry(key).or_default().1.push(index);
            }
        }
        for (old, new) in by_key.into_values() {
            if let ([old], [new]) = (&old[..], &new[..]) {
                let how = how(&self.old[*old], &self.new[*new]);
                self.pair(vec![*old], vec![*new], how);
            }
        }
        self.settle();
    }

    fn pair(&mut self, old: Vec<usize>, new: Vec<usize>, how: How) {
        self.pairs.push(Pair { old, new, how });
    }

    /// Takes what was paired off the lists of what is left.
    fn settle(&mut self) {
        let mut taken = (vec![false; self.old.len()], vec![false; self.new.len()]);
        for pair in &self.pairs {
            pair.old.iter().for_each(|&site| taken.0[site] = true);
            pair.new.iter().for_each(|&site| taken.1[site] = true);
        }
        self.old_left.retain(|&site| !taken.0[site]);
        self.new_left.retain(|&site| !taken.1[site]);
    }

    /// Pairs lines of the same function, in their order, so that the sizes of blocks and the stacks agree best.
    fn lines(&mut self) {
        type Lines = (Vec<usize>, Vec<usize>);
        let mut functions: BTreeMap<(Text, Text, Option<Text>), Lines> = BTreeMap::new();
        let key = |site: &Site| {
            let place = &site.key.place;
            let file = place
                .file
                .as_ref()
                .map_or(place.library.clone(), |file| Text::new(file.basename()));
            Some((place.function.clone()?, file, site.key.kind.clone()))
        };
        for &index in &self.old_left {
            if let Some(key) = key(&self.old[index]) {
                functions.entry(key).or_default().0.push(index);
            }
        }
        for &index in &self.new_left {
            if let Some(key) = key(&self.new[index]) {
                functions.entry(key).or_default().1.push(index);
            }
        }
        for (mut old, mut new) in functions.into_values() {
            old.sort_by_key(|&site| self.old[site].key.place.relative);
            new.sort_by_key(|&site| self.new[site].key.place.relative);
            old.truncate(LINES);
            new.truncate(LINES);
            for (a, b) in self.align(&old, &new) {
                let is_same = self.old[a].key.place.relative == self.new[b].key.place.relative;
                self.pair(vec![a], vec![b], if is_same { How::Same } else { How::Shifted });
            }
        }
        self.settle();
    }

    /// The pairs, in order on both sides, that agree best in all.
    fn align(&self, old: &[usize], new: &[usize]) -> Vec<(usize, usize)> {
        let agreement = |a: usize, b: usize| {
            let (a, b) = (&self.old[a], &self.new[b]);
            1.0 + similarity::stacks(&a.stack, &b.stack) + similarity::amounts(average(a), average(b))
        };
        let width = new.len() + 1;
        let mut best = vec![0.0f64; (old.len() + 1) * width];
        for (i, &a) in old.iter().enumerate().rev() {
            for (j, &b) in new.iter().enumerate().rev() {
                let both = best[(i + 1) * width + j + 1] + agreement(a, b);
                best[i * width + j] = both.max(best[(i + 1) * width + j]).max(best[i * width + j + 1]);
            }
        }
        let (mut i, mut j, mut pairs) = (0, 0, Vec::new());
        while i < old.len() && j < new.len() {
            let here = best[i * width + j];
            if here == best[(i + 1) * width + j] {
                i += 1;
            } else if here == best[i * width + j + 1] {
                j += 1;
            } else {
                pairs.push((old[i], new[j]));
                i += 1;
                j += 1;
            }
        }
        pairs
    }

    /// The sites left that matter most.
    fn heaviest(sites: &[Site], left: &[usize]) -> Vec<usize> {
        let mut left = left.to_vec();
        left.sort_by(|&a, &b| sites[b].weight().cmp(&sites[a].weight()).then(a.cmp(&b)));
        left.truncate(COMPARED);
        left
    }

    /// Pairs what is left by its stacks, the likest first.
    fn likeness(&mut self) {
        let old_left = Self::heaviest(self.old, &self.old_left);
        let new_left = Self::heaviest(self.new, &self.new_left);
        let mut candidates: Vec<(f64, usize, usize, How)> = Vec::new();
        for &a in &old_left {
            for &b in &new_left {
                if let Some((score, how)) = likeness(&self.old[a], &self.new[b]) {
                    candidates.push((score, a, b, how));
                }
            }
        }
        candidates.sort_by(|x, y| y.0.total_cmp(&x.0).then_with(|| (x.1, x.2).cmp(&(y.1, y.2))));
        // A group is made by its first pair; what only fits a site that has its pair already joins it.
        let mut group_of_old: HashMap<usize, usize> = HashMap::new();
        let mut group_of_new: HashMap<usize, usize> = HashMap::new();
        let mut groups: Vec<Pair> = Vec::new();
        for (_, a, b, how) in candidates {
            match (group_of_old.get(&a).copied(), group_of_new.get(&b).copied()) {
                (None, None) => {
                    group_of_old.insert(a, groups.len());
                    group_of_new.insert(b, groups.len());
                    groups.push(Pair {
                        old: vec![a],
                        new: vec![b],
                        how,
                    });
                }
                (Some(group), None) if how == How::Outlined && groups[group].old.len() == 1 => {
                    group_of_new.insert(b, group);
                    groups[group].new.push(b);
                    groups[group].how = How::Split;
                }
                (None, Some(group)) if how == How::Inlined && groups[group].new.len() == 1 => {
                    group_of_old.insert(a, group);
                    groups[group].old.push(a);
                    groups[group].how = How::Merged;
                }
                _ => {}
            }
        }
        self.pairs.extend(groups);
        self.settle();
    }

    /// New sites below one that has its pair and makes so much less as they make: they were split off.
    fn parts(&mut self) {
        for b in std::mem::take(&mut self.new_left) {
            let site = &self.new[b];
            let caller = site.stack.get(1).and_then(|frame| frame.place.function.as_ref());
            let made = site.allocated.count.mean();
            let home = self.pairs.iter_mut().find(|pair| {
                let is_caller = pair.new.iter().any(|&x| {
                    self.new[x].key.place.function.as_ref() == caller && self.new[x].key.kind == site.key.kind
                });
                let before: f64 = pair.old.iter().map(|&x| self.old[x].allocated.count.mean()).sum();
                let after: f64 = pair.new.iter().map(|&x| self.new[x].allocated.count.mean()).sum();
                caller.is_some()
                    && is_caller
                    && after < before
                    && similarity::amounts(before, after + made) >= CONSERVED
            });
            match home {
                Some(pair) => {
                    pair.new.push(b);
                    pair.how = How::Split;
                }
                None => self.new_left.push(b),
            }
        }
    }
}

/// How much speaks for two sites being one, if it is enough.
fn likeness(old: &Site, new: &Site) -> Option<(f64, How)> {
    if old.key.kind != new.key.kind {
        return None;
    }
    let (old_place, new_place) = (&old.key.place, &new.key.place);
    let (Some(old_name), Some(new_name)) = (&old_place.function, &new_place.function) else {
        // Machine code without names: all that can be known is where it is called from.
        let is_one_library = old_place.library == new_place.library && old_place.function == new_place.function;
        let score = evidence(old, new);
        return (is_one_library && score >= RENAMED).then_some((score, How::Shifted));
    };
    let callers = |site: &Site| site.stack.get(1).and_then(|frame| frame.place.function.clone());
    if callers(old).as_ref() == Some(new_name) {
        let score = similarity::stacks(&old.stack[1..], &new.stack);
        return (score >= ALIKE).then_some((score, How::Inlined));
    }
    if callers(new).as_ref() == Some(old_name) {
        let score = similarity::stacks(&old.stack, &new.stack[1..]);
        return (score >= ALIKE).then_some((score, How::Outlined));
    }
    let score = evidence(old, new);
    (score >= RENAMED).then_some((score, How::Renamed))
}

/// Of callers, sizes of blocks, numbers of blocks and lines.
fn evidence(old: &Site, new: &Site) -> f64 {
    let callers = |site: &'_ Site| site.stack.get(1..).map(<[_]>::to_vec).unwrap_or_default();
    let (a, b) = (callers(old), callers(new));
    let lines = match (old.key.place.relative, new.key.place.relative) {
        (Some(a), Some(b)) => 1.0 / (1.0 + a.abs_diff(b) as f64),
        _ => 0.5,
    };
    let counts = similarity::amounts(old.allocated.count.mean(), new.allocated.count.mean());
    0.5 * similarity::stacks(&a, &b)
        + 0.2 * similarity::amounts(average(old), average(new))
        + 0.15 * counts
        + 0.15 * lines
}
