//! `ratelimit`: refuses who calls faster than the limits of Nova's manner allow.
//!
//! Stands below an authenticator, which says who calls, and above `policy`, which costs more than a
//! count. With `key = "address"` it may stand above the authenticator: no caller is needed for that. With
//! `count = "unauthenticated"` it has to stand there, and charges answers with 401 alone ([`guesses`]).
//!
//! Refuses at once (429); `tower`'s own rate limit makes the caller wait, and counts all callers
//! as one. It differs from Nova's where that was broken (reference §4, traps 41–47):
//!
//! - A limit's regex is matched, from the start, against the path and against the path below the mount and the
//!   project, each with its query: `/v2/p1/servers?a=b` and `/servers?a=b`. The path is in its
//!   [normal form](path), and slashes that repeat are one: no spelling escapes a limit. One match is enough.
//!   (Nova matched the whole URL, so that its own `^/servers` never did.)
//! - `HEAD` counts as `GET`, which it costs as much as.
//! - A request that one limit refuses is charged to none, and hears of the longest wait, not the
//!   shortest: waiting that long is enough.
//! - The arithmetic is whole (`buckets`), memory is bounded, `ANY` is a verb.
//! - A limit may hold for one route (`path`), and for callers with a role (`roles`).
//!
//! Answers to requests that a limit held for say what is left (`headers`). With `dry_run` nobody is
//! refused, and the log says who would have been: for trying limits out. Two filters of this kind in one
//! pipeline may count by different keys.
//!
//! A request whose verb no limit names pays for one comparison and one reference count.

mod buckets;
mod config;
mod guesses;
mod headers;
mod limits;

use std::{
    borrow::Cow,
    fmt,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::{HeaderValue, Method};
use percent_encoding::percent_decode_str;
use pileus_model::Clock;
use pileus_sdk::{Answer, Context, Fault, Filter, Peer, RateLimits, Request, path};
use serde_json::{Value, json};

use self::{
    buckets::{Buckets, Key, Rate},
    config::{By, Config, Count},
    guesses::Guesses,
    headers::Told,
    limits::Limit,
};
use crate::{
    diagnostic::{Diagnostic, nearest},
    paste::{self, Section},
    pipeline::{Capabilities, Deps, Fact, FilterKind},
    router::Router,
};

/// What the pipeline knows of it.
pub const KIND: FilterKind = FilterKind { name: "ratelimit", capabilities, factory };

/// An address is known without a caller; users, projects and roles are not.
fn capabilities(section: &Section) -> Capabilities {
    if section.text("count") == Some("unauthenticated") {
        return Capabilities::NONE.precedes(&[Fact::Caller]);
    }
    let has_roles = |limit: &paste::Value| match &limit.kind {
        paste::Kind::Table(table) => table.contains_key("roles"),
        _ => false,
    };
    let by_address = section.text("key") == Some("address") || section.gaps.contains_key("key");
    let by_role = !section.list("exempt_roles").is_empty() || section.list("limits").iter().any(has_roles);
    let requires: &[Fact] = if by_address && !by_role { &[] } else { &[Fact::Caller] };
    Capabilities::NONE.requires(requires)
}

/// Builds the stage.
pub fn factory(section: &Section, deps: &Deps) -> Result<Filter, Diagnostic> {
    let config: Config = section.parse()?;
    let limits = limits::read(&config.limits).map_err(|error| section.wrong("limits", error))?;
    let router = deps.router.clone().filter(|_| limits.iter().any(|limit| limit.path().is_some()));
    for (index, path) in limits.iter().enumerate().filter_map(|(at, limit)| Some((at, limit.path()?))) {
        is_route(path, deps.router.as_deref())
            .map_err(|error| section.wrong(&format!("limits.{index}.path"), error))?;
    }
    let count = config.count;
    if count == Count::Unauthenticated {
        guesses::sound(section, &config, &limits)?;
    }
    let limiter = Arc::new(Limiter::new(limits, config, router, section, deps));
    if count == Count::Unauthenticated {
        return Ok(Guesses::filter(limiter));
    }
    let shown = limiter.clone();
    let document: Arc<RateLimits> = Arc::new(move |context| shown.document(context));
    // The buckets are shared by all connections, and outlive a reload that leaves the limits alone.
    Ok(Filter::around(move |inner, mut request| {
        let told = match limiter.admit(&request) {
            Ok(told) => told,
            Err(fault) => return Answer::refused(fault),
        };
        request.context_mut().rate_limits = Some(document.clone());
        match told {
            None => inner.send(request),
            Some(values) => inner.send(request).map(|answer| headers::added(answer, *values)),
        }
    }))
}

/// A limit for a route that is not there would never hold.
fn is_route(path: &str, router: Option<&Router>) -> Result<(), String> {
    let Some(router) = router else {
        return Err("a `path` needs a router at the end of the pipeline: write a `regex`".into());
    };
    let paths = || router.routes().iter().map(|route| route.path.as_str());
    if paths().any(|it| it == path) {
        return Ok(());
    }
    let near = nearest(path, paths()).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
    Err(format!("no route has the path `{path}`: `pileus routes` lists them{near}"))
}

/// The limits, and what everybody has used of them.
struct Limiter {
    limits: Vec<Limit>,
    /// Limits of each verb that one of them names, as bits.
    verbs: Vec<(Method, u64)>,
    /// Limits of every other verb.
    any: u64,
    /// Limits for every path.
    everywhere: u64,
    /// Limits for a route.
    paths: u64,
    /// Limits for callers with a role.
    by_role: u64,
    by: By,
    exempt_roles: Vec<String>,
    headers: bool,
    /// How many it would have refused, where it refuses nobody.
    dry_run: Option<AtomicU64>,
    buckets: Arc<Buckets>,
    router: Option<Arc<Router>>,
    clock: Arc<dyn Clock>,
}

impl Limiter {
    fn new(
        limits: Vec<Limit>,
        config: Config,
        router: Option<Arc<Router>>,
        section: &Section,
        deps: &Deps,
    ) -> Self {
        let bits = |holds: &dyn Fn(&Limit) -> bool| {
            let held = limits.iter().enumerate().filter(|(_, limit)| holds(limit));
            held.fold(0, |bits, (index, _)| bits | 1 << index)
        };
        let of_verb = |verb: &Method| {
            let as_get = *verb == Method::HEAD;
            bits(&|it| it.verb.as_ref().is_none_or(|it| it == verb || as_get && *it == Method::GET))
        };
        let mut verbs: Vec<(Method, u64)> = Vec::new();
        let named = limits.iter().filter_map(|limit| limit.verb.as_ref());
        for verb in named.chain([&Method::HEAD]) {
            if verbs.iter().all(|(known, _)| known != verb) {
                verbs.push((verb.clone(), of_verb(verb)));
            }
        }
        let rates = limits.iter().map(|limit| Rate { value: limit.value, unit_ms: limit.unit_ms }).collect();
        let max_keys = usize::try_from(config.max_keys.get()).unwrap_or(usize::MAX);
        Self {
            any: bits(&|limit| limit.verb.is_none()),
            everywhere: bits(&Limit::everywhere),
            paths: bits(&|limit| limit.path().is_some()),
            by_role: bits(&|limit| !limit.roles.is_empty()),
            verbs,
            limits,
            by: config.key,
            exempt_roles: config.exempt_roles,
            headers: config.headers,
            dry_run: config.dry_run.then(AtomicU64::default),
            buckets: deps.kept.of(section, || Buckets::new(rates, max_keys)),
            router,
            clock: deps.clock.clone(),
        }
    }

    /// Charges a request to the limits that hold for it; what clients are told of them.
    fn admit(&self, request: &Request) -> Result<Option<Box<[HeaderValue; 2]>>, Fault> {
        let chosen = self.chosen(request);
        if chosen == 0 {
            return Ok(None);
        }
        let context = request.context();
        let (key, now) = (self.key(context)?, self.clock.monotonic());
        let mut told = self.headers.then(Told::default);
        let answer = self.buckets.take(key, chosen, now, |index, left| {
            if let (Some(told), Some(limit)) = (&mut told, self.limits.get(index)) {
                told.add(limit, left.requests(), left.full_ms());
            }
        });
        let quota = told.and_then(Told::values);
        match answer {
            Ok(()) => Ok(quota),
            Err((index, wait_ms)) => self.refuse(index, wait_ms, quota, context),
        }
    }

    /// Refuses a request, unless nobody is refused.
    #[cold]
    fn refuse(
        &self,
        index: usize,
        wait_ms: u64,
        quota: Option<Box<[HeaderValue; 2]>>,
        context: &Context,
    ) -> Result<Option<Box<[HeaderValue; 2]>>, Fault> {
        let (details, id) = (self.limits[index].sentence(), context.request_id.as_str());
        if let Some(refused) = &self.dry_run {
            let refused = refused.fetch_add(1, Ordering::Relaxed) + 1;
            tracing::warn!(wait_ms, details, refused, request.id = id, "rate limit would have refused");
            return Ok(quota);
        }
        tracing::debug!(wait_ms, details, request.id = id, "rate limit refused the request");
        Err(Fault::OverLimit { details, retry_after: Duration::from_millis(wait_ms), quota })
    }

    /// The limits that hold for a request, as bits.
    fn chosen(&self, request: &Request) -> u64 {
        let verb = self.verbs.iter().find(|(verb, _)| verb == request.method());
        let left = verb.map_or(self.any, |(_, limits)| *limits);
        if left == 0 {
            return 0;
        }
        let mut left = left & self.of_roles(request.context());
        // What a limit for every path holds for needs no look at it.
        let mut chosen = left & self.everywhere;
        left &= !self.everywhere;
        if left != 0 {
            let path = self.route_of(left, request);
            let target = target(request);
            let targets = targets(&target, request.context());
            while left != 0 {
                let index = left.trailing_zeros() as usize;
                left &= left - 1;
                let limit = &self.limits[index];
                let holds = match limit.path() {
                    Some(wanted) => path == Some(wanted),
                    None => limit.matches(targets),
                };
                chosen |= u64::from(holds) << index;
            }
        }
        chosen
    }

    /// The path of a request's route, where one of the limits `left` asks for it. By path alone: a
    /// body need not have been read for it.
    fn route_of(&self, left: u64, request: &Request) -> Option<&str> {
        let router = self.router.as_ref().filter(|_| left & self.paths != 0)?;
        let below = request.uri().path().get(request.context().mounted as usize..)?;
        Some(&router.find_path(request.method(), below)?.path)
    }

    /// The limits that are for a caller with these roles.
    fn of_roles(&self, context: &Context) -> u64 {
        if self.by_role == 0 && self.exempt_roles.is_empty() {
            return u64::MAX;
        }
        let roles = context.caller.as_ref().map(|caller| caller.roles.as_slice()).unwrap_or_default();
        if limits::have(roles, &self.exempt_roles) {
            return 0;
        }
        let others = self.limits.iter().enumerate().filter(|(_, limit)| !limit.holds_for(roles));
        others.fold(u64::MAX, |bits, (index, _)| bits & !(1 << index))
    }

    fn key(&self, context: &Context) -> Result<Key, Fault> {
        Ok(match self.by {
            By::User => Key::hashed(context.known_caller()?.hash()),
            By::Project => self.buckets.key(&*context.known_caller()?.project),
            By::Role => {
                let mut roles: Vec<_> =
                    context.known_caller()?.roles.iter().map(|role| role.to_ascii_lowercase()).collect();
                roles.sort_unstable();
                roles.dedup();
                self.buckets.key(roles)
            }
            By::Address => self.buckets.key(match context.peer {
                Peer::Address(address) => network(address.ip()),
                // On a Unix socket, the user is what an address is elsewhere.
                Peer::Unix(uid) => uid.map_or(u64::MAX >> 1, |uid| u64::from(uid) | 1 << 62),
            }),
        })
    }

    /// `rate` of the `limits` document, for the caller of this context. Source: reference §4.6.
    fn document(&self, context: &Context) -> Value {
        let Ok(key) = self.key(context) else { return json!([]) };
        let now = self.clock.now();
        let mut rates: Vec<(&str, &str, Vec<Value>)> = Vec::new();
        let mine = self.of_roles(context);
        let each = self.limits.iter().zip(self.buckets.remaining(key, self.clock.monotonic())).enumerate();
        for (_, (limit, (remaining, wait_ms))) in each.filter(|(index, _)| mine & (1 << index) != 0) {
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

/// The address of IPv4, or the network of 64 bits of IPv6: the owner of one address there has all of it.
fn network(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => u64::from(address.to_bits()),
        IpAddr::V6(address) => (address.to_bits() >> 64) as u64 | 1 << 63,
    }
}

/// Path and query. Slashes that repeat in the path are one, so that it is the path which a `urlmap` below sees.
fn target(request: &Request) -> Cow<'_, str> {
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    match path::collapsed(request.uri().path()) {
        Cow::Owned(path) => match request.uri().query() {
            Some(query) => Cow::Owned(format!("{path}?{query}")),
            None => Cow::Owned(path),
        },
        Cow::Borrowed(_) => Cow::Borrowed(target),
    }
}

/// What a regex is matched against: the whole target, and what is below mount and project.
fn targets<'a>(whole: &'a str, context: &Context) -> [&'a str; 2] {
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
