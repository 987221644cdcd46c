//! Log of a reload that failed: one line, then the problems, for people or for programs.

use std::io::{IsTerminal, Write};

use tracing::{Level, enabled, error, warn};

use crate::{
    diagnostic::{Place, Report},
    log_settings::LogFormat,
};

/// Logs the failure. As text, the problems follow as `pileus check` shows them; as JSON, each is an event.
pub fn log(by: &'static str, report: &Report, format: LogFormat) {
    let files = report.files().into_iter().collect::<Vec<_>>().join(", ");
    error!(by, files, problems = report.summary(), "not reloaded, the old state stays");
    match format {
        LogFormat::Text if enabled!(Level::ERROR) => {
            let text = report.render(std::io::stderr().is_terminal());
            // A reader that does not read must not stop the service.
            tokio::task::spawn_blocking(move || std::io::stderr().lock().write_all(text.as_bytes()).ok());
        }
        LogFormat::Text => {}
        LogFormat::Json => events(report),
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
