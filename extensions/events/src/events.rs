//! The controller of `/v2/{project_id}/events`.

use std::sync::Arc;

use pileus_sdk::{
    Call, Fault, Media, Page, Reply, Scope, Standing,
    body::pieces,
    header,
    model::{Clock, Engine, Event, Name},
};

use crate::{
    ALL,
    document::{KINDS, told},
    follow::Follow,
    list::{list, oldest},
};

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
        // Words that are none were refused with the query.
        let kinds = words.filter_map(|word| KINDS.into_iter().find(|kind| *kind == word)).collect();
        Ok(Self { project, kinds })
    }

    /// Whether it is about events of this kind.
    pub fn wants(&self, event: &Event) -> bool {
        self.kinds.is_empty() || self.kinds.contains(&told(&event.kind).0)
    }
}

impl Events {
    /// `{"events": […]}` after `since`, the oldest first unless `sort_dir=desc`; or a stream of them.
    pub async fn index(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        let ask = Ask::of(&call)?;
        let since = call.query().number::<u64>("since")?;
        let page = Page::of(&call)?;
        if !wants_stream(&call) {
            return list(&*self.engine, &call, &ask, &page, since.unwrap_or(0)).await;
        }
        if page.is_descending() {
            return Err(Fault::BadRequest(
                "events are followed as they happen, and not in the order desc".into(),
            ));
        }
        self.follow(&call, ask, since)
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
        let reply = oldest(reply.header(header::CACHE_CONTROL, "no-cache"), &*self.engine);
        // Proxies that gather answers would keep events from people.
        Ok(reply.header(header::HeaderName::from_static("x-accel-buffering"), "no"))
    }
}

/// `?follow=1`, or an `Accept` that prefers a stream.
fn wants_stream(call: &Call) -> bool {
    match call.query().get("follow") {
        Some(_) => call.query().flag("follow"),
        None => Media::prefers_to_json(&call.head().headers, "text/event-stream"),
    }
}
