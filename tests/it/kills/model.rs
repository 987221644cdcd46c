//! Things that clients change, each with the states that it may be in.

use serde_json::{Value, json};

use super::{client::Random, tally::Tally};
use crate::support::{Server, send};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A job that nothing can run.
    Wait,
    /// A job that runs.
    Run,
    Cloud,
    Token,
    Limit,
    Alias,
}

/// A change: its name, method, path, body, and the state that it leads to.
pub type Change = (&'static str, &'static str, String, Value, State);

impl Kind {
    pub const ALL: [Self; 6] = [Self::Wait, Self::Run, Self::Cloud, Self::Token, Self::Limit, Self::Alias];

    fn path(self, name: &str) -> String {
        let collection = match self {
            Self::Wait | Self::Run => "jobs",
            Self::Cloud => "clouds",
            Self::Token => "tokens",
            Self::Limit => "users",
            Self::Alias => "cloud-aliases",
        };
        format!("/v2/default/{collection}/{name}")
    }

    /// Returns how a thing of this name is made; `None`: the server chooses the name.
    pub fn create(self, name: &str, random: &mut Random) -> Option<Change> {
        let collection = self.path("").trim_end_matches('/').to_owned();
        Some(match self {
            Self::Wait | Self::Run => return None,
            Self::Cloud => {
                let cloud = json!({
                    "name": name, "driver": "local", "vm_slots": 0, "cpu_cores": 1, "memory_mib": 64, "storage_gib": 1,
                });
                ("create cloud", "POST", collection, json!({ "cloud": cloud }), State::is("0 true false"))
            }
            Self::Token => {
                let token = json!({ "name": name, "user": name, "project": "default", "roles": ["member"] });
                ("create token", "POST", collection, json!({ "token": token }), State::is("valid"))
            }
            Self::Limit => {
                let vms = random.below(1000);
                let body = json!({ "user": { "vm_limit": vms } });
                ("set limit", "PUT", self.path(name), body, State::is(vms))
            }
            Self::Alias => {
                let alias = json!({ "name": name, "clouds": ["a"] });
                ("create alias", "POST", collection, json!({ "cloud_alias": alias }), State::is(r#"["a"]"#))
            }
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    Absent,
    Is(String),
}

impl State {
    pub fn is(text: impl ToString) -> Self {
        Self::Is(text.to_string())
    }
}

pub struct Thing {
    pub kind: Kind,
    pub path: String,
    /// Secret of a token; output of a job.
    pub secret: String,
    pub state: State,
    /// Changes that were acknowledged since the last check.
    acknowledged: Vec<&'static str>,
    /// The change without an answer, and the state that it leads to.
    unanswered: Option<(&'static str, State)>,
}

impl Thing {
    pub fn new(kind: Kind, name: &str, state: State) -> Self {
        let (path, secret) = (kind.path(name), String::new());
        Self { kind, path, secret, state, acknowledged: Vec::new(), unanswered: None }
    }

    pub fn acknowledged(&mut self, op: &'static str, next: State) {
        self.acknowledged.push(op);
        self.state = next;
    }

    pub fn unanswered(&mut self, op: &'static str, next: State) {
        self.unanswered = Some((op, next));
    }

    /// `true` if it is a job that has not ended.
    pub fn runs(&self) -> bool {
        self.kind == Kind::Run && self.state == State::is("new")
    }

    /// Chooses a change; `None`: there is none now.
    pub fn change(&self, random: &mut Random) -> Option<Change> {
        let path = self.path.clone();
        let action = || format!("{path}/action");
        let State::Is(state) = &self.state else { return None };
        let removed = |op| (op, "DELETE", path.clone(), Value::Null, State::Absent);
        Some(match (self.kind, state.as_str()) {
            (Kind::Run, "new") => return None,
            (Kind::Run, _) => removed("forget job"),
            (Kind::Wait, "removed") => removed("forget job"),
            (Kind::Wait, "held") if random.below(2) == 0 => {
                ("release job", "POST", action(), json!({ "release": null }), State::is("new"))
            }
            (Kind::Wait, "new") if random.below(2) == 0 => {
                ("hold job", "POST", action(), json!({ "hold": null }), State::is("held"))
            }
            (Kind::Wait, _) => ("delete job", "DELETE", path, Value::Null, State::is("removed")),
            (Kind::Token, _) => removed("revoke token"),
            (Kind::Limit, _) if random.below(2) == 0 => {
                ("take limit away", "PUT", path, json!({ "user": { "vm_limit": null } }), State::Absent)
            }
            (Kind::Limit, _) => {
                let vms = random.below(1000);
                ("set limit", "PUT", path, json!({ "user": { "vm_limit": vms } }), State::is(vms))
            }
            (Kind::Alias, _) if random.below(2) == 0 => removed("delete alias"),
            (Kind::Alias, _) => {
                let clouds = json!([format!("b{}", random.below(1000))]);
                let body = json!({ "cloud_alias": { "clouds": clouds } });
                ("change alias", "PUT", path, body, State::is(clouds))
            }
            (Kind::Cloud, state) => {
                let mut words = state.split(' ');
                let slots = words.next().unwrap_or_default();
                let (enabled, draining) = (words.next() == Some("true"), words.next() == Some("true"));
                match random.below(5) {
                    0 => removed("delete cloud"),
                    // No job names it, so that no VM is ever booted there.
                    1 => {
                        let slots = random.below(1000);
                        let body = json!({ "set_slots": { "vm_slots": slots } });
                        (
                            "resize cloud",
                            "POST",
                            action(),
                            body,
                            State::is(format!("{slots} {enabled} {draining}")),
                        )
                    }
                    2 => (
                        "disable cloud",
                        "POST",
                        action(),
                        json!({ "disable": null }),
                        State::is(format!("{slots} false {draining}")),
                    ),
                    3 => (
                        "drain cloud",
                        "POST",
                        action(),
                        json!({ "drain": null }),
                        State::is(format!("{slots} false true")),
                    ),
                    _ => (
                        "enable cloud",
                        "POST",
                        action(),
                        json!({ "enable": null }),
                        State::is(format!("{slots} true false")),
                    ),
                }
            }
        })
    }

    /// Compares it with what the server shows.
    pub fn check(&mut self, server: &Server<'_>, tally: &mut Tally) {
        let found = self.found(server, tally);
        let (acknowledged, unanswered) = (std::mem::take(&mut self.acknowledged), self.unanswered.take());
        let ended = self.runs() && found == State::is("complete");
        let known = found == self.state || ended;
        let happened = unanswered.as_ref().is_some_and(|(_, next)| found == *next);
        if known || happened {
            acknowledged.iter().for_each(|op| tally.found(op));
        } else {
            acknowledged.iter().for_each(|op| tally.lost(op));
            let wanted = format!("{:?} or {unanswered:?} after {acknowledged:?}", self.state);
            tally.problems.push(format!("{}: {found:?}, not {wanted}", self.path));
        }
        if let Some((op, _)) = unanswered {
            tally.unanswered(op, happened && !known);
        }
        self.state = found;
    }

    fn found(&self, server: &Server<'_>, tally: &mut Tally) -> State {
        if self.kind == Kind::Token {
            let token = format!("X-Auth-Token: {}", self.secret);
            let reply = send(server.api, "GET", "/v2/default/jobs?limit=1", &[&token], "");
            return match reply.status {
                200 => State::is("valid"),
                401 => State::Absent,
                other => State::is(other),
            };
        }
        let reply = server.get(&self.path);
        if reply.status == 404 {
            return State::Absent;
        }
        let document = reply.json();
        match self.kind {
            Kind::Wait => State::is(document["job"]["state"].as_str().unwrap_or_default()),
            Kind::Run => self.found_job(&document["job"], server, tally),
            Kind::Cloud => {
                let cloud = &document["cloud"];
                State::is(format!("{} {} {}", cloud["vm_slots"], cloud["enabled"], cloud["draining"]))
            }
            Kind::Limit => match &document["user"]["vm_limit"] {
                Value::Null => State::Absent,
                vms => State::is(vms),
            },
            Kind::Alias => State::is(&document["cloud_alias"]["clouds"]),
            Kind::Token => unreachable!("it was tried above"),
        }
    }

    fn found_job(&self, job: &Value, server: &Server<'_>, tally: &mut Tally) -> State {
        match job["state"].as_str().unwrap_or_default() {
            "new" | "scheduled" | "running" => State::is("new"),
            "complete" if self.runs() => {
                let output = server.get(&format!("{}/output", self.path)).json();
                let right = output["output"]["stdout"] == format!("{}\n", self.secret);
                if !right || job["attempts"] != 1 || job["exit_code"] != 0 {
                    tally.problems.push(format!("{job} has written {output}"));
                }
                tally.ran += 1;
                State::is("complete")
            }
            other => State::is(other),
        }
    }
}
