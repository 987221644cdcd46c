//! SIGKILL at random moments under writes: no acknowledged change is lost, no job runs twice, nothing is left.
//!
//! Clients write until the server is killed. The next start is compared with a model of what was acknowledged.
//! A change without an answer may have happened or not; what is found is the truth from then on. `PILEUS_KILLS`
//! is the number of kills, `PILEUS_SEED` chooses the moments and the changes. A table of what was checked is printed
//! with `--nocapture`.

mod client;
mod model;
mod tally;

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use self::{
    client::{Client, Random},
    model::{State, Thing},
    tally::Tally,
};
use crate::support::{Place, QUICK, Server, await_some};

const CLIENTS: usize = 4;

/// Kills between two moments at which everything has to come to rest.
const REST_EVERY: usize = 100;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn kills_at_random_moments_lose_nothing() {
    let kills = number("PILEUS_KILLS", 10) as usize;
    let seed = number("PILEUS_SEED", u64::from(std::process::id()));
    println!("PILEUS_KILLS={kills} PILEUS_SEED={seed}");
    let place = place();
    let proofs = place.path().join("proofs");
    fs::create_dir(&proofs).expect("a folder");
    // Workers of root are other users.
    for (path, mode) in [(place.path(), 0o755), (proofs.as_path(), 0o777)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("permissions");
    }
    let mut random = Random::new(seed);
    let mut clients: Vec<Client> =
        (0..CLIENTS).map(|at| Client::new(at, random.next(), proofs.clone())).collect();
    let (mut tally, mut history) = (Tally::default(), History::default());
    let mut killed = 0;
    while killed < kills {
        if random.below(8) == 0 {
            kill_a_start(&place, random.below(80));
            killed += 1;
            continue;
        }
        let began = Instant::now();
        let server = place.serve();
        tally.start(began.elapsed());
        check(&server, &mut clients, &mut history, &mut tally);
        if (killed + 1) % REST_EVERY == 0 {
            rest(&place, &server, &mut clients, &mut history, &mut tally);
        }
        thread::scope(|scope| {
            for client in &mut clients {
                let (api, token) = (server.api, server.token.clone());
                scope.spawn(move || client.write(api, &token));
            }
            thread::sleep(Duration::from_millis(random.below(250)));
            server.kill();
        });
        killed += 1;
    }
    let server = place.serve();
    check(&server, &mut clients, &mut history, &mut tally);
    rest(&place, &server, &mut clients, &mut history, &mut tally);
    history.count(&clients, &mut tally);
    tally.problems.extend(clients.iter().flat_map(|client| client.refused.clone()));
    drop(server);
    assert_eq!(place.workers(), [0_u32; 0], "no process is left");
    tally.proofs(&proofs);
    println!("{tally}");
    assert!(tally.problems.is_empty(), "seed {seed}: {:#?}", tally.problems);
}

/// A cloud that keeps idle VMs for a moment, and no limit of requests.
fn place() -> Place {
    let place = Place::new(&format!("{QUICK}keep_alive_s = 2\n"));
    let paste = fs::read_to_string(place.path().join("api-paste.toml")).expect("a file");
    let paste = paste.replace("value = 120,", "value = 1000000,").replace("value = 60,", "value = 1000000,");
    place.write("api-paste.toml", &paste);
    place
}

/// Kills a start somewhere on its way.
fn kill_a_start(place: &Place, after_ms: u64) {
    let mut command = place.command(&["serve"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("pileus runs");
    thread::sleep(Duration::from_millis(after_ms));
    child.kill().expect("a living process");
    child.wait().expect("its end");
}

fn check(server: &Server<'_>, clients: &mut [Client], history: &mut History, tally: &mut Tally) {
    history.read(server, tally);
    for client in clients {
        client.repeat(server);
        for thing in &mut client.things {
            thing.check(server, tally);
        }
        client.things.retain(|thing| thing.state != State::Absent);
    }
}

/// Waits until all jobs have ended and all VMs are gone, and looks for what they left.
fn rest(
    place: &Place,
    server: &Server<'_>,
    clients: &mut [Client],
    history: &mut History,
    tally: &mut Tally,
) {
    let mut jobs: Vec<&mut Thing> =
        clients.iter_mut().flat_map(|client| &mut client.things).filter(|thing| thing.runs()).collect();
    for thing in &mut jobs {
        await_some(&format!("the end of {}", thing.path), || {
            thing.check(server, tally);
            if thing.runs() { Err("it has not ended") } else { Ok(()) }
        });
    }
    server.await_no_vms();
    let (left, folders) = (place.workers(), entries(&place.state().join("vms")));
    if !left.is_empty() || !folders.is_empty() {
        tally.problems.push(format!("left behind: processes {left:?}, folders {folders:?}"));
    }
    tally.rests += 1;
    history.read(server, tally);
}

fn entries(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Events as they were read, each once.
#[derive(Default)]
struct History {
    last: Option<Value>,
    /// Submissions, starts and ends of each job.
    jobs: HashMap<String, [u32; 3]>,
}

impl History {
    /// Reads on from the last event, which has to be what it was.
    fn read(&mut self, server: &Server<'_>, tally: &mut Tally) {
        let seq = |event: &Value| event["seq"].as_u64().expect("a number");
        loop {
            let since = self.last.as_ref().map_or(0, |last| seq(last) - 1);
            let reply = server.get(&format!("/v2/default/events?all_projects=1&limit=1000&since={since}"));
            assert_eq!(reply.status, 200, "{}", reply.text);
            let events = reply.json()["events"].as_array().expect("a list").clone();
            let mut events = events.into_iter();
            if let Some(last) = &self.last {
                let again = events.next();
                if again.as_ref() != Some(last) {
                    tally.problems.push(format!("an event is another now: {last}, {again:?}"));
                }
            }
            let before = tally.events;
            for event in events {
                if seq(&event) != self.last.as_ref().map_or(0, seq) + 1 {
                    tally.problems.push(format!("a gap before {event}"));
                }
                let kinds = ["job_submitted", "job_started", "job_finished"];
                if let Some(at) = kinds.iter().position(|kind| event["kind"] == *kind) {
                    let job = event["data"]["job"].as_str().expect("a job").to_owned();
                    self.jobs.entry(job).or_default()[at] += 1;
                }
                tally.events += 1;
                self.last = Some(event);
            }
            if tally.events == before {
                return;
            }
        }
    }

    fn count(&self, clients: &[Client], tally: &mut Tally) {
        let known: usize = clients.iter().map(|client| client.submitted).sum();
        if known != self.jobs.len() {
            tally.problems.push(format!("{known} jobs were submitted, {} were made", self.jobs.len()));
        }
        for (job, [submitted, started, finished]) in &self.jobs {
            if *submitted != 1 || *started > 1 || *finished > 1 {
                let counts = format!("submitted {submitted}, started {started}, finished {finished} times");
                tally.problems.push(format!("job {job}: {counts}"));
            }
            tally.finished += usize::from(*finished == 1);
        }
    }
}
