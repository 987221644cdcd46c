//! Log of a reload that failed: one line, then the problems, for people or for programs.

use std::io::IsTerminal;

use tracing::{Level, enabled, error, warn};

use crate::{
    diagnostic::{Place, Report},
    logging::Logs,
};

/// Logs the failure. As text, the problems follow as `pileus check` shows them; as JSON, each is an event.
pub fn log(by: &'static str, report: &Report, logs: &Logs) {
    let files = report.files().into_iter().collect::<Vec<_>>().join(", ");
    error!(by, files, problems = report.summary(), "not reloaded, the old state stays");
    match logs.is_json() {
        true => events(report),
        false if enabled!(Level::ERROR) => logs.push(&report.render(std::io::stderr().is_terminal())),
        false => {}
    }
}

fn events(report: &Report) {
    let (shown, left_out) = report.shown();
    for it in shown {
        let (place, help) = (it.place.as_ref(), it.help.as_deref());
        let file = it.file.as_deref().filter(|_| place.is_none());
        let file = place.map(|place| place.source.name.as_str()).or(file);
        let (line, column) = (place.map(Place::line), place.map(Place::column));
        if it.warning {
            warn!(file, line, column, help, "{}", it.message);
        } else {
            error!(file, line, column, help, "{}", it.message);
        }
    }
    if left_out > 0 {
        warn!(left_out, "more problems of the files");
    }
}
