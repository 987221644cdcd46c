//! Every trap of Cloud Scheduler is decided, and whoever reads how finds the test that shows it.

use std::{collections::BTreeSet, fs, path::Path};

/// What a row says was decided; several where the old ports and the API differ.
const DECISIONS: [&str; 2] = ["**kept**", "**mended**"];

/// The names of all functions in the sources below a folder.
fn functions(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if path.is_dir() {
            if name != "target" {
                functions(&path, names);
            }
        } else if path.extension().is_some_and(|it| it == "rs") {
            let text = fs::read_to_string(&path).expect("a source");
            let starts = text.split("fn ").skip(1);
            names.extend(starts.filter_map(|rest| rest.split(['(', '<']).next()).map(str::to_owned));
        }
    }
}

#[test]
fn every_trap_is_decided_and_shown_by_a_test_that_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut known = BTreeSet::new();
    for folder in ["src", "tests", "crates", "extensions"] {
        functions(&root.join(folder), &mut known);
    }
    let page = fs::read_to_string(root.join("docs/traps.md")).expect("the page");
    let rows: Vec<Vec<&str>> = page
        .lines()
        .map(|line| line.split('|').map(str::trim).collect())
        .filter(|row: &Vec<&str>| row.get(1).is_some_and(|number| number.parse::<u32>().is_ok()))
        .collect();
    let numbers: Vec<u32> = rows.iter().filter_map(|row| row[1].parse().ok()).collect();
    assert_eq!(numbers, (1..=53).collect::<Vec<_>>(), "all of them, in order");
    for row in rows {
        let [_, number, _, decision, shown, _] = row[..] else { panic!("{row:?} has other columns") };
        assert!(DECISIONS.iter().any(|it| decision.starts_with(it)), "{number}: {decision}");
        // Paths of modules and of files stand beside the functions.
        let words = shown.split('`').skip(1).step_by(2);
        let tests: Vec<&str> = words
            .map(|word| word.rsplit("::").next().unwrap_or(word))
            .filter(|word| !word.contains('/'))
            .collect();
        assert!(!tests.is_empty(), "{number} is shown by no test");
        for test in tests {
            assert!(known.contains(test), "{number}: there is no test {test}");
        }
    }
}
