//! The controller of `/v2/{project_id}/events`.

use std::sync::Arc;

use pileus_sdk::{
    Call, Fault, Page, Reply, Scope, Standing, Value,
    body::pieces,
    header, json,
    model::{Clock, Engine, Event, Name},
};

use crate::{
    ALL,
    document::{Document, KINDS, told},
    follow::Follow,
};

/// Parts of the history that are looked through for one answer, where `kind` passes over much. What
/// comes then is shorter, and its `next` link goes on.
const PARTS: usize = 10;

/// Events in one part.
const PART: usize = 1000;

pub struct Events {
    pub engine: Arc<dyn Engine>,
    pub clock: Arc<dyn Clock>,
}

/// Which events a call is about.
#[derive(Debug, Clone)]
pub struct Ask {
    /// Its own and everybody's; `None`: all.
    pub project: Option<Name>,
    /// Of these kinds; empty: of all.
    pub kinds: Vec<&'static str>,
}

impl Ask {
    fn of(call: &Call) -> Result<Self, Fault> {
        let project = match Scope::of(call, ALL)? {
            Scope::Project(project) => Some(project.into()),
            Scope::All => None,
        };
        let query = call.query();
        let words = query.get("kind").unwrap_or_default().split(',').map(str::trim);
        let kinds = words.filter(|word| !word.is_empty()).map(kind).collect::<Result<_, _>>()?;
        Ok(Self { project, kinds })
    }

    /// Whether it is about events of this kind.
    pub fn wants(&self, event: &Event) -> bool {
        self.kinds.is_empty() || self.kinds.contains(&told(&event.kind).0)
    }
}

fn kind(word: &str) -> Result<&'static str, Fault> {
    KINDS
        .into_iter()
        .find(|kind| *kind == word)
        .ok_or_else(|| Fault::BadRequest(format!("kind param must be of {}, not `{word}`", KINDS.join(", "))))
}

impl Events {
    /// `{"events": […]}` after `since`, the oldest first; or a stream of them.
    pub async fn index(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        let ask = Ask::of(&call)?;
        let since = call.query().number::<u64>("since")?;
        if wants_stream(&call) { self.follow(&call, ask, since) } else { self.list(&call, &ask, since).await }
    }

    async fn list(&self, call: &Call, ask: &Ask, since: Option<u64>) -> Result<Reply, Fault> {
        let limit = Page::of(call)?.limit();
        let (mut after, mut more, mut found) = (since.unwrap_or(0), limit > 0, Vec::new());
        for _ in 0..PARTS {
            // With a filter a part may give anything from all to nothing.
            let part = if ask.kinds.is_empty() { limit - found.len() } else { PART };
            if part == 0 || !more {
                break;
            }
            let history = self.engine.events(after, part, ask.project.clone()).await?;
            more = history.more;
            for event in history.events {
                if found.len() == limit {
                    more = true;
                    break;
                }
                after = event.seq;
                if ask.wants(&event) {
                    found.push(event);
                }
            }
            if found.len() == limit {
                break;
            }
        }
        let events: Vec<_> = found.iter().map(|event| Document::new(event, ask.project.as_deref())).collect();
        let mut reply = json!({ "events": events });
        if more && limit > 0 {
            reply["events_links"] = json!([{ "rel": "next", "href": next(call, after) }]);
        }
        // What a client accepts chooses between the list and the stream.
        Ok(Reply::ok(&reply)?.header(header::VARY, "accept"))
    }

    /// From `Last-Event-ID`, which a client sends that was cut off, else from `since`, else from now.
    fn follow(&self, call: &Call, ask: Ask, since: Option<u64>) -> Result<Reply, Fault> {
        let last = call.head().headers.get("last-event-id").filter(|last| !last.is_empty());
        let last = last.map(|last| last.to_str().ok().and_then(|last| last.trim().parse().ok()));
        let after = match (last, since) {
            (Some(None), _) => {
                return Err(Fault::BadRequest("Last-Event-ID must be the id of an event.".into()));
            }
            (Some(Some(last)), _) => last,
            (None, Some(since)) => since,
            (None, None) => self.engine.view().seq,
        };
        let draining = call.context().draining();
        let also: &[&'static str] = if ask.project.is_none() { &[ALL] } else { &[] };
        let standing = Standing::of(call, self.clock.clone(), also);
        let follow = Follow::new(self.engine.clone(), self.clock.clone(), ask, after, draining, standing);
        let reply = Reply::stream("text/event-stream", pieces(follow, Follow::next))?;
        let reply = reply.header(header::CACHE_CONTROL, "no-cache");
        // Proxies that gather answers would keep events from people.
        Ok(reply.header(header::HeaderName::from_static("x-accel-buffering"), "no"))
    }
}

/// `?follow=1`, or `Accept: text/event-stream`.
fn wants_stream(call: &Call) -> bool {
    let accept = call.head().headers.get_all(header::ACCEPT).iter().filter_map(|it| it.to_str().ok());
    let mut accept = accept.flat_map(|it| it.split(',')).map(|it| it.split(';').next().unwrap_or(it).trim());
    match call.query().get("follow") {
        Some(_) => call.query().flag("follow"),
        None => accept.any(|it| it.eq_ignore_ascii_case("text/event-stream")),
    }
}

/// The same call, further on.
fn next(call: &Call, since: u64) -> Value {
    let query = call.head().uri.query().unwrap_or_default().split('&');
    let kept = query.filter(|pair| !pair.is_empty() && pair.split('=').next() != Some("since"));
    let query: Vec<_> = kept.map(str::to_owned).chain([format!("since={since}")]).collect();
    format!("{}{}?{}", call.origin(), call.path(), query.join("&")).into()
}
