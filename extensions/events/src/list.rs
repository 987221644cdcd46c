//! Events as a list in pages: forwards from a position, or backwards.
//!
//! A marker is an event's number. The engine reads forwards alone; a page that goes backwards reads
//! windows, the last one first.

use std::sync::Arc;

use pileus_sdk::{
    Call, Fault, Page, Reply, header, json,
    model::{Engine, Event},
    page::next_link,
};

use crate::{document::Document, events::Ask};

/// Parts of the history that are read for one answer, where `kind` passes over much. What comes then is
/// shorter, and its `next` link goes on.
const PARTS: usize = 10;

/// Events in one part.
const PART: usize = 1000;

/// Reads for one answer that goes backwards. One window may need several: the engine limits their bytes.
const READS: usize = 40;

/// Event numbers in the first window that is read backwards. Where few of them are the caller's, the next
/// one is larger.
const WINDOW: u64 = 64;

/// Event numbers in the largest window.
const WINDOW_MAX: u64 = 1 << 16;

/// Members of a page, and the number that the next one follows.
type Part = (Vec<Arc<Event>>, Option<u64>);

/// Names the oldest event that is kept, where older ones were deleted. A list or stream from before it begins
/// there.
pub fn oldest(reply: Reply, engine: &dyn Engine) -> Reply {
    match engine.compacted() {
        0 => reply,
        last => reply.header(header::HeaderName::from_static("pileus-oldest-event"), &(last + 1).to_string()),
    }
}

/// `{"events": […], "events_links": […]}`.
pub async fn list(
    engine: &dyn Engine,
    call: &Call,
    ask: &Ask,
    page: &Page,
    since: u64,
) -> Result<Reply, Fault> {
    let marker = call.query().number::<u64>("marker")?;
    let (events, next) = match (page.limit(), page.is_descending()) {
        (0, _) => (Vec::new(), None),
        (limit, false) => forwards(engine, ask, limit, since.max(marker.unwrap_or(0))).await?,
        (limit, true) => backwards(engine, ask, limit, since, marker).await?,
    };
    let documents: Vec<_> = events.iter().map(|event| Document::new(event, ask.project.as_deref())).collect();
    let mut reply = json!({ "events": documents });
    if let Some(next) = next {
        // `since` is the lower end of a list that goes backwards.
        let name = if page.is_descending() || marker.is_some() { "marker" } else { "since" };
        let href = next_link(call, name, &next.to_string());
        reply["events_links"] = json!([{ "rel": "next", "href": href }]);
    }
    // `Accept` chooses between the list and the stream.
    Ok(oldest(Reply::ok(&reply)?.header(header::VARY, "accept"), engine))
}

async fn forwards(engine: &dyn Engine, ask: &Ask, limit: usize, mut after: u64) -> Result<Part, Fault> {
    let (mut more, mut found) = (true, Vec::new());
    for _ in 0..PARTS {
        // With a filter a part may give anything from all to nothing.
        let part = if ask.kinds.is_empty() { limit - found.len() } else { PART };
        if part == 0 || !more {
            break;
        }
        let history = engine.events(after, part, ask.project.clone()).await?;
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
    Ok((found, more.then_some(after)))
}

/// Reads from before `marker`, or from the newest event, down to the one after `since`.
async fn backwards(
    engine: &dyn Engine,
    ask: &Ask,
    limit: usize,
    since: u64,
    marker: Option<u64>,
) -> Result<Part, Fault> {
    let newest = engine.view().seq;
    // The last number that is still to be read, and how many are read at a time.
    let mut last = marker.map_or(newest, |marker| marker.saturating_sub(1).min(newest));
    let (mut size, mut reads, mut found) = (WINDOW, 0, Vec::new());
    while last > since && found.len() <= limit && reads < READS {
        let start = last.saturating_sub(size).max(since);
        let (mut after, mut window) = (start, Vec::new());
        loop {
            let part = usize::try_from(last - after).unwrap_or(PART).min(PART);
            let history = engine.events(after, part, ask.project.clone()).await?;
            reads += 1;
            after = history.events.last().map_or(last, |event| event.seq);
            window.extend(history.events.into_iter().filter(|event| event.seq <= last));
            if !history.more || after >= last {
                break;
            }
        }
        if window.len() < WINDOW as usize {
            size = (size * 4).min(WINDOW_MAX);
        }
        found.extend(window.into_iter().rev().filter(|event| ask.wants(event)));
        last = start;
    }
    let more = found.len() > limit;
    found.truncate(limit);
    let next = if more { found.last().map(|event| event.seq) } else { (last > since).then_some(last + 1) };
    Ok((found, next))
}
