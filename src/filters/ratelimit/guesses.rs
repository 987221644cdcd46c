//! `count = "unauthenticated"`: limits how often an address may fail to authenticate.
//!
//! Stands above the authenticator. A request of an address that has used up a limit is rejected before its
//! token is checked (429); every answer of 401 is charged to the address of its request. All other answers
//! are free. Requests on Unix sockets have no address and no limit.
//!
//! As long as no address has failed lately, a request costs one relaxed load: no clock, no lock, no hash.

use std::sync::Arc;

use http::StatusCode;
use pileus_sdk::{Answer, Fault, Filter, Request, Response};

use super::{
    Limiter,
    config::{By, Config},
    headers,
    headers::Told,
    limits::Limit,
    network,
};
use crate::{diagnostic::Diagnostic, paste::Section};

/// Failed authentications, counted by address.
pub(super) struct Guesses {
    limiter: Arc<Limiter>,
}

/// An address, and the limits that hold for its request, as bits.
#[derive(Clone, Copy)]
struct Guess {
    network: u64,
    limits: u64,
}

/// Checks the settings that have no meaning before a caller is known.
pub(super) fn sound(section: &Section, config: &Config, limits: &[Limit]) -> Result<(), Diagnostic> {
    let wrong = |key: &str, what: &str| {
        let text =
            format!("`count = \"unauthenticated\"` counts requests before their caller is known: {what}");
        Err(section.wrong(key, text))
    };
    if config.key != By::Address {
        let key = if section.settings.contains_key("key") { "key" } else { "count" };
        return wrong(key, "it needs `key = \"address\"`");
    }
    if !config.exempt_roles.is_empty() {
        return wrong("exempt_roles", "`exempt_roles` has no meaning");
    }
    if let Some(at) = limits.iter().position(|limit| !limit.roles.is_empty()) {
        return wrong(&format!("limits.{at}.roles"), "`roles` has no meaning");
    }
    Ok(())
}

impl Guesses {
    /// Builds the filter.
    pub(super) fn filter(limiter: Arc<Limiter>) -> Filter {
        let guesses = Arc::new(Self { limiter });
        Filter::around(move |inner, request| {
            let Some(address) = request.context().peer.ip() else { return inner.send(request) };
            let guess = Guess { network: network(address), limits: guesses.limiter.chosen(&request) };
            if guess.limits == 0 {
                return inner.send(request);
            }
            if guesses.limiter.buckets.are_charged()
                && let Err(fault) = guesses.admit(guess, &request)
            {
                return Answer::refused(fault);
            }
            let mut answer = inner.send(request);
            match answer.response_mut() {
                Some(response) if response.status() != StatusCode::UNAUTHORIZED => answer,
                _ => guesses.settled(guess, answer),
            }
        })
    }

    /// Rejects a request of an address that has failed too often.
    #[cold]
    fn admit(&self, guess: Guess, request: &Request) -> Result<(), Fault> {
        let limiter = &*self.limiter;
        let now = limiter.clock.monotonic();
        if limiter.buckets.are_empty(now) {
            return Ok(());
        }
        let key = limiter.buckets.key(guess.network);
        let Some((index, wait_ms)) = limiter.buckets.refused(key, guess.limits, now) else { return Ok(()) };
        let quota = limiter.headers.then(|| {
            let mut told = Told::default();
            for (index, left) in limiter.buckets.left(key, guess.limits, now) {
                if let Some(limit) = limiter.limits.get(index) {
                    told.add(limit, left.requests(), left.full_ms());
                }
            }
            told.values()
        });
        limiter.refuse(index, wait_ms, quota.flatten(), request.context()).map(drop)
    }

    /// Charges an answer of 401, at once or when it is there.
    #[inline(never)]
    fn settled(self: &Arc<Self>, guess: Guess, answer: Answer) -> Answer {
        match answer.ready() {
            Ok(answer) => Answer::now(self.charged(guess, answer)),
            Err(awaited) => {
                let guesses = self.clone();
                Answer::later(async move { guesses.charged(guess, awaited.await) })
            }
        }
    }

    fn charged(&self, guess: Guess, answer: Result<Response, Fault>) -> Result<Response, Fault> {
        let status = answer.as_ref().map_or_else(|fault| fault.code().0, Response::status);
        if status != StatusCode::UNAUTHORIZED {
            return answer;
        }
        let limiter = &*self.limiter;
        let key = limiter.buckets.key(guess.network);
        let mut told = limiter.headers.then(Told::default);
        limiter.buckets.charge(key, guess.limits, limiter.clock.monotonic(), |index, left| {
            if let (Some(told), Some(limit)) = (&mut told, limiter.limits.get(index)) {
                told.add(limit, left.requests(), left.full_ms());
            }
        });
        match told.and_then(Told::values) {
            Some(values) => headers::added(answer, *values),
            None => answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::ready, time::Duration};

    use http::Method;
    use pileus_sdk::{Body, Peer, Stack};

    use super::*;
    use crate::filters::{
        ratelimit::KIND,
        testing::{build, deps, over, request},
    };

    const LIMIT: &str = "key = 'address'\ncount = 'unauthenticated'\n\
                         limits = [{ verb = 'ANY', value = 3, unit = 'minute' }]\n";

    /// Answers with the status that the path names: as a fault, as a response (`/response`), later (`/later`).
    async fn app(request: Request) -> Result<Response, Fault> {
        let path = request.uri().path().to_owned();
        if path.contains("later") {
            tokio::task::yield_now().await;
        }
        let status: u16 = path.rsplit('/').next().unwrap().parse().unwrap();
        if path.contains("response") || status == 200 {
            let mut response = Response::new(Body::Empty);
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            return Ok(response);
        }
        Err(match status {
            401 => Fault::Unauthorized { challenge: Some("Bearer".into()) },
            403 => Fault::Forbidden("no".into()),
            _ => Fault::NoRoute,
        })
    }

    fn from(peer: &str, path: &str) -> Request {
        let mut request = request(Method::GET, path, &[]);
        request.context_mut().peer = match peer {
            "unix" => Peer::Unix(Some(1000)),
            address => Peer::Address(format!("{address}:4711").parse().unwrap()),
        };
        request
    }

    async fn status(stack: &Stack, peer: &str, path: &str) -> u16 {
        let answer = stack.send(from(peer, path)).await;
        answer.map_or_else(|fault| fault.code().0, |response| response.status()).as_u16()
    }

    #[tokio::test]
    async fn failures_of_an_address_are_counted_and_nothing_else_is() {
        let (deps, clock, _) = deps();
        // A path for three requests, and the status of a fourth one with a good token.
        let cases = [
            ("192.0.2.1", "/401", "192.0.2.1", 429),
            ("192.0.2.1", "/response/401", "192.0.2.1", 429),
            ("192.0.2.1", "/later/401", "192.0.2.1", 429),
            ("192.0.2.1", "/later/response/401", "192.0.2.1", 429),
            ("192.0.2.1", "/200", "192.0.2.1", 200),
            ("192.0.2.1", "/403", "192.0.2.1", 200),
            ("192.0.2.1", "/later/404", "192.0.2.1", 200),
            ("192.0.2.1", "/response/403", "192.0.2.1", 200),
            ("192.0.2.1", "/401", "192.0.2.2", 200),
            ("[2001:db8::1]", "/401", "[2001:db8::ffff:1]", 429),
            ("[2001:db8::1]", "/401", "[2001:db8:0:1::1]", 200),
            ("192.0.2.1", "/401", "[::ffff:192.0.2.1]", 429),
            ("unix", "/401", "unix", 200),
        ];
        for (first, path, then, expected) in cases {
            let stack = over(KIND, LIMIT, &deps, app);
            let failed: u16 = path.rsplit('/').next().unwrap().parse().unwrap();
            for _ in 0..3 {
                assert_eq!(status(&stack, first, path).await, failed, "{first} {path}");
            }
            assert_eq!(status(&stack, then, "/200").await, expected, "{first} {path}, {then}");
            clock.advance(Duration::from_secs(60));
            assert_eq!(status(&stack, then, "/200").await, 200, "later: {first} {path}, {then}");
        }
    }

    #[tokio::test]
    async fn one_failure_more_is_let_in_each_time_one_has_drained() {
        let (deps, clock, _) = deps();
        let stack = over(KIND, LIMIT, &deps, app);
        for expected in [401, 401, 401, 429, 429] {
            assert_eq!(status(&stack, "192.0.2.1", "/401").await, expected);
        }
        // At this time (s) after the one before, the status.
        for (after, expected) in
            [(19, 429), (1, 401), (0, 429), (20, 401), (60, 401), (0, 401), (0, 401), (0, 429)]
        {
            clock.advance(Duration::from_secs(after));
            assert_eq!(status(&stack, "192.0.2.1", "/401").await, expected, "{after}");
        }
    }

    #[tokio::test]
    async fn failures_outlive_a_reload() {
        let (deps, ..) = deps();
        let before = over(KIND, LIMIT, &deps, app);
        for _ in 0..3 {
            status(&before, "192.0.2.1", "/401").await;
        }
        let after = over(KIND, LIMIT, &deps, app);
        assert_eq!(status(&after, "192.0.2.1", "/200").await, 429);
        assert_eq!(status(&after, "192.0.2.2", "/200").await, 200);
    }

    #[tokio::test]
    async fn only_what_is_charged_says_what_is_left() {
        let (deps, ..) = deps();
        for (setting, tells) in [("", true), ("headers = false", false)] {
            let stack = over(KIND, &format!("{LIMIT}{setting}\nmax_keys = 7"), &deps, app);
            let mut found = Vec::new();
            for path in ["/200", "/404", "/401", "/response/401", "/401", "/401"] {
                let answer = stack.send(from("192.0.2.1", path)).await;
                let response = answer.unwrap_or_else(Fault::into_response);
                let header = |name| response.headers().get(name).map(|it| it.to_str().unwrap().to_owned());
                assert_eq!(header("ratelimit").is_some(), header("ratelimit-policy").is_some());
                found.push((response.status().as_u16(), header("ratelimit").unwrap_or_default()));
            }
            let left = |left: &str| if tells { format!("\"ANY * minute\";{left}") } else { String::new() };
            let expected = [
                (200, String::new()),
                (404, String::new()),
                (401, left("r=2;t=20")),
                (401, left("r=1;t=40")),
                (401, left("r=0;t=60")),
                (429, left("r=0;t=60")),
            ];
            assert_eq!(found, expected, "{setting}");
        }
    }

    #[tokio::test]
    async fn a_dry_run_refuses_nothing_and_a_limit_holds_for_its_paths() {
        let (deps, ..) = deps();
        let dry = over(KIND, &format!("{LIMIT}dry_run = true"), &deps, app);
        for _ in 0..9 {
            assert_eq!(status(&dry, "192.0.2.1", "/401").await, 401);
        }
        let limit = LIMIT.replace("verb = 'ANY'", "verb = 'GET', regex = '^/later'");
        let stack = over(KIND, &limit, &deps, app);
        for path in ["/401", "/later/401"].repeat(3) {
            assert_eq!(status(&stack, "192.0.2.1", path).await, 401);
        }
        assert_eq!(status(&stack, "192.0.2.1", "/401").await, 401);
        assert_eq!(status(&stack, "192.0.2.1", "/later/401").await, 429);
    }

    #[test]
    fn settings_that_need_a_caller_are_refused() {
        let (deps, ..) = deps();
        assert!(build(KIND, LIMIT, &deps).is_ok());
        for (from, to, says) in [
            ("key = 'address'", "", "it needs `key = \"address\"`"),
            ("'address'", "'user'", "it needs `key = \"address\"`"),
            ("key =", "exempt_roles = ['admin']\nkey =", "`exempt_roles` has no meaning"),
            ("value = 3", "value = 3, roles = ['a']", "`roles` has no meaning"),
            ("'unauthenticated'", "'failed'", "expected `all` or `unauthenticated`"),
        ] {
            let error = build(KIND, &LIMIT.replace(from, to), &deps).unwrap_err();
            assert!(error.message.contains(says), "{to}: {}", error.message);
        }
    }

    #[tokio::test]
    async fn an_answer_that_is_given_up_is_not_charged() {
        let (deps, ..) = deps();
        let stack = build(KIND, LIMIT, &deps).unwrap().over(Stack::from_fn(|_| std::future::pending()));
        for _ in 0..5 {
            drop(stack.send(from("192.0.2.1", "/200")));
        }
        let stack = over(KIND, LIMIT, &deps, |_| ready(Ok(Response::new(Body::Empty))));
        assert_eq!(status(&stack, "192.0.2.1", "/200").await, 200);
    }
}
