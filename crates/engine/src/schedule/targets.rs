//! Where a job may run: its target clouds, with aliases expanded and unknown names skipped.
//!
//! Many jobs name the same few lists, so each list is resolved once and known by a small number.

use std::{collections::BTreeSet, ops::Range};

use pileus_model::View;

use super::hash::HashMap;

/// A list of targets that was resolved before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Which(u32);

impl Which {
    fn index(self) -> usize {
        self.0 as usize
    }
}

/// Every list of targets in use. Clouds are known by their place in `View::clouds_in_order`.
#[derive(Debug)]
pub struct Targets<'a> {
    /// As they are spelt: so that most are found without a copy.
    exact: HashMap<&'a str, usize>,
    /// ASCII case does not matter, so the keys are lower-case.
    clouds: HashMap<String, usize>,
    aliases: HashMap<String, &'a [String]>,
    /// Places of clouds in ascending order; `None`: anywhere.
    lists: Vec<Option<Vec<usize>>>,
    known: HashMap<&'a [String], Which>,
    /// Lists with some places taken out.
    reduced: HashMap<(Which, Vec<usize>), Which>,
    count: usize,
}

impl<'a> Targets<'a> {
    pub fn new(view: &'a View) -> Self {
        let places = || view.clouds_in_order().into_iter().enumerate();
        let exact = places().map(|(place, cloud)| (&*cloud.name, place)).collect();
        let clouds: HashMap<_, _> =
            places().map(|(place, cloud)| (cloud.name.to_ascii_lowercase(), place)).collect();
        let aliases = view.aliases.iter();
        let aliases = aliases.map(|(alias, clouds)| (alias.to_ascii_lowercase(), &**clouds)).collect();
        Self {
            count: clouds.len(),
            exact,
            clouds,
            aliases,
            lists: vec![None],
            known: HashMap::default(),
            reduced: HashMap::default(),
        }
    }

    /// The place of a cloud.
    pub fn cloud(&self, name: &str) -> Option<usize> {
        let exact = self.exact.get(name).copied();
        exact.or_else(|| self.clouds.get(&name.to_ascii_lowercase()).copied())
    }

    /// Resolves a job's list. An alias stands for its clouds, not for other aliases.
    pub fn of(&mut self, list: &'a [String]) -> Which {
        if list.is_empty() {
            return Which(0);
        }
        if let Some(which) = self.known.get(list) {
            return *which;
        }
        let mut places = BTreeSet::new();
        for target in list {
            let names = self.aliases.get(&target.to_ascii_lowercase()).copied();
            let names = names.unwrap_or(std::slice::from_ref(target));
            places.extend(names.iter().filter_map(|name| self.cloud(name)));
        }
        let which = self.list(places.into_iter().collect());
        self.known.insert(list, which);
        which
    }

    /// The same list without these places, which are in ascending order.
    pub fn without(&mut self, which: Which, places: Vec<usize>) -> Which {
        if places.is_empty() {
            return which;
        }
        let key = (which, places);
        if let Some(known) = self.reduced.get(&key) {
            return *known;
        }
        let left: Vec<_> = self.places(which).filter(|place| key.1.binary_search(place).is_err()).collect();
        let reduced = self.list(left);
        self.reduced.insert(key, reduced);
        reduced
    }

    /// Another list. There are fewer of them than jobs, which are numbered in as many bits.
    fn list(&mut self, places: Vec<usize>) -> Which {
        let which = Which(u32::try_from(self.lists.len()).unwrap_or(u32::MAX));
        self.lists.push(Some(places));
        which
    }

    /// Whether the list allows the cloud at this place.
    pub fn allow(&self, which: Which, place: usize) -> bool {
        self.lists[which.index()].as_ref().is_none_or(|places| places.binary_search(&place).is_ok())
    }

    /// The places that the list allows, in order.
    pub fn places(&self, which: Which) -> Places<'_> {
        match &self.lists[which.index()] {
            None => Places::All(0..self.count),
            Some(places) => Places::Some(places.iter()),
        }
    }
}

/// Runs over the places of a list.
#[derive(Debug)]
pub enum Places<'a> {
    All(Range<usize>),
    Some(std::slice::Iter<'a, usize>),
}

impl Iterator for Places<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        match self {
            Self::All(all) => all.next(),
            Self::Some(some) => some.next().copied(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::testing;

    #[test]
    fn targets_are_resolved_as_written_down() {
        let mut view = testing::view([testing::cloud("Alpha", 1), testing::cloud("beta", 1)]);
        let west = ["ALPHA".to_owned(), "gone".to_owned(), "west".to_owned()];
        view.aliases.insert("West".into(), Arc::from(west));
        view.aliases.insert("beta".into(), Arc::from(["alpha".to_owned()]));
        let cases: [(&str, &[&str], &[usize]); 6] = [
            ("nothing asked", &[], &[0, 1]),
            ("another case", &["aLPHa"], &[0]),
            ("an alias, members in another case", &["west"], &[0]),
            ("an alias hides the cloud of its name", &["beta"], &[0]),
            ("unknown names are skipped", &["nowhere", "alpha"], &[0]),
            ("only unknown names: nowhere", &["nowhere"], &[]),
        ];
        let lists: Vec<Vec<String>> =
            cases.iter().map(|case| case.1.iter().map(|&name| name.into()).collect()).collect();
        let mut targets = Targets::new(&view);
        for ((what, _, places), list) in cases.iter().zip(&lists) {
            let which = targets.of(list);
            assert_eq!(targets.places(which).collect::<Vec<_>>(), *places, "{what}");
            assert_eq!(targets.allow(which, 1), places.contains(&1), "{what}");
            assert_eq!(targets.of(list), which, "{what}");
        }
    }
}
