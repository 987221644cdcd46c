//! A Keystone that says what a test tells it to, over a real socket.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use pileus_model::{Clock, ManualClock, Time};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Semaphore};

use crate::serve::Keys;

/// How it answers.
#[derive(Debug, Clone, Copy)]
pub enum Mode {
    /// As it should.
    Well,
    /// Not at all.
    Silent,
    /// Everything with this status and body.
    Says(u16, &'static str),
    /// Questions about tokens with this status and body.
    SaysOfTokens(u16, &'static str),
    /// With more than anybody wants to read.
    Huge,
    /// Questions about tokens with more than anybody wants to read.
    HugeOfTokens,
    /// Questions about tokens with nothing: the connection is closed.
    BreaksOff,
    /// The same once, and from then on as it should.
    BreaksOffOnce,
    /// As it should, and closes the connection after each answer.
    Closes,
}

pub struct State {
    pub mode: Mode,
    /// By token: its document. The token's own expiry is not looked at: this is up to who asks.
    pub tokens: BTreeMap<String, Value>,
    /// Those that are told of with `allow_expired` alone.
    pub expired: BTreeMap<String, Value>,
    /// Connections that were opened.
    pub connections: usize,
    /// `POST`, or `GET` and the token.
    pub asked: Vec<String>,
    /// The last body of a `POST`.
    pub proof: Value,
    /// How long its tokens for services live.
    pub life_s: u64,
    /// The one token for services that is good.
    pub good: String,
    made: usize,
}

#[derive(Clone)]
pub struct Fake {
    pub address: SocketAddr,
    pub clock: ManualClock,
    /// A question about a token takes one; a test that wants to see who waits takes all.
    pub gate: Arc<Semaphore>,
    state: Arc<Mutex<State>>,
}

impl Fake {
    pub async fn start(clock: &ManualClock) -> Self {
        Self::start_with(clock, None).await
    }

    /// One that speaks TLS, with keys.
    pub async fn start_with(clock: &ManualClock, keys: Option<Keys>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let state = State {
            mode: Mode::Well,
            tokens: BTreeMap::new(),
            expired: BTreeMap::new(),
            connections: 0,
            asked: Vec::new(),
            proof: Value::Null,
            life_s: 3600,
            good: String::new(),
            made: 0,
        };
        let fake = Self {
            address: listener.local_addr().unwrap(),
            clock: clock.clone(),
            gate: Arc::new(Semaphore::new(1000)),
            state: Arc::new(Mutex::new(state)),
        };
        let it = fake.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let it = it.clone();
                it.state().connections += 1;
                let service = service_fn(move |request| {
                    let it = it.clone();
                    async move { it.answer(request).await.ok_or(std::fmt::Error) }
                });
                let Some(keys) = keys.clone() else {
                    tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
                    continue;
                };
                tokio::spawn(async move {
                    let Ok(stream) = keys.acceptor().accept(stream).await else { return };
                    http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok();
                });
            }
        });
        fake
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// How often it was asked for a token, and about one.
    pub fn counts(&self) -> (usize, usize) {
        let state = self.state();
        let posts = state.asked.iter().filter(|it| *it == "POST").count();
        (posts, state.asked.len() - posts)
    }

    /// `seconds` from now, as Keystone writes it.
    pub fn at(&self, seconds: i64) -> String {
        let Time(now) = self.clock.now();
        jiff::Timestamp::from_millisecond(now + seconds * 1000).unwrap().to_string()
    }

    /// A project's token of `user`, good for an hour.
    pub fn know(&self, token: &str, user: &str, roles: &[&str]) {
        let document = self.document(user, roles);
        self.state().tokens.insert(token.into(), document);
    }

    pub fn document(&self, user: &str, roles: &[&str]) -> Value {
        let roles: Vec<Value> = roles.iter().map(|role| json!({ "id": "r", "name": role })).collect();
        json!({
            "methods": ["password"], "audit_ids": ["a"], "issued_at": self.at(0), "expires_at": self.at(3600),
            "user": { "id": user, "name": "n", "domain": { "id": "default", "name": "Default" } },
            "project": { "id": "p1", "name": "n", "domain": { "id": "default", "name": "Default" } },
            "roles": roles, "is_domain": false,
        })
    }

    /// `None`: the connection breaks off.
    async fn answer(&self, request: Request<Incoming>) -> Option<Response<Full<Bytes>>> {
        let mode = self.state().mode;
        let mut answer = self.answer_in(mode, request).await?;
        if matches!(mode, Mode::Closes) {
            answer.headers_mut().insert("connection", "close".parse().unwrap());
        }
        Some(answer)
    }

    async fn answer_in(&self, mode: Mode, request: Request<Incoming>) -> Option<Response<Full<Bytes>>> {
        let reply = |status: u16, text: String| {
            Response::builder().status(status).body(Full::new(Bytes::from(text))).unwrap()
        };
        let header = |name: &str| {
            request.headers().get(name).map(|it| it.to_str().unwrap().to_owned()).unwrap_or_default()
        };
        let (own, subject) = (header("x-auth-token"), header("x-subject-token"));
        let query = request.uri().query().unwrap_or_default().to_owned();
        assert_eq!(request.uri().path(), "/identity/v3/auth/tokens");
        assert!(query.starts_with("nocatalog"), "{query}");
        let posted = *request.method() == Method::POST;
        {
            let mut state = self.state();
            state.asked.push(if posted { "POST".into() } else { format!("GET {subject}") });
        }
        if posted {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            self.state().proof = serde_json::from_slice(&body).unwrap();
        } else {
            self.gate.acquire().await.unwrap().forget();
        }
        match mode {
            Mode::Silent => std::future::pending::<()>().await,
            Mode::Says(status, text) => return Some(reply(status, text.into())),
            Mode::SaysOfTokens(status, text) if !posted => return Some(reply(status, text.into())),
            Mode::Huge => return Some(reply(if posted { 201 } else { 200 }, " ".repeat(3 << 20))),
            Mode::HugeOfTokens if !posted => return Some(reply(200, " ".repeat(3 << 20))),
            Mode::BreaksOff if !posted => return None,
            Mode::BreaksOffOnce if !posted => {
                self.state().mode = Mode::Well;
                return None;
            }
            _ => {}
        }
        let mut state = self.state();
        if posted {
            state.made += 1;
            state.good = format!("own-{}", state.made);
            let ends = self.at(state.life_s as i64);
            let text = json!({ "token": { "expires_at": ends, "methods": ["password"] } }).to_string();
            let mut made = reply(201, text);
            made.headers_mut().insert("x-subject-token", state.good.parse().unwrap());
            return Some(made);
        }
        if own != state.good {
            return Some(reply(401, "{}".into()));
        }
        let expired = state.expired.get(&subject).filter(|_| query.contains("allow_expired=1"));
        Some(match state.tokens.get(&subject).or(expired) {
            Some(document) => reply(200, json!({ "token": document }).to_string()),
            None => reply(404, r#"{"error": {"code": 404}}"#.into()),
        })
    }
}

pub const HOUR: Duration = Duration::from_secs(3600);
