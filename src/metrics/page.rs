//! The page of `GET /metrics`: every number that there is, read when it is asked for.
//!
//! It tells how much of what there is, never whose: a label is a name from the files, or a word of the code.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use pileus_model::{Engine, JobState};
use pileus_sdk::Host;

use super::{
    Kind::{Counter, Gauge, Histogram},
    Metric,
    text::{Seconds, Text},
};
use crate::host::ThisProcess;

/// Where the numbers come from.
#[derive(Clone)]
pub struct Sources {
    /// Jobs, VMs, clouds, reconcilers.
    pub engine: Arc<dyn Engine>,
    /// Everything else.
    pub host: Arc<ThisProcess>,
}

const fn metric(
    name: &'static str,
    kind: super::Kind,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric { name, kind, labels, help }
}

/// How the numbers of a metric are written.
type Fill = fn(&Metric, &Sources, &mut Text);

/// Every metric in the order of the page. `docs/metrics.md` lists the same.
#[rustfmt::skip]
static METRICS: &[(Metric, Fill)] = &[
    (metric("pileus_build_info", Gauge, &["version"], "Always 1."), build_info),
    (metric("pileus_requests_total", Counter, &["server", "code"], "Requests that were answered, their bodies included, by status."), requests),
    (metric("pileus_requests_abandoned_total", Counter, &["server"], "Requests whose client left before there was an answer."), abandoned),
    (metric("pileus_requests_in_flight", Gauge, &["server"], "Requests that have begun and not ended."), in_flight),
    (metric("pileus_connections_total", Counter, &["server"], "Connections that were accepted."), connections),
    (metric("pileus_connections_open", Gauge, &["server"], "Connections that are open."), connections_open),
    (metric("pileus_connections_over_limit_total", Counter, &["server", "limit"], "Connections above a limit, answered 503 or closed, by the setting that is the limit."), over_limit),
    (metric("pileus_connections_dropped_total", Counter, &["server"], "Connections above a limit and above overflow_connections: closed without an answer."), dropped),
    (metric("pileus_job_connections_refused_total", Counter, &["server"], "Connections of jobs of this host to a server that does not authenticate its callers: closed."), refused_jobs),
    (metric("pileus_request_duration_seconds", Histogram, &["server"], "Time until the answer begins, of a sample: one of time_one_in requests."), request_duration),
    (metric("pileus_filter_duration_seconds", Histogram, &["pipeline", "filter"], "Time in a filter or app without those below it, of a sample: one of time_one_in requests."), filter_duration),
    (metric("pileus_reloads_total", Counter, &["result"], "Times that the files were read again: success, or failure, which changed nothing."), reloads),
    (metric("pileus_config_file_failing", Gauge, &["path"], "1 if the last reload failed because of this file, otherwise 0."), failing_files),
    (metric("pileus_config_loaded_timestamp_seconds", Gauge, &[], "When the files were read that the service goes by."), loaded),
    (metric("pileus_log_lines_dropped_total", Counter, &[], "Log lines that could not be written."), log_dropped),
    (metric("pileus_events_total", Counter, &[], "Number of the last change of what the engine knows; kept over restarts."), events),
    (metric("pileus_jobs", Gauge, &["state"], "Jobs that the engine knows."), jobs),
    (metric("pileus_vms", Gauge, &["cloud", "state"], "VMs that the engine knows."), vms),
    (metric("pileus_cloud_enabled", Gauge, &["cloud"], "Whether VMs may be booted in a configured cloud: 1 or 0."), clouds),
    (metric("pileus_reconciler_last_cycle_timestamp_seconds", Gauge, &["reconciler"], "When a reconciler finished its last cycle."), beats),
    (metric("pileus_reconciler_interval_seconds", Gauge, &["reconciler"], "Longest pause between two of its cycles."), intervals),
    (metric("pileus_reconciler_failing", Gauge, &["reconciler"], "Whether its last cycle failed: 1 or 0."), failing),
    (metric("pileus_tasks", Gauge, &[], "Tasks that are not done."), tasks),
    (metric("pileus_tasks_waiting", Gauge, &[], "Tasks that are ready and wait for a worker."), tasks_waiting),
    (metric("process_resident_memory_bytes", Gauge, &[], "Memory that is in use."), resident),
    (metric("process_virtual_memory_bytes", Gauge, &[], "Addresses that are taken."), virtual_memory),
    (metric("process_open_fds", Gauge, &[], "Files and sockets that are open."), open_fds),
    (metric("process_threads", Gauge, &[], "Threads of the system."), threads),
    (metric("process_cpu_seconds_total", Counter, &[], "Time that processors spent."), cpu),
    (metric("process_start_time_seconds", Gauge, &[], "When the process started, in seconds since 1970."), started),
];

/// All of it. Reads files of `/proc` and looks at every job and VM, so it is made where nobody waits.
pub fn page(sources: &Sources) -> String {
    let mut text = Text::default();
    for (metric, fill) in METRICS {
        text.begin(metric);
        fill(metric, sources, &mut text);
    }
    text.done()
}

fn build_info(metric: &Metric, _: &Sources, text: &mut Text) {
    text.sample(metric, &[env!("CARGO_PKG_VERSION")], 1);
}

fn requests(metric: &Metric, from: &Sources, text: &mut Text) {
    for (server, counts) in from.host.metrics.servers.all() {
        for (status, count) in counts.answered() {
            text.sample(metric, &[&server, &status.to_string()], count);
        }
    }
}

fn abandoned(metric: &Metric, from: &Sources, text: &mut Text) {
    for (server, counts) in from.host.metrics.servers.all() {
        text.sample(metric, &[&server], counts.abandoned());
    }
}

fn in_flight(metric: &Metric, from: &Sources, text: &mut Text) {
    for (server, counts) in from.host.metrics.servers.all() {
        text.sample(metric, &[&server], counts.in_flight());
    }
}

fn connections(metric: &Metric, from: &Sources, text: &mut Text) {
    for (server, counts) in from.host.metrics.servers.all() {
        text.sample(metric, &[&server], counts.connections().0);
    }
}

fn connections_open(metric: &Metric, from: &Sources, text: &mut Text) {
    for (server, counts) in from.host.metrics.servers.all() {
        text.sample(metric, &[&server], counts.connections().1);
    }
}

fn over_limit(metric: &Metric, from: &Sources, text: &mut Text) {
    for (server, counts) in from.host.metrics.servers.all() {
        for (limit, count) in counts.limited() {
            text.sample(metric, &[&server, limit.as_str()], count);
        }
    }
}

fn dropped(metric: &Metric, from: &Sources, text: &mut Text) {
    for (server, counts) in from.host.metrics.servers.all() {
        text.sample(metric, &[&server], counts.dropped());
    }
}

fn refused_jobs(metric: &Metric, from: &Sources, text: &mut Text) {
    for (server, counts) in from.host.metrics.servers.all() {
        text.sample(metric, &[&server], counts.refused_jobs());
    }
}

fn request_duration(metric: &Metric, from: &Sources, text: &mut Text) {
    for (server, counts) in from.host.metrics.servers.all() {
        text.histogram(metric, &[&server], &counts.times.total.counts());
    }
}

fn filter_duration(metric: &Metric, from: &Sources, text: &mut Text) {
    for ((pipeline, filter), stage) in from.host.metrics.stages.all() {
        text.histogram(metric, &[&pipeline, &filter], &stage.own.counts());
    }
}

fn reloads(metric: &Metric, from: &Sources, text: &mut Text) {
    let reloads = from.host.reloads();
    text.sample(metric, &["success"], reloads.done);
    text.sample(metric, &["failure"], reloads.failed);
}

fn failing_files(metric: &Metric, from: &Sources, text: &mut Text) {
    let reloads = from.host.reloads();
    let failing: BTreeSet<String> = reloads.last.into_iter().flat_map(|last| last.files).collect();
    for file in reloads.files.iter().map(|file| &file.name).filter(|name| !failing.contains(*name)) {
        text.sample(metric, &[file], 0);
    }
    for file in &failing {
        text.sample(metric, &[file], 1);
    }
}

fn loaded(metric: &Metric, from: &Sources, text: &mut Text) {
    // Built-in files are never read.
    if let Some(loaded) = from.host.reloads().files.iter().map(|file| file.loaded).max() {
        text.sample(metric, &[], loaded.secs());
    }
}

fn log_dropped(metric: &Metric, from: &Sources, text: &mut Text) {
    text.sample(metric, &[], from.host.logs.dropped());
}

fn events(metric: &Metric, from: &Sources, text: &mut Text) {
    text.sample(metric, &[], from.engine.view().seq);
}

fn jobs(metric: &Metric, from: &Sources, text: &mut Text) {
    let mut counts = JobState::ALL.map(|state| (state, 0_u64));
    for job in from.engine.view().jobs.values() {
        if let Some((_, count)) = counts.iter_mut().find(|(state, _)| *state == job.state) {
            *count += 1;
        }
    }
    for (state, count) in counts {
        text.sample(metric, &[state.as_str()], count);
    }
}

fn vms(metric: &Metric, from: &Sources, text: &mut Text) {
    let view = from.engine.view();
    let mut counts = BTreeMap::<(&str, &str), u64>::new();
    // A cloud without VMs has some all the same: none.
    for cloud in view.clouds.keys() {
        counts.insert((cloud, "Running"), 0);
    }
    for vm in view.vms.values() {
        *counts.entry((&vm.cloud, vm.shown_state())).or_default() += 1;
    }
    for ((cloud, state), count) in counts {
        text.sample(metric, &[cloud, state], count);
    }
}

fn clouds(metric: &Metric, from: &Sources, text: &mut Text) {
    for (name, cloud) in &from.engine.view().clouds {
        text.sample(metric, &[name], u8::from(cloud.enabled()));
    }
}

fn beats(metric: &Metric, from: &Sources, text: &mut Text) {
    for beat in from.engine.beats() {
        text.sample(metric, &[beat.name], beat.last.secs());
    }
}

fn intervals(metric: &Metric, from: &Sources, text: &mut Text) {
    for beat in from.engine.beats() {
        text.sample(metric, &[beat.name], beat.interval_s);
    }
}

fn failing(metric: &Metric, from: &Sources, text: &mut Text) {
    for beat in from.engine.beats() {
        text.sample(metric, &[beat.name], u8::from(beat.error.is_some()));
    }
}

fn tasks(metric: &Metric, from: &Sources, text: &mut Text) {
    text.sample(metric, &[], from.host.process().tasks);
}

fn tasks_waiting(metric: &Metric, from: &Sources, text: &mut Text) {
    text.sample(metric, &[], from.host.process().tasks_waiting);
}

fn resident(metric: &Metric, from: &Sources, text: &mut Text) {
    text.sample(metric, &[], from.host.process().memory_resident_kib * 1024);
}

fn virtual_memory(metric: &Metric, from: &Sources, text: &mut Text) {
    text.sample(metric, &[], from.host.process().memory_virtual_kib * 1024);
}

fn open_fds(metric: &Metric, from: &Sources, text: &mut Text) {
    text.sample(metric, &[], from.host.process().open_files);
}

fn threads(metric: &Metric, from: &Sources, text: &mut Text) {
    text.sample(metric, &[], from.host.process().threads);
}

fn cpu(metric: &Metric, _: &Sources, text: &mut Text) {
    if let Some(ticks) = Ticks::read() {
        text.sample(metric, &[], Seconds(ticks.spent * NS_OF_TICK));
    }
}

fn started(metric: &Metric, _: &Sources, text: &mut Text) {
    let Some(ticks) = Ticks::read() else { return };
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let boot = stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<u64>().ok());
    if let Some(boot) = boot {
        text.sample(metric, &[], Seconds(boot * 1_000_000_000 + ticks.started * NS_OF_TICK));
    }
}

/// Linux counts to programs in hundredths of a second on every processor that there is.
const NS_OF_TICK: u64 = 10_000_000;

/// What `/proc/self/stat` says. Source: proc_pid_stat(5), fields 14, 15 and 22.
struct Ticks {
    /// As user and in the kernel together.
    spent: u64,
    /// After the host.
    started: u64,
}

impl Ticks {
    fn read() -> Option<Self> {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        // The name of the program may hold blanks and brackets: what follows its last bracket is field 3.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self { spent: field(14)? + field(15)?, started: field(22)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names, kinds and labels as `docs/metrics.md` has them, in its order.
    fn documented() -> Vec<(String, String, String)> {
        let rows = include_str!("../../docs/metrics.md").lines().filter_map(|line| {
            let cells: Vec<_> = line.split('|').map(str::trim).collect();
            let name = cells.get(1)?.strip_prefix('`')?.strip_suffix('`')?;
            Some((name.to_owned(), (*cells.get(2)?).to_owned(), cells.get(3)?.replace('`', "")))
        });
        rows.collect()
    }

    #[test]
    fn the_page_of_the_manual_lists_what_there_is() {
        let listed = METRICS.iter().map(|(metric, _)| {
            (metric.name.to_owned(), metric.kind.as_str().to_owned(), metric.labels.join(", "))
        });
        assert_eq!(documented(), listed.collect::<Vec<_>>());
    }

    #[test]
    fn names_follow_the_manner_of_prometheus() {
        for (at, (metric, _)) in METRICS.iter().enumerate() {
            let name = metric.name;
            assert!(METRICS[..at].iter().all(|(other, _)| other.name != name), "{name} twice");
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
            assert_eq!(name.ends_with("_total"), metric.kind == Counter, "{name}");
            let sampled = metric.help.contains("sample");
            assert_eq!(metric.kind == Histogram, sampled, "{name}: who reads it has to know");
        }
    }

    #[test]
    fn the_process_has_a_start() {
        let ticks = Ticks::read().unwrap();
        assert!(ticks.started > 0 && ticks.spent < 100 * 3600 * 24, "{} {}", ticks.started, ticks.spent);
    }
}
