//! Counts of what was checked, and their table.

use std::{collections::BTreeMap, fmt, fs, path::Path, time::Duration};

/// Changes of one kind.
#[derive(Default)]
struct Row {
    found: usize,
    lost: usize,
    /// Without an answer: done, and not done.
    done: usize,
    undone: usize,
}

#[derive(Default)]
pub struct Tally {
    rows: BTreeMap<&'static str, Row>,
    starts: Vec<Duration>,
    pub events: usize,
    /// Jobs that ended with their output, each once.
    pub ran: usize,
    /// Jobs with one event of their end.
    pub finished: usize,
    pub rests: usize,
    /// Jobs whose command ran once, and more often, by the file that it wrote.
    once: usize,
    again: usize,
    pub problems: Vec<String>,
}

impl Tally {
    pub fn start(&mut self, took: Duration) {
        self.starts.push(took);
    }

    pub fn found(&mut self, op: &'static str) {
        self.rows.entry(op).or_default().found += 1;
    }

    pub fn lost(&mut self, op: &'static str) {
        self.rows.entry(op).or_default().lost += 1;
    }

    pub fn unanswered(&mut self, op: &'static str, done: bool) {
        let row = self.rows.entry(op).or_default();
        *(if done { &mut row.done } else { &mut row.undone }) += 1;
    }

    /// Reads what commands wrote. None wrote anything where a job sees its own folder alone.
    pub fn proofs(&mut self, folder: &Path) {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            let text = fs::read_to_string(entry.path()).expect("a file");
            if text.lines().count() == 1 {
                self.once += 1;
            } else {
                self.again += 1;
                self.problems.push(format!("{:?} ran {} times", entry.file_name(), text.lines().count()));
            }
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<16} {:>12} {:>8} {:>6} {:>18}",
            "change", "acknowledged", "found", "lost", "unanswered (done)"
        )?;
        let mut all = Row::default();
        let line = |f: &mut fmt::Formatter<'_>, op: &str, row: &Row| {
            let unanswered = format!("{} ({})", row.done + row.undone, row.done);
            writeln!(
                f,
                "{op:<16} {:>12} {:>8} {:>6} {unanswered:>18}",
                row.found + row.lost,
                row.found,
                row.lost
            )
        };
        for (op, row) in &self.rows {
            line(f, op, row)?;
            all.found += row.found;
            all.lost += row.lost;
            all.done += row.done;
            all.undone += row.undone;
        }
        line(f, "all", &all)?;
        let mut starts = self.starts.clone();
        starts.sort();
        let at =
            |permille: usize| starts.get((starts.len() - 1) * permille / 1000).copied().unwrap_or_default();
        writeln!(
            f,
            "jobs: {} ended once with their output, {} by their events; commands that ran once {}, again {}",
            self.ran, self.finished, self.once, self.again
        )?;
        writeln!(
            f,
            "events: {} read, without a gap; {} times everything was at rest and nothing left",
            self.events, self.rests
        )?;
        writeln!(
            f,
            "starts: {} of them; {:?} median, {:?} p95, {:?} longest",
            starts.len(),
            at(500),
            at(950),
            at(1000)
        )
    }
}
