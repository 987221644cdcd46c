//! `ratelimit`: refuses who calls faster than the limits of Nova's manner allow.
//!
//! Stands below an authenticator, which says who calls, and above `policy`, which costs more than a
//! count. Refuses at once (429); `tower`'s own rate limit makes the caller wait, and counts all callers
//! as one. It differs from Nova's where that was broken (reference §4, traps 41–47):
//!
//! - A limit's regex is matched, from the start, against the path as it was sent and against the path
//!   below the mount and the project, each with its query: `/v2/p1/servers?a=b` and `/servers?a=b`.
//!   One match is enough. (Nova matched the whole URL, so that its own `^/servers` never did.)
//! - A request that one limit refuses is charged to none, and hears of the longest wait, not the
//!   shortest: waiting that long is enough.
//! - The arithmetic is whole (`buckets`), memory is bounded, `ANY` is a verb.
//!
//! A request whose verb no limit names pays for one comparison and one reference count.

mod buckets;
mod limits;

use std::{fmt, net::IpAddr, num::NonZeroU32, sync::Arc, time::Duration};

use http::Method;
use percent_encoding::percent_decode_str;
use pileus_model::Clock;
use pileus_sdk::{Context, Fault, Filter, RateLimits, Request};
use serde::Deserialize;
use serde_json::{Value, json};

use self::{
    buckets::{Buckets, Key, Rate},
    limits::Limit,
};
use crate::{
    diagnostic::Diagnostic,
    paste::Section,
    pipeline::{Deps, Fact, FilterKind},
};

/// What the pipeline knows of it.
pub const KIND: FilterKind =
    FilterKind { name: "ratelimit", needs: &[Fact::Caller], gives: &[], authenticates: false, factory };

/// What a section with `factory = "ratelimit"` may say.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// A list of `{ verb, uri, regex, value, unit }`, or Nova's text. An empty list limits nothing.
    pub limits: toml::Value,
    /// Who shares a bucket.
    #[serde(default)]
    pub key: By,
    /// How many callers are remembered; about 100 bytes each, and 16 for each limit.
    #[serde(default = "default_max_keys")]
    pub max_keys: NonZeroU32,
}

/// Who shares a bucket.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// Nobody: a bucket for each user in each project.
    #[default]
    User,
    /// The users of a project.
    Project,
    /// Whoever calls from an address, or from a network of IPv6 with 64 bits.
    Address,
}

const fn default_max_keys() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(99_999)
}

/// Builds the stage.
pub fn factory(section: &Section, deps: &Deps) -> Result<Filter, Diagnostic> {
    let config: Config = section.parse()?;
    let limits = limits::read(&config.limits).map_err(|error| section.wrong("limits", error))?;
    let limiter = Arc::new(Limiter::new(limits, &config, deps.clock.clone()));
    let shown = limiter.clone();
    let document: Arc<RateLimits> = Arc::new(move |context| shown.document(context));
    // The buckets are shared by all connections.
    Ok(Filter::gate(move |request| {
        limiter.admit(request)?;
        request.context_mut().rate_limits = Some(document.clone());
        Ok(())
    }))
}

/// The limits, and what everybody has used of them.
struct Limiter {
    limits: Vec<Limit>,
    /// Limits of each verb that one of them names, as bits.
    verbs: Vec<(Method, u64)>,
    /// Limits of every other verb.
    any: u64,
    /// Limits whose regex matches every path.
    everywhere: u64,
    by: By,
    buckets: Buckets,
    clock: Arc<dyn Clock>,
}

impl Limiter {
    fn new(limits: Vec<Limit>, config: &Config, clock: Arc<dyn Clock>) -> Self {
        let bits = |verb: Option<&Method>| {
            let holds = |limit: &Limit| limit.verb.is_none() || limit.verb.as_ref() == verb;
            limits
                .iter()
                .enumerate()
                .filter(|(_, it)| holds(it))
                .fold(0, |bits, (index, _)| bits | 1 << index)
        };
        let mut verbs: Vec<(Method, u64)> = Vec::new();
        for verb in limits.iter().filter_map(|limit| limit.verb.as_ref()) {
            if verbs.iter().all(|(known, _)| known != verb) {
                verbs.push((verb.clone(), bits(Some(verb))));
            }
        }
        let any = bits(None);
        let everywhere = limits.iter().enumerate().filter(|(_, limit)| limit.everywhere());
        let everywhere = everywhere.fold(0, |bits, (index, _)| bits | 1 << index);
        let rates = limits.iter().map(|limit| Rate { value: limit.value, unit_ms: limit.unit_ms }).collect();
        let max_keys = usize::try_from(config.max_keys.get()).unwrap_or(usize::MAX);
        Self { limits, verbs, any, everywhere, by: config.key, buckets: Buckets::new(rates, max_keys), clock }
    }

    /// Charges a request to the limits that hold for it.
    fn admit(&self, request: &Request) -> Result<(), Fault> {
        let verb = self.verbs.iter().find(|(verb, _)| verb == request.method());
        let mut left = verb.map_or(self.any, |(_, limits)| *limits);
        if left == 0 {
            return Ok(());
        }
        let context = request.context();
        // What a limit without a regex holds for needs no look at the path.
        let mut chosen = left & self.everywhere;
        left &= !self.everywhere;
        if left != 0 {
            let targets = targets(request, context);
            while left != 0 {
                let index = left.trailing_zeros() as usize;
                left &= left - 1;
                chosen |= u64::from(self.limits[index].matches(targets)) << index;
            }
        }
        if chosen == 0 {
            return Ok(());
        }
        let key = self.key(context)?;
        self.buckets.take(key, chosen, self.clock.now()).map_err(|(index, wait_ms)| {
            let details = self.limits[index].sentence();
            tracing::debug!(
                wait_ms,
                details,
                request.id = &*context.request_id,
                "rate limit refused the request"
            );
            Fault::OverLimit { details, retry_after: Duration::from_millis(wait_ms), quota: None }
        })
    }

    fn key(&self, context: &Context) -> Result<Key, Fault> {
        Ok(match self.by {
            By::User => {
                let caller = context.known_caller()?;
                self.buckets.key((&*caller.user, &*caller.project))
            }
            By::Project => self.buckets.key(&*context.known_caller()?.project),
            By::Address => self.buckets.key(match context.peer.ip().to_canonical() {
                IpAddr::V4(address) => u64::from(address.to_bits()),
                // Whoever has one address of IPv6 has the 2^64 of its network.
                IpAddr::V6(address) => (address.to_bits() >> 64) as u64 | 1 << 63,
            }),
        })
    }

    /// `rate` of the `limits` document, for the caller of this context. Source: reference §4.6.
    fn document(&self, context: &Context) -> Value {
        let Ok(key) = self.key(context) else { return json!([]) };
        let now = self.clock.now();
        let mut rates: Vec<(&str, &str, Vec<Value>)> = Vec::new();
        for (limit, (remaining, wait_ms)) in self.limits.iter().zip(self.buckets.remaining(key, now)) {
            let next = now.after(Duration::from_millis(wait_ms));
            // Whole seconds: now, or a time when it is sure to do.
            let next_s = if wait_ms == 0 {
                now.secs()
            } else {
                next.0.div_euclid(1000) + i64::from(next.0 % 1000 != 0)
            };
            let shown = json!({
                "verb": limit.verb(),
                "value": limit.value,
                "remaining": remaining,
                "unit": limit.unit,
                "next-available": jiff::Timestamp::from_second(next_s).unwrap_or_default().to_string(),
            });
            match rates.iter_mut().find(|(uri, regex, _)| *uri == limit.uri && *regex == limit.regex) {
                Some((_, _, group)) => group.push(shown),
                None => rates.push((&limit.uri, &limit.regex, vec![shown])),
            }
        }
        let rates =
            rates.into_iter().map(|(uri, regex, limit)| json!({"uri": uri, "regex": regex, "limit": limit}));
        rates.collect()
    }
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limiter").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// What a regex is matched against: the path as it was sent, and what is below mount and project.
fn targets<'a>(request: &'a Request, context: &Context) -> [&'a str; 2] {
    let whole = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let below = whole.get(context.mounted as usize..).unwrap_or(whole);
    let inner = context.caller.as_ref().and_then(|caller| {
        let rest = below.strip_prefix('/')?;
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        // A project may be sent percent-encoded, and is the same.
        let same = percent_decode_str(&rest[..end]).eq(caller.project.bytes());
        same.then_some(&rest[end..])
    });
    [whole, inner.unwrap_or(below)]
}

#[cfg(test)]
mod tests;
