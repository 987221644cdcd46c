//! The controller of `/v2/{project_id}/jobs/{id}/output/stdout` and `…/stderr`: bytes as a job wrote them.
//!
//! A stream has a head and a tail; bytes between the two may be missing. The header `Pileus-Output-Gap` tells which.
//! A piece is fetched once the one before was taken, so that a slow client costs one piece of memory.

use std::{future::poll_fn, sync::Arc, task::Poll, time::Duration};

use pileus_sdk::{
    Call, Fault, Method, QueryParam, Reply, Scope, Standing, StatusCode,
    body::pieces,
    header::{self, HeaderName, HeaderValue},
    model::{BoxFuture, Clock, Engine, Gap, JobStream, Name, OutputPart, OutputRange},
    query::Values,
};

use crate::{
    ALL,
    followers::{Follower, Followers},
    jobs::find,
    range::{self, ByteRange},
};

/// Most bytes that are fetched at a time.
const PIECE: usize = 64 << 10;

/// Longest time that a request for the next piece waits.
const WAIT: Duration = Duration::from_secs(15);

static GAP: HeaderName = HeaderName::from_static("pileus-output-gap");

pub struct Outputs {
    pub engine: Arc<dyn Engine>,
    pub clock: Arc<dyn Clock>,
    pub followers: Arc<Followers>,
}

impl Outputs {
    /// Standard output from `offset=` on; `follow=1` goes on until the job ends.
    pub async fn stdout(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        self.answer(&call, JobStream::Stdout).await
    }

    /// The same of standard error.
    pub async fn stderr(self: Arc<Self>, call: Call) -> Result<Reply, Fault> {
        self.answer(&call, JobStream::Stderr).await
    }

    async fn answer(&self, call: &Call, stream: JobStream) -> Result<Reply, Fault> {
        let scope = Scope::of(call, ALL)?;
        let offset = call.query().number::<u64>("offset")?.unwrap_or(0);
        let job = find(&self.engine.view(), &scope, &call.id())?.id.clone();
        let head = call.head().method == Method::HEAD;
        let follower = match call.query().flag("follow") && !head {
            true => Some(self.followers.enter(call)?),
            false => None,
        };
        let range = OutputRange { stream, offset, max: PIECE };
        let first = self.engine.output_part(&job, range, Duration::ZERO).await?;
        let first = first.ok_or_else(|| Fault::NotFound { kind: "Job", id: call.id().into() })?;
        let gap = first.gap.filter(|gap| gap.to > offset);
        let length = remaining(&first);
        let (at, ended) = (first.offset, first.ended);
        let mut reader = Reader {
            engine: self.engine.clone(),
            job,
            stream,
            at,
            gap,
            left: Some(length),
            first: Some(first),
            attempt: None,
            follow: None,
        };
        if let Some(follower) = follower.filter(|_| !ended) {
            let also: &[&'static str] = if matches!(scope, Scope::All) { &[ALL] } else { &[] };
            let standing = Standing::of(call, self.clock.clone(), also);
            let stop = call.context().draining().unwrap_or_else(|| Box::pin(std::future::pending()));
            reader.left = None;
            reader.follow = Some(Follow { stop, standing, _follower: follower });
        }
        let mut status = StatusCode::OK;
        let mut headers = Vec::new();
        if ended {
            let wanted = if head { None } else { range::of(&call.head().headers, length) };
            let (start, end) = match wanted {
                None => (0, length),
                Some(ByteRange::Part { start, end }) => {
                    status = StatusCode::PARTIAL_CONTENT;
                    headers.push((header::CONTENT_RANGE, format!("bytes {start}-{}/{length}", end - 1)));
                    (start, end)
                }
                Some(ByteRange::Unsatisfiable) => return Err(unsatisfiable(length)),
            };
            if start > 0 {
                (reader.at, reader.first) = (skip(at, start, gap), None);
            }
            reader.left = Some(end - start);
            headers.push((header::ACCEPT_RANGES, "bytes".to_owned()));
            headers.push((header::CONTENT_LENGTH, (end - start).to_string()));
        }
        if let Some(Gap { from, to }) = gap {
            headers.push((GAP.clone(), format!("{from}-{to}")));
        }
        let reply =
            Reply::stream("application/octet-stream", pieces(reader, Reader::next))?.with_status(status);
        let reply = [
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::CONTENT_DISPOSITION, "attachment"),
            (header::CONTENT_SECURITY_POLICY, "sandbox"),
            (header::CACHE_CONTROL, "no-store"),
            // Proxies that gather answers would keep the output from people.
            (HeaderName::from_static("x-accel-buffering"), "no"),
        ]
        .into_iter()
        .fold(reply, |reply, (name, value)| reply.header(name, value));
        Ok(headers.into_iter().fold(reply, |reply, (name, value)| reply.header(name, &value)))
    }
}

/// The query parameter that says where to begin.
pub fn offset_param() -> QueryParam {
    QueryParam::new("offset", Values::Integer, "Offset in the stream of the first byte that is sent")
}

/// The query parameter that asks for what comes.
pub fn follow_param() -> QueryParam {
    QueryParam::flag("follow", "Goes on until the job ends")
}

/// Number of bytes that are kept from the piece's offset on.
fn remaining(part: &OutputPart) -> u64 {
    let missing = part.gap.filter(|gap| part.offset < gap.from).map_or(0, Gap::len);
    part.total.saturating_sub(part.offset).saturating_sub(missing)
}

/// Offset in the stream, `count` kept bytes after the offset `at`.
fn skip(at: u64, count: u64, gap: Option<Gap>) -> u64 {
    let to = at.saturating_add(count);
    match gap {
        Some(gap) if at < gap.from && to >= gap.from => to.saturating_add(gap.len()),
        _ => to,
    }
}

#[cold]
fn unsatisfiable(length: u64) -> Fault {
    let fault = Fault::RangeNotSatisfiable(format!(
        "The range is not within the {length} bytes that there are from this offset on."
    ));
    let headers = HeaderValue::from_str(&format!("bytes */{length}")).map(|it| (header::CONTENT_RANGE, it));
    fault.with_headers(headers)
}

/// Place of a client that follows, beside others.
struct Follow {
    /// Ends when the server drains.
    stop: BoxFuture<()>,
    /// Grounds on which the client may follow.
    standing: Standing,
    _follower: Follower,
}

impl Follow {
    /// `true` if the stream has to end now.
    async fn is_over(&mut self) -> bool {
        let stops = poll_fn(|cx| Poll::Ready(self.stop.as_mut().poll(cx).is_ready())).await;
        stops || !self.standing.holds().await
    }
}

/// Body of an answer.
struct Reader {
    engine: Arc<dyn Engine>,
    job: Name,
    stream: JobStream,
    /// Offset of the next byte.
    at: u64,
    /// Gap that the answer's head has told. The body skips no other bytes.
    gap: Option<Gap>,
    /// Bytes that are still to be sent; `None`: until the job ends.
    left: Option<u64>,
    /// The first piece, which was fetched for the head.
    first: Option<OutputPart>,
    /// Attempt of the job that wrote what was sent. A second one writes from the start.
    attempt: Option<u32>,
    follow: Option<Follow>,
}

impl Reader {
    /// The next piece; `None`: all was sent, or nothing more can be. A client comes back with the offset of the
    /// first byte that it has not seen.
    async fn next(mut self) -> Option<(Vec<u8>, Self)> {
        loop {
            if self.left == Some(0) {
                return None;
            }
            if let Some(follow) = &mut self.follow
                && follow.is_over().await
            {
                return None;
            }
            let mut part = match self.first.take() {
                Some(part) => part,
                None => self.fetch().await?,
            };
            let told = self.gap.is_some_and(|gap| part.offset == gap.to && self.at >= gap.from);
            if part.offset != self.at && !told {
                return None;
            }
            if part.bytes.is_empty() {
                if part.ended || self.follow.is_none() {
                    return None;
                }
                continue;
            }
            if self.is_another_attempt() {
                return None;
            }
            if let Some(left) = &mut self.left {
                part.bytes.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= part.bytes.len() as u64;
            }
            self.at = part.end();
            return Some((part.bytes, self));
        }
    }

    /// Fetches the next piece. Waits for it, where the client follows. `None`: the server drains, or there is none.
    async fn fetch(&mut self) -> Option<OutputPart> {
        let range = OutputRange { stream: self.stream, offset: self.at, max: PIECE };
        let wait = self.follow.as_ref().map_or(Duration::ZERO, |it| WAIT.min(it.standing.due_in()));
        let mut read = self.engine.output_part(&self.job, range, wait);
        let part = match &mut self.follow {
            None => read.await,
            Some(follow) => {
                let stop = &mut follow.stop;
                let first = poll_fn(|cx| match stop.as_mut().poll(cx) {
                    Poll::Ready(()) => Poll::Ready(None),
                    Poll::Pending => read.as_mut().poll(cx).map(Some),
                });
                first.await?
            }
        };
        part.ok()?
    }

    fn is_another_attempt(&mut self) -> bool {
        let now = self.engine.view().jobs.get(&self.job).map(|job| job.attempts);
        let before = self.attempt.or(now);
        self.attempt = before;
        now != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_of_kept_bytes_and_offsets_of_the_stream_agree() {
        let gap = Some(Gap { from: 4, to: 10 });
        // gap, offset of the piece, kept bytes that remain, then skips and where they lead
        type Case<'a> = (Option<Gap>, u64, u64, &'a [(u64, u64)]);
        let cases: [Case<'_>; 6] = [
            (None, 0, 14, &[(0, 0), (5, 5), (14, 14)]),
            (None, 20, 0, &[(0, 20)]),
            (gap, 0, 8, &[(0, 0), (3, 3), (4, 10), (7, 13)]),
            (gap, 3, 5, &[(0, 3), (1, 10), (2, 11)]),
            (gap, 10, 4, &[(0, 10), (3, 13)]),
            (gap, u64::MAX, 0, &[]),
        ];
        for (gap, offset, left, skips) in cases {
            let part = OutputPart { offset, total: 14, gap, ..OutputPart::default() };
            assert_eq!(remaining(&part), left, "{gap:?} {offset}");
            for (count, to) in skips {
                assert_eq!(skip(offset, *count, gap), *to, "{gap:?} {offset} {count}");
            }
        }
    }
}
