//! `pileus explain --time METHOD PATH`: how long the stages of that way took, by the server that runs.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, Table, presets::NOTHING};
use serde_json::{Value, json};

use super::{
    UNAVAILABLE,
    api_server::Failure,
    explain::{self, PROJECT},
};
use crate::{cli::ExplainRequest, client::Target};

/// `{"server": {…}, "stages": [{"pipeline", "stage", "count", "own", "total", "share"}]}` in the order of the
/// way. A stage that the server does not have, because it runs with other files, has a count of null.
pub fn fetch(
    asked: &ExplainRequest,
    target: impl FnOnce() -> Result<Target, Failure>,
    server: &str,
    stages: &[(String, String)],
) -> Result<Value, Failure> {
    let token = explain::token(asked.token_file.as_deref(), asked.options.state());
    let token = token.map_err(|text| (UNAVAILABLE, text))?;
    let path = format!("/{PROJECT}/service/timings");
    let timings = explain::fetch(&target()?, &path, &token, "timings")?;
    Ok(along(&timings, server, stages))
}

fn along(timings: &Value, server: &str, stages: &[(String, String)]) -> Value {
    let find = |list: &str, pipeline: &str, stage: &str| {
        let mut all = timings[list].as_array().into_iter().flatten();
        let found = all.find(|it| it["pipeline"] == pipeline && it["stage"] == stage);
        found.cloned().unwrap_or_else(|| json!({ "pipeline": pipeline, "stage": stage, "count": null }))
    };
    let mut found: Vec<Value> =
        stages.iter().map(|(pipeline, stage)| find("stages", pipeline, stage)).collect();
    // Stages of one pipeline have not all seen the same requests: some are refused on the way. So a share is
    // that of a mean request, which passes them all.
    let whole: f64 = found.iter().filter_map(mean_ns).sum();
    for stage in &mut found {
        stage["share"] = json!(mean_ns(stage).filter(|_| whole > 0.0).map(|mean| mean / whole));
    }
    json!({ "server": find("servers", &format!("server.{server}"), server), "stages": found })
}

/// Own time of a mean request.
fn mean_ns(stage: &Value) -> Option<f64> {
    let count = stage["count"].as_f64().filter(|count| *count > 0.0)?;
    Some(stage["own"]["sum_ns"].as_f64()? / count)
}

/// For people.
pub fn shown(times: &Value) -> String {
    let text = |it: &Value| it.as_str().unwrap_or_default().to_owned();
    let mut table = Table::new();
    let head = ["PIPELINE", "STAGE", "TIMED", "OWN MEAN", "P50", "P99", "SHARE", "WITH BELOW P50", "P99"];
    table.load_style(NOTHING).set_header(head);
    let mut above = String::new();
    for stage in times["stages"].as_array().into_iter().flatten() {
        let pipeline = text(&stage["pipeline"]);
        let mean = mean_ns(stage);
        let of = |part: &str, key: &str| mean.map_or("-".into(), |_| duration(stage[part][key].as_f64()));
        table.add_row([
            if pipeline == above { String::new() } else { pipeline.clone() },
            text(&stage["stage"]),
            stage["count"].as_u64().map_or("not there".into(), |count| count.to_string()),
            duration(mean),
            of("own", "p50_ns"),
            of("own", "p99_ns"),
            stage["share"].as_f64().map_or("-".into(), |share| format!("{:.1} %", share * 100.0)),
            of("total", "p50_ns"),
            of("total", "p99_ns"),
        ]);
        above = pipeline;
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let server = &times["server"];
    let timed = server["count"].as_u64().unwrap_or(0);
    let mut out = format!("{}\n\n", table.trim_fmt());
    if timed == 0 {
        let name = text(&server["stage"]);
        writeln!(out, "Of server `{name}` no request was timed yet: one in `time_one_in` is.").ok();
    } else {
        let of = |key: &str| duration(server["total"][key].as_f64());
        let (name, half, most) = (text(&server["stage"]), of("p50_ns"), of("p99_ns"));
        writeln!(out, "All requests of server `{name}`: {timed} timed, p50 {half}, p99 {most}.").ok();
    }
    out += "Times are of whatever requests went through a stage since the start, not of this path alone.\n";
    out
}

/// With three digits that count.
fn duration(ns: Option<f64>) -> String {
    let Some(ns) = ns else { return "-".into() };
    let (value, unit) = match ns {
        ns if ns < 1e3 => return format!("{ns:.0} ns"),
        ns if ns < 1e6 => (ns / 1e3, "µs"),
        ns if ns < 1e9 => (ns / 1e6, "ms"),
        ns => (ns / 1e9, "s"),
    };
    let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_three_digits() {
        let cases = [
            (Some(0.0), "0 ns"),
            (Some(999.0), "999 ns"),
            (Some(1234.0), "1.23 µs"),
            (Some(56_780.0), "56.8 µs"),
            (Some(123_456_789.0), "123 ms"),
            (Some(2e9), "2.00 s"),
            (None, "-"),
        ];
        for (ns, expected) in cases {
            assert_eq!(duration(ns), expected);
        }
    }

    #[test]
    fn shares_are_those_of_a_request_that_passes_all() {
        let stage = |stage: &str, count: u64, sum: u64| {
            let own = json!({ "sum_ns": sum, "p50_ns": 300, "p99_ns": 4000 });
            json!({ "pipeline": "p", "stage": stage, "count": count, "own": own, "total": own })
        };
        let timings = json!({
            "servers": [{ "pipeline": "server.api", "stage": "api", "count": 9, "total": { "p50_ns": 8000, "p99_ns": 1 } }],
            "stages": [stage("a", 10, 1000), stage("b", 2, 600), stage("c", 0, 0), stage("d", 5, 5)],
        });
        let way = ["a", "b", "c", "x"].map(|stage| ("p".to_owned(), stage.to_owned()));
        let times = along(&timings, "api", &way);
        let shares: Vec<_> =
            times["stages"].as_array().unwrap().iter().map(|it| it["share"].clone()).collect();
        assert_eq!(shares, [json!(0.25), json!(0.75), json!(null), json!(null)]);
        let text = shown(&times);
        let rows: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split("  ").map(str::trim).filter(|it| !it.is_empty()).collect())
            .collect();
        assert_eq!(rows[1], ["p", "a", "10", "100 ns", "300 ns", "4.00 µs", "25.0 %", "300 ns", "4.00 µs"]);
        assert_eq!(rows[3][1..3], ["0", "-"], "{text}");
        assert_eq!(rows[4][..2], ["x", "not there"], "{text}");
        assert!(text.contains("server `api`: 9 timed, p50 8.00 µs"), "{text}");
    }
}
