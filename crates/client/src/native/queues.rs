//! `cloud_status -q` in `/v2`: which jobs stand in which of the old queues.

use serde_json::{Value, json};

use super::{Api, Shown, Trouble, render};

const COLUMNS: &[render::Column] = &[
    ("ID", "id"),
    ("USER", "user"),
    ("TYPE", "vm_type"),
    ("STATE", "state"),
    ("PRIORITY", "priority"),
    ("CLOUD", "cloud"),
    ("FINISHED", "finished"),
    ("EXIT", "exit_code"),
    ("REASON", "reason"),
];

/// A queue: its name, its title, the states of its jobs (none: any), and whether only those of high
/// priority belong to it.
struct Queue(&'static str, &'static str, &'static [&'static str], bool);

#[rustfmt::skip]
const QUEUES: &[Queue] = &[
    Queue("sched",    "Jobs in Scheduled Queue",     &["scheduled"],        false),
    Queue("new",      "Jobs in New Queue",           &["new"],              false),
    Queue("high",     "Jobs in High Priority Queue", &[],                   true),
    Queue("held",     "Jobs in Held state",          &["held"],             false),
    // The batch system's "idle" is whatever waits.
    Queue("idle",     "Jobs in Idle state",          &["new", "scheduled"], false),
    Queue("complete", "Jobs in Complete state",      &["complete"],         false),
    Queue("running",  "Jobs in Running state",       &["running"],          false),
];

/// One queue; `all` is the first three.
pub async fn show(api: &Api<'_>, word: &str) -> Result<Shown, Trouble> {
    let first = QUEUES.iter().take(if word == "all" { 3 } else { 0 });
    let queues = first.chain(QUEUES.iter().filter(|queue| queue.0 == word));
    let mut text = Vec::new();
    let mut all = serde_json::Map::new();
    for Queue(name, title, states, high) in queues {
        let mut jobs = Vec::new();
        if states.is_empty() {
            jobs = api.list(&["jobs", "detail"], "jobs", &[]).await?;
        }
        for state in *states {
            jobs.append(&mut api.list(&["jobs", "detail"], "jobs", &[("state", state)]).await?);
        }
        jobs.retain(|job| !high || job["high_priority"] == true);
        text.push(format!("{title}\n{}", render::table(COLUMNS, &jobs)));
        all.insert((*name).into(), jobs.into());
    }
    let json = match all.len() {
        1 => json!({ "jobs": all.into_iter().next().map(|(_, jobs)| jobs) }),
        _ => json!({ "jobs": Value::Object(all) }),
    };
    Ok(Shown { text: text.join("\n\n"), json, refused: false })
}
