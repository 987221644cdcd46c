//! `authtoken`: who calls is what Keystone (API v3) knows of the token he sends.
//!
//! Stands where `tokens` would. The token comes in `X-Auth-Token`; this service asks Keystone about it with
//! a token of its own, and keeps what it heard for `token_cache_time`: that long a revoked token is still
//! good. Tokens are taken out of their headers, so that no log and no stage below sees them.
//!
//! - Who is not known gets 401 and is told where tokens are made. With `delay_auth_decision` his request
//!   goes on without a caller: `policy` refuses it.
//! - Where Keystone does not answer, or not sensibly, nobody new is let in (503, `Retry-After`), and nobody
//!   is called a liar either. What is older than `token_cache_time` is not used then.
//! - `X-Service-Token` says which service hands on a user's request. One that is not good spoils the request.
//!   A good one with a role of `service_token_roles` makes an expired token of the user good for as long as
//!   Keystone allows: work that a user began may end after his token.
//! - Identity headers are nowhere read: the edge drops them, and the caller is a typed value.
//!
//! A token for a domain, for the system or for nothing has no project. Its caller has none either, so that
//! the router, which wants the caller's project in the path, answers 400 to all that is a project's. Where
//! routes without a project are mounted behind this filter, rules may ask for `domain_id` and `system_scope`.
//!
//! What is kept is found at once, and the request goes on in the same call. Everything else waits, and those
//! who wait for one token wait for one question.
//!
//! Not there: access rules of application credentials (such tokens are refused), token binding.
//!
//! Source: keystonemiddleware, `auth_token`; reference §3.8.

mod cache;
mod config;
mod keystone;
#[cfg(test)]
mod tests;
mod token;
mod wire;

use std::{sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue};
use pileus_model::{BoxFuture, Clock};
use pileus_sdk::{Admission, Admit, Answer, Caller, Fault, Filter, Request, Secrets, Stack};
use tracing::debug;

use self::{
    cache::{Cache, Found},
    config::Settings,
    keystone::{Keystone, Outcome},
    token::Token,
};
use crate::{
    diagnostic::Diagnostic,
    filters::tokens::take_secrets,
    paste::Section,
    pipeline::{Capabilities, Deps, Fact, FilterKind},
};

/// What the pipeline knows of it.
pub const KIND: FilterKind = FilterKind {
    name: "authtoken",
    capabilities: |_| Capabilities::NONE.provides(&[Fact::Caller]).authenticates(),
    factory,
};

static X_AUTH_TOKEN: HeaderName = HeaderName::from_static("x-auth-token");
static X_SERVICE_TOKEN: HeaderName = HeaderName::from_static("x-service-token");

/// The longest token that is asked about, in bytes. A signed token with a large catalogue was one of 2012;
/// today's have some hundreds.
const TOKEN_MAX: usize = 8192;

/// How long Keystone is left alone once it did not answer, and what the client is told to wait.
const PAUSE: Duration = Duration::from_secs(2);

/// Builds the stage.
pub fn factory(section: &Section, deps: &Deps) -> Result<Filter, Diagnostic> {
    let settings = Settings::read(section, &deps.watched)?;
    let stage = Stage::new(settings, deps.clock.clone()).map_err(|error| {
        Diagnostic::error(format!("[{}] there is no randomness: {error}", section.name))
            .at(section.place.clone())
    })?;
    let stage = Arc::new(stage);
    Ok(Filter::around(move |inner, request| stage.answer(inner, request)))
}

struct Stage {
    cache: Arc<Cache>,
    keystone: Arc<Keystone>,
    clock: Arc<dyn Clock>,
    challenge: String,
    delays: bool,
    service_roles: Vec<String>,
    service_roles_required: bool,
}

/// Why nobody is known to call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unknown {
    /// The token is none, or is not good any more.
    Invalid,
    /// Nobody could say.
    Unavailable,
}

impl Stage {
    fn new(settings: Settings, clock: Arc<dyn Clock>) -> Result<Self, getrandom::Error> {
        Ok(Self {
            cache: Arc::new(Cache::new(settings.cache_time, settings.cache_max_entries)?),
            challenge: format!("Keystone uri=\"{}\"", settings.www_authenticate_uri),
            delays: settings.delay_auth_decision,
            service_roles: settings.service_token_roles,
            service_roles_required: settings.service_token_roles_required,
            keystone: Arc::new(Keystone::new(settings.reach, settings.admin_projects, clock.clone())),
            clock,
        })
    }

    fn answer(self: &Arc<Self>, inner: &Stack, mut request: Request) -> Answer {
        let [user, service] = take_secrets(request.headers_mut(), [&X_AUTH_TOKEN, &X_SERVICE_TOKEN]);
        let Some(user) = user else { return self.go(Err(Unknown::Invalid), inner, request) };
        if service.is_none() {
            match self.cache.find(&self.cache.key(user.as_bytes(), false), self.clock.monotonic()) {
                Found::Known(caller) => {
                    return self.go(Ok((caller, Secrets { user, service })), inner, request);
                }
                Found::Refused => return self.go(Err(Unknown::Invalid), inner, request),
                Found::Nothing => {}
            }
        }
        // What is known was looked at when it was asked about.
        if !plausible(&user) {
            return self.go(Err(Unknown::Invalid), inner, request);
        }
        let (stage, inner) = (self.clone(), inner.clone());
        Answer::soon(async move {
            let caller = stage.caller(&user, service.as_ref()).await;
            let admitted = caller.map(|caller| (caller, Secrets { user, service }));
            stage.go(admitted, &inner, request).await
        })
    }

    /// Sends the request on with its caller, or refuses it.
    fn go(
        self: &Arc<Self>,
        admitted: Result<(Arc<Caller>, Secrets), Unknown>,
        inner: &Stack,
        mut request: Request,
    ) -> Answer {
        let challenge = || Some(self.challenge.clone());
        match admitted {
            Ok((caller, secrets)) => {
                let context = request.context_mut();
                context.caller = Some(caller);
                context.admission = Some(Admission::new(self.clone(), secrets));
                context.note();
                inner.send(request)
            }
            Err(Unknown::Invalid) if self.delays => {
                let challenge = challenge();
                inner.send(request).map(|mut answer| {
                    // Whoever refuses below does not know where tokens are made.
                    if let Err(Fault::Unauthorized { challenge: unknown @ None }) =
                        answer.as_mut().map_err(Fault::kind_mut)
                    {
                        *unknown = challenge;
                    }
                    answer
                })
            }
            Err(Unknown::Invalid) => Answer::refused(Fault::Unauthorized { challenge: challenge() }),
            Err(Unknown::Unavailable) => {
                let reason = "The identity service, which knows tokens, does not answer.".into();
                Answer::refused(Fault::Unavailable { reason, retry_after: PAUSE })
            }
        }
    }

    /// Who calls, asking Keystone where that is not known.
    async fn caller(
        &self,
        user: &HeaderValue,
        service: Option<&HeaderValue>,
    ) -> Result<Arc<Caller>, Unknown> {
        let Some(service) = service else { return Ok(self.token(user, false).await?.caller.clone()) };
        if !plausible(service) {
            return Err(Unknown::Invalid);
        }
        let service = self.token(service, false).await?;
        let trusted = service.caller.roles.iter().any(|role| self.service_roles.contains(role));
        if self.service_roles_required && !trusted {
            debug!(
                user.id = &*service.caller.user,
                "a service token without a role of `service_token_roles`"
            );
            return Err(Unknown::Invalid);
        }
        let user = self.token(user, trusted).await?;
        Ok(Arc::new(user.through(&service)))
    }

    /// What is known of a token. Those who ask for the same one at the same time wait for one answer.
    async fn token(&self, token: &HeaderValue, allow_expired: bool) -> Result<Arc<Token>, Unknown> {
        let key = self.cache.key(token.as_bytes(), allow_expired);
        let begin = || {
            let (keystone, token) = (self.keystone.clone(), token.clone());
            async move { keystone.validate(&token, allow_expired).await }
        };
        match self.cache.find_or_ask(key, &self.clock, begin).await {
            Outcome::Valid(token) => Ok(token),
            Outcome::Invalid => Err(Unknown::Invalid),
            Outcome::Unavailable => Err(Unknown::Unavailable),
        }
    }
}

impl Admit for Stage {
    /// Asks Keystone again once the answer is older than `token_cache_time`. Where it does not answer, nobody is
    /// admitted: what is older is not used.
    fn admit(self: Arc<Self>, secrets: Secrets) -> BoxFuture<Option<Arc<Caller>>> {
        Box::pin(async move { self.caller(&secrets.user, secrets.service.as_ref()).await.ok() })
    }
}

/// Whether this could be a token at all: what could not is not worth a question.
fn plausible(token: &HeaderValue) -> bool {
    let bytes = token.as_bytes();
    (1..=TOKEN_MAX).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic)
}
