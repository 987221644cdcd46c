//! A client that changes something all the time, and remembers what was answered.

use std::{net::SocketAddr, net::TcpStream, path::PathBuf};

use serde_json::{Value, json};

use super::model::{Kind, State, Thing};
use crate::support::{PATIENCE, Server, raw_on};

/// Things that a client has at most, by kind.
const MOST: usize = 8;

/// Numbers by a seed: splitmix64.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// Outcome of a request.
pub enum Answer {
    /// It was answered: status and document.
    Said(u16, Value),
    /// The server was gone before there was an answer.
    Cut,
    /// It was never sent.
    Unsent,
}

/// Sends a request, whatever becomes of it.
pub fn ask(api: SocketAddr, headers: &[String], method: &str, path: &str, body: &Value) -> Answer {
    let Ok(stream) = TcpStream::connect(api) else { return Answer::Unsent };
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: {api}\r\nConnection: close\r\n");
    for header in headers {
        request += &format!("{header}\r\n");
    }
    request += &format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let Some(reply) = raw_on(stream, request.as_bytes()) else { return Answer::Cut };
    match serde_json::from_str(&reply.text) {
        Ok(document) => Answer::Said(reply.status, document),
        Err(_) if reply.text.is_empty() && matches!(reply.status, 202 | 204) => {
            Answer::Said(reply.status, Value::Null)
        }
        // Cut in the middle of the document: its id is not known.
        Err(_) => Answer::Cut,
    }
}

/// A submission without an answer: it is sent again with its key.
struct Pending {
    key: String,
    body: Value,
    kind: Kind,
    proof: String,
}

pub struct Client {
    at: usize,
    random: Random,
    proofs: PathBuf,
    made: usize,
    pub things: Vec<Thing>,
    pending: Option<Pending>,
    /// Jobs whose id is known.
    pub submitted: usize,
    /// Refusals of what should have been done.
    pub refused: Vec<String>,
}

impl Client {
    pub fn new(at: usize, seed: u64, proofs: PathBuf) -> Self {
        let (things, refused) = (Vec::new(), Vec::new());
        Self { at, random: Random::new(seed), proofs, made: 0, things, pending: None, submitted: 0, refused }
    }

    /// Writes until the server is gone.
    pub fn write(&mut self, api: SocketAddr, token: &str) {
        let headers = vec![format!("X-Auth-Token: {token}")];
        while self.write_one(api, &headers) {}
    }

    fn write_one(&mut self, api: SocketAddr, headers: &[String]) -> bool {
        let kind = Kind::ALL[self.random.below(Kind::ALL.len() as u64) as usize];
        let those: Vec<usize> = (0..self.things.len()).filter(|at| self.things[*at].kind == kind).collect();
        if those.len() < MOST && (those.is_empty() || self.random.below(3) == 0) {
            return self.create(kind, api, headers);
        }
        let at = those[self.random.below(those.len() as u64) as usize];
        let Some((op, method, path, body, next)) = self.things[at].change(&mut self.random) else {
            return true;
        };
        let answer = ask(api, headers, method, &path, &body);
        let thing = &mut self.things[at];
        match answer {
            Answer::Said(status, _) if status < 300 => {
                thing.acknowledged(op, next);
                true
            }
            Answer::Said(status, said) => {
                self.refused.push(format!("{op} {path}: {status} {said}"));
                true
            }
            Answer::Cut => {
                thing.unanswered(op, next);
                false
            }
            Answer::Unsent => false,
        }
    }

    fn create(&mut self, kind: Kind, api: SocketAddr, headers: &[String]) -> bool {
        self.made += 1;
        let name = format!("c{}-{}", self.at, self.made);
        let Some((op, method, path, body, state)) = kind.create(&name, &mut self.random) else {
            return self.submit(kind, name, api, headers);
        };
        let mut thing = Thing::new(kind, &name, State::Absent);
        let answer = ask(api, headers, method, &path, &body);
        let goes_on = match answer {
            Answer::Said(status, said) if status < 300 => {
                thing.secret = said["token"]["secret"].as_str().unwrap_or_default().to_owned();
                thing.acknowledged(op, state);
                true
            }
            Answer::Said(status, said) => {
                self.refused.push(format!("{op} {path}: {status} {said}"));
                return true;
            }
            // Without its secret a token cannot be tried.
            Answer::Cut if kind == Kind::Token => return false,
            Answer::Cut => {
                thing.unanswered(op, state);
                false
            }
            Answer::Unsent => return false,
        };
        self.things.push(thing);
        goes_on
    }

    fn submit(&mut self, kind: Kind, name: String, api: SocketAddr, headers: &[String]) -> bool {
        let proof = self.proofs.join(&name).display().to_string();
        let job = match kind {
            Kind::Run => json!({
                "command": ["sh", "-c", format!("echo ran >> {proof}; sleep 0.05; echo {name}")],
                "memory_mib": 64, "target_clouds": ["local"],
            }),
            _ => json!({ "command": ["true"], "target_clouds": ["nowhere"] }),
        };
        let pending = Pending { key: name.clone(), body: json!({ "job": job }), kind, proof: name };
        match send(&pending, api, headers) {
            Answer::Said(202, said) => {
                self.keep(pending, &said);
                true
            }
            Answer::Said(status, said) => {
                self.refused.push(format!("submit: {status} {said}"));
                true
            }
            Answer::Cut => {
                self.pending = Some(pending);
                false
            }
            Answer::Unsent => false,
        }
    }

    fn keep(&mut self, pending: Pending, said: &Value) {
        let id = said["job"]["id"].as_str().expect("an id");
        let mut thing = Thing::new(pending.kind, id, State::Absent);
        thing.secret = pending.proof;
        thing.acknowledged("submit job", State::is("new"));
        self.things.push(thing);
        self.submitted += 1;
    }

    /// Sends again what was not answered, twice: it is one job.
    pub fn repeat(&mut self, server: &Server<'_>) {
        let Some(pending) = self.pending.take() else { return };
        let headers = vec![format!("X-Auth-Token: {}", server.token)];
        let ids = [0, 1].map(|_| match send(&pending, server.api, &headers) {
            Answer::Said(202, said) => said,
            Answer::Said(status, said) => panic!("a repeated submission: {status} {said}"),
            Answer::Cut | Answer::Unsent => panic!("a repeated submission is not answered"),
        });
        assert_eq!(ids[0]["job"]["id"], ids[1]["job"]["id"], "one key, one job");
        self.keep(pending, &ids[0]);
    }
}

fn send(pending: &Pending, api: SocketAddr, headers: &[String]) -> Answer {
    let headers = [headers, &[format!("Idempotency-Key: {}", pending.key)]].concat();
    ask(api, &headers, "POST", "/v2/default/jobs", &pending.body)
}
